"""How each problem is planted: a change of what is true in an account, never of what is said about it.

The two exceptions are texts whose cause lies inside GuardDuty (SSM associations, Fargate's sidecar): there the text is
the truth.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from pipeline.rehearsal.organization.state import (
    EC2_AGENT,
    FARGATE_AGENT,
    MONITORING,
    Cluster,
    Features,
    Host,
    Network,
    Place,
    Service,
)

Plant = Callable[[Host, datetime], None]


def _set(**values: object) -> Plant:
    def plant(host: Host, _now: datetime) -> None:
        for name, value in values.items():
            setattr(host, name, value)

    return plant


def _tag(key: str, value: str, **values: object) -> Plant:
    def plant(host: Host, now: datetime) -> None:
        host.tags[key] = value
        _set(**values)(host, now)

    return plant


def _never_had_an_agent(**values: object) -> Plant:
    return _set(agent="", heard=False, **values)


def _launched_now(host: Host, now: datetime) -> None:
    host.launched = now - timedelta(minutes=3)


def _external(host: Host, _now: datetime) -> None:
    host.id = "mi-" + host.id.removeprefix("i-")
    host.agent, host.profile = "", ""


def _closed(host: Host, _now: datetime) -> None:
    """In a security group of its own, which lets nothing out."""
    host.groups = (host.groups[0].replace("sg-0", "sg-1"),)
    host.egress_open, host.heard = False, False


HOST: Mapping[str, Plant] = {
    "agent-disconnected": _set(ssm="online", stops_itself=True, says=""),
    "agent-not-installed": _never_had_an_agent(),
    "agent-restarting": _set(stops_itself=True),
    "agent-silent": _never_had_an_agent(profile="ecs-host"),
    "agent-too-old": _set(agent="1.0.1", heard=False, stops_itself=True),
    "agent-version-ended": _set(agent="1.0.2", ended=True),
    "bottlerocket-too-old": _never_had_an_agent(
        os=("Bottlerocket", "1.60.0"),
        kernel="6.1.140",
        image="ami-0aaaaaaaaaaaaaa03",
        image_name="bottlerocket-aws-ecs-2-x86_64-v1.60.0-abcdef01",
        says="No Agent Reporting",
    ),
    "ecs-agent-too-old": _set(ecs_agent="1.70.2", heard=False, meets_prerequisites=False),
    "ecs-anywhere": _external,
    "ecs-image-too-old": _set(
        image="ami-0aaaaaaaaaaaaaa01",
        image_name="amzn2-ami-ecs-kernel-5.10-hvm-2.0.20230601-x86_64-ebs",
        heard=False,
        meets_prerequisites=False,
    ),
    "eks-node": _tag("eks:cluster-name", "payments", agent="", heard=False),
    "exclusion-tag": _tag("GuardDutyManaged", "false", agent="", heard=False),
    "exclusion-tag-unread": _tag("GuardDutyManaged", "false", metadata_tags=False, stops_itself=True),
    "host-egress-closed": _closed,
    "identity-document-unreadable": _set(document=False),
    "image-pull-failed": _never_had_an_agent(
        os=("Bottlerocket", "1.63.0"),
        kernel="6.1.150",
        image="ami-0aaaaaaaaaaaaaa04",
        image_name="bottlerocket-aws-ecs-2-x86_64-v1.63.0-abcdef01",
        pulls=False,
    ),
    "kernel-above": _set(kernel="7.4.0-12.amzn2023.x86_64", heard=False),
    "kernel-below": _set(
        kernel="4.14.355-280.708.amzn2.x86_64",
        image="ami-0aaaaaaaaaaaaaa02",
        image_name="amzn2-ami-ecs-hvm-2.0.20261105-x86_64-ebs",
        heard=False,
    ),
    "launched-just-now": _launched_now,
    "managed-instances": _set(operator="ecs.amazonaws.com", agent="", heard=False),
    "memlock-too-low": _set(memlock_kib=64, heard=False),
    "metadata-off": _set(imds=False),
    "never-listed": _set(listed=False),
    "no-btf": _set(btf=False, heard=False),
    "no-instance-profile": _never_had_an_agent(profile="", ssm="absent"),
    "prerequisites-not-met": _never_had_an_agent(meets_prerequisites=False),
    "ssm-unreachable": _never_had_an_agent(ssm="lost"),
    "unit-off": _set(unit="inactive", enabled=False),
    "unrecognised": _set(says="Agent Not Provisioned: a text of the year after next."),
    "unsupported-architecture": _never_had_an_agent(type="a1.large", architecture="arm64"),
    "unverified-kernel": _set(kernel="6.1.158-178.288.amzn2.x86_64", stops_itself=True),
    "unverified-os": _set(os=("Gentoo", "2.17"), stops_itself=True),
    "windows": _never_had_an_agent(platform="windows", os=("Microsoft Windows Server 2022 Datacenter", "10.0.20348")),
}

POLICY_OF_ANOTHER = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"},'
    '{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*",'
    '"Condition":{"StringNotEquals":{"aws:PrincipalAccount":"999999999999"}}}]}'
)


ACL_STEPS = ("host-out", "endpoint-in", "endpoint-out", "host-in")


def plant_in_network(problem: str, network: Network, place: Place) -> None:
    """Change the VPC so that it has the problem."""
    for host in place.hosts:
        if host.network is network and host.automated and host.agent == "1.17.1":
            host.agent = "1.16.0"  # newer ones find a way without an endpoint
    if problem in ("endpoint-missing", "endpoint-in-another-vpc"):
        if problem == "endpoint-in-another-vpc":
            other = Network(vpc=f"{network.vpc}0", subnet=f"{network.subnet}0", group=f"{network.group}0")
            other.endpoint, other.endpoint_group = network.endpoint, network.endpoint_group
            other.owner, other.endpoint_subnet = network.owner, f"{network.endpoint_subnet}0"
            place.networks.append(other)
        network.endpoint = ""
    elif problem == "endpoint-not-available":
        network.endpoint_state = "failed"
    elif problem == "endpoint-in-no-subnet":
        network.endpoint_subnet = ""
    elif problem == "endpoint-in-another-zone":
        # by itself that is no harm: the name resolves to the interfaces of all zones, and the VPC routes to them
        network.endpoint_zone, network.zones_apart = "az2", True
    elif problem == "endpoint-private-dns-off":
        network.endpoint_dns = False
    elif problem == "endpoint-security-group":
        network.endpoint_open = False
    elif problem == "endpoint-policy":
        network.endpoint_policy = POLICY_OF_ANOTHER
    elif problem == "network-acl-closed":
        network.acl_closes = ACL_STEPS[int(network.vpc[-6:], 16) % len(ACL_STEPS)]
    elif problem == "vpc-dns-off":
        network.dns_hostnames = False
    else:
        network.owner = network.owner or "888888888888"
        if problem != "shared-vpc-endpoint-kept":
            network.endpoint = ""
        network.says = {
            "shared-vpc-endpoint-kept": (
                "Shared VPC Endpoint Deletion Failed: Shared VPC endpoint deletion not allowed for account ID "
                f"{place.account}, shared VPC {network.vpc}, owner account ID {network.owner}"
            ),
            "shared-vpc-not-supported": (
                f"VPC Endpoint Creation Failed: VPC endpoint creation not supported for shared VPC {network.vpc}"
            ),
            "shared-vpc-owner-off": (
                f"VPC Endpoint Creation Failed: Owner account ID {network.owner} for shared VPC {network.vpc} doesn't "
                "have either Runtime Monitoring, automated agent configuration, or both, enabled"
            ),
        }[problem]


def plant_in_account(problem: str, place: Place, features: Features) -> None:
    """Change account and features so that they have the problem; membership is the world's."""
    creation = "SSM Association Creation Failed"
    if problem == "runtime-monitoring-off":
        features.status[MONITORING] = False
    elif problem == "agent-management-off":
        features.status[EC2_AGENT] = False
        for host in place.hosts:
            host.automated, host.agent, host.heard = False, "", False
    elif problem == "fargate-agent-management-off":
        features.status[FARGATE_AGENT] = False
        for cluster in place.clusters.values():
            for service in cluster.services:
                silent = f"Agent not reporting for tasks in TaskDefinition - '{service.name}:3'"
                service.issues = service.issues or (silent,)
    elif problem == "guardduty-role-missing":
        place.has_service_role = False
        for host in place.hosts:
            if host.automated:
                host.agent, host.heard = "", False  # it is by this role that GuardDuty has agents installed
    elif problem in ASSOCIATIONS:
        kind, text = ASSOCIATIONS[problem]
        place.association_says = f"{kind or creation}: {text}"
        for host in place.hosts:
            host.agent, host.heard = "", False


ASSOCIATIONS = {
    "association-already-gone": (
        "SSM Association Deletion Failed",
        "GuardDuty SSM association does not exist in your account",
    ),
    "association-exists": ("", "GuardDuty SSM association already exists in your account"),
    "too-many-associations": ("", "Your account has too many SSM associations"),
    "association-missing": (
        "SSM Association Updation Failed",
        "GuardDuty SSM association does not exist in your account",
    ),
}


def plant_in_service(problem: str, service: Service, cluster: Cluster) -> None:
    """Change a Fargate service so that it has the problem."""
    definition, provision = f"TaskDefinition - '{service.name}:3'", "Agent not provisioned"
    name = service.name
    texts = {
        "fargate-agent-exited": f"Agent exited: ExitCode: 137 with reason: 'OutOfMemory' for tasks in {definition}",
        "fargate-architecture": f"{provision}: Unsupported CPU architecture 'PPC64' for task(s) in {definition}",
        "fargate-image-pull-failed": "Agent exited: Reason: CannotPullContainerError: pull image manifest has been "
        f"retried 5 time(s) for tasks in {definition}",
        "fargate-launcher": f"{provision}: Unsupported invocation by 'BATCH' for task(s) in {definition}",
        "fargate-network-missing": f"{provision}: Missing network configuration 'subnets' for task(s) in {definition}",
        "fargate-not-reporting": f"Agent not reporting for tasks in {definition}",
        "fargate-role-missing": f"{provision}: TaskExecutionRole missing from {definition}",
        "fargate-service-needs-deployment": f"{provision}: Service '{name}' requires a new deployment to "
        f"fix/troubleshoot. Refer documentation, Impacted service name(s): '{name}'",
        "fargate-services-before-agent-configuration": f"{provision}: Services deployed before enabling Automated "
        f"Agent Configuration are not covered. Impacted service name(s): '{name}'",
        "fargate-services-excluded": f"{provision}: Services deployed when clusters had exclusion tag are excluded "
        f"from Runtime Monitoring. Impacted service name(s): '{name}'",
        "fargate-tasks-before-agent-configuration": f"{provision}: Tasks started before enabling Automated Agent "
        f"Configuration are not covered. Impacted task ID(s): '{name}-task'",
        "fargate-tasks-before-monitoring": f"{provision}: Tasks started before enabling Runtime Monitoring require "
        f"a relaunch. Impacted task ID(s): '{name}-task'",
        "fargate-tasks-excluded": f"{provision}: Tasks started when clusters had exclusion tag are excluded from "
        f"Runtime Monitoring. Impacted task ID(s): '{name}-task'",
        "fargate-unidentified": f"Others: Unidentified issue, for tasks in {definition}",
        "fargate-platform-version": f"Agent not reporting for tasks in {definition}",
        "fargate-windows": f"Agent not reporting for tasks in {definition}",
        "role-denies": f"Agent not reporting for tasks in {definition}",
    }
    service.issues = (*service.issues, texts[problem])
    if problem == "fargate-platform-version":
        service.platform_version = "1.3.0"
    elif problem == "fargate-windows":
        service.family, service.platform_version = "Windows Server 2022 Core", "1.0.0"
    elif problem == "fargate-role-missing":
        service.execution_role = ""
    elif problem == "role-denies":
        # two ways to the same, so that both are met
        service.execution_role = "bounded-execution" if len(name) % 2 == 0 else "denied-execution"
    elif problem in ("fargate-service-needs-deployment", "fargate-services-before-agent-configuration"):
        service.deployed -= timedelta(days=700)
    del cluster
