"""What a rehearsal tries: every step with every cancel, every death of the engine, every fault, every open question.

A case is a value with a text form, so that whoever reads of a broken rule can run that very case again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal, get_args

from pipeline.errors import UsageError
from pipeline.rehearsal.fleet.faults import Fault, Kind
from pipeline.rehearsal.fleet.switches import Switches

When = Literal["before", "after"]
Act = Literal["", "cancel", "die"]

CHANGING: Final = (
    "autoscaling.CancelInstanceRefresh",
    "autoscaling.CompleteLifecycleAction",
    "autoscaling.CreateOrUpdateTags",
    "autoscaling.DeleteLifecycleHook",
    "autoscaling.PutLifecycleHook",
    "autoscaling.RollbackInstanceRefresh",
    "autoscaling.StartInstanceRefresh",
    "autoscaling.TerminateInstanceInAutoScalingGroup",
    "ec2.CreateLaunchTemplateVersion",
    "ecs.UpdateContainerInstancesState",
    "ssm.SendCommand",
)
"""Every operation with which our documents change something, or begin something on a host."""

READING: Final = (
    "autoscaling.DescribeAutoScalingGroups",
    "autoscaling.DescribeInstanceRefreshes",
    "ecs.DescribeContainerInstances",
    "ecs.DescribeServices",
    "ecs.ListTasks",
    "guardduty.ListCoverage",
    "ssm.ListCommandInvocations",
)
"""Those that the documents wait by."""

WAYS_BACK: Final[tuple[str, ...]] = ("StartRest", "Drain")
"""Steps before which a roll is cancelled to see each way back: by a refresh of its own, and from one under way."""

HOST_FAULTS: Final[tuple[Fault, ...]] = (
    *(
        Fault(kind=kind, first=first)
        for kind in (
            "insufficient-capacity",
            "task-will-not-start",
            "agent-never-connects",
            "ssm-never-online",
            "wrong-kernel",
            "unit-failed",
            "unit-flapping",
            "coverage-unhealthy",
            "coverage-absent",
            "coverage-late",
        )
        for first in (1, None)
    ),
    Fault(kind="coverage-late", seconds=300),
    Fault(kind="drain-stuck", image="old", first=1),
    Fault(kind="drain-stuck", image="old"),
)
TIMED: Final = tuple(
    Fault(kind=kind, after=after)
    for kind in ("alarm-fires", "spot-interruption", "scale-out-mid-way", "deploy-mid-way", "template-edited")
    for after in (1.0, 60.0, 130.0, 200.0, 260.0, 330.0)
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One rehearsal: a fleet, at most one act at a step, at most one fault, one set of switches."""

    fleet: str
    act: Act = ""
    when: When = "before"
    step: str = ""
    fault: Fault | None = None
    switches: Switches = field(default_factory=Switches)

    def __str__(self) -> str:
        parts = [self.fleet]
        if self.act:
            parts.append(f"{self.act} {self.when} {self.step}")
        if self.fault:
            parts.append("fault " + _fault_text(self.fault))
        parts += [f"switch {one}" for one in self.switches.flipped()]
        return "; ".join(parts)


def parse_case(text: str) -> Case:
    """A case from its text. Raises UsageError for one that cannot be read."""
    fleet, *parts = [part.strip() for part in text.split(";")]
    case = Case(fleet=fleet)
    try:
        for part in parts:
            kind, _, rest = part.partition(" ")
            if kind == "switch":
                name, _, value = rest.partition("=")
                if value not in Switches.choices()[name]:
                    raise ValueError(f"{name} is one of {', '.join(Switches.choices()[name])}")
                change = {name: value}
                case = replace(case, switches=replace(case.switches, **change))  # type: ignore[arg-type]
            elif kind == "fault":
                case = replace(case, fault=_fault(rest))
            elif kind in ("cancel", "die"):
                when, _, step = rest.partition(" ")
                if when not in get_args(When) or not step:
                    raise ValueError(f"{kind} before|after STEP")
                case = replace(case, act=kind, when=when, step=step)  # type: ignore[arg-type]
            else:
                raise ValueError(f"{kind} is neither cancel, die, fault nor switch")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "this is not a case of a rehearsal",
            expected="FLEET[; cancel|die before|after STEP][; fault KIND [name=value ...]][; switch NAME=VALUE]",
            found=f"{text}: {error}",
            where="--case",
            remedy="copy it from the rehearsal's table",
        ) from error
    return case


def _fault_text(fault: Fault) -> str:
    usual = Fault(kind=fault.kind)
    changed = [
        f"{one.name}={getattr(fault, one.name)}"
        for one in fields(fault)
        if one.name != "kind" and getattr(fault, one.name) != getattr(usual, one.name)
    ]
    return " ".join([fault.kind, *changed])


def _fault(text: str) -> Fault:
    kind, *pairs = text.split()
    if kind not in get_args(Kind):
        raise ValueError(f"{kind} is no fault: {', '.join(get_args(Kind))}")
    given: dict[str, object] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if value == "None":
            given[name] = None
        elif name in ("after", "until", "seconds"):
            given[name] = float(value)
        elif name in ("first", "on_call", "times", "count"):
            given[name] = int(value)
        else:
            given[name] = value
    return Fault(kind=kind, **given)  # type: ignore[arg-type]


def call_faults(called: dict[str, int]) -> Iterator[Fault]:
    """Faults of the calls that a roll makes: of each changing one at its first, second and last time, others twice."""
    for operation in (*CHANGING, *READING):
        count = called.get(operation, 0)
        if not count:
            continue
        on_calls = sorted({1, min(2, count), count}) if operation in CHANGING else [1, max(1, count // 2)]
        for on_call in on_calls:
            yield from _faults_of(operation, on_call)


def faults_back(called: dict[str, int]) -> Iterator[Fault]:
    """Faults of the last two calls of each changing operation, which are those of the way back where a roll went it."""
    for operation in CHANGING:
        count = called.get(operation, 0)
        for on_call in range(max(1, count - 1), count + 1):
            yield from _faults_of(operation, on_call)


def _faults_of(operation: str, on_call: int) -> Iterator[Fault]:
    """Refused once, a few times, for good; carried out, and nobody hears of it."""
    for code in ("InternalFailure", "AccessDenied"):
        yield Fault(kind="api-error", operation=operation, on_call=on_call, times=1, code=code)
    yield Fault(kind="throttling", operation=operation, on_call=on_call, times=3)
    if operation in CHANGING:
        yield Fault(kind="api-error", operation=operation, on_call=on_call, times=None, code="AccessDenied")
        yield Fault(kind="answer-lost", operation=operation, on_call=on_call)


def cases_of(
    fleet: str,
    steps: Sequence[str],
    called: dict[str, int],
    backs: Mapping[str, dict[str, int]],
    *,
    alarm: bool,
    thorough: bool,
) -> Iterator[Case]:
    """Every case of one fleet, from the steps and calls of its undisturbed roll, and from the calls of rolls that were
    cancelled, by the step before which they were.

    `thorough` crosses cancels and deaths with every open question; otherwise each meets the likelier answers only.
    """
    flips = Switches.every_single_flip()
    for switches in flips:
        yield Case(fleet=fleet, switches=switches)
    worlds = flips if thorough else flips[:1]
    for act in ("cancel", "die"):
        for when in get_args(When):
            for step in steps:
                for switches in worlds:
                    yield Case(fleet=fleet, act=act, when=when, step=step, switches=switches)
    for fault in (*HOST_FAULTS, *TIMED, *call_faults(called)):
        if fault.kind == "alarm-fires" and not alarm:
            continue
        for switches in worlds if fault in HOST_FAULTS else flips[:1]:
            yield Case(fleet=fleet, fault=fault, switches=switches)
    for step, calls in backs.items():
        for fault in faults_back(calls):
            yield Case(fleet=fleet, act="cancel", when="before", step=step, fault=fault)
