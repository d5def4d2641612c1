"""A fleet file in, a `FleetSpec` out: what exists in one account and region before a roll, and how long things take.

Durations are seconds, sizes MiB and CPU units (1024 a virtual processor). Defaults are the documented defaults of AWS;
where AWS documents none (how long a host takes to boot) the default is an assumption, and named so in its comment.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline import paths
from pipeline.catalog import Architecture, Region
from pipeline.errors import UsageError
from pipeline.yaml_file import StrictModel, load_yaml

FLEETS = paths.CHECKOUT / "ssm-documents" / "fleets"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$")]
ImageId = Annotated[str, StringConstraints(pattern=r"^ami-[0-9a-f]{8,17}$")]
SubnetId = Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-f]{8,17}$")]
TemplateId = Annotated[str, StringConstraints(pattern=r"^lt-[0-9a-f]{8,17}$")]
Zone = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d[a-z]$")]
Seconds = Annotated[float, Field(ge=0)]
Whole = Annotated[int, Field(ge=0)]
Percent = Annotated[int, Field(ge=0, le=100)]
Process = Literal[
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
]


class Timing(StrictModel):
    """How long the machinery takes. Assumptions of this model unless a source is named."""

    pending: Seconds = 30  # launch until the group calls the host InService
    registering: Seconds = 90  # launch until the ECS agent is connected; B of the time model
    ssm_online: Seconds = 75  # launch until the SSM agent has reported
    coverage: Seconds = 120  # agent's start until GuardDuty lists the host as healthy
    terminate: Seconds = 25  # Terminating:Proceed until the host is gone
    root_swap: Seconds = 60  # a new root volume in place, without the reboot
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.1  # spread of the above, as a share of each


class Image(StrictModel):
    """What a host launched from an image would report."""

    id: ImageId
    name: str
    kernel: str
    agent_version: str | None = None  # of GuardDuty's agent; none when the image has no agent
    architecture: Architecture = "x86_64"
    checks: Whole = 0  # ovenproof-check's number of checks; 0 when the image carries none
    deprecated: bool = False
    root_gib: Annotated[int, Field(ge=1)] = 30
    root_device: str = "/dev/xvda"
    tags: Mapping[str, str] = {}


class InstanceType(StrictModel):
    """What a host of a type offers to tasks."""

    vcpus: Annotated[int, Field(ge=1)]
    memory: Annotated[int, Field(ge=1)]
    architecture: Architecture = "x86_64"
    gpus: Whole = 0


class Subnet(StrictModel):
    id: SubnetId
    zone: Zone
    free_addresses: Whole = 4000


class TemplateVersion(StrictModel):
    """One version; `data` is what EC2 calls ResponseLaunchTemplateData."""

    data: Mapping[str, Any]
    description: str = ""


class LaunchTemplate(StrictModel):
    id: TemplateId
    name: Name
    versions: Annotated[tuple[TemplateVersion, ...], Field(min_length=1)]  # number 1 first
    default_version: Annotated[int, Field(ge=1)] = 1


class Override(StrictModel):
    instance_type: str
    image: ImageId | None = None
    weight: Annotated[int, Field(ge=1)] | None = None


class Hook(StrictModel):
    """A lifecycle hook that is there before the roll, answered by somebody else after `answered_after`."""

    name: Name
    transition: Literal["launching", "terminating"]
    heartbeat_timeout: Annotated[int, Field(ge=30, le=7200)] = 3600
    default_result: Literal["CONTINUE", "ABANDON"] = "ABANDON"
    answered_after: Seconds | None = None  # none: nobody answers, the timeout decides


class WarmPool(StrictModel):
    min_size: Whole = 0
    state: Literal["Stopped", "Running", "Hibernated"] = "Stopped"
    size: Whole = 0


class Group(StrictModel):
    """An Auto Scaling group and the cluster its hosts join."""

    name: Name
    cluster: Name
    template: Name
    template_version: Annotated[str, StringConstraints(pattern=r"^(\d+|\$Latest|\$Default)$")] = "1"
    overrides: tuple[Override, ...] = ()  # any: the group has a mixed instances policy
    on_demand_percent: Percent = 100
    subnets: Annotated[tuple[SubnetId, ...], Field(min_length=1)]
    min_size: Whole
    max_size: Whole
    desired: Whole
    default_warmup: Whole | None = None
    health_check_grace: Whole = 300
    health_check_type: Literal["EC2", "ELB"] = "EC2"
    protect_new: bool = False  # NewInstancesProtectedFromScaleIn
    protected: Whole = 0  # hosts that are protected from scale-in at the start
    standby: Whole = 0  # hosts in Standby at the start, beside the desired ones
    suspended: tuple[Process, ...] = ()
    hooks: tuple[Hook, ...] = ()
    maintenance: tuple[Percent, Annotated[int, Field(ge=100, le=200)]] | None = None  # min and max healthy
    warm_pool: WarmPool | None = None
    tags: Mapping[str, str] = {}
    instance_profile: str = "ecs-node"

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if not self.min_size <= self.desired <= self.max_size:
            raise ValueError(f"desired {self.desired} is not between {self.min_size} and {self.max_size}")
        return self


class LoadBalancer(StrictModel):
    """The target group of a service; defaults from Elastic Load Balancing's API."""

    name: Name
    deregistration_delay: Seconds = 300
    health_interval: Seconds = 30
    healthy_threshold: Annotated[int, Field(ge=2, le=10)] = 5
    unhealthy_threshold: Annotated[int, Field(ge=2, le=10)] = 2


class Task(StrictModel):
    """A task definition, as far as placing, starting and stopping go."""

    cpu: Whole = 256
    memory: Annotated[int, Field(ge=4)] = 512
    host_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    network_mode: Literal["bridge", "host", "awsvpc"] = "bridge"
    start: Seconds = 20  # PENDING until RUNNING: pulling and starting; an assumption
    stop_timeout: Seconds = 30  # default of the ECS agent on EC2
    stop: Seconds | None = None  # SIGTERM until it is gone; none: it has to be killed after stop_timeout


class Service(StrictModel):
    name: Name
    cluster: Name
    desired: Whole
    minimum_healthy_percent: Annotated[int, Field(ge=0, le=100)] = 100
    maximum_percent: Annotated[int, Field(ge=100, le=1000)] = 200
    scheduling: Literal["REPLICA", "DAEMON"] = "REPLICA"
    task: Task = Task()
    load_balancer: LoadBalancer | None = None
    health_check_grace: Whole = 0
    constraints: tuple[str, ...] = ()  # `distinctInstance`, or an expression for memberOf
    strategy: tuple[str, ...] = ()  # `spread:attribute:ecs.availability-zone`, `spread:instanceId`, `binpack:memory`
    protected_tasks: Whole = 0
    capacity_provider: bool = False  # placed by the cluster's capacity provider, not by launch type

    @model_validator(mode="after")
    def _known(self) -> Self:
        for rule in self.constraints:
            if rule != "distinctInstance" and not re.fullmatch(
                r"attribute:[\w.-]+ *(==|!=) *[\w./-]+|attribute:[\w.-]+ +(not_)?exists", rule
            ):
                raise ValueError(
                    f"the constraint {rule!r} is not modelled: distinctInstance, or attribute:NAME == VALUE, "
                    "!= VALUE, exists, not_exists"
                )
        for rule in self.strategy:
            if not re.fullmatch(r"spread:(attribute:ecs\.availability-zone|instanceId)|binpack:(cpu|memory)", rule):
                raise ValueError(
                    f"the strategy {rule!r} is not modelled: spread:attribute:ecs.availability-zone, "
                    "spread:instanceId, binpack:cpu, binpack:memory"
                )
        return self


class StandaloneTask(StrictModel):
    """Tasks that belong to no service, which draining does not move."""

    cluster: Name
    family: Name
    count: Annotated[int, Field(ge=1)] = 1
    task: Task = Task()
    lives: Seconds | None = None  # ends by itself that long after the start; none: it runs on


class Cluster(StrictModel):
    name: Name
    managed_draining: bool = False
    managed_scaling: bool = False
    managed_termination_protection: bool = False
    attributes: Mapping[str, str] = {}  # on every container instance, beside the agent's own

    @property
    def has_provider(self) -> bool:
        return self.managed_draining or self.managed_scaling or self.managed_termination_protection


class Alarm(StrictModel):
    name: Name
    state: Literal["OK", "ALARM", "INSUFFICIENT_DATA"] = "OK"


class CapacityReservation(StrictModel):
    instance_type: str
    zone: Zone
    total: Whole
    available: Whole


class Profile(StrictModel):
    """An instance profile with the policies of its role."""

    name: Name = "ecs-node"
    policies: tuple[str, ...] = (
        "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role",
        "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
    )


class FleetSpec(StrictModel):
    """Everything in one account and region that a roll can meet."""

    region: Region = "eu-central-1"
    account: Annotated[str, StringConstraints(pattern=r"^\d{12}$")] = "123456789012"
    timing: Timing = Timing()
    images: Annotated[tuple[Image, ...], Field(min_length=1)]
    parameters: Mapping[str, str] = {}  # Parameter Store, name to value
    calendars: Mapping[str, Literal["OPEN", "CLOSED"]] = {}
    instance_types: Annotated[Mapping[str, InstanceType], Field(min_length=1)]
    subnets: Annotated[tuple[Subnet, ...], Field(min_length=1)]
    templates: Annotated[tuple[LaunchTemplate, ...], Field(min_length=1)]
    clusters: Annotated[tuple[Cluster, ...], Field(min_length=1)]
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    services: tuple[Service, ...] = ()
    standalone: tuple[StandaloneTask, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    profiles: tuple[Profile, ...] = (Profile(),)
    capacity_reservations: tuple[CapacityReservation, ...] = ()
    vcpu_quota: Whole = 1000  # L-1216C47A, running On-Demand standard instances
    guardduty: bool = True  # Runtime Monitoring is enabled

    @model_validator(mode="after")
    def _refers(self) -> Self:
        clusters = {cluster.name for cluster in self.clusters}
        templates = {template.name: template for template in self.templates}
        subnets = {subnet.id for subnet in self.subnets}
        for group in self.groups:
            if group.cluster not in clusters:
                raise ValueError(f"group {group.name} joins the cluster {group.cluster}, which is not in `clusters`")
            if group.template not in templates:
                raise ValueError(f"group {group.name} uses the template {group.template}, which is not in `templates`")
            if missing := sorted(set(group.subnets) - subnets):
                raise ValueError(f"group {group.name} names subnets that are not in `subnets`: {', '.join(missing)}")
            version = group.template_version
            if version.isdecimal() and int(version) > len(templates[group.template].versions):
                raise ValueError(f"group {group.name} uses version {version}, which {group.template} does not have")
            for override in group.overrides:
                if override.instance_type not in self.instance_types:
                    raise ValueError(f"{override.instance_type} of group {group.name} is not in `instance_types`")
        named = [service.cluster for service in self.services] + [task.cluster for task in self.standalone]
        for cluster_name in named:
            if cluster_name not in clusters:
                raise ValueError(f"the cluster {cluster_name} is not in `clusters`")
        return self


def read_fleet(path: Path) -> FleetSpec:
    """A fleet file as a value. Raises CatalogError with every fault of the file, each with its line."""
    return load_yaml(path, FleetSpec)


def fleet_named(name: str) -> FleetSpec:
    """A fleet by its file, or an example by its name. Raises what `read_fleet` and `example_fleet` raise."""
    return read_fleet(Path(name)) if name.endswith((".yaml", ".yml")) else example_fleet(name)


def example_fleet(name: str) -> FleetSpec:
    """One of the fleets that come with Ovenproof. Raises UsageError when there is none of that name."""
    path = FLEETS / f"{name}.yaml"
    if not path.is_file():
        raise UsageError(
            f"there is no example fleet called {name}",
            expected=f"one of {', '.join(sorted(file.stem for file in FLEETS.glob('*.yaml')))}",
            where="ssm-documents/fleets",
            remedy="name one of them, or give a file of your own",
        )
    return read_fleet(path)
