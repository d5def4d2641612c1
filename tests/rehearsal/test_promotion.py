"""One promotion with everything in it over the local cloud: what the account in memory says is so there too."""

from typing import Any

from pipeline import tags
from pipeline.promote import promote, roll_back
from pipeline.rehearsal.cloud import session_to
from tests.image_world import ImageWorld
from tests.rehearsal.conftest import Rehearsal
from tests.test_promote import WEST, image_tags, place, record_of, said, sharing


def test_promote_twice_and_back_in_the_local_cloud(rehearsal: Rehearsal) -> None:
    where = place(
        ImageWorld(clock=rehearsal.clock),
        sessions=lambda region: session_to(rehearsal.endpoint, region),
        catalog=sharing(),
        workers=2,
    )
    done = []
    for bake in ("b1", "b2"):
        specifications = tags.specifications(["image", "snapshot"], image_tags(bake))
        image_id = rehearsal.make_image(f"ecs-{bake}", TagSpecifications=specifications)
        rehearsal.ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
        done.append(promote(where, record_of(bake, image_id), hold=False))
    assert said(where) == {region: one.now for region, one in done[1].moved.items()}
    roll_back(where, "previous")
    assert said(where) == {region: one.now for region, one in done[0].moved.items()}
    west: Any = where.sessions(WEST).client("ec2")
    copied = west.describe_images(ImageIds=[said(where)[WEST]])["Images"][0]
    assert tags.as_mapping(copied["Tags"]) == image_tags("b1")
    assert (copied["ImdsSupport"], copied["DeregistrationProtection"]) == ("v2.0", "enabled-without-cooldown")
    asked = {"ImageId": copied["ImageId"], "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    assert west.run_instances(**asked)["Instances"][0]["ImageId"] == copied["ImageId"]
