"""The gate of a way back, as gate.py has it. No alarm keeps it shut: what rang may be the roll's own."""

from typing import Any

from gate import gate


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In and out: as gate.py has it, without Alarms."""
    return gate(events, list)
