"""The gate: services steady, for a while where asked, and alarms quiet. Reads only; that it stays shut is a verdict."""

import time
from collections.abc import Callable
from typing import Any

from fleetview import firing, is_steady, services_of, wait_for


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Cluster (empty asks no service), Alarms, Since (seconds since 1970), TimeoutSeconds, SteadySeconds (how long
    services must have been steady: ECS may call a task without a load balancer healthy 40 s after its start only, as
    its API reference has it at DeploymentConfiguration).

    Out: State `open` or `shut`, Reason.
    """
    return gate(events, lambda: firing(events["Alarms"]))


def gate(events: dict[str, Any], loud: Callable[[], list[str]]) -> dict[str, Any]:
    """As `handler`; `loud` tells which alarms are not quiet."""
    steady: list[float] = []

    def look() -> dict[str, Any]:
        if alarms := loud():
            return {"State": "shut", "Reason": f"alarm not quiet: {', '.join(alarms)}"}
        services = services_of(events["Cluster"]) if events["Cluster"] else []
        restless = [one for one in services if not is_steady(one)]
        if restless:
            steady.clear()
        else:
            steady.append(time.time())
        if steady and steady[-1] - steady[0] >= events["SteadySeconds"]:
            return {"State": "open", "Reason": "every service is steady and no alarm is on"}
        named = ", ".join(
            f"{one['serviceName']} ({one['runningCount']} of {one['desiredCount']} run)" for one in restless[:5]
        )
        if not restless:
            return {"State": "waiting", "Reason": "every service is steady, but not for long enough yet"}
        if time.time() - float(events["Since"]) > events["TimeoutSeconds"]:
            return {"State": "shut", "Reason": f"not steady within {events['TimeoutSeconds']} s: {named}"[:500]}
        return {"State": "waiting", "Reason": f"not steady: {named}"}

    return wait_for(look)
