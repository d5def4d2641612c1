"""What is swept, why, and in which order."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from pipeline import sweep, tags
from pipeline.errors import CloudError
from pipeline.sweep import Kind, Leftover, Resource, of_bake, overdue
from tests.doubles import START

NOW = START
BAKE, OTHER_BAKE = "20261123T100000Z-cd18", "20261123T100000Z-beef"
POLICY = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ecs:Poll", "Resource": "*"}}'


def tagged(kind: Kind, identifier: str, *, bake: str = BAKE, minutes: int = -30) -> Resource:
    expires = tags.format_time(NOW + timedelta(minutes=minutes))
    return Resource(kind=kind, id=identifier, tags={tags.BAKE_ID: bake, tags.EXPIRES_AT: expires})


def test_what_outlived_its_expiry_goes_users_before_what_they_use() -> None:
    standing = [
        tagged("role", "packer-1"),
        tagged("security group", "sg-1"),
        tagged("snapshot", "snap-1"),
        tagged("image", "ami-1"),
        tagged("instance", "i-1"),
        tagged("instance", "i-2", minutes=30),
    ]
    assert [leftover.resource.id for leftover in overdue(standing, NOW)] == [
        "i-1",
        "ami-1",
        "snap-1",
        "sg-1",
        "packer-1",
    ]


def test_the_reason_names_the_bake_and_how_late_it_is() -> None:
    assert overdue([tagged("instance", "i-1")], NOW) == [
        Leftover(
            resource=tagged("instance", "i-1"),
            reason="bake 20261123T100000Z-cd18 expired at 2026-11-23T11:30:00Z, 30 min ago",
        )
    ]


@pytest.mark.parametrize(
    "found",
    [
        {tags.BAKE_ID: BAKE},  # a proven image has no expiry
        {tags.EXPIRES_AT: "2020-01-01T00:00:00Z"},  # somebody else's tag
        {tags.BAKE_ID: BAKE, tags.EXPIRES_AT: "yesterday"},  # not written by us
        {tags.BAKE_ID: "sourdough", tags.EXPIRES_AT: "2020-01-01T00:00:00Z"},  # another tool's bake
    ],
)
def test_what_is_never_swept(found: dict[str, str]) -> None:
    assert overdue([Resource(kind="image", id="ami-1", tags=found)], NOW) == []


def test_a_failed_bake_takes_back_its_own_things_before_their_expiry_and_nobody_elses() -> None:
    standing = [
        tagged("image", "ami-1", minutes=60),
        tagged("image", "ami-2", bake=OTHER_BAKE, minutes=60),
        Resource(kind="image", id="ami-3", tags={tags.BAKE_ID: BAKE}),
    ]
    assert [leftover.resource.id for leftover in of_bake(standing, BAKE)] == ["ami-1"]


@pytest.fixture
def session() -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session(region_name="eu-central-1")


def leave_things_behind(session: boto3.Session) -> None:
    late: dict[str, str] = {tags.BAKE_ID: BAKE, tags.EXPIRES_AT: "2026-11-23T11:00:00Z"}
    ec2: Any = session.client("ec2")
    iam: Any = session.client("iam")
    group = ec2.create_security_group(
        GroupName="packer_1", Description="-", TagSpecifications=tags.specifications(["security-group"], late)
    )["GroupId"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    ec2.run_instances(
        ImageId=image,
        MinCount=1,
        MaxCount=1,
        SecurityGroupIds=[group],
        TagSpecifications=tags.specifications(["instance"], late),
    )
    ec2.create_key_pair(KeyName="packer_1", TagSpecifications=tags.specifications(["key-pair"], late))
    iam.create_role(RoleName="packer-1", AssumeRolePolicyDocument="{}", Tags=tags.as_list(late))
    iam.put_role_policy(RoleName="packer-1", PolicyName="p", PolicyDocument=POLICY)
    iam.create_instance_profile(InstanceProfileName="packer-1", Tags=tags.as_list(late))
    iam.add_role_to_instance_profile(InstanceProfileName="packer-1", RoleName="packer-1")
    session.client("ecs").create_cluster(
        clusterName="ovenproof-proof-1", tags=[{"key": key, "value": value} for key, value in late.items()]
    )


def test_a_sweep_finds_and_removes_every_kind(session: boto3.Session) -> None:
    leave_things_behind(session)
    said: list[str] = []
    leftovers = overdue(sweep.inventory(session, say=print), NOW)
    assert [leftover.resource.kind for leftover in leftovers] == [
        "instance",
        "security group",
        "key pair",
        "instance profile",
        "role",
        "cluster",
    ]
    removals = sweep.remove(session, leftovers, say=said.append)
    assert [removal.error for removal in removals] == [""] * 6
    assert overdue(sweep.inventory(session, say=print), NOW) == []
    assert said[2] == (
        f"removed key pair {leftovers[2].resource.id}: bake {BAKE} expired at 2026-11-23T11:00:00Z, 60 min ago"
    )


def refused(code: str) -> Callable[..., None]:
    """A handler for botocore's event before a call, which then fails as if AWS had said no."""

    def refuse(model: Any, **_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, model.name)

    return refuse


def test_one_that_resists_does_not_stop_the_others(session: boto3.Session) -> None:
    leave_things_behind(session)
    session.events.register("before-call.ec2.DeleteSecurityGroup", refused("DependencyViolation"))
    removals = sweep.remove(session, overdue(sweep.inventory(session, say=print), NOW), say=lambda _: None)
    assert {removal.leftover.resource.kind: bool(removal.error) for removal in removals} == {
        "instance": False,
        "security group": True,
        "key pair": False,
        "instance profile": False,
        "role": False,
        "cluster": False,
    }


@pytest.mark.parametrize(
    "gone",
    [
        tagged("instance", "i-0123456789abcdef0"),
        tagged("image", "ami-0123456789abcdef0"),
        tagged("security group", "sg-0123456789abcdef0"),
        tagged("role", "packer-1"),
        tagged("instance profile", "packer-1"),
        tagged("cluster", "arn:aws:ecs:eu-central-1:123456789012:cluster/ovenproof-proof-1"),
    ],
    ids=lambda resource: str(resource.kind),
)
def test_what_somebody_else_removed_meanwhile_counts_as_removed(session: boto3.Session, gone: Resource) -> None:
    [removal] = sweep.remove(session, [Leftover(resource=gone, reason="-")], say=print)
    assert removal.error == ""


def test_an_image_that_was_proven_after_the_inventory_is_kept_with_its_snapshot(session: boto3.Session) -> None:
    late = {tags.BAKE_ID: BAKE, tags.EXPIRES_AT: "2026-11-23T11:00:00Z"}
    ec2: Any = session.client("ec2")
    volume = ec2.create_volume(Size=1, AvailabilityZone="eu-central-1a")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    disk = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}
    image = ec2.register_image(Name="baked", RootDeviceName="/dev/xvda", BlockDeviceMappings=[disk])["ImageId"]
    ec2.create_tags(Resources=[image, snapshot], Tags=tags.as_list(late))
    leftovers = overdue(sweep.inventory(session, say=print), NOW)
    ec2.delete_tags(Resources=[image, snapshot], Tags=[{"Key": tags.EXPIRES_AT}])

    said: list[str] = []
    removals = sweep.remove(session, leftovers, say=said.append)

    assert {removal.leftover.resource.id for removal in removals if removal.kept} == {image, snapshot}
    assert said[0] == f"kept image {image}: its tag ExpiresAt was 2026-11-23T11:00:00Z and is absent now"
    assert ec2.describe_images(ImageIds=[image])["Images"]


def test_somebody_elses_role_that_vanishes_or_is_closed_to_us_does_not_stop_the_sweep(session: boto3.Session) -> None:
    leave_things_behind(session)
    iam = session.client("iam")
    for name in ("packer-closed", "packer-vanished"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")

    def answer(model: Any, params: Any, **_: Any) -> None:
        if "packer-closed" in str(params["body"]):
            refused("AccessDenied")(model)
        if "packer-vanished" in str(params["body"]):
            refused("NoSuchEntity")(model)

    session.events.register("before-call.iam.ListRoleTags", answer)
    said: list[str] = []
    assert "packer-1" in [one.id for one in sweep.inventory(session, say=said.append) if one.kind == "role"]
    assert said == [
        "left out the role packer-closed, whose tags may not be read: "
        "An error occurred (AccessDenied) when calling the ListRoleTags operation: no"
    ]


def test_nothing_is_decided_on_a_partial_inventory(session: boto3.Session) -> None:
    session.events.register("before-call.iam.ListRoles", refused("AccessDenied"))
    with pytest.raises(CloudError) as error:
        sweep.inventory(session, say=print)
    assert str(error.value) == (
        "the inventory for a sweep is not complete, so nothing was removed\n"
        "  expected: an answer to every Describe and List call\n"
        "  found:    An error occurred (AccessDenied) when calling the ListRoles operation: no\n"
        "  where:    account of the caller, region eu-central-1\n"
        "  do:       check credentials and permissions, then run `./run sweep` again"
    )
