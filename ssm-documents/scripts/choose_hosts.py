"""Hosts as targets of SSM's rate control. Asks AWS nothing."""

from typing import Any


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: InstanceIds, Group: one of both. Out: Key and Values of the target. Raises ValueError for both or neither."""
    ids, group = events["InstanceIds"], events["Group"]
    if bool(ids) == bool(group):
        raise ValueError("name either InstanceIds or a Group, not both and not none")
    if ids:
        return {"Key": "ParameterValues", "Values": list(dict.fromkeys(ids))}
    # Auto Scaling tags each of its instances so; SSM looks them up itself, so there may be more than 50.
    return {"Key": "tag:aws:autoscaling:groupName", "Values": [group]}
