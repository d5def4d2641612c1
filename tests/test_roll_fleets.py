"""RollFleets over a model of several groups: which ones, in which order, and where it stops."""

import pytest

from pipeline.clock import VirtualClock
from pipeline.documents import document_named
from pipeline.rehearsal.fleet.invariants import Expectations
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import FleetSpec, example_fleet
from pipeline.rehearsal.fleet.world import World
from pipeline.runbook.document import Document, parse_document
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Seams
from pipeline.runbook.trace import Execution

CHILD = """
schemaVersion: "0.3"
parameters:
  Group: {type: String}
  Image: {type: String, default: ""}
  ImageParameter: {type: String, default: ""}
  CanarySize: {type: Integer, default: 1}
  DrainTimeoutSeconds: {type: Integer, default: 1}
  OnDrainTimeout: {type: String, default: fail}
  CoverageTimeoutSeconds: {type: Integer, default: 1}
mainSteps:
  - name: Roll
    action: aws:executeScript
    isCritical: true
    inputs:
      Runtime: python3.11
      Handler: handler
      InputPayload: {Group: "{{ Group }}"}
      Script: |
        def handler(events, _):
            if events["Group"] == "bad":
                raise RuntimeError("the roll failed and went back")
            return {}
"""


def fleet(**sizes: int) -> FleetSpec:
    """The example's group, under other names and sizes, each with the tag."""
    spec = example_fleet("twenty")
    (group,) = spec.groups
    groups = [
        group.model_copy(
            update={
                "name": name,
                "min_size": 0,
                "desired": size,
                "tags": {"ovenproof:roll-with": "web" if name != "other" else "mail"},
            }
        )
        for name, size in sizes.items()
    ]
    return spec.model_copy(update={"groups": tuple(groups), "services": ()})


def roll(spec: FleetSpec, accounts_seen: list[tuple[str, str]] | None = None, **parameters: object) -> Execution:
    clock = VirtualClock()
    session = fleet_session(World(spec, clock), check_answers=True)
    seen = [] if accounts_seen is None else accounts_seen
    child = parse_document(CHILD, "Ovenproof-RollFleet")

    def documents(name: str) -> Document:
        return child if name == "Ovenproof-RollFleet" else document_named(name)

    def session_for(account: str, region: str) -> object:
        seen.append((account, region))
        return session

    seams = Seams(
        session=session,
        clock=clock,
        documents=documents,
        session_for=session_for,  # type: ignore[arg-type]
        account_id="123456789012",
    )
    return execute(document_named("Ovenproof-RollFleets"), {"TagValue": "web", **parameters}, seams)


def rolled(execution: Execution) -> list[object]:
    return [child.parameters["Group"] for child in execution.children]


def test_the_smallest_group_with_the_tag_goes_first() -> None:
    done = roll(fleet(large=9, small=1, other=3, middle=4))

    assert done.status == "Success"
    assert rolled(done) == ["small", "middle", "large"]
    assert done.outputs["Find.Groups"] == ["small", "middle", "large"]


def test_parameters_reach_each_roll() -> None:
    done = roll(fleet(small=1), Image="ami-00000000000000b2e", OnDrainTimeout="proceed", CanarySize=2)

    (child,) = done.children
    assert child.parameters["Image"] == "ami-00000000000000b2e"
    assert child.parameters["OnDrainTimeout"] == "proceed"
    assert child.parameters["CanarySize"] == 2


def test_no_further_group_begins_after_one_failed() -> None:
    done = roll(fleet(small=1, bad=2, middle=3, large=9), MaxConcurrency="1")

    assert done.status == "Failed"
    assert rolled(done) == ["small", "bad"]
    assert "the roll failed and went back" in done.failure


def test_the_real_roll_takes_what_is_handed_on() -> None:
    spec = example_fleet("twenty")
    clock = VirtualClock()
    world = World(spec, clock)
    seams = Seams(session=fleet_session(world), clock=clock, documents=document_named, account_id=spec.account)

    done = execute(document_named("Ovenproof-RollFleets"), {"TagValue": "example"}, seams)

    assert done.status == "Success"
    assert world.broken(Expectations(moves=1, ends="new")) == ()


def test_a_tag_that_no_group_has_is_told() -> None:
    done = roll(fleet(small=1), TagValue="nothing")

    assert done.status == "Failed"
    assert "no Auto Scaling group has the tag ovenproof:roll-with=nothing" in done.failure
    assert done.children == ()


def test_more_groups_than_ssm_takes_are_refused_before_the_first() -> None:
    done = roll(fleet(**{f"g{number}": 0 for number in range(51)}))

    assert done.status == "Failed"
    assert "51 Auto Scaling groups have the tag" in done.failure
    assert "wave-1" in done.failure
    assert done.children == ()


def test_regions_are_gone_over_one_after_the_other_in_the_own_account() -> None:
    seen: list[tuple[str, str]] = []

    done = roll(fleet(small=1), seen, Regions=["eu-central-1", "eu-west-1"])

    assert done.status == "Success"
    assert [child.document for child in done.children] == ["Ovenproof-RollFleets"] * 2
    assert ("123456789012", "eu-west-1") in seen
    assert all(child.parameters["Regions"] == [] for child in done.children)


@pytest.mark.parametrize("accounts", [["1"], ["1234567890123"], ["12345678901x"]])
def test_only_account_ids_are_taken(accounts: list[str]) -> None:
    with pytest.raises(Exception, match="Accounts"):
        roll(fleet(small=1), Accounts=accounts)
