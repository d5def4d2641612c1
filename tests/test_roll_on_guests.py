"""A roll with real kernels: two guests of the old image, the real documents, the image of this run's bake.

First GuardDuty's data endpoint is cut while the canary boots, and the gate has to refuse; then the same group is rolled
again, with the endpoint back.
"""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.clock import SystemClock
from pipeline.commands import run_on_instance
from pipeline.coverage import coverage_of, runtime_monitoring_detector
from pipeline.documents import PREFIX
from pipeline.engine import Ended, ModelEngine, open_guests
from pipeline.rehearsal.fleet.invariants import STATE_TAG, Broken, Expectations
from pipeline.rehearsal.fleet.world import World
from pipeline.roll import RollRequest
from tests.end_to_end import OwnCloud, Proven, wait_for

pytestmark = pytest.mark.slow

# A canary without GuardDuty is to be refused in a minute, not in AWS's quarter of an hour.
PARAMETERS = {**RollRequest(group="example").roll_parameters(), "CoverageTimeoutSeconds": 60, "WindowSeconds": 10}


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """A roll that has ended: what the document said, and what the guests say."""

    ended: Ended
    proofs: tuple[list[dict[str, Any]], ...]  # for each time that hosts were proven, what each of them showed
    kernels: dict[str, str]  # of the group's hosts, by their own word
    images: dict[str, str]  # the same, by EC2's
    coverage: dict[str, str]
    running: set[str]  # every instance that runs in the cloud
    broken: tuple[Broken, ...]
    state: str


def roll(cloud: OwnCloud, engine: ModelEngine, world: World, expected: Expectations) -> Rolled:
    executions = engine.seams.executions
    earlier = set(executions)
    ended = engine.run(f"{PREFIX}RollFleet", PARAMETERS, lambda _: None)
    proofs = [
        one for key, one in executions.items() if key not in earlier and one.document == f"{PREFIX}ProveInstances"
    ]
    broken = world.broken(expected)
    group = world.groups.all["example"]
    session, detector = cloud.session, runtime_monitoring_detector(cloud.session)
    instances = running_instances(session)
    said = {
        host: run_on_instance(session, host, ["uname -r"], clock=SystemClock(), timeout_seconds=60, every_seconds=0.5)
        for host in group.hosts
    }
    return Rolled(
        ended=ended,
        proofs=tuple(json.loads(one.outputs["Prove.Hosts"]) for one in proofs),
        kernels={host: one.stdout.strip() for host, one in said.items()},
        images={host: instances[host] for host in group.hosts},
        coverage={host: coverage_of(session, detector, host).status for host in group.hosts},
        running=set(instances),
        broken=broken,
        state=group.tags[STATE_TAG][0],
    )


def running_instances(session: Any) -> dict[str, str]:
    """The image of every instance that is not on its way out."""
    filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    pages = session.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    return {
        one["InstanceId"]: one["ImageId"]
        for page in pages
        for some in page["Reservations"]
        for one in some["Instances"]
    }


@pytest.fixture(scope="module")
def rolls(own_cloud: OwnCloud, proven: Proven) -> Iterator[tuple[Rolled, Rolled]]:
    """The roll whose canary cannot reach GuardDuty, and then the one that can."""
    before = own_cloud.standing()
    base = proven.record.base.id
    with open_guests("pair", own_cloud.session, old=base, new=proven.image_id) as (engine, world):
        with own_cloud.without_data_endpoint():
            refused = roll(own_cloud, engine, world, Expectations(ends="old"))
        rolled = roll(own_cloud, engine, world, Expectations(ends="new"))
    assert own_cloud.standing() == before
    yield refused, rolled


def test_without_an_endpoint_the_gate_refuses_the_canary_and_says_why(rolls: tuple[Rolled, Rolled]) -> None:
    refused, _ = rolls

    assert refused.ended.status == "Failed"
    assert "step ProveCanary: Not proven: step Prove: 1 of 1 hosts are not proven" in refused.ended.failure
    [[canary]] = refused.proofs
    assert canary["coverage"] == "ABSENT"
    assert canary["problems"][-1].startswith("coverage ABSENT: GuardDuty has not heard of ")
    assert "com.amazonaws.<region>.guardduty-data" in canary["problems"][-1]
    assert canary["instance"] not in refused.running


def test_a_refused_group_is_back_on_the_old_image_with_nothing_left(
    rolls: tuple[Rolled, Rolled], proven: Proven
) -> None:
    refused, _ = rolls
    [stand_in] = [one for one in proven.record.stand_ins if one.part == "base image"]

    assert refused.state == "rolled-back"
    assert set(refused.images.values()) == {proven.record.base.id}
    assert refused.running == set(refused.images)
    assert [stand_in.played_by.rpartition("kernel ")[2]] * 2 == list(refused.kernels.values())
    assert refused.broken == ()


def test_two_guests_are_rolled_to_the_baked_kernel_and_are_covered(
    rolls: tuple[Rolled, Rolled], proven: Proven
) -> None:
    refused, rolled = rolls

    assert (rolled.ended.status, rolled.state) == ("Success", "done")
    assert set(rolled.images.values()) == {proven.image_id}
    assert list(rolled.kernels.values()) == [proven.record.guest.kernel] * 2
    assert proven.record.guest.kernel.startswith("5.10.")
    assert list(rolled.coverage.values()) == ["HEALTHY"] * 2
    assert not set(rolled.images) & set(refused.images)
    assert rolled.running == set(rolled.images)
    assert [len(hosts) for hosts in rolled.proofs] == [1, 2]
    for host in rolled.proofs[-1]:
        assert (host["kernel"], host["coverage"], host["problems"]) == (proven.record.guest.kernel, "HEALTHY", [])
        assert host["checks"]["passed"] > 100
        assert not host["carried"]


def test_capacity_was_held_and_no_rule_of_a_roll_broken(rolls: tuple[Rolled, Rolled]) -> None:
    _, rolled = rolls

    assert rolled.broken == ()


def test_an_interrupted_roll_leaves_no_guest(own_cloud: OwnCloud, proven: Proven) -> None:
    before = own_cloud.standing()
    command = own_cloud.start("roll", "--guests")
    command.until(f"booting guests of {proven.record.base.name}")
    wait_for(lambda: len(own_cloud.guest_processes()) == 2, "two guests boot", timeout_seconds=60)

    command.signal(signal.SIGINT)
    ended = command.end()

    assert ended.exit_code == 130, ended.output
    assert own_cloud.standing() == before
