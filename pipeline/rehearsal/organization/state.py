"""What is in an account of the rehearsed organization: plain values that problems change and answers read."""

from dataclasses import dataclass, field
from datetime import datetime

MONITORING = "RUNTIME_MONITORING"
EC2_AGENT = "EC2_AGENT_MANAGEMENT"
FARGATE_AGENT = "ECS_FARGATE_AGENT_MANAGEMENT"
EKS_ADDON = "EKS_ADDON_MANAGEMENT"
EKS_MONITORING = "EKS_RUNTIME_MONITORING"


@dataclass(slots=True)
class Network:
    """A VPC with its way to GuardDuty; `owner` is set where another account shares it."""

    vpc: str
    subnet: str
    group: str
    cidr: str = "10.0.0.0/16"
    more_cidrs: tuple[str, ...] = ()
    owner: str = ""
    dns_support: bool = True
    dns_hostnames: bool = True
    endpoint: str = ""
    """Id of its guardduty-data endpoint, or nothing."""
    endpoint_state: str = "available"
    endpoint_dns: bool = True
    endpoint_group: str = ""
    endpoint_open: bool = True
    endpoint_policy: str = ""
    endpoint_region: str = ""
    """The region whose service it leads to, where that is not its own."""
    endpoint_subnet: str = ""
    """Nothing: it is in no subnet, and has no interface."""
    endpoint_zone: str = "az1"
    endpoint_address: str = "10.0.8.8"
    acl_closes: str = ""
    """What an ACL does not let through: host-out, endpoint-in, endpoint-out, host-in, or nothing."""
    zones_apart: bool = False
    """Whether something that no view of ours shows, such as a firewall, keeps its zones apart."""
    says: str = ""
    """What GuardDuty says of the VPC, where it could not make its endpoint, or not delete it."""
    planted: tuple[str, ...] = ()


@dataclass(slots=True)
class Host:
    """A machine, and what is true of it."""

    id: str
    network: Network
    launched: datetime
    type: str = "m6i.large"
    architecture: str = "x86_64"
    os: tuple[str, str] = ("Amazon Linux", "2")
    platform: str = "linux"
    kernel: str = "5.10.245-245.983.amzn2.x86_64"
    btf: bool = True
    memlock_kib: int = 65536
    image: str = "ami-0a1b2c3d4e5f60718"
    image_name: str = "amzn2-ami-ecs-kernel-5.10-hvm-2.0.20261105-x86_64-ebs"
    profile: str = "ecs-host"
    ssm: str = "online"
    zone: str = "az1"
    imds: bool = True
    metadata_tags: bool = True
    document: bool = True
    """Whether the metadata service gives the identity document."""
    tags: dict[str, str] = field(default_factory=dict)
    cluster: str = ""
    ecs_agent: str = "1.99.1"
    operator: str = ""
    groups: tuple[str, ...] = ()
    egress_open: bool = True
    automated: bool = True
    agent: str = "1.17.1"
    """Its version, or nothing when it is not installed."""
    unit: str = "active"
    enabled: bool = True
    heard: bool = True
    """Whether GuardDuty ever heard its agent."""
    listed: bool = True
    stops_itself: bool = False
    ended: bool = False
    pulls: bool = True
    meets_prerequisites: bool = True
    says: str = ""
    planted: tuple[str, ...] = ()


@dataclass(slots=True)
class Service:
    """A Fargate service with the task definition it runs."""

    name: str
    cluster: str
    network: Network
    deployed: datetime
    tasks: int = 2
    platform_version: str = "1.4.0"
    family: str = "Linux"
    architecture: str = "X86_64"
    execution_role: str = "ecs-task-execution"
    issues: tuple[str, ...] = ()
    deploying_until: datetime | None = None
    planted: tuple[str, ...] = ()


@dataclass(slots=True)
class Cluster:
    """An ECS cluster."""

    name: str
    tag: str = ""
    """Value of its tag GuardDutyManaged, or nothing."""
    listed: bool = True
    planted: tuple[str, ...] = ()
    services: list[Service] = field(default_factory=list)


@dataclass(slots=True)
class Features:
    """What is switched on for an account in a region."""

    status: dict[str, bool]
    managed: bool = False
    since: datetime | None = None

    def on(self, name: str) -> bool:
        return self.status.get(name, False)


@dataclass(slots=True)
class Place:
    """An account in a region."""

    account: str
    region: str
    networks: list[Network] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    association_says: str = ""
    denied_telemetry: bool = False
    has_service_role: bool = True
    """Whether GuardDuty's service-linked role is in the account."""
