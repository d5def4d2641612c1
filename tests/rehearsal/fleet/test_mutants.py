"""For each rule of a roll, documents with one guard taken out, or one step too many: a rehearsal has to find it."""

import ast
import inspect
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.clock import VirtualClock
from pipeline.documents import FOLDER, PREFIX, document_named, document_text
from pipeline.engine import model_seams
from pipeline.rehearsal.fleet import invariants
from pipeline.rehearsal.fleet.bench import fleet as fleet_of
from pipeline.rehearsal.fleet.cases import parse_case
from pipeline.rehearsal.fleet.invariants import Expectations
from pipeline.rehearsal.fleet.world import World
from pipeline.rehearse import Documents, rehearse_case
from pipeline.runbook.document import Document, parse_document
from pipeline.runbook.execute import execute
from tests.rehearsal.fleet.worlds import GPU_CAUTIOUS, like_gpu

ROLL = "RollFleet.yaml.j2"


class Mutant(NamedTuple):
    """What is replaced in a file of `ssm-documents/`, everywhere, and the case that shows it."""

    file: str
    old: str
    new: str
    case: str


def one_more(body: str, case: str = "twenty") -> Mutant:
    """A step more, before the end of a roll is recorded."""
    step = "  - name: RecordDone\n"
    more = (
        "  - name: Extra\n    action: aws:executeAwsApi\n    onFailure: Abort\n"
        f'    inputs:\n      Service: autoscaling\n      AutoScalingGroupName: "{{{{ Group }}}}"\n      {body}\n'
    )
    return Mutant(ROLL, step, more + step, case)


LEAVES_THE_CANCELLED = Mutant(
    ROLL, "onCancel: step:StartGoingBack", "onCancel: Abort", "twenty; cancel before EndCanary"
)
GOES_ON_WITHOUT_HOSTS = Mutant(
    ROLL,
    "NextStep: ProveCanary}\n      Default: GoBack",
    "NextStep: ProveCanary}\n      Default: HookLeft",
    "twenty; fault agent-never-connects",
)
ADDS_NO_HOOK = Mutant(
    ROLL, 'StringEquals: "yes", NextStep: AddHook', "StringEquals: never, NextStep: AddHook", "twenty"
)

MUTANTS = {
    "capacity": Mutant("scripts/preflight.py", '"MinHealthyPercentage": low,', '"MinHealthyPercentage": 50,', "tight"),
    "ready capacity": Mutant("scripts/drain.py", "others[: max(0, spare)]", "others", "tight"),
    "service minimum": ADDS_NO_HOOK,
    "no task killed": ADDS_NO_HOOK,
    "no refresh left": LEAVES_THE_CANCELLED,
    "hosts in service": LEAVES_THE_CANCELLED,
    "hosts in the cluster": Mutant(
        "scripts/drain.py",
        "if strangers and not back:",
        "if strangers and False:",
        "managed-draining; fault agent-never-connects first=1",
    ),
    "never mixed": LEAVES_THE_CANCELLED,
    "the template agrees": LEAVES_THE_CANCELLED,
    "no DRAINING left": Mutant(
        "scripts/drain.py",
        'set_state(cluster, resting, "DRAINING", "ACTIVE")',
        "pass",
        "managed-draining; fault alarm-fires after=300",
    ),
    "hooks as before": Mutant(
        ROLL, 'StringEquals: "yes", NextStep: RemoveHook', "StringEquals: never, NextStep: RemoveHook", "twenty"
    ),
    "protection as before": one_more("Api: UpdateAutoScalingGroup\n      NewInstancesProtectedFromScaleIn: true"),
    "processes as before": one_more("Api: SuspendProcesses\n      ScalingProcesses: [AZRebalance]"),
    "size as before": one_more("Api: UpdateAutoScalingGroup\n      MaxSize: 100"),
    "tags as before": Mutant(
        ROLL, '    ("roll", "running"),\n', '    ("roll", "running"),\n    ("x", "y"),\n', "twenty"
    ),
    "tags tell the end": Mutant(ROLL, "          Value: done", "          Value: running", "twenty"),
    "as many hosts as desired": one_more(
        "Api: SetDesiredCapacity\n      DesiredCapacity: 22", "twenty; fault insufficient-capacity after=350"
    ),
    "services steady": GOES_ON_WITHOUT_HOSTS,
    "says what it did": GOES_ON_WITHOUT_HOSTS,
}


def mutated(mutant: Mutant, tmp_path: Path) -> Documents:
    """The documents as the mutant has them."""
    folder = tmp_path / FOLDER.name
    shutil.copytree(FOLDER, folder)
    file = folder / mutant.file
    text = file.read_text(encoding="utf-8")
    assert mutant.old in text
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    documents: dict[str, Document] = {}

    def named(name: str) -> Document:
        if name not in documents:
            documents[name] = parse_document(document_text(name, folder), name)
        return documents[name]

    return named


def rules_broken(case: str, documents: Documents) -> set[str]:
    return {one.partition(":")[0] for one in rehearse_case(parse_case(case), documents).outcome.broken}


GPU_STUCK = "fault drain-stuck image=old first=1; switch refresh_order=newest-first"
GPU_BAD = "fault task-will-not-start"
TURNS = {
    "a rollback would wait for the hosts that are chosen": (
        "no task killed",
        Mutant("scripts/look_back.py", 'if way == "native" and chosen:', "if False:", GPU_BAD),
    ),
    "a host that is chosen serves on while others come back": (
        "service minimum",
        Mutant("scripts/drain_back.py", "going - out_of_turn(fleet, events)", "going", GPU_BAD),
    ),
    "one host at a time, until it is back": (
        "ready capacity",
        Mutant("scripts/drain_back.py", "fleet.state(one) in UNDER_WAY for", "False for", GPU_STUCK),
    ),
    "the other way round where nothing moves": (
        "service minimum",
        Mutant("scripts/drain_back.py", "if chosen and is_quiet(events):", "if False:", GPU_STUCK),
    ),
}
"""Where root volumes are replaced under a service that insists on all of its tasks: a rule, and what breaks it."""


@pytest.mark.parametrize("guard", TURNS)
def test_a_rehearsal_finds_hosts_that_take_no_turns(guard: str, tmp_path: Path) -> None:
    rule, mutant = TURNS[guard]
    fleet = like_gpu(tmp_path, GPU_CAUTIOUS)
    case = f"{fleet}; {mutant.case}"
    assert rules_broken(case, document_named) == set()
    assert rule in rules_broken(case, mutated(mutant, tmp_path))


@pytest.mark.parametrize("rule", MUTANTS)
def test_a_rehearsal_finds_it(rule: str, tmp_path: Path) -> None:
    mutant = MUTANTS[rule]
    assert rules_broken(mutant.case, document_named) == set()
    assert rule in rules_broken(mutant.case, mutated(mutant, tmp_path))


def test_a_cancelled_roll_that_stays_where_it_was_going_is_found(tmp_path: Path) -> None:
    case = parse_case("twenty; cancel before RecordDone")
    stays = mutated(LEAVES_THE_CANCELLED, tmp_path)

    def ends_elsewhere(documents: Documents) -> bool:
        world = rehearse_case(case, documents).world
        return "ends where it should" in {one.rule for one in world.broken(Expectations(ends="old"))}

    assert not ends_elsewhere(document_named)
    assert ends_elsewhere(stays)


def test_tasks_that_move_onto_hosts_that_will_go_are_found(tmp_path: Path) -> None:
    """It takes more hosts than ECS drains in one call."""
    in_any_order = Mutant(
        "scripts/drain.py", 'others.sort(key=lambda one: hosts[one]["runningTasksCount"])', "pass", ""
    )

    def moved_twice(documents: Callable[[str], Document]) -> bool:
        world = World(fleet_of(200), VirtualClock())
        seams = model_seams(world)
        ended = execute(documents(f"{PREFIX}RollFleet"), {"Group": "example"}, replace(seams, documents=documents))
        assert ended.status == "Success"
        return "moves" in {one.rule for one in world.broken(Expectations(moves=1))}

    assert not moved_twice(document_named)
    assert moved_twice(mutated(in_any_order, tmp_path))


def test_every_rule_has_its_mutant() -> None:
    tree = ast.parse(inspect.getsource(invariants))
    named = {
        one.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for one in node.keywords
        if one.arg == "rule" and isinstance(one.value, ast.Constant)
    }
    listed = {  # (rule, what was found), (rule, worst, least)
        node.elts[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Tuple) and not all(isinstance(one, ast.Constant) for one in node.elts)
        if isinstance(node.elts[0], ast.Constant) and isinstance(node.elts[0].value, str) and node.elts[0].value
    }
    assert {"services steady", "moves"} <= named
    assert {"capacity", "no DRAINING left"} <= listed
    assert named | listed == {*MUTANTS, "ends where it should", "moves"} - {"says what it did"}
