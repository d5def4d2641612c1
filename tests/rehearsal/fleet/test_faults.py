"""Faults of the model: each strikes where and when it says, and nowhere else."""

import pytest
from botocore.exceptions import ClientError

from pipeline.rehearsal.fleet.faults import Fault
from tests.rehearsal.fleet.worlds import NEW_IMAGE, Fleet

FAULT = Fault(kind="unit-failed", first=2, after=10, until=20)


@pytest.mark.parametrize(
    ("is_new", "ordinal", "now", "struck"),
    [
        (True, 1, 10, True),
        (True, 2, 19.9, True),
        (True, 3, 15, False),  # only the first two
        (False, 1, 15, False),  # only new ones
        (True, 1, 9.9, False),  # too early
        (True, 1, 20, False),  # over
    ],
)
def test_a_fault_covers_some_hosts_for_a_while(is_new: bool, ordinal: int, now: float, struck: bool) -> None:
    assert FAULT.covers_host(is_new=is_new, ordinal=ordinal, now=now) is struck


def codes(fleet: Fleet, calls: int) -> list[str]:
    """What each of so many calls is answered with: an error's code, or nothing."""
    found = []
    for _ in range(calls):
        try:
            fleet.ecs.list_clusters()
            found.append("")
        except ClientError as error:
            found.append(error.response["Error"]["Code"])
    return found


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="api-error", operation="ecs.ListClusters", on_call=2, times=1), ["", "InternalFailure", "", ""]),
        (Fault(kind="throttling", operation="ecs.ListClusters", times=2), ["ThrottlingException"] * 2 + [""] * 2),
        (Fault(kind="api-error", operation="", times=None, code="AccessDenied"), ["AccessDenied"] * 4),
        (Fault(kind="api-error", operation="ecs.ListServices"), [""] * 4),
    ],
)
def test_calls_are_refused_by_number(fault: Fault, expected: list[str]) -> None:
    assert codes(Fleet(faults=[fault]), 4) == expected


def test_a_call_whose_answer_is_lost_has_been_carried_out() -> None:
    fleet = Fleet(faults=[Fault(kind="answer-lost", operation="autoscaling.StartInstanceRefresh")])

    with pytest.raises(ClientError, match="InternalFailure"):
        fleet.surge()
    with pytest.raises(ClientError, match="InstanceRefreshInProgress"):
        fleet.surge()

    [refresh] = fleet.autoscaling.describe_instance_refreshes(AutoScalingGroupName="example")["InstanceRefreshes"]
    assert refresh["Status"] == "Pending"


def test_without_capacity_nothing_is_launched_and_the_activity_says_why() -> None:
    """Auto Scaling user guide, troubleshooting: a launch that fails is an activity with EC2's message."""
    fleet = Fleet(faults=[Fault(kind="insufficient-capacity")])
    fleet.surge()
    fleet.wait(300)
    assert NEW_IMAGE not in fleet.images()
    [failed, *_] = fleet.autoscaling.describe_scaling_activities(AutoScalingGroupName="example")["Activities"]
    assert failed["StatusCode"] == "Failed"
    assert "sufficient c6i.xlarge capacity" in failed["StatusMessage"]


def test_an_agent_that_never_connects_leaves_a_host_in_service_and_out_of_the_cluster() -> None:
    fleet = Fleet("single", faults=[Fault(kind="agent-never-connects")])
    fleet.hook()
    fleet.surge(InstanceWarmup=0)
    fleet.wait(900)
    assert fleet.states()["InService"] == 1
    arns = fleet.ecs.list_container_instances(cluster="example")["containerInstanceArns"]
    assert len(arns) == 1


def test_a_drain_that_is_stuck_never_ends_by_itself() -> None:
    fleet = Fleet("single", faults=[Fault(kind="drain-stuck", image="old")])
    fleet.hook()
    fleet.surge(InstanceWarmup=0)
    fleet.wait(200)
    [held] = fleet.held()
    fleet.drain(held)
    fleet.wait(3000)
    container = fleet.world.hosts[held].container
    assert container is not None
    # Daemons are stopped once nothing else is left.
    statuses = {task.service.spec.name: task.status for task in container.tasks.values() if task.service}
    assert statuses.pop("logs", "RUNNING") == "RUNNING"
    assert set(statuses.values()) == {"STOPPING"}
