"""A fleet read back from the model that was made of it: the same fleet, by reading calls only, and rehearsable."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.clock import VirtualClock
from pipeline.errors import CloudError, UsageError
from pipeline.paths import CHECKOUT
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.answers import OPERATIONS
from pipeline.rehearsal.fleet.cases import Case
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import FLEETS, FleetSpec, Hook, WarmPool, example_fleet, read_fleet
from pipeline.rehearsal.fleet.world import World
from pipeline.rehearse import rehearse_case
from pipeline.runbook import permissions
from pipeline.snapshot_fleet import KEPT, POLICY, Snapshot, assumed_kernel, snapshot, text_of, versions_kept

SHIPPED = sorted(path.stem for path in FLEETS.glob("*.yaml"))
NEW = "ami-00000000000000b2e"


def taken(
    spec: FleetSpec, *, page: int = 0, refused: str = "", **given: Any
) -> tuple[Snapshot, list[tuple[str, Mapping[str, Any]]]]:
    """A snapshot of a world, and the calls that it took. `page`: AWS gives so many items at once and no more."""
    clock, calls = VirtualClock(), list[tuple[str, Mapping[str, Any]]]()
    world = World(spec, clock)
    session, ask = fleet_session(world, check_answers=True), world.call

    def call(service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        name = f"{service}.{operation}"
        calls.append((name, parameters))
        if name == refused:
            raise Refused("AccessDenied", f"not authorized to perform {operation}")
        size = {"maxResults", "MaxResults", "MaxRecords"} & OPERATIONS[name].understands
        return ask(service, operation, {**dict.fromkeys(size, page), **parameters} if page else parameters)

    world.call = call  # type: ignore[method-assign]
    given = {"alarms": [one.name for one in spec.alarms], **given}
    return snapshot(session, spec.groups[0].name, now=clock.now(), **given), calls


def told(spec: FleetSpec) -> dict[str, Any]:
    """A fleet without what no API tells, or what a snapshot does not keep."""
    values = spec.model_dump(mode="json")
    used = {subnet for group in spec.groups for subnet in group.subnets}
    values["subnets"] = [one for one in values["subnets"] if one["id"] in used]
    for image in values["images"]:
        del image["kernel"], image["agent_version"], image["checks"]
    for template in values["templates"]:
        for version in template["versions"]:
            version["data"] = {key: value for key, value in version["data"].items() if key in KEPT}
    for group in values["groups"]:
        group["tags"] = {key: value for key, value in group["tags"].items() if key.startswith("ovenproof:")}
    for one in [*values["services"], *values["standalone"]]:
        del one["task"]["start"], one["task"]["stop"]
        one.pop("lives", None)
    return values


@pytest.mark.parametrize("name", SHIPPED)
def test_a_fleet_is_read_back_as_it_is(name: str, tmp_path: Path) -> None:
    spec = example_fleet(name)

    found, _ = taken(spec)

    (tmp_path / "fleet.yaml").write_text(text_of(found))
    assert read_fleet(tmp_path / "fleet.yaml").model_dump(mode="json") == found.spec.model_dump(mode="json")
    assert told(found.spec) == told(spec)


def test_what_stands_in_a_rolls_way_is_in_the_file() -> None:
    spec = example_fleet("twenty")
    [group] = spec.groups
    group = group.model_copy(
        update={
            "protected": 2,
            "standby": 1,
            "suspended": ("Launch",),
            "hooks": (Hook(name="audit", transition="launching", heartbeat_timeout=60),),
            "warm_pool": WarmPool(size=3, min_size=1),
            "maintenance": (90, 120),
            "template_version": "$Latest",
            "health_check_type": "ELB",
        }
    )
    spec = spec.model_copy(update={"groups": (group,), "vcpu_quota": 200, "guardduty": False})

    found, _ = taken(spec)

    assert told(found.spec) == told(spec)


@pytest.mark.parametrize("name", SHIPPED)
def test_it_only_reads_and_its_policy_allows_it(name: str) -> None:
    policy = permissions.statements(yaml.safe_load((CHECKOUT / POLICY).read_text()))

    _, calls = taken(example_fleet(name))

    assert [name for name, _ in calls if OPERATIONS[name].changes] == []
    denied = [
        permissions.evaluate(policy, name.partition(".")[0], name.partition(".")[2], given) for name, given in calls
    ]
    assert set(denied) == {""}


def test_the_policy_allows_nothing_else() -> None:
    called = {name for fleet in SHIPPED for name, _ in taken(example_fleet(fleet))[1]}
    needed = {action for name in called for action in permissions.actions_of(*name.split("."))}

    allowed = {
        action
        for statement in permissions.statements(yaml.safe_load((CHECKOUT / POLICY).read_text()))
        for action in statement.actions
    }
    assert allowed == needed


@pytest.mark.parametrize("name", ["blocked", "managed-draining", "gpu"])
def test_pages_are_gone_through(name: str) -> None:
    whole, calls = taken(example_fleet(name))
    in_ones, more_calls = taken(example_fleet(name), page=1)

    assert in_ones == whole
    assert len(more_calls) > len(calls)


def test_nothing_secret_is_in_the_file() -> None:
    text = text_of(taken(example_fleet("twenty"))[0])

    assert "UserData:" not in text
    assert "IyEvYmlu" not in text
    assert "TagSpecifications" not in text


@pytest.mark.parametrize("name", ["twenty", "managed-draining"])
def test_a_snapshot_can_be_rehearsed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text_of(taken(example_fleet(name))[0]))

    outcome = rehearse_case(Case(fleet=str(path))).outcome

    assert (outcome.status, outcome.ended, outcome.broken) == ("Success", "new", ())


@pytest.mark.parametrize(
    "operation",
    ["autoscaling.DescribeAutoScalingGroups", "ecs.ListTasks", "iam.GetInstanceProfile", "guardduty.ListDetectors"],
)
def test_a_refusal_says_what_was_asked_and_which_policy_allows_it(operation: str) -> None:
    with pytest.raises(CloudError, match="the group example cannot be read") as refused:
        taken(example_fleet("twenty"), refused=operation)

    assert operation.partition(".")[2] in refused.value.found
    assert POLICY in refused.value.remedy


def test_a_group_that_is_not_there_is_told() -> None:
    spec = example_fleet("twenty")
    session = fleet_session(World(spec, VirtualClock()))

    with pytest.raises(UsageError, match="there is no Auto Scaling group nobody"):
        snapshot(session, "nobody", now=VirtualClock().now())


def test_without_a_promoted_image_one_has_to_be_named() -> None:
    spec = example_fleet("twenty").model_copy(update={"parameters": {}})

    with pytest.raises(UsageError, match="there is no image to rehearse a roll onto"):
        taken(spec)
    assert taken(spec, image=NEW)[0].spec.parameters == example_fleet("twenty").parameters


@pytest.mark.parametrize(
    ("own", "kept"), [("3", [3, 5, 9]), ("$Latest", [5, 9]), ("$Default", [5, 9]), ("9", [5, 9]), ("5", [5, 9])]
)
def test_only_template_versions_that_matter_are_kept(own: str, kept: list[int]) -> None:
    assert versions_kept(own, {"DefaultVersionNumber": 5, "LatestVersionNumber": 9}) == kept


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("amzn2-ami-ecs-kernel-5.10-hvm-2.0.20251108-x86_64-ebs", "5.10.0"),
        ("al2023-ami-ecs-hvm-2023.0.20251108-kernel-6.1-x86_64", "6.1.0"),
        ("al2023-custom", "6.1.0"),
        ("amzn2-ami-ecs-hvm-2.0.20251108-x86_64-ebs", "4.14.0"),
    ],
)
def test_a_kernel_is_told_from_an_images_name(name: str, kernel: str) -> None:
    assert assumed_kernel(name) == kernel
