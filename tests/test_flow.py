"""How the stages are joined: which target, what is marked, what is taken back. Whole bakes are in test_bake_*.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from pipeline import flow, tags
from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.errors import BakeError, UsageError
from pipeline.progress import Progress
from tests.doubles import START

MINE = {tags.BAKE_ID: "bake-1", tags.EXPIRES_AT: "2026-11-23T13:00:00Z", tags.EXCLUDE_FROM_MANAGED_AGENT: "false"}


@pytest.fixture
def session() -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session(region_name="eu-central-1")


def image_of_a_bake(session: boto3.Session) -> str:
    ec2: Any = session.client("ec2")
    base = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    instance = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    image: str = ec2.create_image(
        InstanceId=instance, Name="baked", TagSpecifications=tags.specifications(["image"], MINE)
    )["ImageId"]
    snapshot = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ec2.create_tags(Resources=[snapshot], Tags=tags.as_list(MINE))
    return image


def test_a_target_that_is_none_is_refused(tmp_path: Path) -> None:
    catalog = load_catalog()
    selection = catalog.select("ecs-al2023", "arm64")
    with pytest.raises(UsageError) as error:
        flow.open_target(
            "azure", catalog, selection, "", today=START.date(), cache=Cache(tmp_path), progress=Progress()
        )
    assert str(error.value) == "there is no target azure\n  expected: local or aws\n  where:    --on"


def test_a_flavour_without_a_stand_in_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    catalog = load_catalog()
    selection = catalog.select("ecs-al2-kernel-5.10", "gpu")
    with pytest.raises(UsageError) as error:
        flow.open_target(
            "local", catalog, selection, "", today=START.date(), cache=Cache(tmp_path), progress=Progress()
        )
    assert str(error.value) == (
        "ecs-al2-kernel-5.10/gpu cannot be baked on this machine\n"
        "  expected: the flavour x86_64: the only one that has a stand-in for its base\n"
        "  found:    gpu\n"
        "  do:       bake it in AWS with `--on aws`; its template is rendered and validated here by `./run test`"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_proven_image_and_its_snapshot_lose_every_tag_that_a_sweep_or_guardduty_would_read(
    session: boto3.Session,
) -> None:
    image = image_of_a_bake(session)
    flow.mark_proven(session, image)
    ec2: Any = session.client("ec2")
    described = ec2.describe_images(ImageIds=[image])["Images"][0]
    snapshot = described["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    expected = {tags.BAKE_ID: "bake-1", tags.STATE: "proven"}
    assert tags.as_mapping(described["Tags"]) == expected
    assert tags.as_mapping(ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"]) == expected


def test_a_bake_that_fails_takes_its_image_along(session: boto3.Session) -> None:
    said: list[str] = []
    with pytest.raises(BakeError, match="proof"), flow._leaving_nothing_behind(session, "bake-1", said.append):
        image = image_of_a_bake(session)
        raise BakeError("the proof could not be held")
    ec2: Any = session.client("ec2")
    assert ec2.describe_images(Owners=["self"])["Images"] == []
    assert f"removed image {image}: bake bake-1 ended without a proven image" in said


def test_a_proven_image_survives_the_end_of_its_bake(session: boto3.Session) -> None:
    with flow._leaving_nothing_behind(session, "bake-1", print):
        image = image_of_a_bake(session)
        flow.mark_proven(session, image)
    ec2: Any = session.client("ec2")
    assert [one["ImageId"] for one in ec2.describe_images(Owners=["self"])["Images"]] == [image]
