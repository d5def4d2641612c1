"""The text of a document in, a tree of nodes with their places out; and what makes a text unreadable.

YAML by PyYAML's composer on libyaml, which knows where every node begins and ends. JSON by a small reader of its own:
YAML is nearly a superset of it, but not in escapes, and its complaints about JSON help nobody.
"""

import json
import re
from typing import Any, Final

import yaml

from pipeline.runbook.language import LIMITS
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import Kind, Node, Span

MAX_BYTES: Final = 16 * LIMITS.document_bytes
"""A text above this is not read: no document is a sixteenth of it."""
MAX_DEPTH: Final = 100
MAX_NODES: Final = 100_000
"""Nodes that a walk would see. Aliases of aliases multiply ("billion laughs")."""

_START: Final = Span(1, 1, 1, 2)


class Unreadable(Exception):
    """The text cannot become a tree; `found` says why and where."""

    def __init__(self, message: str, span: Span = _START, rule: str = "unreadable") -> None:
        super().__init__(message)
        self.found = Found(rule, span, message)


def decode(content: bytes) -> str:
    """Bytes of a file as text. Raises Unreadable for what is no text, or too much of it."""
    if len(content) > MAX_BYTES:
        raise Unreadable(f"{len(content)} bytes: a document has {LIMITS.document_bytes} at most")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Unreadable(f"not UTF-8 text: byte {content[error.start]:#04x}", Span(line, 1, line, 2)) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise Unreadable("not a text: it holds a NUL character", Span(line, 1, line, 2))
    return text


def is_json(text: str) -> bool:
    """JSON documents begin with a brace; so do a few YAML ones, which `read` tries as YAML too."""
    return text.lstrip()[:1] == "{"


def read(text: str) -> tuple[Node, list[Found]]:
    """The tree of a document's text and what is wrong with the text itself. Raises Unreadable."""
    found: list[Found] = []
    if is_json(text):
        try:
            root = _JsonReader(text, found).document()
        except Unreadable as unreadable:
            if re.match(r'\s*\{\s*["}]', text):
                raise
            try:
                root = _read_yaml(text, found)  # a flow mapping: YAML that looks like JSON
            except Unreadable:
                raise unreadable from None
    else:
        root = _read_yaml(text, found)
    _check_size(root)
    return root, found


def _check_size(root: Node) -> None:
    """Count nodes as a walk would meet them, without walking shared ones twice."""
    weights: dict[int, int] = {}

    def weigh(node: Node) -> int:
        known = weights.get(id(node))
        if known is None:
            known = 1 + sum(map(weigh, node.values)) + sum(map(weigh, node.items.values()))
            weights[id(node)] = known
        return known

    if weigh(root) > MAX_NODES:
        raise Unreadable(f"aliases make this document more than {MAX_NODES} values large")


# --- YAML ---

_TAGS: Final[dict[str, Kind]] = {
    "tag:yaml.org,2002:str": "string",
    "tag:yaml.org,2002:int": "integer",
    "tag:yaml.org,2002:float": "float",
    "tag:yaml.org,2002:bool": "boolean",
    "tag:yaml.org,2002:null": "null",
    # AWS has no type for these: they reach it as the text they are written as
    "tag:yaml.org,2002:timestamp": "string",
    "tag:yaml.org,2002:binary": "string",
    "tag:yaml.org,2002:value": "string",
    "tag:yaml.org,2002:merge": "string",
}
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _read_yaml(text: str, found: list[Found]) -> Node:
    loader = None
    try:
        loader = _LOADER(text)
        composed = loader.get_single_node()
    except yaml.YAMLError as error:
        raise _yaml_fault(error) from error
    except RecursionError as error:
        raise Unreadable("nested too deeply to be read") from error
    finally:
        if loader is not None:
            loader.dispose()
    if composed is None:
        raise Unreadable("the document is empty")
    return _YamlTree(text, found).convert(composed, 0)


def _yaml_fault(error: yaml.YAMLError) -> Unreadable:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            span = Span(mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2)
            return Unreadable(f"not YAML: {error.problem or error.context}", span)
    return Unreadable(f"not YAML: {' '.join(str(error).split())}")


class _YamlTree:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, text: str, found: list[Found]) -> None:
        self.lines = text.split("\n")
        self.found = found
        self.done: dict[int, Node] = {}
        self.under_way: set[int] = set()
        self.constructor = yaml.constructor.SafeConstructor()

    def convert(self, node: yaml.Node, depth: int) -> Node:
        known = self.done.get(id(node))
        if known is not None:
            return known
        start, end = node.start_mark, node.end_mark
        span = Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)
        if depth > MAX_DEPTH:
            raise Unreadable(f"nested more than {MAX_DEPTH} levels deep", span)
        if id(node) in self.under_way:
            self.found.append(Found("cyclic-alias", span, "an alias leads back to the value that it is part of"))
            return Node("null", span)
        self.under_way.add(id(node))
        made = self._made(node, span, depth)
        self.under_way.discard(id(node))
        self.done[id(node)] = made
        return made

    def _made(self, node: yaml.Node, span: Span, depth: int) -> Node:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, span)
        self._standard(node.tag, span, ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"))
        if isinstance(node, yaml.SequenceNode):
            made = Node("list", span)
            made.values = [self.convert(value, depth + 1) for value in node.value]
            return made
        made = Node("map", span)
        for key_node, value_node in node.value:
            mark, end = key_node.start_mark, key_node.end_mark
            key_span = Span(mark.line + 1, mark.column + 1, end.line + 1, end.column + 1)
            value = self.convert(value_node, depth + 1)
            if key_node.tag == "tag:yaml.org,2002:merge":
                for merged in [value, *value.values]:
                    for key, inner in merged.items.items():
                        made.items.setdefault(key, inner)
                        made.key_spans.setdefault(key, key_span)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self.found.append(Found("wrong-type", key_span, "a key has to be a text"))
                continue
            if key_node.value in made.key_spans and key_node.value in made.items:
                first = made.key_spans[key_node.value].line
                message = f"the key {key_node.value!r} is already on line {first}: one of the two is lost"
                self.found.append(Found("duplicate-key", key_span, message))
            made.items[key_node.value] = value
            made.key_spans[key_node.value] = key_span
        return made

    def _scalar(self, node: yaml.ScalarNode, span: Span) -> Node:
        kind = _TAGS.get(node.tag)
        if kind is None:
            self._standard(node.tag, span, ())
            kind = "string"
        scalar: Any = node.value
        try:
            if kind == "integer":
                scalar = self.constructor.construct_yaml_int(node)
            elif kind == "float":
                scalar = self.constructor.construct_yaml_float(node)
            elif kind == "boolean":
                scalar = self.constructor.construct_yaml_bool(node)
            elif kind == "null":
                scalar = None
        except (ValueError, KeyError):
            kind = "string"  # `!!int x`, or a number with nothing but underscores
        made = Node(kind, span, scalar)
        if node.style in ("|", ">"):
            self._place_block(made, node.style)
        return made

    def _place_block(self, made: Node, style: str) -> None:
        """Find the first character of a block of text; its lines may be indented by any number of spaces."""
        first = made.span.line  # the line after the indicator, counted from 0
        text = made.string
        while first < len(self.lines) and not self.lines[first].strip() and text.strip("\n"):
            first += 1
        if first >= len(self.lines):
            return
        blank = len(text) - len(text.lstrip("\n"))
        line = self.lines[first]
        wanted = text[blank:].split("\n", 1)[0]
        column = line.find(wanted) if style == "|" else len(line) - len(line.lstrip())
        made.body = (first + 1 - blank, max(column, 0) + 1)
        made.literal = style == "|" and column >= 0

    def _standard(self, tag: str, span: Span, expected: tuple[str, ...]) -> None:
        if tag not in expected and not (tag in _TAGS and expected == ()):
            short = tag.replace("tag:yaml.org,2002:", "!!")
            self.found.append(Found("unknown-tag", span, f"{short} means nothing to Systems Manager"))


# --- JSON ---

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_WORDS: Final[tuple[tuple[str, Kind, Any], ...]] = (
    ("true", "boolean", True),
    ("false", "boolean", False),
    ("null", "null", None),
)


class _JsonReader:
    """RFC 8259 with places. Literal control characters in texts are taken, as AWS's parser takes tabs there."""

    def __init__(self, text: str, found: list[Found]) -> None:
        self.text = text
        self.found = found
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, offset: int) -> tuple[int, int]:
        low, high = 0, len(self.starts)
        while high - low > 1:
            middle = (low + high) // 2
            if self.starts[middle] <= offset:
                low = middle
            else:
                high = middle
        return low + 1, offset - self.starts[low] + 1

    def span(self, start: int, end: int) -> Span:
        return Span(*self.place(start), *self.place(end))

    def fail(self, message: str, offset: int) -> Unreadable:
        return Unreadable(f"not JSON: {message}", self.span(offset, offset + 1))

    def skip(self, offset: int) -> int:
        match = _SPACE.match(self.text, offset)
        return match.end() if match else offset

    def document(self) -> Node:
        node, end = self.value(self.skip(0), 0)
        end = self.skip(end)
        if end != len(self.text):
            raise self.fail("there is more after the end of the document", end)
        return node

    def value(self, at: int, depth: int) -> tuple[Node, int]:
        if depth > MAX_DEPTH:
            raise self.fail(f"nested more than {MAX_DEPTH} levels deep", at)
        first = self.text[at : at + 1]
        if first == '"':
            text, end = self.string(at)
            return Node("string", self.span(at, end), text), end
        if first == "{":
            return self.mapping(at, depth)
        if first == "[":
            return self.list(at, depth)
        for word, kind, scalar in _WORDS:
            if self.text.startswith(word, at):
                end = at + len(word)
                return Node(kind, self.span(at, end), scalar), end
        match = _NUMBER.match(self.text, at)
        if match is None:
            raise self.fail("a value is wanted" + (f", found {first!r}" if first else ", found the end"), at)
        if match[1] or match[2]:
            return Node("float", self.span(at, match.end()), float(match[0])), match.end()
        return Node("integer", self.span(at, match.end()), int(match[0])), match.end()

    def string(self, at: int) -> tuple[str, int]:
        try:
            return json.decoder.scanstring(self.text, at + 1, False)  # type: ignore[attr-defined,no-any-return]
        except json.JSONDecodeError as error:
            raise self.fail(error.msg, error.pos) from error

    def mapping(self, at: int, depth: int) -> tuple[Node, int]:
        start, at = at, self.skip(at + 1)
        node = Node("map", self.span(start, start + 1))
        if self.text[at : at + 1] == "}":
            node.span = self.span(start, at + 1)
            return node, at + 1
        while True:
            if self.text[at : at + 1] != '"':
                raise self.fail("a key in quotes is wanted", at)
            key, end = self.string(at)
            key_span = self.span(at, end)
            at = self.skip(end)
            if self.text[at : at + 1] != ":":
                raise self.fail(f"a colon is wanted after the key {key!r}", at)
            value, at = self.value(self.skip(at + 1), depth + 1)
            if key in node.items:
                first = node.key_spans[key].line
                message = f"the key {key!r} is already on line {first}: one of the two is lost"
                self.found.append(Found("duplicate-key", key_span, message))
            node.items[key], node.key_spans[key] = value, key_span
            at = self.skip(at)
            if self.text[at : at + 1] == "}":
                node.span = self.span(start, at + 1)
                return node, at + 1
            if self.text[at : at + 1] != ",":
                raise self.fail("a comma or } is wanted", at)
            at = self.skip(at + 1)

    def list(self, at: int, depth: int) -> tuple[Node, int]:
        start, at = at, self.skip(at + 1)
        node = Node("list", self.span(start, start + 1))
        if self.text[at : at + 1] == "]":
            node.span = self.span(start, at + 1)
            return node, at + 1
        while True:
            value, at = self.value(at, depth + 1)
            node.values.append(value)
            at = self.skip(at)
            if self.text[at : at + 1] == "]":
                node.span = self.span(start, at + 1)
                return node, at + 1
            if self.text[at : at + 1] != ",":
                raise self.fail("a comma or ] is wanted", at)
            at = self.skip(at + 1)
