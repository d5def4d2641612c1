"""What Systems Manager refuses when a document is created: keys, kinds of values, names, defaults.

Sources: User Guide, documents-schemas-features, documents-syntax-data-elements-parameters and automation-actions.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final

from pipeline.runbook import language
from pipeline.runbook.lint.aws import near
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import KIND_NAMES, Kind, Node
from pipeline.runbook.lint.references import resolve
from pipeline.runbook.lint.view import Declared, Document, Step, references

AWS_TYPE: Final = re.compile(r"(?:List<)?AWS::[A-Za-z0-9]+::[A-Za-z0-9:]+>?")
PLACEHOLDER: Final = re.compile(r"%%[A-Z_]+.*?%%|<<.*?>>|SCRIPT_PLACEHOLDER::")
"""What a build step of public collections still has to fill in; nothing can be said of such a value."""
_BY_TYPE: Final[dict[str, Kind]] = {
    "String": "string",
    "Integer": "integer",
    "Boolean": "boolean",
    "StringList": "list",
    "MapList": "list",
    "StringMap": "map",
}
_ON_FAILURE: Final = ("Abort", "Continue")


def _expect(node: Node | None, kind: Kind, what: str) -> Iterator[Found]:
    if node is not None and node.kind != kind:
        yield Found("wrong-type", node.span, f"{what} has to be {KIND_NAMES[kind]}, found {KIND_NAMES[node.kind]}")


def _unknown(node: Node, known: Collection[str], what: str) -> Iterator[Found]:
    for key in node.items:
        if key not in known:
            yield Found("unknown-key", node.key(key), f"{what} has no key {key}{near(key, known)}")


def document_shape(document: Document) -> Iterator[Found]:
    """The top of an Automation document."""
    root = document.root
    yield from _unknown(root, language.DOCUMENT_KEYS, "an Automation document")
    yield from _expect(root.get("description"), "string", "description")
    yield from _expect(root.get("assumeRole"), "string", "assumeRole")
    for key in ("parameters", "variables", "files"):
        yield from _expect(root.get(key), "map", key)
    yield from _expect(root.get("outputs"), "list", "outputs")
    main = root.get("mainSteps")
    if main is None:
        yield Found("missing-key", root.span, "an Automation document needs mainSteps")
        return
    yield from _expect(main, "list", "mainSteps")
    if main.kind == "list" and not main.values:
        yield Found("missing-key", main.span, "mainSteps has no step")
    size = len(document.text.encode())
    if size > language.LIMITS.document_bytes:
        message = f"{size} bytes: a document has {language.LIMITS.document_bytes} at most"
        yield Found("document-too-large", root.span._replace(end_line=root.span.line, end_column=2), message)
    files = root.get("files")
    if files is not None and len(files.items) > language.LIMITS.attachments:
        message = f"{len(files.items)} attachments: a runbook has {language.LIMITS.attachments} at most"
        yield Found("too-many-attachments", root.key("files"), message)


def parameter_shapes(document: Document) -> Iterator[Found]:
    """Parameters and variables: names, types, defaults."""
    automation = document.kind == "Automation"
    for declared in document.parameters.values():
        if not re.fullmatch(language.PARAMETER_NAME_PATTERN, declared.name):
            yield Found("parameter-name", declared.key, f"{declared.name!r}: a name has letters and digits only")
        if len(declared.name) > language.LIMITS.parameter_key_characters:
            limit = language.LIMITS.parameter_key_characters
            yield Found("parameter-name", declared.key, f"a name has {limit} characters at most")
        keys = language.PARAMETER_KEYS if automation else (*language.PARAMETER_KEYS, "interpolationType")
        yield from _declared_shape(declared, "a parameter", keys, document.parameters)
    for declared in document.variables.values():
        yield from _declared_shape(declared, "a variable", language.VARIABLE_KEYS, ())


def _declared_shape(
    declared: Declared, what: str, keys: Collection[str], parameters: Collection[str]
) -> Iterator[Found]:
    node = declared.node
    if node.kind != "map":
        yield from _expect(node, "map", f"{what} {declared.name}")
        return
    yield from _unknown(node, keys, what)
    if "type" not in node.items:
        yield Found("missing-key", declared.key, f"{what} needs a type: {', '.join(language.VALUE_TYPES)}")
        return
    if declared.type not in language.VALUE_TYPES and not AWS_TYPE.fullmatch(declared.type):
        known = ", ".join(language.VALUE_TYPES)
        message = f"there is no type {declared.type!r}{near(declared.type, language.VALUE_TYPES)} (there are {known})"
        yield Found("parameter-type", node.items["type"].span, message)
        return
    pattern = node.get("allowedPattern")
    if pattern is not None:
        yield from _expect(pattern, "string", "allowedPattern")
    if declared.default is not None:
        yield from _default(declared, declared.default, parameters)


def _default(declared: Declared, default: Node, parameters: Collection[str]) -> Iterator[Found]:
    kind = _BY_TYPE[declared.value_type]
    if PLACEHOLDER.search(default.string):
        return
    if any(True for _ in references(default)):
        for reference in references(default):
            if reference.name in parameters:
                message = f"a default cannot refer to the parameter {reference.name}"
                yield Found("default-reference", reference.span, message)
        return
    if default.kind != kind and not _same(declared, default):
        message = f"the default of a {declared.type} has to be {KIND_NAMES[kind]}, found {KIND_NAMES[default.kind]}"
        yield Found("default-type", default.span, message)
        return
    inner: Kind = "map" if declared.value_type == "MapList" else "string"
    for value in default.values:
        if value.kind != inner:
            found = KIND_NAMES[value.kind]
            message = f"each item of a {declared.type} has to be {KIND_NAMES[inner]}, found {found}"
            yield Found("default-type", value.span, message)
    allowed = declared.node.get("allowedValues")
    if allowed is not None and allowed.kind == "list":
        choices = [choice.scalar for choice in allowed.values]
        for value in default.values or [default]:
            if value.kind not in ("map", "list") and value.scalar not in choices and str(value.scalar) not in choices:
                message = f"the default {value.scalar!r} is not among allowedValues"
                yield Found("default-not-allowed", value.span, message)
    yield from _pattern(declared, default)


def _same(declared: Declared, default: Node) -> bool:
    """A Boolean or an Integer may be written in quotes: AWS's own documents do."""
    if declared.value_type == "Boolean":
        return default.string.lower() in ("true", "false")
    return declared.value_type == "Integer" and bool(re.fullmatch(r"-?\d+", default.string))


def _pattern(declared: Declared, default: Node) -> Iterator[Found]:
    pattern = declared.node.text("allowedPattern")
    if not pattern:
        return
    try:
        compiled = re.compile(pattern)
    except re.error:
        return  # Java's own syntax, or a broken one, which `patterns` speaks of
    for value in default.values or [default]:
        if isinstance(value.scalar, str) and not compiled.search(value.scalar):
            message = f"the default {value.scalar!r} does not match allowedPattern"
            yield Found("default-not-allowed", value.span, message)


_JAVA_ONLY: Final = re.compile(r"\\[pPhHRXzZGQEK]|[*+?}]\+|&&|\(\?<[a-zA-Z]|\(\?[a-z-]*[dux]")


def patterns(document: Document) -> Iterator[Found]:
    """Every allowedPattern is a regular expression."""
    for declared in (*document.parameters.values(), *document.variables.values()):
        pattern = declared.node.text("allowedPattern")
        if pattern and not _JAVA_ONLY.search(pattern):
            try:
                re.compile(pattern)
            except re.error as error:
                span = declared.node.items["allowedPattern"].at(error.pos or 0)
                yield Found("bad-pattern", span, f"no regular expression: {error.msg}")


def step_shapes(document: Document) -> Iterator[Found]:
    """Every step: its keys and their kinds."""
    waiting = [document.main_steps, *(step.inputs.get("Steps") for step in document.all_steps())]
    for steps in waiting:
        for node in steps.values if steps is not None else ():
            if node.kind != "map":
                yield from _expect(node, "map", "a step")
    for step in document.all_steps():
        yield from _step(step)


def _step(step: Step) -> Iterator[Found]:
    node = step.node
    known = language.STEP_KEYS
    yield from _unknown(node, known, "a step")
    for key in ("name", "action"):
        if key not in node.items:
            yield Found("missing-key", node.span._replace(end_line=node.span.line), f"a step needs a {key}")
        else:
            yield from _expect(node.get(key), "string", key)
    yield from _expect(node.get("description"), "string", "description")
    yield from _expect(node.get("inputs"), "map", "inputs")
    yield from _expect(node.get("outputs"), "list", "outputs")
    for key in ("isEnd", "isCritical"):
        value = node.get(key)
        if value is not None and value.kind != "boolean" and value.string.lower() not in ("true", "false"):
            yield Found("wrong-type", value.span, f"{key} has to be true or false, found {value.scalar!r}")
    for key in ("maxAttempts", "timeoutSeconds"):
        yield from _number(step, key)
    if step.action and step.kind is None:
        message = f"there is no action {step.action}{near(step.action, language.ACTIONS)}"
        yield Found("unknown-action", step.span("action"), message)
    yield from _ways(step)
    outputs = node.get("outputs")
    for output in outputs.values if outputs is not None else ():
        yield from _output(output)
    if outputs is not None and step.kind is not None and not step.kind.declares_outputs:
        message = f"{step.action} takes no outputs of its own"
        if step.kind.outputs:
            message += f": it has {', '.join(step.kind.outputs)}"
        yield Found("outputs-not-taken", node.key("outputs"), message)


def _number(step: Step, key: str) -> Iterator[Found]:
    value = step.node.get(key)
    if value is None or "{{" in value.string:
        return
    number = value.scalar if value.kind == "integer" else value.string
    if not re.fullmatch(r"\d+", str(number)) or int(str(number)) < 1:
        yield Found("wrong-type", value.span, f"{key} has to be a whole number above 0, found {value.scalar!r}")


def _ways(step: Step) -> Iterator[Found]:
    """onFailure, onCancel, nextStep and isEnd."""
    for key, words in (("onFailure", _ON_FAILURE), ("onCancel", ("Abort",))):
        value = step.node.get(key)
        if value is None:
            continue
        if value.kind != "string" or not (value.string in words or re.match(r"step:\s*\S", value.string)):
            allowed = " or ".join([*words, "step:NAME"])
            yield Found("wrong-way", value.span, f"{key} has to be {allowed}, found {value.scalar!r}")
    if step.flag("isEnd") and "nextStep" in step.node.items:
        message = "isEnd and nextStep exclude each other"
        yield Found("end-and-next", step.node.key("nextStep"), message)
    if "onCancel" in step.node.items and step.action in language.ON_CANCEL_UNSUPPORTED:
        yield Found("cancel-not-taken", step.node.key("onCancel"), f"{step.action} takes no onCancel")


def _output(output: Node) -> Iterator[Found]:
    if output.kind != "map":
        yield from _expect(output, "map", "an output")
        return
    yield from _unknown(output, language.OUTPUT_KEYS, "an output")
    for key in ("Name", "Selector"):
        if key not in output.items:
            yield Found("missing-key", output.span, f"an output needs a {key}")
        yield from _expect(output.get(key), "string", f"an output's {key}")
    kind = output.get("Type")
    if kind is not None and kind.string not in language.VALUE_TYPES:
        message = f"there is no type {kind.scalar!r}{near(kind.string, language.VALUE_TYPES)}"
        yield Found("parameter-type", kind.span, message)


def action_inputs(document: Document) -> Iterator[Found]:
    """The inputs of each action, except those that the called API checks."""
    steps = document.steps_by_name()
    for step in document.all_steps():
        action = step.kind
        if action is None:
            continue
        if not action.inputs_open:
            for key in step.inputs.items:
                if key not in action.inputs:
                    message = f"{step.action} has no input {key}{near(key, action.inputs)}"
                    yield Found("unknown-action-input", step.inputs.key(key), message)
        place = step.node.key("inputs") if "inputs" in step.node.items else step.span("action")
        for key, wanted in action.inputs.items():
            value = step.inputs.get(key)
            if value is None:
                if wanted.required:
                    yield Found("missing-action-input", place, f"{step.action} needs the input {key}")
                continue
            yield from _action_input(document, step, steps, key, wanted, value)
        if action.one_of:
            given = [key for key in action.one_of if key in step.inputs.items]
            if not given:
                message = f"{step.action} needs one of {' and '.join(action.one_of)}"
                yield Found("missing-action-input", place, message)
            elif len(given) > 1:
                message = f"{step.action} takes one of {' and '.join(given)}, not both"
                yield Found("unknown-action-input", step.inputs.key(given[1]), message)


def _action_input(
    document: Document, step: Step, steps: dict[str, Step], key: str, wanted: language.Input, value: Node
) -> Iterator[Found]:
    whole = [reference for reference in references(value) if reference.whole]
    if whole:
        resolved = resolve(document, step, whole[0], steps)
        if wanted.types and resolved.type is not None and resolved.type not in wanted.types:
            message = f"{key} has to be a {' or '.join(wanted.types)}, and {whole[0].name} is a {resolved.type}"
            yield Found("reference-type", value.span, message)
        return
    if wanted.types:
        kinds = {_BY_TYPE[kind] for kind in wanted.types}
        if value.kind not in kinds and not _quoted(value, kinds):
            words = " or ".join(KIND_NAMES[kind] for kind in sorted(kinds))
            message = f"{key} has to be {words}, found {KIND_NAMES[value.kind]}"
            yield Found("action-input-type", value.span, message)
            return
    if wanted.choices and value.kind == "string" and "{{" not in value.string and value.string not in wanted.choices:
        message = f"{key} has to be one of {', '.join(wanted.choices)}, found {value.string!r}"
        yield Found("action-input-value", value.span, message)
    if wanted.max_items is not None and len(value.values) > wanted.max_items:
        yield Found("over-the-limit", value.span, f"{len(value.values)} items: {key} has {wanted.max_items} at most")
    if wanted.max_characters is not None and len(value.string) > wanted.max_characters:
        message = f"{len(value.string)} characters: {key} has {wanted.max_characters} at most"
        yield Found("over-the-limit", value.span, message)


def _quoted(value: Node, kinds: set[Kind]) -> bool:
    """A number or a flag in quotes, which actions other than executeAwsApi take."""
    if "boolean" in kinds and value.string.lower() in ("true", "false"):
        return True
    if "string" in kinds and value.kind in ("integer", "float", "boolean"):
        return True
    return "integer" in kinds and bool(re.fullmatch(r"\d+", value.string))


def json_scripts(document: Document) -> Iterator[Found]:
    """A script cannot stand inside a document in JSON."""
    if document.json:
        for step in document.all_steps():
            if step.action == "aws:executeScript" and "Script" in step.inputs.items:
                message = "a script inside the document needs YAML; in JSON it has to be an attachment"
                yield Found("script-in-json", step.inputs.key("Script"), message)
