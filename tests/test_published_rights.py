"""The roles that are published, held against what runs as them: a document, and every document that it starts.

A document that another one starts assumes no role of its own (its AutomationAssumeRole is empty) and runs as whoever
started it (Systems Manager User Guide, automation-action-executeautomation), so its rights have to be in that role.
"""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.clock import VirtualClock
from pipeline.documents import document_kind, document_named, policy_of, rendered_documents
from pipeline.engine import model_seams
from pipeline.publish_documents import merged, wanted_documents
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.spec import FleetSpec, example_fleet
from pipeline.rehearsal.fleet.world import World
from pipeline.runbook import permissions
from pipeline.runbook.execute import execute
from pipeline.runbook.lint import source
from pipeline.runbook.lint.view import Document, view
from pipeline.runbook.trace import Execution

TEXTS = rendered_documents()
AUTOMATIONS = sorted(name for name, text in TEXTS.items() if document_kind(text) == "Automation")
PUBLISHED = {document.name: document for document in wanted_documents("123456789012", "aws", ["ecs-node"])}
FAILS = Fault(kind="coverage-unhealthy", first=1)


def looked_at(name: str) -> Document:
    return view(source.read(TEXTS[name])[0], TEXTS[name], json=False, name=name)


def run_as(name: str) -> list[str]:
    """A document and all that it starts, by what its text names."""
    found = [name]
    for one in found:
        found += [
            child
            for child in re.findall(r"DocumentName: (Ovenproof-\w+)", TEXTS[one])
            if child in AUTOMATIONS and child not in found
        ]
    return found


def guarded(
    name: str, spec: FleetSpec, policy: Mapping[str, Any], parameters: Mapping[str, Any], *faults: Fault
) -> tuple[Execution, list[str]]:
    """Execute a document over a fleet that refuses what the policy does not allow, and tell what it refused."""
    clock, denied = VirtualClock(), list[str]()
    world, allowed = World(spec, clock, faults=faults), permissions.statements(policy)
    ask = world.call

    def call(service: str, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        if action := permissions.evaluate(allowed, service, operation, given):
            denied.append(action)
            raise Refused("AccessDeniedException", f"the role is not allowed to perform {action}")
        return ask(service, operation, given)

    world.call = call  # type: ignore[method-assign, assignment]
    return execute(document_named(name), parameters, model_seams(world)), denied


def test_what_a_roll_starts_is_found() -> None:
    assert set(run_as("Ovenproof-RollFleets")) == {
        f"Ovenproof-{name}" for name in ("RollFleets", "RollFleet", "Preflight", "ProveInstances", "RollBack")
    }
    assert "Ovenproof-ProveInstances" in run_as("Ovenproof-InstallAgentOnInstances")


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_no_document_hands_a_role_to_what_it_starts(name: str) -> None:
    """Then it would need iam:PassRole for it, and the parent's rights would not matter."""
    started = [step for step in looked_at(name).all_steps() if step.action == "aws:executeAutomation"]

    assert [step.name for step in started if "AutomationAssumeRole" in str(step.inputs.plain())] == []


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_a_published_role_has_all_that_its_document_and_its_children_need(name: str) -> None:
    allowed = permissions.statements(PUBLISHED[name].policies["Ovenproof"])

    missing = [
        f"{child} {need.because}: {need.action}"
        for child in run_as(name)
        for need in permissions.needs(looked_at(child))
        if need.sure and not permissions.grants(allowed, need)
    ]

    assert missing == []


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_and_nothing_that_none_of_them_needs(name: str) -> None:
    needed = {need.action for child in run_as(name) for need in permissions.needs(looked_at(child))}

    allowed = {
        action
        for statement in permissions.statements(PUBLISHED[name].policies["Ovenproof"])
        for action in statement.actions
    }
    assert allowed - needed == set()


@pytest.mark.parametrize("name", ["Ovenproof-RollFleet", "Ovenproof-RollBack", "Ovenproof-RollFleets"])
def test_a_roll_may_launch_from_a_template_that_tags(name: str) -> None:
    """Auto Scaling asks for ec2:CreateTags then (Auto Scaling User Guide, launch template permissions)."""
    statements = PUBLISHED[name].policies["Ovenproof"]["Statement"]

    [tags] = [one for one in statements if "ec2:CreateTags" in one["Action"]]
    assert tags["Condition"] == {"StringEquals": {"ec2:CreateAction": "RunInstances"}}


RUNS: dict[str, tuple[str, str, dict[str, Any], tuple[Fault, ...], str]] = {
    "a roll": ("RollFleet", "single", {"Group": "example"}, (), "Success"),
    "a roll that goes back": ("RollFleet", "tight", {"Group": "example"}, (FAILS,), "Failed"),
    "a roll with managed draining": ("RollFleet", "managed-draining", {"Group": "example"}, (), "Success"),
    "root volumes": ("RollFleet", "gpu", {"Group": "example"}, (), "Success"),
    "a roll that watches an alarm": (
        "RollFleet",
        "twenty",
        {"Group": "example", "Alarms": ["example-5xx"]},
        (),
        "Success",
    ),
    "several": ("RollFleets", "twenty", {"TagValue": "example"}, (), "Success"),
    "preflight": ("Preflight", "blocked", {"Group": "example"}, (), "Success"),
    "a proof": ("ProveInstances", "single", {"Group": "example"}, (), "Failed"),
    "a way back": ("RollBack", "single", {"Group": "example"}, (), "Success"),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_published_role_is_enough_for_a_whole_run(run: str) -> None:
    name, fleet, parameters, faults, status = RUNS[run]
    policy = PUBLISHED[f"Ovenproof-{name}"].policies["Ovenproof"]

    execution, denied = guarded(f"Ovenproof-{name}", example_fleet(fleet), policy, parameters, *faults)

    assert denied == []
    assert execution.status == status


@pytest.mark.parametrize("left_out", ["Preflight", "ProveInstances", "RollBack"])
def test_without_the_rights_of_a_child_a_roll_is_refused(left_out: str) -> None:
    parts = [
        policy
        for child in run_as("Ovenproof-RollFleet")
        if child != f"Ovenproof-{left_out}" and (policy := policy_of(child))
    ]

    execution, denied = guarded(
        "Ovenproof-RollFleet", example_fleet("tight"), merged(parts), {"Group": "example"}, FAILS
    )

    assert denied
    assert execution.status == "Failed"
