"""Paths through the steps: what is reached, what has run before, what never ends.

The graph has an edge for success (nextStep, the next in order, a branch's choices), for failure (onFailure, Continue)
and for cancellation (onCancel). Source: User Guide, automation-actions and automation-action-branch.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from pipeline.runbook.lint.checks.names import choices
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.references import resolve
from pipeline.runbook.lint.view import Document, Step, references_under

SUCCESS: Final = "success"
FAILURE: Final = "failure"
CANCEL: Final = "cancel"


class Edge(NamedTuple):
    """From one step to another of the same list, and in which case."""

    source: Step
    target: Step
    case: str


def edges(steps: list[Step]) -> list[Edge]:
    """Every edge between the steps of one list; where a target does not exist there is none."""
    by_name = {step.name: step for step in reversed(steps) if step.name}
    made: list[Edge] = []
    for step in steps:
        for target in _after_success(step, by_name):
            made.append(Edge(step, target, SUCCESS))
        for name in _jumps_out(step):
            if name in by_name:
                made.append(Edge(step, by_name[name], FAILURE))
        if step.flag("isEnd"):
            if step.target("onCancel") in by_name:
                made.append(Edge(step, by_name[step.target("onCancel")], CANCEL))
            if step.target("onFailure") in by_name:
                made.append(Edge(step, by_name[step.target("onFailure")], FAILURE))
            continue
        if step.node.text("onFailure") == "Continue":
            made += [Edge(step, target, FAILURE) for target in _after_success(step, by_name)]
        elif step.target("onFailure") in by_name:
            made.append(Edge(step, by_name[step.target("onFailure")], FAILURE))
        if step.target("onCancel") in by_name:
            made.append(Edge(step, by_name[step.target("onCancel")], CANCEL))
    return made


def _jumps_out(loop: Step) -> Iterator[str]:
    """The names that steps inside a loop go to; those of its own list are no names outside."""
    for step in loop.steps:
        yield from (step.target("onFailure"), step.target("onCancel"), step.node.text("nextStep"))
        yield from (name for name, _ in choices(step))
        yield from _jumps_out(step)


def _after_success(step: Step, by_name: dict[str, Step]) -> list[Step]:
    if step.action == "aws:branch":
        named = [by_name[name] for name, _ in choices(step) if name in by_name]
        if "Default" in step.inputs.items or step.flag("isEnd"):
            return named
        return [*named, step.following] if step.following is not None else named
    if step.flag("isEnd"):
        return []
    following = step.node.text("nextStep")
    if following:
        return [by_name[following]] if following in by_name else []
    return [step.following] if step.following is not None else []


def reachable(steps: list[Step], links: list[Edge], cases: tuple[str, ...] = (SUCCESS, FAILURE, CANCEL)) -> set[Step]:
    """The steps that can be come to from the first."""
    after: dict[Step, list[Step]] = {}
    for edge in links:
        if edge.case in cases:
            after.setdefault(edge.source, []).append(edge.target)
    seen: set[Step] = set()
    waiting = steps[:1]
    while waiting:
        step = waiting.pop()
        if step not in seen:
            seen.add(step)
            waiting.extend(after.get(step, ()))
    return seen


def lists(document: Document) -> Iterator[list[Step]]:
    """The main list of steps, and that of each loop."""
    yield document.steps
    for step in document.all_steps():
        if step.steps:
            yield step.steps


def unreachable_steps(document: Document) -> Iterator[Found]:
    """Steps that no path leads to."""
    for steps in lists(document):
        seen = reachable(steps, edges(steps))
        for step in steps:
            if step not in seen:
                yield Found("unreachable-step", step.name_span, f"no path leads to {step.name}")


def endless_loops(document: Document) -> Iterator[Found]:
    """Rings of steps that only a failure ends."""
    for steps in lists(document):
        links = [edge for edge in edges(steps) if edge.case == SUCCESS]
        after: dict[Step, set[Step]] = {step: set() for step in steps}
        for edge in links:
            after[edge.source].add(edge.target)
        ends = {step for step in steps if not after[step] or step.flag("isEnd") or _may_fall_off(step, steps)}
        while True:
            more = {step for step in steps if step not in ends and after[step] & ends}
            if not more:
                break
            ends |= more
        stuck = [step for step in steps if step not in ends and step in reachable(steps, edges(steps))]
        if stuck:
            names = " and ".join(step.name for step in stuck[:3])
            yield Found(
                "endless-loop", stuck[0].name_span, f"from {names} no path leads to an end; only a failure stops it"
            )


def _may_fall_off(step: Step, steps: list[Step]) -> bool:
    """A branch without a default that is the last one ends when nothing matches."""
    return step.action == "aws:branch" and "Default" not in step.inputs.items and step is steps[-1]


def branches(document: Document) -> Iterator[Found]:
    """A branch says where it goes when nothing matches."""
    for step in document.all_steps():
        if step.action == "aws:branch" and "Default" not in step.inputs.items and not step.flag("isEnd"):
            where = f"it goes on to {step.following.name}" if step.following is not None else "the execution ends there"
            yield Found("no-default", step.name_span, f"when no choice matches, {where}; say Default, or isEnd")


def succeeded_before(steps: list[Step], start: frozenset[Step]) -> dict[Step, tuple[frozenset[Step], frozenset[Step]]]:
    """For each step: the ones that succeeded on every path to it, and the ones that did on some path."""
    into: dict[Step, list[Edge]] = {step: [] for step in steps}
    for edge in edges(steps):
        into[edge.target].append(edge)
    everything = frozenset(steps) | start
    always: dict[Step, frozenset[Step]] = dict.fromkeys(steps, everything)
    ever: dict[Step, frozenset[Step]] = dict.fromkeys(steps, start)
    changed = True
    while changed:
        changed = False
        for number, step in enumerate(steps):
            ways = [_after(always, edge) for edge in into[step]]
            sometimes = [_after(ever, edge) for edge in into[step]]
            if number == 0:
                ways.append(start)
                sometimes.append(start)
            now = frozenset.intersection(*ways) if ways else everything
            some = frozenset.union(*sometimes) if sometimes else start
            if now != always[step] or some != ever[step]:
                always[step], ever[step], changed = now, some, True
    return {step: (always[step], ever[step]) for step in steps}


def _after(before: dict[Step, frozenset[Step]], edge: Edge) -> frozenset[Step]:
    known = before[edge.source]
    return known | {edge.source, *edge.source.steps} if edge.case == SUCCESS else known - {edge.source}


def outputs_in_time(document: Document) -> Iterator[Found]:
    """Outputs are used after their step ran. What AWS does with one that is not there is a failure of the step."""
    by_name = document.steps_by_name()
    yield from _in_time(document, document.steps, frozenset(), by_name)


def _in_time(
    document: Document, steps: list[Step], start: frozenset[Step], by_name: dict[str, Step]
) -> Iterator[Found]:
    before = succeeded_before(steps, start)
    for step in steps:
        always, ever = before[step]
        for key, node in step.inputs.items.items():
            if (step.action == "aws:executeScript" and key == "Script") or (step.steps and key == "Steps"):
                continue
            for reference in references_under(node):
                producer = resolve(document, step, reference, by_name).producer
                if producer is None or (producer.parent is not None and producer.parent not in _around(step)):
                    continue
                if producer in always:
                    continue
                if producer not in ever:
                    when = "itself" if producer is step else f"{producer.name}, which has not run when {step.name} does"
                    yield Found("output-too-early", reference.span, f"{reference.name} is an output of {when}")
                elif step.action != "aws:branch":  # there an output that is not set is simply no match
                    message = f"on some path {producer.name} has not succeeded when {step.name} runs"
                    yield Found("output-not-sure", reference.span, message)
        if step.steps:
            # inside, what was there before the loop is there, and what earlier rounds left may be
            yield from _in_time(document, step.steps, always, by_name)


def _around(step: Step) -> list[Step]:
    found: list[Step] = []
    while step.parent is not None:
        found.append(step.parent)
        step = step.parent
    return found
