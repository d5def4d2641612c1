"""Sweep: in, what stands in a region; out, what of it outlived its bake, and why; then its removal.

A bake undoes its own work. This is for what it could not: SIGKILL, power loss, a lost network. Everything a bake
makes carries its id and an expiry, so the decision needs nothing but tags and the time of day; an image that was
proven has no expiry and can never be meant. The decision is pure, and is not taken at all on a partial inventory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import boto3
from botocore.exceptions import ClientError

from pipeline import tags
from pipeline.aws_errors import AWS_FAILURES, aws_errors, is_denied, is_gone

Kind = Literal[
    "instance", "image", "snapshot", "volume", "security group", "key pair", "instance profile", "role", "cluster"
]

PROOF_NAME: Final = "ovenproof-proof"
_IAM_PREFIXES: Final = ("packer-", f"{PROOF_NAME}-")

REMOVAL_ORDER: Final[tuple[Kind, ...]] = (
    "instance",
    "image",
    "snapshot",
    "volume",
    "security group",
    "key pair",
    "instance profile",
    "role",
    "cluster",
)
"""Users before what they use: a group cannot go before its instances, a snapshot before its image."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Something that stands in the account, with the tags that tie it to a bake."""

    kind: Kind
    id: str
    tags: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A resource that should not be there any more, with the reason in words."""

    resource: Resource
    reason: str


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What came of removing a leftover: it is gone unless `error` says why not, or `kept` why it was let be."""

    leftover: Leftover
    error: str = ""
    kept: str = ""


def overdue(inventory: Sequence[Resource], now: datetime) -> list[Leftover]:
    """What has outlived its expiry tag, in the order in which it can be removed."""
    found = []
    for resource in inventory:
        bake_id, expiry = resource.tags.get(tags.BAKE_ID), resource.tags.get(tags.EXPIRES_AT)
        if not bake_id or not expiry or not tags.is_bake_id(bake_id):
            continue
        try:
            expires_at = tags.parse_time(expiry)
        except ValueError:
            continue  # not written by us: nobody's guess decides over somebody's resource
        if expires_at < now:
            late = int((now - expires_at).total_seconds() // 60)
            found.append(Leftover(resource=resource, reason=f"bake {bake_id} expired at {expiry}, {late} min ago"))
    return _in_order(found)


def of_bake(inventory: Sequence[Resource], bake_id: str) -> list[Leftover]:
    """What one bake, known to have ended without a proven image, left behind."""
    return _in_order(
        Leftover(resource=resource, reason=f"bake {bake_id} ended without a proven image")
        for resource in inventory
        if resource.tags.get(tags.BAKE_ID) == bake_id and tags.EXPIRES_AT in resource.tags
    )


def _in_order(leftovers: Sequence[Leftover] | Iterator[Leftover]) -> list[Leftover]:
    return sorted(leftovers, key=lambda leftover: (REMOVAL_ORDER.index(leftover.resource.kind), leftover.resource.id))


def inventory(session: boto3.Session, *, say: Callable[[str], None]) -> list[Resource]:
    """Everything in the session's region (and IAM) that carries a bake id; what may not be looked at is said.

    Raises CloudError when any one question fails: deciding on half an answer would be worse than not deciding.
    """
    with aws_errors(
        "the inventory for a sweep is not complete, so nothing was removed",
        expected="an answer to every Describe and List call",
        where=f"account of the caller, region {session.region_name}",
        remedy="check credentials and permissions, then run `./run sweep` again",
    ):
        return [*_ec2_resources(session), *_iam_resources(session, say), *_clusters(session)]


@dataclass(frozen=True, kw_only=True)
class _Ec2Kind:
    """How EC2 lists one kind: operation, where the answer lies (JMESPath), and what else to ask or leave out.

    `id_filter` asks for one resource; unlike an id, a filter that finds nothing is an empty answer and no error.
    """

    kind: Kind
    operation: str
    answer: str
    id: str
    id_filter: str
    ask: dict[str, list[str]] = field(default_factory=dict)
    stands: Callable[[dict[str, Any]], bool] = lambda _: True


_EC2_KINDS: Final = (
    _Ec2Kind(
        kind="instance",
        operation="describe_instances",
        answer="Reservations[].Instances[]",
        id="InstanceId",
        id_filter="instance-id",
        stands=lambda one: one["State"]["Name"] != "terminated",  # its group can only go after it
    ),
    _Ec2Kind(
        kind="image",
        operation="describe_images",
        answer="Images[]",
        id="ImageId",
        id_filter="image-id",
        ask={"Owners": ["self"]},
    ),
    _Ec2Kind(
        kind="snapshot",
        operation="describe_snapshots",
        answer="Snapshots[]",
        id="SnapshotId",
        id_filter="snapshot-id",
        ask={"OwnerIds": ["self"]},
    ),
    _Ec2Kind(
        kind="volume",
        operation="describe_volumes",
        answer="Volumes[]",
        id="VolumeId",
        id_filter="volume-id",
        stands=lambda one: one["State"] == "available",  # one in use goes with its instance
    ),
    _Ec2Kind(
        kind="security group",
        operation="describe_security_groups",
        answer="SecurityGroups[]",
        id="GroupId",
        id_filter="group-id",
    ),
)


def _ec2_resources(session: boto3.Session) -> Iterator[Resource]:
    for kind in _EC2_KINDS:
        yield from _standing(session, kind, filter_name="tag-key", value=tags.BAKE_ID)
    ec2: Any = session.client("ec2")
    for key in ec2.describe_key_pairs(Filters=[{"Name": "tag-key", "Values": [tags.BAKE_ID]}])["KeyPairs"]:
        yield Resource(kind="key pair", id=key["KeyName"], tags=tags.as_mapping(key["Tags"]))


def _standing(session: boto3.Session, kind: _Ec2Kind, *, filter_name: str, value: str) -> Iterator[Resource]:
    ec2: Any = session.client("ec2")
    asked = {"Filters": [{"Name": filter_name, "Values": [value]}], **kind.ask}
    for one in ec2.get_paginator(kind.operation).paginate(**asked).search(kind.answer):
        if kind.stands(one):
            yield Resource(kind=kind.kind, id=one[kind.id], tags=tags.as_mapping(one.get("Tags", [])))


def _iam_resources(session: boto3.Session, say: Callable[[str], None]) -> Iterator[Resource]:
    """Roles and profiles by the names that bakes use: IAM cannot filter by tag, and an account may hold thousands."""
    iam: Any = session.client("iam")

    def profile_tags(name: str) -> Any:
        return iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"].get("Tags", [])

    def role_tags(name: str) -> Any:
        return iam.list_role_tags(RoleName=name)["Tags"]

    kinds: tuple[tuple[Kind, str, str, Callable[[str], Any]], ...] = (
        ("instance profile", "list_instance_profiles", "InstanceProfiles[].InstanceProfileName", profile_tags),
        ("role", "list_roles", "Roles[].RoleName", role_tags),
    )
    for kind, operation, names, tags_of in kinds:
        for name in iam.get_paginator(operation).paginate().search(names):
            if not name.startswith(_IAM_PREFIXES):
                continue
            try:
                found = tags.as_mapping(tags_of(name))
            except ClientError as error:
                if is_gone(error):
                    continue  # somebody's Packer ended between the list and the question
                if is_denied(error):
                    say(f"left out the {kind} {name}, whose tags may not be read: {error}")
                    continue
                raise
            yield Resource(kind=kind, id=name, tags=found)


def _clusters(session: boto3.Session) -> Iterator[Resource]:
    ecs: Any = session.client("ecs")
    for page in ecs.get_paginator("list_clusters").paginate():
        ours = [arn for arn in page["clusterArns"] if f"/{PROOF_NAME}-" in arn]
        if not ours:
            continue
        for cluster in ecs.describe_clusters(clusters=ours, include=["TAGS"])["clusters"]:
            if cluster["status"] != "INACTIVE":
                found = {tag["key"]: tag["value"] for tag in cluster.get("tags", [])}
                yield Resource(kind="cluster", id=cluster["clusterArn"], tags=found)


def remove(session: boto3.Session, leftovers: Sequence[Leftover], *, say: Callable[[str], None]) -> list[Removal]:
    """Remove leftovers in their order, saying what and why; one that resists does not stop the others.

    An inventory may be minutes old: each is looked at again first, and kept if it changed its tags since.
    """
    removals = []
    for leftover in leftovers:
        removal = _removal(session, leftover)
        name = f"{leftover.resource.kind} {leftover.resource.id}"
        if removal.error:
            say(f"could not remove {name}: {removal.error}")
        elif removal.kept:
            say(f"kept {name}: {removal.kept}")
        else:
            say(f"removed {name}: {leftover.reason}")
        removals.append(removal)
    return removals


def _removal(session: boto3.Session, leftover: Leftover) -> Removal:
    try:
        kept = _changed_since(session, leftover.resource)
        if not kept:
            _remove_one(session, leftover.resource)
    except AWS_FAILURES as error:
        return Removal(leftover=leftover, error="" if is_gone(error) else str(error))
    return Removal(leftover=leftover, kept=kept)


def _changed_since(session: boto3.Session, resource: Resource) -> str:
    """How the tags that condemn a resource of EC2 differ now from those in the inventory; empty when they do not."""
    for kind in _EC2_KINDS:
        if kind.kind != resource.kind:
            continue
        for now in _standing(session, kind, filter_name=kind.id_filter, value=resource.id):
            for key in (tags.BAKE_ID, tags.EXPIRES_AT):
                before, after = resource.tags.get(key), now.tags.get(key)
                if before != after:
                    return f"its tag {key} was {before or 'absent'} and is {after or 'absent'} now"
    return ""


def take_back(session: boto3.Session, kind: Kind, identifier: str, *, say: Callable[[str], None]) -> None:
    """Remove something that the caller itself has just made; what AWS refuses to remove is said, not raised."""
    try:
        _remove_one(session, Resource(kind=kind, id=identifier, tags={}))
    except AWS_FAILURES as error:
        if not is_gone(error):
            say(f"could not remove {kind} {identifier}: {error}\n`./run sweep` removes it once its bake has expired")


def _remove_one(session: boto3.Session, resource: Resource) -> None:
    ec2: Any = session.client("ec2")
    match resource.kind:
        case "instance":
            ec2.terminate_instances(InstanceIds=[resource.id])
            waiting = {"Delay": 2, "MaxAttempts": 300}
            ec2.get_waiter("instance_terminated").wait(InstanceIds=[resource.id], WaiterConfig=waiting)
        case "image":
            ec2.deregister_image(ImageId=resource.id)
        case "snapshot":
            ec2.delete_snapshot(SnapshotId=resource.id)
        case "volume":
            ec2.delete_volume(VolumeId=resource.id)
        case "security group":
            ec2.delete_security_group(GroupId=resource.id)
        case "key pair":
            ec2.delete_key_pair(KeyName=resource.id)
        case "instance profile":
            delete_instance_profile(session, resource.id)
        case "role":
            delete_role(session, resource.id)
        case "cluster":
            delete_cluster(session, resource.id)


@contextmanager
def _may_be_gone() -> Iterator[None]:
    """For parts of a thing that somebody else may remove at the same time: the thing itself is still to go."""
    try:
        yield
    except ClientError as error:
        if not is_gone(error):
            raise


def delete_instance_profile(session: boto3.Session, name: str) -> None:
    """Delete an instance profile with whatever role is in it; the role stays."""
    iam = session.client("iam")
    for role in iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        with _may_be_gone():
            iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role["RoleName"])
    iam.delete_instance_profile(InstanceProfileName=name)


def delete_role(session: boto3.Session, name: str) -> None:
    """Delete a role with its inline policies; attached ones are detached first."""
    iam = session.client("iam")
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        with _may_be_gone():
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        with _may_be_gone():
            iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
    iam.delete_role(RoleName=name)


def delete_cluster(session: boto3.Session, arn: str) -> None:
    """Delete a cluster, its container instances deregistered first, whether they still answer or not."""
    ecs: Any = session.client("ecs")
    for page in ecs.get_paginator("list_container_instances").paginate(cluster=arn):
        for member in page["containerInstanceArns"]:
            ecs.deregister_container_instance(cluster=arn, containerInstance=member, force=True)
    ecs.delete_cluster(cluster=arn)
