"""What GuardDuty says of a host that is not covered, and what to do: made from pipeline/diagnosis/causes.yaml.

Do not change it here: `python -m pipeline.diagnosis.extract` writes it anew.
"""

ABSENT = (
    "GuardDuty has not heard of this instance: check that the unit amazon-guardduty-agent runs without restarts, that "
    "the VPC has an endpoint com.amazonaws.<region>.guardduty-data whose security group lets 443 in, and that Runtime "
    "Monitoring is enabled for this account"
)
# type and parts of the message in small letters, no part where the message is empty; then what to do
ISSUES = (
    (
        "ssm association creation failed",
        ("association already exists",),
        "delete the association GuardDutyRuntimeMonitoring-do-not-delete in its account, its region; then disable and "
        "enable automated agent configuration again",
    ),
    (
        "ssm association creation failed",
        ("too many ssm associations",),
        "delete associations nobody uses in its account, its region, or have the State Manager quota raised",
    ),
    (
        "ssm association updation failed",
        ("association does not exist",),
        "disable and enable Runtime Monitoring for its account in its region, which creates the association anew",
    ),
    (
        "ssm association update failed",
        ("association does not exist",),
        "disable and enable Runtime Monitoring for its account in its region, which creates the association anew",
    ),
    (
        "ssm association deletion failed",
        ("association does not exist",),
        "nothing, if Runtime Monitoring was meant to be switched off in its account; else disable and enable it again",
    ),
    (
        "",
        ("enablednssupport and enablednshostnames",),
        "switch enableDnsSupport and enableDnsHostnames on in its VPC; then add or change the tag GuardDutyManaged on "
        "a host, or restart it, to have GuardDuty try again",
    ),
    (
        "",
        ("not supported for shared vpc",),
        "owner and participants of its VPC must be in one organization, with Runtime Monitoring and automated agent "
        "configuration on in both; else create the endpoint in the owner's account by hand",
    ),
    (
        "",
        ("owner account id", "doesn't have either runtime monitoring"),
        "enable Runtime Monitoring and automated agent configuration in the account that owns its VPC, which the text "
        "names",
    ),
    (
        "shared vpc endpoint deletion failed",
        ("shared vpc endpoint deletion failed",),
        "disable Runtime Monitoring or the automated agent in the account that owns its VPC first",
    ),
    (
        "agent not provisioned",
        ("instances with exclusion tags",),
        "remove the tag GuardDutyManaged=false from the host, and from the template that sets it; it belongs on image "
        "builders only",
    ),
    (
        "agent not provisioned",
        ("lower than the supported",),
        "roll its cluster onto an image with kernel 5.10 (Amazon Linux 2) or 6.1 (Amazon Linux 2023); the plain "
        "Amazon Linux 2 ECS image runs 4.14",
    ),
    (
        "agent not provisioned",
        ("higher than the supported",),
        "roll its cluster onto an image with a newer agent, or one that stays on a verified kernel line",
    ),
    (
        "agent not provisioned",
        ("unable to retrieve instance identity document",),
        "check that the host is an EC2 instance and no hybrid one, that metadata is on and the document is there; "
        "else restart it",
    ),
    (
        "no agent reporting",
        ("waiting for ssm notification",),
        "wait some minutes; if it stays, make the host managed by SSM",
    ),
    (
        "ssm instance association execution failed",
        ("architectural requirements",),
        "check architecture, operating system and kernel of the host; State Manager has the execution history of "
        "AmazonGuardDuty-ConfigureRuntimeMonitoringSsmPlugin",
    ),
    (
        "agent not reporting",
        (),
        "enable the automated agent for its account, or disable Runtime Monitoring there for some minutes and enable "
        "it again; images with a newer agent are the lasting way",
    ),
    (
        "ecr image pull failed",
        ("could not be pulled from amazon ecr",),
        "give the instance role AmazonEC2ContainerRegistryReadOnly, and the host a way to ECR and to S3 in its region",
    ),
    (
        "no agent reporting",
        ("agent disconnected",),
        "on the host: systemctl status amazon-guardduty-agent, journalctl -u amazon-guardduty-agent, "
        "/var/log/amzn-guardduty-agent/; on Bottlerocket: sheltie journalctl -u "
        "host-containers@amazon-guardduty-agent",
    ),
    (
        "agent disconnected",
        ("agent disconnected",),
        "on the host: systemctl status amazon-guardduty-agent, journalctl -u amazon-guardduty-agent, "
        "/var/log/amzn-guardduty-agent/; on Bottlerocket: sheltie journalctl -u "
        "host-containers@amazon-guardduty-agent",
    ),
    (
        "no agent reporting",
        (),
        "check that the unit amazon-guardduty-agent runs on the host without restarts, that its VPC has an endpoint "
        "com.amazonaws.its region.guardduty-data with private DNS that lets 443 in, and that no service control "
        "policy denies guardduty:SendSecurityTelemetry; `--look-inside yes` tells more where SSM reaches the host",
    ),
)


def remedy_for(issue: str) -> str:
    """What to do about a text of GuardDuty, however it joins type and message; nothing for one that is not known."""
    text = issue.lower()
    for kind, parts, remedy in ISSUES:
        rest = text.replace(kind, "", 1)
        if kind in text and (all(part in text for part in parts) if parts else not rest.strip(" \t\n.:;-")):
            return remedy
    return ""
