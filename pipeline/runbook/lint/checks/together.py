"""Documents that start each other, when both are looked at: names, types and needs of their parameters agree."""

from collections.abc import Iterator
from typing import Final

from pipeline.runbook.lint.aws import near
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import Node
from pipeline.runbook.lint.references import resolve
from pipeline.runbook.lint.view import Document, Step, references

_SCALARS: Final = {"String", "Integer", "Boolean"}


def other(document: Document, name: str) -> Document | None:
    """The document of a name: files leave out the prefix that the documents have in AWS."""
    for known, candidate in document.others.items():
        if name == known or (name.endswith(f"-{known}") and len(known) > 3):
            return candidate
    return None


def started_documents(document: Document) -> Iterator[Found]:
    """Parameters that are given to a document which is looked at too."""
    steps = document.steps_by_name()
    for step in document.all_steps():
        name_node, given = _started(step)
        if name_node is None or "{{" in name_node.string:
            continue
        wanted = other(document, name_node.string)
        if wanted is None:
            continue
        names = given.items if given is not None else {}
        for key, node in names.items():
            parameter = wanted.parameters.get(key)
            if parameter is None:
                message = f"{wanted.name} has no parameter {key}{near(key, wanted.parameters)}"
                yield Found("unknown-parameter", given.key(key) if given is not None else name_node.span, message)
                continue
            whole = [reference for reference in references(node) if reference.whole]
            if whole and step.action == "aws:executeAutomation":
                kind = resolve(document, step, whole[0], steps).type
                if kind is not None and kind != parameter.value_type:
                    message = f"{key} of {wanted.name} is a {parameter.type}, and {whole[0].name} is a {kind}"
                    # the API has texts for parameters, so one may be read as what it says
                    as_text = "String" in (kind, parameter.value_type) and {kind, parameter.value_type} <= _SCALARS
                    yield Found("parameter-as-text" if as_text else "reference-type", node.span, message)
        if "Targets" in step.inputs.items or "TargetParameterName" in step.inputs.items:
            continue  # the target fills one in
        for parameter in wanted.parameters.values():
            if parameter.default is None and parameter.name not in names:
                message = f"{wanted.name} needs the parameter {parameter.name}"
                yield Found("missing-parameter", name_node.span, message)


def _started(step: Step) -> tuple[Node | None, Node | None]:
    if step.action == "aws:executeAutomation":
        return step.inputs.get("DocumentName"), step.inputs.get("RuntimeParameters")
    if step.action == "aws:runCommand":
        return step.inputs.get("DocumentName"), step.inputs.get("Parameters")
    if step.inputs.text("Service") == "ssm" and step.inputs.text("Api") in ("StartAutomationExecution", "SendCommand"):
        return step.inputs.get("DocumentName"), step.inputs.get("Parameters")
    return None, None
