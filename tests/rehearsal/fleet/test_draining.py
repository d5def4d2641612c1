"""Draining and placement in the model, rule by rule. API = ECS API reference, as botocore's service model has it."""

from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.rehearsal.fleet.spec import Service, StandaloneTask, Task, example_fleet
from tests.rehearsal.fleet.worlds import Fleet


def with_service(hosts: int = 4, **given: Any) -> Fleet:
    """So many hosts, and one service with one task on each unless it says otherwise."""
    spec = example_fleet("twenty")
    group = spec.groups[0].model_copy(update={"min_size": hosts, "desired": hosts})
    service = Service(name="web", cluster="example", **{"desired": hosts, **given})
    return Fleet(spec, groups=(group,), services=(service,))


def hosts_of(fleet: Fleet) -> list[str]:
    return list(fleet.world.hosts)


def tasks(fleet: Fleet, host: str, status: str = "RUNNING") -> int:
    """How many tasks ECS lists on a host by their desired status."""
    [arn] = fleet.containers(host)
    return len(fleet.ecs.list_tasks(cluster="example", containerInstance=arn, desiredStatus=status)["taskArns"])


def counts(fleet: Fleet) -> tuple[int, int]:
    service = fleet.service("web")
    return service["runningCount"], service["pendingCount"]


def test_with_a_minimum_of_100_a_task_stays_until_its_successor_is_healthy() -> None:
    """API, UpdateContainerInstancesState: if the minimum is 100 %, existing tasks are not removed before."""
    fleet = with_service(task=Task(start=20))
    fleet.drain(hosts_of(fleet)[0])
    fleet.wait(19)
    assert (counts(fleet), tasks(fleet, hosts_of(fleet)[0])) == ((4, 1), 1)
    fleet.wait(2)
    assert (counts(fleet), tasks(fleet, hosts_of(fleet)[0])) == ((4, 0), 0)


def test_with_a_minimum_of_50_half_of_the_tasks_may_stop_at_once() -> None:
    """API, same place: with four tasks a minimum of 50 % lets two stop before two new ones start."""
    fleet = with_service(8, desired=4, minimum_healthy_percent=50, strategy=("spread:instanceId",))
    busy = [host for host in hosts_of(fleet) if tasks(fleet, host)]
    fleet.drain(*busy)
    assert sum(tasks(fleet, host) for host in busy) == 2


def test_with_minimum_and_maximum_of_100_nothing_ever_moves() -> None:
    """API, same place: no task may go before its successor is healthy, no successor may start before a task is gone."""
    fleet = with_service(minimum_healthy_percent=100, maximum_percent=100)
    fleet.drain(hosts_of(fleet)[0])
    fleet.wait(7200)
    assert (counts(fleet), tasks(fleet, hosts_of(fleet)[0])) == ((4, 0), 1)


def test_tasks_that_have_not_started_stop_at_once() -> None:
    """API, same place: service tasks in the PENDING state are stopped immediately."""
    fleet = with_service(2, desired=2, task=Task(start=60))
    first, second = hosts_of(fleet)
    fleet.drain(first)
    fleet.wait(1)
    assert (
        fleet.ecs.describe_container_instances(cluster="example", containerInstances=fleet.containers(second))[
            "containerInstances"
        ][0]["pendingTasksCount"]
        == 1
    )
    fleet.drain(second)
    assert counts(fleet) == (2, 0)


def test_tasks_of_no_service_are_left_alone() -> None:
    """API, same place: tasks that do not belong to a service are not affected."""
    fleet = Fleet(services=(), standalone=(StandaloneTask(cluster="example", family="batch"),))
    host = next(one for one in hosts_of(fleet) if tasks(fleet, one))
    fleet.drain(host)
    fleet.wait(86400)
    assert tasks(fleet, host) == 1


def test_a_host_that_is_active_again_takes_tasks_again() -> None:
    """API, same place: once it is ACTIVE, the scheduler can schedule tasks on the instance again."""
    fleet = with_service(2, desired=2)
    first, second = hosts_of(fleet)
    fleet.drain(first)
    fleet.wait(600)
    assert (tasks(fleet, first), tasks(fleet, second)) == (0, 2)
    fleet.drain(first, status="ACTIVE")
    fleet.drain(second)
    fleet.wait(600)
    assert (tasks(fleet, first), tasks(fleet, second)) == (2, 0)


def test_ten_hosts_are_the_most_of_one_call() -> None:
    """API, UpdateContainerInstancesState.containerInstances: a list of up to 10."""
    fleet = Fleet()
    with pytest.raises(ClientError, match="at most 10"):
        fleet.ecs.update_container_instances_state(
            cluster="example", containerInstances=fleet.containers(*hosts_of(fleet)[:11]), status="DRAINING"
        )


def test_tasks_that_stop_are_listed_by_their_desired_status() -> None:
    """API, ListTasks.desiredStatus: by default those that are to run; STOPPED gives those that are to stop."""
    fleet = with_service(2, desired=2, task=Task(start=5, stop_timeout=30))
    first = hosts_of(fleet)[0]
    fleet.drain(first)
    fleet.wait(10)
    assert (tasks(fleet, first), tasks(fleet, first, "STOPPED")) == (0, 1)
    [task] = list(fleet.world.hosts[first].container.tasks.values())  # type: ignore[union-attr]
    assert task.status == "STOPPING"


# -- placement --------------------------------------------------------------------------------------------------------


def per_host(fleet: Fleet) -> Counter[int]:
    """How many hosts have so many tasks."""
    return Counter(tasks(fleet, host) for host in hosts_of(fleet))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"strategy": ("spread:instanceId",)}, {2: 4}),
        # 4 vCPU of 1024 units each, of which a task takes 512.
        ({"strategy": ("binpack:cpu",), "task": Task(cpu=512)}, {8: 1, 0: 3}),
        (
            {"strategy": ("spread:instanceId",), "constraints": ("attribute:ecs.availability-zone == eu-central-1a",)},
            {4: 2, 0: 2},
        ),
    ],
)
def test_tasks_go_where_strategy_and_constraint_put_them(given: dict[str, Any], expected: dict[int, int]) -> None:
    """API, PlacementStrategy.type: spread is even, binpack takes the least that is left; PlacementConstraint.type."""
    assert per_host(with_service(4, desired=8, **given)) == expected


def test_distinct_instances_have_one_task_each_also_while_they_drain() -> None:
    """API, PlacementConstraint.type: each task on a different container instance."""
    fleet = with_service(3, constraints=("distinctInstance",))
    assert per_host(fleet) == {1: 3}
    fleet.drain(hosts_of(fleet)[0])
    fleet.wait(3600)
    assert per_host(fleet) == {1: 3}  # there is no third place for the successor


def test_a_host_port_is_taken_once() -> None:
    """ECS developer guide, port mappings: a host port can be used by one task of an instance."""
    fleet = with_service(3, task=Task(host_ports=(80,)))
    fleet.drain(hosts_of(fleet)[0])
    fleet.wait(3600)
    assert per_host(fleet) == {1: 3}
