"""A VPC that another account shares: its endpoint is asked of the owner, and what only the owner mends is said so."""

from pathlib import Path

import pytest

from pipeline.diagnosis.fixes import command
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.summary import findings, summarise
from pipeline.rehearsal.organization.spec import (
    AccountSpec,
    ClusterSpec,
    HostsSpec,
    NetworkProblem,
)
from tests.diagnosis.planted import organization_of, spec_of, survey

OWNER, PARTICIPANT, REGION = "200000000001", "200000000002", "eu-central-1"


def look(
    folder: Path, *network: NetworkProblem, reachable: bool = True, alone: bool = False
) -> tuple[list[Finding], list[str]]:
    """Findings of a manually managed host in the shared VPC, and what was not seen."""
    cluster = ClusterSpec(name="main", hosts=(HostsSpec(problems=("unit-off",)),), network=network, shared_by=OWNER)
    spec = spec_of(
        AccountSpec(id=OWNER, name="network", reachable=reachable),
        AccountSpec(id=PARTICIPANT, name="app", agents="manual", clusters=(cluster,)),
    )
    made, clock = organization_of(spec)
    ledger = survey(made, clock, folder / "ledger", accounts=(PARTICIPANT,) if alone else ())
    found = [item for item in findings(ledger) if item.kind == "host"]
    return found, [f"{item.account}: {item.what}" for item in summarise(ledger).unseen]


@pytest.mark.parametrize(
    "problem",
    [
        "endpoint-missing",
        "endpoint-not-available",
        "endpoint-policy",
        "endpoint-private-dns-off",
        "endpoint-security-group",
        "network-acl-closed",
        "vpc-dns-off",
    ],
)
def test_what_is_wrong_at_the_owner_is_told_and_who_can_mend_it(tmp_path: Path, problem: NetworkProblem) -> None:
    (host,), unseen = look(tmp_path, problem, alone=True)
    hits = {hit.cause: hit for hit in host.hits}
    assert set(hits) == {problem, "unit-off"} and not unseen
    assert f"(by its owner, account {OWNER}, which shares it)" in hits[problem].remedy
    assert host.vpc_owner == OWNER
    assert command(host, problem) == ""  # no command of ours, as a participant's account, would mend it


def test_a_shared_vpc_that_is_right_is_not_blamed(tmp_path: Path) -> None:
    (host,), unseen = look(tmp_path)
    assert [hit.cause for hit in host.hits] == ["unit-off"] and not unseen


def test_an_owner_that_cannot_be_asked_is_named_and_nothing_is_guessed(tmp_path: Path) -> None:
    (host,), unseen = look(tmp_path, "endpoint-missing", reachable=False, alone=True)
    assert [hit.cause for hit in host.hits] == ["unit-off"]
    (told,) = unseen
    assert told == f"{PARTICIPANT}: the way to GuardDuty in {host.vpc}, which account {OWNER} shares"
