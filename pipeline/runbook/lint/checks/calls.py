"""What fails when it runs: calls of AWS's APIs checked against botocore's models, selectors against their answers.

Source: botocore's models; User Guide, automation-action-executeAwsApi and automation-action-outputs-inputs.
"""

import re
from collections.abc import Generator, Iterator
from typing import Final

import botocore
from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape

from pipeline.runbook.lint import aws
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import KIND_NAMES, Node
from pipeline.runbook.lint.references import resolve
from pipeline.runbook.lint.view import Document, Step, references

CALLERS: Final = frozenset({"aws:executeAwsApi", "aws:assertAwsResourceProperty", "aws:waitForAwsResourceProperty"})
OWN_INPUTS: Final = frozenset({"Service", "Api", "PropertySelector", "DesiredValues"})
_FITS: Final[dict[str, tuple[str, ...]]] = {
    "structure": ("StringMap",),
    "map": ("StringMap",),
    "string": ("String",),
    "character": ("String",),
    "blob": ("String",),
    "timestamp": ("String", "Integer"),
    "integer": ("Integer",),
    "long": ("Integer",),
    "float": ("Integer",),
    "double": ("Integer",),
    "boolean": ("Boolean",),
}
_MINIMUM: Final = {"integer", "long", "float", "double"}


def operation_of(step: Step) -> OperationModel | None:
    """The operation that a step calls, None when it calls none that is known."""
    if step.action not in CALLERS:
        return None
    service, api = step.inputs.text("Service").lower(), step.inputs.text("Api")
    return aws.operation(service, api) or aws.operation(service, aws.respelt(service, api))


def api_calls(document: Document) -> Iterator[Found]:
    """Service, operation and inputs of every step that calls an API."""
    steps = document.steps_by_name()
    for step in document.all_steps():
        if step.action not in CALLERS:
            continue
        name, api = step.inputs.text("Service"), step.inputs.text("Api")
        if not name or not api or "{{" in name + api:
            continue
        model = aws.service(name)
        if model is None and (model := aws.service(name.lower())) is not None:
            message = f"boto3 spells this service {name.lower()}"
            yield Found("service-spelling", step.inputs.items["Service"].span, message)
        if model is None:
            message = f"botocore {botocore.__version__} knows no service {name}{aws.near(name, aws.services())}"
            yield Found("unknown-service", step.inputs.items["Service"].span, message)
            continue
        if api not in model.operation_names and (right := aws.respelt(model.service_name, api)):
            yield Found("operation-spelling", step.inputs.items["Api"].span, f"AWS spells this operation {right}")
            api = right
        if api not in model.operation_names:
            message = f"{model.service_name} has no operation {api}{aws.near(api, model.operation_names)}"
            yield Found("unknown-operation", step.inputs.items["Api"].span, message)
            continue
        operation = model.operation_model(api)
        if operation.has_streaming_output or operation.has_event_stream_output:
            message = f"{api} answers with a stream, which {step.action} cannot take"
            yield Found("streaming-operation", step.inputs.items["Api"].span, message)
        yield from _Inputs(document, step, steps, operation).check()


class _Inputs:
    def __init__(self, document: Document, step: Step, steps: dict[str, Step], operation: OperationModel) -> None:
        self.document, self.step, self.steps = document, step, steps
        self.operation = operation

    def check(self) -> Iterator[Found]:
        inputs = self.step.inputs
        shape = self.operation.input_shape
        given = {key: node for key, node in inputs.items.items() if key not in OWN_INPUTS or self._is_theirs(key)}
        members = shape.members if isinstance(shape, StructureShape) else {}
        for key, node in given.items():
            if key in OWN_INPUTS:
                continue
            member = aws.member_of(self.operation, key)
            if member is None:
                message = f"{self.operation.name} has no input {key}{aws.near(key, members)}"
                yield Found("unknown-input", inputs.key(key), message)
            else:
                yield from self.value(node, member, key)
        for key in aws.required(shape):
            if key not in inputs.items:
                message = f"{self.operation.name} needs {key}"
                yield Found("missing-input", inputs.items["Api"].span, message)

    def _is_theirs(self, key: str) -> bool:
        return key in ("PropertySelector", "DesiredValues") and self.step.action == "aws:executeAwsApi"

    def value(self, node: Node, shape: Shape, path: str) -> Iterator[Found]:
        """One value against the shape that the API wants."""
        whole = [reference for reference in references(node) if reference.whole]
        if whole:
            yield from self._reference(node, whole[0].name, shape, path, path.endswith("]"))
            return
        if aws.is_open(shape):
            return
        if isinstance(shape, StructureShape):
            yield from self._structure(node, shape, path)
        elif isinstance(shape, ListShape):
            if node.kind != "list":
                yield self._type(node, shape, path)
                return
            for index, item in enumerate(node.values):
                yield from self.value(item, shape.member, f"{path}[{index}]")
        elif isinstance(shape, MapShape):
            if node.kind != "map":
                yield self._type(node, shape, path)
                return
            for key, item in node.items.items():
                yield from self.value(item, shape.value, f"{path}.{key}")
        else:
            yield from self._scalar(node, shape, path)

    def _structure(self, node: Node, shape: StructureShape, path: str) -> Iterator[Found]:
        if node.kind != "map":
            yield self._type(node, shape, path)
            return
        for key, item in node.items.items():
            member = shape.members.get(key)
            if member is None:
                message = f"{path} has no {key}{aws.near(key, shape.members)}"
                yield Found("unknown-input", node.key(key), message)
            else:
                yield from self.value(item, member, f"{path}.{key}")
        for key in aws.required(shape):
            if key not in node.items:
                yield Found("missing-input", node.span, f"{path} needs {key}")

    def _type(self, node: Node, shape: Shape, path: str) -> Found:
        message = f"{path} has to be {aws.kind_of(shape)}, found {KIND_NAMES[node.kind]}"
        return Found("input-type", node.span, message)

    def _reference(self, node: Node, name: str, shape: Shape, path: str, spliced: bool) -> Iterator[Found]:
        """A whole value by reference. A list that is an item of a list is spliced into it."""
        reference = next(iter(references(node)))
        kind = resolve(self.document, self.step, reference, self.steps).type
        if kind is None or aws.is_open(shape):
            return
        if isinstance(shape, ListShape):
            fits: tuple[str, ...] = (
                ("MapList",) if shape.member.type_name in ("structure", "map") else ("StringList", "MapList")
            )
        elif spliced and kind == "StringList":
            return
        else:
            fits = _FITS.get(shape.type_name, ())
        if fits and kind not in fits:
            message = f"{path} has to be {aws.kind_of(shape)}, and {name} is a {kind}"
            yield Found("reference-type", node.span, message)

    def _scalar(self, node: Node, shape: Shape, path: str) -> Iterator[Found]:
        kind = shape.type_name
        inside = any(True for _ in references(node))
        fits = {
            "string": node.kind == "string",
            "character": node.kind == "string",
            "blob": node.kind == "string",
            "timestamp": node.kind in ("string", "integer"),
            "integer": node.kind == "integer",
            "long": node.kind == "integer",
            "float": node.kind in ("integer", "float"),
            "double": node.kind in ("integer", "float"),
            "boolean": node.kind == "boolean",
        }.get(kind, True)
        if not fits:
            yield self._type(node, shape, path)
            return
        if inside:
            return
        if isinstance(shape, StringShape) and shape.enum and node.string not in shape.enum:
            message = f"{path} has to be one of {_some(shape.enum)}, found {node.string!r}"
            yield Found("input-value", node.span, message)
            return
        yield from self._constraints(node, shape, path)

    def _constraints(self, node: Node, shape: Shape, path: str) -> Iterator[Found]:
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if shape.type_name in _MINIMUM and isinstance(node.scalar, int | float):
            size, unit = node.scalar, ""
        elif shape.type_name == "string":
            size, unit = len(node.string), " characters"
        else:
            return
        if least is not None and size < least:
            yield Found("input-value", node.span, f"{path} has {least}{unit} at least, found {size}")
        elif most is not None and size > most:
            yield Found("input-value", node.span, f"{path} has {most}{unit} at most, found {size}")
        pattern = shape.metadata.get("pattern")
        if pattern and shape.type_name == "string":
            try:
                matches = re.search(pattern, node.string) is not None
            except re.error:
                return  # AWS's patterns are Java's
            if not matches:
                yield Found("input-value", node.span, f"{path} has to match {pattern}")


def _some(enum: list[str]) -> str:
    return ", ".join(enum) if len(enum) <= 8 else ", ".join(enum[:8]) + f" and {len(enum) - 8} more"


def selectors(document: Document) -> Iterator[Found]:
    """Selectors are in the documented subset, lead to something in the answer, and to what their type says."""
    for step in document.all_steps():
        operation = operation_of(step)
        for output in step.outputs.values():
            node = output.node.get("Selector")
            if node is None or node.kind != "string" or "{{" in node.string:
                continue
            selected = yield from _walk(node, operation)
            if selected is None or operation is None:
                continue
            types = aws.types_of(selected)
            if types and output.type not in types and output.node.get("Type") is not None:
                shown = (
                    "a list gathered by .." if selected.many else aws.kind_of(selected.shape) if selected.shape else ""
                )
                message = f"{node.string} is {shown}: the type has to be {' or '.join(types)}, not {output.type}"
                yield Found("selector-type", output.node.items["Type"].span, message)
            elif types and output.type not in types:
                message = f"{node.string} needs Type: {types[0]}; without one it is taken for a String"
                yield Found("selector-type", node.span, message)
        yield from _property(step, operation)


def _walk(node: Node, operation: OperationModel | None) -> Generator[Found, None, aws.Selected | None]:
    """Follow one selector; None when it leads nowhere or to something unknown."""
    text = node.string
    if re.match(r"[A-Za-z]", text):
        yield Found("selector-without-root", node.span, f"write $.{text}: selectors begin with $")
        text = f"$.{text}"
    shift = len(node.string) - len(text)
    try:
        parts = aws.selector_parts(text)
    except aws.BadSelector as bad:
        yield Found("selector-syntax", node.at(bad.start + shift, bad.end - bad.start), str(bad))
        return None
    if operation is None or (parts and parts[0].name == "ResponseMetadata"):  # boto3 adds that to every answer
        return None
    if operation.output_shape is None:
        if parts:
            message = f"{operation.name} answers with nothing"
            yield Found("unknown-selector", node.span, message)
        return None
    try:
        return aws.select(operation.output_shape, parts)
    except aws.NoSuchMember as missing:
        part = missing.part
        yield Found(
            "unknown-selector",
            node.at(max(part.start + shift, 0), part.end - part.start),
            f"{operation.name}: {missing}",
        )
        return None


def _property(step: Step, operation: OperationModel | None) -> Iterator[Found]:
    """PropertySelector and DesiredValues of assert and wait."""
    node = step.inputs.get("PropertySelector")
    if node is None or node.kind != "string" or step.action == "aws:executeAwsApi" or "{{" in node.string:
        return
    selected = yield from _walk(node, operation)
    shape = selected.shape if selected is not None else None
    desired = step.inputs.get("DesiredValues")
    if desired is None or shape is None:
        return
    if shape.type_name in ("structure", "map") or (shape.type_name == "list" and not selected_many(selected)):
        message = f"{node.string} is {aws.kind_of(shape)}: it never equals one of DesiredValues"
        yield Found("desired-value", node.span, message)
        return
    for value in desired.values:
        if value.kind in ("map", "list") or "{{" in value.string:
            continue
        if isinstance(shape, StringShape) and shape.enum and str(value.scalar) not in shape.enum:
            message = f"{node.string} is one of {_some(shape.enum)}, never {value.scalar!r}"
            yield Found("desired-value", value.span, message)
        elif shape.type_name == "boolean" and str(value.scalar).lower() not in ("true", "false"):
            yield Found("desired-value", value.span, f"{node.string} is true or false, never {value.scalar!r}")
        elif shape.type_name in ("integer", "long") and not re.fullmatch(r"-?\d+", str(value.scalar)):
            yield Found("desired-value", value.span, f"{node.string} is a whole number, never {value.scalar!r}")


def selected_many(selected: aws.Selected | None) -> bool:
    """Whether a deep scan made a list."""
    return selected is not None and selected.many
