"""The text of an Automation document in, a typed `Document` out; or one error that lists every fault with its line.

Three steps, usable alone: `parse_tree` reads YAML or JSON safely and knows the line of every value; `faults_of` names
everything that AWS's CreateDocument would refuse; `parse_document` does both and builds the frozen value.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeGuard

import yaml

from pipeline.errors import CatalogError
from pipeline.runbook.language import (
    ACTIONS,
    CONDITION_OPERATIONS,
    DOCUMENT_KEYS,
    GLOBAL_VARIABLES,
    ITERATION,
    ITERATOR_VALUE,
    LIMITS,
    LOGICAL_OPERATORS,
    LOOP_ITERATION,
    LOOP_ITSELF,
    ON_CANCEL_FORBIDDEN_TARGETS,
    ON_CANCEL_UNSUPPORTED,
    OUTPUT_KEYS,
    PARAMETER_KEYS,
    PARAMETER_NAME_PATTERN,
    PSEUDO_PARAMETERS,
    RESOURCE_TYPE_PATTERN,
    SCHEMA_VERSION,
    STEP_KEYS,
    STEP_NAME_PATTERN,
    VALUE_TYPES,
    VARIABLE_KEYS,
    ValueType,
)
from pipeline.runbook.values import Reference, is_of_type, nested_reference, references

Key = str | int
Path_ = tuple[Key, ...]

_IN_DEFAULTS: Final = frozenset({*GLOBAL_VARIABLES, *PSEUDO_PARAMETERS})
"""What a default may refer to besides `ssm:`: AWS-CreateManagedLinuxInstance and others of AWS's own do."""

_OF_A_LOOP: Final = frozenset({ITERATOR_VALUE, ITERATION, LOOP_ITERATION})

MAX_DEPTH: Final = 60
"""Deeper nesting than any document has, and shallow enough for every reader of the tree."""
MAX_NODES: Final = 20_000
"""Values of a tree with its aliases expanded: 64 KB hold fewer, unless aliases multiply them."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A document's values as written. `lines` has the line, from 1, of each value by its path."""

    value: Any
    lines: Mapping[Path_, int]
    where: str
    is_json: bool
    size: int
    text: str = field(repr=False)

    def line(self, path: Sequence[Key]) -> int:
        """The line of the value at `path`, or of the nearest value around it."""
        at = tuple(path)
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that AWS would refuse. `rule` is a short name for it."""

    line: int
    rule: str
    text: str
    path: Path_ = ()


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A declared parameter, or a variable. `declared_type` is what is written, `type` what its value is."""

    name: str
    type: ValueType
    declared_type: str
    line: int
    description: str = ""
    has_default: bool = False
    default: Any = None
    allowed_values: tuple[Any, ...] = ()
    allowed_pattern: str = ""
    min_items: int | None = None
    max_items: int | None = None
    min_chars: int | None = None
    max_chars: int | None = None

    @property
    def required(self) -> bool:
        return not self.has_default


@dataclass(frozen=True, kw_only=True)
class Output:
    """A declared output of a step: what its selector finds, of that type."""

    name: str
    selector: str
    type: ValueType
    line: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. `inputs` as written; `steps` are those of a loop. `is_critical` is None where nothing is written.

    `timeout_seconds` may be a reference to a parameter, as a text.
    """

    name: str
    action: str
    line: int
    path: Path_
    inputs: Mapping[str, Any]
    description: str = ""
    outputs: tuple[Output, ...] = ()
    max_attempts: int = 1
    timeout_seconds: int | str | None = None
    on_failure: str = "Abort"
    on_cancel: str = "Abort"
    is_end: bool = False
    next_step: str = ""
    is_critical: bool | None = None
    steps: tuple["Step", ...] = ()

    @property
    def critical(self) -> bool:
        """Whether its failure makes the execution fail. UG automation-actions, isCritical."""
        return self.on_failure != "Continue" if self.is_critical is None else self.is_critical

    @property
    def fails_to(self) -> str:
        """The step that a failure goes to, or nothing."""
        return self.on_failure.removeprefix("step:") if self.on_failure.startswith("step:") else ""

    @property
    def cancels_to(self) -> str:
        """The step that a cancellation goes to, or nothing."""
        return self.on_cancel.removeprefix("step:") if self.on_cancel.startswith("step:") else ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Document:
    """An Automation document that AWS would take. Compared by identity, so that what is compiled from it is kept."""

    name: str
    where: str
    description: str
    assume_role: str
    parameters: Mapping[str, Parameter]
    variables: Mapping[str, Parameter]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    files: Mapping[str, Any]
    tree: Tree = field(repr=False)

    def all_steps(self) -> Iterator[Step]:
        """Every step in the order of the document, those of loops after their loop."""
        return _walk(self.steps)


def _walk(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _walk(step.steps)


def read_document(path: Path) -> Document:
    """Read a document's file. Raises CatalogError when it cannot be read or AWS would refuse what is in it."""
    return parse_document(read_text(path, limit=LIMITS.document_bytes), str(path), name=path.name.split(".")[0])


def read_text(path: Path, *, limit: int, hint: str = "") -> str:
    """A file's text, if it is text and at most `limit` bytes; `hint` is what to do about a larger one.

    Raises CatalogError.
    """
    try:
        size = path.stat().st_size
        if path.is_file() and size > limit:
            raise CatalogError(
                f"{path.name} is too large",
                expected=f"at most {limit:,} bytes",
                found=f"{size:,} bytes",
                where=str(path),
                remedy=hint or "AWS limits a document to 64 KB: move scripts to attachments or split the document",
            )
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise CatalogError(
            f"{path.name} cannot be read", found=error.strerror or str(error), where=str(path), remedy="check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise CatalogError(
            f"{path.name} is not text",
            expected="YAML or JSON in UTF-8",
            found=f"byte 0x{error.object[error.start]:02x} at offset {error.start}",
            where=str(path),
            remedy="name the document itself, not an archive or image of it",
        ) from error


def parse_document(text: str, where: str, *, name: str = "") -> Document:
    """Build the document from its text; `where` names it in errors. Raises CatalogError with every fault and line."""
    return document_of(parse_tree(text, where), name=name)


def document_of(tree: Tree, *, name: str = "") -> Document:
    """Build the document from its tree. Raises CatalogError with every fault and line."""
    where, faults = tree.where, faults_of(tree)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise CatalogError(
            f"{where} is not an Automation document that AWS would take: {count}",
            expected="an Automation document of schema 0.3",
            found="\n".join(f"{where}:{fault.line} {fault.text}" for fault in faults),
            where=f"{where}:{faults[0].line}",
            remedy=f"correct {where}",
        )
    return _document(tree, name or Path(where).name.split(".")[0])


# --- reading ----------------------------------------------------------------------------------------------------


class _Refused(Exception):
    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def parse_tree(text: str, where: str) -> Tree:
    """Read YAML (or JSON, which is YAML here) into plain values with their lines.

    Raises CatalogError for what is not readable: syntax, duplicate keys, tags, cyclic or exploding aliases, nesting
    over MAX_DEPTH, more than one document, more than 64 KB.
    """
    size = len(text.encode())
    if size > LIMITS.document_bytes:
        raise CatalogError(
            "the document is too large",
            expected=f"at most {LIMITS.document_bytes:,} bytes (AWS: MaxDocumentSizeExceeded)",
            found=f"{size:,} bytes",
            where=where,
            remedy="move scripts to attachments or split the document",
        )
    is_json = text.lstrip()[:1] == "{"
    value, lines = _read(text, where, raw=False)
    return Tree(value=value, lines=lines, where=where, is_json=is_json, size=size, text=text)


def _unreadable(where: str, line: int, problem: str) -> CatalogError:
    return CatalogError(
        f"{where} is not readable as YAML or JSON",
        found=" ".join(problem.split()),
        where=f"{where}:{line}",
        remedy=f"correct line {line}",
    )


class Raw(str):
    """A plain scalar as it is written, for a reader that learns its type from elsewhere."""


class _Reader:
    """Builds values from YAML's events. Unlike a composer it does not recurse into what it has not measured."""

    def __init__(self, text: str, *, raw: bool) -> None:
        self._loader = _Loader(text)
        self._raw = raw
        self._lines: dict[Path_, int] = {}
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        self._nodes = 0

    def read(self) -> tuple[Any, dict[Path_, int]]:
        loader = self._loader
        try:
            loader.get_event()  # the stream's start
            if loader.check_event(yaml.StreamEndEvent):
                return None, {}
            loader.get_event()  # the document's start
            value = self._value((), 0)
            loader.get_event()  # the document's end
            event = loader.get_event()
            if not isinstance(event, yaml.StreamEndEvent):
                raise _Refused(event.start_mark.line + 1, "a second document begins in the same file")
            return value, self._lines
        finally:
            loader.dispose()

    def _value(self, path: Path_, depth: int) -> Any:
        event = self._loader.get_event()
        line = event.start_mark.line + 1
        self._lines[path] = line
        self._count(1, line)
        if depth > MAX_DEPTH:
            raise _Refused(line, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line)
        if event.tag is not None and event.tag != "!":
            raise _Refused(line, f"the tag {event.tag} has no meaning in an Automation document")
        if event.anchor:
            self._anchors[event.anchor] = None
        before = self._nodes
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not self._loader.check_event(yaml.SequenceEndEvent):
                value.append(self._value((*path, len(value)), depth + 1))
            self._loader.get_event()
        else:
            value = self._mapping(path, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1 + self._nodes - before)
        return value

    def _mapping(self, path: Path_, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            event = self._loader.get_event()
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise _Refused(line, "a key has to be a text")
            if event.value == "<<" and not event.style:
                raise _Refused(line, "the merge key << has no meaning in an Automation document")
            if event.value in value:
                raise _Refused(line, f"the key {event.value!r} is there twice in the same mapping")
            key = event.value
            value[key] = self._value((*path, key), depth + 1)
            self._lines[(*path, key)] = line
        self._loader.get_event()
        return value

    def _alias(self, anchor: str, line: int) -> Any:
        if anchor not in self._anchors:
            raise _Refused(line, f"the alias *{anchor} has no anchor before it")
        found = self._anchors[anchor]
        if found is None:
            raise _Refused(line, f"the alias *{anchor} is inside of what it stands for: it would never end")
        value, weight = found
        self._count(weight, line)
        return value

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _Refused(line, f"more than {MAX_NODES:,} values with all aliases in their places")

    def _scalar(self, event: Any) -> Any:
        if event.style:  # plain is None, or empty from the fast parser
            return event.value
        tag = self._loader.resolve(yaml.ScalarNode, event.value, (True, False))
        if tag == "tag:yaml.org,2002:null":
            return None
        if self._raw:
            return Raw(event.value)
        kind = tag.rpartition(":")[2]
        if kind in ("int", "float", "bool"):
            node = yaml.ScalarNode(tag, event.value)
            try:
                return getattr(self._loader, f"construct_yaml_{kind}")(node)
            except ValueError as error:
                raise _Refused(event.start_mark.line + 1, f"{event.value!r} is no {kind}: {error}") from error
        return event.value  # dates too: a document has no such type


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """The fast parser where there is one; only its events and its rules for plain scalars are used."""


def read_raw(text: str, where: str) -> tuple[Any, Mapping[Path_, int]]:
    """Plain values and their lines, where numbers and booleans stay as they are written (`Raw`).

    For files whose types come from a service model. Raises CatalogError as `parse_tree` does.
    """
    return _read(text, where, raw=True)


def _read(text: str, where: str, *, raw: bool) -> tuple[Any, Mapping[Path_, int]]:
    """Plain values and their lines. Raises CatalogError with the line for what cannot be read."""
    try:
        return _Reader(text, raw=raw).read()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise _unreadable(where, mark.line + 1 if mark else 1, str(problem)) from error
    except _Refused as error:
        raise _unreadable(where, error.line, str(error)) from error


# --- what AWS refuses -------------------------------------------------------------------------------------------


def faults_of(tree: Tree) -> list[Fault]:
    """Everything in the tree that AWS's CreateDocument, or the start of an execution, refuses; by line."""
    checker = _Checker(tree)
    checker.document()
    return sorted(checker.faults, key=lambda fault: fault.line)


class _Checker:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.faults: list[Fault] = []
        self.parameters: Mapping[str, Any] = {}
        self.variables: Mapping[str, Any] = {}
        self.outputs: dict[str, set[str]] = {}
        self.actions: dict[str, str] = {}
        self.scopes: list[set[str]] = []
        self.loops = 0

    def fault(self, path: Sequence[Key], rule: str, text: str) -> None:
        self.faults.append(Fault(line=self.tree.line(path), rule=rule, text=text, path=tuple(path)))

    def document(self) -> None:
        value = self.tree.value
        if not isinstance(value, dict):
            self.fault(
                (), "document", f"found {kind_of(value)}; a document is a mapping with schemaVersion and mainSteps"
            )
            return
        version = value.get("schemaVersion")
        if str(version) != SCHEMA_VERSION:
            self.fault(
                ("schemaVersion",),
                "schema-version",
                f"schemaVersion: expected '{SCHEMA_VERSION}' (Automation), found {version!r}"
                if "schemaVersion" in value
                else f"the key schemaVersion is missing; an Automation document says '{SCHEMA_VERSION}'",
            )
            return
        self._keys(value, (), DOCUMENT_KEYS, "document")
        self._text(value, ("description",))
        self._text(value, ("assumeRole",))
        self._parameters(value, "parameters", PARAMETER_KEYS)
        self._parameters(value, "variables", VARIABLE_KEYS)
        if isinstance(value.get("parameters"), dict):
            self.parameters = value["parameters"]
        if isinstance(value.get("variables"), dict):
            self.variables = value["variables"]
        files = value.get("files")
        if files is not None and not isinstance(files, dict):
            self.fault(("files",), "files", f"files: found {kind_of(files)}; a mapping of names to checksums is wanted")
        elif files and len(files) > LIMITS.attachments:
            self.fault(
                ("files",), "files", f"files: {len(files)} attachments; at most {LIMITS.attachments} are allowed"
            )
        steps = value.get("mainSteps")
        if not isinstance(steps, list) or not steps:
            found = kind_of(steps) if "mainSteps" in value else "no such key"
            self.fault(("mainSteps",), "main-steps", f"mainSteps: found {found}; a list of at least one step is wanted")
            return
        self._collect(steps, ("mainSteps",))
        self._steps(steps, ("mainSteps",))
        self._role(value)
        self._outputs(value)
        self._endless(steps)

    def _keys(self, value: Mapping[str, Any], path: Path_, allowed: Sequence[str], what: str) -> None:
        for key in value:
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, n=1)
                folded = [name for name in allowed if name.lower() == key.lower()]
                hint = f"; did you mean {(folded or near)[0]!r}?" if folded or near else ""
                if references(key):
                    hint = "; a key cannot be a reference"
                self.fault((*path, key), "unknown-key", f"unknown key {key!r} in {what}{hint}")

    def _text(self, value: Mapping[str, Any], path: Path_) -> None:
        found = value.get(str(path[-1]))
        if found is not None and not isinstance(found, str):
            self.fault(path, "type", f"{path[-1]}: found {kind_of(found)}; a text is wanted")

    def _parameters(self, document: Mapping[str, Any], section: str, allowed: Sequence[str]) -> None:
        declared = document.get(section)
        if declared is None:
            return
        if not isinstance(declared, dict):
            self.fault((section,), "parameters", f"{section}: found {kind_of(declared)}; a mapping is wanted")
            return
        for name, body in declared.items():
            path = (section, name)
            if not re.fullmatch(PARAMETER_NAME_PATTERN, name):
                self.fault(path, "parameter-name", f"{section} > {name}: only letters and digits are allowed in a name")
            if len(name) > LIMITS.parameter_key_characters:
                self.fault(path, "parameter-name", f"{section} > {name}: longer than {LIMITS.parameter_key_characters}")
            if not isinstance(body, dict):
                self.fault(path, "parameters", f"{section} > {name}: found {kind_of(body)}; a mapping is wanted")
                continue
            self._keys(body, path, allowed, f"{section} > {name}")
            self._parameter(body, path)

    def _parameter(self, body: Mapping[str, Any], path: Path_) -> None:
        title = " > ".join(map(str, path))
        declared = body.get("type")
        kind = value_type(declared)
        if kind is None:
            near = difflib.get_close_matches(str(declared), VALUE_TYPES, n=1)
            self.fault(
                (*path, "type"),
                "parameter-type",
                f"{title}: the type {declared!r} is not one of {', '.join(VALUE_TYPES)}"
                + (f"; did you mean {near[0]!r}?" if near else ""),
            )
            return
        for key in ("minItems", "maxItems", "minChars", "maxChars"):
            if key in body and not _is_number(body[key]):
                self.fault((*path, key), "type", f"{title} > {key}: found {kind_of(body[key])}; a number is wanted")
        if "allowedValues" in body and not isinstance(body["allowedValues"], list):
            found = kind_of(body["allowedValues"])
            self.fault((*path, "allowedValues"), "type", f"{title} > allowedValues: found {found}; a list is wanted")
        pattern = body.get("allowedPattern")
        if pattern is not None and not isinstance(pattern, str):
            self.fault((*path, "allowedPattern"), "type", f"{title} > allowedPattern: a text is wanted")
        for key in ("default", "value"):
            default = body.get(key)
            if default is None or key not in body:
                continue
            for reference in references_in(default):
                if not reference.name.startswith("ssm:") and reference.name not in _IN_DEFAULTS:
                    self.fault(
                        (*path, key),
                        "default-reference",
                        f"{title} > {key}: refers to {{{{ {reference.name} }}}}; "
                        "only {{ssm:NAME}} and system variables are allowed here",
                    )
            if not list(references_in(default)) and not is_of_type(default, kind):
                self.fault(
                    (*path, key),
                    "default-type",
                    f"{title} > {key}: found {kind_of(default)} {_short(default)}; the type is {declared}",
                )

    def _collect(self, steps: Sequence[Any], path: Path_) -> None:
        """Names, actions and outputs of every step, before anything refers to them."""
        for index, body in enumerate(steps):
            if not isinstance(body, dict) or not isinstance(body.get("name"), str):
                continue
            name, action = body["name"], str(body.get("action"))
            if name in self.outputs:
                self.fault((*path, index, "name"), "duplicate-step", f"the step name {name!r} is there twice")
            self.actions[name] = action
            known = ACTIONS.get(action)
            yields = set(known.outputs) if known else set()
            if isinstance(body.get("outputs"), list):
                yields |= {str(item.get("Name")) for item in body["outputs"] if isinstance(item, dict)}
            if action == "aws:loop":
                yields |= _OF_A_LOOP
            self.outputs[name] = yields
            inner = _inner(body)
            if inner is not None:
                self._collect(inner, (*path, index, "inputs", "Steps"))

    def _steps(self, steps: Sequence[Any], path: Path_) -> None:
        self.scopes.append({str(body.get("name")) for body in steps if isinstance(body, dict)})
        for index, body in enumerate(steps):
            at = (*path, index)
            if not isinstance(body, dict):
                self.fault(at, "step", f"step {index + 1}: found {kind_of(body)}; a mapping is wanted")
                continue
            self._step(body, at, index)
        self.scopes.pop()

    def _step(self, body: Mapping[str, Any], path: Path_, index: int) -> None:
        name, action = body.get("name"), body.get("action")
        title = f"step {name}" if isinstance(name, str) else f"step {index + 1}"
        self._keys(body, path, STEP_KEYS, title)
        if name is None:
            self.fault(path, "step-name", f"{title}: the key 'name' is missing")
        elif not isinstance(name, str) or not re.fullmatch(STEP_NAME_PATTERN, name):
            self.fault(
                (*path, "name"), "step-name", f"{title}: letters, digits and _ are allowed in a name, found {name!r}"
            )
        if not isinstance(action, str) or action not in ACTIONS:
            near = difflib.get_close_matches(str(action), ACTIONS, n=1, cutoff=0.5)
            self.fault(
                (*path, "action") if "action" in body else path,
                "unknown-action",
                (f"{title}: unknown action {action!r}" if "action" in body else f"{title}: the key 'action' is missing")
                + (f"; did you mean {near[0]!r}?" if near and "action" in body else ""),
            )
        self._properties(body, path, title)
        inputs = body.get("inputs", {})
        if inputs is None:
            inputs = {}
        if not isinstance(inputs, dict):
            self.fault((*path, "inputs"), "inputs", f"{title} > inputs: found {kind_of(inputs)}; a mapping is wanted")
            inputs = {}
        elif isinstance(action, str) and action in ACTIONS:
            self._inputs(inputs, (*path, "inputs"), str(action), title)
        self._step_outputs(body, path, title)
        for key, value in inputs.items():
            if not (action == "aws:loop" and key == "Steps"):
                self._references(value, (*path, "inputs", key), title)
        self._references(body.get("timeoutSeconds"), (*path, "timeoutSeconds"), title)
        if action == "aws:branch":
            self._choices(inputs, (*path, "inputs"), title)
        if action == "aws:loop":
            self._loop(inputs, (*path, "inputs"), title)

    def _properties(self, body: Mapping[str, Any], path: Path_, title: str) -> None:
        for key in ("isEnd", "isCritical"):
            if key in body and str(body[key]).lower() not in ("true", "false"):
                self.fault((*path, key), "type", f"{title} > {key}: true or false is wanted, found {_short(body[key])}")
        for key in ("maxAttempts", "timeoutSeconds"):
            found = body.get(key)
            refers = isinstance(found, str) and key == "timeoutSeconds" and references(found)
            if found is None or refers or (isinstance(found, str) and found.isdigit() and int(found) > 0):
                continue
            if not _is_number(found) or found < 1:
                self.fault(
                    (*path, key), "type", f"{title} > {key}: a number of at least 1 is wanted, found {_short(found)}"
                )
        if is_true(body.get("isEnd")) and body.get("nextStep"):
            self.fault((*path, "nextStep"), "end-and-next", f"{title}: isEnd: true and nextStep exclude each other")
        if body.get("nextStep") is not None:
            self._target(str(body["nextStep"]), (*path, "nextStep"), f"{title} > nextStep")
        for key, words in (("onFailure", ("Abort", "Continue")), ("onCancel", ("Abort",))):
            found = body.get(key)
            if found is None:
                continue
            if isinstance(found, str) and found.startswith("step:"):
                self._target(found.removeprefix("step:"), (*path, key), f"{title} > {key}")
            elif not isinstance(found, str) or found.capitalize() not in words:
                choices = ", ".join((*words, "step:NAME"))
                self.fault((*path, key), "on-failure", f"{title} > {key}: found {_short(found)}; allowed: {choices}")
        if body.get("onCancel") is not None:
            self._on_cancel(body, path, title)

    def _on_cancel(self, body: Mapping[str, Any], path: Path_, title: str) -> None:
        if str(body.get("action")) in ON_CANCEL_UNSUPPORTED:
            self.fault((*path, "onCancel"), "on-cancel", f"{title}: {body['action']} does not support onCancel")
        target = str(body["onCancel"]).removeprefix("step:")
        action = self.actions.get(target)
        if action in ON_CANCEL_FORBIDDEN_TARGETS:
            self.fault(
                (*path, "onCancel"), "on-cancel", f"{title} > onCancel: may not go to step {target}, which is {action}"
            )

    def _target(self, name: str, path: Path_, title: str) -> None:
        if not any(name in scope for scope in self.scopes):
            everywhere = sorted(set().union(*self.scopes))
            near = difflib.get_close_matches(name, everywhere, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.fault(path, "unknown-step", f"{title}: there is no step {name!r}{hint}")

    def _inputs(self, inputs: Mapping[str, Any], path: Path_, action: str, title: str) -> None:
        known = ACTIONS[action]
        for name, one in known.inputs.items():
            if one.required and name not in inputs:
                self.fault(path, "missing-input", f"{title}: {action} needs the input {name}")
        if not known.inputs_open:
            self._keys(inputs, path, tuple(known.inputs), f"inputs of {title} ({action})")
        if known.one_of and sum(name in inputs for name in known.one_of) != 1:
            choice = " or ".join(known.one_of)
            self.fault(path, "one-of", f"{title}: {action} needs exactly one of the inputs {choice}")
        if action == "aws:executeScript" and self.tree.is_json and "Script" in inputs:
            self.fault(
                (*path, "Script"), "script-in-json", f"{title}: a JSON document cannot hold a Script; use Attachment"
            )
        if action == "aws:updateVariable":
            self._variable_name(inputs.get("Name"), (*path, "Name"), title)

    def _variable_name(self, name: Any, path: Path_, title: str) -> None:
        if not isinstance(name, str) or not name.startswith("variable:"):
            self.fault(path, "variable", f"{title} > Name: found {_short(name)}; it has the form variable:NAME")
        elif variable_name(name) not in self.variables:
            self.fault(path, "variable", f"{title} > Name: there is no variable {variable_name(name)!r}")

    def _step_outputs(self, body: Mapping[str, Any], path: Path_, title: str) -> None:
        outputs = body.get("outputs")
        if outputs is None:
            return
        if not isinstance(outputs, list):
            self.fault((*path, "outputs"), "outputs", f"{title} > outputs: found {kind_of(outputs)}; a list is wanted")
            return
        seen: set[str] = set()
        for index, item in enumerate(outputs):
            at = (*path, "outputs", index)
            if not isinstance(item, dict):
                self.fault(
                    at, "outputs", f"{title} > outputs: found {kind_of(item)}; Name, Selector and Type are wanted"
                )
                continue
            self._keys(item, at, OUTPUT_KEYS, f"outputs of {title}")
            name = item.get("Name")
            if not isinstance(name, str) or not name:
                self.fault(at, "outputs", f"{title} > outputs: an output needs a Name")
            elif name in seen:
                self.fault(at, "outputs", f"{title} > outputs: the name {name!r} is there twice")
            seen.add(str(name))
            if not isinstance(item.get("Selector"), str):
                self.fault(at, "outputs", f"{title} > outputs > {name}: a Selector is missing")
            if "Type" in item and item["Type"] not in VALUE_TYPES:
                allowed = ", ".join(VALUE_TYPES)
                self.fault(
                    (*at, "Type"), "outputs", f"{title} > outputs > {name}: Type {item['Type']!r}; allowed: {allowed}"
                )

    def _references(self, value: Any, path: Path_, title: str) -> None:
        """Every reference below `value`, each with the line of the text that holds it."""
        if isinstance(value, str):
            if nested_reference(value):
                self.fault(path, "nested-reference", f"{title}: a reference inside of a reference is not supported")
            for reference in references(value):
                self._reference(reference, path, title)
        elif isinstance(value, dict):
            for key, item in value.items():
                if references(key):
                    self.fault((*path, key), "key-reference", f"{title}: a key cannot be a reference: {key}")
                self._references(item, (*path, key), title)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._references(item, (*path, index), title)

    def _reference(self, reference: Reference, path: Path_, title: str) -> None:
        name = reference.name
        if name.startswith("ssm:"):
            self.fault(
                path,
                "ssm-reference",
                f"{title}: {{{{ {name} }}}} is only allowed as the default of a parameter (InvalidDocumentContent)",
            )
        elif name.startswith(("global:", "automation:")):
            if name not in GLOBAL_VARIABLES:
                self._undeclared(name, tuple(GLOBAL_VARIABLES), path, title)
        elif name.startswith("variable:"):
            if name.removeprefix("variable:") not in self.variables:
                self._undeclared(name, tuple(f"variable:{one}" for one in self.variables), path, title)
        elif reference.output:
            if self.loops and reference.step == LOOP_ITSELF and reference.output in _OF_A_LOOP:
                return
            if reference.step not in self.outputs:
                self._undeclared(name, tuple(self.outputs), path, title)
            elif reference.output not in self.outputs[reference.step]:
                outputs = self.outputs[reference.step]
                names = tuple(f"{reference.step}.{output}" for output in sorted(outputs))
                self._undeclared(name, names, path, title)
        elif name not in self.parameters and name not in PSEUDO_PARAMETERS:
            self._undeclared(name, tuple(self.parameters), path, title)

    def _undeclared(self, name: str, known: Sequence[str], path: Path_, title: str) -> None:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        self.fault(path, "undeclared", f"{title}: {{{{ {name} }}}} is not declared{hint}")

    def _role(self, document: Mapping[str, Any]) -> None:
        role = document.get("assumeRole")
        if isinstance(role, str):
            for reference in references(role):
                if reference.name.startswith("ssm:"):
                    self.fault(("assumeRole",), "ssm-reference", "assumeRole: {{ssm:NAME}} is not allowed here")
                else:
                    self._reference(reference, ("assumeRole",), "assumeRole")

    def _outputs(self, document: Mapping[str, Any]) -> None:
        outputs = document.get("outputs")
        if outputs is None:
            return
        if not isinstance(outputs, list):
            self.fault(("outputs",), "outputs", f"outputs: found {kind_of(outputs)}; a list of STEP.OUTPUT is wanted")
            return
        for index, item in enumerate(outputs):
            path = ("outputs", index)
            if not isinstance(item, str):
                self.fault(path, "outputs", f"outputs: found {kind_of(item)}; a text STEP.OUTPUT is wanted")
                continue
            reference = output_reference(item)
            if not reference.output or reference.step not in self.outputs:
                near = difflib.get_close_matches(reference.step, self.outputs, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                self.fault(path, "outputs", f"outputs: {item!r}: there is no step {reference.step!r}{hint}")
            elif reference.output not in self.outputs[reference.step]:
                known = ", ".join(sorted(self.outputs[reference.step])) or "none"
                self.fault(path, "outputs", f"outputs: {item!r}: the step's outputs are: {known}")

    def _choices(self, inputs: Mapping[str, Any], path: Path_, title: str) -> None:
        choices = inputs.get("Choices")
        if not isinstance(choices, list) or not choices:
            self.fault((*path, "Choices"), "branch", f"{title} > Choices: a list of at least one choice is wanted")
            return
        for index, choice in enumerate(choices):
            at = (*path, "Choices", index)
            if not isinstance(choice, dict):
                self.fault(at, "branch", f"{title} > Choices: found {kind_of(choice)}; a mapping is wanted")
                continue
            target = choice.get("NextStep")
            if not isinstance(target, str):
                self.fault(at, "branch", f"{title} > Choices: a choice needs NextStep")
            else:
                self._target(target, (*at, "NextStep"), f"{title} > NextStep")
            self._condition({key: item for key, item in choice.items() if key != "NextStep"}, at, title)
        default = inputs.get("Default")
        if default is not None:
            self._target(str(default), (*path, "Default"), f"{title} > Default")

    def _condition(self, condition: Any, path: Path_, title: str) -> None:
        if not isinstance(condition, dict):
            self.fault(path, "condition", f"{title}: found {kind_of(condition)}; a condition is a mapping")
            return
        operators = [key for key in condition if key in LOGICAL_OPERATORS]
        if operators:
            if len(condition) != 1:
                self.fault(path, "condition", f"{title}: {operators[0]} stands alone in a condition")
            operator = operators[0]
            inner = condition[operator]
            if operator == "Not":
                self._condition(inner, (*path, operator), title)
            elif not isinstance(inner, list) or not inner:
                self.fault((*path, operator), "condition", f"{title}: {operator} needs a list of conditions")
            else:
                for index, item in enumerate(inner):
                    self._condition(item, (*path, operator, index), title)
            return
        if "Variable" not in condition:
            self.fault(path, "condition", f"{title}: a condition needs Variable, or And, Or, Not")
        operations = [key for key in condition if key != "Variable"]
        if len(operations) != 1 or operations[0] not in CONDITION_OPERATIONS:
            found = ", ".join(operations) or "none"
            self.fault(
                path,
                "condition",
                f"{title}: a condition needs one operation, found {found}; allowed: {', '.join(CONDITION_OPERATIONS)}",
            )

    def _loop(self, inputs: Mapping[str, Any], path: Path_, title: str) -> None:
        steps = inputs.get("Steps")
        if not isinstance(steps, list) or not steps:
            self.fault((*path, "Steps"), "loop", f"{title} > Steps: a list of at least one step is wanted")
        else:
            self.loops += 1
            self._steps(steps, (*path, "Steps"))
            self.loops -= 1
        if "LoopCondition" in inputs:
            self._condition(inputs["LoopCondition"], (*path, "LoopCondition"), title)
        most = inputs.get("MaxIterations")
        if _is_number(most) and not 1 <= most <= LIMITS.loop_iterations:
            self.fault(
                (*path, "MaxIterations"),
                "loop",
                f"{title} > MaxIterations: {most}; allowed: 1 to {LIMITS.loop_iterations}",
            )
        items = inputs.get("Iterators")
        if isinstance(items, list) and len(items) > LIMITS.loop_iterators:
            self.fault(
                (*path, "Iterators"),
                "loop",
                f"{title} > Iterators: {len(items)}; at most {LIMITS.loop_iterators} are allowed",
            )

    def _endless(self, steps: Sequence[Any]) -> None:
        """Success after success leads back to where it was: AWS refuses to process it, and names the circle.

        Ways that a branch may choose not to take are not counted; the executor's budget of steps watches those.
        """
        bodies = [body for body in steps if isinstance(body, dict)]
        names = [str(body.get("name")) for body in bodies]
        following: dict[str, str] = {}
        for index, body in enumerate(bodies):
            if is_true(body.get("isEnd")) or body.get("action") == "aws:branch":
                continue
            target = body.get("nextStep") or (names[index + 1] if index + 1 < len(names) else None)
            if target is not None:
                following[names[index]] = str(target)
        cleared: set[str] = set()
        for name in names:
            trail: list[str] = []
            at: str | None = name
            while at is not None and at not in cleared and at not in trail:
                trail.append(at)
                at = following.get(at)
            if at in trail:
                circle = [*trail[trail.index(at) :], at]
                index = names.index(circle[-2])
                self.fault(
                    ("mainSteps", index, "nextStep"), "endless", f"the steps never end: {' -> '.join(map(str, circle))}"
                )
            cleared.update(trail)


# --- building ---------------------------------------------------------------------------------------------------


def _document(tree: Tree, name: str) -> Document:
    value = tree.value
    return Document(
        name=name,
        where=tree.where,
        description=value.get("description") or "",
        assume_role=value.get("assumeRole") or "",
        parameters=_declared(tree, "parameters"),
        variables=_declared(tree, "variables"),
        steps=_built_steps(tree, value["mainSteps"], ("mainSteps",)),
        outputs=tuple(value.get("outputs") or ()),
        files=value.get("files") or {},
        tree=tree,
    )


def _declared(tree: Tree, section: str) -> dict[str, Parameter]:
    declared = {}
    for name, body in (tree.value.get(section) or {}).items():
        kind = value_type(body["type"])
        assert kind is not None  # noqa: S101 - checked before anything is built
        default = body.get("default", body.get("value"))
        declared[name] = Parameter(
            name=name,
            type=kind,
            declared_type=body["type"],
            line=tree.line((section, name)),
            description=body.get("description") or "",
            has_default=default is not None,
            default=default,
            allowed_values=tuple(body.get("allowedValues") or ()),
            allowed_pattern=body.get("allowedPattern") or "",
            min_items=body.get("minItems"),
            max_items=body.get("maxItems"),
            min_chars=body.get("minChars"),
            max_chars=body.get("maxChars"),
        )
    return declared


def _built_steps(tree: Tree, bodies: Sequence[Mapping[str, Any]], path: Path_) -> tuple[Step, ...]:
    return tuple(_built_step(tree, body, (*path, index)) for index, body in enumerate(bodies))


def _built_step(tree: Tree, body: Mapping[str, Any], path: Path_) -> Step:
    timeout = body.get("timeoutSeconds")
    inner = _inner(body)
    return Step(
        name=body["name"],
        action=body["action"],
        line=tree.lines.get((*path, "name"), tree.line(path)),
        path=path,
        description=body.get("description") or "",
        inputs={key: value for key, value in (body.get("inputs") or {}).items() if not (inner and key == "Steps")},
        outputs=tuple(
            Output(
                name=item["Name"],
                selector=item["Selector"],
                type=item.get("Type", "String"),
                line=tree.line((*path, "outputs", index)),
            )
            for index, item in enumerate(body.get("outputs") or ())
        ),
        max_attempts=int(body.get("maxAttempts") or 1),
        timeout_seconds=int(timeout) if isinstance(timeout, str) and timeout.isdigit() else timeout,
        on_failure=_cased(body.get("onFailure")),
        on_cancel=_cased(body.get("onCancel")),
        is_end=is_true(body.get("isEnd")),
        next_step=body.get("nextStep") or "",
        is_critical=None if body.get("isCritical") is None else is_true(body["isCritical"]),
        steps=_built_steps(tree, inner, (*path, "inputs", "Steps")) if inner else (),
    )


def _cased(text: str | None) -> str:
    if text is None:
        return "Abort"
    return text if text.startswith("step:") else text.capitalize()


def _inner(body: Mapping[str, Any]) -> list[Any] | None:
    """The steps of a loop, or None for any other step."""
    inputs = body.get("inputs")
    if body.get("action") != "aws:loop" or not isinstance(inputs, dict):
        return None
    steps = inputs.get("Steps")
    return steps if isinstance(steps, list) else None


# --- small ------------------------------------------------------------------------------------------------------


def value_type(declared: Any) -> ValueType | None:
    """What values a declared type has; None for a type that is not known."""
    if declared in VALUE_TYPES:
        return declared  # type: ignore[no-any-return]
    text = str(declared)
    if re.fullmatch(RESOURCE_TYPE_PATTERN, text):
        return "String"
    if re.fullmatch(rf"List<{RESOURCE_TYPE_PATTERN}>", text):
        return "StringList"
    return None


def variable_name(name: str) -> str:
    """The bare name in `variable:NAME`, which the guide also writes as `variable:{{NAME}}`."""
    return name.removeprefix("variable:").strip().removeprefix("{{").removesuffix("}}").strip()


def output_reference(text: str) -> Reference:
    """An entry of the document's outputs: `STEP.OUTPUT`, with or without `{{ }}`."""
    found = references(text)
    return found[0] if found else Reference(text.strip())


def references_in(value: Any) -> Iterator[Reference]:
    """Every reference in a value of any depth."""
    if isinstance(value, str):
        yield from references(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from references_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from references_in(item)


def is_true(value: Any) -> bool:
    """A flag as written: `true`, or the text that JSON documents put in its place."""
    return value is True or str(value).lower() == "true"


def _is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def kind_of(value: Any) -> str:
    """A value's kind in a reader's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    for kind, name in ((str, "a text"), (int | float, "a number"), (dict, "a mapping"), (list | tuple, "a list")):
        if isinstance(value, kind):
            return name
    return type(value).__name__


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(text if len(text) <= 60 else text[:57] + "...")
