"""Whole rolls over the fleet model, with the real documents: there, and back, and both again."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.documents import FOLDER
from pipeline.engine import ModelEngine, open_model
from pipeline.errors import PolicyRefusal, UsageError
from pipeline.paths import CHECKOUT
from pipeline.rehearsal.fleet.cases import CHANGING
from pipeline.rehearsal.fleet.invariants import Expectations
from pipeline.rehearsal.fleet.world import World
from pipeline.roll import Plan, RollRequest, aftermath, back_with, roll_guests, roll_with

REQUEST = RollRequest(group="example")
ROOMY = ["twenty", "single", "tight", "managed-draining"]


def quiet(_: str) -> None:
    """Nobody listens."""


def rolled(fleet: str) -> tuple[ModelEngine, World]:
    engine, world = open_model(fleet)
    _, ended = roll_with(engine, REQUEST, dry_run=False, say=quiet)
    assert ended is not None
    return engine, world


@pytest.mark.parametrize("fleet", ROOMY)
def test_a_roll_ends_on_the_new_image_and_breaks_no_rule(fleet: str) -> None:
    _, world = rolled(fleet)

    assert world.broken(Expectations(ends="new")) == ()


def told(fleet: str) -> tuple[list[str], Plan]:
    """What a roll says, and its plan."""
    lines: list[str] = []
    engine, world = open_model(fleet)
    plan, _ = roll_with(engine, REQUEST, dry_run=False, say=lines.append)
    lines.append(aftermath(world, plan))
    return "\n".join(lines).splitlines(), plan


def test_where_root_volumes_are_replaced_one_host_is_proven_before_the_next_one_is_touched() -> None:
    lines, plan = told("gpu")

    steps = [line.split() for line in lines if " Success" in line]
    proven = next(words for words in steps if "hosts proved themselves" in " ".join(words))
    assert plan.values["Canary"] == 1
    assert " ".join(proven).endswith("1 hosts proved themselves")
    assert any("StartCanary" in words for words in steps)
    assert any(line.startswith("example: 3 hosts, canary 1, ") for line in lines)


def test_a_roll_that_cannot_keep_capacity_says_so_before_and_after_and_keeps_every_other_rule() -> None:
    lines, _ = told("gpu")

    waived = [
        line for line in lines if line.startswith("waived: capacity never below desired: a host is out of service")
    ]
    assert len(waived) == 2
    assert waived[-1].endswith("2 of 3 hosts at least are kept")
    assert lines[-1] == "no other rule of a roll was broken"


def test_a_roll_that_waives_nothing_says_nothing_of_it() -> None:
    lines, _ = told("twenty")

    assert not any("waived" in line for line in lines)
    assert lines[-1] == "no rule of a roll was broken"


def test_a_lone_host_without_room_for_another_has_no_canary_and_its_plan_says_what_is_lost(tmp_path: Path) -> None:
    fleet = yaml.safe_load((FOLDER / "fleets" / "gpu.yaml").read_text())
    fleet["groups"][0].update(min_size=1, max_size=1, desired=1)
    fleet["services"][0].update(desired=1, minimum_healthy_percent=0)
    (tmp_path / "lone.yaml").write_text(yaml.safe_dump(fleet))

    lines, plan = told(str(tmp_path / "lone.yaml"))

    assert plan.values["CanaryPercent"] == 0
    assert any(line.startswith("example: 1 hosts, no canary, ") for line in lines)
    assert "no canary can" in next(one["what"] for one in plan.findings if one["check"] == "lane")
    assert sum("0 of 1 hosts at least are kept" in " ".join(lines[n : n + 2]) for n in range(len(lines))) >= 2
    assert lines[-1] == "no other rule of a roll was broken"


def test_the_floor_is_below_what_a_roll_takes_in_every_lane() -> None:
    for fleet in (*ROOMY, "gpu"):
        engine, _ = open_model(fleet)
        plan, ended = roll_with(engine, REQUEST, dry_run=False, say=quiet)
        assert ended is not None
        assert plan.time is not None
        assert plan.time.floor <= ended.seconds


def test_in_a_surge_every_task_moves_once() -> None:
    _, world = rolled("twenty")

    assert world.watch.moves() == {1: 60}


@pytest.mark.parametrize("fleet", ROOMY)
def test_a_group_goes_back_after_success_and_has_nothing_to_do_the_second_time(fleet: str) -> None:
    engine, world = rolled(fleet)

    first = back_with(engine, "example", quiet)
    second = back_with(engine, "example", quiet)

    assert first.outputs["Look.State"] == "go"
    assert world.broken(Expectations(ends="old")) == ()
    assert second.outputs["Look.State"] == "nothing"


def test_a_second_roll_has_nothing_to_do() -> None:
    engine, world = rolled("twenty")
    made = {operation: world.calls.get(operation, 0) for operation in CHANGING}

    plan, ended = roll_with(engine, REQUEST, dry_run=False, say=quiet)

    assert (plan.state, ended) == ("nothing", None)
    assert {operation: world.calls.get(operation, 0) for operation in CHANGING} == made


def test_what_cannot_drain_is_named_before_anything_changes() -> None:
    engine, world = open_model("blocked")

    with pytest.raises(PolicyRefusal, match="nothing was changed") as refused:
        roll_with(engine, REQUEST, dry_run=False, say=quiet)

    assert "ledger: minimumHealthyPercent 100, maximumPercent 100" in refused.value.found
    assert not any(world.calls.get(operation) for operation in CHANGING)


def test_what_a_slow_host_leads_to_reaches_the_roll_and_not_its_preflight() -> None:
    engine, world = open_model("twenty")
    request = RollRequest(group="example", on_drain_timeout="skip-host")

    _, ended = roll_with(engine, request, dry_run=False, say=quiet)

    assert ended is not None and world.broken(Expectations(ends="new")) == ()
    assert request.roll_parameters() == {**request.preflight_parameters(), "OnDrainTimeout": "skip-host"}


def test_guests_need_an_image_that_was_proven_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVENPROOF_LOCAL", str(tmp_path))

    with pytest.raises(UsageError, match=r"there is no image to roll guests onto[\s\S]+build-image"):
        roll_guests(REQUEST, variant="ecs-al2-kernel-5.10", flavour="x86_64", fleet="", dry_run=False, say=quiet)


@pytest.mark.parametrize("words", [["--on", "aws"], ["--image", "ami-11111111"]])
def test_guests_are_of_this_machine(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "roll", "--guests", *words], cwd=CHECKOUT, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "guests are of this machine, and so is the image" in done.stderr
