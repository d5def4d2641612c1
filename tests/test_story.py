"""The whole life of images on this machine, by the commands that a person types: two real bakes, on two bases.

The second base is what the first bake made: a release of another day, with another id, that has its updates in it
already. Only time is played: retiring takes months, so its clock is set ahead.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import standing, tags
from pipeline.clock import SystemClock
from pipeline.rehearsal import stand_in
from pipeline.rehearsal.cloud import LocalCloud
from tests.end_to_end import FLAVOUR, REGION, VARIANT, OwnCloud, Proven, wait_for
from tests.policy import refusals, statements_of

pytestmark = pytest.mark.slow

OTHERS = ("eu-west-1", "us-east-1")
REGIONS = ("--regions", ",".join(OTHERS))
ID = f"{VARIANT}/{FLAVOUR}"
NAME = f"/ovenproof/images/{ID}"


@contextmanager
def allowed_by(policy: str, cloud: OwnCloud) -> Iterator[None]:
    """What is called meanwhile, that policy allows."""
    mark = cloud.cloud.calls().so_far
    yield
    assert "\n".join(refusals(statements_of(policy), cloud.cloud.calls(mark).calls)) == ""


def said(cloud: OwnCloud, *words: str, exit_code: int = 0) -> str:
    """What a command said, that needed no more than its policy allows."""
    bakes = words[0] in {"build-image", "plan", "sweep"}
    with allowed_by("bake-caller" if bakes else "promote-caller", cloud):
        ended = cloud.run(*words)
    assert ended.exit_code == exit_code, ended.output
    return ended.output


def ec2_of(cloud: OwnCloud, region: str) -> Any:
    return cloud.cloud.session(region).client("ec2")


def own_images(cloud: OwnCloud, region: str = REGION) -> dict[str, str]:
    """The images in the account, each with its state."""
    images = ec2_of(cloud, region).describe_images(Owners=["self"], IncludeDisabled=True)["Images"]
    return {image["ImageId"]: image["State"] for image in images}


@pytest.fixture
def after_the_bake(own_cloud: OwnCloud, proven: Proven) -> Iterator[OwnCloud]:
    """The cloud with the one proven image; at the end as it was before."""
    lock = next((own_cloud.root / "locks").glob("*.json"))
    before, bakes = lock.read_text(), own_cloud.bakes()
    yield own_cloud
    lock.write_text(before)
    for folder in set(own_cloud.bakes()) - set(bakes):
        shutil.rmtree(folder)
    (proven.folder / "promotion.md").unlink(missing_ok=True)
    for region in (REGION, *OTHERS):
        ssm: Any = own_cloud.cloud.session(region).client("ssm")
        ssm.delete_parameters(Names=[NAME])
        ec2 = ec2_of(own_cloud, region)
        for image in own_images(own_cloud, region):
            ec2.disable_image_deregistration_protection(ImageId=image)
            if image != proven.image_id:
                ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    own_cloud.cloud.stop()
    shutil.rmtree(own_cloud.root / "bases")  # the next command registers the first base again, and finds no newer one
    LocalCloud.ensure(own_cloud.root)


def a_newer_base_appears(cloud: OwnCloud, disk: Path) -> tuple[str, str]:
    """AWS releases a base, and moves the parameter to it. The names of the one before and of the new one."""
    [old] = [base for base in cloud.cloud.status().bases if base.line == "al2"]
    new = old.model_copy(update={"disk": disk, "digest": "newer", "made": old.made + timedelta(days=1)})
    LocalCloud.ensure(cloud.root, bases=[new])
    return stand_in.image_name(old), stand_in.image_name(new)


def copies_of(cloud: OwnCloud, image_id: str, bakes: list[str]) -> list[str]:
    """Images as bakes of long ago would have left them, oldest first."""
    ec2 = ec2_of(cloud, REGION)
    tagged = tags.as_mapping(ec2.describe_images(ImageIds=[image_id])["Images"][0]["Tags"])
    made: list[str] = []
    for bake in bakes:
        copied = ec2.copy_image(
            Name=f"ovenproof-{bake}",
            SourceImageId=image_id,
            SourceRegion=REGION,
            TagSpecifications=tags.specifications(["image", "snapshot"], {**tagged, tags.BAKE_ID: bake}),
        )["ImageId"]
        made.append(str(copied))
        wait_for(lambda: own_images(cloud)[made[-1]] == "available", "a copy")
    return made


class Ahead(SystemClock):
    """The machine's clock, set ahead by `days`."""

    days = 0

    def now(self) -> datetime:
        return super().now() + timedelta(days=self.days)


def actions_of(retired: str) -> dict[str, str]:
    """What `retire` says of each image in the bake's region: the action and its reason."""
    return dict(re.findall(rf"^{REGION}  {ID}  (ami-[0-9a-f]+)  (.*)$", retired, re.MULTILINE))


def test_from_a_bake_to_three_regions_and_back_again(
    after_the_bake: OwnCloud, proven: Proven, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud, first = after_the_bake, proven.record.bake_id

    promoted = said(cloud, "promote", *REGIONS)
    assert f"promoted {ID}, bake {first}: {NAME}" in promoted
    assert f"  {REGION}: {proven.image_id}" in promoted
    for region in OTHERS:
        assert re.search(rf"  {region}: ami-[0-9a-f]+$", promoted, re.MULTILINE)

    status = said(cloud, "status", *REGIONS)
    assert status.count(f"promoted 0 days ago, bake {first}") == 3
    assert "agent 1.17.1" in status
    assert "the newest" in status
    assert said(cloud, "validate-published", *REGIONS).count("  correct  ") == 3
    assert re.search(rf"^{ID} +up to date", said(cloud, "plan"), re.MULTILINE)

    old, new = a_newer_base_appears(cloud, cloud.root / "images" / proven.image_id / "disk.qcow2")
    assert f"base {old}, 1 release and 1 days behind" in said(cloud, "status", *REGIONS)
    because = rf"base: ami-\w+ \({re.escape(old)}\) -> ami-\w+ \({re.escape(new)}\)"
    assert re.search(rf"^{ID} +bake +{because}$", said(cloud, "plan"), re.MULTILINE)

    baked = said(cloud, "build-image")
    assert re.search(rf"baking {ID} because: {because}", baked)
    bad = re.findall(rf"{ID} is proven: (ami-\w+)", baked)[0]
    second = cloud.bakes()[-1].name
    assert re.search(rf"^{ID} +up to date", said(cloud, "plan"), re.MULTILINE)

    again = said(cloud, "promote", *REGIONS)
    assert f"  {REGION}: {bad}, before {proven.image_id}" in again
    notice = (cloud.bakes()[-1] / "promotion.md").read_text()
    assert f"What changed since {first}" in notice
    assert new in notice

    with cloud.instance_of(bad):
        back = said(cloud, "promote", "--to", "previous", *REGIONS)
        assert f"back to {ID}, bake {first}: {NAME}" in back
        assert f"  {REGION}: still on {bad}: 1 in no group" in back
        assert f"in no group: 1 on {bad} (not the promoted one)" in said(cloud, "status", *REGIONS)

        retired = said(cloud, "retire", *REGIONS)
        assert actions_of(retired)[proven.image_id].startswith(f"keep: {NAME} names it")
        assert actions_of(retired)[bad].startswith("keep: hosts run it: 1 in no group")
        assert "would " not in retired

        unused, *newest = copies_of(cloud, proven.image_id, [f"20250{month}01T000000Z-00{month}0" for month in "1234"])
        retire_step_by_step(cloud, monkeypatch, unused, [proven.image_id, bad, *newest])

    ec2 = ec2_of(cloud, REGION)
    late = tags.format_time(SystemClock().now() - timedelta(hours=1))
    left = {tags.BAKE_ID: second, tags.EXPIRES_AT: late}
    ec2.create_key_pair(KeyName="left-behind", TagSpecifications=tags.specifications(["key-pair"], left))
    assert "removed 1 leftovers" in said(cloud, "sweep")
    again = said(cloud, "promote", "--to", "previous", *REGIONS, exit_code=2)
    assert "there is no one image of" in again


def retire_step_by_step(cloud: OwnCloud, monkeypatch: pytest.MonkeyPatch, unused: str, kept: list[str]) -> None:
    """`./run retire --yes` as months pass: one image goes, step by step; those that are used or new stay."""
    monkeypatch.setenv("OVENPROOF_LOCAL", str(cloud.root))
    monkeypatch.setattr(standing, "SystemClock", Ahead)
    [snapshot] = [
        mapping["Ebs"]["SnapshotId"]
        for mapping in ec2_of(cloud, REGION).describe_images(ImageIds=[unused])["Images"][0]["BlockDeviceMappings"]
    ]
    for days, action, state in (
        (50, "deprecate: nothing uses it, last launched never", "available"),
        (60, "keep: deprecated since", "available"),
        (85, "disable: deprecated since", "disabled"),
        (100, "keep: disabled since", "disabled"),
        (120, "deregister: disabled since", ""),
    ):
        monkeypatch.setattr(Ahead, "days", days)
        with allowed_by("promote-caller", cloud):
            done = actions_of(standing.retire(on="local", region=REGION, regions=REGION, yes=True))
        assert done[unused].startswith(action), days
        assert own_images(cloud).get(unused, "") == state, days
        assert {done[image].partition(":")[0] for image in kept} == {"keep"}, done
    snapshots = ec2_of(cloud, REGION).describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert snapshot not in [one["SnapshotId"] for one in snapshots]
    assert [state for image, state in own_images(cloud).items() if image in kept] == ["available"] * len(kept)
