"""The example organization, seen whole: each planted problem is named, with its remedy, and nothing else is."""

from pathlib import Path

import pytest

from pipeline.diagnosis import command
from pipeline.diagnosis.model import Unseen
from pipeline.diagnosis.summary import Summary, findings, summarise
from pipeline.errors import ProofError
from pipeline.rehearsal.organization.spec import EXAMPLE, read_organization
from tests.diagnosis.planted import causes_of, expected_of, hosts, organization_of, survey

CLOSED = "200000000010"


def test_every_planted_problem_is_named_and_no_other(tmp_path: Path) -> None:
    organization, clock = organization_of(read_organization(EXAMPLE))
    ledger = survey(organization, clock, tmp_path / "ledger")
    found = causes_of(findings(ledger))
    expected = {}
    for place, host in hosts(organization.world):
        wanted = expected_of(organization.world, place, host)
        if wanted is not None and place.account != CLOSED:
            expected[place.account, place.region, host.id] = wanted
    for number in organization.world.account_ids():
        account = organization.world.account(number)
        assert account is not None
        for region in organization.world.regions_of(account):
            for cluster in organization.world.place(number, region).clusters.values():
                for service in cluster.services:
                    if service.planted:
                        expected[number, region, service.name] = {*service.planted}
    shown = {key: causes - {"agent-restarting"} or causes for key, causes in found.items() if key[0] != CLOSED}
    shown = {key: causes for key, causes in shown.items() if key in expected}
    assert shown == expected
    extra = {key: causes for key, causes in found.items() if key not in expected and key[0] != CLOSED}
    # clusters as a whole: those that are not listed because of their account, and the one that is tagged out
    assert {frozenset(causes) for causes in extra.values()} == {
        frozenset({"guardduty-role-missing"}),
        frozenset({"runtime-monitoring-off"}),
        frozenset({"member-suspended"}),
        frozenset({"cluster-exclusion-tag"}),
    }


def test_an_account_that_cannot_be_entered_is_not_taken_for_healthy(tmp_path: Path) -> None:
    organization, clock = organization_of(read_organization(EXAMPLE))
    summary = summarise(survey(organization, clock, tmp_path / "ledger"))
    (unseen,) = {(item.account, item.what) for item in summary.unseen}
    assert unseen == (CLOSED, "the account")
    # what GuardDuty itself says of it is told all the same
    assert any(item.account == CLOSED and item.hits for item in findings(survey(organization, clock, tmp_path / "2")))
    with pytest.raises(ProofError, match="cannot be known"):
        command.judge(_all_healthy_but(summary.unseen[0]), 100)


def _all_healthy_but(unseen: Unseen) -> Summary:
    summary = Summary()
    summary.hosts["healthy"] = 5
    summary.unseen.append(unseen)
    return summary


def test_the_table_names_each_planted_problem_with_a_remedy() -> None:
    shown: list[str] = []
    command.coverage(show=shown.append, say=lambda _: None)
    (table,) = shown
    spec = read_organization(EXAMPLE)
    planted = {
        problem
        for account in spec.accounts
        for part in (
            account.problems,
            account.network,
            *(cluster.network for cluster in account.clusters),
            *(cluster.problems for cluster in account.clusters),
            *(hosts.problems for cluster in account.clusters for hosts in cluster.hosts),
            *(service.problems for cluster in account.clusters for service in cluster.services),
        )
        for problem in part
    }
    assert len(planted) > 25
    blocks = {block.split("[")[-1].split("]")[0]: block for block in table.split("\n\n")}
    for problem in planted:
        assert problem in blocks, problem
        assert "\n  do:  " in blocks[problem], problem


@pytest.mark.parametrize(("wanted", "fails"), [(0, False), (40, False), (100, True)])
def test_ci_is_told_by_the_exit_code_after_the_table(wanted: float, fails: bool) -> None:
    shown: list[str] = []

    def run() -> None:
        command.coverage(
            account="200000000002", region="eu-central-1", fail_under=wanted, show=shown.append, say=lambda _: None
        )

    if fails:
        with pytest.raises(ProofError) as error:
            run()
        assert error.value.exit_code == 6
        assert "45.45 %" in str(error.value)
    else:
        run()
    assert len(shown) == 1
