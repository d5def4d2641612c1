"""Cases of a rehearsal: their text, and whole families of them over the example fleets."""

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.rehearsal.fleet.cases import Case, parse_case
from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.switches import Switches
from pipeline.rehearse import SHAPES, all_cases, judge, rehearse_case
from tests.rehearsal.fleet.worlds import GPU_CAUTIOUS, GPU_HOSTS, GPU_QUOTA, GPU_TASKS, like_gpu


@pytest.mark.parametrize(
    "case",
    [
        Case(fleet="twenty"),
        Case(fleet="single", act="cancel", when="after", step="Drain"),
        Case(fleet="tight", fault=Fault(kind="drain-stuck", image="old", first=1)),
        Case(
            fleet="twenty",
            fault=Fault(kind="api-error", operation="ecs.ListTasks", times=None),
            act="die",
            step="Drain",
        ),
        Case(fleet="twenty", switches=Switches(describe_lag="seconds")),
    ],
    ids=str,
)
def test_a_case_is_read_from_its_own_text(case: Case) -> None:
    assert parse_case(str(case)) == case


@pytest.mark.parametrize(
    "text",
    [
        "twenty; sleep",
        "twenty; cancel during Drain",
        "twenty; fault rain",
        "twenty; switch describe_lag=years",
        "twenty; switch sky=blue",
    ],
)
def test_what_is_no_case_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="this is not a case of a rehearsal") as refused:
        parse_case(text)

    assert text in refused.value.found


@pytest.mark.parametrize("fleet", ["single", "managed-draining", "gpu"])
def test_a_roll_that_is_cancelled_or_breaks_off_at_any_step_ends_whole(fleet: str) -> None:
    cases = [case for case in all_cases(fleet, thorough=False) if case.act]

    broken = [f"{outcome.case}: {outcome.broken}" for outcome in map(judge, map(str, cases)) if not outcome.good]

    assert len(cases) > 60
    assert broken == []


@pytest.mark.parametrize("fleet", SHAPES)
def test_whatever_call_has_its_answer_lost_the_roll_or_its_way_back_ends_whole(fleet: str) -> None:
    cases = [case for case in all_cases(fleet, thorough=False) if case.fault and case.fault.kind == "answer-lost"]

    broken = [f"{outcome.case}: {outcome.broken}" for outcome in map(judge, map(str, cases)) if not outcome.good]

    assert {case.act for case in cases} == {"", "cancel"}
    assert broken == []


@pytest.mark.parametrize("fleet", ["twenty", "gpu"])
@pytest.mark.parametrize(
    "fault", ["wrong-kernel", "unit-failed", "unit-flapping", "coverage-absent", "coverage-unhealthy"]
)
def test_a_canary_that_does_not_prove_itself_brings_the_group_back(fault: str, fleet: str) -> None:
    rehearsal = rehearse_case(parse_case(f"{fleet}; fault {fault} first=1"))

    assert rehearsal.outcome.broken == ()
    assert (rehearsal.outcome.status, rehearsal.outcome.ended) == ("Failed", "old")
    assert "ProveCanary" in rehearsal.outcome.reason


@pytest.mark.parametrize(
    ("case", "status", "ended"),
    [
        # Where there is no room to double, what is useless on the new image gives its room to hosts of the old one.
        ("tight; fault agent-never-connects", "Failed", "old"),
        ("tight; fault task-will-not-start", "Failed", "old"),
        ("tight; fault task-will-not-start first=1; switch refresh_order=newest-first", "Failed", "old"),
        # A host is let go before Auto Scaling would give up.
        ("tight; fault drain-stuck image=old; switch held_is_stuck=yes", "Failed", "old"),
        # The way back ends when tasks are healthy for whoever asks.
        ("tight; fault task-will-not-start; switch healthy_without_balancer=after-40-s", "Failed", "old"),
        # A host that never joins the cluster is not rolled.
        ("managed-draining; fault agent-never-connects first=1", "Failed", "old"),
        # Where root volumes are replaced, no host is let go while tasks do not start on those that were before it.
        ("gpu; fault task-will-not-start", "Failed", "old"),
        # The time that a host has to become empty begins with its own turn.
        ("gpu; fault drain-stuck image=old first=1; switch refresh_order=newest-first", "Failed", "old"),
        # A host that is lost is replaced while others get their root volumes.
        ("gpu; fault spot-interruption after=330.0", "Success", "new"),
        # What somebody else asks for in the last seconds comes after the roll.
        ("single; fault scale-out-mid-way after=260.0", "Success", "new"),
    ],
)
def test_what_once_broke_a_rule_ends_well(case: str, status: str, ended: str) -> None:
    outcome = judge(case)

    assert outcome.broken == ()
    assert (outcome.status, outcome.ended) == (status, ended)


def test_no_task_is_killed_on_a_way_back_from_tasks_that_do_not_start() -> None:
    rehearsal = rehearse_case(parse_case("tight; fault task-will-not-start"))

    assert rehearsal.outcome.seconds < 3600
    assert rehearsal.world.calls["autoscaling.TerminateInstanceInAutoScalingGroup"] == 2


def test_each_host_has_its_own_time_to_become_empty_however_many_take_turns(tmp_path: Path) -> None:
    """Sixteen hosts take an hour, one has half an hour."""
    many = like_gpu(tmp_path, GPU_HOSTS, GPU_QUOTA, (GPU_TASKS, "desired: 14\n    minimum_healthy_percent: 50"))

    outcome = judge(many)

    assert outcome.seconds > 3000
    assert outcome.broken == ()
    assert (outcome.status, outcome.ended) == ("Success", "new")


def test_no_more_hosts_go_than_the_one_whose_tasks_do_not_start_elsewhere(tmp_path: Path) -> None:
    many = like_gpu(tmp_path, GPU_HOSTS, GPU_QUOTA, (GPU_TASKS, "desired: 14\n    minimum_healthy_percent: 50"))

    rehearsal = rehearse_case(parse_case(f"{many}; fault task-will-not-start"))

    assert rehearsal.outcome.broken == ()
    assert "tasks do not start on the other hosts: inference" in rehearsal.outcome.reason
    tasks = [
        sum(counts) for _, *_, on_old, on_new, _, _ in rehearsal.world.timeline.samples for counts in [(on_old, on_new)]
    ]
    assert min(tasks) >= 13  # of 14


def test_a_host_that_others_wait_for_is_let_go_where_every_host_is_full(tmp_path: Path) -> None:
    """No other host has room for its task, so there is nothing to wait for."""
    full = like_gpu(tmp_path, (GPU_TASKS, "desired: 3\n    minimum_healthy_percent: 66"))

    outcome = judge(full)

    assert outcome.broken == ()
    assert (outcome.status, outcome.ended) == ("Success", "new")


def test_a_task_that_has_to_start_elsewhere_first_finds_an_old_host_on_the_way_back(tmp_path: Path) -> None:
    """It waits on a host that is held, and its service may not be without it: hosts that nothing starts on go first."""
    case = parse_case(f"{like_gpu(tmp_path, GPU_CAUTIOUS)}; fault task-will-not-start")

    rehearsal = rehearse_case(case)

    assert rehearsal.outcome.broken == ()
    assert (rehearsal.outcome.status, rehearsal.outcome.ended) == ("Failed", "old")
    assert rehearsal.outcome.seconds < 3000  # nobody waited until a task might be killed


def test_a_step_that_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match="RollFleet has no step Nowhere"):
        rehearse_case(parse_case("twenty; cancel before Nowhere"))
