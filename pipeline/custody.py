"""What of a bake may stand: in, a bake's id or its image; out, an image nobody sweeps, or nothing at all.

Everything of a bake carries an expiry. Only a proof takes it away, and what still has one when the bake ends goes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3

from pipeline import sweep as sweeping
from pipeline import tags
from pipeline.aws_errors import aws_errors
from pipeline.errors import CloudError, Interrupted


def mark_proven(session: boto3.Session, image_id: str) -> None:
    """Take the builder's tags off an image and its snapshots: without an expiry the sweep cannot mean them.

    Raises CloudError when AWS refuses; the image then still has its expiry.
    """
    ec2 = session.client("ec2")
    with aws_errors(
        "the image proved itself, but could not be marked as proven",
        where=f"{image_id} in {session.region_name}",
        remedy="allow ec2:DescribeImages, ec2:CreateTags and ec2:DeleteTags on images and snapshots; bake again",
    ):
        _mark_proven(ec2, image_id)


def _mark_proven(ec2: Any, image_id: str) -> None:
    mappings = ec2.describe_images(ImageIds=[image_id])["Images"][0]["BlockDeviceMappings"]
    snapshots = [mapping["Ebs"]["SnapshotId"] for mapping in mappings if "SnapshotId" in mapping.get("Ebs", {})]
    ec2.create_tags(Resources=[image_id, *snapshots], Tags=tags.as_list({tags.STATE: "proven"}))
    no_longer = (tags.EXPIRES_AT, tags.EXCLUDE_FROM_MANAGED_AGENT)
    ec2.delete_tags(Resources=[image_id, *snapshots], Tags=[{"Key": key} for key in no_longer])


@contextmanager
def nothing_left_behind(session: boto3.Session, bake_id: str, say: Callable[[str], None]) -> Iterator[None]:
    """Whatever the block does, at its end nothing of the bake stands that still has an expiry.

    A removal that fails is said and left to `./run sweep`; it does not hide the error that came before it.
    """
    try:
        yield
    finally:
        try:
            _take_back(session, bake_id, say)
        except Interrupted:  # the first Ctrl-C came just now; there is no second one
            _take_back(session, bake_id, say)
            raise


def _take_back(session: boto3.Session, bake_id: str, say: Callable[[str], None]) -> None:
    try:
        leftovers = sweeping.of_bake(sweeping.inventory(session, say=say), bake_id)
    except CloudError as error:
        say(f"could not make sure that nothing of bake {bake_id} is left; run `./run sweep` later\n{error}")
    else:
        sweeping.remove(session, leftovers, say=say)
