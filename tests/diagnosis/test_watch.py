"""Watching a roll: what changed is told, and it ends when everything is covered, or when patience does."""

from pathlib import Path

import pytest

from pipeline.diagnosis import command
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.watch import changes, watch
from pipeline.errors import ProofError, UsageError
from pipeline.rehearsal.organization.spec import AccountSpec, HostProblem, HostsSpec, OrganizationSpec
from tests.diagnosis.planted import organization_of, spec_of, survey

ONE, REGION = "200000000001", "eu-central-1"


def spec(*problems: HostProblem) -> OrganizationSpec:
    hosts = (HostsSpec(count=2), HostsSpec(problems=problems))
    account = AccountSpec(id=ONE, name="a", hosts=hosts)
    return spec_of(account)


def test_it_ends_when_the_last_host_is_heard() -> None:
    made, clock = organization_of(spec("launched-just-now"))
    shown: list[str] = []
    looks = 0

    def look(path: Path) -> Ledger:
        nonlocal looks
        looks += 1
        return survey(made, clock, path)

    summary = watch(look, clock, show=shown.append)
    assert summary.percent == 100 and looks > 5
    host = made.world.place(ONE, REGION).hosts[2].id
    assert len(shown) == 2  # looks that show nothing new are silent
    assert shown[0].endswith("66.67 %, 1 not covered")
    assert f"  covered: host {host} ({ONE}, {REGION})" in shown[1]


def test_patience_ends_with_what_is_left() -> None:
    made, clock = organization_of(spec("unit-off"))
    with pytest.raises(ProofError) as error:
        watch(lambda path: survey(made, clock, path), clock, show=lambda _: None, patience_seconds=100)
    assert "unit-off" in str(error.value) and error.value.exit_code == 6
    assert sum(clock.slept) < 150


def test_every_kind_of_change_has_a_line() -> None:
    one, two, three = (("host", ONE, REGION, name) for name in ("i-1", "i-2", "i-3"))
    lines = changes({one: "unit-off", two: "unit-off"}, {two: "no-btf", three: "metadata-off"})
    assert [line.split(":")[0].strip() for line in lines] == ["covered", "other cause", "not covered any more"]


def test_watching_writes_no_files() -> None:
    with pytest.raises(UsageError, match="--watch shows changes"):
        command.coverage(watch=True, out="x", show=lambda _: None)
