"""Sweep: in, what stands in a region; out, what of it outlived its bake, and why; then its removal.

A bake undoes its own work. This is for what it could not: SIGKILL, power loss, a lost network. Everything a bake
makes carries its id and an expiry, so the decision needs nothing but tags and the time of day; an image that was
proven has no expiry and can never be meant. The decision is pure, and is not taken at all on a partial inventory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from pipeline import tags
from pipeline.errors import CloudError

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
    """What came of removing a leftover: `error` is empty when it is gone."""

    leftover: Leftover
    error: str = ""


def overdue(inventory: Sequence[Resource], now: datetime) -> list[Leftover]:
    """What has outlived its expiry tag, in the order in which it can be removed."""
    found = []
    for resource in inventory:
        bake_id, expiry = resource.tags.get(tags.BAKE_ID), resource.tags.get(tags.EXPIRES_AT)
        if not bake_id or not expiry:
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


def inventory(session: boto3.Session) -> list[Resource]:
    """Everything in the session's region (and IAM) that carries a bake id.

    Raises CloudError when any one question fails: deciding on half an answer would be worse than not deciding.
    """
    try:
        return [*_ec2_resources(session), *_iam_resources(session), *_clusters(session)]
    except (ClientError, BotoCoreError) as error:
        raise CloudError(
            "the inventory for a sweep is not complete, so nothing was removed",
            expected="an answer to every Describe and List call",
            found=str(error),
            where=f"account of the caller, region {session.region_name}",
            remedy="check credentials and permissions, then run `./run sweep` again",
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Ec2Kind:
    """How EC2 lists one kind: operation, where the answer lies (JMESPath), and what else to ask or leave out."""

    kind: Kind
    operation: str
    answer: str
    id: str
    ask: dict[str, list[str]] = field(default_factory=dict)
    stands: Callable[[dict[str, Any]], bool] = lambda _: True


_EC2_KINDS: Final = (
    _Ec2Kind(
        kind="instance",
        operation="describe_instances",
        answer="Reservations[].Instances[]",
        id="InstanceId",
        stands=lambda one: one["State"]["Name"] not in ("terminated", "shutting-down"),
    ),
    _Ec2Kind(
        kind="image",
        operation="describe_images",
        answer="Images[]",
        id="ImageId",
        ask={"Owners": ["self"]},
    ),
    _Ec2Kind(
        kind="snapshot",
        operation="describe_snapshots",
        answer="Snapshots[]",
        id="SnapshotId",
        ask={"OwnerIds": ["self"]},
    ),
    _Ec2Kind(
        kind="volume",
        operation="describe_volumes",
        answer="Volumes[]",
        id="VolumeId",
        stands=lambda one: one["State"] == "available",  # one in use goes with its instance
    ),
    _Ec2Kind(kind="security group", operation="describe_security_groups", answer="SecurityGroups[]", id="GroupId"),
)


def _ec2_resources(session: boto3.Session) -> Iterator[Resource]:
    ec2: Any = session.client("ec2")
    for kind in _EC2_KINDS:
        asked = {"Filters": [{"Name": "tag-key", "Values": [tags.BAKE_ID]}], **kind.ask}
        for one in ec2.get_paginator(kind.operation).paginate(**asked).search(kind.answer):
            if kind.stands(one):
                yield Resource(kind=kind.kind, id=one[kind.id], tags=tags.as_mapping(one["Tags"]))
    for key in ec2.describe_key_pairs(Filters=[{"Name": "tag-key", "Values": [tags.BAKE_ID]}])["KeyPairs"]:
        yield Resource(kind="key pair", id=key["KeyName"], tags=tags.as_mapping(key["Tags"]))


def _iam_resources(session: boto3.Session) -> Iterator[Resource]:
    """Roles and profiles by the names that bakes use: IAM cannot filter by tag, and an account may hold thousands."""
    iam: Any = session.client("iam")
    for profile in iam.get_paginator("list_instance_profiles").paginate().search("InstanceProfiles[]"):
        name = profile["InstanceProfileName"]
        if name.startswith(_IAM_PREFIXES):
            whole = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
            yield Resource(kind="instance profile", id=name, tags=tags.as_mapping(whole.get("Tags", [])))
    for role in iam.get_paginator("list_roles").paginate().search("Roles[]"):
        name = role["RoleName"]
        if name.startswith(_IAM_PREFIXES):
            answer = iam.list_role_tags(RoleName=name)
            yield Resource(kind="role", id=name, tags=tags.as_mapping(answer["Tags"]))


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
    """Remove leftovers in their order, saying what and why; one that resists does not stop the others."""
    removals = []
    for leftover in leftovers:
        resource = leftover.resource
        try:
            _remove_one(session, resource)
        except (ClientError, BotoCoreError) as error:
            removals.append(Removal(leftover=leftover, error=str(error)))
            say(f"could not remove {resource.kind} {resource.id}: {error}")
        else:
            removals.append(Removal(leftover=leftover))
            say(f"removed {resource.kind} {resource.id}: {leftover.reason}")
    return removals


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


def delete_instance_profile(session: boto3.Session, name: str) -> None:
    """Delete an instance profile with whatever role is in it; the role stays."""
    iam = session.client("iam")
    for role in iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role["RoleName"])
    iam.delete_instance_profile(InstanceProfileName=name)


def delete_role(session: boto3.Session, name: str) -> None:
    """Delete a role with its inline policies; attached ones are detached first."""
    iam = session.client("iam")
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
    iam.delete_role(RoleName=name)


def delete_cluster(session: boto3.Session, arn: str) -> None:
    """Delete a cluster, its container instances deregistered first, whether they still answer or not."""
    ecs: Any = session.client("ecs")
    for page in ecs.get_paginator("list_container_instances").paginate(cluster=arn):
        for member in page["containerInstanceArns"]:
            ecs.deregister_container_instance(cluster=arn, containerInstance=member, force=True)
    ecs.delete_cluster(cluster=arn)
