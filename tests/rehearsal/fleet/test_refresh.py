"""Instance refresh, rule by rule. Each test names the page or the part of the API reference that states the rule.

API = Auto Scaling API reference, as the service model of botocore 1.44.5 carries it. UG = its user guide.
"""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.spec import example_fleet
from pipeline.rehearsal.fleet.switches import Switches
from tests.rehearsal.fleet.worlds import HOOK, NEW_IMAGE, OLD_IMAGE, TEMPLATE, Fleet


def lowest(fleet: Fleet, until: float = 3600, step: float = 1) -> tuple[int, int]:
    """The fewest and the most hosts in service or pending until the refresh ends."""
    low, high = 10**9, 0
    for _ in range(int(until / step)):
        states = fleet.states()
        low = min(low, states.get("InService", 0))
        high = max(high, states.get("InService", 0) + states.get("Pending", 0))
        if fleet.status() in ("Successful", "Failed", "Cancelled"):
            break
        fleet.wait(step)
    return low, high


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# -- preferences ------------------------------------------------------------------------------------------------------


def test_min_healthy_is_ninety_when_left_out() -> None:
    """API, RefreshPreferences.MinHealthyPercentage: the default is 90 percent."""
    fleet = Fleet()
    fleet.refresh(fleet.new_version())
    assert fleet.last_refresh()["Preferences"]["MinHealthyPercentage"] == 90
    assert lowest(fleet)[0] == 18


def test_the_maintenance_policy_gives_the_bounds_that_are_left_out() -> None:
    """API, RefreshPreferences: ... or the percentage set in the instance maintenance policy."""
    spec = example_fleet("twenty")
    group = spec.groups[0].model_copy(update={"maintenance": (100, 110)})
    fleet = Fleet(spec, groups=(group,))
    fleet.refresh(fleet.new_version())
    preferences = fleet.last_refresh()["Preferences"]
    assert (preferences["MinHealthyPercentage"], preferences["MaxHealthyPercentage"]) == (100, 110)
    assert lowest(fleet) == (20, 22)


def test_the_maximum_bounds_what_is_in_service_or_pending() -> None:
    """API, RefreshPreferences.MaxHealthyPercentage: in service and healthy, or pending, of the desired capacity."""
    fleet = Fleet()
    fleet.surge()
    assert lowest(fleet) == (20, 40)
    assert fleet.status() == "Successful"


def test_a_maximum_that_is_said_means_launch_first_when_both_bounds_cannot_hold() -> None:
    """API, RefreshPreferences.MaxHealthyPercentage: launches a new instance before terminating an old one."""
    fleet = Fleet("single")
    fleet.refresh(fleet.new_version(), MinHealthyPercentage=100, MaxHealthyPercentage=100)
    assert lowest(fleet) == (1, 2)
    assert fleet.images() == {NEW_IMAGE}


def test_a_maximum_left_out_means_end_and_launch_at_the_same_time() -> None:
    """API, same place: when omitted, terminates an instance and launches its replacement simultaneously."""
    fleet = Fleet("single")
    fleet.refresh(fleet.new_version(), MinHealthyPercentage=100)
    assert lowest(fleet) == (0, 1)
    assert fleet.images() == {NEW_IMAGE}


@pytest.mark.parametrize(
    "preferences",
    [
        {"MaxHealthyPercentage": 110},
        {"MinHealthyPercentage": 50, "MaxHealthyPercentage": 160},
        {"MinHealthyPercentage": 101},
        {"MinHealthyPercentage": 90, "MaxHealthyPercentage": 201},
        {"CheckpointPercentages": [50, 20, 100]},
        {"CheckpointPercentages": [50, 50, 100]},
        {"CheckpointDelay": 60},
        {"CheckpointPercentages": [50, 100], "CheckpointDelay": 172801},
        {"BakeTime": 172801},
        {"AlarmSpecification": {"Alarms": ["nobody"]}},
    ],
)
def test_preferences_that_cannot_be_are_refused(preferences: dict[str, Any]) -> None:
    """API, RefreshPreferences: ranges, pairs and order of its members."""
    fleet = Fleet()
    with pytest.raises(ClientError) as caught:
        fleet.refresh(fleet.new_version(), **preferences)
    assert code(caught) == "ValidationError"
    assert fleet.autoscaling.describe_instance_refreshes(AutoScalingGroupName="example")["InstanceRefreshes"] == []


def test_the_warmup_is_the_refreshs_then_the_groups_then_the_grace_period() -> None:
    """API, RefreshPreferences.InstanceWarmup."""
    times = []
    for warmup, preferences in ((None, {}), (60, {}), (60, {"InstanceWarmup": 0})):
        spec = example_fleet("single")
        group = spec.groups[0].model_copy(update={"default_warmup": warmup})
        fleet = Fleet(spec, groups=(group,))
        fleet.surge(**preferences)
        times.append(fleet.until("Successful", step=1))
    assert times[0] - times[2] == pytest.approx(300, abs=10)
    assert times[1] - times[2] == pytest.approx(60, abs=10)


def test_a_host_counts_once_it_is_healthy_and_warm() -> None:
    """API, InstanceRefresh.PercentageComplete: healthy and the warm-up time passed."""
    fleet = Fleet("single")
    fleet.surge(InstanceWarmup=100)
    fleet.wait(60)
    assert fleet.states()["InService"] == 2
    assert fleet.last_refresh()["PercentageComplete"] == 0
    assert "warm up" in fleet.last_refresh()["StatusReason"]
    fleet.wait(90)
    assert fleet.last_refresh()["PercentageComplete"] == 100


def test_skip_matching_leaves_hosts_that_match_alone() -> None:
    """API, RefreshPreferences.SkipMatching; default false: everything is replaced."""
    fleet = Fleet()
    before = {host["InstanceId"] for host in fleet.group()["Instances"]}
    fleet.refresh("1", SkipMatching=True)
    fleet.until("Successful")
    assert {host["InstanceId"] for host in fleet.group()["Instances"]} == before
    fleet.refresh("1", MinHealthyPercentage=100, MaxHealthyPercentage=200)
    fleet.until("Successful")
    assert not before & {host["InstanceId"] for host in fleet.group()["Instances"]}


@pytest.mark.parametrize(
    ("choice", "status", "left"), [("Refresh", "Successful", 0), ("Ignore", "Successful", 2), ("Wait", "Failed", 2)]
)
def test_hosts_protected_from_scale_in(choice: str, status: str, left: int) -> None:
    """API, RefreshPreferences.ScaleInProtectedInstances; Wait: one hour, otherwise the refresh fails."""
    spec = example_fleet("twenty")
    fleet = Fleet(spec, groups=(spec.groups[0].model_copy(update={"protected": 2}),))
    fleet.surge(ScaleInProtectedInstances=choice)
    took = fleet.until("Successful", "Failed")
    assert fleet.status() == status
    assert sum(not host.new for host in fleet.world.groups.all["example"].hosts.values()) == left
    assert (took >= 3600) == (choice == "Wait")


def test_waiting_for_protected_hosts_is_the_default_and_ends_when_protection_does() -> None:
    """API, RefreshPreferences.ScaleInProtectedInstances: Wait (default)."""
    spec = example_fleet("twenty")
    fleet = Fleet(spec, groups=(spec.groups[0].model_copy(update={"protected": 1}),))
    fleet.surge()
    fleet.wait(1800)
    assert fleet.status() == "InProgress"
    protected = [host["InstanceId"] for host in fleet.group()["Instances"] if host["ProtectedFromScaleIn"]]
    fleet.autoscaling.set_instance_protection(
        AutoScalingGroupName="example", InstanceIds=protected, ProtectedFromScaleIn=False
    )
    fleet.until("Successful", within=600)


@pytest.mark.parametrize(
    ("choice", "status", "left"), [("Terminate", "Successful", 0), ("Ignore", "Successful", 1), ("Wait", "Failed", 1)]
)
def test_hosts_in_standby(choice: str, status: str, left: int) -> None:
    """API, RefreshPreferences.StandbyInstances."""
    spec = example_fleet("twenty")
    fleet = Fleet(spec, groups=(spec.groups[0].model_copy(update={"standby": 1}),))
    fleet.surge(StandbyInstances=choice)
    fleet.until("Successful", "Failed")
    assert fleet.status() == status
    assert fleet.states().get("Standby", 0) == left


# -- checkpoints and baking -------------------------------------------------------------------------------------------


def test_a_checkpoint_waits_for_its_delay() -> None:
    """API, RefreshPreferences.CheckpointDelay: the amount of time to wait after a checkpoint before continuing."""
    fleet = Fleet()
    fleet.surge(CheckpointPercentages=[10, 100], CheckpointDelay=1000, InstanceWarmup=0)
    fleet.wait(900)
    assert fleet.last_refresh()["PercentageComplete"] == 10
    assert fleet.images() == {OLD_IMAGE, NEW_IMAGE}
    fleet.until("Successful", within=600)
    assert fleet.images() == {NEW_IMAGE}


def test_a_checkpoint_delay_is_an_hour_when_left_out() -> None:
    """API, RefreshPreferences.CheckpointDelay: defaults to 3600."""
    fleet = Fleet()
    fleet.surge(CheckpointPercentages=[5, 100])
    assert fleet.last_refresh()["Preferences"]["CheckpointDelay"] == 3600
    assert fleet.until("Successful") > 3600


def test_two_days_of_delay_are_not_an_hour_without_progress() -> None:
    """UG, instance refresh: the one-hour timeout is for a refresh that is stuck, a checkpoint may last 48 hours."""
    fleet = Fleet()
    fleet.surge(CheckpointPercentages=[5, 100], CheckpointDelay=172800)
    fleet.wait(172000)
    assert fleet.status() == "InProgress"
    assert fleet.states() == {"InService": 20}


def test_baking_lasts_its_time_and_the_group_follows_only_then() -> None:
    """API, BakeTime and Status Baking; DesiredConfiguration: the settings follow once the refresh succeeds."""
    fleet = Fleet()
    fleet.surge(BakeTime=600)
    fleet.until("Baking")
    assert fleet.group()["LaunchTemplate"]["Version"] == "1"
    assert fleet.until("Successful") == pytest.approx(600, abs=20)
    assert fleet.group()["LaunchTemplate"]["Version"] == "2"


# -- one at a time, cancel, rollback ----------------------------------------------------------------------------------


def test_only_one_refresh_at_a_time() -> None:
    """API, StartInstanceRefresh: InstanceRefreshInProgressFault."""
    fleet = Fleet()
    fleet.surge()
    with pytest.raises(fleet.autoscaling.exceptions.InstanceRefreshInProgressFault):
        fleet.refresh("2")


@pytest.mark.parametrize("call", ["cancel_instance_refresh", "rollback_instance_refresh"])
def test_nothing_to_cancel_or_to_roll_back(call: str) -> None:
    """API: ActiveInstanceRefreshNotFoundFault."""
    fleet = Fleet()
    fleet.surge()
    fleet.until("Successful")
    with pytest.raises(fleet.autoscaling.exceptions.ActiveInstanceRefreshNotFoundFault):
        getattr(fleet.autoscaling, call)(AutoScalingGroupName="example")


def test_cancelling_undoes_nothing() -> None:
    """API, CancelInstanceRefresh: this does not roll back any changes that it made."""
    fleet = Fleet()
    fleet.surge(CheckpointPercentages=[50, 100])
    fleet.wait(300)
    fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName="example")
    fleet.until("Cancelled", within=300)
    assert fleet.images() == {OLD_IMAGE, NEW_IMAGE}
    assert fleet.group()["LaunchTemplate"]["Version"] == "1"


def test_cancelling_waits_for_launches_unless_told_otherwise() -> None:
    """API, CancelInstanceRefresh.WaitForTransitioningInstances: default true."""
    for wait in (True, False):
        fleet = Fleet()
        fleet.surge()
        fleet.wait(20)
        assert fleet.states()["Pending"] == 20
        fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName="example", WaitForTransitioningInstances=wait)
        fleet.wait(6)
        assert fleet.status() == ("Cancelling" if wait else "Cancelled")
        fleet.until("Cancelled", within=120)


def test_rolling_back_restores_what_ran_before() -> None:
    """API, RollbackInstanceRefresh: replaces any instances that were replaced; restores the configuration."""
    fleet = Fleet()
    fleet.surge(CheckpointPercentages=[50, 100], InstanceWarmup=0)
    fleet.wait(300)
    assert fleet.last_refresh()["PercentageComplete"] == 50
    fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName="example")
    assert fleet.status() == "RollbackInProgress"
    fleet.until("RollbackSuccessful", within=600)
    fleet.wait(120)
    answer = fleet.last_refresh()
    assert answer["RollbackDetails"]["PercentageCompleteOnRollback"] == 50
    assert answer["PercentageComplete"] == 0
    assert fleet.images() == {OLD_IMAGE}
    assert fleet.group()["LaunchTemplate"]["Version"] == "1"
    assert fleet.states() == {"InService": 20}


def test_a_rollback_can_be_cancelled() -> None:
    """API, CancelInstanceRefresh: cancels an instance refresh or rollback that is in progress."""
    fleet = Fleet()
    fleet.surge(CheckpointPercentages=[50, 100])
    fleet.wait(300)
    fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName="example")
    fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName="example", WaitForTransitioningInstances=False)
    fleet.until("Cancelled", within=60)


def test_no_rollback_without_a_desired_configuration() -> None:
    """API, RollbackInstanceRefresh: not supported when there is no desired configuration."""
    fleet = Fleet()
    fleet.autoscaling.start_instance_refresh(AutoScalingGroupName="example")
    with pytest.raises(fleet.autoscaling.exceptions.IrreversibleInstanceRefreshFault, match="no desired configuration"):
        fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName="example")


def test_no_rollback_to_latest_or_default() -> None:
    """API, RollbackInstanceRefresh: not supported when the group uses $Latest or $Default."""
    spec = example_fleet("twenty")
    fleet = Fleet(spec, groups=(spec.groups[0].model_copy(update={"template_version": "$Latest"}),))
    fleet.surge()
    with pytest.raises(fleet.autoscaling.exceptions.IrreversibleInstanceRefreshFault, match=r"\$Latest"):
        fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName="example")


def test_no_rollback_with_an_image_from_a_parameter() -> None:
    """API, RollbackInstanceRefresh: not supported when the template uses a Systems Manager parameter as ImageId."""
    fleet = Fleet()
    version = fleet.new_version(ImageId="resolve:ssm:/ovenproof/ecs-al2-kernel-5.10/x86_64")
    fleet.refresh(version, MinHealthyPercentage=100, MaxHealthyPercentage=200)
    with pytest.raises(fleet.autoscaling.exceptions.IrreversibleInstanceRefreshFault, match="Systems Manager"):
        fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName="example")


def test_whoever_updates_the_group_first_has_nothing_to_go_back_to() -> None:
    """UG, rollback: it restores the configuration saved on the group; terraform-provider-aws #34189 is this."""
    fleet = Fleet()
    version = fleet.new_version()
    fleet.autoscaling.update_auto_scaling_group(
        AutoScalingGroupName="example", LaunchTemplate={"LaunchTemplateId": TEMPLATE, "Version": version}
    )
    fleet.refresh(version, MinHealthyPercentage=100, MaxHealthyPercentage=200, CheckpointPercentages=[50, 100])
    fleet.wait(300)
    fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName="example")
    fleet.until("RollbackSuccessful", within=900)
    assert NEW_IMAGE in fleet.images()


# -- what stops a refresh ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("automatic", "status"), [(False, "Failed"), (True, "RollbackSuccessful")])
def test_an_alarm_fails_the_refresh_and_rolls_back_if_asked(automatic: bool, status: str) -> None:
    """API, AlarmSpecification: fail the operation if a threshold is met; AutoRollback."""
    fleet = Fleet(faults=[Fault(kind="alarm-fires", after=100)])
    fleet.surge(CheckpointPercentages=[10, 100], AutoRollback=automatic, AlarmSpecification={"Alarms": ["example-5xx"]})
    fleet.until("Failed", "RollbackSuccessful")
    assert fleet.status() == status
    assert "example-5xx" in str(fleet.last_refresh())


def test_an_alarm_while_baking_counts_too() -> None:
    """UG, instance refresh with alarms: they are watched during the bake time as well."""
    fleet = Fleet(faults=[Fault(kind="alarm-fires", after=600)])
    fleet.surge(BakeTime=3600, AlarmSpecification={"Alarms": ["example-5xx"]})
    fleet.wait(500)
    assert fleet.status() == "Baking"
    fleet.wait(200)
    assert fleet.status() == "Failed"


def test_no_progress_for_an_hour_fails() -> None:
    """UG, instance refresh: it fails after one hour without progress."""
    fleet = Fleet(faults=[Fault(kind="insufficient-capacity")])
    fleet.surge()
    took = fleet.until("Failed", within=4000)
    assert took == pytest.approx(3600, abs=60)
    activities = fleet.autoscaling.describe_scaling_activities(AutoScalingGroupName="example")["Activities"]
    assert activities[0]["StatusCode"] == "Failed"
    assert "sufficient" in activities[0]["StatusMessage"]
    assert fleet.world.broken() == ()


def test_a_suspended_process_holds_the_refresh_up() -> None:
    """UG, suspend processes: without Launch no replacement is launched."""
    fleet = Fleet()
    fleet.autoscaling.suspend_processes(AutoScalingGroupName="example", ScalingProcesses=["Launch"])
    fleet.surge()
    fleet.wait(600)
    assert fleet.states() == {"InService": 20}
    fleet.autoscaling.resume_processes(AutoScalingGroupName="example", ScalingProcesses=["Launch"])
    fleet.until("Successful", within=600)


# -- root volumes -----------------------------------------------------------------------------------------------------


def swap(fleet: Fleet, **preferences: Any) -> None:
    fleet.autoscaling.start_instance_refresh(
        AutoScalingGroupName="example",
        Strategy="ReplaceRootVolume",
        DesiredConfiguration={
            "MixedInstancesPolicy": {
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": TEMPLATE, "Version": fleet.new_version()},
                    "Overrides": [
                        {"InstanceType": "g4dn.xlarge", "ImageId": NEW_IMAGE},
                        {"InstanceType": "g5.xlarge", "ImageId": NEW_IMAGE},
                    ],
                }
            }
        },
        Preferences=preferences,
    )


def test_root_volumes_are_replaced_in_place_without_a_launch() -> None:
    """UG, replace root volume: only the root volume changes; Describe fills Instance.ImageId then (API)."""
    fleet = Fleet("gpu")
    before = {host["InstanceId"] for host in fleet.group()["Instances"]}
    swap(fleet)
    fleet.until("Successful")
    instances = fleet.group()["Instances"]
    assert {host["InstanceId"] for host in instances} == before
    assert {host["ImageId"] for host in instances} == {NEW_IMAGE}
    assert not [one for one in fleet.world.log if "launch failed" in one[1]]


def test_replacing_root_volumes_needs_an_image_in_every_override() -> None:
    """UG, replace root volume: a mixed instances policy whose every override has ImageId."""
    fleet = Fleet("twenty")
    with pytest.raises(ClientError, match="ImageId"):
        fleet.autoscaling.start_instance_refresh(
            AutoScalingGroupName="example",
            Strategy="ReplaceRootVolume",
            DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateId": TEMPLATE, "Version": "1"}},
        )


def test_a_termination_hook_holds_a_host_before_its_root_volume_goes() -> None:
    """UG, replace root volume: life-cycle states ReplacingRootVolume:Wait and so on; hooks work."""
    fleet = Fleet("gpu")
    fleet.hook()
    swap(fleet)
    fleet.wait(30)
    assert fleet.states()["ReplacingRootVolume:Wait"] == 1
    fleet.complete(fleet.held()[0])
    fleet.wait(10)
    assert fleet.states().get("ReplacingRootVolume:Proceed") == 1


def test_a_root_volume_that_was_being_replaced_when_a_rollback_began_is_replaced_again() -> None:
    """API, RollbackInstanceRefresh: replaces whatever the refresh has replaced until then."""
    fleet = Fleet("gpu")
    fleet.hook()
    swap(fleet)
    fleet.wait(30)
    [held] = fleet.held()
    fleet.complete(held)
    fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName="example")
    fleet.wait(200)
    [new] = [one for one in fleet.group()["Instances"] if one["InstanceId"] == held]
    assert new["ImageId"] == NEW_IMAGE
    for one in fleet.held():
        fleet.complete(one)
    fleet.until("RollbackSuccessful")
    assert fleet.images() == {OLD_IMAGE}


@pytest.mark.parametrize(("value", "count"), [("same", 3), ("another", 6)])
def test_a_root_replaced_host_and_its_container_instance(value: Any, count: int) -> None:
    """Not documented: switch root_swap_registers."""
    fleet = Fleet("gpu", switches=Switches(root_swap_registers=value))
    swap(fleet)
    fleet.until("Successful")
    fleet.wait(200)
    arns = fleet.ecs.list_container_instances(cluster="example")["containerInstanceArns"]
    assert len(arns) == count
    described = fleet.ecs.describe_container_instances(cluster="example", containerInstances=arns)
    assert sum(one["agentConnected"] for one in described["containerInstances"]) == 3


# -- switches ---------------------------------------------------------------------------------------------------------


def test_which_old_hosts_go_first() -> None:
    """Not documented: switch refresh_order."""
    first = []
    for value in Switches.choices()["refresh_order"]:
        fleet = Fleet(switches=Switches(refresh_order=value))  # type: ignore[arg-type]
        fleet.hook()
        fleet.surge(CheckpointPercentages=[15, 100], InstanceWarmup=0)
        fleet.wait(200)
        first.append(tuple(sorted(fleet.held())))
    assert len(set(first)) == 3
    assert all(len(held) == 3 for held in first)


def test_all_replacements_at_once_or_by_what_is_gone() -> None:
    """Not documented: switch surge_launch."""
    for value, most in (("all-at-once", 40), ("by-what-is-gone", 25)):
        fleet = Fleet(switches=Switches(surge_launch=value))  # type: ignore[arg-type]
        fleet.surge(InstanceWarmup=0)
        assert lowest(fleet) == (20, most)
        assert fleet.status() == "Successful"


def test_whether_held_hosts_count_at_a_checkpoint() -> None:
    """Not documented: switch checkpoint_counts, with hosts held in a termination hook."""
    for value, percent in (("warm", 10), ("gone", 0)):
        fleet = Fleet(switches=Switches(checkpoint_counts=value))  # type: ignore[arg-type]
        fleet.hook()
        fleet.surge(CheckpointPercentages=[10, 100], InstanceWarmup=0)
        fleet.wait(300)
        assert fleet.last_refresh()["PercentageComplete"] == percent
        for host in fleet.held():
            fleet.complete(host)
        fleet.wait(60)
        assert fleet.last_refresh()["PercentageComplete"] == 10


def test_whether_replaced_hosts_leave_at_a_checkpoint() -> None:
    """Not documented: switch checkpoint_ends."""
    for value, held in (("replaced", 2), ("nothing", 0)):
        fleet = Fleet(switches=Switches(checkpoint_ends=value))  # type: ignore[arg-type]
        fleet.hook()
        fleet.surge(CheckpointPercentages=[10, 100], InstanceWarmup=0)
        fleet.wait(300)
        assert len(fleet.held()) == held


def test_what_a_cancelled_refresh_leaves() -> None:
    """Not documented: switch cancelled_excess; hosts above the desired number."""
    for value, count in (("scaled-in", 20), ("kept", 22)):
        fleet = Fleet(switches=Switches(cancelled_excess=value, checkpoint_ends="nothing"))  # type: ignore[arg-type]
        fleet.surge(CheckpointPercentages=[10, 100], InstanceWarmup=0)
        fleet.wait(100)
        fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName="example")
        fleet.wait(200)
        assert fleet.states() == {"InService": count}
        assert sum(host.new for host in fleet.world.groups.all["example"].hosts.values()) == 2


def test_whether_cancelling_waits_for_held_hosts() -> None:
    """Not documented: switch cancel_waits_for_held."""
    for value, status in (("no", "Cancelled"), ("yes", "Cancelling")):
        fleet = Fleet(switches=Switches(cancel_waits_for_held=value))  # type: ignore[arg-type]
        fleet.hook()
        fleet.surge(CheckpointPercentages=[10, 100], InstanceWarmup=0)
        fleet.wait(100)
        fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName="example")
        fleet.wait(60)
        assert fleet.status() == status


def test_when_a_refresh_is_over() -> None:
    """Not documented: switch success_waits, with hosts held in a termination hook."""
    for value, status in (("gone", "InProgress"), ("leaving", "Successful")):
        fleet = Fleet(switches=Switches(success_waits=value))  # type: ignore[arg-type]
        fleet.hook()
        fleet.surge(InstanceWarmup=0)
        fleet.wait(600)
        assert fleet.status() == status
        assert len(fleet.held()) == 20


def test_whether_the_hour_runs_while_hooks_hold_hosts() -> None:
    """Not documented: switch held_is_stuck."""
    for value, status in (("no", "InProgress"), ("yes", "Failed")):
        fleet = Fleet(switches=Switches(held_is_stuck=value))  # type: ignore[arg-type]
        fleet.hook()
        fleet.surge(InstanceWarmup=0)
        fleet.wait(5000)
        assert fleet.status() == status


def test_whether_a_refresh_may_launch_above_the_maximum_size() -> None:
    """Not documented: switch refresh_above_max."""
    spec = example_fleet("twenty")
    group = spec.groups[0].model_copy(update={"max_size": 25})
    for value, most in (("yes", 40), ("no", 25)):
        fleet = Fleet(spec, groups=(group,), switches=Switches(refresh_above_max=value))  # type: ignore[arg-type]
        fleet.surge(InstanceWarmup=0)
        assert lowest(fleet)[1] == most


def test_what_a_scale_out_launches_in_the_middle() -> None:
    """Not documented: switch scale_out_launches."""
    for value, new in (("desired", 4), ("saved", 2)):
        fleet = Fleet(
            switches=Switches(scale_out_launches=value),  # type: ignore[arg-type]
            faults=[Fault(kind="scale-out-mid-way", after=200, count=2)],
        )
        fleet.surge(CheckpointPercentages=[10, 100], InstanceWarmup=0)
        fleet.wait(400)
        hosts = fleet.world.groups.all["example"].hosts.values()
        assert len([host for host in hosts if host.state == "InService"]) == 22
        assert sum(host.new for host in hosts) == new


def test_how_a_percentage_that_is_no_whole_number_is_rounded() -> None:
    """Not documented: switch checkpoint_rounds."""
    for value, new in (("up", 2), ("down", 1)):
        fleet = Fleet(switches=Switches(checkpoint_rounds=value))  # type: ignore[arg-type]
        fleet.surge(CheckpointPercentages=[8, 100], InstanceWarmup=0)
        fleet.wait(300)
        assert sum(host.new for host in fleet.world.groups.all["example"].hosts.values()) == new


def test_hosts_held_by_a_hook_are_let_go_by_whoever_put_it_there() -> None:
    fleet = Fleet()
    fleet.hook()
    fleet.surge(InstanceWarmup=0)
    fleet.wait(300)
    assert fleet.states() == {"InService": 20, "Terminating:Wait": 20}
    for host in fleet.held():
        fleet.complete(host)
    fleet.until("Successful", within=300)
    fleet.autoscaling.delete_lifecycle_hook(AutoScalingGroupName="example", LifecycleHookName=HOOK)
