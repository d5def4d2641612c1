"""AWS's subset of JSONPath: an answer and a selector in, what it finds out.

Exactly three operators: `.child`, `..name` (a scan of all levels, always a list) and `[index]`.
Source: UG automation-action-outputs-inputs, "Using JSONPath in runbooks".
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

_PART: Final = re.compile(
    r"\.\.(?P<scan>[A-Za-z0-9_@:-]+)|\.(?P<child>[A-Za-z0-9_@:-]+)|\[(?P<index>\d+)\]|\['(?P<name>[^']+)'\]"
)
_FOREIGN: Final = {
    "[*]": "a wildcard",
    "[?": "a filter",
    "(": "a function",
    "*": "a wildcard",
    ":": "a slice",
    "[-": "an index from the end",
}


class BadSelector(ValueError):
    """The selector is not of the subset; the text says what is wrong."""


class _Missing:
    """There is nothing where the selector looks."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()


@dataclass(frozen=True)
class Part:
    """One operator: `child` and `scan` with a name, `index` with a number."""

    kind: Literal["child", "scan", "index"]
    key: str | int


@lru_cache(maxsize=4096)
def parse(selector: str) -> tuple[Part, ...]:
    """The operators of a selector. Raises BadSelector for anything but the three that AWS documents.

    A selector that does not begin with `$.` is read as if it did: published runbooks that run in AWS have such.
    """
    if not selector.startswith("$"):
        return parse(f"$.{selector}")
    parts: list[Part] = []
    at = 1
    while at < len(selector):
        match = _PART.match(selector, at)
        if match is None:
            rest = selector[at:]
            what = next((name for text, name in _FOREIGN.items() if text in rest), f"{rest!r}")
            raise BadSelector(
                f"the selector {selector!r} has {what} at character {at + 1}; "
                "AWS documents .child, ..scan and [index] only"
            )
        if match["scan"]:
            parts.append(Part("scan", match["scan"]))
        elif match["index"]:
            parts.append(Part("index", int(match["index"])))
        else:
            parts.append(Part("child", match["child"] or match["name"]))
        at = match.end()
    return tuple(parts)


def select(selector: str, answer: Any) -> Any:
    """What the selector finds in the answer, or MISSING. After a scan, the result is always a list.

    Raises BadSelector.
    """
    parts = parse(selector)
    found = answer
    for position, part in enumerate(parts):
        if part.kind == "scan":
            return _scanned([found], parts[position:])
        found = _step(found, part)
        if found is MISSING:
            return MISSING
    return found


def _step(value: Any, part: Part) -> Any:
    if part.kind == "child":
        return value.get(part.key, MISSING) if isinstance(value, dict) else MISSING
    if isinstance(value, list) and isinstance(part.key, int) and part.key < len(value):
        return value[part.key]
    return MISSING


def _scanned(values: list[Any], parts: tuple[Part, ...]) -> list[Any]:
    """Every value that the rest of the path finds, from a scan on."""
    for part in parts:
        if part.kind == "scan":
            following: list[Any] = []
            for value in values:
                _scan(value, str(part.key), following)
            values = following
        else:
            values = [found for value in values if (found := _step(value, part)) is not MISSING]
    return values


def _scan(value: Any, name: str, found: list[Any]) -> None:
    """Level by level from the top, as the guide says: a match is taken, and what is below it is searched too."""
    if isinstance(value, dict):
        if name in value:
            found.append(value[name])
        for item in value.values():
            _scan(item, name, found)
    elif isinstance(value, list):
        for item in value:
            _scan(item, name, found)
