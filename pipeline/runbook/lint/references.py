"""A reference in, its type out; or what is wrong with it. Source: User Guide, automation-variables."""

import re
from typing import Final, NamedTuple

from pipeline.runbook import language
from pipeline.runbook.lint.aws import near
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.view import Document, Reference, Step

_WORD: Final = re.compile(r"[A-Za-z0-9_]+")
_LOOP_NAMES: Final = (language.ITERATOR_VALUE, language.ITERATION, "CurrentLoopIteration")


class Resolved(NamedTuple):
    """`type` is None when it cannot be known; `producer` is the step whose output it is."""

    type: str | None = None
    producer: Step | None = None
    found: Found | None = None


def resolve(document: Document, step: Step | None, reference: Reference, steps: dict[str, Step]) -> Resolved:
    """What a reference of `step` (None: outside the steps) stands for."""
    name = reference.name
    if name.startswith(("ssm:", "ssm-secure:")):
        return Resolved("String")  # where it may stand is another rule's question
    if name in language.GLOBAL_VARIABLES:
        return Resolved(language.GLOBAL_VARIABLES[name])
    if name.startswith(("global:", "automation:")):
        message = f"there is no {name}{near(name, language.GLOBAL_VARIABLES)}"
        return Resolved(found=Found("undeclared-reference", reference.span, message))
    if name.startswith("variable:"):
        return _variable(document, reference)
    if name in document.parameters:
        return Resolved(_known(document.parameters[name].value_type))
    head = _WORD.match(name)
    if head is None or "{{" in name:
        message = f"{{{{ {name} }}}} is no reference: names cannot be put together from others"
        return Resolved(found=Found("bad-reference", reference.span, message))
    first, rest = head[0], name[head.end() :]
    declared = document.parameters.get(first)
    if declared is not None and not rest.startswith("."):
        return Resolved(_known(declared.value_type) if not rest else None)
    if first in language.PSEUDO_PARAMETERS and not rest:
        return Resolved("String")
    if rest.startswith("."):
        return _output(step, reference, first, rest[1:], steps)
    message = f"nothing is called {first}{near(first, [*document.parameters, *language.GLOBAL_VARIABLES])}"
    return Resolved(found=Found("undeclared-reference", reference.span, message))


def _known(kind: str) -> str | None:
    """A type that is none says nothing; its own rule speaks of it."""
    return kind if kind in language.VALUE_TYPES else None


def _variable(document: Document, reference: Reference) -> Resolved:
    head = _WORD.match(reference.name, len("variable:"))
    name = head[0] if head is not None else ""
    declared = document.variables.get(name)
    if declared is None:
        message = f"there is no variable {name!r}{near(name, document.variables)}"
        return Resolved(found=Found("undeclared-reference", reference.span, message))
    return Resolved(_known(declared.value_type) if reference.name == f"variable:{name}" else None)


def _output(step: Step | None, reference: Reference, first: str, rest: str, steps: dict[str, Step]) -> Resolved:
    word = _WORD.match(rest)
    output, beyond = (word[0], rest[word.end() :]) if word is not None else (rest, "")
    around = step.parent if step is not None else None
    while around is not None:
        if first in ("loop", around.name) and output in _LOOP_NAMES:
            if output != language.ITERATOR_VALUE:
                return Resolved("Integer")
            return Resolved((around.inputs.text("IteratorDataType") or "String") if not beyond else None)
        around = around.parent
    producer = steps.get(first)
    if producer is None:
        message = f"no step is called {first}{near(first, steps)}"
        return Resolved(found=Found("undeclared-reference", reference.span, message))
    declared = producer.outputs.get(output)
    if declared is not None:
        return Resolved(_known(declared.type) if not beyond else None, producer)
    kind = producer.kind
    if kind is None:
        return Resolved(None, producer)
    if output in kind.outputs:
        return Resolved(kind.outputs[output] if not beyond else None, producer)
    known = [*producer.outputs, *kind.outputs]
    there = f"it has {', '.join(known)}" if known else "it has none"
    message = f"the step {first} has no output {output}{near(output, known)} ({there})"
    return Resolved(None, producer, Found("unknown-output", reference.span, message))
