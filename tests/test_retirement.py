"""Retiring over an account in memory: what is seen, what is done, and every step broken off."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from pipeline import tags
from pipeline.catalog import load_catalog
from pipeline.errors import OvenproofError
from pipeline.retire import Verdict, decide
from pipeline.retirement import carry_out
from pipeline.uses import DISABLED_AT, view_of
from tests.doubles import FakeClock
from tests.faults import HOWS, How
from tests.image_world import Image, ImageWorld

REGION = "eu-west-1"
CATALOG = load_catalog()
RULES = CATALOG.retention.model_copy(update={"keep_newest": 1})
VARIANT = "ecs-al2023/x86_64"


@pytest.fixture
def world() -> ImageWorld:
    return ImageWorld(clock=FakeClock())


def days_ago(world: ImageWorld, days: float) -> datetime:
    return world.clock.now() - timedelta(days=days)


def add(world: ImageWorld, age: float, **more: Any) -> Image:
    bake = f"{days_ago(world, age):%Y%m%dT%H%M%SZ}-abcd"
    own = {tags.BAKE_ID: bake, tags.STATE: "proven", "Variant": VARIANT, **more.pop("own", {})}
    return world.add_image(REGION, bake, own, created=days_ago(world, age), protected=True, **more)


def disabled(world: ImageWorld, age: float, days: float = 60) -> Image:
    return add(world, age, disabled=True, own={DISABLED_AT: tags.format_time(days_ago(world, days))})


def run(world: ImageWorld) -> tuple[Verdict, ...]:
    verdicts = decide([view_of(world.session(REGION), CATALOG)], RULES, world.clock.now())
    carry_out(world.session, verdicts, clock=world.clock, say=lambda _: None)
    return verdicts


def reasons(world: ImageWorld, one: Image) -> str:
    verdicts = decide([view_of(world.session(REGION), CATALOG)], RULES, world.clock.now())
    (verdict,) = [verdict for verdict in verdicts if verdict.image.image_id == one.id]
    assert verdict.action == "keep"
    return verdict.reason


def test_an_unused_image_goes_from_deprecated_to_disabled_to_gone(world: ImageWorld) -> None:
    newest, old = add(world, 100), add(world, 300)
    run(world)
    assert (old.deprecation, newest.deprecation) == (world.clock.now() + timedelta(minutes=2), None)
    world.clock.sleep(31 * 86400)
    run(world)
    assert (old.disabled, old.tags[DISABLED_AT]) == (True, tags.format_time(world.clock.now()))
    world.clock.sleep(31 * 86400)
    run(world)
    assert list(world.images) == [newest.id]


def test_every_kind_of_use_is_seen(world: ImageWorld) -> None:
    add(world, 100)
    used = [disabled(world, 300 + number) for number in range(8)]
    run_by = {"Tags": [{"Key": "aws:autoscaling:groupName", "Value": "web"}]}
    world.instances[REGION] = [{"InstanceId": "i-1", "ImageId": used[0].id, "State": {"Name": "stopped"}, **run_by}]
    world.templates[REGION] = {
        "lt-1": [
            {"VersionNumber": 1, "LaunchTemplateData": {"ImageId": used[1].id}},
            {"VersionNumber": 2, "LaunchTemplateData": {"ImageId": "resolve:ssm:/other/image"}},
            {"VersionNumber": 3, "LaunchTemplateData": {}},
        ]
    }
    world.parameters[REGION, "/other/image"] = [{"Name": "/other/image", "Value": used[2].id, "Version": 1}]
    world.configurations[REGION] = [
        {
            "LaunchConfigurationName": "old",
            "ImageId": used[3].id,
            "InstanceType": "m5.large",
            "CreatedTime": world.clock.now(),
        }
    ]
    world.groups[REGION] = [
        {
            "AutoScalingGroupName": "web",
            "MinSize": 0,
            "MaxSize": 1,
            "DesiredCapacity": 1,
            "DefaultCooldown": 1,
            "AvailabilityZones": [],
            "HealthCheckType": "EC2",
            "CreatedTime": world.clock.now(),
            "MixedInstancesPolicy": {"LaunchTemplate": {"Overrides": [{"ImageId": used[4].id}]}},
        }
    ]
    refresh = {"ImageId": used[5].id}
    world.refreshes[REGION] = [
        {
            "AutoScalingGroupName": "web",
            "Status": "InProgress",
            "DesiredConfiguration": {"MixedInstancesPolicy": {"LaunchTemplate": {"Overrides": [refresh]}}},
        }
    ]
    name = f"{CATALOG.promotion.parameter_prefix}/{VARIANT}"
    world.parameters[REGION, name] = [
        {"Name": name, "Value": one.id, "Version": number, "LastModifiedDate": world.clock.now()}
        for number, one in enumerate((used[6], used[7]), 1)
    ]
    found = [reasons(world, one) for one in used]
    assert "hosts run it: 1 in web" in found[0]
    assert found[1] == "version 1 of launch template lt-1 names it"
    assert "version 2 of launch template lt-1 names it, through /other/image" in found[2]
    assert found[3:6] == [
        "launch configuration old names it",
        "Auto Scaling group web names it",
        "a refresh of web is under way with it",
    ]
    assert found[6] == f"{name} named it: way back number 1"
    assert f"{name} names it" in found[7]


@pytest.mark.parametrize(
    "operation",
    [
        "DescribeInstances",
        "DescribeLaunchTemplates",
        "DescribeLaunchConfigurations",
        "DescribeAutoScalingGroups",
        "GetParametersByPath",
        "DescribeImageReferences",
    ],
)
def test_a_question_that_is_refused_keeps_everything(world: ImageWorld, operation: str) -> None:
    add(world, 100)
    one = disabled(world, 300)
    world.refuses[REGION, operation] = "UnauthorizedOperation"
    assert "cannot be seen" in reasons(world, one)
    assert "UnauthorizedOperation" in reasons(world, one)


def test_images_that_cannot_be_listed_are_an_error(world: ImageWorld) -> None:
    world.refuses[REGION, "DescribeImages"] = "UnauthorizedOperation"
    with pytest.raises(OvenproofError, match="the images could not be listed, so nothing was decided"):
        run(world)


def test_a_use_that_began_after_the_decision_is_seen(world: ImageWorld) -> None:
    add(world, 100)
    one = disabled(world, 300)
    verdicts = decide([view_of(world.session(REGION), CATALOG)], RULES, world.clock.now())
    world.instances[REGION] = [{"InstanceId": "i-1", "ImageId": one.id, "State": {"Name": "running"}}]
    (done,) = carry_out(world.session, verdicts, clock=world.clock, say=lambda _: None)
    assert done.kept.endswith("instance/i-1")
    assert one.id in world.images


def test_other_peoples_images_are_not_even_looked_at(world: ImageWorld) -> None:
    world.add_image(REGION, "theirs", {"OvenproofState": "x"}, created=days_ago(world, 900))
    world.add_image(REGION, "also", {"BakeId": "20250101T000000Z-abcd"}, created=days_ago(world, 900))
    assert view_of(world.session(REGION), CATALOG).images == ()


def a_world_with_everything(world: ImageWorld) -> Image:
    """One image for each step, and one that is in use although all else speaks against it; that one is returned."""
    add(world, 100)
    add(world, 200)
    add(world, 300, deprecation=days_ago(world, 100))
    disabled(world, 400)
    used = disabled(world, 500)
    world.instances[REGION] = [{"InstanceId": "i-1", "ImageId": used.id, "State": {"Name": "running"}}]
    return used


def shape(world: ImageWorld) -> list[tuple[str, bool, bool, bool]]:
    return sorted(
        (one.id, one.deprecation is not None, one.disabled, DISABLED_AT in one.tags) for one in world.images.values()
    )


@pytest.mark.parametrize("how", HOWS)
def test_a_retirement_broken_off_at_any_call_takes_nothing_used_and_a_rerun_ends_right(
    world: ImageWorld, how: How
) -> None:
    used = a_world_with_everything(world)
    start = world.state()
    number = world.faults.calls_of(lambda: run(world))
    assert number > 20
    end = shape(world)
    assert len(end) == 4
    for at in range(number):
        world.restore(start)
        call = world.faults.broken_off(at, how, lambda: run(world))
        assert used.id in world.images, call
        assert not [one for one in world.images.values() if one.disabled and DISABLED_AT not in one.tags], call
        run(world)
        assert shape(world) == end, call


def test_what_aws_refuses_for_one_image_does_not_stop_the_others(world: ImageWorld) -> None:
    a_world_with_everything(world)
    world.refuses[REGION, "DisableImage"] = "UnauthorizedOperation"
    verdicts = decide([view_of(world.session(REGION), CATALOG)], RULES, world.clock.now())
    said: list[str] = []
    done = carry_out(world.session, verdicts, clock=world.clock, say=said.append)
    assert sorted((one.verdict.action, bool(one.error)) for one in done) == [
        ("deprecate", False),
        ("deregister", False),
        ("disable", True),
    ]
    assert any(line.startswith("could not disable ami-") for line in said)
