"""Which image is given up, how far, and why: examples, then random worlds in which certain things never happen."""

import dataclasses
import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipeline.catalog import Retention, load_catalog
from pipeline.retire import OwnImage, Verdict, View, as_text, decide
from tests.doubles import START

RULES = load_catalog().retention.model_copy(update={"keep_newest": 1})
OLD = START - timedelta(days=400)
VARIANT = "ecs-al2023/x86_64"


def days_ago(days: float) -> datetime:
    return START - timedelta(days=days)


def image(number: int = 1, **other: Any) -> OwnImage:
    values: dict[str, Any] = {
        "image_id": f"ami-{number:08x}",
        "region": "eu-west-1",
        "variant": VARIANT,
        "bake_id": "20250101T000000Z-abcd",
        "created": OLD + timedelta(hours=number),
    }
    return OwnImage(**{**values, **other})


NEWEST = image(99, created=days_ago(1))


def verdict_on(one: OwnImage, **view: Any) -> Verdict:
    views = [View(region="eu-west-1", images=(one, NEWEST), **view)]
    return next(verdict for verdict in decide(views, RULES, START) if verdict.image == one)


@pytest.mark.parametrize(
    ("state", "action", "reason"),
    [
        ({}, "deprecate", "nothing uses it, last launched never, made 2025-10-19"),
        ({"deprecated_from": days_ago(-9)}, "deprecate", "nothing uses it, last launched never, made 2025-10-19"),
        (
            {"deprecated_from": days_ago(29)},
            "keep",
            "deprecated since 2026-10-25; may be disabled from 2026-11-24",
        ),
        (
            {"deprecated_from": days_ago(30)},
            "disable",
            "deprecated since 2026-10-24; nothing uses it, last launched never, made 2025-10-19",
        ),
        (
            {"deprecated_from": days_ago(30), "shared_with": ("111122223333",)},
            "keep",
            "shared with 111122223333, whose use cannot be seen from here; take the permission away once nobody there "
            "needs it",
        ),
        (
            {"state": "disabled", "disabled_at": days_ago(29)},
            "keep",
            "disabled since 2026-10-25; may be deregistered from 2026-11-24",
        ),
        (
            {"state": "disabled", "disabled_at": days_ago(30)},
            "deregister",
            "disabled since 2026-10-24; nothing uses it, last launched never, made 2025-10-19",
        ),
        ({"state": "disabled"}, "disable", "it is disabled, but since when is not known: noted anew"),
        ({"state": "pending"}, "keep", "it is pending"),
        (
            {"expires": True},
            "keep",
            "a bake or a promotion is not done with it; `./run sweep` takes it once that is over",
        ),
        ({"last_launched": days_ago(44)}, "keep", "launched 2026-10-10, less than 45 days ago"),
        ({"created": days_ago(44)}, "keep", "made 2026-10-10, less than 45 days ago"),
    ],
)
def test_an_image_that_nothing_uses_goes_step_by_step(state: dict[str, Any], action: str, reason: str) -> None:
    verdict = verdict_on(image(**state))
    assert (verdict.action, verdict.reason) == (action, reason)


def test_each_use_is_a_reason_to_keep() -> None:
    one = image(state="disabled", disabled_at=OLD)
    verdict = verdict_on(one, uses={one.image_id: ("hosts run it: 2 in web", "version 3 of launch template lt-1")})
    assert (verdict.action, verdict.reason) == ("keep", "hosts run it: 2 in web; version 3 of launch template lt-1")


def test_what_cannot_be_seen_keeps_everything_in_its_region_and_nothing_elsewhere() -> None:
    here, there = image(1, state="disabled", disabled_at=OLD), image(2, region="us-east-1")
    views = [
        View(region="eu-west-1", images=(here,), blind=("launch templates in eu-west-1: AccessDenied",)),
        View(region="us-east-1", images=(there, image(3, region="us-east-1"))),
    ]
    verdicts = decide(views, RULES, START)
    assert [verdict.action for verdict in verdicts] == ["keep", "keep", "deprecate"]
    assert verdicts[0].reason.startswith("who uses it cannot be seen: launch templates in eu-west-1: AccessDenied")


def test_the_newest_of_each_variant_and_region_stay() -> None:
    images = (image(1), image(2), image(3, variant="ecs-al2023/arm64"))
    verdicts = decide([View(region="eu-west-1", images=images)], RULES, START)
    assert {verdict.image.image_id: verdict.action for verdict in verdicts} == {
        "ami-00000003": "keep",
        "ami-00000002": "keep",
        "ami-00000001": "deprecate",
    }


def test_no_more_than_the_limit_is_changed_and_what_is_nearest_its_end_comes_first() -> None:
    rules = RULES.model_copy(update={"max_changes_per_run": 2})
    images = (
        image(1),
        image(2, deprecated_from=OLD),
        image(3, state="disabled", disabled_at=OLD),
        NEWEST,
    )
    verdicts = {one.image.image_id: one for one in decide([View(region="eu-west-1", images=images)], rules, START)}
    assert [verdicts[f"ami-0000000{number}"].action for number in (1, 2, 3)] == ["keep", "disable", "deregister"]
    assert verdicts["ami-00000001"].reason.startswith("to deprecate by the next run, over the limit of 2 changes a run")


def test_the_answer_has_a_line_and_a_reason_for_each_image() -> None:
    text = as_text([verdict_on(image())], done=False)
    assert text == (
        "eu-west-1  ecs-al2023/x86_64  ami-00000001  would deprecate: nothing uses it, last launched never, "
        "made 2025-10-19"
    )


# Random worlds


def some_world(seed: int) -> tuple[list[View], Retention]:
    pick = random.Random(seed)  # noqa: S311 - a world, not a key

    def when() -> datetime | None:
        return pick.choice([None, days_ago(pick.uniform(-20, 500))])

    views = []
    for region in ("eu-west-1", "us-east-1", "eu-north-1"):
        images = tuple(
            image(
                number,
                image_id=f"ami-{region}-{number}",
                region=region,
                variant=pick.choice([VARIANT, "ecs-al2023/arm64"]),
                created=days_ago(pick.uniform(0, 700)),
                state=pick.choice(["available", "available", "disabled", "disabled", "pending", "failed"]),
                deprecated_from=when(),
                disabled_at=when(),
                last_launched=when(),
                shared_with=pick.choice([(), (), ("111122223333",)]),
                expires=pick.random() < 0.1,
            )
            for number in range(pick.randrange(12))
        )
        uses = {one.image_id: ("somebody",) for one in images if pick.random() < 0.3}
        blind = ("instances: Throttling",) if pick.random() < 0.2 else ()
        views.append(View(region=region, images=images, uses=uses, blind=blind))
    rules = Retention(
        keep_newest=pick.randint(1, 4),
        ways_back=2,
        idle_days=pick.randint(1, 90),
        disable_after_days=pick.randint(1, 90),
        deregister_after_days=pick.randint(1, 90),
        max_changes_per_run=pick.randint(1, 30),
        document_versions=5,
    )
    return views, rules


@pytest.mark.parametrize("seed", range(300))
def test_in_no_world_goes_what_is_used_unseen_new_or_shared(seed: int) -> None:
    views, rules = some_world(seed)
    verdicts = decide(views, rules, START)
    assert sorted(one.image.image_id for one in verdicts) == sorted(
        one.image_id for view in views for one in view.images
    )
    changes = [one for one in verdicts if one.action != "keep"]
    assert len(changes) <= rules.max_changes_per_run
    assert all(one.reason for one in verdicts)
    by_region = {view.region: view for view in views}
    idle = timedelta(days=rules.idle_days)
    for one in changes:
        view = by_region[one.image.region]
        assert not view.blind
        assert one.image.image_id not in view.uses
        assert one.image.state in ("available", "disabled")
        assert not one.image.expires
        assert START - one.image.created >= idle
        assert one.image.last_launched is None or START - one.image.last_launched >= idle
        newer = [
            other
            for other in view.images
            if other.variant == one.image.variant
            and other.state == "available"
            and not other.expires
            and other.created > one.image.created
        ]
        assert one.image.state == "disabled" or len(newer) >= rules.keep_newest
        if one.action == "disable" and one.image.state == "available":
            assert not one.image.shared_with
            assert one.image.deprecated_from is not None
            assert START - one.image.deprecated_from >= timedelta(days=rules.disable_after_days)
        if one.action == "deregister":
            assert one.image.state == "disabled"
            assert one.image.disabled_at is not None
            assert START - one.image.disabled_at >= timedelta(days=rules.deregister_after_days)


@pytest.mark.parametrize("seed", range(100))
def test_one_more_use_or_one_question_unanswered_never_gives_up_more(seed: int) -> None:
    views, rules = some_world(seed)
    rules = rules.model_copy(update={"max_changes_per_run": 1000})
    before = {one.image.image_id: one.action for one in decide(views, rules, START)}
    for view in views:
        for one in view.images:
            used = dataclasses.replace(view, uses={**view.uses, one.image_id: ("somebody else",)})
            after = {v.image.image_id: v.action for v in decide([used], rules, START)}
            assert after[one.image_id] == "keep"
            assert all(action == before[image_id] for image_id, action in after.items() if image_id != one.image_id)
        unseen = decide([dataclasses.replace(view, blind=("groups: AccessDenied",))], rules, START)
        assert {verdict.action for verdict in unseen} <= {"keep"}


@pytest.mark.parametrize("seed", range(50))
def test_the_order_in_which_images_are_seen_does_not_matter(seed: int) -> None:
    views, rules = some_world(seed)
    turned = [dataclasses.replace(view, images=view.images[::-1]) for view in views]
    before, after = (
        {(verdict.image.image_id, verdict.action, verdict.reason) for verdict in decide(seen, rules, START)}
        for seen in (views, turned)
    )
    assert before == after
