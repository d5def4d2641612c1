"""Images of the local cloud after their bake: copied, shared, disabled, asked about; machines are fakes."""

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.rehearsal.cloud import session_to
from pipeline.rehearsal.copies import COPY_SECONDS
from pipeline.rehearsal.ssm import LocalSSMBackend
from tests.rehearsal.conftest import REGION, Rehearsal

OTHER = "eu-west-1"
PARAMETER = {"Name": "/ovenproof/x", "Type": "String", "DataType": "aws:ec2:image"}
TAGS = [{"Key": "BakeId", "Value": "b1"}]


def refusal(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def other(rehearsal: Rehearsal, service: str = "ec2") -> Any:
    session: Any = session_to(rehearsal.endpoint, OTHER)
    return session.client(service)


def end_builders(rehearsal: Rehearsal) -> None:
    """A stopped builder's disk is backed by the image that was made of it."""
    for guest in rehearsal.world.hosting.guests.values():
        rehearsal.ec2.terminate_instances(InstanceIds=[guest.id])


def copy(rehearsal: Rehearsal, image_id: str, **more: Any) -> str:
    asked = {"Name": "a-copy", "SourceImageId": image_id, "SourceRegion": REGION, **more}
    return str(other(rehearsal).copy_image(**asked)["ImageId"])


def ready(rehearsal: Rehearsal, image_id: str) -> Any:
    rehearsal.clock.sleep(COPY_SECONDS)
    return other(rehearsal).describe_images(ImageIds=[image_id])["Images"][0]


def test_a_copy_is_pending_first_and_then_an_image_of_its_own(rehearsal: Rehearsal) -> None:
    source = rehearsal.make_image()
    copied = copy(rehearsal, source, Encrypted=True, KmsKeyId="alias/there")
    assert other(rehearsal).describe_images(ImageIds=[copied])["Images"][0]["State"] == "pending"
    image = ready(rehearsal, copied)
    shown = {name: image[name] for name in ("State", "SourceImageId", "SourceImageRegion", "Name")}
    assert shown == {
        "State": "available",
        "SourceImageId": source,
        "SourceImageRegion": REGION,
        "Name": "a-copy",
    }
    ebs = image["BlockDeviceMappings"][0]["Ebs"]
    assert (ebs["Encrypted"], ebs["KmsKeyId"]) == (True, "alias/there")
    assert ebs["SnapshotId"] != rehearsal.image(source)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]


def test_a_snapshot_of_a_copy_is_pending_as_long_as_the_copy(rehearsal: Rehearsal) -> None:
    copied = copy(rehearsal, rehearsal.make_image())
    snapshots = other(rehearsal).describe_snapshots(Filters=[{"Name": "description", "Values": [f"*{copied}*"]}])[
        "Snapshots"
    ]
    assert [one["State"] for one in snapshots] == ["pending"]
    ready(rehearsal, copied)
    again = other(rehearsal).describe_snapshots(SnapshotIds=[snapshots[0]["SnapshotId"]])["Snapshots"]
    assert [one["State"] for one in again] == ["completed"]


def test_a_pending_copy_cannot_be_launched_and_a_ready_one_can(rehearsal: Rehearsal) -> None:
    copied = copy(rehearsal, rehearsal.make_image())
    asked = {"ImageId": copied, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    assert refusal(other(rehearsal).run_instances, **asked) == "InvalidAMIID.Unavailable"
    ready(rehearsal, copied)
    other(rehearsal).run_instances(**asked)
    launched = other(rehearsal).describe_images(ImageIds=[copied])["Images"][0]["LastLaunchedTime"]
    assert launched.startswith(f"{rehearsal.clock.now():%Y-%m-%dT%H:%M}")


def test_the_disk_of_a_copy_outlives_its_source(rehearsal: Rehearsal) -> None:
    source = rehearsal.make_image()
    copied = copy(rehearsal, source)
    end_builders(rehearsal)
    rehearsal.ec2.deregister_image(ImageId=source, DeleteAssociatedSnapshots=True)
    store = rehearsal.world.hosting.store
    assert (store.image_disk(source).exists(), store.image_disk(copied).exists()) == (False, True)


def test_a_copy_takes_tags_when_asked_and_nothing_else_along(rehearsal: Rehearsal) -> None:
    source = rehearsal.make_image(TagSpecifications=[{"ResourceType": "image", "Tags": TAGS}])
    rehearsal.ec2.modify_image_attribute(ImageId=source, LaunchPermission={"Add": [{"UserId": "1" * 12}]})
    rehearsal.ec2.modify_image_attribute(ImageId=source, ImdsSupport={"Value": "v2.0"})
    rehearsal.ec2.enable_image_deregistration_protection(ImageId=source)
    rehearsal.ec2.enable_image_deprecation(ImageId=source, DeprecateAt=rehearsal.clock.now() + timedelta(days=30))
    copied = copy(
        rehearsal,
        source,
        CopyImageTags=True,
        TagSpecifications=[
            {"ResourceType": "image", "Tags": [{"Key": "more", "Value": "yes"}]},
            {"ResourceType": "snapshot", "Tags": [{"Key": "of", "Value": "snapshot"}]},
        ],
    )
    image = ready(rehearsal, copied)
    assert {tag["Key"]: tag["Value"] for tag in image["Tags"]} == {"BakeId": "b1", "more": "yes"}
    assert image["DeregistrationProtection"] == "disabled"
    assert not {"ImdsSupport", "DeprecationTime"} & set(image)
    permissions = other(rehearsal).describe_image_attribute(ImageId=copied, Attribute="launchPermission")
    assert permissions["LaunchPermissions"] == []


def test_a_copy_with_its_token_is_made_once_and_a_name_is_used_once(rehearsal: Rehearsal) -> None:
    source = rehearsal.make_image()
    copied = copy(rehearsal, source, ClientToken="t1")
    assert copy(rehearsal, source, ClientToken="t1") == copied
    asked = {"Name": "a-copy", "SourceImageId": source, "SourceRegion": REGION}
    assert refusal(other(rehearsal).copy_image, **asked) == "InvalidAMIName.Duplicate"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"SourceImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"KmsKeyId": "alias/there"}, "InvalidParameterValue"),
        ({"SnapshotCopyCompletionDurationMinutes": 15}, "UnsupportedOperation"),
    ],
)
def test_a_copy_that_cannot_be_is_refused(rehearsal: Rehearsal, asked: dict[str, Any], code: str) -> None:
    source = rehearsal.make_image()
    whole = {"Name": "a-copy", "SourceImageId": source, "SourceRegion": REGION, **asked}
    assert refusal(other(rehearsal).copy_image, **whole) == code


def test_a_disabled_image_is_hidden_shared_with_nobody_and_not_launched_until_it_is_enabled(
    rehearsal: Rehearsal,
) -> None:
    image_id = rehearsal.make_image()
    ec2 = rehearsal.ec2
    ec2.modify_image_attribute(ImageId=image_id, LaunchPermission={"Add": [{"UserId": "1" * 12}]})
    ec2.disable_image(ImageId=image_id)
    assert ec2.describe_images(ImageIds=[image_id])["Images"] == []
    hidden = ec2.describe_images(ImageIds=[image_id], IncludeDisabled=True)["Images"]
    assert [image["State"] for image in hidden] == ["disabled"]
    shared = ec2.describe_image_attribute(ImageId=image_id, Attribute="launchPermission")["LaunchPermissions"]
    assert shared == []
    assert refusal(rehearsal.launch, image_id=image_id) == "InvalidAMIID.Unavailable"
    ec2.enable_image(ImageId=image_id)
    assert rehearsal.state(rehearsal.launch(image_id)) == "running"


def test_a_disabled_image_is_deregistered_with_its_snapshot(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    end_builders(rehearsal)
    rehearsal.ec2.disable_image(ImageId=image_id)
    rehearsal.ec2.deregister_image(ImageId=image_id, DeleteAssociatedSnapshots=True)
    assert not rehearsal.world.hosting.store.image_disk(image_id).exists()


@pytest.mark.parametrize(
    "how",
    [
        {"CreateVolumePermission": {"Add": [{"UserId": "1" * 12}]}},
        {"Attribute": "createVolumePermission", "OperationType": "add", "UserIds": ["1" * 12]},
    ],
)
def test_a_snapshot_is_shared_in_both_of_the_ways_to_say_it(rehearsal: Rehearsal, how: dict[str, Any]) -> None:
    snapshot = rehearsal.image(rehearsal.make_image())["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    rehearsal.ec2.modify_snapshot_attribute(SnapshotId=snapshot, **how)
    asked = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}
    assert rehearsal.ec2.describe_snapshot_attribute(**asked)["CreateVolumePermissions"] == [{"UserId": "1" * 12}]


def test_what_uses_an_image_is_named(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    instance_id = rehearsal.launch(image_id)
    template = rehearsal.ec2.create_launch_template(
        LaunchTemplateName="nodes", LaunchTemplateData={"ImageId": image_id}
    )["LaunchTemplate"]["LaunchTemplateId"]
    rehearsal.session.client("ssm").put_parameter(
        Name="/ovenproof/x", Value=image_id, Type="String", DataType="aws:ec2:image"
    )
    found = rehearsal.ec2.describe_image_references(ImageIds=[image_id], IncludeAllResourceTypes=True)
    place = f"{REGION}:123456789012"
    assert found["ImageReferences"] == [
        {"ImageId": image_id, "ResourceType": kind, "Arn": arn}
        for kind, arn in (
            ("ec2:Instance", f"arn:aws:ec2:{place}:instance/{instance_id}"),
            ("ec2:LaunchTemplate", f"arn:aws:ec2:{place}:launch-template/{template}"),
            ("ssm:Parameter", f"arn:aws:ssm:{place}:parameter/ovenproof/x"),
        )
    ]


def test_a_parameter_of_image_type_takes_only_an_image_of_its_region(rehearsal: Rehearsal) -> None:
    ssm: Any = rehearsal.session.client("ssm")
    first = rehearsal.make_image()
    asked = {**PARAMETER, "Overwrite": True}
    ssm.put_parameter(**asked, Value=first, Description="first")
    ssm.put_parameter(**asked, Value="ami-0123456789abcdef0", Description="no image")
    assert ssm.get_parameter(Name="/ovenproof/x")["Parameter"]["Value"] == first
    second = rehearsal.make_image("second")
    ssm.put_parameter(**asked, Value=second, Description="second")
    history = ssm.get_parameter_history(Name="/ovenproof/x")["Parameters"]
    assert [(one["Version"], one["Value"], one["Description"]) for one in history] == [
        (1, first, "first"),
        (2, second, "second"),
    ]


def test_what_was_promoted_is_known_after_a_restart(rehearsal: Rehearsal) -> None:
    ssm: Any = rehearsal.session.client("ssm")
    image_id = rehearsal.make_image()
    for description in ("one", "two"):
        ssm.put_parameter(**PARAMETER, Overwrite=True, Value=image_id, Description=description)
    ssm.put_parameter(Name="/ovenproof/y", Type="String", Value="gone")
    ssm.delete_parameter(Name="/ovenproof/y")
    restarted = type("Restarted", (LocalSSMBackend,), {"world": rehearsal.world})(REGION, "123456789012")
    history = [(one.version, one.value, one.description) for one in restarted._parameters["/ovenproof/x"]]
    assert history == [(1, image_id, "one"), (2, image_id, "two")]
    assert "/ovenproof/y" not in restarted._parameters


def test_a_copy_is_the_same_after_a_restart(rehearsal: Rehearsal) -> None:
    copied = copy(rehearsal, rehearsal.make_image())
    other(rehearsal).modify_image_attribute(ImageId=copied, LaunchPermission={"Add": [{"UserId": "1" * 12}]})
    before = ready(rehearsal, copied)
    backend = rehearsal.world.ec2[OTHER]
    restarted = type(backend)(OTHER, backend.account_id)
    assert restarted.amis[copied].launch_permissions == [{"UserId": "1" * 12}]
    assert restarted.amis[copied].ebs_snapshot.id == before["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
