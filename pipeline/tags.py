"""The tags that tie every resource of a bake to it, and the one rule that reads them.

`images/ecs-node.pkr.hcl.j2` sets the same keys on what Packer makes; a test holds the two together.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

BAKE_ID: Final = "BakeId"
OWNER: Final = "Owner"
EXPIRES_AT: Final = "ExpiresAt"
STATE: Final = "OvenproofState"
"""On an image: `baked` until its proof, then `proven`. Only a proven image is without an expiry."""
EXCLUDE_FROM_MANAGED_AGENT: Final = "GuardDutyManaged"
"""`false` on builders only: AWS's own installer of the agent keeps away from them."""


_BAKE_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}(-bare)?")


def new_bake_id(started: datetime) -> str:
    """The id of a bake that starts now: sortable by time, and another one for two that start in the same second."""
    return f"{started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def bare(bake_id: str) -> str:
    """The id of the bench's bare build beside a bake."""
    return f"{bake_id}-bare"


def is_bake_id(text: str) -> bool:
    """Whether an id is one of ours: other tools tag with `BakeId` too."""
    return _BAKE_ID.fullmatch(text) is not None


class Tag(TypedDict):
    """A tag as EC2, IAM and SSM write it."""

    Key: str
    Value: str


def as_list(tags: Mapping[str, str]) -> list[Any]:
    """The shape of EC2, IAM and SSM: a list of Key and Value (botocore's stubs have a type for each service)."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def specifications(kinds: Iterable[str], tags: Mapping[str, str]) -> list[Any]:
    """EC2's `TagSpecifications`: the same tags for each kind of resource that one call creates."""
    return [{"ResourceType": kind, "Tags": as_list(tags)} for kind in kinds]


def as_mapping(tags: Iterable[Tag]) -> dict[str, str]:
    """The inverse of `as_list`."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def format_time(moment: datetime) -> str:
    """A moment as it stands in a tag: UTC, to the second, `2026-11-23T22:57:35Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """A moment read from a tag. Raises ValueError when the text is not one."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
