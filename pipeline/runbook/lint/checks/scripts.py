"""The Python inside aws:executeScript: does it parse, start, find its inputs, and call what AWS has.

Sources: botocore's models; User Guide, automation-action-executeScript.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final

from botocore.model import ListShape, Shape, StringShape, StructureShape

from pipeline.runbook import language
from pipeline.runbook.lint import aws
from pipeline.runbook.lint.checks.shape import PLACEHOLDER
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import Node, Span
from pipeline.runbook.lint.script import Call, Script, look_through
from pipeline.runbook.lint.view import Document, Step

_FITS: Final = {"string": str, "integer": int, "long": int, "boolean": bool}


def script_of(step: Step) -> tuple[Node, str] | None:
    """The Python of a step and its handler; None when it has none here, or is a placeholder of a build."""
    node = step.inputs.get("Script")
    if step.action != "aws:executeScript" or node is None or not node.string:
        return None
    if not step.inputs.text("Runtime").lower().startswith("python"):
        return None
    if PLACEHOLDER.match(node.string.strip()):
        return None
    return node, step.inputs.text("Handler")


def looked_through(step: Step) -> Script | None:
    """A step's script, None when there is none or it does not parse."""
    found = script_of(step)
    if found is None:
        return None
    try:
        return look_through(found[0].string, found[1])
    except (SyntaxError, ValueError, RecursionError):
        return None


def runtimes(document: Document) -> Iterator[Found]:
    """A runtime that Automation has."""
    for step in document.all_steps():
        runtime = step.inputs.get("Runtime")
        if step.action != "aws:executeScript" or runtime is None or "{{" in runtime.string:
            continue
        if runtime.string not in language.RUNTIMES:
            message = f"no runtime {runtime.scalar!r} is known{aws.near(runtime.string, language.RUNTIMES)}"
            yield Found("script-runtime", runtime.span, message)


def scripts(document: Document) -> Iterator[Found]:
    """Everything that can be told of a script without running it."""
    for step in document.all_steps():
        node = step.inputs.get("Script")
        if step.action == "aws:executeScript" and node is not None and PLACEHOLDER.match(node.string.strip()):
            yield Found("script-elsewhere", node.span, "the script is put in by a build; it is not looked at here")
        found = script_of(step)
        if found is None:
            continue
        node, handler = found
        try:
            script = look_through(node.string, handler)
        except SyntaxError as error:
            where = node.at_line(error.lineno or 1, max((error.offset or 1) - 1, 0))
            yield Found("script-syntax", where, f"the script is no Python: {error.msg}")
            continue
        except (ValueError, RecursionError) as error:
            yield Found("script-syntax", node.span, f"the script cannot be read: {error}")
            continue
        yield from _handler(step, script, handler)
        for problem in script.problems.values():
            yield Found(problem.rule, node.at_line(problem.line, problem.column, problem.length), problem.message)
        for call in script.calls.values():
            yield from _arguments(node, call)
        yield from _events(step, node, script)
        yield from _returned(step, script)


def _handler(step: Step, script: Script, handler: str) -> Iterator[Found]:
    if not handler:
        yield Found("script-handler", step.node.key("inputs"), "a Python script needs a Handler")
        return
    span = step.inputs.items["Handler"].span
    if script.handler is None:
        names = [node.name for node in script.tree.body if isinstance(node, ast.FunctionDef)]
        yield Found("script-handler", span, f"the script has no function {handler}{aws.near(handler, names)}")
    elif len(script.handler.args.args) != 2 and not (script.handler.args.vararg or script.handler.args.defaults):
        count = len(script.handler.args.args)
        yield Found("script-handler", span, f"{handler} is given two arguments, events and context, and takes {count}")


def _arguments(node: Node, call: Call) -> Iterator[Found]:
    operation = aws.operation(call.service, call.operation)
    if operation is None or call.arguments is None:
        return
    shape = operation.input_shape
    members = shape.members if isinstance(shape, StructureShape) else {}
    given = {name for name, _ in call.arguments}
    where = node.at_line(call.line, call.column, len(call.operation))
    paginated = {"PaginationConfig"}
    for name, value in call.arguments:
        if name in paginated:
            continue
        member = aws.member_of(operation, name)
        if member is None:
            message = f"{call.operation} has no input {name}{aws.near(name, members)}"
            yield Found("script-argument", _name_span(node, name, value), message)
        else:
            yield from _literal(node, value, member, name)
    if call.complete:
        for name in aws.required(shape):
            if name not in given:
                yield Found("script-argument", where, f"{call.operation} needs {name}")


def _name_span(node: Node, name: str, value: ast.expr) -> Span:
    """Where an argument's name is: on the line of its value before it, as people write it."""
    at = node.string.split("\n")[value.lineno - 1].rfind(name, 0, value.col_offset)
    return node.at_line(value.lineno, at, len(name)) if at >= 0 else _span(node, value)


def _span(node: Node, value: ast.expr) -> Span:
    end = value.end_col_offset if value.end_lineno == value.lineno else None
    return node.at_line(value.lineno, value.col_offset, max(1, (end or 1) - value.col_offset))


def _literal(node: Node, value: ast.expr, shape: Shape, path: str) -> Iterator[Found]:
    where = _span(node, value)
    if isinstance(value, ast.Dict) and isinstance(shape, StructureShape) and not aws.is_open(shape):
        keys = {key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
        for key, item in zip(value.keys, value.values, strict=True):
            name = key.value if isinstance(key, ast.Constant) else None
            if key is not None and isinstance(name, str) and name not in shape.members:
                yield Found("script-argument", _span(node, key), f"{path} has no {name}{aws.near(name, shape.members)}")
            elif isinstance(name, str):
                yield from _literal(node, item, shape.members[name], f"{path}.{name}")
        if all(isinstance(key, ast.Constant) for key in value.keys):
            for name in aws.required(shape):
                if name not in keys:
                    yield Found("script-argument", where, f"{path} needs {name}")
    elif isinstance(value, ast.List) and isinstance(shape, ListShape):
        for item in value.elts:
            yield from _literal(node, item, shape.member, f"{path}[]")
    elif (isinstance(value, ast.List) and shape.type_name in _FITS) or (
        isinstance(value, ast.Dict) and shape.type_name not in ("structure", "map")
    ):
        yield Found("script-argument", where, f"{path} has to be {aws.kind_of(shape)}")
    elif isinstance(value, ast.Constant) and value.value is not None:
        wanted = _FITS.get(shape.type_name)
        if shape.type_name in ("list", "structure", "map") or (wanted is not None and type(value.value) is not wanted):
            message = f"{path} has to be {aws.kind_of(shape)}, found {value.value!r}"
            yield Found("script-argument", where, message)
        elif isinstance(shape, StringShape) and shape.enum and value.value not in shape.enum:
            message = f"{path} has to be one of {', '.join(shape.enum[:8])}, found {value.value!r}"
            yield Found("script-argument", where, message)


def _events(step: Step, node: Node, script: Script) -> Iterator[Found]:
    payload = step.inputs.get("InputPayload")
    if payload is not None and payload.kind != "map":
        return
    given = payload.items if payload is not None else {}
    for key, (line, column, needed) in script.event_keys.items():
        if key not in given and needed:  # `events.get` is a question
            message = f"the script needs {key} of its events, and InputPayload has none{aws.near(key, given)}"
            yield Found("script-event", node.at_line(line, column, 1), message)
    if payload is not None and not script.event_escapes and script.handler is not None:
        for key in given:
            if key not in script.event_keys:
                yield Found("script-unused-input", payload.key(key), f"the script never reads {key} of its events")


_FIRST: Final = re.compile(r"\$\.(?:Payload|OutputPayload\.Payload)\.([A-Za-z0-9_]+)(.*)")
_WHOLE: Final = re.compile(r"\$$|\$\.Payload|\$\.OutputPayload|\$\.\.|\{\{")
_KINDS: Final = {"List": ("StringList", "MapList")}


def _returned(step: Step, script: Script) -> Iterator[Found]:
    if script.handler is None:
        return
    returned = [value for value in script.returned if value.kind != "none"]
    if not returned or any(value.kind != "dict" for value in returned):
        return
    keys = frozenset().union(*(value.keys for value in returned))
    for output in step.outputs.values():
        match = _FIRST.fullmatch(output.selector)
        selector = output.node.get("Selector")
        if match is None or selector is None:
            if selector is not None and not _WHOLE.match(output.selector):
                message = "what a script returns is under $.Payload"
                yield Found("script-output", selector.span, message)
            continue
        name, rest = match[1], match[2]
        if name not in keys:
            message = f"the script returns no {name}{aws.near(name, keys)}"
            yield Found("script-output", selector.span, message)
            continue
        kinds = {kind for value in returned for key, kind in value.types if key == name}
        if rest or len(kinds) != 1 or not (kind := kinds.pop()):
            continue
        if output.type not in _KINDS.get(kind, (kind,)):
            told = "a list" if kind == "List" else f"a {kind}"
            message = f"the script returns {name} as {told}, and the output is a {output.type}"
            yield Found("script-output", output.node.span, message)
