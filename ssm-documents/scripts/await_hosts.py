"""Wait until enough hosts of the wanted version are in service and ECS can place tasks on each.

Reads only. A bad end is a verdict as well (`failed`, with the reason), so that the document decides what follows.
"""

import time
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
    """In: Group, Cluster, Version, Image, From (the old version), Count (0: the group's desired capacity),
    RefreshId (may be empty), Since (seconds since 1970), TimeoutSeconds, Alarms.

    Out: State `ready` or `failed`, Reason, Ids of the hosts, Together (`yes`, or `no` where the refresh launches
    only as much as was terminated before).
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
        if events["RefreshId"]:
            for refresh in refreshes_of(events["Group"], events["RefreshId"]):
                if refresh["Status"] in GONE_WRONG:
                    return failed(f"the instance refresh is {refresh['Status']}: {refresh.get('StatusReason', '')}")
        wanted = events["Count"] or group["DesiredCapacity"]
        new = [i for i in group["Instances"] if is_on(i, events["Version"], events["Image"])]
        serving = sorted(i["InstanceId"] for i in new if i["LifecycleState"] == "InService")
        ready: list[str] = []
        if len(serving) >= wanted:
            hosts = ecs_hosts(events["Cluster"], serving)
            ready = [one for one in serving if is_ready(hosts.get(one))]
            if len(ready) >= wanted:
                chosen = ready[: events["Count"]] if events["Count"] else ready
                return {"State": "ready", "Reason": "", "Ids": chosen[:50], "Together": "yes", "Ready": len(ready)}
        reason = f"{len(ready)} of {wanted} hosts of version {events['Version']} are ready, {len(serving)} in service"
        counted = [len(new), len(serving), len(ready)]
        if counted != before:
            before[:], moved["at"] = counted, time.time()
        idle = time.time() - moved["at"]
        held = [i for i in group["Instances"] if i["LifecycleState"].startswith("Terminating:Wait")]
        if not events["Count"] and held and serving and len(new) == len(serving) and idle >= STALLED_SECONDS:
            return {"State": "ready", "Reason": reason, "Ids": serving[:50], "Together": "no", "Ready": len(serving)}
        if len(new) < wanted and (why := launch_failures(events["Group"], float(events["Since"]))):
            return failed(f"{reason}; {why}")
        if time.time() - float(events["Since"]) > events["TimeoutSeconds"]:
            silent = [one for one in serving if one not in ready]
            tail = f"; never ready: {', '.join(silent[:5])}" if silent else ""
            return failed(f"after {events['TimeoutSeconds']} s {reason}{tail}")
        return {"State": "waiting", "Reason": reason}

    return wait_for(look)


def failed(reason: str) -> dict[str, Any]:
    return {"State": "failed", "Reason": reason[:500], "Ids": [], "Together": "yes", "Ready": 0}


def launch_failures(group: str, since: float) -> str:
    """Why launches fail, once several have failed since then; empty before."""
    answer = boto3.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=20)
    reasons = [
        activity.get("StatusMessage", "")
        for activity in answer["Activities"]
        if activity["StatusCode"] == "Failed" and activity["StartTime"].timestamp() >= since
    ]
    return f"{len(reasons)} launches failed: {reasons[0]}" if len(reasons) >= LAUNCH_FAILURES else ""
