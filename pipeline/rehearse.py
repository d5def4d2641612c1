"""`./run rehearse`: fleets in; every case executed with the real documents, and a table of how each ended, out.

A case is good when the fleet ends on the old image or on the new one, whole, with nothing left behind, and capacity was
never below what was desired. Where a call is refused for good no document can end well: there the fleet has to be good
after the refusals have ended and RollBack was started again.
"""

import html
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from pipeline.clock import VirtualClock
from pipeline.documents import PREFIX, document_named
from pipeline.engine import model_seams
from pipeline.errors import ExecutionError, UsageError
from pipeline.progress import duration
from pipeline.rehearsal.fleet.cases import WAYS_BACK, Case, cases_of, parse_case
from pipeline.rehearsal.fleet.invariants import Broken, Expectations
from pipeline.rehearsal.fleet.picture import picture
from pipeline.rehearsal.fleet.spec import FleetSpec, fleet_named
from pipeline.rehearsal.fleet.world import World
from pipeline.runbook.document import Document
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Moment, Verdict
from pipeline.runbook.trace import Execution
from pipeline.whole_file import write_whole

SHAPES: Final = ("twenty", "single", "tight", "managed-draining", "gpu")
TAKES_A_TASK: Final = ("drain-stuck", "spot-interruption")
TAKES_CAPACITY: Final = ("spot-interruption",)

Documents = Callable[[str], Document]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a case ended: `ended` is `new`, `old`, or `recovered` (old after a second start of RollBack)."""

    case: str
    status: str
    ended: str
    seconds: float
    reason: str
    broken: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.broken


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A case executed: what came of it, and the world and executions as they are at its end."""

    outcome: Outcome
    world: World
    executions: tuple[Execution, ...]


@cache
def fleet_of(name: str) -> FleetSpec:
    """The fleet of that name, read once: thousands of cases begin with it."""
    return fleet_named(name)


def rehearse_case(case: Case, documents: Documents = document_named) -> Rehearsal:
    """Execute one case and judge it. Raises UsageError for a step that the document does not have."""
    steps = [step.name for step in documents(f"{PREFIX}RollFleet").steps]
    if case.act and case.step not in steps:
        raise UsageError(
            f"RollFleet has no step {case.step}, so nothing would be done to it",
            expected=", ".join(steps),
            found=str(case),
            where="--case",
        )
    spec = fleet_of(case.fleet)
    clock = VirtualClock()
    world = World(spec, clock, switches=case.switches, faults=(case.fault,) if case.fault else ())
    group = spec.groups[0].name

    def interrupt(moment: Moment) -> Verdict:
        here = moment.depth == 0 and moment.when == case.when and moment.step == case.step
        return case.act if here and case.act else "go"

    calm = replace(model_seams(world), documents=documents)
    seams = replace(calm, interrupt=interrupt)
    given: dict[str, Any] = {"Group": group}
    if case.fault and case.fault.kind == "alarm-fires":
        given["Alarms"] = [spec.alarms[0].name]
    executions = [execute(documents(f"{PREFIX}RollFleet"), given, seams)]
    first = executions[0]
    if case.act == "die":
        # What an operator does then: start the same again; where that says no, go back.
        executions.append(execute(documents(f"{PREFIX}RollFleet"), given, calm))
        if executions[-1].status != "Success":
            executions.append(execute(documents(f"{PREFIX}RollBack"), {"Group": group}, calm))
    recovered = ""
    broken = world.broken(_expected(case, first, world))
    if broken and case.fault and case.fault.kind == "api-error" and case.fault.times is None:
        world.faults = ()
        executions.append(execute(documents(f"{PREFIX}RollBack"), {"Group": group}, calm))
        broken = world.broken(_expected(case, first, world))
        recovered = "recovered"
    new = sum(host.new for host in world.groups.all[group].hosts.values())
    return Rehearsal(
        outcome=Outcome(
            case=str(case),
            status=first.status,
            ended=recovered or ("new" if new else "old"),
            seconds=(clock.now() - world.began).total_seconds(),
            reason=_reason(first),
            broken=tuple(str(one) for one in (*broken, *_lies(executions[-1], world, group))),
        ),
        world=world,
        executions=tuple(executions),
    )


def _expected(case: Case, first: Execution, world: World) -> Expectations:
    """What is asked of a case: less of its capacity and tasks only where the fault itself takes them away."""
    kind = case.fault.kind if case.fault else ""
    surge = case.fleet in ("twenty", "single")
    calm = not case.act and not case.fault and not case.switches.flipped()
    hosts = world.spec.groups[0].desired
    # Where root volumes are replaced, one host at a time is out of service.
    swaps = any(one.strategy == "ReplaceRootVolume" for group in world.groups.all.values() for one in group.refreshes)
    kept = (hosts - 1) * 100 // hosts if swaps else 100
    low = 0 if kind in TAKES_CAPACITY else kept
    # A swapped host cannot come back to the cluster then, and ECS's own draining begins when Auto Scaling ends a host,
    # whether ECS knows the host's successor or not.
    drained_early = kind == "agent-never-connects" and (
        swaps or any(one.managed_draining for one in world.spec.clusters)
    )
    return Expectations(
        capacity=low,
        ready=0 if drained_early else low,
        kills=kind in TAKES_A_TASK,
        moves=1 if calm and surge and first.status == "Success" else None,
    )


def _lies(last: Execution, world: World, group: str) -> Iterator[Broken]:
    """An execution that says Success has to have done it: all hosts on one image, RollFleet's on the new one."""
    hosts = list(world.groups.all[group].hosts.values())
    wanted = not last.document.endswith("RollBack")
    done = last.outputs.get("Preflight.State") == "go" or not wanted
    if last.status == "Success" and done and any(host.new != wanted for host in hosts):
        if not wanted and last.outputs.get("Look.State") == "nothing":
            return
        yield Broken(rule="says what it did", what=f"{last.document} says Success", at=world.t)


def _reason(execution: Execution) -> str:
    failed = [step for step in execution.steps if step.status in ("Failed", "TimedOut")]
    return failed[-1].failure if failed else execution.failure


# -- many -------------------------------------------------------------------------------------------------------------


def all_cases(fleet: str, *, thorough: bool, documents: Documents = document_named) -> list[Case]:
    """Every case of a fleet, found by an undisturbed roll of it."""
    calm = rehearse_case(Case(fleet=fleet), documents)
    steps = list(dict.fromkeys(step.name for step in calm.executions[0].steps if step.status != "Pending"))
    backs = {
        step: rehearse_case(Case(fleet=fleet, act="cancel", step=step), documents).world.calls
        for step in WAYS_BACK
        if step in steps
    }
    alarm = bool(calm.world.spec.alarms)
    return list(cases_of(fleet, steps, calm.world.calls, backs, alarm=alarm, thorough=thorough))


def judge(text: str) -> Outcome:
    """One case by its text, for a process of its own. An error of the rehearsal itself counts as a broken rule."""
    try:
        return rehearse_case(parse_case(text)).outcome
    except Exception as error:  # a document that upsets the executor is a finding too
        return Outcome(
            case=text, status="", ended="", seconds=0, reason="", broken=(f"{type(error).__name__}: {error}",)
        )


def judge_all(cases: Sequence[Case], *, jobs: int, say: Callable[[str], None]) -> list[Outcome]:
    """Every case, on several cores."""
    texts = [str(case) for case in cases]
    if jobs == 1:
        return [judge(text) for text in texts]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        for outcome in pool.map(judge, texts, chunksize=16):
            outcomes.append(outcome)
            if len(outcomes) % 500 == 0:
                say(f"{len(outcomes)} of {len(texts)} cases")
    return outcomes


def rehearse(*, fleets: Sequence[str], case: str, quick: bool, report: str, say: Callable[[str], None]) -> None:
    """Rehearse fleets, or one case. Raises ExecutionError when a rule was broken."""
    if case:
        _show_one(parse_case(case), report, say)
        return
    began = time.monotonic()
    cases = [one for fleet in fleets or SHAPES for one in all_cases(fleet, thorough=not quick)]
    say(f"{len(cases)} cases over {', '.join(fleets or SHAPES)}")
    outcomes = judge_all(cases, jobs=os.cpu_count() or 1, say=say)
    took = time.monotonic() - began
    say(table_of(outcomes))
    say(f"{len(outcomes)} cases in {duration(took)}, {len(outcomes) / took * 60:.0f} a minute")
    if report:
        path = Path(report)
        write_whole(path, page(outcomes, fleets or SHAPES))
        say(f"report: {path}")
    broken = [one for one in outcomes if not one.good]
    if broken:
        raise ExecutionError(
            f"{len(broken)} of {len(outcomes)} cases break a rule",
            expected="a fleet that ends whole, on the old image or the new one, in every case",
            found="\n".join(f"{one.case}: {one.broken[0]}" for one in broken[:10]),
            where="the documents in ssm-documents/",
            remedy=f"see how one comes about: ./run rehearse --case '{broken[0].case}'",
        )


def _show_one(case: Case, report: str, say: Callable[[str], None]) -> None:
    rehearsal = rehearse_case(case)
    for execution in rehearsal.executions:
        _show_steps(execution, say, 0)
    for at, text in rehearsal.world.log:
        say(f"{duration(at):>12}  {text}")
    outcome = rehearsal.outcome
    say(f"{outcome.status}, ended {outcome.ended} after {duration(outcome.seconds)}")
    if report:
        write_whole(Path(report), _picture_of(rehearsal))
        say(f"picture: {report}")
    if not outcome.good:
        raise ExecutionError("this case breaks a rule", found="\n".join(outcome.broken), where=outcome.case)


def _show_steps(execution: Execution, say: Callable[[str], None], depth: int) -> None:
    say(f"{'  ' * depth}{execution.document}: {execution.status}")
    for step in execution.steps:
        if step.status != "Pending":
            say(f"{'  ' * depth}  {step.name}: {step.status} {step.failure}".rstrip())
    for child in execution.children:
        _show_steps(child, say, depth + 1)


def table_of(outcomes: Sequence[Outcome]) -> str:
    """How many cases ended how, by what was done to them."""
    table = Table(box=None, pad_edge=False)
    for title in ("fleet", "what happens", "cases", "new", "old", "recovered", "broken"):
        table.add_column(title, justify="left" if title in ("fleet", "what happens") else "right")
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for outcome in outcomes:
        counts = kinds.setdefault(_kind(outcome.case), Counter())
        counts["cases"] += 1
        counts["broken" if outcome.broken else outcome.ended] += 1
    for (fleet, kind), counts in sorted(kinds.items()):
        table.add_row(
            fleet, kind, *(str(counts[name] or "") for name in ("cases", "new", "old", "recovered", "broken"))
        )
    console = Console(width=100, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def _kind(case: str) -> tuple[str, str]:
    fleet, *parts = [part.strip() for part in case.split(";")]
    for part in parts:
        words = part.split()
        if words[0] in ("cancel", "die"):
            return fleet, f"{words[0]} {words[1]} a step"
        if words[0] == "fault":
            return fleet, words[1]
    return fleet, "open question" if parts else "nothing"


def _picture_of(rehearsal: Rehearsal) -> str:
    desired = rehearsal.world.spec.groups[0].desired
    return picture(rehearsal.world.timeline, title=rehearsal.outcome.case, desired=desired)


def page(outcomes: Sequence[Outcome], fleets: Sequence[str]) -> str:
    """The report as one HTML page: pictures of a good roll and of one that goes back, the table, what is broken."""
    pictures = []
    for fleet in fleets:
        for case in (Case(fleet=fleet), parse_case(f"{fleet}; fault coverage-unhealthy first=1")):
            pictures.append(f"<figure>{_picture_of(rehearse_case(case))}</figure>")
    broken = "".join(
        f"<tr><td><code>{html.escape(one.case)}</code></td><td>{html.escape('; '.join(one.broken))}</td></tr>"
        for one in outcomes
        if not one.good
    )
    verdict = (
        f"<table><tr><th>case</th><th>broken</th></tr>{broken}</table>" if broken else "<p>No rule was broken.</p>"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Ovenproof rehearsal</title>'
        "<style>body{font:15px/1.5 sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
        "pre{overflow-x:auto}figure{margin:1.5rem 0}td{padding:.2rem .6rem;vertical-align:top}</style>"
        f"<h1>Rehearsal: {len(outcomes)} cases</h1>{verdict}<pre>{html.escape(table_of(outcomes))}</pre>"
        + "".join(pictures)
        + "</html>"
    )
