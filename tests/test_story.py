"""The whole life of images on this machine, by the commands that a person types; the bake before it is a real one.

The second image is a copy of the first under another bake's name: what is shown here is what happens after a bake.
"""

import json
import re
import shutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from pipeline import tags
from pipeline.clock import SystemClock
from pipeline.record import read_record, write_record
from tests.end_to_end import FLAVOUR, REGION, VARIANT, OwnCloud, Proven, wait_for

pytestmark = pytest.mark.slow

OTHERS = ("eu-west-1", "us-east-1")
REGIONS = ("--regions", ",".join(OTHERS))
BAD = "20261124T000000Z-0bad"
NAME = f"/ovenproof/images/{VARIANT}/{FLAVOUR}"


def said(cloud: OwnCloud, *words: str, exit_code: int = 0) -> str:
    ended = cloud.run(*words)
    assert ended.exit_code == exit_code, ended.output
    return ended.output


def ec2_of(cloud: OwnCloud, region: str) -> Any:
    return cloud.cloud.session(region).client("ec2")


@pytest.fixture
def after_the_bake(own_cloud: OwnCloud, proven: Proven) -> Iterator[OwnCloud]:
    """The cloud with the one proven image; at the end as it was before."""
    lock = next((own_cloud.root / "locks").glob("*.json"))
    before = lock.read_text()
    yield own_cloud
    lock.write_text(before)
    shutil.rmtree(own_cloud.root / "records" / BAD, ignore_errors=True)
    (proven.folder / "promotion.md").unlink(missing_ok=True)
    for region in (REGION, *OTHERS):
        ssm: Any = own_cloud.cloud.session(region).client("ssm")
        ssm.delete_parameters(Names=[NAME])
        ec2 = ec2_of(own_cloud, region)
        for image in ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]:
            ec2.disable_image_deregistration_protection(ImageId=image["ImageId"])
            if image["ImageId"] != proven.image_id:
                ec2.deregister_image(ImageId=image["ImageId"], DeleteAssociatedSnapshots=True)


def bake_the_bad_one(cloud: OwnCloud, proven: Proven) -> str:
    """Another proven image with a record of its own."""
    ec2 = ec2_of(cloud, REGION)
    own = {
        **tags.as_mapping(ec2.describe_images(ImageIds=[proven.image_id])["Images"][0]["Tags"]),
        tags.BAKE_ID: BAD,
    }
    image_id = str(
        ec2.copy_image(
            Name=f"ovenproof-{BAD}",
            SourceImageId=proven.image_id,
            SourceRegion=REGION,
            TagSpecifications=tags.specifications(["image", "snapshot"], own),
        )["ImageId"]
    )
    wait_for(lambda: ec2.describe_images(ImageIds=[image_id])["Images"][0]["State"] == "available", "the second image")
    ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
    folder = cloud.root / "records" / BAD
    shutil.copytree(proven.folder, folder)
    later = read_record(folder / "record.json").model_copy(
        update={
            "bake_id": BAD,
            "images": {REGION: image_id},
            "ended_at": SystemClock().now(),
        }
    )
    write_record(later, folder)
    return image_id


def test_from_a_bake_to_three_regions_and_back_again(after_the_bake: OwnCloud, proven: Proven) -> None:
    cloud = after_the_bake
    first = proven.record.bake_id

    promoted = said(cloud, "promote", *REGIONS)
    assert f"promoted {VARIANT}/{FLAVOUR}, bake {first}: {NAME}" in promoted
    assert f"  {REGION}: {proven.image_id}" in promoted
    for region in OTHERS:
        assert re.search(rf"  {region}: ami-[0-9a-f]+$", promoted, re.MULTILINE)

    status = said(cloud, "status", *REGIONS)
    assert status.count(f"promoted 0 days ago, bake {first}") == 3
    assert "agent 1.17.1" in status
    assert said(cloud, "validate-published", *REGIONS).count("  correct  ") == 3

    lock = next((cloud.root / "locks").glob("*.json"))
    known = json.loads(lock.read_text())
    known["inputs"]["base_name"] = known["inputs"]["base_name"].replace("2.0.2", "2.0.1")
    lock.write_text(json.dumps(known))
    assert re.search(r"bake +base: ami-\w+ \(.*2\.0\.1.*\) -> ami-\w+ \(.*2\.0\.2.*\)", said(cloud, "plan"))

    bad = bake_the_bad_one(cloud, proven)
    second = said(cloud, "promote", *REGIONS)
    assert f"  {REGION}: {bad}, before {proven.image_id}" in second
    assert f"What changed since {first}" in (cloud.root / "records" / BAD / "promotion.md").read_text()

    with cloud.instance_of(bad):
        back = said(cloud, "promote", "--to", "previous", *REGIONS)
        assert f"back to {VARIANT}/{FLAVOUR}, bake {first}: {NAME}" in back
        assert f"  {REGION}: still on {bad}: 1 in no group" in back
        assert f"in no group: 1 on {bad} (not the promoted one)" in said(cloud, "status", *REGIONS)

        retired = said(cloud, "retire", *REGIONS)
        assert f"{proven.image_id}  keep: {NAME} names it" in retired
        assert f"{bad}  keep: hosts run it: 1 in no group" in retired
        assert "would " not in retired

    ec2 = ec2_of(cloud, REGION)
    late = tags.format_time(SystemClock().now() - timedelta(hours=1))
    left = {tags.BAKE_ID: BAD, tags.EXPIRES_AT: late}
    ec2.create_key_pair(KeyName="left-behind", TagSpecifications=tags.specifications(["key-pair"], left))
    assert "removed 1 leftovers" in said(cloud, "sweep")
    again = said(cloud, "promote", "--to", "previous", *REGIONS, exit_code=2)
    assert "there is no one image of" in again
