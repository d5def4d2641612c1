"""The gate: services steady and alarms quiet, a while long. Reads only; a gate that stays shut is a verdict."""

import time
from typing import Any

from fleetview import firing, is_steady, services_of, wait_for


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Cluster (empty asks no service), Alarms, Since (seconds since 1970), TimeoutSeconds.

    Out: State `open` or `shut`, Reason.
    """

    def look() -> dict[str, Any]:
        if loud := firing(events["Alarms"]):
            return {"State": "shut", "Reason": f"alarm not quiet: {', '.join(loud)}"}
        services = services_of(events["Cluster"]) if events["Cluster"] else []
        restless = [one for one in services if not is_steady(one)]
        if not restless:
            return {"State": "open", "Reason": "every service is steady and no alarm is on"}
        named = ", ".join(
            f"{one['serviceName']} ({one['runningCount']} of {one['desiredCount']} run)" for one in restless[:5]
        )
        if time.time() - float(events["Since"]) > events["TimeoutSeconds"]:
            return {"State": "shut", "Reason": f"not steady within {events['TimeoutSeconds']} s: {named}"[:500]}
        return {"State": "waiting", "Reason": f"not steady: {named}"}

    return wait_for(look)
