"""Choices of aws:branch and the condition of aws:loop. Source: User Guide, automation-action-branch."""

from collections.abc import Iterator
from typing import Final

from pipeline.runbook import language
from pipeline.runbook.lint.aws import near
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import Node
from pipeline.runbook.lint.references import resolve
from pipeline.runbook.lint.view import Document, Step, references

_KNOWN: Final = ("Variable", "NextStep", *language.CONDITION_OPERATIONS, *language.LOGICAL_OPERATORS)


def conditions(document: Document) -> Iterator[Found]:
    """Every condition has a variable and one operator, and compares what can be compared."""
    steps = document.steps_by_name()
    for step in document.all_steps():
        if step.action == "aws:branch":
            listed = step.inputs.get("Choices")
            for choice in listed.values if listed is not None else ():
                if choice.kind == "map" and "NextStep" not in choice.items:
                    yield Found("bad-condition", choice.span, "a choice needs a NextStep")
                yield from _condition(document, step, steps, choice)
        elif step.action == "aws:loop" and (condition := step.inputs.get("LoopCondition")) is not None:
            yield from _condition(document, step, steps, condition)


def _condition(document: Document, step: Step, steps: dict[str, Step], node: Node) -> Iterator[Found]:
    if node.kind != "map":
        yield Found("bad-condition", node.span, "a condition has to be a mapping")
        return
    for key in node.items:
        if key not in _KNOWN:
            yield Found("bad-condition", node.key(key), f"there is no operator {key}{near(key, _KNOWN)}")
    logical = [key for key in language.LOGICAL_OPERATORS if key in node.items]
    for key in logical:
        inner = node.items[key]
        for one in inner.values if inner.kind == "list" else [inner]:
            yield from _condition(document, step, steps, one)
    operators = [key for key in language.CONDITION_OPERATIONS if key in node.items]
    if logical:
        return
    if "Variable" not in node.items or not operators:
        yield Found("bad-condition", node.span, "a condition needs a Variable and an operator")
        return
    variable = node.items["Variable"]
    whole = [reference for reference in references(variable) if reference.whole]
    if not whole:
        yield Found("bad-condition", variable.span, "Variable has to be one reference, or the choice never changes")
        return
    kind = resolve(document, step, whole[0], steps).type
    for key in operators:
        wanted = (
            "String"
            if key in language.STRING_OPERATIONS
            else "Integer"
            if key in language.NUMERIC_OPERATIONS
            else "Boolean"
        )
        if kind is not None and kind != wanted:
            yield Found("bad-condition", node.key(key), f"{key} compares a {wanted}, and {whole[0].name} is a {kind}")
        operand = node.items[key]
        fits = {"String": "string", "Integer": "integer", "Boolean": "boolean"}[wanted]
        if operand.kind != fits and "{{" not in operand.string:
            yield Found("bad-condition", operand.span, f"{key} compares with a {wanted}, found {operand.scalar!r}")
        declared = document.parameters.get(whole[0].name)
        if declared is not None and key == "StringEquals" and declared.node.get("allowedValues") is not None:
            allowed = [value.scalar for value in declared.node.items["allowedValues"].values]
            if operand.scalar not in allowed and "{{" not in operand.string:
                yield Found("bad-condition", operand.span, f"{whole[0].name} is never {operand.scalar!r}")
