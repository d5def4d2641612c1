"""Expected against actual of what is promoted, one word for each region."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from pipeline.promote import promote
from pipeline.published import Finding, as_text, validate
from tests.doubles import FakeClock
from tests.image_world import Image, ImageWorld
from tests.test_promote import ACCOUNT, WEST, baked, place, said, sharing

Spoil = Callable[[ImageWorld, Image], object]


def promoted() -> tuple[ImageWorld, Image]:
    world = ImageWorld(clock=FakeClock())
    where = place(world, catalog=sharing())
    promote(where, baked(world, "b1"), hold=False)
    return world, world.images[said(where)[WEST]]


def look(world: ImageWorld) -> Finding:
    where = place(world, catalog=sharing())
    return validate(world.session(WEST), where.catalog, where.selection, world.clock.now())


def test_what_promote_leaves_is_correct() -> None:
    world, image = promoted()
    assert as_text([look(world)]) == f"eu-west-1  ecs-al2-kernel-5.10/x86_64  correct  {image.id}"


@pytest.mark.parametrize(
    ("spoil", "word", "detail"),
    [
        (
            lambda _, image: setattr(image, "protected", False),
            "incorrect",
            "deregistration protection: expected on, found off",
        ),
        (lambda _, image: setattr(image, "imds", ""), "incorrect", "IMDSv2 by default: expected on, found off"),
        (lambda _, image: setattr(image, "disabled", True), "incorrect", "state: expected available, found disabled"),
        (lambda _, image: image.tags.update(BakeId="b9"), "incorrect", "tag BakeId: expected b1, found b9"),
        (
            lambda _, image: image.tags.pop("OvenproofState"),
            "incorrect",
            "tag OvenproofState: expected proven, found none",
        ),
        (lambda _, image: image.tags.update(ExpiresAt="soon"), "incorrect", "expiry tag: expected none, found soon"),
        (lambda _, image: image.shared.clear(), "incorrect", f"shared: expected {ACCOUNT}, which may not launch it"),
        (
            lambda _, image: image.volume_shared.clear(),
            "incorrect",
            f"snapshots shared: expected {ACCOUNT}, which may not use them",
        ),
        (
            lambda world, image: setattr(image, "deprecation", world.clock.now() - timedelta(days=1)),
            "incorrect",
            "deprecated since 2026-11-22: bake and promote a newer one",
        ),
        (
            lambda _, image: image.shared.append({"UserId": "999999999999"}),
            "unexpected",
            "shared with 999999999999, not in the catalog",
        ),
        (
            lambda _, image: image.volume_shared.append("999999999999"),
            "unexpected",
            "snapshots shared with 999999999999, not in the catalog",
        ),
        (lambda _, image: image.shared.append({"Group": "all"}), "unexpected", "it is public"),
        (lambda world, image: world.images.pop(image.id), "missing", "is gone"),
        (lambda world, _: world.parameters.clear(), "missing", "no parameter /ovenproof/images/"),
        (
            lambda world, _: world.refuses.update({(WEST, "GetParameterHistory"): "AccessDeniedException"}),
            "unreachable",
            "AccessDeniedException",
        ),
        (
            lambda world, _: world.refuses.update({(WEST, "DescribeImages"): "UnauthorizedOperation"}),
            "unreachable",
            "UnauthorizedOperation",
        ),
    ],
)
def test_each_thing_that_is_not_so_is_named(spoil: Spoil, word: str, detail: str) -> None:
    world, image = promoted()
    spoil(world, image)
    finding = look(world)
    assert finding.word == word
    assert any(detail in text for text in finding.details), finding.details
