"""The drain of a way back: as on the way there, but hosts that serve nothing give their room to others.

Where there is no room to double, hosts of the unwanted version may fill it: InService for Auto Scaling, and yet without
an ECS agent, or with tasks that stop as soon as they start. The refresh ends none of them before it has launched
another, and cannot launch. So each that is drained and empty is ended here, and Auto Scaling launches one of the wanted
version in its place; hosts that tasks run on stay until then.
"""

import time
from typing import Any

import boto3
from botocore.exceptions import ClientError
from drain import Fleet, drain, ends_begun, set_state, tasks_on
from fleetview import error_code, is_on, is_ready, services_of

STUCK_SECONDS = 300
QUIET_SECONDS = 900
WAITING = "ReplacingRootVolume:Wait"
UNDER_WAY = ("ReplacingRootVolume", "ReplacingRootVolume:Proceed", "RootVolumeReplaced")


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In and out: as drain.py has it without Alarms, and OwnHook (`yes`: the documents drain, `no`: ECS does)."""
    services = services_of(events["Cluster"]) if events["Cluster"] else []
    daemons = sum(one.get("schedulingStrategy") == "DAEMON" for one in services)

    def room(fleet: Fleet, going: set[str], still: float) -> set[str]:
        """Which hosts are to go now. Ends those that nothing runs on; the tasks of others stay where they are until
        their successors have come, as those hosts are all that ECS has until then."""
        if events["Together"] == "no":  # ECS's own draining knows no turns, and begins by itself
            return going - out_of_turn(fleet, events) if events["OwnHook"] == "yes" else going
        if fleet.ready >= fleet.desired or still < STUCK_SECONDS:
            return going
        idle = {one for one in fleet.old | fleet.leaving if is_idle(fleet.hosts.get(one), daemons)}
        if not idle & fleet.old:
            return going
        on = {one for one in fleet.leaving if is_on(fleet.instances[one], events["Version"], events["Image"])}
        empty = [one for one in sorted(idle & fleet.old) if is_empty(events["Cluster"], fleet.hosts.get(one))]
        for one in empty[: max(0, fleet.desired - len(fleet.wanted) - len(fleet.leaving - on))]:
            end(one)
        kept = on - idle if events["OwnHook"] == "yes" else set()
        set_state(events["Cluster"], [fleet.hosts[one] for one in sorted(kept)], "DRAINING", "ACTIVE")
        return (going - kept) | idle

    return drain(events, list, room)  # no alarm keeps a way back from going on


def out_of_turn(fleet: Fleet, events: dict[str, Any]) -> set[str]:
    """Hosts that wait for another root volume and serve on for now, as only one is to be missing at a time.

    One that the roll had chosen comes up with the unwanted image, whatever is asked of it meanwhile, and only then can
    it be brought back. Tasks may not start on the hosts that have that image already, so those come first, and its own
    tasks move to them. Should nothing move for long, it has to be the other way round.
    """
    if any(fleet.state(one) in UNDER_WAY for one in fleet.instances):
        first: list[str] = []
    else:
        first = next_in_turn(fleet, events)
    others = {one for one in fleet.instances if fleet.state(one) == WAITING} - set(first)
    hosts = [fleet.hosts[one] for one in sorted(others) if one in fleet.hosts]
    set_state(events["Cluster"], hosts, "DRAINING", "ACTIVE")
    return others


def next_in_turn(fleet: Fleet, events: dict[str, Any]) -> list[str]:
    """The host that waits and is to get its root volume now; none where those that wait have to."""
    waiting = sorted(one for one in fleet.instances if fleet.state(one) == WAITING)
    chosen = [one for one in waiting if is_on(fleet.instances[one], events["Version"], events["Image"])]
    unwanted = [one for one in waiting if one not in chosen]
    others_are_back = fleet.ready == len(fleet.instances) - len(chosen)
    if chosen and is_quiet(events):
        return chosen[:1]
    return chosen[:1] if others_are_back else unwanted[:1]


def is_quiet(events: dict[str, Any]) -> bool:
    """Whether no host has got another root volume for long."""
    patient = time.time() - QUIET_SECONDS
    return float(events["Since"]) < patient and ends_begun(events["Group"])[""] < patient


def is_idle(host: dict[str, Any] | None, daemons: int) -> bool:
    """Whether no task but daemons runs on the host, as where ECS does not know it or its tasks do not start."""
    return host is None or not host["agentConnected"] or int(host["runningTasksCount"]) <= daemons


def is_empty(cluster: str, host: dict[str, Any] | None) -> bool:
    """Whether nothing runs on the host and ECS places nothing on it."""
    return not is_ready(host) and not tasks_on(cluster, host)


def end(instance: str) -> None:
    """Send a host away; the group's desired number stays. One that has gone by itself is no error."""
    try:
        boto3.client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=instance, ShouldDecrementDesiredCapacity=False
        )
    except ClientError as error:
        if error_code(error) != "ValidationError":
            raise
