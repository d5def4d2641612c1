"""The commands of the standing pipeline, from what the user asks for to the text that answers."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import standing
from pipeline.catalog import load_catalog
from pipeline.errors import CloudError, MachineError, PolicyRefusal, UsageError
from pipeline.record import write_record
from tests.doubles import FakeClock
from tests.image_world import ImageWorld
from tests.test_promote import NAME, NORTH, REGION, WEST, baked

VARIANT, FLAVOUR = "ecs-al2-kernel-5.10", "x86_64"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:images"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ImageWorld]:
    """An account behind the target `local`, whose records lie in a folder of the test."""
    world = ImageWorld(clock=FakeClock())
    monkeypatch.setenv("OVENPROOF_LOCAL", str(tmp_path))
    monkeypatch.setattr(standing, "open_sessions", lambda on, region: world.session)  # noqa: ARG005
    monkeypatch.setattr(standing, "SystemClock", lambda: world.clock)
    yield world


def a_bake(world: ImageWorld, bake_id: str, tmp_path: Path) -> str:
    record = baked(world, bake_id)
    write_record(record, tmp_path / "records" / bake_id)
    return record.images[REGION]


def promote(**more: Any) -> str:
    return standing.promote_image(VARIANT, FLAVOUR, on="local", regions=f"{WEST}, {NORTH}", region=REGION, **more)


def test_promote_then_back_names_who_still_runs_the_bad_one(world: ImageWorld, tmp_path: Path) -> None:
    first, second = (a_bake(world, bake, tmp_path) for bake in ("b1", "b2"))
    assert promote(bake="b1").splitlines()[:2] == [
        f"promoted {VARIANT}/{FLAVOUR}, bake b1: {NAME}",
        f"  {REGION}: {first}",
    ]
    promote(bake="b2", topic=TOPIC)
    assert world.published[0]["Subject"] == f"{VARIANT}/{FLAVOUR}: bake b2 is promoted"
    assert "What changed since b1" in (tmp_path / "records" / "b2" / "promotion.md").read_text()
    world.instances[REGION] = [
        {
            "InstanceId": f"i-{number}",
            "ImageId": second,
            "State": {"Name": "running"},
            "Tags": [{"Key": "aws:autoscaling:groupName", "Value": "web"}] if number else [],
        }
        for number in range(4)
    ]
    said = promote(to="previous").splitlines()
    assert said[0] == f"back to {VARIANT}/{FLAVOUR}, bake b1: {NAME}"
    assert f"  {REGION}: {first}, before {second}" in said
    assert f"  {REGION}: still on {second}: 3 in web, 1 in no group" in said


def test_nothing_to_do_and_held_are_told_apart(world: ImageWorld, tmp_path: Path) -> None:
    a_bake(world, "b1", tmp_path)
    held = promote(hold=True)
    assert held.splitlines()[0] == f"held: {VARIANT}/{FLAVOUR}, bake b1, is ready; no parameter was changed"
    assert held.splitlines()[-1] == "  approve: ./run promote --bake b1"
    promote()
    assert promote() == f"nothing to do: {NAME} names bake b1 in {REGION}, {WEST}, {NORTH} already"


def test_what_does_not_go_together_or_is_not_there_is_told(world: ImageWorld, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no proven bake of"):
        promote()
    with pytest.raises(UsageError, match="exclude each other"):
        promote(to="previous", hold=True)
    a_bake(world, "b1", tmp_path)
    with pytest.raises(UsageError) as other:
        standing.promote_image("ecs-al2023", FLAVOUR, on="local", bake="b1")
    assert other.value.remedy == f"add `--variant {VARIANT} --flavour {FLAVOUR}`"


def test_status_shows_what_is_promoted_and_names_the_rest(world: ImageWorld, tmp_path: Path) -> None:
    a_bake(world, "b1", tmp_path)
    promote()
    said = standing.status(on="local", region=REGION, regions=WEST)
    assert f"{VARIANT}/{FLAVOUR}  {WEST}  ami-" in said
    assert said.splitlines()[-1].startswith("nothing promoted: ecs-al2-kernel-5.10/arm64")
    assert standing.status(on="local", region=REGION, form="html").startswith("<!doctype html>")
    with pytest.raises(UsageError, match="there is no form yaml"):
        standing.status(on="local", form="yaml")


def test_validation_fails_as_a_whole_and_names_each_region(world: ImageWorld, tmp_path: Path) -> None:
    a_bake(world, "b1", tmp_path)
    promote()
    look = {"on": "local", "region": REGION, "regions": WEST}
    assert standing.validate_published(VARIANT, FLAVOUR, **look).count("correct") == 2
    world.images[world.parameter(WEST, NAME)].protected = False
    with pytest.raises(PolicyRefusal) as error:
        standing.validate_published(VARIANT, FLAVOUR, **look)
    assert error.value.what == "1 of 2 regions are not as they should be"
    assert "deregistration protection: expected on, found off" in error.value.found


def test_retire_is_dry_until_told_and_then_does_it(world: ImageWorld, tmp_path: Path) -> None:  # noqa: ARG001
    assert standing.retire(on="local", region=REGION) == f"there is no image of ours in {REGION}"
    own = {"OvenproofState": "proven", "Variant": f"{VARIANT}/{FLAVOUR}"}
    made = [
        world.add_image(
            REGION,
            f"image-{number}",
            {**own, "BakeId": f"2025010{number}T000000Z-abcd"},
            created=world.clock.now() - timedelta(days=300 + number),
        )
        for number in range(1, 5)
    ]
    said = standing.retire(on="local", region=REGION)
    assert f"{made[3].id}  would deprecate: nothing uses it" in said
    assert said.splitlines()[-1] == "1 of 4 would change; `--yes` does it"
    assert made[3].deprecation is None
    assert f"{made[3].id}  deprecate: nothing uses it" in standing.retire(on="local", region=REGION, yes=True)
    assert made[3].deprecation is not None
    world.refuses[REGION, "DescribeImages"] = "UnauthorizedOperation"
    with pytest.raises(CloudError, match="the images could not be listed, so nothing was decided"):
        standing.retire(on="local", region=REGION, yes=True)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: standing.status(on="local"),
        lambda: standing.validate_published(VARIANT, FLAVOUR, on="local"),
        lambda: standing.retire(on="local"),
    ],
    ids=["status", "validate-published", "retire"],
)
def test_without_a_local_cloud_it_is_said_what_is_missing_and_what_to_do(
    ask: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OVENPROOF_LOCAL", str(tmp_path / "nothing"))
    with pytest.raises(MachineError) as error:
        ask()
    assert error.value.what == "the local cloud is empty: no image was baked on this machine"
    assert "`./run build-image`" in error.value.remedy


def test_a_region_that_cannot_be_asked_is_told_beside_the_others(
    world: ImageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sessions(region: str) -> Any:
        if region == WEST:
            raise CloudError("no session", found="the region is not enabled")
        return world.session(region)

    monkeypatch.setattr(standing, "open_sessions", lambda on, region: sessions)  # noqa: ARG005
    said = standing.status(on="local", region=REGION, regions=WEST)
    assert said.count(f"  {WEST}  not known\n  not known: the region is not enabled") == len(
        list(load_catalog().selections())
    )
    with pytest.raises(PolicyRefusal) as error:
        standing.validate_published(VARIANT, FLAVOUR, on="local", region=REGION, regions=WEST)
    assert f"{WEST}  {VARIANT}/{FLAVOUR}  unreachable" in error.value.found
