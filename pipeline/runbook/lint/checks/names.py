"""Names that lead somewhere: steps, references, outputs.

Sources: User Guide, automation-actions, automation-variables.
"""

import re
from collections.abc import Iterator
from typing import Final

from pipeline.runbook import language
from pipeline.runbook.lint.aws import near
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import Node
from pipeline.runbook.lint.references import resolve
from pipeline.runbook.lint.view import REFERENCE, Document, Reference, Step, references_under

_OUTPUT: Final = re.compile(r"([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")


def step_names(document: Document) -> Iterator[Found]:
    """Names of steps are words, and each belongs to one step."""
    seen: dict[str, Step] = {}
    for step in document.all_steps():
        if not step.name:
            continue
        if not re.fullmatch(language.STEP_NAME_PATTERN, step.name):
            message = f"{step.name!r}: a step's name has letters, digits and underscores only"
            yield Found("step-name", step.name_span, message)
        if step.name in seen:
            line = seen[step.name].name_span.line
            message = f"the step on line {line} is called {step.name} already"
            yield Found("duplicate-step", step.name_span, message)
        seen.setdefault(step.name, step)


def choices(step: Step) -> Iterator[tuple[str, Node]]:
    """The steps that a branch names: NextStep of each choice, and Default."""
    if step.action == "aws:branch":
        listed = step.inputs.get("Choices")
        for choice in listed.values if listed is not None else ():
            if (following := choice.get("NextStep")) is not None:
                yield following.string, following
        if (default := step.inputs.get("Default")) is not None:
            yield default.string, default


def step_targets(document: Document) -> Iterator[Found]:
    """Where steps go exists, and may be gone to."""
    for step in document.all_steps():
        siblings = {other.name: other for other in step.siblings if other.name}
        outer = step.parent
        while outer is not None:  # a step of a loop may jump out of it
            siblings = {other.name: other for other in outer.siblings if other.name} | siblings
            outer = outer.parent
        targets = list(choices(step))
        for key in ("onFailure", "onCancel"):
            if name := step.target(key):
                targets.append((name, step.node.items[key]))
        if (following := step.node.get("nextStep")) is not None:
            targets.append((following.string, following))
        for name, node in targets:
            if name not in siblings and "{{" not in name:
                message = f"no step is called {name!r}{near(name, siblings)}"
                yield Found("unknown-step", node.span, message)
        target = siblings.get(step.target("onCancel"))
        if target is not None and target.action in language.ON_CANCEL_FORBIDDEN_TARGETS:
            message = f"onCancel cannot go to {target.name}: it is {target.action}"
            yield Found("cancel-target", step.node.items["onCancel"].span, message)


def references_known(document: Document) -> Iterator[Found]:
    """Every reference names something that is declared."""
    steps = document.steps_by_name()
    for step, reference in _all_references(document):
        if reference.name.startswith("ssm:"):
            message = "a parameter of Parameter Store is looked up in the default of a parameter only"
            yield Found("ssm-reference", reference.span, message)
            continue
        resolved = resolve(document, step, reference, steps)
        if resolved.found is not None:
            yield resolved.found
        elif reference.node.scalar is None:
            yield Found("bad-reference", reference.span, "a reference cannot stand here")
    for step in document.all_steps():
        for node in step.node.walk():
            for key, span in node.key_spans.items():
                if "{{" in key and step.action != "aws:executeScript":
                    yield Found("key-reference", span, "a reference cannot be a key, only a value")


def _all_references(document: Document) -> Iterator[tuple[Step | None, Reference]]:
    for reference in references_under(document.root.get("assumeRole")):
        yield None, reference
    for step in document.all_steps():
        for key, node in step.node.items.items():
            if key not in ("inputs", "description"):
                yield from ((step, reference) for reference in references_under(node))
        for key, node in step.inputs.items.items():
            # a script's braces are its own; the steps of a loop come by themselves
            if not (step.action == "aws:executeScript" and key == "Script") and not (step.steps and key == "Steps"):
                yield from ((step, reference) for reference in references_under(node))


def document_outputs(document: Document) -> Iterator[Found]:
    """The outputs of the whole document are outputs of its steps."""
    listed = document.root.get("outputs")
    steps = document.steps_by_name()
    for node in listed.values if listed is not None else ():
        if node.kind != "string":
            yield Found("wrong-type", node.span, "an output of the document is a text: STEP.OUTPUT")
            continue
        if node.string.startswith(("variable:", "{{")):
            continue
        match = _OUTPUT.match(node.string)
        if match is None:
            yield Found("unknown-document-output", node.span, f"{node.string!r} is not of the form STEP.OUTPUT")
            continue
        step = steps.get(match[1])
        if step is None:
            message = f"no step is called {match[1]}{near(match[1], steps)}"
            yield Found("unknown-document-output", node.span, message)
        elif step.kind is not None and match[2] not in (*step.outputs, *step.kind.outputs):
            known = [*step.outputs, *step.kind.outputs]
            message = f"the step {step.name} has no output {match[2]}{near(match[2], known)}"
            yield Found("unknown-output", node.span, message)


def unused_names(document: Document) -> Iterator[Found]:
    """Parameters and variables that nothing refers to: often a reference that was misspelt as plain text."""
    used: set[str] = set()
    for node in document.root.walk():
        for text in (node.string, *node.items):
            for match in REFERENCE.finditer(text):
                used.update(re.findall(r"[A-Za-z0-9_-]+", match[1]))
    main = document.main_steps
    if main is None or not main.values:
        return
    for name, declared in document.parameters.items():
        if name not in used:
            yield Found("unused-parameter", declared.key, f"nothing refers to the parameter {name}")
    for name, declared in document.variables.items():
        if name not in used:
            yield Found("unused-parameter", declared.key, f"nothing refers to the variable {name}")
