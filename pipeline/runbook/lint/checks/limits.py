"""Numbers that AWS sets, where the document shows what they will be. Source: `pipeline/runbook/language.py`."""

import re
from collections.abc import Iterator
from typing import Final

from pipeline.runbook import language
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import Node
from pipeline.runbook.lint.view import Document, Step

_DURATION: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_WAITING: Final = frozenset(
    {"aws:approve", "aws:waitForAwsResourceProperty", "aws:changeInstanceState", "aws:runCommand"}
)


def _number(node: Node | None) -> int | None:
    if node is None:
        return None
    if isinstance(node.scalar, int) and not isinstance(node.scalar, bool):
        return node.scalar
    return int(node.string) if node.string.isdigit() else None


def timeouts(document: Document) -> Iterator[Found]:
    """Steps that wait say how long; no step is promised longer than AWS lets it run."""
    for step in document.all_steps():
        seconds = _number(step.node.get("timeoutSeconds"))
        action = step.kind
        if action is None:
            continue
        most = action.max_seconds
        if step.action == "aws:executeAwsApi":
            most = language.LIMITS.api_seconds
        if seconds is not None and most is not None and seconds > most:
            message = f"{step.action} runs {most} s at most, whatever is written here"
            yield Found("timeout-too-long", step.span("timeoutSeconds"), message)
        if step.action in _WAITING and "timeoutSeconds" not in step.node.items:
            usual = action.default_seconds
            told = f"it waits {_words(usual)}" if usual is not None else "how long it waits is not documented"
            yield Found("no-timeout", step.name_span, f"{step.name} waits and has no timeoutSeconds: {told}")


def _words(seconds: int) -> str:
    return f"{seconds // 86_400} days" if seconds % 86_400 == 0 else f"{seconds} s"


def durations(document: Document) -> Iterator[Found]:
    """A sleep is ISO 8601, and no longer than AWS sleeps."""
    for step in document.all_steps():
        node = step.inputs.get("Duration")
        if step.action != "aws:sleep" or node is None or node.kind != "string" or "{{" in node.string:
            continue
        match = _DURATION.fullmatch(node.string)
        if match is None or not any(match.groups()):
            yield Found("bad-duration", node.span, f"{node.scalar!r} is no duration of ISO 8601, such as PT10M")
            continue
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        whole = days * 86_400 + hours * 3600 + minutes * 60 + seconds
        if whole > language.LIMITS.sleep_seconds:
            yield Found("over-the-limit", node.span, f"{whole} s: a sleep has {language.LIMITS.sleep_seconds} at most")


def loops(document: Document) -> Iterator[Found]:
    """A loop has 100 iterations at most, and its condition can change."""
    for step in document.all_steps():
        if step.action != "aws:loop":
            continue
        iterators, most = step.inputs.get("Iterators"), step.inputs.get("MaxIterations")
        limit = language.LIMITS.loop_iterations
        if iterators is not None and len(iterators.values) > language.LIMITS.loop_iterators:
            yield Found(
                "over-the-limit", iterators.span, f"{len(iterators.values)} iterators: a loop has {limit} at most"
            )
        number = _number(most)
        if most is not None and number is not None and number > limit:
            yield Found("over-the-limit", most.span, f"{number} iterations: a loop has {limit} at most")
        yield from _condition(step)


def _condition(step: Step) -> Iterator[Found]:
    condition = step.inputs.get("LoopCondition")
    if condition is None or not step.steps:
        return
    inner = {one.name for one in step.steps}
    for node in condition.walk():
        text = node.string
        if "{{" not in text:
            continue
        if "variable:" in text or "loop." in text or any(re.search(rf"\b{re.escape(name)}\.", text) for name in inner):
            return
        if f"{step.name}." in text:
            return
    yield Found("loop-never-changes", step.inputs.key("LoopCondition"), "nothing in the loop changes its condition")


def given_parameters(document: Document) -> Iterator[Found]:
    """What one document gives another: 512 characters a value, 50 values a parameter, 200 parameters."""
    limits = language.LIMITS
    for step in document.all_steps():
        if step.action == "aws:executeAutomation":
            given = step.inputs.get("RuntimeParameters")
        elif step.inputs.text("Api") == "StartAutomationExecution":
            given = step.inputs.get("Parameters")
        else:
            continue
        for name, node in given.items.items() if given is not None else ():
            if len(node.values) > limits.parameter_values:
                message = f"{len(node.values)} values: a parameter has {limits.parameter_values} at most"
                yield Found("over-the-limit", node.span, message)
            for value in node.values or [node]:
                if len(value.string) > limits.parameter_value_characters:
                    most = limits.parameter_value_characters
                    yield Found(
                        "over-the-limit", value.span, f"{len(value.string)} characters: {name} has {most} at most"
                    )
