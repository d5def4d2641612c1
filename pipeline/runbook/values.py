"""Values and references: a step's inputs as written in, the same with every `{{ }}` replaced out.

A text that is nothing but one reference becomes the value with its type; a reference inside a longer text has to be a
String, an Integer or a Boolean. Nothing is converted. Source: UG automation-variables,
automation-action-outputs-inputs.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from pipeline.runbook.language import ValueType

_REFERENCE: Final = re.compile(r"\{\{\s*((?:ssm:/?)?[A-Za-z0-9_][A-Za-z0-9_:./-]*)\s*\}\}")
_NESTED: Final = re.compile(r"\{\{[^{}]*\{\{[^{}]*\}\}[^{}]*\}\}")


@dataclass(frozen=True)
class Reference:
    """What stands between `{{` and `}}`: a parameter, `STEP.OUTPUT`, or a name with a prefix such as `global:`."""

    name: str

    @cached_property
    def step(self) -> str:
        """The step of `STEP.OUTPUT`; nothing for any other reference."""
        return "" if ":" in self.name else self.name.partition(".")[0]

    @cached_property
    def output(self) -> str:
        """The output of `STEP.OUTPUT`; nothing for any other reference."""
        return "" if ":" in self.name else self.name.partition(".")[2]


class Unresolved(Exception):
    """A reference, or an input, that cannot be given its value; the text says which and why."""


Lookup = Callable[[Reference], Any]
Template = Callable[[Lookup], Any]


def references(text: str) -> list[Reference]:
    """Every reference in a text, in order."""
    if "{{" not in text:
        return []
    return [Reference(name) for name in _REFERENCE.findall(text)]


def nested_reference(text: str) -> bool:
    """Whether a reference stands inside of another one, as in `{{ {{x}} }}`."""
    return "{{" in text and _NESTED.search(text) is not None


def compiled(value: Any, *, splice: bool = True) -> Template:
    """A function that gives `value` with its references replaced; made once for a document, called at each step.

    With `splice`, a list whose item is nothing but a reference to a list takes up that list's items, as
    `InstanceIds: ["{{ launch.InstanceIds }}"]` does in AWS's guide. The function raises Unresolved.
    """
    template = _template(value, splice)
    return template if template is not None else lambda _: value


def _template(value: Any, splice: bool) -> Template | None:
    """None where nothing is to be replaced: then the value itself is used, without a copy."""
    if isinstance(value, str):
        return _text_template(value)
    if isinstance(value, Mapping):
        items = {key: _template(item, splice) for key, item in value.items()}
        if not any(items.values()):
            return None
        return lambda lookup: {
            key: value[key] if template is None else template(lookup) for key, template in items.items()
        }
    if isinstance(value, list):
        return _list_template(value, splice)
    return None


def _list_template(value: list[Any], splice: bool) -> Template | None:
    templates = [_template(item, splice) for item in value]
    if not any(templates):
        return None
    whole = [splice and isinstance(item, str) and _whole(item) is not None for item in value]

    def build(lookup: Lookup) -> list[Any]:
        built: list[Any] = []
        for item, template, may_splice in zip(value, templates, whole, strict=True):
            found = item if template is None else template(lookup)
            if may_splice and isinstance(found, list):
                built.extend(found)
            else:
                built.append(found)
        return built

    return build


def _whole(text: str) -> Reference | None:
    match = _REFERENCE.fullmatch(text.strip())
    return Reference(match[1]) if match else None


def _text_template(text: str) -> Template | None:
    if "{{" not in text:
        return None
    whole = _whole(text)
    if whole is not None:
        return lambda lookup: lookup(whole)
    pieces: list[str | Reference] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        pieces += [text[end : match.start()], Reference(match[1])]
        end = match.end()
    if not pieces:
        return None
    pieces.append(text[end:])

    def build(lookup: Lookup) -> str:
        return "".join(
            piece if isinstance(piece, str) else _embedded(piece, lookup(piece)) for piece in pieces if piece != ""
        )

    return build


def _embedded(reference: Reference, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise Unresolved(
        f"{{{{ {reference.name} }}}} is a {type_of(value)} and stands inside a longer text, which takes only a String, "
        "an Integer or a Boolean; convert it in an aws:executeScript step"
    )


def is_of_type(value: Any, kind: ValueType) -> bool:
    """Whether a value is of that type, without any conversion. UG documents-syntax-data-elements-parameters.

    A StringMap's values may be of any kind, since AWS's own guide selects nested objects as StringMap.
    """
    if kind == "String":
        return isinstance(value, str)
    if kind == "Boolean":
        return isinstance(value, bool)
    if kind == "Integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "StringMap":
        return isinstance(value, dict)
    if kind == "StringList":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def type_of(value: Any) -> str:
    """The type of a value in the language's own words."""
    if value is None:
        return "missing value"
    if isinstance(value, list):
        return "MapList" if value and all(isinstance(item, dict) for item in value) else "StringList"
    for kind, name in ((bool, "Boolean"), (int, "Integer"), (str, "String"), (dict, "StringMap")):
        if isinstance(value, kind):
            return name
    return type(value).__name__


def as_json(value: Any) -> Any:
    """An answer of AWS as JSON has it: times as texts, bytes as texts, tuples as lists. Copies only what changes."""
    if isinstance(value, dict):
        changed = {key: as_json(item) for key, item in value.items()}
        return value if all(changed[key] is value[key] for key in value) else changed
    if isinstance(value, list):
        items = [as_json(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, tuple | set | frozenset):
        return [as_json(item) for item in value]
    return value


def as_texts(value: Any) -> list[str]:
    """A value as AWS lists it among an execution's outputs: texts, whatever it was."""
    items: Sequence[Any] = value if isinstance(value, list) else [value]
    return [item if isinstance(item, str) else json.dumps(item, separators=(",", ":")) for item in items]
