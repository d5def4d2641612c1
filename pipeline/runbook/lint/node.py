"""A document as a tree in which every key and value knows its place.

Values are not checked here: documents may be malformed, and the checks say so. YAML's anchors share nodes, so the
tree may be a graph, but never a cyclic one: the reader cuts cycles.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["map", "list", "string", "integer", "float", "boolean", "null"]
Scalar = str | int | float | bool | None


class Span(NamedTuple):
    """Where something is: lines and columns from 1, the end exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


class Node:
    """One value. `items` is filled for maps, `values` for lists, `scalar` for everything else.

    `key_spans` says where a map's keys are. For a block of text (`|` or `>` in YAML), `body` is the line and column of
    its first character, so that a place inside the text can be told; `literal` when its lines are lines of the file.
    """

    __slots__ = ("body", "items", "key_spans", "kind", "literal", "scalar", "span", "values")

    def __init__(self, kind: Kind, span: Span, scalar: Scalar = None) -> None:
        self.kind = kind
        self.span = span
        self.scalar = scalar
        self.items: dict[str, Node] = {}
        self.key_spans: dict[str, Span] = {}
        self.values: list[Node] = []
        self.body: tuple[int, int] | None = None
        self.literal = False

    def get(self, key: str) -> "Node | None":
        """The value of a key, None when there is no such key or this is no map."""
        return self.items.get(key)

    def text(self, key: str) -> str:
        """The text of a key, empty when there is none or it is no text."""
        node = self.items.get(key)
        return node.scalar if node is not None and isinstance(node.scalar, str) else ""

    def flag_of(self, key: str) -> bool:
        """Whether a key's value is true, or the text `true`: AWS takes both."""
        node = self.items.get(key)
        return node is not None and (node.scalar is True or node.string.lower() == "true")

    @property
    def string(self) -> str:
        """The text of this value, empty when it is no text."""
        return self.scalar if isinstance(self.scalar, str) else ""

    def key(self, name: str) -> Span:
        """Where a key is; the whole value when it has no such key."""
        return self.key_spans.get(name, self.span)

    def at(self, offset: int, length: int = 1) -> Span:
        """Where `length` characters from `offset` of this text are in the file; exact for plain texts and blocks."""
        before = self.string[:offset]
        lines, rest = before.count("\n"), len(before) - (before.rfind("\n") + 1)
        if self.body is not None:
            if not self.literal:
                return self.span
            line, column = self.body[0] + lines, self.body[1] + rest
        elif self.span.line == self.span.end_line:
            quote = 1 if self.span.end_column - self.span.column == len(self.string) + 2 else 0
            line, column = self.span.line, self.span.column + quote + offset
            if self.span.end_column - self.span.column not in (len(self.string), len(self.string) + 2):
                return self.span  # escapes: the text and the file differ in length
        else:
            return self.span
        return Span(line, column, line, column + length)

    def at_line(self, line: int, column: int = 0, length: int = 1) -> Span:
        """Where line `line` (from 1) of this text, and column `column` (from 0) of it, is."""
        if self.body is not None and self.literal:
            where = self.body[0] + line - 1
            return Span(where, self.body[1] + column, where, self.body[1] + column + length)
        return self.span

    def plain(self) -> object:
        """The value as Python's own dicts, lists and scalars."""
        if self.kind == "map":
            return {key: value.plain() for key, value in self.items.items()}
        if self.kind == "list":
            return [value.plain() for value in self.values]
        return self.scalar

    def walk(self) -> "Iterator[Node]":
        """This value and everything under it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.values)
            waiting.extend(node.items.values())


KIND_NAMES: dict[Kind, str] = {
    "map": "a mapping",
    "list": "a list",
    "string": "a text",
    "integer": "a whole number",
    "float": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
