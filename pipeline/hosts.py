"""Who runs which image: in, a region's instances; out, hosts by image and group.

A group is told from the tag that Auto Scaling sets on each of its instances, so one question answers it all.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import boto3

from pipeline import tags
from pipeline.aws_errors import aws_errors

GROUP_TAG: Final = "aws:autoscaling:groupName"
_STANDING: Final = ["pending", "running", "stopping", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Host:
    """An instance that is not terminated; `group` is empty for one that is in no Auto Scaling group."""

    instance_id: str
    image_id: str
    group: str


def hosts(session: boto3.Session, image_ids: Iterable[str] = ()) -> tuple[Host, ...]:
    """Every instance in the session's region, or those of some images. Raises CloudError when EC2 does not answer."""
    filters = [{"Name": "instance-state-name", "Values": _STANDING}]
    if wanted := sorted(image_ids):
        filters.append({"Name": "image-id", "Values": wanted})
    with aws_errors(
        "which hosts run what could not be looked up",
        where=f"EC2 in {session.region_name}",
        remedy="allow ec2:DescribeInstances there",
    ):
        ec2: Any = session.client("ec2")
        pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
        return tuple(
            Host(
                instance_id=one["InstanceId"],
                image_id=one["ImageId"],
                group=tags.as_mapping(one.get("Tags", [])).get(GROUP_TAG, ""),
            )
            for one in pages.search("Reservations[].Instances[]")
            if one is not None
        )


def by_group(found: Iterable[Host]) -> str:
    """Hosts in words: `3 in web, 1 in no group`."""
    counts = Counter(host.group for host in found)
    return ", ".join(f"{number} in {group or 'no group'}" for group, number in sorted(counts.items(), reverse=True))
