"""Wait for the canary as `await_hosts` does; where root volumes are replaced, empty the one host that is to be it.

A host keeps its place there, so that ours is the only canary that has to be drained. No other host is let go before
that one has proven itself, whatever the refresh chooses meanwhile.
"""

from typing import Any

from await_hosts import looker
from drain import release
from fleetview import group_named, is_on, wait_for

LANE = "replace-root-volume"
UNDER_WAY = ("ReplacingRootVolume:Proceed", "RootVolumeReplaced")


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: what `await_hosts` takes, and DrainTimeoutSeconds, which a host that is drained has beside TimeoutSeconds.

    Out: what `await_hosts` puts out.
    """
    swaps = events["Lane"] == LANE
    timeout = events["TimeoutSeconds"] + (events["DrainTimeoutSeconds"] if swaps else 0)
    watch = looker({**events, "TimeoutSeconds": timeout})

    def look() -> dict[str, Any]:
        answer = watch()
        if answer["State"] == "waiting" and swaps and (group := group_named(events["Group"])):
            chosen = [
                one
                for one in group["Instances"]
                if one["LifecycleState"] in UNDER_WAY or is_on(one, events["Version"], events["Image"])
            ]
            if not chosen:
                release(events["Cluster"], group, "ReplacingRootVolume:Wait")
        return answer

    return wait_for(look)
