"""Does a policy let telemetry through: in, a policy document; out, a verdict with the statement that decides.

Covers what stands in the way of guardduty:SendSecurityTelemetry: service control policies, endpoint policies,
boundaries and role policies. Conditions are weighed only where they are about account or organization of the caller;
a Deny under any other condition is no proof, and is not told as one.
"""

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ACTION = "guardduty:SendSecurityTelemetry"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`denied` by a Deny, `silent` when no statement allows it, `allowed`; `unclear` where a condition decides."""

    kind: Literal["allowed", "denied", "silent", "unclear"]
    reason: str = ""


def weigh(document: str, *, account: str = "", organization: str = "") -> Verdict:
    """What the policy says of the action for a caller of `account` in `organization`."""
    try:
        statements = list(_statements(json.loads(document)))
    except (ValueError, TypeError, AttributeError):
        return Verdict("unclear", "the policy is not readable as JSON")
    unclear = allowed = False
    for number, statement in enumerate(statements, 1):
        if not _names_action(statement):
            continue
        name = statement.get("Sid") or f"statement {number}"
        holds = _holds(statement.get("Condition") or {}, account, organization)
        if statement.get("Effect") == "Deny":
            if holds:
                return Verdict("denied", f"{name} denies {ACTION}" + _because(statement))
            unclear = unclear or holds is None
        elif holds:
            allowed = True
        else:
            unclear = unclear or holds is None
    if unclear:
        return Verdict("unclear", "a condition decides")
    return Verdict("allowed") if allowed else Verdict("silent", f"no statement allows {ACTION}")


def touches(document: str) -> bool:
    """Whether the policy could stand in the way at all: it denies, or leaves the action out of what it allows."""
    return weigh(document).kind in ("denied", "silent", "unclear")


def _statements(policy: Any) -> Iterator[Mapping[str, Any]]:
    found = policy.get("Statement", [])
    yield from [found] if isinstance(found, Mapping) else found


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else ([] if value is None else [str(value)])


def _names_action(statement: Mapping[str, Any]) -> bool:
    if "NotAction" in statement:
        return not any(_like(pattern) for pattern in _listed(statement["NotAction"]))
    return any(_like(pattern) for pattern in _listed(statement.get("Action")))


def _like(pattern: str) -> bool:
    return fnmatch.fnmatchcase(ACTION.lower(), pattern.lower().replace("[", "[[]"))


def _holds(condition: Mapping[str, Any], account: str, organization: str) -> bool | None:
    """True or False where only the caller's account and organization are asked about, None where more is."""
    known = {"aws:principalaccount": account, "aws:principalorgid": organization}
    unclear = False
    for operator, tests in condition.items():
        name = operator.lower().removesuffix("ifexists")
        for key, values in tests.items():
            value = known.get(key.lower(), "")
            if not value or name not in ("stringequals", "stringnotequals", "stringlike", "stringnotlike"):
                unclear = True
                continue
            among = any(fnmatch.fnmatchcase(value, str(pattern)) for pattern in _listed(values))
            if among == ("not" in name):
                return False
    return None if unclear else True


def _because(statement: Mapping[str, Any]) -> str:
    return f" under {json.dumps(statement['Condition'])}" if statement.get("Condition") else ""
