"""One account and region that lives on a clock: a fleet file in, answers to AWS calls and a history out.

Nothing ticks. Every call first runs what has become due since the last one, in order of time; what is due at the same
time is settled together. The same spec, seed, switches, faults and calls give the same history.
"""

import heapq
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pipeline.clock import Clock
from pipeline.errors import CloudError, UsageError
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet import answers
from pipeline.rehearsal.fleet.faults import Fault, Kind
from pipeline.rehearsal.fleet.groups import Groups
from pipeline.rehearsal.fleet.invariants import Broken, Expectations, Watch
from pipeline.rehearsal.fleet.machines import Machines
from pipeline.rehearsal.fleet.scheduler import Scheduler
from pipeline.rehearsal.fleet.spec import FleetSpec, Image, InstanceType, Subnet
from pipeline.rehearsal.fleet.state import (
    GONE,
    ClusterState,
    Command,
    Configuration,
    Host,
    Template,
)
from pipeline.rehearsal.fleet.switches import Switches
from pipeline.rehearsal.fleet.timeline import Timeline
from pipeline.wait import poll

DESCRIBE_LAG = 8.0  # seconds that a read is old, with the switch describe_lag; an assumption
LOOK = 1.0  # seconds between two looks at machines
OLD_HOSTS_SECONDS = 600  # until machines of the old image are up, at the start


def thawed(value: Any) -> Any:
    """A copy of a spec's free-form value whose tuples are lists, as an answer of AWS has them."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thawed(item) for item in value]
    return value


class World:
    """The fleet of `spec`, running and steady when the clock says now.

    `clock` gives the time; the world never moves it. Raises UsageError from `call` for what is not modelled, and
    Refused for what AWS would refuse.

    With `machines` every host is one of them. The old ones are booted here, so the clock has to be one that goes by
    itself. Raises UsageError for faults beside them (a machine is broken by itself, not by the model), CloudError when
    the old ones do not come up.
    """

    def __init__(
        self,
        spec: FleetSpec,
        clock: Clock,
        *,
        seed: int = 0,
        switches: Switches = Switches(),  # noqa: B008 - frozen
        faults: Sequence[Fault] = (),
        machines: Machines | None = None,
    ) -> None:
        if machines is not None and faults:
            raise UsageError(
                "the model's faults do not reach machines",
                expected="faults, or machines",
                found=", ".join(map(str, faults)),
                remedy="break the machines themselves: their image, their endpoint",
            )
        self.spec = spec
        self.clock = clock
        self.seed = seed
        self.switches = switches
        self.faults = tuple(faults)
        self.machines = machines
        self._looked = float("-inf")
        self.t = 0.0
        self.began = clock.now()
        self.random = random.Random(seed)  # noqa: S311 - a model, not a secret
        self.calls: dict[str, int] = {}
        self.log: list[tuple[float, str]] = []  # what happened, for people
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._host_count = 0
        self._task_count = 0
        self._settling = False
        self.vcpus = 0  # running now
        self.new_count = 0
        self.old_count = 0

        self.images: dict[str, Image] = {image.id: image for image in spec.images}
        self.types: Mapping[str, InstanceType] = spec.instance_types
        self.subnets: dict[str, Subnet] = {subnet.id: subnet for subnet in spec.subnets}
        self.parameters: dict[str, str] = dict(spec.parameters)
        self.alarms: dict[str, str] = {alarm.name: alarm.state for alarm in spec.alarms}
        self.commands: dict[str, Command] = {}
        self.version_tokens: dict[tuple[str, str], int] = {}  # template and ClientToken to the version's number
        self.hosts: dict[str, Host] = {}  # every host there ever was
        self.templates: dict[str, Template] = {}
        self.clusters: dict[str, ClusterState] = {}
        self.failing_launches = any(fault.kind == "insufficient-capacity" for fault in self.faults)
        self.lag = DESCRIBE_LAG if switches.describe_lag == "seconds" else 0.0

        for template in spec.templates:
            self.templates[template.id] = Template(
                id=template.id,
                name=template.name,
                versions={number: thawed(version.data) for number, version in enumerate(template.versions, 1)},
                default=template.default_version,
                descriptions={number: v.description for number, v in enumerate(template.versions, 1) if v.description},
                created=dict.fromkeys(range(1, len(template.versions) + 1), -86400.0),
                next_number=len(template.versions) + 1,
            )
        for cluster in spec.clusters:
            self.clusters[cluster.name] = ClusterState(
                spec=cluster,
                arn=self.arn("ecs", f"cluster/{cluster.name}"),
                providers=[f"{cluster.name}-provider"] if cluster.has_provider else [],
            )
        self.timeline = Timeline(self)
        self.watch = Watch(self)
        self.scheduler = Scheduler(self)
        self.groups = Groups(self)
        self.old_images: set[str] = set()
        self.groups.populate()
        if machines is not None:
            self._await_old(machines)
        self.scheduler.populate()
        self.timeline.open()
        self.watch.open()
        self._plant()

    # -- time -----------------------------------------------------------------------------------------------------

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do something at a time; what is due at the same time happens in the order in which it was asked for."""
        self._sequence += 1
        heapq.heappush(self._heap, (time, self._sequence, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        self.at(self.t + seconds, action, *arguments)

    def jittered(self, seconds: float) -> float:
        """A duration of the fleet file with its spread."""
        jitter = self.spec.timing.jitter
        return seconds * (1 + jitter * (2 * self.random.random() - 1)) if jitter and seconds else seconds

    def advance_to(self, now: datetime) -> None:
        """Let everything happen that is due by `now`."""
        self._run_until((now - self.began).total_seconds())
        if self.machines is not None and self.t - self._looked >= LOOK:
            self._looked = self.t
            self._look_at(self.machines)
            self.settle()

    def _run_until(self, target: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= target:
            now = heap[0][0]
            self.t = max(self.t, now)
            while heap and heap[0][0] == now:
                _, _, action, arguments = heapq.heappop(heap)
                action(*arguments)
            self.settle()
        self.t = max(self.t, target)

    def _await_old(self, machines: Machines) -> None:
        """Wait until every old host is what the model takes it for: running, managed, its ECS agent in the cluster."""

        def waited_for() -> list[str]:
            sights = machines.see(list(self.hosts))
            return [
                host.id
                for host in self.hosts.values()
                if not (sights[host.id].managed and self.groups.is_in_cluster(host, sights[host.id]))
            ]

        left = poll(
            waited_for, lambda ids: not ids, clock=self.clock, timeout_seconds=OLD_HOSTS_SECONDS, every_seconds=LOOK
        )
        if left:
            raise CloudError(
                "the fleet's old hosts do not come up",
                expected=f"each managed by SSM and its ECS agent in the cluster within {OLD_HOSTS_SECONDS} s",
                found=", ".join(left),
                where="machines of the old image",
                remedy="look at their consoles: aws ec2 get-console-output",
            )
        self.began = self.clock.now()

    def _look_at(self, machines: Machines) -> None:
        """Take over how hosts and commands are that machines carry."""
        standing = [host for host in self.hosts.values() if host.state != GONE]
        sights = machines.see([host.id for host in standing])
        for host in standing:
            self.groups.seen(host, sights[host.id])
        for command in self.commands.values():
            for invocation in command.invocations.values():
                said = machines.said(command.sent, invocation.host) if invocation.status == "InProgress" else None
                if said is not None:
                    invocation.status, invocation.code, invocation.ended = said.status, said.code, self.t
                    invocation.output, invocation.errors = said.output, said.errors

    def settle(self) -> None:
        """Let schedulers and groups react to what changed, until nothing changes any more."""
        while self.scheduler.dirty or self.groups.dirty:
            self.scheduler.react()
            self.groups.react()
        self.timeline.sample()
        self.watch.look()

    def when(self, time: float) -> datetime:
        """A time of the world as AWS writes it."""
        return self.began + timedelta(seconds=time)

    def note(self, text: str) -> None:
        self.log.append((self.t, text))

    # -- names ----------------------------------------------------------------------------------------------------

    def arn(self, service: str, rest: str) -> str:
        return f"arn:aws:{service}:{self.spec.region}:{self.spec.account}:{rest}"

    def token(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def next_host(self) -> int:
        self._host_count += 1
        return self._host_count

    def next_task(self) -> int:
        self._task_count += 1
        return self._task_count

    # -- templates ------------------------------------------------------------------------------------------------

    def template_of(self, given: Mapping[str, Any]) -> Template:
        """The template that an API structure names by id or name. Refused when there is none."""
        if "LaunchTemplateId" in given:
            template = self.templates.get(given["LaunchTemplateId"])
            if template is None:
                raise Refused(
                    "InvalidLaunchTemplateId.NotFound",
                    f"The specified launch template, with template ID {given['LaunchTemplateId']}, does not exist.",
                )
            return template
        name = given.get("LaunchTemplateName", "")
        for template in self.templates.values():
            if template.name == name:
                return template
        raise Refused(
            "InvalidLaunchTemplateName.NotFoundException",
            f"The specified launch template, with template name {name}, does not exist.",
        )

    def version_number(self, template: Template, version: str) -> int:
        """What $Latest, $Default or a number stands for now. Refused when the version does not exist."""
        if version == "$Latest":
            return max(template.versions)
        if version in ("$Default", ""):
            return template.default
        number = int(version) if version.isdecimal() else 0
        if number not in template.versions:
            raise Refused(
                "InvalidLaunchTemplateId.VersionNotFound",
                f"Could not find the specified version {version} for the launch template with ID {template.id}.",
            )
        return number

    def image_named(self, given: str) -> str:
        """An image id, or what `resolve:ssm:NAME` stands for now."""
        if not given.startswith("resolve:ssm:"):
            return given
        name = given.removeprefix("resolve:ssm:").split(":")[0]
        value = self.parameters.get(name)
        if value is None:
            raise Refused("InvalidParameterValue", f"The parameter {name} of the image id does not exist.")
        return value

    def launch_of(self, configuration: Configuration, index: int = 0) -> tuple[int, str, str]:
        """Template version, image and instance type of the `index`-th launch of a configuration."""
        template = self.templates[configuration.template_id]
        number = self.version_number(template, configuration.version)
        data = template.versions[number]
        image, kind = data.get("ImageId", ""), data.get("InstanceType", "")
        overrides = configuration.overrides
        if overrides:
            override = overrides[index % len(overrides)]
            image, kind = override.get("ImageId", image), override.get("InstanceType", kind)
        image = self.image_named(image)
        if image not in self.images:
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
        if kind not in self.types:
            raise Refused("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
        return number, image, kind

    # -- faults ---------------------------------------------------------------------------------------------------

    def struck(self, kind: str, host: Host) -> Fault | None:
        """The fault of a kind that strikes a host, if one does; judged by the time of the host's launch."""
        for fault in self.faults:
            if fault.kind == kind and fault.covers_host(
                is_new=host.new, ordinal=host.ordinal, now=max(host.launched, 0.0)
            ):
                return fault
        return None

    def struck_now(self, kind: str, host: Host) -> Fault | None:
        """Like `struck`, judged by the time that it is now."""
        for fault in self.faults:
            if fault.kind == kind and fault.covers_host(is_new=host.new, ordinal=host.ordinal, now=self.t):
                return fault
        return None

    def is_useless(self, host: Host) -> bool:
        """Whether a fault keeps a host from serving tasks at all: whoever counts it in service is mistaken."""
        return bool(self.struck("agent-never-connects", host) or self.struck_now("task-will-not-start", host))

    def _plant(self) -> None:
        """Put the faults that come by themselves on the calendar."""
        for fault in self.faults:
            if fault.kind == "alarm-fires":
                if fault.name and fault.name not in self.alarms:
                    self.alarms[fault.name] = "OK"
                self.at(fault.after, self._alarm, fault, "ALARM")
                if fault.until is not None:
                    self.at(fault.until, self._alarm, fault, "OK")
            elif fault.kind in ("spot-interruption", "scale-out-mid-way"):
                self.at(fault.after, self.groups.suffer, fault)
            elif fault.kind == "deploy-mid-way":
                self.at(fault.after, self.scheduler.suffer, fault)
            elif fault.kind == "template-edited":
                self.at(fault.after, self._edit, fault)

    def _alarm(self, fault: Fault, state: str) -> None:
        name = fault.name or next(iter(self.alarms), "")
        if name:
            self.alarms[name] = state
            self.note(f"alarm {name} is {state}")
            self.timeline.mark(f"alarm {state}")
            self.groups.alarm_changed()

    def _edit(self, fault: Fault) -> None:
        group = self.groups.named(fault.group) if fault.group else next(iter(self.groups.all.values()))
        template = self.templates[group.configuration.template_id]
        number = template.next_number
        source = template.versions[self.version_number(template, group.configuration.version)]
        template.versions[number] = {**source, "UserData": "ZWRpdGVkCg=="}
        template.descriptions[number] = "edited by somebody else"
        template.created[number] = self.t
        template.next_number += 1
        template.default = number
        self.note(f"somebody made version {number} of {template.name} its default")

    # -- calls ----------------------------------------------------------------------------------------------------

    def call(self, service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one call as AWS would. `service` is botocore's name of the client, parameters are checked before.

        Raises Refused where AWS refuses, UsageError where the model does not know the operation or a parameter.
        """
        self.advance_to(self.clock.now())
        name = f"{service}.{operation}"
        known = answers.OPERATIONS.get(name)
        if known is None:
            same = [one for one in sorted(answers.OPERATIONS) if one.startswith(f"{service}.")]
            services = sorted({one.split(".")[0] for one in answers.OPERATIONS})
            raise UsageError(
                f"the fleet model has no {name}",
                expected=f"one of {', '.join(same)}" if same else f"a service of {', '.join(services)}",
                where="pipeline/rehearsal/fleet",
                remedy="rehearse this document with --answers, or leave the call out",
            )
        unknown = [key for key in parameters if key not in known.understands]
        if unknown:
            raise UsageError(
                f"the fleet model does not understand {', '.join(unknown)} of {name}",
                expected=f"only {', '.join(sorted(known.understands)) or 'no parameter'}",
                where="pipeline/rehearsal/fleet",
                remedy="leave the parameter out, or rehearse this document with --answers",
            )
        count = self.calls[name] = self.calls.get(name, 0) + 1
        if self.faults:
            self._refuse_by_fault(name, count)
        answer = known.function(self, parameters)
        if known.changes:
            self.settle()
        if any(self._strikes_call(fault, "answer-lost", name, count) for fault in self.faults):
            self.note(f"the answer of {name} is lost")
            raise Refused("InternalFailure", "The answer was lost (a fault of this rehearsal).", status=500)
        return answer

    def _refuse_by_fault(self, name: str, count: int) -> None:
        for fault in self.faults:
            if self._strikes_call(fault, "throttling", name, count):
                raise Refused("ThrottlingException", "Rate exceeded", status=400)
            if self._strikes_call(fault, "api-error", name, count):
                raise Refused(fault.code, "An internal error has occurred (a fault of this rehearsal).", status=500)

    def _strikes_call(self, fault: Fault, kind: Kind, name: str, count: int) -> bool:
        """Whether a fault is of a kind and strikes the `count`-th call of an operation."""
        if fault.kind != kind or fault.operation not in ("", name):
            return False
        if not fault.covers_time(self.t) or count < fault.on_call:
            return False
        return fault.times is None or count < fault.on_call + fault.times

    # -- what came of it ------------------------------------------------------------------------------------------

    def broken(self, expectations: Expectations = Expectations()) -> tuple[Broken, ...]:  # noqa: B008 - frozen
        """Every invariant that does not hold, over the whole history and as things are now."""
        self.advance_to(self.clock.now())
        return self.watch.broken(expectations)
