"""`./run install-agent` over the fleet model, and what it refuses to begin."""

from typing import Any

import pytest

from pipeline.clock import VirtualClock
from pipeline.engine import ModelEngine, model_seams
from pipeline.errors import ExecutionError, UsageError
from pipeline.install_agent import InstallRequest, install_agent, install_with
from pipeline.rehearsal.fleet.spec import example_fleet
from pipeline.rehearsal.fleet.world import World

HOST = "i-0123456789abcdef0"


def engine(kernel: str) -> tuple[ModelEngine, World]:
    """The example of twenty hosts without an agent, on that kernel."""
    spec = example_fleet("twenty")
    old = spec.images[0].model_copy(update={"kernel": kernel})
    world = World(spec.model_copy(update={"images": (old, *spec.images[1:])}), VirtualClock())
    return ModelEngine(model_seams(world, check_answers=True)), world


def test_a_group_gets_the_agent_and_every_host_is_proven() -> None:
    model, world = engine("5.10.245-241.976.amzn2")

    ended = install_with(model, InstallRequest(group="example"), lambda _: None)

    assert ended.good
    assert {host.installed_agent for host in world.hosts.values()} == {"1.17.1"}
    proofs = [command for command in world.commands.values() if command.document == "Ovenproof-ProveInstance"]
    assert len(proofs) == 20


def test_hosts_that_cannot_run_it_are_told_and_left_alone() -> None:
    model, world = engine("4.14.355-280.672.amzn2")

    with pytest.raises(ExecutionError, match="the agent is not on all of example") as failed:
        install_with(model, InstallRequest(group="example"), lambda _: None)

    assert "older than GuardDuty's agent supports" in failed.value.found
    assert "./run roll" in failed.value.remedy
    assert not any(host.installed_agent for host in world.hosts.values())


@pytest.mark.parametrize("given", [{}, {"group": "example", "instances": [HOST]}])
def test_hosts_or_a_group_and_not_both(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not said where"):
        install_agent(InstallRequest(**given), on="local", region="", fleet="", say=lambda _: None)


@pytest.mark.parametrize(
    ("instances", "message"), [(["i-1"], "i-1 is no instance"), ([HOST] * 51, "51 hosts are more")]
)
def test_what_ssm_would_refuse_is_refused_first(instances: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        install_agent(InstallRequest(instances=instances), on="aws", region="", fleet="", say=lambda _: None)


def test_only_what_was_asked_for_is_handed_on() -> None:
    request = InstallRequest(instances=[HOST], version="1.16.0", max_errors="2")

    assert request.parameters() == {"InstanceIds": [HOST], "Version": "1.16.0", "MaxErrors": "2"}
