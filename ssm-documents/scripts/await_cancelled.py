"""Wait until the group has no active refresh any more, so that the next one can start.

Whether Cancelling lasts until hosts in a termination hook are gone is not documented. Should it, those hosts are
drained and let go now: their tasks may then move twice, which is better than a roll that stands still.
"""

import time
from typing import Any

from drain import release
from fleetview import ACTIVE_REFRESH, group_named, refreshes_of, wait_for

PATIENCE_WITH_CANCELLING_SECONDS = 120


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Group, Cluster, Since (seconds since 1970). Out: State `ended`, Reason."""
    began = time.time()

    def look() -> dict[str, Any]:
        active = [one for one in refreshes_of(events["Group"]) if one["Status"] in ACTIVE_REFRESH]
        if not active:
            return {"State": "ended", "Reason": "no refresh is active"}
        status = active[0]["Status"]
        if status == "Cancelling" and time.time() - began > PATIENCE_WITH_CANCELLING_SECONDS:
            release(events["Cluster"], group_named(events["Group"]), "Terminating:Wait")
        return {"State": "waiting", "Reason": f"the instance refresh is {status}"}

    return wait_for(look)
