"""What the model holds against a roll, and what it does not."""

from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.invariants import Expectations
from pipeline.rehearsal.fleet.switches import Switches
from tests.rehearsal.fleet.worlds import Fleet


def test_daemons_stop_last_on_a_host_that_drains() -> None:
    fleet = Fleet("single")
    [host] = fleet.world.groups.all[fleet.name].hosts.values()
    fleet.autoscaling.set_desired_capacity(AutoScalingGroupName=fleet.name, DesiredCapacity=2)
    fleet.wait(200)
    container = host.container
    assert container is not None

    fleet.drain(host.id)
    fleet.wait(1)
    kinds = {task.service.spec.scheduling for task in container.tasks.values() if task.service}
    assert kinds == {"REPLICA", "DAEMON"}

    fleet.wait(300)
    assert container.tasks == {}


def test_whoever_ends_a_host_that_cannot_serve_takes_no_capacity() -> None:
    fleet = Fleet("tight", faults=[Fault(kind="agent-never-connects")])
    fleet.hook()
    fleet.surge()
    fleet.wait(120)
    bad, good = (
        next(one for one in fleet.world.hosts.values() if one.new is new and one.state == "InService")
        for new in (True, False)
    )

    fleet.autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=bad.id, ShouldDecrementDesiredCapacity=False)
    assert [one.rule for one in fleet.world.broken(Expectations(over=False))] == []

    fleet.autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=good.id, ShouldDecrementDesiredCapacity=False)
    assert [one.rule for one in fleet.world.broken(Expectations(over=False))] == ["capacity"]


def test_every_switch_is_flipped_to_each_of_its_other_values() -> None:
    usual = Switches()
    others = {
        f"{name}={value}"
        for name, values in Switches.choices().items()
        for value in values
        if value != getattr(usual, name)
    }

    assert {one for flip in Switches.every_single_flip() for one in flip.flipped()} == others
