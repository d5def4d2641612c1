"""Lifecycle hooks of the model, rule by rule. API = Auto Scaling API reference, as botocore's service model has it."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.rehearsal.fleet.worlds import HOOK, Fleet


def described(fleet: Fleet) -> dict[str, object]:
    [hook] = fleet.autoscaling.describe_lifecycle_hooks(AutoScalingGroupName="example")["LifecycleHooks"]
    return dict(hook)


def held_on_its_way_out(**given: Any) -> tuple[Fleet, str]:
    """A fleet whose refresh has one host in the termination hook."""
    fleet = Fleet("single")
    fleet.hook(**given)
    fleet.refresh(fleet.new_version(), MinHealthyPercentage=0)
    fleet.wait(20)
    [held] = fleet.held()
    return fleet, held


def test_a_hook_waits_an_hour_and_then_abandons_unless_told_otherwise() -> None:
    """API, PutLifecycleHook: HeartbeatTimeout is 3600 by default, DefaultResult ABANDON."""
    fleet = Fleet()
    fleet.autoscaling.put_lifecycle_hook(
        AutoScalingGroupName="example", LifecycleHookName=HOOK, LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING"
    )
    assert described(fleet)["HeartbeatTimeout"] == 3600
    assert described(fleet)["DefaultResult"] == "ABANDON"


@pytest.mark.parametrize(("heartbeat", "whole"), [(30, 3000), (7200, 172800)])
def test_nothing_waits_longer_than_48_hours_or_a_hundred_heartbeats(heartbeat: int, whole: int) -> None:
    """API, LifecycleHook.GlobalTimeout: 172800 seconds or 100 times HeartbeatTimeout, whichever is smaller."""
    fleet = Fleet()
    fleet.hook(HeartbeatTimeout=heartbeat)
    assert described(fleet)["GlobalTimeout"] == whole


def test_a_host_leaves_its_hook_when_the_timeout_is_over() -> None:
    """API, PutLifecycleHook.HeartbeatTimeout: that may elapse before the hook times out."""
    fleet, held = held_on_its_way_out(HeartbeatTimeout=300)
    fleet.wait(270)
    assert fleet.held() == [held]
    fleet.wait(60)
    assert fleet.held() == []


def test_a_heartbeat_gives_the_whole_timeout_again() -> None:
    """API, RecordLifecycleActionHeartbeat: extends the timeout by the length of time of PutLifecycleHook."""
    fleet, held = held_on_its_way_out(HeartbeatTimeout=300)
    fleet.wait(250)
    fleet.autoscaling.record_lifecycle_action_heartbeat(
        AutoScalingGroupName="example", LifecycleHookName=HOOK, InstanceId=held
    )
    fleet.wait(280)
    assert fleet.held() == [held]
    fleet.wait(30)
    assert fleet.held() == []


def test_no_heartbeat_goes_beyond_the_global_timeout() -> None:
    """API, LifecycleHook.GlobalTimeout: the most that an instance can remain in a wait state."""
    fleet, held = held_on_its_way_out(HeartbeatTimeout=30)
    beats = 0
    while fleet.held() == [held] and beats < 200:
        fleet.autoscaling.record_lifecycle_action_heartbeat(
            AutoScalingGroupName="example", LifecycleHookName=HOOK, InstanceId=held
        )
        beats += 1
        fleet.wait(20)
    assert 3000 - 40 <= beats * 20 <= 3000 + 20


def test_a_hook_that_goes_lets_hosts_go_that_were_to_end() -> None:
    """API, DeleteLifecycleHook: outstanding actions are completed first, CONTINUE for terminating instances."""
    fleet, held = held_on_its_way_out()
    fleet.autoscaling.delete_lifecycle_hook(AutoScalingGroupName="example", LifecycleHookName=HOOK)
    fleet.wait(60)
    assert held not in {host["InstanceId"] for host in fleet.group()["Instances"]}


def test_a_hook_that_goes_abandons_hosts_that_were_to_serve() -> None:
    """API, DeleteLifecycleHook: ABANDON for launching instances."""
    fleet = Fleet("single")
    fleet.hook("LAUNCHING")
    fleet.surge()
    fleet.wait(60)
    [held] = fleet.held()
    fleet.autoscaling.delete_lifecycle_hook(AutoScalingGroupName="example", LifecycleHookName=HOOK)
    fleet.wait(60)
    assert held not in {host["InstanceId"] for host in fleet.group()["Instances"]}


def test_an_action_that_nobody_waits_in_cannot_be_completed() -> None:
    """API, CompleteLifecycleAction: for the specified token or instance, which has to be waiting."""
    fleet, held = held_on_its_way_out()
    fleet.complete(held)
    with pytest.raises(ClientError, match="No active Lifecycle Action found"):
        fleet.complete(held)
