"""Auto Scaling groups: launching, lifecycle hooks, terminating, keeping the desired number; refreshes are in `refresh`.

Sources: Auto Scaling API reference (the service model's own text) and user guide. Where both are silent, a switch.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import CatalogError
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.machines import Sight
from pipeline.rehearsal.fleet.refresh import Refreshes
from pipeline.rehearsal.fleet.state import (
    NEVER,
    Configuration,
    GroupState,
    HookAction,
    HookState,
    Host,
)

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
MANAGED_HOOK = "ecs-managed-draining-termination-hook"
REACTION = 5.0  # seconds between two looks of a group at its hosts; an assumption
LAUNCH_RETRY = 60.0  # seconds until a failed launch is tried again; an assumption
HEALTH_CHECK = 60.0  # seconds until a group notices that EC2 took a host away; an assumption
MANAGED_DRAIN_LIMIT = 172800  # ECS developer guide, managed instance draining: 48 hours


def parsed(configuration: Mapping[str, Any], world: "World") -> Configuration:
    """An API structure that holds LaunchTemplate or MixedInstancesPolicy, as a value. Refused when it names nothing."""
    if policy := configuration.get("MixedInstancesPolicy"):
        given = policy["LaunchTemplate"]["LaunchTemplateSpecification"]
        template = world.template_of(given)
        version = given.get("Version", "$Default")
        world.version_number(template, version)
        whole = {
            **policy,
            "LaunchTemplate": {
                **policy["LaunchTemplate"],
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": template.id,
                    "LaunchTemplateName": template.name,
                    "Version": version,
                },
            },
        }
        return Configuration(template.id, version, whole)
    given = configuration["LaunchTemplate"]
    template = world.template_of(given)
    version = given.get("Version", "$Default")
    world.version_number(template, version)
    return Configuration(template.id, version)


class Groups:
    """Every group of a world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.all: dict[str, GroupState] = {}
        self.refreshes = Refreshes(world, self)
        self.dirty: dict[str, GroupState] = {}
        self._looked: dict[str, float] = {}
        self._look_planned: set[str] = set()
        self.launches: dict[str, dict[str, Any]] = {}  # LaunchInstances' ClientToken to its answer

    # -- the start ------------------------------------------------------------------------------------------------

    def populate(self) -> None:
        """The groups with their old hosts, all in service."""
        world = self.world
        for spec in world.spec.groups:
            template = next(one for one in world.templates.values() if one.name == spec.template)
            policy: dict[str, Any] | None = None
            if spec.overrides:
                overrides = []
                for override in spec.overrides:
                    entry: dict[str, Any] = {"InstanceType": override.instance_type}
                    if override.image:
                        entry["ImageId"] = override.image
                    if override.weight:
                        entry["WeightedCapacity"] = str(override.weight)
                    overrides.append(entry)
                policy = {
                    "LaunchTemplate": {
                        "LaunchTemplateSpecification": {
                            "LaunchTemplateId": template.id,
                            "LaunchTemplateName": template.name,
                            "Version": spec.template_version,
                        },
                        "Overrides": overrides,
                    },
                    "InstancesDistribution": {
                        "OnDemandAllocationStrategy": "prioritized",
                        "OnDemandBaseCapacity": 0,
                        "OnDemandPercentageAboveBaseCapacity": spec.on_demand_percent,
                        "SpotAllocationStrategy": "price-capacity-optimized",
                    },
                }
            group = GroupState(
                spec=spec,
                arn=world.arn("autoscaling", f"autoScalingGroup:{world.token()}:autoScalingGroupName/{spec.name}"),
                configuration=Configuration(template.id, spec.template_version, policy),
                cluster=world.clusters[spec.cluster],
                min_size=spec.min_size,
                max_size=spec.max_size,
                desired=spec.desired,
                protect_new=spec.protect_new,
                suspended=dict.fromkeys(spec.suspended, "User suspended"),
                tags={key: (value, False) for key, value in spec.tags.items()},
                warmup=spec.default_warmup,
                grace=spec.health_check_grace,
                maintenance=spec.maintenance,
            )
            for hook in spec.hooks:
                group.hooks[hook.name] = HookState(
                    name=hook.name,
                    transition=LAUNCHING if hook.transition == "launching" else TERMINATING,
                    heartbeat_timeout=hook.heartbeat_timeout,
                    default_result=hook.default_result,
                    answered_after=hook.answered_after,
                )
            if group.cluster.spec.managed_draining:
                # ECS developer guide, managed instance draining: ECS adds a termination hook of its own.
                group.hooks[MANAGED_HOOK] = HookState(
                    name=MANAGED_HOOK,
                    transition=TERMINATING,
                    heartbeat_timeout=7200,
                    default_result="CONTINUE",
                    managed=True,
                )
            self.all[spec.name] = group
        try:
            for group in self.all.values():
                for index in range(group.spec.desired + group.spec.standby):
                    _, image, _ = world.launch_of(group.configuration, index)
                    world.old_images.add(image)
            for group in self.all.values():
                self._old_hosts(group)
        except Refused as refusal:
            raise CatalogError(
                "the fleet cannot have come about as its file says",
                found=refusal.message,
                remedy="let templates and groups name images and instance types that are in the file",
            ) from refusal

    def _old_hosts(self, group: GroupState) -> None:
        for index in range(group.spec.desired + group.spec.standby):
            host = self._create(group, group.configuration, index, launched=-86400.0 + index)
            host.in_service = host.launched + self.world.spec.timing.pending
            host.warm = 0.0
            host.ssm_online = host.coverage_at = host.launched  # a day old: whoever is to know of it does
            host.protected = index < group.spec.protected or group.protect_new
            self.set_state(host, "Standby" if index >= group.spec.desired else "InService")
            host.before = None  # so for a day: no late read shows it as Pending
            self.world.scheduler.register(host)

    # -- states ---------------------------------------------------------------------------------------------------

    def named(self, name: str) -> GroupState:
        group = self.all.get(name)
        if group is None:
            raise Refused("ValidationError", f"AutoScalingGroup name not found - {name}")
        return group

    def member(self, name: str) -> Host:
        """A host that a group has. Refused when none has."""
        host = self.world.hosts.get(name)
        if host is None or host.group is None or host.id not in host.group.hosts:
            raise Refused("ValidationError", f"Instance Id not found - {name}")
        return host

    def set_state(self, host: Host, state: str) -> None:
        """Another life-cycle state; whoever counts or watches is told."""
        if host.state != state:
            host.before = (self.world.t, host.state)
            host.state = state
        self.world.timeline.host_changed(host)

    def shown_state(self, host: Host) -> str:
        """The state that a read sees, which may be some seconds old."""
        lag = self.world.lag
        if lag and host.before is not None and self.world.t - host.before[0] < lag:
            return host.before[1]
        return host.state

    def touch(self, group: GroupState) -> None:
        """Let the group look at its hosts soon: at once, or some seconds after its last look."""
        name = group.spec.name
        if name in self._look_planned:
            return
        self._look_planned.add(name)
        self.world.at(max(self.world.t, self._looked.get(name, -NEVER) + REACTION), self._look, group)

    def _look(self, group: GroupState) -> None:
        self._look_planned.discard(group.spec.name)
        self._looked[group.spec.name] = self.world.t
        self.dirty[group.spec.name] = group

    def react(self) -> None:
        while self.dirty:
            _, group = self.dirty.popitem()
            refresh = group.refresh
            if refresh is not None:
                self.refreshes.step(refresh)
            self._keep_desired(group)

    def alarm_changed(self) -> None:
        for group in self.all.values():
            if group.refresh is not None:
                self.touch(group)

    # -- launching ------------------------------------------------------------------------------------------------

    def launch(self, group: GroupState, count: int, configuration: Configuration, cause: str) -> list[Host]:
        """Launch up to `count` hosts, spread over the group's subnets; what fails is a failed activity, tried later."""
        if count <= 0 or "Launch" in group.suspended or self.world.t < group.retry_launch:
            return []
        taken = dict.fromkeys(group.spec.subnets, 0)
        for host in group.hosts.values():
            if host.state in ("InService", "Pending", "Pending:Wait", "Pending:Proceed"):
                taken[host.subnet] = taken.get(host.subnet, 0) + 1
        made: list[Host] = []
        for _ in range(count):
            subnet = min(group.spec.subnets, key=lambda name: taken[name])
            try:
                made.append(self._launch_one(group, configuration, subnet, cause))
            except Refused as refusal:
                self._activity(
                    group, f"Launching a new EC2 instance.  Status Reason: {refusal.message}", cause, "Failed"
                )
                group.retry_launch = self.world.t + LAUNCH_RETRY
                self.world.at(group.retry_launch, self.touch, group)
                self.world.note(f"launch failed in {group.spec.name}: {refusal.code}")
                break
            taken[subnet] += 1
        return made

    def launch_now(self, group: GroupState, count: int, subnets: Iterable[str]) -> tuple[list[Host], Refused | None]:
        """LaunchInstances: what was launched, and why it went no further."""
        made: list[Host] = []
        order = list(subnets)
        for index in range(count):
            try:
                made.append(
                    self._launch_one(
                        group, group.configuration, order[index % len(order)], "LaunchInstances was called"
                    )
                )
            except Refused as refusal:
                return made, refusal
        return made, None

    def _launch_one(self, group: GroupState, configuration: Configuration, subnet: str, cause: str) -> Host:
        world = self.world
        index = world._host_count
        _, image, kind = world.launch_of(configuration, index)
        if world.failing_launches:
            new = image not in world.old_images
            ordinal = (world.new_count if new else world.old_count) + 1
            for fault in world.faults:
                if fault.kind == "insufficient-capacity" and fault.covers_host(
                    is_new=new, ordinal=ordinal, now=world.t
                ):
                    raise Refused(
                        "InsufficientInstanceCapacity",
                        f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested "
                        f"({world.subnets[subnet].zone}). Launching EC2 instance failed.",
                    )
        if world.vcpus + world.types[kind].vcpus > world.spec.vcpu_quota:
            raise Refused(
                "VcpuLimitExceeded",
                f"You have requested more vCPU capacity than your current vCPU limit of {world.spec.vcpu_quota} allows "
                "for the instance bucket that the specified instance type belongs to.",
            )
        host = self._create(group, configuration, index, subnet=subnet, launched=world.t)
        host.protected = group.protect_new
        self.set_state(host, "Pending")
        self._activity(group, f"Launching a new EC2 instance: {host.id}", cause, "Successful")
        if world.machines is None:
            self.boot(host)
            world.at(world.t + world.jittered(world.spec.timing.pending), self._pending_over, host)
        return host

    def boot(self, host: Host) -> None:
        """A host starts: its agents report in due time, each unless a fault has it otherwise."""
        world, timing = self.world, self.world.spec.timing
        if not world.struck("agent-never-connects", host):
            world.after(world.jittered(timing.registering), self._register, host)
        if not world.struck("ssm-never-online", host):
            host.ssm_online = world.t + world.jittered(timing.ssm_online)
        lag = timing.coverage * (10 if world.switches.coverage_lag == "long" else 1)
        late = world.struck("coverage-late", host)
        host.coverage_at = world.t + timing.pending + world.jittered(lag) + (late.seconds if late else 0)

    def seen(self, host: Host, sight: Sight) -> None:
        """A host that is a machine takes the steps that the machine has taken."""
        world = self.world
        if sight.gone:
            if host.state == "Terminating:Proceed":
                self._gone(host)
            elif host.alive:
                world.note(f"{host.id} has ended by itself")
                self.die(host)
                world.after(HEALTH_CHECK, self.terminate, host, "an instance was taken out of service by EC2")
            return
        if not host.alive:
            return
        if sight.running and host.state == "Pending":
            self._pending_over(host)
        if not sight.managed:
            host.ssm_online = NEVER
        elif host.ssm_online == NEVER:
            host.ssm_online = world.t
        if self.is_in_cluster(host, sight):
            self._register(host)

    def is_in_cluster(self, host: Host, sight: Sight) -> bool:
        """Whether the machine's ECS agent is up in the cluster that the host belongs to."""
        return host.group is not None and sight.cluster == host.group.cluster.spec.name

    def _register(self, host: Host) -> None:
        if host.alive and not host.swapping and (host.container is None or not host.container.connected):
            self.world.scheduler.register(host)

    def _create(
        self,
        group: GroupState,
        configuration: Configuration,
        index: int,
        *,
        launched: float,
        subnet: str = "",
    ) -> Host:
        world = self.world
        number, image, kind = world.launch_of(configuration, index)
        template = world.templates[configuration.template_id]
        data = template.versions[number]
        subnet = subnet or group.spec.subnets[index % len(group.spec.subnets)]
        tags = {"aws:autoscaling:groupName": group.spec.name}
        for given in data.get("TagSpecifications", []):
            if given.get("ResourceType") == "instance":
                tags.update({tag["Key"]: tag.get("Value", "") for tag in given.get("Tags", [])})
        tags.update({key: value for key, (value, propagated) in group.tags.items() if propagated})
        machine = world.machines.launch(image, kind, data, tags) if world.machines is not None else ""
        new = image not in world.old_images
        if new:
            world.new_count += 1
        else:
            world.old_count += 1
        count = world.next_host()
        host = Host(
            id=machine or f"i-{world.seed & 0xFFFFF:05x}{count:012x}",
            group=group,
            zone=world.subnets[subnet].zone,
            subnet=subnet,
            instance_type=kind,
            architecture=world.types[kind].architecture,
            image=image,
            template_id=template.id,
            version=number,
            launched=launched,
            index=count,
            new=new,
            ordinal=world.new_count if new else world.old_count,
            ip=f"10.{count >> 16 & 255}.{count >> 8 & 255}.{count & 255}",
            spot=index % 100 >= group.spec.on_demand_percent,
            tags=tags,
        )
        world.vcpus += world.types[kind].vcpus
        world.hosts[host.id] = host
        group.hosts[host.id] = host
        return host

    def _pending_over(self, host: Host) -> None:
        if host.state != "Pending":
            return
        if self._hold(host, LAUNCHING):
            self.set_state(host, "Pending:Wait")
        else:
            self._serve(host)

    def _serve(self, host: Host) -> None:
        group = host.group
        if group is None:
            return
        world = self.world
        refresh = group.refresh
        host.in_service = world.t
        host.warm = world.t + self.warmup(group)
        if refresh is not None:
            refresh.progress = world.t
        self.set_state(host, "InService")
        self.touch(group)
        world.at(host.warm, self.touch, group)

    def warmup(self, group: GroupState) -> float:
        """Seconds after InService until a host is ready: the refresh's word, else the group's (RefreshPreferences)."""
        refresh = group.refresh
        if refresh is not None and "InstanceWarmup" in refresh.preferences:
            return float(refresh.preferences["InstanceWarmup"])
        return float(group.grace if group.warmup is None else group.warmup)

    # -- hooks ----------------------------------------------------------------------------------------------------

    def _hold(self, host: Host, transition: str) -> bool:
        """Start every hook of a transition; whether there is one."""
        world, group = self.world, host.group
        if group is None:
            return False
        for hook in group.hooks.values():
            if hook.transition != transition:
                continue
            limit = world.t + (MANAGED_DRAIN_LIMIT if hook.managed else hook.global_timeout)
            action = HookAction(
                hook=hook,
                host=host,
                token=world.token(),
                deadline=limit if hook.managed else min(world.t + hook.heartbeat_timeout, limit),
                limit=limit,
            )
            host.actions.append(action)
            world.at(action.deadline, self._expire, action)
            if hook.managed:
                world.scheduler.drain(host, managed=True)
            elif hook.answered_after is not None:
                world.after(hook.answered_after, self._answer, action, "CONTINUE")
        return bool(host.actions)

    def _expire(self, action: HookAction) -> None:
        if action not in action.host.actions:
            return
        if action.deadline > self.world.t:  # a heartbeat came in between
            self.world.at(action.deadline, self._expire, action)
            return
        self.world.note(f"hook {action.hook.name} timed out on {action.host.id}: {action.hook.default_result}")
        self._answer(action, action.hook.default_result)

    def _answer(self, action: HookAction, result: str) -> None:
        host = action.host
        if action not in host.actions:
            return
        host.actions.remove(action)
        if result == "ABANDON":
            # User guide, lifecycle hooks: ABANDON on launch ends the host; on termination it skips the other hooks.
            host.actions.clear()
            if host.state.startswith("Pending"):
                self.terminate(host, "a launch hook was abandoned")
                return
        if not host.actions:
            self._released(host)

    def _released(self, host: Host) -> None:
        if host.state == "Pending:Wait":
            self.set_state(host, "Pending:Proceed")
            self._serve(host)
        elif host.state == "Terminating:Wait":
            self._go(host)
        elif host.state == "ReplacingRootVolume:Wait":
            self.refreshes.swap(host)

    def complete(self, group: GroupState, hook: str, *, host: str, token: str, result: str) -> None:
        """CompleteLifecycleAction. Refused when nothing waits."""
        self._answer(self._action(group, hook, host, token), result)

    def heartbeat(self, group: GroupState, hook: str, *, host: str, token: str) -> None:
        """RecordLifecycleActionHeartbeat: another whole heartbeat timeout, up to the global one."""
        action = self._action(group, hook, host, token)
        action.deadline = min(self.world.t + action.hook.heartbeat_timeout, action.limit)

    def _action(self, group: GroupState, hook: str, host: str, token: str) -> HookAction:
        if hook in group.hooks:
            candidates = [group.hosts[host]] if host in group.hosts else group.hosts.values()
            for candidate in candidates:
                for action in candidate.actions:
                    if action.hook.name == hook and (action.host.id == host or (token and action.token == token)):
                        return action
        wanted = f"with token {token}" if token else f"with instance ID {host}"
        raise Refused("ValidationError", f"No active Lifecycle Action found {wanted}")

    def managed_drain_over(self, host: Host) -> None:
        """ECS has moved everything off a host that its own hook holds."""
        for action in list(host.actions):
            if action.hook.managed:
                self._answer(action, "CONTINUE")

    def remove_hook(self, group: GroupState, name: str) -> None:
        """DeleteLifecycleHook: outstanding actions are completed first, ABANDON for launches, CONTINUE for the rest."""
        hook = group.hooks.pop(name, None)
        if hook is None:
            raise Refused("ValidationError", f"No lifecycle hook found with name {name}")
        for host in list(group.hosts.values()):
            for action in list(host.actions):
                if action.hook is hook:
                    self._answer(action, "ABANDON" if hook.transition == LAUNCHING else "CONTINUE")

    # -- terminating ----------------------------------------------------------------------------------------------

    def terminate(self, host: Host, cause: str) -> None:
        """Send a host away: through its termination hooks, if the group has any."""
        if host.state.startswith("Terminat") or host.group is None:
            return
        self._activity(host.group, f"Terminating EC2 instance: {host.id}", cause, "Successful")
        if host.state == "InService" and self.world.is_useless(host):
            host.group.useless += 1
        host.actions.clear()
        if host.alive and self._hold(host, TERMINATING):
            self.set_state(host, "Terminating:Wait")
        else:
            self._go(host)
        self.touch(host.group)

    def _go(self, host: Host) -> None:
        self.set_state(host, "Terminating:Proceed")
        if self.world.machines is None:
            self.world.after(self.world.jittered(self.world.spec.timing.terminate), self._gone, host)
        self.die(host)
        if host.group is not None:
            self.touch(host.group)

    def die(self, host: Host) -> None:
        """EC2 shuts the host down: whatever still runs on it is killed."""
        if host.alive:
            host.alive = False
            host.ended = self.world.t
            if self.world.machines is not None:
                self.world.machines.end(host.id)
            self.world.vcpus -= self.world.types[host.instance_type].vcpus
            self.world.scheduler.lose(host)

    def _gone(self, host: Host) -> None:
        group = host.group
        if group is None:
            return
        self.set_state(host, "Terminated")
        group.hosts.pop(host.id, None)
        if group.refresh is not None:
            group.refresh.progress = self.world.t
        self.world.scheduler.forget(host)
        self.touch(group)

    # -- the desired number ---------------------------------------------------------------------------------------

    def _keep_desired(self, group: GroupState) -> None:
        """Launch what is missing and, when no refresh is at work, end what is too many."""
        refresh = group.refresh
        active = [h for h in group.hosts.values() if h.state == "InService" or h.state.startswith("Pending")]
        swapping = sum(1 for h in group.hosts.values() if h.state.startswith(("Replacing", "RootVolume")))
        missing = group.desired - len(active) - swapping
        if refresh is not None and refresh.status != "Cancelling":
            return  # it keeps the number itself
        if missing > 0:
            self.launch(group, missing, group.configuration, "the group has fewer instances than desired")
        elif missing < 0 and not group.keep_excess and "Terminate" not in group.suspended and refresh is None:
            # User guide, termination policies: hosts of another template first, then the oldest version, then the age.
            template = group.configuration.template_id
            spare = [host for host in active if not host.protected and host.state == "InService"]
            spare.sort(key=lambda host: (host.template_id == template, host.version, host.launched))
            for host in spare[:-missing]:
                self.terminate(host, "the group has more instances than desired")

    def join(self, host: Host, group: GroupState) -> None:
        """AttachInstances: a running host becomes one of the group's, and is in service at once."""
        host.group = group
        group.hosts[host.id] = host
        host.tags["aws:autoscaling:groupName"] = group.spec.name
        host.state = "InService"
        self._serve(host)

    def leave(self, host: Host, group: GroupState) -> dict[str, Any]:
        """DetachInstances: the host runs on, outside of the group."""
        self._activity(group, f"Detaching EC2 instance: {host.id}", "a user asked for it", "Successful")
        host.actions.clear()
        self.set_state(host, "Detached")
        del group.hosts[host.id]
        host.tags.pop("aws:autoscaling:groupName", None)
        self.touch(group)
        return dict(group.activities[-1])

    def suffer(self, fault: Fault) -> None:
        """A fault that concerns groups."""
        group = self.named(fault.group) if fault.group else next(iter(self.all.values()))
        world = self.world
        if fault.kind == "scale-out-mid-way":
            group.desired = min(group.desired + fault.count, group.max_size)
            world.note(f"scale-out: {group.spec.name} wants {group.desired}")
            world.timeline.mark("scale-out")
            world.watch.desired_changed(group, by_roll=False)
            self.touch(group)
        else:
            chosen = [
                host
                for host in group.hosts.values()
                if host.state == "InService"
                and host.alive
                and fault.covers_host(is_new=host.new, ordinal=host.ordinal, now=world.t)
            ]
            for host in chosen[: fault.count]:
                world.note(f"spot interruption takes {host.id}")
                world.timeline.mark("spot interruption")
                group.excused += 1
                host.excused = True
                self.die(host)
                world.after(HEALTH_CHECK, self.terminate, host, "an instance was taken out of service by EC2")

    def set_desired(self, group: GroupState, desired: int) -> None:
        """UpdateAutoScalingGroup's DesiredCapacity. Refused outside min and max."""
        if not group.min_size <= desired <= group.max_size:
            side, limit = ("below", group.min_size) if desired < group.min_size else ("above", group.max_size)
            word = "min value" if side == "below" else "max value"
            raise Refused(
                "ValidationError",
                f"New SetDesiredCapacity value {desired} is {side} {word} {limit} for the AutoScalingGroup.",
            )
        group.desired = desired
        group.keep_excess = False
        self.world.watch.desired_changed(group, by_roll=True)
        self.touch(group)

    def _activity(self, group: GroupState, description: str, cause: str, status: str) -> None:
        group.activities.append(
            {
                "ActivityId": f"00000000-0000-4000-8000-{len(group.activities) + 1:012x}",
                "AutoScalingGroupName": group.spec.name,
                "Description": description.split("  Status Reason: ")[0],
                "Cause": f"At {self.world.when(self.world.t):%Y-%m-%dT%H:%M:%SZ} {cause}.",
                "StartTime": self.world.when(self.world.t),
                "EndTime": self.world.when(self.world.t),
                "StatusCode": status,
                "Progress": 100,
                "AutoScalingGroupARN": group.arn,
                **(
                    {"StatusMessage": description.split("  Status Reason: ")[1]}
                    if "  Status Reason: " in description
                    else {}
                ),
            }
        )
