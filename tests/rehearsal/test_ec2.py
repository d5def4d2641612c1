"""EC2 of the local cloud, asked through boto3; the machines behind it are fakes."""

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.rehearsal.machine import Exit
from pipeline.rehearsal.store import GIB
from tests.rehearsal.conftest import REGION, Rehearsal

PUBLIC_IMAGE = "You can't publicly share this image because block public access for AMIs is enabled for this account."


def refusal(call: Any, **parameters: Any) -> tuple[str, str]:
    """The code and message of the error that a call has to end in."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


# Base images


def test_the_public_parameters_lead_to_the_base_guest(rehearsal: Rehearsal) -> None:
    ssm = rehearsal.session.client("ssm")
    path = "/aws/service/ecs/optimized-ami/amazon-linux-2/kernel-5.10/recommended/"
    values = {
        name: ssm.get_parameter(Name=path + name)["Parameter"]["Value"]
        for name in ("image_id", "image_name", "image_version")
    }
    assert values == {
        "image_id": rehearsal.base_image,
        "image_name": "amzn2-ami-ecs-kernel-5.10-hvm-2.0.20261120-x86_64-ebs",
        "image_version": "2.0.20261120",
    }


def test_a_base_image_says_that_it_is_a_stand_in_and_when_it_was_made(rehearsal: Rehearsal) -> None:
    image = rehearsal.image(rehearsal.base_image)
    assert image["Description"] == (
        "Ovenproof stand-in for the Amazon Linux 2 ECS-optimized image: Debian 11, kernel 5.10"
    )
    assert image["CreationDate"] == "2026-11-20T08:00:00.000Z"
    assert image["ImageOwnerAlias"] == "amazon"


def test_a_newer_base_guest_is_the_recommended_one_and_the_older_stays_an_image(rehearsal: Rehearsal) -> None:
    old = rehearsal.base_image
    rehearsal.image(old)
    base = rehearsal.world.bases["al2"]
    newer = base.model_copy(update={"digest": "d2", "made": base.made + timedelta(days=1)})
    rehearsal.world.add_base(newer)
    assert rehearsal.image(old)["State"] == "available"
    assert rehearsal.image(rehearsal.base_image)["Name"].endswith("2.0.20261121-x86_64-ebs")
    rehearsal.world.add_base(base)
    assert rehearsal.world.bases["al2"] == newer


def test_another_guest_of_the_same_day_takes_the_place_of_the_one_before(rehearsal: Rehearsal) -> None:
    old = rehearsal.base_image
    rehearsal.image(old)
    rehearsal.world.add_base(rehearsal.world.bases["al2"].model_copy(update={"digest": "d2"}))
    assert refusal(rehearsal.ec2.describe_images, ImageIds=[old])[0] == "InvalidAMIID.NotFound"


# Instances


def test_a_launched_instance_runs_at_a_loopback_address_with_its_tags(rehearsal: Rehearsal) -> None:
    tags = [{"Key": "BakeId", "Value": "b1"}]
    instance = rehearsal.instance(
        rehearsal.launch(
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
            MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
            InstanceInitiatedShutdownBehavior="terminate",
        )
    )
    assert instance["State"] == {"Code": 16, "Name": "running"}
    assert instance["PublicIpAddress"] == rehearsal.machines[0].spec.address
    assert instance["PublicIpAddress"].startswith("127.")
    assert instance["Tags"] == tags
    assert instance["MetadataOptions"] == {
        "State": "applied",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "HttpEndpoint": "enabled",
        "HttpProtocolIpv6": "disabled",
        "InstanceMetadataTags": "enabled",
    }


def test_stop_start_terminate_go_through_ec2_s_states(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    seen = [rehearsal.state(instance_id)]
    for call in ("stop_instances", "start_instances", "terminate_instances"):
        getattr(rehearsal.ec2, call)(InstanceIds=[instance_id])
        seen.append(rehearsal.state(instance_id))
    assert seen == ["running", "stopped", "running", "terminated"]
    assert not rehearsal.world.hosting.store.instance_disk(instance_id).exists()


def test_a_stopped_instance_has_no_address_and_gives_it_back(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    address = rehearsal.instance(instance_id)["PublicIpAddress"]
    rehearsal.ec2.stop_instances(InstanceIds=[instance_id])
    assert "PublicIpAddress" not in rehearsal.instance(instance_id)
    assert rehearsal.instance(rehearsal.launch())["PublicIpAddress"] == address


@pytest.mark.parametrize(("behavior", "state"), [("stop", "stopped"), ("terminate", "terminated")])
def test_a_guest_that_powers_itself_off_ends_as_the_launch_said(
    rehearsal: Rehearsal, behavior: str, state: str
) -> None:
    instance_id = rehearsal.launch(InstanceInitiatedShutdownBehavior=behavior)
    rehearsal.machines[0].ended(Exit(code=0))
    instance = rehearsal.instance(instance_id)
    assert instance["State"]["Name"] == state
    assert instance["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_stop_by_api_means_stopped_even_if_the_guest_s_own_shutdown_would_terminate(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch(InstanceInitiatedShutdownBehavior="terminate")
    rehearsal.ec2.stop_instances(InstanceIds=[instance_id])
    assert rehearsal.state(instance_id) == "stopped"


def test_a_machine_that_dies_is_a_terminated_instance_with_its_last_words(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    rehearsal.machines[0].ended(Exit(code=1, detail="could not set up host forwarding"))
    instance = rehearsal.instance(instance_id)
    assert instance["State"]["Name"] == "terminated"
    assert instance["StateReason"] == {
        "Code": "Server.InternalError",
        "Message": "Server.InternalError: the guest died: could not set up host forwarding",
    }


def test_the_same_client_token_is_the_same_instance(rehearsal: Rehearsal) -> None:
    assert rehearsal.launch(ClientToken="once") == rehearsal.launch(ClientToken="once")
    assert len(rehearsal.machines) == 1


def test_calls_without_a_token_are_different_instances(rehearsal: Rehearsal) -> None:
    assert rehearsal.launch() != rehearsal.launch()


def test_an_image_without_a_disk_cannot_be_launched(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOTO_EC2_LOAD_DEFAULT_AMIS")
    other = rehearsal.ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "name", "Values": ["al2023-ami-ecs*"]}])
    image = other["Images"][0]
    assert refusal(rehearsal.launch, image_id=image["ImageId"]) == (
        "InvalidAMIID.Unavailable",
        f"The local cloud has no stand-in for the image {image['ImageId']} ({image['Name']}); it boots "
        "amzn2-ami-ecs-kernel-5.10-hvm-2.0.20261120-x86_64-ebs and images made here",
    )


def test_too_little_memory_is_a_lack_of_capacity_and_leaves_nothing(rehearsal: Rehearsal) -> None:
    rehearsal.memory = GIB
    assert refusal(rehearsal.launch) == (
        "InsufficientInstanceCapacity",
        "a guest takes 1024 MiB, 1024 MiB are free and 0 guests may still grow into it: 256 MiB are missing",
    )
    assert rehearsal.ec2.describe_instances()["Reservations"] == []


EBS = {"VolumeSize": 1}
REFUSED_LAUNCHES = [
    ({"EnclaveOptions": {"Enabled": True}}, "UnsupportedOperation", "EnclaveOptions in RunInstances"),
    ({"MetadataOptions": {"HttpTokens": "optional"}}, "UnsupportedOperation", "IMDSv1"),
    (
        {"InstanceMarketOptions": {"MarketType": "spot"}},
        "UnsupportedOperation",
        "InstanceMarketOptions in RunInstances",
    ),
    ({"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": EBS}]}, "UnsupportedOperation", "besides the root"),
    ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": EBS}]}, "InvalidBlockDeviceMapping", "size >= 3GB"),
    ({"KeyName": "nobody's"}, "InvalidKeyPair.NotFound", "nobody's"),
]


@pytest.mark.parametrize(("parameters", "code", "words"), REFUSED_LAUNCHES)
def test_what_cannot_be_done_is_refused(
    rehearsal: Rehearsal, parameters: dict[str, Any], code: str, words: str
) -> None:
    found, message = refusal(rehearsal.launch, **parameters)
    assert found == code
    assert words in message
    assert rehearsal.machines == []


def test_what_packer_always_sends_but_asks_for_nothing_is_accepted(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch(
        EnclaveOptions={"Enabled": False},
        CapacityReservationSpecification={"CapacityReservationPreference": "none"},
    )
    assert rehearsal.state(instance_id) == "running"


def test_an_arm_instance_type_does_not_fit(rehearsal: Rehearsal) -> None:
    parameters = {"ImageId": rehearsal.base_image, "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}
    assert refusal(rehearsal.ec2.run_instances, **parameters) == (
        "InvalidParameterValue",
        "The architecture 'arm64' of the specified instance type does not match the architecture 'x86_64' of the "
        "specified AMI.",
    )


def test_what_moto_would_accept_and_forget_is_refused(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    snapshot_id = rehearsal.image(image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert refusal(rehearsal.ec2.copy_snapshot, SourceSnapshotId=snapshot_id, SourceRegion=REGION) == (
        "UnsupportedOperation",
        "The local cloud does not support CopySnapshot.",
    )


def test_what_moto_does_not_have_is_an_error_at_once(rehearsal: Rehearsal) -> None:
    code, message = refusal(rehearsal.ec2.get_image_ancestry, ImageId="ami-1")
    assert (code, message.startswith("The local cloud does not support GetImageAncestry")) == (
        "UnsupportedOperation",
        True,
    )


def test_the_console_is_the_guest_s(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    console = rehearsal.world.hosting.guests[instance_id].console
    console.write_text("login:", encoding="utf-8")
    assert rehearsal.ec2.get_console_output(InstanceId=instance_id)["Output"] == "login:"


# Images


def test_an_image_says_what_it_was_made_of(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch(
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeType": "gp3"}}]
    )
    rehearsal.ec2.stop_instances(InstanceIds=[instance_id])
    image_id = rehearsal.ec2.create_image(
        InstanceId=instance_id,
        Name="an-image",
        TagSpecifications=[
            {"ResourceType": "image", "Tags": [{"Key": "kind", "Value": "image"}]},
            {"ResourceType": "snapshot", "Tags": [{"Key": "kind", "Value": "snapshot"}]},
        ],
    )["ImageId"]
    image = rehearsal.image(image_id)
    shown = ("State", "SourceInstanceId", "SourceImageId", "Architecture", "RootDeviceName", "Public", "Tags")
    assert {name: image[name] for name in shown} == {
        "State": "available",
        "SourceInstanceId": instance_id,
        "SourceImageId": rehearsal.base_image,
        "Architecture": "x86_64",
        "RootDeviceName": "/dev/xvda",
        "Public": False,
        "Tags": [{"Key": "kind", "Value": "image"}],
    }
    (mapping,) = image["BlockDeviceMappings"]
    ebs = mapping["Ebs"]
    assert (mapping["DeviceName"], ebs["Encrypted"], ebs["VolumeType"], ebs["VolumeSize"]) == (
        "/dev/xvda",
        True,
        "gp3",
        3,
    )
    (snapshot,) = rehearsal.ec2.describe_snapshots(SnapshotIds=[ebs["SnapshotId"]])["Snapshots"]
    assert snapshot["Tags"] == [{"Key": "kind", "Value": "snapshot"}]
    assert snapshot["Encrypted"]


def test_an_image_can_be_launched_and_is_backed_by_its_own_disk(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    rehearsal.launch(image_id)
    store = rehearsal.world.hosting.store
    assert str(store.image_disk(image_id)) in rehearsal.machines[-1].spec.disk.read_bytes().decode(errors="replace")


def test_what_packer_does_to_an_image_afterwards_is_kept_over_a_restart(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    ec2 = rehearsal.ec2
    ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
    ec2.modify_image_attribute(ImageId=image_id, Description={"Value": "hardened"})
    ec2.enable_image_deprecation(ImageId=image_id, DeprecateAt=rehearsal.clock.now() + timedelta(days=30))
    ec2.create_tags(Resources=[image_id], Tags=[{"Key": "proven", "Value": "yes"}])
    before = rehearsal.image(image_id)
    assert (before["ImdsSupport"], before["DeprecationTime"]) == ("v2.0", "2026-12-23T12:00:00.000Z")

    backend = rehearsal.world.ec2[REGION]
    restarted = type(backend)(REGION, backend.account_id)
    backend.amis, backend.snapshots, backend.tags = restarted.amis, restarted.snapshots, restarted.tags
    assert rehearsal.image(image_id) == before


def test_an_instance_of_an_imdsv2_image_gets_its_defaults(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    rehearsal.ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
    options = rehearsal.instance(rehearsal.launch(image_id))["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)


def test_imaging_a_running_instance_powers_it_off_and_on_again(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    image_id = rehearsal.ec2.create_image(InstanceId=instance_id, Name="an-image")["ImageId"]
    assert rehearsal.machines[0].pressed == 1
    assert rehearsal.image(image_id)["State"] == "available"
    assert (rehearsal.state(instance_id), len(rehearsal.machines)) == ("running", 2)


def test_imaging_without_a_reboot_leaves_the_machine_running(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    image_id = rehearsal.ec2.create_image(InstanceId=instance_id, Name="an-image", NoReboot=True)["ImageId"]
    assert rehearsal.machines[0].pressed == 0
    disk = rehearsal.world.hosting.store.instance_disk(instance_id).read_bytes().decode(errors="replace")
    assert image_id in disk


def test_a_name_is_used_once(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image("same")
    assert refusal(rehearsal.make_image, name="same") == (
        "InvalidAMIName.Duplicate",
        f"AMI name same is already in use by AMI {image_id}",
    )


@pytest.mark.parametrize(
    "how",
    [
        {"LaunchPermission": {"Add": [{"Group": "all"}]}},
        {"UserGroups": ["all"], "OperationType": "add", "Attribute": "launchPermission"},
    ],
)
def test_no_image_becomes_public(rehearsal: Rehearsal, how: dict[str, Any]) -> None:
    image_id = rehearsal.make_image()
    found = refusal(rehearsal.ec2.modify_image_attribute, ImageId=image_id, **how)
    assert found == ("OperationNotPermitted", PUBLIC_IMAGE)
    assert not rehearsal.image(image_id)["Public"]


def test_no_snapshot_becomes_public(rehearsal: Rehearsal) -> None:
    snapshot_id = rehearsal.image(rehearsal.make_image())["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    found = refusal(
        rehearsal.ec2.modify_snapshot_attribute,
        SnapshotId=snapshot_id,
        CreateVolumePermission={"Add": [{"Group": "all"}]},
    )
    assert found == ("OperationNotPermitted", "Block public access for snapshots is enabled for this account.")


def test_somebody_else_s_image_cannot_be_deregistered(rehearsal: Rehearsal) -> None:
    assert refusal(rehearsal.ec2.deregister_image, ImageId=rehearsal.base_image) == (
        "AuthFailure",
        f"Not authorized for image:{rehearsal.base_image}",
    )


def test_a_protected_image_cannot_be_deregistered(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    rehearsal.ec2.enable_image_deregistration_protection(ImageId=image_id)
    assert refusal(rehearsal.ec2.deregister_image, ImageId=image_id) == (
        "OperationNotPermitted",
        f"The image {image_id} is protected from deregistration.",
    )


def test_a_disk_goes_with_the_last_thing_that_needs_it(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    disk = rehearsal.world.hosting.store.image_disk(image_id)
    instances = [i for i, guest in rehearsal.world.hosting.guests.items() if guest.state == "stopped"]
    user = rehearsal.launch(image_id)
    rehearsal.ec2.terminate_instances(InstanceIds=instances)
    there = [disk.exists()]
    snapshot_id = rehearsal.image(image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    rehearsal.ec2.deregister_image(ImageId=image_id)
    there.append(disk.exists())
    rehearsal.ec2.delete_snapshot(SnapshotId=snapshot_id)
    there.append(disk.exists())
    rehearsal.ec2.terminate_instances(InstanceIds=[user])
    there.append(disk.exists())
    assert there == [True, True, True, False]


def test_deregistering_with_snapshots_says_which(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    snapshot_id = rehearsal.image(image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    answer = rehearsal.ec2.deregister_image(ImageId=image_id, DeleteAssociatedSnapshots=True)
    assert answer["DeleteSnapshotResults"] == [{"SnapshotId": snapshot_id, "ReturnCode": "success"}]
    assert refusal(rehearsal.ec2.describe_snapshots, SnapshotIds=[snapshot_id])[0] == "InvalidSnapshot.NotFound"
