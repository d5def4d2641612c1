"""See whether what was asked for is under way, though the answer to it was lost.

RollbackInstanceRefresh and StartInstanceRefresh take no token: the next attempt is refused because of the very refresh
that the one before brought about.
"""

from typing import Any

from fleetview import ACTIVE_REFRESH, refreshes_of, version_in, wait_for


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Group, Version (of the launch template, which is to come back). Out: State `found` when a refresh brings it
    back, `none` when none does; Reason."""

    def look() -> dict[str, Any]:
        for one in refreshes_of(events["Group"]):
            forth = version_in(one.get("DesiredConfiguration") or {}) != events["Version"]
            if one["Status"] == "RollbackInProgress" or (one["Status"] in ACTIVE_REFRESH and not forth):
                return {"State": "found", "Reason": f"the instance refresh {one['InstanceRefreshId']} brings it back"}
        return {"State": "none", "Reason": f"no instance refresh brings version {events['Version']} back"}

    return wait_for(look)
