"""What `./run status` says: rows over an account in memory, and their three forms."""

import json
from datetime import timedelta

import pytest

from pipeline import status, tags
from pipeline.catalog import load_catalog
from pipeline.promote import promote
from tests.doubles import FakeClock
from tests.image_world import AMAZON, ImageWorld
from tests.test_promote import REGION, WEST, baked, place

BASE = "amzn2-ami-ecs-kernel-5.10-hvm-2.0.{}-x86_64-ebs"
CATALOG = load_catalog()
SELECTION = CATALOG.select("ecs-al2-kernel-5.10", "x86_64")


@pytest.fixture
def world() -> ImageWorld:
    """A promoted image on a base that two releases have followed, and a group that runs it and an older one."""
    world = ImageWorld(clock=FakeClock())
    bases = [
        world.add_image(REGION, BASE.format(day), {}, owner=AMAZON, created=world.clock.now() - timedelta(days=days))
        for day, days in (("20261001", 53), ("20261022", 32), ("20261110", 13))
    ]
    old, new = baked(world, "b1"), baked(world, "b2")
    for record in (old, new):
        own = world.images[record.images[REGION]].tags
        own |= {"BaseId": bases[0].id, "BaseName": bases[0].name, "KernelLine": "5.10", "AgentVersion": "1.17.1"}
        promote(place(world), record, hold=False)
    group = [{"Key": "aws:autoscaling:groupName", "Value": "web"}]
    runs = [(old.images[REGION], "i-1"), (new.images[REGION], "i-2"), (new.images[REGION], "i-3")]
    world.instances[REGION] = [
        {"InstanceId": instance, "ImageId": image, "State": {"Name": "running"}, "Tags": group}
        for image, instance in runs
    ]
    world.coverage = {"i-1": "HEALTHY", "i-2": "HEALTHY", "i-3": "UNHEALTHY"}
    world.clock.sleep(3 * 86400)
    return world


def row(world: ImageWorld, region: str = REGION) -> status.Row:
    return status.row(world.session(region), CATALOG, SELECTION, world.clock.now())


def test_a_row_says_image_age_base_and_who_runs_it(world: ImageWorld) -> None:
    now, image_id = row(world), world.parameter(REGION, CATALOG.parameter(SELECTION))
    old = next(one.id for one in world.images.values() if one.tags.get(tags.BAKE_ID) == "b1" and one.region == REGION)
    assert status.as_text([now]) == (
        f"ecs-al2-kernel-5.10/x86_64  us-east-1  {image_id}, promoted 3 days ago, bake b2\n"
        f"  base {BASE.format('20261001')}, 2 releases and 40 days behind\n"
        "  kernel 5.10, agent 1.17.1\n"
        "  support is over since 2026-06-30\n"
        f"  group web: 1 on {old} (not the promoted one), 1 HEALTHY\n"
        f"  group web: 2 on {image_id} (promoted), 1 HEALTHY"
    )


def test_without_the_base_in_the_region_its_distance_is_not_guessed(world: ImageWorld) -> None:
    assert "; how far behind is not known here" in status.as_text([row(world, WEST)])


def test_nothing_promoted_is_said(world: ImageWorld) -> None:
    assert status.as_text([row(world, "eu-north-1")]) == "ecs-al2-kernel-5.10/x86_64  eu-north-1  nothing promoted"


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("GetParameterHistory", "not known: the promoted image: "),
        ("DescribeInstances", "not known: who runs it: "),
        ("ListCoverage", "not known: coverage: "),
        ("DescribeImages", "not known: the image and its base: "),
    ],
)
def test_what_is_not_answered_is_said_and_hides_nothing_else(world: ImageWorld, operation: str, words: str) -> None:
    world.refuses[REGION, operation] = "AccessDeniedException"
    text = status.as_text([row(world)])
    assert words in text
    assert "AccessDeniedException" in text


def test_json_and_html_hold_the_same(world: ImageWorld) -> None:
    now = row(world)
    (found,) = json.loads(status.as_json([now]))
    assert (found["image_id"], found["base_releases_behind"], found["groups"][1]["hosts"]) == (now.image_id, 2, 2)
    page = status.as_html([now], world.clock.now())
    assert f"{now.image_id}<br>3 days, bake b2" in page
    assert "2 releases, 40 days behind" in page


def test_html_is_escaped(world: ImageWorld) -> None:
    world.refuses[REGION, "GetParameterHistory"] = "<script>"
    page = status.as_html([row(world)], world.clock.now())
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
