"""Documents that are broken on purpose, one mistake each, as people and renames make them.

Every mutation makes the document wrong: an input that may be left out is not dropped, since what is left is as good.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.runbook.lint import aws, source
from pipeline.runbook.lint.checks.calls import operation_of
from pipeline.runbook.lint.checks.scripts import script_of
from pipeline.runbook.lint.node import Node, Span
from pipeline.runbook.lint.view import Document, references_under, view


@dataclass(frozen=True)
class Mutation:
    """One mistake: its kind, what was done, and the text with it."""

    kind: str
    what: str
    text: str


class Mutator:
    """Makes mistakes in one document's text."""

    def __init__(self, text: str) -> None:
        self.text = text
        root, _ = source.read(text)
        self.document: Document = view(root, text, json=source.is_json(text))
        starts = [0]
        for line in text.split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        self.starts = starts

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column - 1

    def replaced(self, span: Span, new: str) -> str:
        return (
            self.text[: self.offset(span.line, span.column)]
            + new
            + self.text[self.offset(span.end_line, span.end_column) :]
        )

    def dropped(self, parent: Node, key: str) -> str | None:
        """The text without one key of a mapping; None where that would leave no mapping."""
        if len(parent.items) < 2:
            return None
        keys = list(parent.items)
        at = self.offset(*parent.key_spans[key][:2])
        index = keys.index(key)
        if index + 1 < len(keys):
            return self.text[:at] + self.text[self.offset(*parent.key_spans[keys[index + 1]][:2]) :]
        span = parent.items[key].span
        end = self.offset(span.end_line, span.end_column)
        before = self.text[:at].rstrip(" ")
        if before.endswith(","):  # a flow mapping
            return before[:-1] + self.text[end:]
        if not before.endswith("\n"):
            return None
        return before + (self.text[end:] if span.end_column == 1 else self.text[end:].lstrip("\n"))

    def mutations(self) -> Iterator[Mutation]:
        """Every mistake that can be made."""
        for make in (self._names, self._calls, self._outputs, self._ways, self._parameters, self._scripts, self._keys):
            yield from make()

    def _typo(self, node: Node | None) -> str | None:
        if node is None or not re.fullmatch(r"[A-Za-z][\w:.$\[\]-]{3,}", node.string):
            return None
        text = node.string
        middle = len(text) - 2
        return self.replaced(node.span, text[:middle] + text[middle + 1] + text[middle] + "x")

    def _emit(self, kind: str, what: str, text: str | None) -> Iterator[Mutation]:
        if text is not None and text != self.text:
            yield Mutation(kind, what, text)

    def _names(self) -> Iterator[Mutation]:
        for step in self.document.all_steps():
            yield from self._emit("misspell an action", step.name, self._typo(step.node.get("action")))
            if any(f"{step.name}." in one.name for one in references_under(self.document.root)):
                yield from self._emit("rename a step", step.name, self._typo(step.node.get("name")))
        for reference in references_under(self.document.main_steps):
            if re.fullmatch(r"\w{3,}(\.\w+)?", reference.name) and reference.span.line == reference.span.end_line:
                where = reference.span
                text = self.replaced(where, "{{ " + reference.name[:-1] + "q }}")
                if where.column + len(reference.name) < where.end_column:
                    yield from self._emit("misspell a reference", reference.name, text)

    def _calls(self) -> Iterator[Mutation]:
        for step in self.document.all_steps():
            yield from self._emit("rename an operation", step.name, self._typo(step.inputs.get("Api")))
            yield from self._emit("rename a service", step.name, self._typo(step.inputs.get("Service")))
            operation = operation_of(step)
            needed = set(aws.required(operation.input_shape)) if operation is not None else set()
            if step.kind is not None:
                needed |= {key for key, wanted in step.kind.inputs.items() if wanted.required} | set(step.kind.one_of)
            for key in step.inputs.items:
                if step.action == "aws:executeScript" and key in ("InputPayload", "Script"):
                    continue
                if key in needed:
                    yield from self._emit("drop an input", f"{step.name}.{key}", self.dropped(step.inputs, key))
                renamed = self.replaced(step.inputs.key_spans[key], key[:-1] + "xy")
                yield from self._emit("rename an input", f"{step.name}.{key}", renamed)
            for value in (step.inputs.get("DesiredValues") or Node("list", Span(1, 1, 1, 1))).values:
                yield from self._emit("wait for a value that never comes", step.name, self._typo(value))

    def _outputs(self) -> Iterator[Mutation]:
        for step in self.document.all_steps():
            for output in step.outputs.values():
                what = f"{step.name}.{output.name}"
                yield from self._emit("change a selector", what, self._typo(output.node.get("Selector")))
                yield from self._emit("rename an output", what, self._typo(output.node.get("Name")))
                kind = output.node.get("Type")
                if kind is not None:
                    new = "Integer" if kind.string == "String" else "String"
                    yield from self._emit("change an output's type", what, self.replaced(kind.span, new))
                selector = output.node.get("Selector")
                if selector is not None and "[0]" in selector.string and selector.span.line == selector.span.end_line:
                    without = f'"{selector.string.replace("[0]", "", 1)}"'
                    yield from self._emit("drop an index", what, self.replaced(selector.span, without))
        for output_node in (self.document.root.get("outputs") or Node("list", Span(1, 1, 1, 1))).values:
            yield from self._emit("misspell a document's output", output_node.string, self._typo(output_node))

    def _ways(self) -> Iterator[Mutation]:
        for step in self.document.all_steps():
            for key in ("onFailure", "onCancel", "nextStep"):
                node = step.node.get(key)
                if node is None:
                    continue
                if step.target(key) or key == "nextStep":
                    yield from self._emit(f"retarget {key} to nothing", step.name, self._typo(node))
                for other in step.siblings:
                    if step.target(key) and other.name not in (step.target(key), step.name):
                        text = self.replaced(node.span, f"step:{other.name}")
                        yield from self._emit(f"retarget {key} to {other.name}", step.name, text)
                        break
                if step.target(key):
                    yield from self._emit(f"drop {key}", step.name, self.dropped(step.node, key))
            # Elsewhere the execution ends the same without it: AWS's default is true, and a failure ends it anyway.
            if "isCritical" in step.node.items and step.target("onFailure"):
                yield from self._emit("drop isCritical", step.name, self.dropped(step.node, "isCritical"))
            if step.action == "aws:branch":
                yield from self._emit("drop Default", step.name, self.dropped(step.inputs, "Default"))
                for choice in (step.inputs.get("Choices") or Node("list", Span(1, 1, 1, 1))).values:
                    for key in choice.items:
                        if key == "StringEquals":
                            text = self.replaced(choice.key_spans[key], "NumericEquals")
                            yield from self._emit("change a condition's operator", step.name, text)
                    yield from self._emit("retarget a choice", step.name, self._typo(choice.get("NextStep")))

    def _parameters(self) -> Iterator[Mutation]:
        for parameter in self.document.parameters.values():
            renamed = self.replaced(parameter.key, parameter.name + "X")
            yield from self._emit("rename a parameter", parameter.name, renamed)
            kind = parameter.node.get("type")
            if kind is not None:
                for new in ("Integer" if parameter.type != "Integer" else "StringMap", "Text"):
                    yield from self._emit(f"type {new}", parameter.name, self.replaced(kind.span, new))

    def _scripts(self) -> Iterator[Mutation]:
        for step in self.document.all_steps():
            found = script_of(step)
            if found is None:
                continue
            node, handler = found
            yield from self._emit("rename a handler", step.name, self._typo(step.inputs.get("Handler")))
            payload = step.inputs.get("InputPayload")
            for key in payload.items if payload is not None else ():
                assert payload is not None
                renamed = self.replaced(payload.key_spans[key], key + "x")
                yield from self._emit("rename a script's input", f"{step.name}.{key}", renamed)
            patterns: tuple[tuple[str, str, Callable[[re.Match[str]], str]], ...] = (
                ("rename a script's call", r"(?<=[a-z0-9)]\.)(describe|list|get|set|start|put)_\w+(?=\()", _longer),
                ("rename a call's argument", r"(?<=[(, ])([A-Z]\w+|cluster|tasks|services)(?==[^=])", _longer),
                ("change an answer's key", r'(?<=\[")[A-Za-z]\w{3,}(?="\])', _longer),
                ("break a script", r"(?<=\)):(?=\n)", lambda _: ""),
                ("call what is not there", rf"(?<=return )(?!None|True|False|{handler})[a-z]\w{{4,}}(?=\()", _longer),
            )
            start = self.offset(node.span.line, node.span.column)
            end = self.offset(node.span.end_line, node.span.end_column)
            for kind, pattern, change in patterns:
                for match in re.finditer(pattern, self.text[start:end]):
                    at = start + match.start()
                    text = self.text[:at] + change(match) + self.text[start + match.end() :]
                    yield from self._emit(kind, f"{step.name}: {match[0]}", text)

    def _keys(self) -> Iterator[Mutation]:
        for step in self.document.all_steps():
            for key in step.node.items:
                renamed = self.replaced(step.node.key_spans[key], key[:-1] + "xy")
                yield from self._emit("misspell a step's key", f"{step.name}.{key}", renamed)


def _longer(match: re.Match[str]) -> str:
    return match[0][:-1] + "zz"


def chosen(name: str, text: str, number: int, seed: int) -> list[Mutation]:
    """A seeded choice of a document's mutations, every kind before any is there twice."""
    every = list(Mutator(text).mutations())
    generator = random.Random(f"{seed} {name}")  # noqa: S311 - a seeded choice, no secret
    generator.shuffle(every)
    by_kind: dict[str, list[Mutation]] = {}
    for mutation in every:
        by_kind.setdefault(mutation.kind.split(" to ")[0], []).append(mutation)
    made: list[Mutation] = []
    while len(made) < number and any(by_kind.values()):
        for kind in sorted(by_kind):
            if by_kind[kind]:
                made.append(by_kind[kind].pop())
    return made[:number]
