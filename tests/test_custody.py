"""What of a bake keeps standing, and what is taken back."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from pipeline import tags
from pipeline.custody import mark_proven, nothing_left_behind
from pipeline.errors import BakeError, Interrupted

MINE = {tags.BAKE_ID: "bake-1", tags.EXPIRES_AT: "2026-11-23T13:00:00Z", tags.EXCLUDE_FROM_MANAGED_AGENT: "false"}


@pytest.fixture
def session() -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session(region_name="eu-central-1")


def image_of_a_bake(session: boto3.Session, bake_id: str = "bake-1") -> str:
    mine = MINE | {tags.BAKE_ID: bake_id}
    ec2: Any = session.client("ec2")
    base = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    instance = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    image: str = ec2.create_image(
        InstanceId=instance, Name="baked", TagSpecifications=tags.specifications(["image"], mine)
    )["ImageId"]
    snapshot = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ec2.create_tags(Resources=[snapshot], Tags=tags.as_list(mine))
    return image


def test_a_proven_image_and_its_snapshot_lose_every_tag_that_a_sweep_or_guardduty_would_read(
    session: boto3.Session,
) -> None:
    image = image_of_a_bake(session)
    mark_proven(session, image)
    ec2: Any = session.client("ec2")
    described = ec2.describe_images(ImageIds=[image])["Images"][0]
    snapshot = described["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    expected = {tags.BAKE_ID: "bake-1", tags.STATE: "proven"}
    assert tags.as_mapping(described["Tags"]) == expected
    assert tags.as_mapping(ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"]) == expected


def test_a_bake_that_fails_takes_its_image_along(session: boto3.Session) -> None:
    said: list[str] = []
    with pytest.raises(BakeError, match="proof"), nothing_left_behind(session, "bake-1", said.append):
        image = image_of_a_bake(session)
        raise BakeError("the proof could not be held")
    ec2: Any = session.client("ec2")
    assert ec2.describe_images(Owners=["self"])["Images"] == []
    assert f"removed image {image}: bake bake-1 ended without a proven image" in said


def test_a_proven_image_survives_the_end_of_its_bake(session: boto3.Session) -> None:
    with nothing_left_behind(session, "bake-1", print):
        image = image_of_a_bake(session)
        mark_proven(session, image)
    ec2: Any = session.client("ec2")
    assert [one["ImageId"] for one in ec2.describe_images(Owners=["self"])["Images"]] == [image]


def test_an_interrupt_in_the_middle_of_the_clean_up_does_not_leave_the_rest(session: boto3.Session) -> None:
    seen: list[str] = []

    def interrupt(model: Any, **_: Any) -> None:
        seen.append(model.name)
        if len(seen) == 1:
            raise Interrupted("stopped by SIGINT")

    session.events.register("before-call.ec2.DeregisterImage", interrupt)
    with pytest.raises(Interrupted), nothing_left_behind(session, "bake-1", print):
        image_of_a_bake(session)
    ec2: Any = session.client("ec2")
    assert ec2.describe_images(Owners=["self"])["Images"] == []
