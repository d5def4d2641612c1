"""What GuardDuty makes of a machine: in, the truth about it; out, its row of ListCoverage, or none.

Written from AWS's pages and not from our decision table, so that a diagnosis is held against something else than
itself. Texts: GuardDuty user guide, gdu-assess-coverage-ec2, -bottlerocket-ecs-ec2 and -ecs.
"""

from datetime import datetime, timedelta

from pipeline.rehearsal.organization.state import EC2_AGENT, MONITORING, Cluster, Features, Host, Place, Service

EXECUTION = "SSM Instance Association Execution Failed"
HEALTHY, UNHEALTHY = "HEALTHY", "UNHEALTHY"
NEWS_TAKE = timedelta(minutes=10)
"""How long a new machine takes to be listed."""

Row = tuple[str, str]  # coverage status and issue


def kernel_line(host: Host) -> tuple[int, int]:
    """The first two numbers of the kernel's release."""
    major, minor = host.kernel.split(".")[:2]
    return int(major), int(minor)


def agent_can_run(host: Host) -> bool:
    """Whether the machine lets the agent's eBPF programs run."""
    line = kernel_line(host)
    return (
        host.platform == "linux"
        and (5, 4) <= line <= (7, 2)
        and host.btf
        and (line > (5, 10) or host.memlock_kib >= 32 * 1024)
        and host.imds
        and host.document
        and host.meets_prerequisites
        and not host.type.startswith("a1.")
        and not host.stops_itself
    )


def reaches_guardduty(place: Place, host: Host) -> bool:
    """Whether what the agent sends arrives."""
    network = host.network
    if place.denied_telemetry or not host.egress_open or network.says:
        return False
    version = tuple(int(part) for part in host.agent.split(".")) if host.agent else (0,)
    if host.automated and version >= (1, 17, 1):
        return True  # over link-local, which is tried before the endpoint
    if not (network.dns_support and network.dns_hostnames and network.endpoint):
        return False
    return (
        network.endpoint_state == "available"
        and network.endpoint_subnet != ""
        and not network.endpoint_region
        and not (network.zones_apart and network.endpoint_zone != host.zone)
        and network.endpoint_dns
        and network.endpoint_open
        and not network.endpoint_policy
        and not network.acl_closes
    )


def unit_state(place: Place, host: Host) -> str:
    """What systemd says of the agent's unit."""
    if not host.agent or host.unit != "active":
        return host.unit if host.agent else "absent"
    return "active" if agent_can_run(host) and reaches_guardduty(place, host) else "restarting"


def host_row(place: Place, host: Host, features: Features, *, member: bool, now: datetime) -> Row | None:
    """The host's status and issue; None when ListCoverage does not hold it."""
    if not member or not features.on(MONITORING) or host.platform == "windows" or host.operator or not host.listed:
        return None
    if not place.has_service_role:
        return None  # AWS does not say so in as many words: it is by this role that GuardDuty looks at instances
    if host.id.startswith("mi-") or "eks:cluster-name" in host.tags or now - host.launched < NEWS_TAKE:
        return None
    if host.says:
        return UNHEALTHY, host.says
    healthy = unit_state(place, host) == "active" and not host.ended
    if healthy:
        return HEALTHY, ""
    issue = _issue(place, host, features)
    return None if issue is None else (UNHEALTHY, issue)


def _issue(place: Place, host: Host, features: Features) -> str | None:
    provision, silent = "Agent Not Provisioned", "No Agent Reporting"
    if host.tags.get("GuardDutyManaged") == "false" and host.metadata_tags:
        return f"{provision}: Instances with exclusion tags are excluded from Runtime Monitoring."
    if not host.imds or not host.document:
        return f"{provision}: Unable to retrieve instance identity document."
    if kernel_line(host) < (5, 4):
        return f"{provision}: Kernel version is lower than the supported version."
    if kernel_line(host) > (7, 2):
        return f"{provision}: Kernel version is higher than the supported version."
    if host.ended:
        return "Agent not reporting"
    bottlerocket = host.os[0] == "Bottlerocket"
    if host.automated and features.on(EC2_AGENT):
        if place.association_says:
            return place.association_says
        if host.network.says:
            return host.network.says
        if not (host.network.dns_support and host.network.dns_hostnames):
            return (
                "VPC Endpoint Creation Failed: Enabling private DNS requires both enableDnsSupport and "
                f"enableDnsHostnames VPC attributes set to true for {host.network.vpc} (Service: Ec2, Status Code:400, "
                "Request ID: 3f1c)"
            )
        if host.type.startswith("a1.") or not host.meets_prerequisites:
            return f"{EXECUTION}: Architectural requirements or other prerequisites are not met."
        if bottlerocket and not host.pulls:
            return "ECR Image Pull Failed: The agent container image could not be pulled from Amazon ECR."
        if host.ssm != "online":
            return f"{silent}: Waiting for SSM notification"
    if host.heard and host.agent:
        return "Agent disconnected" if bottlerocket else f"{silent}: Agent disconnected"
    if host.agent or (host.automated and features.on(EC2_AGENT)):
        return silent
    return None  # installed by hand or not at all, and never heard: GuardDuty does not know it


def issues_of(service: Service, now: datetime) -> tuple[str, ...]:
    """What is said of a service; a new deployment, once it is complete, puts right what was only about its age."""
    if service.deploying_until is None or now < service.deploying_until:
        return service.issues
    about_age = ("Services deployed", "requires a new deployment", "Tasks started")
    return tuple(issue for issue in service.issues if not any(part in issue for part in about_age))


def cluster_row(
    place: Place, cluster: Cluster, features: Features, *, member: bool, now: datetime
) -> tuple[str, int, int, tuple[str, ...]] | None:
    """Status, covered and compatible container instances, issues of Fargate; None when it is not listed."""
    if not member or not features.on(MONITORING) or not cluster.listed or not place.has_service_role:
        return None
    hosts = [host for host in place.hosts if host.cluster == cluster.name and not host.operator]
    hosts = [host for host in hosts if not host.id.startswith("mi-") and host.platform == "linux"]
    if not hosts and not cluster.services:
        return None
    rows = [host_row(place, host, features, member=member, now=now) for host in hosts]
    covered = sum(row is not None and row[0] == HEALTHY for row in rows)
    issues = tuple(dict.fromkeys(issue for service in cluster.services for issue in issues_of(service, now)))
    status = HEALTHY if covered == len(hosts) and not issues else UNHEALTHY
    return status, covered, len(hosts), issues[:50]
