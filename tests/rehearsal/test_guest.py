"""Decisions about guests, without any."""

import pytest

from pipeline.rehearsal.guest import GUEST_BYTES, RESERVE_BYTES, Addresses, NoCapacity, memory_short_by
from tests.rehearsal.conftest import Rehearsal

MIB = 1024**2

MEMORY = [
    ("room for the first", GUEST_BYTES + RESERVE_BYTES, [], 0),
    ("a byte short", GUEST_BYTES + RESERVE_BYTES - 1, [], 1),
    ("a running guest that has touched nothing is promised all of it", 2 * GUEST_BYTES + RESERVE_BYTES, [0], 0),
    ("one that has touched all is promised nothing more", GUEST_BYTES + RESERVE_BYTES, [GUEST_BYTES], 0),
    ("nor is one that grew beyond it", GUEST_BYTES + RESERVE_BYTES, [2 * GUEST_BYTES], 0),
    ("half a guest short", GUEST_BYTES + RESERVE_BYTES, [GUEST_BYTES // 2], GUEST_BYTES // 2),
]


@pytest.mark.parametrize(("available", "residents", "short"), [case[1:] for case in MEMORY], ids=[c[0] for c in MEMORY])
def test_memory(available: int, residents: list[int], short: int) -> None:
    assert memory_short_by(available, residents) == short


def test_addresses_pass_over_those_somebody_else_listens_on() -> None:
    addresses = Addresses(can_listen=lambda address: not address.endswith(".1"))
    taken = [addresses.take(), addresses.take()]
    assert [address.rpartition(".")[2] for address in taken] == ["2", "3"]
    addresses.give_back(taken[0])
    assert addresses.take() == taken[0]


def test_addresses_run_out() -> None:
    addresses = Addresses(can_listen=lambda _: False)
    with pytest.raises(NoCapacity, match=r"^every address of 127\.\d+\.\d+\.0/24 is taken$"):
        addresses.take()


def test_a_guest_that_ignores_the_power_button_is_ended_after_the_grace(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    rehearsal.machines[0].heeds_power_button = False
    rehearsal.ec2.stop_instances(InstanceIds=[instance_id])
    assert rehearsal.state(instance_id) == "stopped"
    assert 119 <= rehearsal.clock.monotonic() <= 120


def test_a_forced_stop_presses_no_button(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    rehearsal.ec2.stop_instances(InstanceIds=[instance_id], Force=True)
    assert (rehearsal.state(instance_id), rehearsal.machines[0].pressed) == ("stopped", 0)


@pytest.mark.parametrize(("managed", "resets", "commands"), [(False, 1, []), (True, 0, ["guest-exec"])])
def test_a_reboot_is_orderly_when_the_agent_is_there(
    rehearsal: Rehearsal, managed: bool, resets: int, commands: list[str]
) -> None:
    instance_id = rehearsal.launch()
    if managed:
        rehearsal.world.hosting.poll_agents()
    rehearsal.ec2.reboot_instances(InstanceIds=[instance_id])
    machine = rehearsal.machines[0]
    assert (machine.resets, [name for name, _ in machine.agent.calls]) == (resets, commands)
