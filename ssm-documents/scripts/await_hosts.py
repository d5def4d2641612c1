"""Wait until enough hosts of the wanted version are in service and ECS can place tasks on each.

Reads only. A bad end is a verdict as well (`failed`, with the reason), so that the document decides what follows.
"""

import time
from collections.abc import Callable
from typing import Any

import boto3
from fleetview import (
    ecs_hosts,
    firing,
    group_named,
    is_on,
    is_ready,
    refreshes_of,
    template_of,
    wait_for,
)

GONE_WRONG = ("Failed", "Cancelled", "Cancelling", "RollbackInProgress", "RollbackFailed", "RollbackSuccessful")
STALLED_SECONDS = 180
LAUNCH_FAILURES = 3


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In and out: as `looker` has it."""
    return wait_for(looker(events))


def looker(events: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """In: Group, Cluster, Version, Image, From (the old version), Count (0: the group's desired capacity),
    RefreshId, Lane, TimeoutSeconds (from the start of the refresh on), Alarms.

    Out: State `ready` or `failed`, Reason, Ids of the hosts, Together (`yes`, or `no` where the refresh launches
    only as much as was terminated before), Now (seconds since 1970).
    """
    moved: dict[str, float] = {"at": time.time()}
    before: list[int] = []

    def look() -> dict[str, Any]:
        group = group_named(events["Group"])
        if group is None:
            return failed(f"the group {events['Group']} is gone")
        saved = template_of(group).get("Version", "")
        if saved not in (events["From"], events["Version"]):
            return failed(
                f"somebody set the group's launch template to version {saved} during the roll, "
                f"which goes from {events['From']} to {events['Version']}"
            )
        if loud := firing(events["Alarms"]):
            return failed(f"alarm not quiet: {', '.join(loud)}")
        since = time.time()
        for refresh in refreshes_of(events["Group"], events["RefreshId"]):
            if refresh["Status"] in GONE_WRONG:
                return failed(f"the instance refresh is {refresh['Status']}: {refresh.get('StatusReason', '')}")
            since = refresh["StartTime"].timestamp() if "StartTime" in refresh else since
        if events["Lane"] != "surge" and not events["Count"]:
            return ready([], "no", 0)  # the hosts go in batches, so the drain goes along with them
        wanted = events["Count"] or group["DesiredCapacity"]
        new = [i for i in group["Instances"] if is_on(i, events["Version"], events["Image"])]
        serving = sorted(i["InstanceId"] for i in new if i["LifecycleState"] == "InService")
        placeable: list[str] = []
        if len(serving) >= wanted:
            hosts = ecs_hosts(events["Cluster"], serving)
            placeable = [one for one in serving if is_ready(hosts.get(one))]
            if len(placeable) >= wanted:
                return ready(placeable[: events["Count"] or None], "yes", len(placeable))
        reason = (
            f"{len(placeable)} of {wanted} hosts of version {events['Version']} are ready, {len(serving)} in service"
        )
        counted = [len(new), len(serving), len(placeable)]
        if counted != before:
            before[:], moved["at"] = counted, time.time()
        idle = time.time() - moved["at"]
        held = [i for i in group["Instances"] if i["LifecycleState"].startswith("Terminating:Wait")]
        if not events["Count"] and held and serving and len(new) == len(serving) and idle >= STALLED_SECONDS:
            return ready(serving, "no", len(serving))
        if len(new) < wanted and (why := launch_failures(events["Group"], since)):
            return failed(f"{reason}; {why}")
        if time.time() - since > events["TimeoutSeconds"]:
            silent = [one for one in serving if one not in placeable]
            tail = f"; never ready: {', '.join(silent[:5])}" if silent else ""
            return failed(f"after {events['TimeoutSeconds']} s {reason}{tail}")
        return {"State": "waiting", "Reason": reason}

    return look


def ready(ids: list[str], together: str, count: int) -> dict[str, Any]:
    return {
        "State": "ready",
        "Reason": f"{count} hosts are ready",
        "Ids": ids[:50],
        "Together": together,
        "Now": str(time.time()),
    }


def failed(reason: str) -> dict[str, Any]:
    return {"State": "failed", "Reason": reason[:500], "Ids": [], "Together": "yes", "Now": str(time.time())}


def launch_failures(group: str, since: float) -> str:
    """Why launches fail, once several have failed since then; empty before."""
    answer = boto3.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=20)
    reasons = [
        activity.get("StatusMessage", "")
        for activity in answer["Activities"]
        if activity["StatusCode"] == "Failed" and activity["StartTime"].timestamp() >= since
    ]
    return f"{len(reasons)} launches failed: {reasons[0]}" if len(reasons) >= LAUNCH_FAILURES else ""
