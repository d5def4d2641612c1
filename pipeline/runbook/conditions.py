"""Conditions of aws:branch and aws:loop: a resolved condition in, true or false out.

An operand that is not there makes any operation false (AWS's guide branches on an output that only some answers have).
Operations on values of another type are false too: nothing is converted. Source: UG automation-action-branch,
automation-branch-condition.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Operation = Callable[[Any, Any], bool]


def _text(operation: Callable[[str, str], bool]) -> Operation:
    return lambda found, wanted: isinstance(found, str) and isinstance(wanted, str) and operation(found, wanted)


def _number(operation: Callable[[float, float], bool]) -> Operation:
    return lambda found, wanted: _is_number(found) and _is_number(wanted) and operation(found, wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


OPERATIONS: Final[Mapping[str, Operation]] = {
    "StringEquals": _text(lambda found, wanted: found == wanted),
    "EqualsIgnoreCase": _text(lambda found, wanted: found.casefold() == wanted.casefold()),
    "StartsWith": _text(lambda found, wanted: found.startswith(wanted)),
    "EndsWith": _text(lambda found, wanted: found.endswith(wanted)),
    "Contains": _text(lambda found, wanted: wanted in found),
    "NumericEquals": _number(lambda found, wanted: found == wanted),
    "NumericGreater": _number(lambda found, wanted: found > wanted),
    "NumericLesser": _number(lambda found, wanted: found < wanted),
    "NumericGreaterOrEquals": _number(lambda found, wanted: found >= wanted),
    "NumericLesserOrEquals": _number(lambda found, wanted: found <= wanted),
    "BooleanEquals": lambda found, wanted: isinstance(found, bool) and isinstance(wanted, bool) and found == wanted,
}


def holds(condition: Mapping[str, Any]) -> bool:
    """Whether the condition is true. Its shape was checked when the document was read; `NextStep` is ignored."""
    if "And" in condition:
        return all(holds(inner) for inner in condition["And"])
    if "Or" in condition:
        return any(holds(inner) for inner in condition["Or"])
    if "Not" in condition:
        return not holds(condition["Not"])
    name = next(key for key in condition if key in OPERATIONS)
    return OPERATIONS[name](condition.get("Variable"), condition[name])


def chosen(choices: list[Mapping[str, Any]]) -> str | None:
    """The NextStep of the first choice that is true, or None."""
    return next((str(choice["NextStep"]) for choice in choices if holds(choice)), None)
