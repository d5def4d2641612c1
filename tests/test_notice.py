"""What people are told when an image is promoted, held or taken back."""

import boto3
import pytest

from pipeline.notice import MESSAGE_LIMIT, SUBJECT_LIMIT, Notice, notice, publish
from pipeline.promote import Moved, Promotion
from tests import records
from tests.doubles import FakeClock
from tests.image_world import ImageWorld

VARIANT, NAME = "ecs-al2-kernel-5.10/x86_64", "/ovenproof/images/ecs-al2-kernel-5.10/x86_64"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:images"
MOVED = {"eu-central-1": Moved(before="ami-1", now="ami-2"), "eu-west-1": Moved(before="", now="ami-3")}


def told(**how: bool) -> Notice:
    before = records.record(bake_id="b1")
    packages = [*records.facts()["packages"][:-1], {**records.facts()["packages"][-1], "version": "1.108.1-1"}]
    after = records.record(bake_id="b2", guest=records.guest(packages=packages))
    promotion = Promotion(bake_id="b2", moved=MOVED, **how)
    return notice(promotion, variant=VARIANT, parameter=NAME, record=after, before=before)


def test_a_promotion_says_where_and_what_changed() -> None:
    text = told()
    assert text.subject == f"{VARIANT}: bake b2 is promoted"
    assert "| eu-central-1 | ami-2 | ami-1 |\n| eu-west-1 | ami-3 | none |\n" in text.message
    assert "## What changed since b1" in text.message
    assert "- ecs-init: 1.106.1-1 -> 1.108.1-1" in text.message


@pytest.mark.parametrize(
    ("how", "subject", "words"),
    [
        ({"held": True}, "bake b2 is held for approval", "To approve: `./run promote --bake b2`"),
        ({"back": True}, "bake b2 is promoted again", "Running hosts keep the image they have"),
    ],
)
def test_held_and_back_say_what_follows(how: dict[str, bool], subject: str, words: str) -> None:
    text = told(**how)
    assert text.subject == f"{VARIANT}: {subject}"
    assert words in text.message


def test_without_records_it_says_that_it_does_not_know() -> None:
    promotion = Promotion(bake_id="b2", moved=MOVED)
    text = notice(promotion, variant=VARIANT, parameter=NAME, record=None, before=None).message
    assert "What is in it cannot be said: its record is not here." in text


def test_sns_gets_no_more_than_it_takes() -> None:
    world = ImageWorld(clock=FakeClock())
    session: boto3.Session = world.session("eu-west-1")
    publish(session, TOPIC, Notice(subject="s", message="ä" * MESSAGE_LIMIT))
    (sent,) = world.published
    assert (sent["TopicArn"], sent["Subject"]) == (TOPIC, "s")
    assert len(sent["Message"].encode()) <= MESSAGE_LIMIT
    assert sent["Message"].endswith("(cut here; the whole is in the bake's record)\n")
    long_name = notice(
        Promotion(bake_id="b" * 200, moved=MOVED), variant=VARIANT, parameter=NAME, record=None, before=None
    )
    assert len(long_name.subject) == SUBJECT_LIMIT
