"""The things of a world: groups, hosts, clusters, tasks. Plain values that change; the engines beside this change them.

Times are seconds since the world began.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.rehearsal.fleet import spec as specs
from pipeline.rehearsal.fleet.machines import Covered

GONE = "Terminated"
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a group launches: a template version, or a mixed instances policy around one."""

    template_id: str
    version: str  # a number, $Latest or $Default
    policy: Mapping[str, Any] | None = None  # MixedInstancesPolicy, in the API's shape

    @property
    def overrides(self) -> list[Mapping[str, Any]]:
        if self.policy is None:
            return []
        overrides: list[Mapping[str, Any]] = self.policy["LaunchTemplate"].get("Overrides", [])
        return overrides


@dataclass(slots=True)
class Template:
    id: str
    name: str
    versions: dict[int, dict[str, Any]]  # number to ResponseLaunchTemplateData
    default: int
    descriptions: dict[int, str] = field(default_factory=dict)
    created: dict[int, float] = field(default_factory=dict)
    next_number: int = 1  # numbers of deleted versions are not used again


@dataclass(slots=True, eq=False, repr=False)
class HookAction:
    """One hook that holds one host."""

    hook: "HookState"
    host: "Host"
    token: str
    deadline: float
    limit: float  # the global timeout


@dataclass(slots=True, eq=False, repr=False)
class HookState:
    name: str
    transition: str  # autoscaling:EC2_INSTANCE_LAUNCHING or _TERMINATING
    heartbeat_timeout: int
    default_result: str
    answered_after: float | None = None
    managed: bool = False  # ECS's own, of managed draining
    target: str = ""
    role: str = ""
    metadata: str = ""

    @property
    def global_timeout(self) -> int:
        return min(172800, 100 * self.heartbeat_timeout)


@dataclass(slots=True, eq=False, repr=False)
class Host:
    id: str
    group: "GroupState | None"
    zone: str
    subnet: str
    instance_type: str
    architecture: str
    image: str
    template_id: str
    version: int
    launched: float
    index: int
    new: bool  # its image is none of those that ran at the start
    ordinal: int  # the how-manieth of its kind, old or new
    ip: str
    state: str = "Pending"
    spot: bool = False
    protected: bool = False
    in_service: float = NEVER  # since when InService
    warm: float = NEVER  # from when on it counts as ready for a refresh
    alive: bool = True  # EC2's state is pending or running
    actions: list[HookAction] = field(default_factory=list)
    ssm_online: float = NEVER
    coverage_at: float = NEVER
    container: "ContainerInstance | None" = None
    tags: dict[str, str] = field(default_factory=dict)
    ended: float = NEVER
    swapping: bool = False
    swap_to: "Configuration | None" = None
    root_since: float | None = None  # when its root volume was replaced; none: it has the first one
    row_before: Covered | None = None  # GuardDuty's row as it was then
    before: tuple[float, str] | None = None  # when the state last changed, and what it was
    band: int = -1  # where the timeline counts it
    installed_agent: str | None = None  # of GuardDuty's agent, when put on the running host
    in_service_counted: bool = False
    ready_counted: bool = False
    excused: bool = False  # a fault took it away, the roll did not


@dataclass(slots=True, eq=False, repr=False)
class ContainerInstance:
    arn: str
    host: Host
    cluster: "ClusterState"
    registered: float
    cpu: int
    memory: int
    cpu_left: int
    memory_left: int
    status: str = "ACTIVE"
    connected: bool = True
    ports: set[int] = field(default_factory=set)
    tasks: dict[str, "TaskState"] = field(default_factory=dict)  # every task that is not STOPPED, by arn
    stopped: dict[str, "TaskState"] = field(default_factory=dict)  # those that ECS still remembers
    before: tuple[float, str] | None = None
    drained_since: float = NEVER

    @property
    def attributes(self) -> dict[str, str]:
        return {
            "ecs.availability-zone": self.host.zone,
            "ecs.instance-type": self.host.instance_type,
            "ecs.ami-id": self.host.image,
            "ecs.os-type": "linux",
            "ecs.cpu-architecture": self.host.architecture,
            **self.cluster.spec.attributes,
        }

    @property
    def placeable(self) -> bool:
        return self.connected and self.status == "ACTIVE"


@dataclass(slots=True, eq=False, repr=False)
class TaskState:
    arn: str
    spec: specs.Task
    service: "ServiceState | None"
    family: str
    revision: int
    container: ContainerInstance
    created: float
    status: str = "PENDING"
    desired: str = "RUNNING"
    healthy: bool = False
    started: float = NEVER
    stopping: float = NEVER
    stopped: float = NEVER
    reason: str = ""
    protected_until: float = 0
    band: int = -1  # where the timeline counts it
    generation: int = 0  # how often what it does has moved
    orphaned: bool = False  # another task takes its place


@dataclass(slots=True, eq=False, repr=False)
class ServiceState:
    spec: specs.Service
    arn: str
    cluster: "ClusterState"
    desired: int
    revision: int = 1
    tasks: dict[str, TaskState] = field(default_factory=dict)  # not STOPPED
    retiring: dict[str, TaskState] = field(default_factory=dict)  # to be replaced: draining host, or old revision
    unfit: dict[str, TaskState] = field(default_factory=dict)  # of those, not healthy when it was decided
    live: int = 0  # tasks whose desired status is RUNNING
    pending: int = 0  # of those, not yet RUNNING
    healthy: int = 0  # of those, healthy
    wanting: bool = False  # a task found no place
    retry_at: float = 0
    failures: int = 0
    deployed: float = 0
    events: list[tuple[float, str]] = field(default_factory=list)
    excused: bool = False  # a fault took tasks away, the roll did not
    orphans: dict[str, int] = field(default_factory=dict)  # tasks without a successor yet, and how often they moved


@dataclass(slots=True, eq=False, repr=False)
class ClusterState:
    spec: specs.Cluster
    arn: str
    containers: dict[str, ContainerInstance] = field(default_factory=dict)
    services: dict[str, ServiceState] = field(default_factory=dict)
    tasks: dict[str, TaskState] = field(default_factory=dict)  # also stopped ones, for an hour
    providers: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False, repr=False)
class Refresh:
    id: str
    group: "GroupState"
    preferences: dict[str, Any]  # as resolved, in the API's shape
    target: Configuration
    desired_configuration: dict[str, Any] | None
    saved: Configuration
    strategy: str
    started: float
    total: int = 0  # hosts to update at the start
    status: str = "Pending"
    reason: str = ""
    ended: float = NEVER
    max_given: bool = False
    checkpoint: int = 0  # index of the one that is next
    paused_until: float = 0  # in the delay after a checkpoint
    baked_at: float = NEVER
    progress: float = 0  # when something last moved
    rollback: dict[str, Any] | None = None
    rolled_back_total: int = 0
    leaving: set[str] = field(default_factory=set)  # hosts it has sent away
    done: set[str] = field(default_factory=set)  # hosts it has given a new root volume
    percent: int = 0
    remaining: int = 0
    before: tuple[float, str] | None = None
    cancel_waits: bool = True

    @property
    def active(self) -> bool:
        return self.status in ("Pending", "InProgress", "Baking", "RollbackInProgress", "Cancelling")


@dataclass(slots=True, eq=False, repr=False)
class GroupState:
    spec: specs.Group
    arn: str
    configuration: Configuration
    cluster: ClusterState
    min_size: int
    max_size: int
    desired: int
    hosts: dict[str, Host] = field(default_factory=dict)  # in any state but gone
    hooks: dict[str, HookState] = field(default_factory=dict)
    suspended: dict[str, str] = field(default_factory=dict)
    tags: dict[str, tuple[str, bool]] = field(default_factory=dict)
    refreshes: list[Refresh] = field(default_factory=list)
    activities: list[dict[str, Any]] = field(default_factory=list)
    protect_new: bool = False
    retry_launch: float = 0
    keep_excess: bool = False
    excused: int = 0  # hosts that a fault took away and that are not replaced yet
    useless: int = 0  # hosts that a fault kept from serving, sent away and not replaced yet
    serving: int = 0  # hosts InService and alive: what Auto Scaling counts
    ready: int = 0  # hosts that ECS can use or that still serve: connected, ACTIVE, alive
    floor: int = 0  # what `serving` and `ready` must not go below, at 100 %
    expected: int = 0  # the desired number, faults included, roll excluded
    lowest_serving: tuple[float, float] = (2.0, 0.0)  # share of the floor, and when
    lowest_ready: tuple[float, float] = (2.0, 0.0)
    warmup: int | None = None
    grace: int = 300
    maintenance: tuple[int, int] | None = None

    @property
    def refresh(self) -> Refresh | None:
        """The refresh that is active, if one is."""
        return self.refreshes[-1] if self.refreshes and self.refreshes[-1].active else None


@dataclass(slots=True, eq=False, repr=False)
class Command:
    id: str
    document: str
    parameters: Mapping[str, Any]
    comment: str
    requested: float
    expires: float
    invocations: dict[str, "Invocation"] = field(default_factory=dict)
    sent: str = ""  # what machines call it


@dataclass(slots=True, eq=False, repr=False)
class Invocation:
    host: str
    status: str = "InProgress"
    code: int = -1
    output: str = ""
    errors: str = ""
    started: float = 0
    ended: float = NEVER
