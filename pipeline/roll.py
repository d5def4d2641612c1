"""`./run roll`, `rollback` and `prove-fleet`: a group in; preflight, plan, progress, and predicted beside measured out.

`local` executes the rendered documents against the fleet model; `aws` starts the same documents in SSM Automation and
follows them. What is decided is decided by the documents: here it is started, watched and told.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline import paths
from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.clock import SystemClock
from pipeline.documents import PREFIX
from pipeline.engine import AwsEngine, Ended, Engine, Say, open_engine, open_guests
from pipeline.errors import ExecutionError, PolicyRefusal, UsageError
from pipeline.progress import Progress, duration
from pipeline.record import latest_record
from pipeline.roll_settings import group_times, service_times
from pipeline.roll_time import Lane, RollTime, predict
from pipeline.signals import as_interrupted

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

WINDOW_SECONDS: Final = 20


@dataclass(frozen=True, kw_only=True)
class RollRequest:
    """What the user asked for; empty values leave the document's own defaults."""

    group: str
    cluster: str = ""
    image: str = ""
    lane: str = ""
    canary: int = 1
    alarms: Sequence[str] = ()
    on_drain_timeout: str = ""
    calendar: str = ""

    def preflight_parameters(self) -> dict[str, Any]:
        """Parameters of Ovenproof-Preflight; Ovenproof-RollFleet has the same and more."""
        given = {
            "Group": self.group,
            "Cluster": self.cluster,
            "Image": self.image,
            "Lane": self.lane,
            "CanarySize": self.canary,
            "Alarms": list(self.alarms),
            "Calendar": self.calendar,
        }
        return {name: value for name, value in given.items() if value not in ("", [])}

    def roll_parameters(self) -> dict[str, Any]:
        """Parameters of Ovenproof-RollFleet."""
        more = {"OnDrainTimeout": self.on_drain_timeout} if self.on_drain_timeout else {}
        return self.preflight_parameters() | more


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What preflight said, and how long it will take."""

    state: Literal["go", "nothing", "already", "blocked"]
    reason: str
    findings: Sequence[Mapping[str, str]]
    values: Mapping[str, Any]
    time: RollTime | None


def plan_roll(engine: Engine, request: RollRequest, say: Say) -> Plan:
    """Run preflight, which changes nothing, and predict. Raises ExecutionError when preflight itself fails."""
    ended = engine.run(f"{PREFIX}Preflight", request.preflight_parameters(), say)
    if not ended.good:
        raise ended.error(
            f"preflight of {request.group} could not be held",
            found=f"{ended.status}: {ended.failure}",
            remedy="mend what it says; nothing was changed",
        )
    values = json.loads(ended.outputs["Look.Plan"])
    predicted = None
    if values["State"] == "go":
        group = group_times(
            hosts=values["Desired"],
            canary=values["Canary"] if values["CanaryPercent"] else values["Desired"],
            window=WINDOW_SECONDS,
            batch=max(1, values["Desired"] * (values["Preferences"].get("MaxHealthyPercentage", 110) - 100) // 100),
        )
        lane: Lane = values["Lane"]
        predicted = predict(lane, group, service_times(engine.session, values["Cluster"]))
    return Plan(
        state=values["State"],
        reason=values["Reason"],
        findings=json.loads(values["Findings"]),
        values=values,
        time=predicted,
    )


def plan_text(plan: Plan, request: RollRequest) -> str:
    """The plan for people: findings, lane with its reason, time with what dominates it."""
    console = Console(width=118, highlight=False)
    with console.capture() as capture:
        if plan.findings:
            table = Table(box=None, pad_edge=False)
            for title in ("level", "resource", "what", "do"):
                table.add_column(title, overflow="fold")
            for finding in sorted(plan.findings, key=lambda one: one["level"] != "blocker"):
                style = "red" if finding["level"] == "blocker" else "yellow"
                table.add_row(
                    f"[{style}]{finding['level']}[/]",
                    *(escape(str(finding[key])) for key in ("resource", "what", "do")),
                )
            console.print(table)
        values = plan.values
        if plan.state == "go" and plan.time:
            console.print(
                f"{request.group}: {values['Desired']} hosts, "
                f"{'canary ' + str(values['Canary']) if values['CanaryPercent'] else 'no canary'}, "
                f"from {values['FromImage']} (version {values['FromVersion']}) to {values['Image']}"
            )
            console.print(f"lane {values['Lane']}: {values['LaneReason']}", markup=False)
            if waived := waiver(plan):
                console.print(f"waived: {waived}", markup=False)
            parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in plan.time.parts)
            console.print(f"predicted {duration(plan.time.total)}: {parts}")
            console.print(f"what dominates: {plan.time.dominant}; floor {duration(plan.time.floor)}")
    return capture.get().rstrip()


def roll_with(engine: Engine, request: RollRequest, *, dry_run: bool, say: Say) -> tuple[Plan, Ended | None]:
    """Preflight, plan, and unless it is only to be planned the roll.

    Raises PolicyRefusal when preflight finds a blocker, and ExecutionError when the roll ends in anything but Success.
    """
    plan = plan_roll(engine, request, lambda _: None)
    say(plan_text(plan, request))
    if plan.state == "blocked":
        raise PolicyRefusal(
            f"{request.group} cannot be rolled as things are; nothing was changed",
            expected="no blocker",
            found=plan.reason,
            where=f"Auto Scaling group {request.group}",
            remedy="do what stands beside each blocker above, then start again",
        )
    if plan.state in ("nothing", "already"):
        say(f"{'nothing to do' if plan.state == 'nothing' else 'under way already'}: {plan.reason}")
        return plan, None
    if dry_run:
        say("dry run: nothing was changed")
        return plan, None
    ended = engine.run(f"{PREFIX}RollFleet", request.roll_parameters(), say)
    if not ended.good:
        raise ended.error(
            f"the roll of {request.group} ended {ended.status}",
            remedy="mend what it says; `./run prove-fleet` says what the group runs now",
        )
    if plan.time:
        say(f"rolled in {duration(ended.seconds)}, predicted {duration(plan.time.total)}")
    return plan, ended


def back_with(engine: Engine, group: str, say: Say) -> Ended:
    """Bring a group back to what it ran before its last roll. Raises ExecutionError when it does not get there."""
    return _run_or_raise(engine, "RollBack", {"Group": group}, f"the way back of {group}", say)


def prove_with(engine: Engine, *, group: str, instances: Sequence[str], say: Say) -> Ended:
    """Prove hosts. Raises ExecutionError when one does not prove itself."""
    given: dict[str, Any] = {"InstanceIds": list(instances)} if instances else {"Group": group}
    return _run_or_raise(engine, "ProveInstances", given, f"the proof of {group or ', '.join(instances)}", say)


def _run_or_raise(engine: Engine, name: str, parameters: Mapping[str, Any], what: str, say: Say) -> Ended:
    ended = engine.run(f"{PREFIX}{name}", parameters, say)
    if not ended.good:
        raise ended.error(f"{what} ended {ended.status}", remedy="read the step that failed, above")
    return ended


def roll(request: RollRequest, *, on: str, region: str, fleet: str, dry_run: bool, follow: str, say: Say) -> None:
    """Roll a group, or follow a roll that is under way in AWS. Raises what `roll_with` raises."""
    engine, world = open_engine(on, region, fleet)
    if follow:
        if not isinstance(engine, AwsEngine):
            raise UsageError("only an execution in AWS can be followed", expected="--on aws", where="--follow")
        ended = engine.follow(follow, say)
        if not ended.good:
            raise ExecutionError(f"the execution {follow} ended {ended.status}", found=ended.failure)
        return
    plan, ended_roll = roll_with(engine, request, dry_run=dry_run, say=say)
    if world is not None and ended_roll is not None:
        say(aftermath(world, plan))


def roll_guests(request: RollRequest, *, variant: str, flavour: str, fleet: str, dry_run: bool, say: Say) -> None:
    """Roll a fleet whose hosts are guests of this machine onto the image that was last proven here; none is left.

    Raises UsageError where no image was proven here, and what `roll_with` and `open_guests` raise.
    """
    from pipeline.rehearsal.target import open_local_target

    progress = Progress()
    with as_interrupted():
        catalog = load_catalog()
        selection = catalog.select(variant, flavour)
        record = latest_record(paths.local_root() / "records", variant=variant, flavour=flavour)
        if record is None:
            raise UsageError(
                "there is no image to roll guests onto",
                expected=f"an image of {selection.id} that was proven on this machine",
                found="none",
                where=str(paths.local_root() / "records"),
                remedy="bake one: ./run build-image",
            )
        [(region, image)] = record.images.items()
        cache = Cache(paths.cache_root(), progress.say)
        today = SystemClock().now().date()
        target = open_local_target(catalog, selection, region, today=today, cache=cache, progress=progress)
        say(f"booting guests of {record.base.name}: {record.base.id}")
        with open_guests(fleet, target.session, old=record.base.id, new=image) as (engine, world):
            say(f"{len(world.hosts)} guests are up")
            plan, ended = roll_with(engine, request, dry_run=dry_run, say=say)
            if ended is not None:
                say(aftermath(world, plan))


def rollback(group: str, *, on: str, region: str, fleet: str, say: Say) -> None:
    """Bring a group back. In the model nothing has been rolled yet, so it is rolled first."""
    engine, world = open_engine(on, region, fleet)
    if world is not None:
        say("the model begins before any roll: rolling it first")
        plan, _ = roll_with(engine, RollRequest(group=group), dry_run=False, say=say)
    ended = back_with(engine, group, say)
    say(f"back in {duration(ended.seconds)}: {ended.outputs.get('Drain.Reason') or ended.outputs.get('Look.Reason')}")
    if world is not None:
        say(aftermath(world, plan))


def prove_fleet(group: str, instances: Sequence[str], *, on: str, region: str, fleet: str, say: Say) -> None:
    """Prove a group's hosts, or the ones named."""
    if not group and not instances:
        raise UsageError("nothing to prove", expected="--group or --instance", where="./run prove-fleet")
    engine, _ = open_engine(on, region, fleet)
    ended = prove_with(engine, group=group, instances=instances, say=say)
    say(next((value for name, value in ended.outputs.items() if name.endswith(".Reason")), ended.status))


def aftermath(world: "World", plan: Plan) -> str:
    """What the model saw: how often tasks moved, how low capacity was, what was waived, every rule that was broken."""
    from pipeline.rehearsal.fleet.invariants import Expectations

    moves = ", ".join(f"{count} tasks {times} x" for times, count in world.watch.moves().items())
    lowest = min((group.lowest_serving[0] for group in world.groups.all.values()), default=1.0)
    lines = [f"moves: {moves or 'no task'}", f"capacity: never below {min(lowest, 1.0):.0%} of desired"]
    waived = waiver(plan)
    lines += [f"waived: {waived}"] if waived else []
    least = least_capacity(plan)
    broken = world.broken(Expectations(capacity=least, ready=least))
    lines += [f"broken: {one}" for one in broken] or [f"no {'other ' if waived else ''}rule of a roll was broken"]
    return "\n".join(lines)


def least_capacity(plan: Plan) -> int:
    """How much of the desired number of hosts the plan keeps, in percent."""
    return min(100, int(plan.values["Preferences"].get("MinHealthyPercentage", 100)))


def waiver(plan: Plan) -> str:
    """The rule that the lane cannot keep, and why; empty where it keeps all of them."""
    desired, least = plan.values["Desired"], least_capacity(plan)
    if least >= 100 or not desired:
        return ""
    why = (
        "a host is out of service while its root volume is swapped, and no other takes its place"
        if plan.values["Lane"] == "replace-root-volume"
        else "there is no room for one host more"
    )
    keeps = math.ceil(desired * least / 100)
    return f"capacity never below desired: {why}; {keeps} of {desired} hosts at least are kept"
