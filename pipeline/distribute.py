"""A proven image in one more region: in, the image and how it should stand there; out, its id, launchable.

What is there already is used: a copy is found by the tags it was born with, so a run that was stopped anywhere is
continued by the next one. A copy has an expiry until everything about it is as it should be, and a sweep takes what
nobody continued.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import boto3

from pipeline import tags
from pipeline.aws_errors import AWS_FAILURES, aws_errors, error_code, is_denied
from pipeline.catalog import Sharing
from pipeline.clock import Clock
from pipeline.errors import CloudError, PolicyRefusal
from pipeline.wait import poll

VARIANT: Final = "Variant"
PROVEN: Final = "proven"
COPIED: Final = "copied"
CONSISTENT_ANSWERS: Final = 3
"""EC2 is eventually consistent: one good answer may be followed by a bad one from another of its servers."""
HALF_MADE_FOR: Final = timedelta(days=1)

_BROKEN: Final = frozenset({"failed", "error", "invalid"})


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds: until a copy is launchable, until a parameter says what was written, and between two looks."""

    copy: float
    parameter: float
    every: float


AWS_PATIENCE: Final = Patience(copy=3600, parameter=120, every=15)
LOCAL_PATIENCE: Final = Patience(copy=120, parameter=10, every=1)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The image that was proven, as EC2 describes it in the region of its bake."""

    image_id: str
    region: str
    name: str
    description: str
    bake_id: str
    variant: str
    imds_v2: bool
    deprecation: datetime | None
    tags: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An image as it stands in a region, with everything that promotion cares for."""

    image_id: str
    state: str
    public: bool
    imds_v2: bool
    protected: bool
    deprecation: datetime | None
    tags: dict[str, str]
    snapshots: tuple[str, ...]
    shared_with: frozenset[str]
    snapshots_shared_with: frozenset[str]


def source_of(session: boto3.Session, image_id: str, *, bake_id: str, variant: str) -> Source:
    """The proven image of a bake. Raises PolicyRefusal when it is not what the record says, CloudError else."""
    where = f"{image_id} in {session.region_name}"
    with aws_errors("the proven image could not be looked up", where=where, remedy="allow ec2:DescribeImages"):
        ec2: Any = session.client("ec2")
        try:
            images = ec2.describe_images(ImageIds=[image_id], Owners=["self"])["Images"]
        except AWS_FAILURES as error:
            if not error_code(error).startswith("InvalidAMIID"):
                raise
            images = []
    found = tags.as_mapping(images[0].get("Tags", [])) if images else {}
    wrong = {
        "state": ("available", images[0]["State"] if images else "there is no such image"),
        tags.STATE: (PROVEN, found.get(tags.STATE, "no such tag")),
        tags.BAKE_ID: (bake_id, found.get(tags.BAKE_ID, "no such tag")),
        VARIANT: (variant, found.get(VARIANT, "no such tag")),
    }
    wrong = {what: pair for what, pair in wrong.items() if pair[0] != pair[1]}
    if wrong:
        raise PolicyRefusal(
            f"the image of bake {bake_id} is not the proven image that its record names",
            expected="\n".join(f"{what}: {expected}" for what, (expected, _) in wrong.items()),
            found="\n".join(f"{what}: {is_now}" for what, (_, is_now) in wrong.items()),
            where=where,
            remedy="promote another bake with `--to`, or bake again: `./run build-image`",
        )
    image = images[0]
    return Source(
        image_id=image_id,
        region=session.region_name,
        name=image["Name"],
        description=image.get("Description", ""),
        bake_id=bake_id,
        variant=variant,
        imds_v2=image.get("ImdsSupport") == "v2.0",
        deprecation=_time(image.get("DeprecationTime")),
        tags={key: value for key, value in found.items() if not key.startswith("aws:")},  # nobody may set those
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def images_of(session: boto3.Session, bake_id: str, variant: str) -> list[dict[str, Any]]:
    """Images of a bake in the session's region, disabled ones too, oldest first. botocore's errors go through."""
    ec2: Any = session.client("ec2")
    filters = [
        {"Name": f"tag:{tags.BAKE_ID}", "Values": [bake_id]},
        {"Name": f"tag:{VARIANT}", "Values": [variant]},
    ]
    pages = ec2.get_paginator("describe_images").paginate(Owners=["self"], Filters=filters, IncludeDisabled=True)
    return sorted(pages.search("Images[]"), key=lambda image: str(image["CreationDate"]))


def standing(session: boto3.Session, image: dict[str, Any]) -> Standing:
    """An image that EC2 has described, with whom it and its snapshots are shared. botocore's errors go through."""
    ec2: Any = session.client("ec2")
    snapshots = snapshots_of(image)
    permissions = ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")
    volumes: list[frozenset[str]] = []
    for snapshot in snapshots:
        answer = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
        volumes.append(frozenset(value for one in answer["CreateVolumePermissions"] for value in one.values()))
    return Standing(
        image_id=image["ImageId"],
        state=image["State"],
        public=bool(image.get("Public")) or any("all" in one for one in volumes),
        imds_v2=image.get("ImdsSupport") == "v2.0",
        protected=image.get("DeregistrationProtection", "disabled") != "disabled",
        deprecation=_time(image.get("DeprecationTime")),
        tags=tags.as_mapping(image.get("Tags", [])),
        snapshots=snapshots,
        shared_with=frozenset(value for one in permissions["LaunchPermissions"] for value in one.values()),
        snapshots_shared_with=frozenset.intersection(*volumes) if volumes else frozenset(),
    )


def snapshots_of(image: dict[str, Any]) -> tuple[str, ...]:
    """The snapshots behind an image that EC2 has described."""
    return tuple(
        mapping["Ebs"]["SnapshotId"]
        for mapping in image.get("BlockDeviceMappings", [])
        if "SnapshotId" in mapping.get("Ebs", {})
    )


def make_ready(
    session: boto3.Session,
    source: Source,
    *,
    kms_key_id: str | None,
    sharing: Sharing,
    clock: Clock,
    patience: Patience,
    say: Callable[[str], None],
) -> str:
    """Let the image stand in the session's region as it should, and return its id there.

    Raises CloudError when AWS refuses or the copy does not become launchable, PolicyRefusal when it is public.
    """
    region = session.region_name
    with aws_errors(
        f"the image of bake {source.bake_id} could not be made ready",
        where=f"EC2 in {region}",
        remedy="allow the calls of pipeline/policies/promote.yaml there; a key must let EC2 use it; then run the "
        "command again",
    ):
        image_id = source.image_id if region == source.region else _found_or_copied(session, source, kms_key_id, clock)
        say(f"{region}: {image_id}; waiting until it can be launched there")
        image = _wait_until_launchable(session, image_id, clock, patience)
        _put_right(session, standing(session, image), source, sharing, clock.now())
        say(f"{region}: {image_id} is ready")
        return image_id


def _found_or_copied(session: boto3.Session, source: Source, kms_key_id: str | None, clock: Clock) -> str:
    ec2: Any = session.client("ec2")
    broken = ""
    for image in images_of(session, source.bake_id, source.variant):
        if image["State"] == "disabled":
            raise PolicyRefusal(
                f"the image of bake {source.bake_id} was disabled in {session.region_name}",
                found=f"{image['ImageId']} is disabled",
                where=f"EC2 in {session.region_name}",
                remedy=f"enable it first: aws ec2 enable-image --image-id {image['ImageId']}",
            )
        if image["State"] not in _BROKEN:
            return str(image["ImageId"])
        broken = image["ImageId"]
        ec2.deregister_image(ImageId=broken, DeleteAssociatedSnapshots=True)
    expiry = {tags.STATE: COPIED, tags.EXPIRES_AT: tags.format_time(clock.now() + HALF_MADE_FOR)}
    encryption = {"KmsKeyId": kms_key_id} if kms_key_id else {}
    # With its token a call whose answer got lost is not a second copy; after a broken one it is another call.
    token = hashlib.sha256(f"{source.image_id} {session.region_name} {broken}".encode()).hexdigest()
    copied = ec2.copy_image(
        Name=source.name,
        Description=source.description,
        SourceImageId=source.image_id,
        SourceRegion=source.region,
        Encrypted=True,
        ClientToken=token,
        TagSpecifications=tags.specifications(["image", "snapshot"], {**source.tags, **expiry}),
        **encryption,
    )
    return str(copied["ImageId"])


def _wait_until_launchable(session: boto3.Session, image_id: str, clock: Clock, patience: Patience) -> dict[str, Any]:
    """Until several looks in a row, each with a client of its own, see image and snapshots complete."""
    seen: list[dict[str, Any]] = []

    def look() -> str:
        ec2: Any = session.client("ec2")
        try:
            image = ec2.describe_images(ImageIds=[image_id])["Images"][0]
            asked = ec2.describe_snapshots(SnapshotIds=list(snapshots_of(image)))
        except IndexError:
            verdict = "not there"
        except AWS_FAILURES as error:
            if is_denied(error):
                raise
            verdict = error_code(error) or str(error)
        else:
            states = {one["State"] for one in asked["Snapshots"]} - {"completed"}
            verdict = str(image["State"]) if image["State"] != "available" or not states else f"snapshot {min(states)}"
        seen[:] = [*seen, image] if verdict == "available" else []
        return verdict

    verdict = poll(
        look,
        lambda state: state in _BROKEN or len(seen) >= CONSISTENT_ANSWERS,
        clock=clock,
        timeout_seconds=patience.copy,
        every_seconds=patience.every,
    )
    if len(seen) < CONSISTENT_ANSWERS:
        raise CloudError(
            f"the image {image_id} cannot be launched",
            expected=f"state available, {CONSISTENT_ANSWERS} times in a row, within {patience.copy / 60:.0f} min",
            found=verdict,
            where=f"EC2 in {session.region_name}",
            remedy="a copy that failed is made anew by the next run; look whether EC2 may use the keys of both regions"
            if verdict in _BROKEN
            else "run the command again: it waits on for the same copy",
        )
    return seen[-1]


def wanted_snapshot_shares(sharing: Sharing) -> frozenset[str]:
    """Accounts that may use the snapshots. EC2 shares snapshots with accounts only; to launch a shared image no
    permission on its snapshots is needed, to copy it to an account's own is."""
    return frozenset(sharing.accounts)


def wanted_shares(sharing: Sharing) -> frozenset[str]:
    """Everybody who may launch the image: account ids and ARNs."""
    return frozenset((*sharing.accounts, *sharing.organizations, *sharing.organizational_units))


def _put_right(session: boto3.Session, now_is: Standing, source: Source, sharing: Sharing, now: datetime) -> None:
    ec2: Any = session.client("ec2")
    image_id = now_is.image_id
    if now_is.public or "all" in now_is.shared_with:
        raise PolicyRefusal(
            f"the image {image_id} is public",
            expected="images with AWS's agent in them are shared by name only",
            where=f"EC2 in {session.region_name}",
            remedy="take the permission `all` off the image and its snapshots, and turn block public access on",
        )
    if source.imds_v2 and not now_is.imds_v2:
        ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
    if missing := sorted(wanted_shares(sharing) - now_is.shared_with):
        add = [{_kind_of(one): one} for one in missing]
        ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": add})
    if missing := sorted(wanted_snapshot_shares(sharing) - now_is.snapshots_shared_with):
        for snapshot in now_is.snapshots:
            add = [{"UserId": one} for one in missing]
            ec2.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission={"Add": add})
    if source.deprecation and source.deprecation > now and now_is.deprecation is None:
        ec2.enable_image_deprecation(ImageId=image_id, DeprecateAt=source.deprecation)
    if not now_is.protected:
        ec2.enable_image_deregistration_protection(ImageId=image_id)
    resources = [image_id, *now_is.snapshots]
    if now_is.tags.get(tags.STATE) != PROVEN:
        ec2.create_tags(Resources=resources, Tags=tags.as_list({tags.STATE: PROVEN}))
    if tags.EXPIRES_AT in now_is.tags:
        ec2.delete_tags(Resources=resources, Tags=[{"Key": tags.EXPIRES_AT}])


def _kind_of(share: str) -> str:
    if ":organization/" in share:
        return "OrganizationArn"
    return "OrganizationalUnitArn" if ":ou/" in share else "UserId"
