"""Move the tasks off every host that has to go, and let each go once it is empty; until only the wanted hosts are left.

This is the one script that changes anything: SSM has no step for "set 200 hosts to DRAINING, ten a call". Each of its
calls is harmless when made twice, so an attempt that broke off is simply followed by the next.
"""

import time
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError
from fleetview import (
    ACTIVE_REFRESH,
    HOOK,
    chunks,
    ecs_hosts,
    error_code,
    firing,
    group_named,
    is_on,
    is_passing,
    is_ready,
    is_steady,
    refreshes_of,
    services_of,
    wait_for,
)

HEARTBEAT_AFTER_SECONDS = 3000
MANAGED_HOOK = "ecs-managed-draining-termination-hook"
JOINING_SECONDS = 600
STALLED_SECONDS = 60
SWAPPING = "ReplacingRootVolume"
GOING = ("Terminating", SWAPPING)
HELD = ("Terminating:Wait", "ReplacingRootVolume:Wait")
OWN_END = ("EssentialContainerExited", "TaskFailedToStart")


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Group, Cluster, Version and Image (what is to stay), RefreshId (may be empty), Since (seconds since 1970),
    DrainTimeoutSeconds, OnTimeout (`fail`, `skip-host`, `proceed`), TimeoutSeconds for the whole, Alarms,
    Together (`yes`: every host that has to go drains at once, when all that stay are ready, so that no task lands on
    one that will go; `no`: those that the refresh has chosen, as they come).

    Out: State `done` or `failed`, Reason, Stopped (hosts whose tasks went down with them because of `proceed`).
    """
    return drain(events, lambda: firing(events["Alarms"]))


class Fleet:
    """What one look saw of a group.

    instances   its instances by id, but for those that are gone
    hosts       ECS's container instances by the EC2 instance each is
    desired     how many there should be
    leaving     ids of those on their way out, or to another root volume
    wanted      ids of those that run what is to stay, and do not leave
    staying     of those, in service
    ready       of those, how many ECS can place tasks on
    old         ids of those in service that run anything else
    """

    def __init__(self, group: dict[str, Any], events: dict[str, Any]) -> None:
        self.instances = {i["InstanceId"]: i for i in group["Instances"] if i["LifecycleState"] != "Terminated"}
        self.desired = int(group["DesiredCapacity"])
        self.hosts = ecs_hosts(events["Cluster"], sorted(self.instances))
        self.leaving = {one for one in self.instances if self.state(one).startswith(GOING)}
        on = {one for one, i in self.instances.items() if is_on(i, events["Version"], events["Image"])}
        serving = {one for one in self.instances if self.state(one) == "InService"}
        self.wanted = on - self.leaving
        self.staying, self.old = serving & on, serving - on
        self.ready = sum(is_ready(self.hosts.get(one)) for one in self.staying)

    def state(self, one: str) -> str:
        return str(self.instances[one]["LifecycleState"])

    def is_drained(self, one: str) -> bool:
        """Whether ECS places nothing on it any more."""
        return one not in self.hosts or self.hosts[one]["status"] == "DRAINING"


def drain(
    events: dict[str, Any],
    loud: Callable[[], list[str]],
    room: Callable[[Fleet, set[str], float], set[str]] | None = None,
) -> dict[str, Any]:
    """As `handler`; `loud` tells which alarms are not quiet. On the way back, where the group's latest refresh is the
    one, `room` is asked each time: with the fleet, the ids of those going, and for how many seconds nothing that is
    wanted has been coming. It answers which go."""
    back = room is not None
    stopped: list[str] = []
    launching = {"at": time.time()}
    since = float(events["Since"])
    cluster, limit = events["Cluster"], events["DrainTimeoutSeconds"]
    if time.time() - since > HEARTBEAT_AFTER_SECONDS:
        prolong(events["Group"])

    def look() -> dict[str, Any]:
        group = group_named(events["Group"])
        if group is None:
            return failed(f"the group {events['Group']} is gone", stopped)
        if alarms := loud():
            return failed(f"alarm not quiet: {', '.join(alarms)}", stopped)
        refresh = refresh_state(events["Group"], events["RefreshId"], back=back)
        fleet = Fleet(group, events)
        hosts, staying, leaving = fleet.hosts, fleet.staying, fleet.leaving
        resting = [hosts[one] for one in sorted(staying) if one in hosts and hosts[one]["status"] == "DRAINING"]
        set_state(cluster, resting, "DRAINING", "ACTIVE")
        at_rest = refresh.get("Status") not in ACTIVE_REFRESH and not resting
        if at_rest and set(fleet.instances) == staying and len(staying) >= fleet.desired:
            strangers = [one for one in sorted(staying) if not is_ready(hosts.get(one))]
            ended = refresh["EndTime"].timestamp() if "EndTime" in refresh else since
            if strangers and time.time() - max(since, ended) <= JOINING_SECONDS:
                return {"State": "waiting", "Reason": f"not in the cluster yet: {', '.join(strangers[:5])}"}
            if strangers and not back:
                return failed(f"in service, but not in {cluster}: {', '.join(strangers[:5])}", stopped)
            return {
                "State": "done",
                "Reason": f"{len(staying)} hosts of version {events['Version']} are in service and no other",
                "Stopped": stopped[:50],
                "Now": str(time.time()),
            }
        status = refresh.get("Status")
        if status in ("Failed", "RollbackFailed") or (status == "Cancelled" and not back):
            return failed(f"the instance refresh is {status}: {refresh.get('StatusReason', '')}", stopped)
        going = leaving
        if fleet.ready < len(fleet.wanted):
            launching["at"] = time.time()
        still = time.time() - launching["at"]
        if events["Together"] == "yes":
            # Without room to double, the refresh launches no more until some have gone: waiting would not end.
            going = set() if still < STALLED_SECONDS else leaving
            going = leaving | fleet.old if fleet.ready >= fleet.desired else going
        if room is not None:
            going = room(fleet, going, still)
        # Never more at once than ECS can do without.
        spare = sum(is_ready(hosts.get(one)) for one in staying | fleet.old | leaving) - fleet.desired
        swapped = [one for one in sorted(going) if fleet.state(one).startswith(SWAPPING)]
        others = [one for one in sorted(going) if is_ready(hosts.get(one)) and one not in swapped]
        # Ten a call: those of the next calls still take tasks. With most on them, ECS finds emptier hosts that stay.
        others.sort(key=lambda one: hosts[one]["runningTasksCount"])
        # A host that keeps its place comes back by itself: one of those may be missing.
        swapped = [one for one in swapped if is_ready(hosts.get(one))][: max(0, spare + 1)]
        active = swapped + others[: max(0, spare)]
        set_state(cluster, [hosts[one] for one in active], "ACTIVE", "DRAINING")
        held = sorted(one for one in going if fleet.state(one) in HELD)
        busy = {one: left for one in held if (left := tasks_on(cluster, hosts.get(one)))}
        empty = [one for one in held if one not in busy and fleet.is_drained(one)]
        short: list[str] = []
        if empty and not back and events["Together"] == "no":
            short = short_of_tasks(cluster, [hosts[one]["containerInstanceArn"] for one in staying if one in hosts])
        if short:
            busy |= dict.fromkeys(empty, 0)  # the next one goes when what ran on the last one runs elsewhere
        else:
            for one in empty:
                let_go(events["Group"], one, HOOK)
        overdue = []
        if busy and time.time() - since > limit:
            begun = ends_begun(events["Group"])
            overdue = [one for one in busy if time.time() - max(since, begun.get(one, begun[""])) > limit]
        if overdue and events["OnTimeout"] == "proceed":
            for one in overdue:
                stopped.append(f"{one}: {busy[one]} tasks")
                let_go(events["Group"], one, HOOK)
                let_go(events["Group"], one, MANAGED_HOOK)
        elif overdue and (events["OnTimeout"] == "fail" or len(overdue) == len(set(fleet.instances) - staying)):
            names = ", ".join(f"{one} ({busy[one]} tasks)" for one in overdue[:5])
            why = f"; tasks do not start on the other hosts: {', '.join(short[:5])}" if short else ""
            return failed(f"not drained within {limit} s: {names}{why}", stopped)
        reason = f"{len(set(fleet.instances) - staying)} hosts have still to go, {sum(busy.values())} tasks are on them"
        if len(staying) < fleet.desired:
            reason = f"{len(staying)} of {fleet.desired} hosts of version {events['Version']} are in service"
        if time.time() - since > events["TimeoutSeconds"]:
            return failed(f"after {events['TimeoutSeconds']} s {reason}", stopped)
        return {"State": "waiting", "Reason": reason}

    return wait_for(look)


def short_of_tasks(cluster: str, arns: list[str]) -> list[str]:
    """Services whose tasks are still starting, or stop by themselves on the hosts with those ARNs.

    One that lacks tasks because no host has room for them is not meant: it waits for the very host that is to go.
    """
    return [
        service["serviceName"]
        for service in services_of(cluster)
        if not is_steady(service)
        and (
            service["pendingCount"]
            or any(
                task.get("containerInstanceArn") in arns
                and (task.get("stopCode") in OWN_END or "Task failed" in task.get("stoppedReason", ""))
                for task in stopped_tasks(cluster, serviceName=service["serviceName"])
            )
        )
    ]


def tasks_on(cluster: str, host: dict[str, Any] | None) -> int:
    """Tasks that have not stopped, those on their way out included.

    The counts of a container instance are of tasks that should run: they are 0 while tasks still deregister and stop
    (ECS API reference, ContainerInstance), so the last ones are looked at one by one.
    """
    if host is None or not host["agentConnected"]:
        return 0
    if counted := int(host["runningTasksCount"] + host["pendingTasksCount"]):
        return counted
    ending = stopped_tasks(cluster, containerInstance=host["containerInstanceArn"])
    return sum(task["lastStatus"] != "STOPPED" for task in ending)


def stopped_tasks(cluster: str, **of: str) -> list[dict[str, Any]]:
    """The tasks that have stopped or are to, of a service or a container instance, as long as ECS knows them."""
    ecs = boto3.client("ecs")
    pages = ecs.get_paginator("list_tasks").paginate(cluster=cluster, desiredStatus="STOPPED", **of)
    arns = [arn for page in pages for arn in page["taskArns"]]
    return [task for some in chunks(arns, 100) for task in ecs.describe_tasks(cluster=cluster, tasks=some)["tasks"]]


def ends_begun(group: str) -> dict[str, float]:
    """When the group began to end each of its hosts, by its own latest activities; and for one that gets another root
    volume, at the id "": not before the last such volume was attached, since hosts take turns in that."""
    answer = boto3.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=100)
    begun = {
        one["Description"].rpartition(" ")[2]: one["StartTime"].timestamp()
        for one in reversed(answer["Activities"])
        if one.get("Description", "").startswith("Terminating EC2 instance")
    }
    ec2 = boto3.client("ec2")
    attached = [
        volume["Ebs"]["AttachTime"].timestamp()
        for page in ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "tag:aws:autoscaling:groupName", "Values": [group]}]
        )
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
        for volume in instance["BlockDeviceMappings"]
        if volume["DeviceName"] == instance["RootDeviceName"]
    ]
    return {"": max(attached, default=0.0), **begun}


def failed(reason: str, stopped: list[str]) -> dict[str, Any]:
    return {"State": "failed", "Reason": reason[:500], "Stopped": stopped[:50], "Now": str(time.time())}


def refresh_state(group: str, refresh: str, *, back: bool) -> dict[str, Any]:
    """The refresh that is waited for; nothing when none is."""
    found = refreshes_of(group, refresh) if refresh or back else []
    return found[0] if found else {}


def set_state(cluster: str, hosts: list[dict[str, Any]], before: str, after: str) -> None:
    """Set the hosts that are `before` to `after`, ten a call (ECS API reference, UpdateContainerInstancesState)."""
    arns = [host["containerInstanceArn"] for host in hosts if host["status"] == before and host["agentConnected"]]
    for some in chunks(arns, 10):
        boto3.client("ecs").update_container_instances_state(cluster=cluster, containerInstances=some, status=after)


def release(cluster: str, group: dict[str, Any] | None, state: str) -> None:
    """Drain the hosts that wait in our hook in that state, and let those go that are empty."""
    if group is None:
        return
    held = [i["InstanceId"] for i in group["Instances"] if i["LifecycleState"] == state]
    hosts = ecs_hosts(cluster, held)
    set_state(cluster, list(hosts.values()), "ACTIVE", "DRAINING")
    for one in held:
        if not tasks_on(cluster, hosts.get(one)):
            let_go(group["AutoScalingGroupName"], one, HOOK)


def let_go(group: str, instance: str, hook: str) -> None:
    """End the hook's wait for one host. One that no longer waits, or a hook that the group has not, is no error."""
    try:
        boto3.client("autoscaling").complete_lifecycle_action(
            AutoScalingGroupName=group,
            LifecycleHookName=hook,
            InstanceId=instance,
            LifecycleActionResult="CONTINUE",
        )
    except ClientError as error:
        if error_code(error) != "ValidationError":
            raise


def prolong(group: str) -> None:
    """Keep hosts that wait in our hook from being let go by its timeout."""
    found = group_named(group)
    for instance in (found or {}).get("Instances", []):
        if instance["LifecycleState"] not in HELD:
            continue
        try:
            boto3.client("autoscaling").record_lifecycle_action_heartbeat(
                AutoScalingGroupName=group, LifecycleHookName=HOOK, InstanceId=instance["InstanceId"]
            )
        except ClientError as error:
            if not is_passing(error) and error_code(error) != "ValidationError":
                raise
