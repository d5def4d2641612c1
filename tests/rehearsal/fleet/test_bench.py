"""The bench of the roll: its bounds at the sizes that take no time, and its figures as a person reads them."""

from dataclasses import replace

import pytest

from pipeline.errors import ProofError
from pipeline.rehearsal.fleet import bench
from pipeline.rehearsal.fleet.bench import Roll, Speed, bounds_broken, fleet, floor_in_model, report, rolls_of, surge

GOOD = (
    Roll(hosts=20, how="surge", seconds=400, floor=380, ready=1, moves={1: 60}),
    Roll(hosts=20, how="native, group of the console", seconds=3305, floor=380, ready=0.9, moves={1: 47, 2: 13}),
)
FAST = Speed(calm=1500, mixed=1200)


def test_a_surge_of_twenty_keeps_its_bounds_and_the_way_of_each_task() -> None:
    assert bounds_broken(rolls_of(20), FAST) == []


def test_no_task_goes_to_a_host_that_is_drained_by_one_of_the_next_calls() -> None:
    """UpdateContainerInstancesState takes ten hosts a call: meanwhile the others still take tasks."""
    assert surge(fleet(200), "surge").moves == {1: 600}


def test_the_floor_is_the_sum_of_what_the_fleet_file_says() -> None:
    booted, covered, moved, gone, looked_at = 90, 30 + 120, 20 + 2 * 5 + 30 + 30, 25, 20 + 5
    assert floor_in_model(fleet(20)) == covered + booted + moved + gone + looked_at


@pytest.mark.parametrize(
    ("rolls", "speed", "told"),
    [
        (GOOD, FAST, []),
        ((replace(GOOD[0], seconds=420), GOOD[1]), FAST, ["20 hosts: 1.11 times the floor"]),
        (
            (GOOD[0], replace(GOOD[1], seconds=1900)),
            FAST,
            ["20 hosts: the native refresh takes 4.8 times as long"],
        ),
        ((replace(GOOD[0], moves={1: 59, 2: 1}), GOOD[1]), FAST, ["20 hosts: 1 tasks moved more than once"]),
        (GOOD, Speed(calm=999, mixed=2000), ["999 rehearsals a minute"]),
    ],
)
def test_a_bound_that_is_broken_is_told(rolls: tuple[Roll, ...], speed: Speed, told: list[str]) -> None:
    assert bounds_broken(rolls, speed) == told


def test_a_broken_bound_is_an_error_that_shows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "rolls_of", lambda _: [replace(GOOD[0], seconds=500), GOOD[1]])
    monkeypatch.setattr(bench, "speed_of_rehearsals", lambda: FAST)
    with pytest.raises(ProofError, match=r"1\.32 times the floor") as raised:
        bench.bench_roll([20], say=lambda _: None)
    assert "native, group of the console" in str(raised.value)


def test_the_report_sets_every_roll_beside_floor_and_surge() -> None:
    lines = [" ".join(line.split()) for line in report(GOOD, FAST).splitlines()]
    assert lines[:3] == [
        "hosts how time over floor over surge ready moved once more",
        "20 surge 6 min 40 s 1.05 1.00 100% 60 0",
        "20 native, group of the console 55 min 05 s 8.70 8.26 90% 47 13",
    ]
    assert lines[-1] == (
        "rehearsals of 20 hosts in a minute of one core: 1,500 undisturbed (at least 1,000), "
        "1,200 with faults, cancels and deaths"
    )
