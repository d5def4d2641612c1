"""A tree in, a document as the checks see it out: parameters, steps and outputs by name, whatever state they are in.

Nothing is refused here. What is missing or of the wrong kind is simply absent from the view; the shape checks say so.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pipeline.runbook import language
from pipeline.runbook.lint.node import Node, Span

DocumentKind = Literal["Automation", "Command", "other"]
AUTOMATION: Final = "0.3"
COMMAND: Final = "2.2"
OLDER: Final = ("1.0", "1.2", "2.0")

REFERENCE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
EMPTY: Final = Node("map", Span(1, 1, 1, 1))


@dataclass(frozen=True)
class Reference:
    """One `{{ name }}`. `whole`: the text is nothing else, so the value keeps its type."""

    name: str
    node: Node
    offset: int
    length: int
    whole: bool

    @property
    def span(self) -> Span:
        return self.node.at(self.offset, self.length)


def references(node: Node) -> Iterator[Reference]:
    """The references of one text."""
    text = node.string
    if "{{" not in text:
        return
    for match in REFERENCE.finditer(text):
        whole = match.group(0) == text.strip()
        yield Reference(match[1], node, match.start(), match.end() - match.start(), whole)


def references_under(node: Node | None) -> Iterator[Reference]:
    """The references of every text under `node`."""
    if node is not None:
        for inner in node.walk():
            yield from references(inner)


@dataclass(eq=False)
class Declared:
    """A parameter or a variable."""

    name: str
    node: Node
    key: Span
    type: str
    default: Node | None

    @property
    def value_type(self) -> str:
        """Its type in the language's own six; AWS's resource types are texts, or lists of them."""
        if self.type.startswith("List<"):
            return "StringList"
        return "String" if self.type.startswith("AWS::") else self.type

    @property
    def restricted(self) -> bool:
        """Whether its values are limited to what the document allows."""
        return "allowedPattern" in self.node.items or "allowedValues" in self.node.items


@dataclass(eq=False)
class Output:
    """An output that a step declares."""

    name: str
    selector: str
    type: str
    node: Node


@dataclass(eq=False)
class Step:
    """One step; `parent` is the loop that it is in."""

    name: str
    action: str
    node: Node
    parent: "Step | None"
    index: int
    siblings: "list[Step]"
    inputs: Node = EMPTY
    outputs: dict[str, Output] = field(default_factory=dict)
    steps: "list[Step]" = field(default_factory=list)

    @property
    def kind(self) -> language.Action | None:
        return language.ACTIONS.get(self.action)

    @property
    def following(self) -> "Step | None":
        """The next one in document order."""
        return self.siblings[self.index + 1] if self.index + 1 < len(self.siblings) else None

    @property
    def name_span(self) -> Span:
        name = self.node.get("name")
        return name.span if name is not None else self.node.span

    def span(self, key: str) -> Span:
        """The place of a property's value; of its name when the step has no such property."""
        value = self.node.get(key)
        return value.span if value is not None else self.name_span

    def flag(self, key: str) -> bool:
        """A property that is true, or the text `true`: AWS takes both."""
        return self.node.flag_of(key)

    def target(self, key: str) -> str:
        """The step that `onFailure` or `onCancel` goes to, empty when it goes to none."""
        text = self.node.text(key)
        return text[5:].strip() if text.startswith("step:") else ""


@dataclass(eq=False)
class Document:
    """A whole document, as lenient as it must be."""

    root: Node
    text: str
    kind: DocumentKind
    version: str
    json: bool
    name: str = ""
    policy: Node | None = None
    policy_file: str = ""
    others: "Mapping[str, Document]" = field(default_factory=dict)
    parameters: dict[str, Declared] = field(default_factory=dict)
    variables: dict[str, Declared] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def all_steps(self) -> Iterator[Step]:
        """Every step, those inside loops after their loop."""
        waiting = list(reversed(self.steps))
        while waiting:
            step = waiting.pop()
            yield step
            waiting.extend(reversed(step.steps))

    def steps_by_name(self) -> dict[str, Step]:
        """The first step of each name."""
        by_name: dict[str, Step] = {}
        for step in self.all_steps():
            if step.name:
                by_name.setdefault(step.name, step)
        return by_name

    @property
    def main_steps(self) -> Node | None:
        return self.root.get("mainSteps")


def is_document(root: Node) -> bool:
    """Whether this looks like a document of Systems Manager at all."""
    return "schemaVersion" in root.items and bool({"mainSteps", "runtimeConfig", "inputs"} & set(root.items))


def view(root: Node, text: str, *, json: bool, name: str = "") -> Document:
    """See a tree as a document."""
    version_node = root.get("schemaVersion")
    version = str(version_node.scalar) if version_node is not None else ""
    kind: DocumentKind = "Automation" if version == AUTOMATION else "Command" if version == COMMAND else "other"
    document = Document(root, text, kind, version, json, name)
    document.parameters = _declared(root.get("parameters"), "default")
    document.variables = _declared(root.get("variables"), "default")
    main = root.get("mainSteps")
    document.steps = _steps(main, None) if main is not None else []
    return document


def _declared(node: Node | None, default: str) -> dict[str, Declared]:
    made: dict[str, Declared] = {}
    if node is not None:
        for name, inner in node.items.items():
            made[name] = Declared(name, inner, node.key_spans[name], inner.text("type"), inner.get(default))
    return made


def _steps(node: Node, parent: Step | None) -> list[Step]:
    made: list[Step] = []
    for inner in node.values:
        if inner.kind != "map":
            continue
        step = Step(inner.text("name"), inner.text("action"), inner, parent, len(made), made)
        inputs = inner.get("inputs")
        if inputs is not None and inputs.kind == "map":
            step.inputs = inputs
        outputs = inner.get("outputs")
        for output in outputs.values if outputs is not None else ():
            if name := output.text("Name"):
                step.outputs[name] = Output(name, output.text("Selector"), output.text("Type") or "String", output)
        if step.action == "aws:loop" and (steps := step.inputs.get("Steps")) is not None:
            step.steps = _steps(steps, step)
        made.append(step)
    return made
