"""What a way back would have to do: read from the roll's tags, the group's hosts and its refreshes. Changes nothing."""

import time
from typing import Any

import boto3
from drain import SWAPPING
from fleetview import (
    ACTIVE_REFRESH,
    GOING,
    HOOK,
    desired_configuration,
    group_named,
    is_on,
    refreshes_of,
    status_of,
    tags_of,
    version_in,
    warmup,
)


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Group, Cluster (may be empty), Caller (the execution that starts the way back, may be empty), Execution.

    Out: State `nothing`, `refused` or `go`; Way `native` (RollbackInstanceRefresh), `cancel` (cancel the refresh, then
    a new one), `settle` (one is being cancelled: wait, then a new one), `refresh` (a new one), `follow` (one is rolling
    back already) or `none`; Reason;
    FromVersion, Image, Cluster, OwnHook, DesiredConfiguration, Preferences, Since.
    """
    group = group_named(events["Group"])
    if group is None:
        return answer("refused", "none", f"there is no Auto Scaling group {events['Group']}")
    noted = tags_of(group)
    if "roll-from" not in noted:
        return answer("nothing", "none", f"no roll of {events['Group']} is recorded: there is nothing to go back to")
    template, _, version = noted["roll-from"].rpartition(":")
    image, cluster = noted.get("roll-from-image", ""), events["Cluster"] or noted.get("roll-cluster", "")
    alive = status_of(noted.get("roll-execution", ""))
    if alive in GOING and noted.get("roll-execution") not in (events["Caller"], events["Execution"]):
        return answer(
            "refused",
            "none",
            f"the roll {noted['roll-execution']} is still {alive}: cancel it, and it goes back by itself",
        )
    hooks = boto3.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=events["Group"])
    ours = any(hook["LifecycleHookName"] == HOOK for hook in hooks["LifecycleHooks"])
    refresh = next((one for one in refreshes_of(events["Group"]) if one["Status"] in ACTIVE_REFRESH), None)
    chosen = [i for i in group["Instances"] if i["LifecycleState"].startswith(SWAPPING) and is_on(i, version, image)]
    others = [i for i in group["Instances"] if i in chosen or not is_on(i, version, image)]
    leaving = [i for i in group["Instances"] if i["LifecycleState"].startswith("Terminating")]
    if refresh is None:
        way = "refresh" if others else "none"
    elif refresh["Status"] == "RollbackInProgress":
        way = "follow"
    elif refresh["Status"] == "Cancelling":
        way = "settle"
    else:
        way = "native" if version_in(refresh.get("DesiredConfiguration") or {}) != version else "follow"
        if way == "native" and chosen:  # a rollback takes no other host before those have gone: see drain_back.py
            way = "cancel"
    if way == "none" and not leaving and not ours and noted.get("roll") in ("rolled-back", "failed"):
        return answer("nothing", "none", f"every host of {events['Group']} runs version {version} already")
    preferences: dict[str, Any] = {
        "MinHealthyPercentage": 100,
        "MaxHealthyPercentage": 200,
        "SkipMatching": True,
        "ScaleInProtectedInstances": "Refresh",
        "StandbyInstances": "Ignore",
    }
    strategy = noted.get("roll-strategy", "Rolling")
    if strategy == "ReplaceRootVolume":  # as on the way there, one at a time; those chosen there serve on meanwhile
        desired = max(1, group["DesiredCapacity"])
        preferences["MinHealthyPercentage"] = max(0, desired - 1 - len(chosen)) * 100 // desired
        del preferences["MaxHealthyPercentage"]
    own_hook = noted.get("roll-hook", "yes")
    preferences["InstanceWarmup"] = warmup(group, own_hook=own_hook == "yes")
    return {
        **answer("go", way, f"{len(others)} of {len(group['Instances'])} hosts do not run version {version}"),
        "FromVersion": version,
        "TemplateId": template,
        "Image": image,
        "Cluster": cluster,
        "OwnHook": own_hook,
        "HasHook": "yes" if ours else "no",
        "DesiredConfiguration": desired_configuration(group, version, image),
        "Preferences": preferences,
        "Strategy": strategy,
        "Together": "no" if strategy == "ReplaceRootVolume" else "yes",
        "Since": str(time.time()),
    }


def answer(state: str, way: str, reason: str) -> dict[str, Any]:
    return {
        "State": state,
        "Way": way,
        "Reason": reason,
        "FromVersion": "",
        "TemplateId": "",
        "Image": "",
        "Cluster": "",
        "OwnHook": "no",
        "HasHook": "no",
        "DesiredConfiguration": {},
        "Preferences": {},
        "Strategy": "Rolling",
        "Together": "yes",
        "Since": str(time.time()),
    }
