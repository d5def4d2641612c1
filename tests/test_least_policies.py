"""Each document of ours, executed over the fleet model with its generated policy enforced: the policy is enough, and
without any one of its statements the document does not come through.

Every document has the rights of its own generated policy, those that it starts too: what another one may do helps it
nothing. Documents for Run Command assume no role, so they have no policy.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline.clock import VirtualClock
from pipeline.documents import document_kind, document_named, document_names, document_text
from pipeline.engine import model_seams
from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.spec import FleetSpec, Profile, example_fleet
from pipeline.rehearsal.fleet.world import World
from pipeline.runbook import permissions
from pipeline.runbook.execute import execute
from pipeline.runbook.lint import source
from pipeline.runbook.lint.view import view
from pipeline.runbook.permissions import Statement
from pipeline.runbook.seams import Moment, Seams, Verdict

Policies = Mapping[str, tuple[Statement, ...]]
ALARMS = ["example-5xx"]
CALENDAR = "arn:aws:ssm:eu-central-1:123456789012:document/Open"


@functools.cache
def generated() -> Policies:
    """The least policy of each Automation document, by its name."""
    found = {}
    for name in document_names():
        text = document_text(name)
        if document_kind(text) == "Automation":
            seen = view(source.read(text)[0], text, json=False, name=name)
            found[name] = permissions.statements(permissions.least_policy(seen))
    return found


@dataclass
class Run:
    """A world in which documents have the rights of some policies, and what was refused there."""

    policies: Policies
    world: World
    refused: list[str]
    seams: Seams

    def document(self, name: str, **parameters: object) -> str:
        """Execute a document of ours; how it ended, and why."""
        done = execute(document_named(f"Ovenproof-{name}"), parameters, self.seams)
        return f"{done.status} {done.failure}".strip()


def run(policies: Policies, spec: FleetSpec, *faults: Fault) -> Run:
    world = World(spec, VirtualClock(), faults=faults)
    refused: list[str] = []

    def permit(document: str, service: str, operation: str, parameters: Mapping[str, Any]) -> str:
        lacking = permissions.evaluate(policies[document], service, operation, parameters)
        refused.extend([lacking] if lacking else [])
        return lacking

    return Run(policies, world, refused, replace(model_seams(world), permit=permit))


def without_rights_asked(there: Run, **changes: Any) -> Run:
    """The same world and its executions, for what comes before the document that is looked at."""
    return replace(there, seams=replace(there.seams, permit=None, **changes))


def stopped_at(act: Verdict, step: str) -> Callable[[Moment], Verdict]:
    """What cancels the execution, or stops its engine dead, before a step of the document that was started."""
    return lambda moment: act if (moment.when, moment.depth, moment.step) == ("before", 0, step) else "go"


# --- what is executed: for each document enough to make it do everything it may do -----------------------------------


def rolls(policies: Policies) -> list[Run]:
    """Rolls that succeed, all at once and host by host; one that goes back; one that is cancelled and starts to."""
    good = run(policies, example_fleet("twenty"))
    assert_ended(good.document("RollFleet", Group="example", Alarms=ALARMS), good, "Success")
    turns = run(policies, example_fleet("gpu"))
    assert_ended(turns.document("RollFleet", Group="example"), turns, "Success")
    bad = run(policies, example_fleet("twenty"), Fault(kind="agent-never-connects"))
    assert_ended(bad.document("RollFleet", Group="example"), bad, "Failed")
    away = run(policies, example_fleet("twenty"))
    away.seams = replace(away.seams, interrupt=stopped_at("cancel", "ProveCanary"))
    assert_ended(away.document("RollFleet", Group="example"), away, "Cancelled")
    return [good, turns, bad, away]


def ways_back(policies: Policies) -> list[Run]:
    """The way back after a roll that succeeded, with room and without, and one on which a host has to be let go."""
    made = []
    for fleet in ("twenty", "tight"):
        there = run(policies, example_fleet(fleet))
        assert without_rights_asked(there).document("RollFleet", Group="example") == "Success"
        assert_ended(there.document("RollBack", Group="example"), there, "Success")
        made.append(there)
    slow = run(policies, example_fleet("twenty"), Fault(kind="drain-stuck", first=1))  # asks since when hosts end
    assert without_rights_asked(slow).document("RollFleet", Group="example") == "Success"
    assert_ended(slow.document("RollBack", Group="example"), slow, "Success")
    return [*made, slow]


def preflights(policies: Policies) -> list[Run]:
    made = []
    for fleet in ("twenty", "managed-draining", "single"):
        there = run(policies, example_fleet(fleet))
        assert_ended(there.document("Preflight", Group="example", Alarms=ALARMS, Calendar=CALENDAR), there, "Success")
        made.append(there)
    own = example_fleet("twenty").model_copy(update={"profiles": (Profile(policies=("a-policy-of-its-own",)),)})
    there = run(policies, own)  # what allows SSM cannot be read off names, so SSM is asked
    assert_ended(there.document("Preflight", Group="example"), there, "Success")
    made.append(there)
    dead = run(policies, example_fleet("twenty"))  # a roll whose engine died is asked about
    without_rights_asked(dead, interrupt=stopped_at("die", "ProveCanary")).document("RollFleet", Group="example")
    assert_ended(dead.document("Preflight", Group="example"), dead, "Success")
    return [*made, dead]


def proofs(policies: Policies) -> list[Run]:
    there = run(policies, example_fleet("twenty"))
    assert without_rights_asked(there).document("RollFleet", Group="example") == "Success"
    ended = there.document("ProveInstances", Group="example", Cluster="example", Alarms=ALARMS)
    assert_ended(ended, there, "Success")
    bad = run(policies, example_fleet("twenty"))  # its last step asks why
    assert_ended(bad.document("ProveInstances", Group="example"), bad, "Failed")
    return [there, bad]


def old_hosts() -> FleetSpec:
    """Twenty hosts without an agent, on a kernel that takes one."""
    spec = example_fleet("twenty")
    old = spec.images[0].model_copy(update={"kernel": "5.10.245-241.976.amzn2"})
    return spec.model_copy(update={"images": (old, *spec.images[1:])})


def installs(policies: Policies) -> list[Run]:
    there = run(policies, old_hosts())
    assert_ended(there.document("InstallAgentOnInstances", InstanceIds=sorted(there.world.hosts)[:2]), there, "Success")
    return [there]


def installs_on_one(policies: Policies) -> list[Run]:
    there = run(policies, old_hosts())
    assert_ended(there.document("InstallAgentOnInstance", InstanceId=sorted(there.world.hosts)[0]), there, "Success")
    return [there]


def rolls_of_fleets(policies: Policies) -> list[Run]:
    """Here, and in another account."""
    made = []
    spec = example_fleet("twenty")
    (group,) = spec.groups
    spec = spec.model_copy(update={"groups": (group.model_copy(update={"tags": {"ovenproof:roll-with": "web"}}),)})
    for where in ({}, {"Accounts": ["123456789012"], "Regions": ["eu-central-1"]}):
        there = run(policies, spec)
        session = there.seams.session
        there.seams = replace(there.seams, session_for=lambda *_, session=session: session)
        assert_ended(there.document("RollFleets", TagValue="web", **where), there, "Success")
        made.append(there)
    return made


class NotAsIntended(AssertionError):
    """A run that ended otherwise than it does with all its rights."""


def assert_ended(ended: str, there: Run, wanted: str) -> None:
    if not ended.startswith(wanted) or there.refused:
        raise NotAsIntended(f"{ended}; refused: {there.refused}")


RUNS: Mapping[str, Callable[[Policies], list[Run]]] = {
    "Ovenproof-InstallAgentOnInstance": installs_on_one,
    "Ovenproof-InstallAgentOnInstances": installs,
    "Ovenproof-Preflight": preflights,
    "Ovenproof-ProveInstances": proofs,
    "Ovenproof-RollBack": ways_back,
    "Ovenproof-RollFleet": rolls,
    "Ovenproof-RollFleets": rolls_of_fleets,
}


def test_every_document_that_assumes_a_role_is_executed() -> None:
    assert set(RUNS) == set(generated())


@pytest.mark.parametrize("name", RUNS)
def test_the_generated_policy_is_enough(name: str) -> None:
    RUNS[name](generated())


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        pytest.param(name, number, id=f"{name.removeprefix('Ovenproof-')}-{one.sid}")
        for name, statements in generated().items()
        for number, one in enumerate(statements)
    ],
)
def test_without_any_of_its_statements_the_document_does_not_come_through(name: str, statement: int) -> None:
    mine = generated()[name]
    less = {**generated(), name: tuple(one for number, one in enumerate(mine) if number != statement)}

    with pytest.raises(NotAsIntended) as missed:
        RUNS[name](less)

    assert any(f"'{action}'" in str(missed.value) for action in mine[statement].actions)
