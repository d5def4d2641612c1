"""EC2 of the local cloud: moto's, except that instances are guests and images are disks.

In:  EC2 API calls, as moto has parsed them.
Out: EC2 API answers; guests that boot, stop and end; images that can be launched again.

What moto accepts and forgets is refused here when it would change a guest or an image; the error code is
UnsupportedOperation and the message says what was asked. Shapes and codes: EC2 API reference.
"""

import base64
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

from moto.core.responses import ActionResult, EmptyResult
from moto.core.types import Base64EncodedString
from moto.ec2 import urls as moto_urls
from moto.ec2.exceptions import EC2ClientError, InvalidInstanceIdError, InvalidKeyPairNameError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceState, Reservation, StateReason
from moto.ec2.responses import EC2Response
from moto.ec2.utils import convert_tag_spec, random_ami_id, random_snapshot_id
from moto.iam.models import iam_backends

from pipeline.errors import OvenproofError
from pipeline.rehearsal import copies, guardduty, stand_in
from pipeline.rehearsal.guest import Guest, Launch, NoCapacity, WrongState
from pipeline.rehearsal.metadata import InstanceFacts, MetadataService
from pipeline.rehearsal.refusals import invalid, unsupported
from pipeline.rehearsal.store import GIB, BaseRecord, ImageRecord, Volume, virtual_bytes
from pipeline.rehearsal.wire import Responder
from pipeline.rehearsal.world import World

METADATA_ADDRESS = "169.254.169.254:80"
FILES_ADDRESS = "169.254.0.10:80"
GUARDDUTY_ADDRESS = "169.254.0.12:443"

_RELEASE_DAY = re.compile(r"-hvm-2(?:\.0|023\.0)\.(\d{8})")
STATE_CODES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
CONSOLE_BYTES = 64 * 1024  # as much as GetConsoleOutput returns
IMAGE_STOP_SECONDS = 180
MAX_DEPRECATION = timedelta(days=3653)

RUN_PARAMETERS = frozenset(
    (
        *("BlockDeviceMappings", "ClientToken", "DisableApiTermination", "DryRun", "EbsOptimized"),
        *("IamInstanceProfile", "ImageId", "InstanceInitiatedShutdownBehavior", "InstanceType", "KeyName"),
        *("MaxCount", "MetadataOptions", "MinCount", "Monitoring", "NetworkInterfaces", "Placement"),
        *("PrivateIpAddress", "SecurityGroupIds", "SecurityGroups", "SubnetId", "TagSpecifications", "UserData"),
    )
)
# Packer always sends these; with these values they ask for nothing.
ASKS_FOR_NOTHING: dict[str, tuple[dict[str, Any], ...]] = {
    "CapacityReservationSpecification": (
        {"CapacityReservationPreference": "none"},
        {"CapacityReservationPreference": "open"},
    ),
    "EnclaveOptions": ({"Enabled": False},),
}
CREATE_IMAGE_PARAMETERS = frozenset(
    ("BlockDeviceMappings", "Description", "DryRun", "InstanceId", "Name", "NoReboot", "TagSpecifications")
)
MODIFY_IMAGE_PARAMETERS = frozenset(
    (
        *("Attribute", "Description", "DryRun", "ImageId", "ImdsSupport", "LaunchPermission", "OperationType"),
        *("OrganizationArns", "OrganizationalUnitArns", "UserGroups", "UserIds"),
    )
)
# Calls that moto answers although nothing would happen to a guest or its disk.
REFUSED = (
    *("associate_address", "attach_network_interface", "detach_network_interface", "attach_volume", "detach_volume"),
    *("copy_snapshot", "create_snapshot", "create_snapshots", "modify_volume", "register_image"),
    *("create_fleet", "request_spot_fleet", "request_spot_instances"),
    "reset_image_attribute",
)


class LocalAmi(Ami):
    """An image with a disk: a base guest's stand-in, unless it is an `OwnAmi`."""

    def __init__(self, backend: "LocalEC2Backend", image_id: str, *, volume: Volume, **kwargs: Any) -> None:
        self.volume = volume
        super().__init__(
            backend,
            image_id,
            architecture="x86_64",
            virtualization_type="hvm",
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=stand_in.ROOT_DEVICE,
            boot_mode="legacy-bios",
            region_name=f"{backend.region_name}a",
            **kwargs,
        )
        self.imds_support: str | None = None
        self.deprecation_time: str | None = None
        self.deregistration_protection = "disabled"
        self.source_image_id: str | None = None
        self.source_image_region: str | None = None
        self.state_reason: StateReason | None = None
        self.last_launched_time: str | None = None
        self.ebs_snapshot.encrypted = volume.encrypted
        self.ebs_snapshot.kms_key_id = volume.kms_key_id
        self.ebs_snapshot.volume.size = volume.size_gib

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        return [
            {
                "DeviceName": self.root_device_name,
                "Ebs": {
                    "SnapshotId": self.ebs_snapshot.id,
                    "VolumeSize": self.volume.size_gib,
                    "VolumeType": self.volume.type,
                    "DeleteOnTermination": self.volume.delete_on_termination,
                    "Encrypted": self.volume.encrypted,
                    **({"KmsKeyId": self.volume.kms_key_id} if self.volume.kms_key_id else {}),
                },
            }
        ]


class OwnAmi(LocalAmi):
    """An image made by CreateImage; `record` is what the disk's folder says about it."""

    def __init__(self, backend: "LocalEC2Backend", record: ImageRecord) -> None:
        location = f"{backend.account_id}/{record.name}"
        super().__init__(backend, record.image_id, volume=record.volume, image_location=location)
        self.show(record)

    def show(self, record: ImageRecord) -> None:
        """Let EC2's answers say what the record says."""
        self.record = record
        self.name = record.name
        self.description = record.description
        self.creation_date = record.created
        self.instance_id = record.source_instance_id
        self.source_image_id = record.source_image_id
        self.source_image_region = record.source_region or record.region
        self.last_launched_time = f"{record.last_launched:%Y-%m-%dT%H:%M:%SZ}" if record.last_launched else None
        if record.disabled or self.state == "disabled":
            self.state = "disabled" if record.disabled else "available"
        self.imds_support = record.imds_support
        self.deregistration_protection = record.deregistration_protection
        self.launch_permissions = [dict(permission) for permission in record.launch_permissions]
        if record.deprecation_time:
            self.deprecation_time = record.deprecation_time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        else:
            self.deprecation_time = None


class LocalEC2Backend(copies.CopyingBackend, EC2Backend):
    """moto's EC2 of one region, with guests behind it. Every call comes in under the hosting's lock."""

    world: ClassVar[World]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.guests: dict[str, Guest] = {}
        self._date_releases()
        for base in self.world.bases.values():
            self.show_base(base)
        for record in self.world.hosting.store.records():
            if record.region == region_name and record.wanted:
                self._show_record(record)
        self._open_guardduty_endpoint()
        self.world.ec2[region_name] = self

    @property
    def _url_module(self) -> Any:
        return SimpleNamespace(url_bases=moto_urls.url_bases, url_paths={"{0}/": LocalEC2Response.dispatch})

    @property
    def store(self) -> Any:
        return self.world.hosting.store

    def _open_guardduty_endpoint(self) -> None:
        vpc = self.get_default_vpc()
        if vpc is None:
            return
        subnets = [subnet.id for subnet in self.get_default_subnets().values()]
        self.create_vpc_endpoint(
            vpc.id, self.guardduty_service, "Interface", None, [], subnet_ids=subnets, private_dns_enabled=True
        )

    @property
    def guardduty_service(self) -> str:
        return f"com.amazonaws.{self.region_name}.guardduty-data"

    def reaches_guardduty(self, vpc_id: str | None) -> bool:
        """Whether the VPC has an available interface endpoint of GuardDuty's data service."""
        return any(
            endpoint.vpc_id == vpc_id
            and endpoint.service_name == self.guardduty_service
            and endpoint.state == "available"
            for endpoint in self.vpc_end_points.values()
        )

    # Images

    def _date_releases(self) -> None:
        """moto's own images are as old as the cloud; a release says its day in its name, and counts as made then."""
        for ami in self.amis.values():
            if day := _RELEASE_DAY.search(ami.name or ""):
                ami.creation_date = datetime.strptime(day[1], "%Y%m%d").replace(tzinfo=UTC)

    def show_base(self, base: BaseRecord) -> None:
        image_id = stand_in.image_id(base, self.region_name)
        size = math.ceil(virtual_bytes(base.disk) / GIB)
        self.amis[image_id] = LocalAmi(
            self,
            image_id,
            volume=Volume(size_gib=size, type="gp2", encrypted=False),
            name=stand_in.image_name(base),
            description=stand_in.description(base),
            owner_id=stand_in.OWNER_ID,
            owner_alias="amazon",
            public=True,
            creation_date=base.made,
            image_location=f"amazon/{stand_in.image_name(base)}",
        )

    def forget_base(self, base: BaseRecord) -> None:
        self.amis.pop(stand_in.image_id(base, self.region_name), None)

    def _show_record(self, record: ImageRecord) -> OwnAmi:
        ami = OwnAmi(self, record)
        snapshot = self.snapshots.pop(ami.ebs_snapshot.id)
        snapshot.id = record.snapshot_id
        snapshot.description = copies.snapshot_description(record)
        snapshot.start_time = record.created
        if record.snapshot_exists:
            self.snapshots[snapshot.id] = snapshot
            snapshot.add_tags(record.snapshot_tags)
            snapshot.create_volume_permission_userids |= set(record.volume_permissions)
        if record.registered:
            self.amis[record.image_id] = ami
            ami.add_tags(record.tags)
        else:
            self.deleted_amis.append(record.image_id)
        return ami

    def own_image(self, image_id: str) -> OwnAmi:
        """An image of ours. The codes are EC2's: unknown, or somebody else's."""
        ami = self.describe_images(ami_ids=[image_id])
        if not ami:
            raise EC2ClientError("InvalidAMIID.Unavailable", f"The image id '[{image_id}]' is no longer available")
        if not isinstance(ami[0], OwnAmi):
            raise EC2ClientError("AuthFailure", f"Not authorized for image:{image_id}")
        return ami[0]

    def change_record(self, ami: OwnAmi, **changes: Any) -> None:
        """Write down what changed about an image, then show it."""
        record = ami.record.model_copy(update=changes)
        if self.store.image_disk(ami.id).exists():  # not yet, for one of an instance that is still running
            self.store.update_image(record)
        ami.show(record)

    def make_image(
        self,
        instance_id: str,
        *,
        name: str,
        description: str,
        no_reboot: bool,
        tags: Mapping[str, str],
        snapshot_tags: Mapping[str, str],
        volume_changes: Mapping[str, Any],
    ) -> OwnAmi:
        instance, guest = self._pair(instance_id)
        if guest.state not in {"running", "stopped"}:
            raise EC2ClientError(
                "IncorrectState", f"Instance is not in state 'running' or 'stopped': {instance_id} is {guest.state}."
            )
        taken = [a for a in self.amis.values() if a.name == name and a.owner_id == self.account_id]
        if taken:
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {taken[0].id}")
        source = self.amis.get(instance.image_id)
        root = self._root_volume(instance)
        volume = Volume(
            size_gib=root.size,
            type=root.volume_type,
            encrypted=bool(root.encrypted),
            kms_key_id=root.kms_key_id,
        )
        record = ImageRecord(
            image_id=random_ami_id(),
            region=self.region_name,
            name=name,
            description=description,
            created=self.world.clock.now(),
            architecture="x86_64",
            root_device_name=instance.root_device_name,
            virtualization_type="hvm",
            source_instance_id=instance_id,
            source_image_id=instance.image_id,
            source_image_name=(source.name or "") if source else "",
            parent=guest.backing_image,
            volume=volume.model_copy(update=dict(volume_changes)),
            snapshot_id=random_snapshot_id(),
            imds_support=getattr(source, "imds_support", None),
            tags=dict(tags),
            snapshot_tags=dict(snapshot_tags),
        )
        if guest.state == "stopped" or no_reboot:
            try:
                guest.take_image(record)
            except (OvenproofError, OSError) as error:
                raise EC2ClientError("InternalError", f"The image could not be made: {error}") from error
            return self._show_record(record)
        ami = self._show_record(record)
        ami.state = "pending"
        guest.stop()
        self.world.hosting.workers.submit(self._image_when_stopped, guest, ami)
        return ami

    def _image_when_stopped(self, guest: Guest, ami: OwnAmi) -> None:
        """CreateImage of a running instance: it is powered off, imaged and started again."""
        guest.wait_down(IMAGE_STOP_SECONDS)
        with self.world.hosting.lock:
            try:
                guest.take_image(ami.record)
                ami.state = "available"
                if ami.id in self.amis:
                    self._write_tags([ami.id, ami.record.snapshot_id])
                else:  # deregistered meanwhile
                    self._drop(ami)
                guest.start()
            except (WrongState, NoCapacity, OvenproofError, OSError) as error:
                if ami.state == "pending":
                    ami.state = "failed"
                    ami.state_reason = StateReason(str(error), "Server.InternalError")

    def deregister_image(self, ami_id: str, delete_snapshots: bool = False) -> list[str]:  # type: ignore[override]
        """Returns the snapshots deleted with it."""
        ami = self.own_image(ami_id)
        if ami.deregistration_protection != "disabled":
            raise EC2ClientError("OperationNotPermitted", f"The image {ami_id} is protected from deregistration.")
        super().deregister_image(ami_id)
        snapshot_id = ami.record.snapshot_id
        if ami.state in {"available", "disabled"}:
            self.change_record(ami, registered=False)
            if delete_snapshots:
                self.delete_snapshot(snapshot_id)
            self.world.hosting.collect()
        else:
            self._drop(ami)
        return [snapshot_id] if delete_snapshots else []

    def _drop(self, ami: OwnAmi) -> None:
        """Forget an image that was deregistered before it was made."""
        self.snapshots.pop(ami.record.snapshot_id, None)
        if self.store.image_disk(ami.id).exists():
            self.change_record(ami, registered=False, snapshot_exists=False)
            self.world.hosting.collect()

    def delete_snapshot(self, snapshot_id: str) -> Any:
        snapshot = super().delete_snapshot(snapshot_id)
        for record in list(self.store.records()):
            if record.snapshot_id == snapshot_id:
                self.store.update_image(record.model_copy(update={"snapshot_exists": False}))
        self.world.hosting.collect()
        return snapshot

    def create_tags(self, resource_ids: list[str], tags: dict[str, str]) -> bool:
        done = super().create_tags(resource_ids, tags)
        self._write_tags(resource_ids)
        return done

    def delete_tags(self, resource_ids: list[str], tags: dict[str, str]) -> bool:
        done = super().delete_tags(resource_ids, tags)
        self._write_tags(resource_ids)
        return done

    def _write_tags(self, resource_ids: list[str]) -> None:
        """Tags of images and snapshots outlive the daemon, as the images do."""
        wanted = {resource_id for resource_id in resource_ids if resource_id.startswith(("ami-", "snap-"))}
        if not wanted:
            return
        for ami in self.own_images():
            record = ami.record
            if wanted & {record.image_id, record.snapshot_id}:
                tags, snapshot_tags = dict(self.tags[record.image_id]), dict(self.tags[record.snapshot_id])
                self.change_record(ami, tags=tags, snapshot_tags=snapshot_tags)

    def own_images(self) -> list[OwnAmi]:
        return [ami for ami in self.amis.values() if isinstance(ami, OwnAmi)]

    def forget_images(self) -> None:
        """Deregister every image made here, protected or not, with its snapshot."""
        for ami in self.own_images():
            super().deregister_image(ami.id)
            self.snapshots.pop(ami.record.snapshot_id, None)

    # Instances

    def _pair(self, instance_id: str) -> tuple[Instance, Guest]:
        instance = self.get_instance(instance_id)
        guest = self.guests.get(instance_id)
        if guest is None:
            raise InvalidInstanceIdError(instance_id)
        return instance, guest

    def _root_volume(self, instance: Instance) -> Any:
        return self.get_volume(instance.block_device_mapping[instance.root_device_name].volume_id)

    def launchable(self, image_id: str) -> LocalAmi:
        """The image, if it has a disk here."""
        found = self.describe_images(ami_ids=[image_id])
        if not found:
            raise EC2ClientError("InvalidAMIID.Unavailable", f"The image id '[{image_id}]' is no longer available")
        ami = found[0]
        if not isinstance(ami, LocalAmi):
            raise EC2ClientError(
                "InvalidAMIID.Unavailable",
                f"The local cloud has no stand-in for the image {image_id} ({ami.name}); it boots "
                + (", ".join(stand_in.image_name(base) for base in self.world.bases.values()) or "no base guest yet")
                + " and images made here",
            )
        if ami.state != "available":
            raise EC2ClientError("InvalidAMIID.Unavailable", f"The image {image_id} is {ami.state}")
        return ami

    def disk_of(self, ami: LocalAmi) -> tuple[Any, str]:
        """The disk to start from, and the local image it belongs to ("" for a base guest's)."""
        if isinstance(ami, OwnAmi):
            return self.store.image_disk(ami.id), ami.id
        for base in self.world.bases.values():
            if stand_in.image_id(base, self.region_name) == ami.id:
                return base.disk, ""
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The base guest of {ami.id} is gone")

    def run_instances(
        self,
        image_id: str,
        count: int,
        user_data: Base64EncodedString | None,
        security_group_names: list[str],
        **kwargs: Any,
    ) -> Reservation:
        if token := kwargs.get("client_token"):  # a call repeated with its token is the same call
            for earlier in self.reservations.values():
                if any(instance.client_token == token for instance in earlier.instances):
                    return earlier
        ami = self.launchable(image_id)
        key_name = kwargs.get("key_name")
        if key_name and key_name not in self.key_pairs:
            raise InvalidKeyPairNameError(key_name)
        try:
            self.world.hosting.check_capacity()
        except NoCapacity as error:
            raise EC2ClientError("InsufficientInstanceCapacity", str(error)) from error
        reservation = super().run_instances(image_id, count, user_data, security_group_names, **kwargs)
        (instance,) = reservation.instances
        instance.nics[0].delete_on_termination = True  # EC2's default for the interface RunInstances makes
        launch = self._launch(instance, ami, reservation.id)
        try:
            self.guests[instance.id] = self.world.hosting.launch(launch)
        except NoCapacity as error:
            instance.terminate()
            raise EC2ClientError("InsufficientInstanceCapacity", str(error)) from error
        if isinstance(ami, OwnAmi):
            self.change_record(ami, last_launched=self.world.clock.now())
        return reservation

    def _launch(self, instance: Instance, ami: LocalAmi, reservation_id: str) -> Launch:
        backing, backing_image = self.disk_of(ami)
        key = self.key_pairs.get(instance.key_name) if instance.key_name else None
        public_key = key.public_key.strip() if key else None  # kept: EC2 serves it after the pair was deleted
        lock = self.world.hosting.lock

        def facts() -> InstanceFacts:
            with lock:
                return self._facts(instance, reservation_id, public_key)

        def reachable() -> bool:
            with lock:
                return self.reaches_guardduty(instance.vpc_id)

        services: dict[str, Responder] = {
            METADATA_ADDRESS: MetadataService(facts, self.world.clock),
            FILES_ADDRESS: self.world.files(),
        }
        if reachable():  # else no connection is taken; one that is made later serves the instances of then
            services[GUARDDUTY_ADDRESS] = guardduty.data_endpoint(self.world, facts, reachable)
        return Launch(
            instance_id=instance.id,
            region=self.region_name,
            image_id=ami.id,
            instance_type=instance.instance_type,
            mac=instance.nics[0].mac_address,
            backing=backing,
            backing_image=backing_image,
            size_gib=self._root_volume(instance).size,
            public=instance.public_ip is not None,
            shutdown_behavior=lambda: str(instance.instance_initiated_shutdown_behavior),
            tags=lambda: dict(self.tags[instance.id]),
            services=services,
            changed=lambda guest: self._mirror(instance, guest),
        )

    def _facts(self, instance: Instance, reservation_id: str, public_key: str | None) -> InstanceFacts:
        nic = instance.nics[0]
        profile = None
        if instance.iam_instance_profile:
            arn = instance.iam_instance_profile["Arn"]
            profiles = iam_backends[self.account_id][self.partition].instance_profiles.values()
            profile = next((one for one in profiles if one.arn == arn), None)
        options = instance.metadata_options
        with_tags = options.instance_metadata_tags == "enabled"
        return InstanceFacts(
            instance_id=instance.id,
            image_id=instance.image_id,
            instance_type=instance.instance_type,
            account_id=self.account_id,
            region=self.region_name,
            availability_zone=str(instance.availability_zone),
            architecture=str(instance.architecture),
            launched=instance.launch_time,
            private_ip=str(instance.private_ip),
            private_dns_name=instance.private_dns_name,
            mac=nic.mac_address,
            vpc_id=str(instance.vpc_id),
            subnet_id=str(instance.subnet_id),
            subnet_cidr=nic.subnet.cidr_block,
            network_interface_id=nic.id,
            security_groups=tuple((group.name, group.id) for group in nic.group_set),
            reservation_id=reservation_id,
            public_ip=instance.public_ip,
            public_dns_name=instance.public_dns_name,
            key_name=instance.key_name,
            public_key=public_key,
            user_data=_raw(instance.user_data),
            profile_arn=profile.arn if profile else None,
            profile_id=profile.id if profile else None,
            role=profile.roles[0].name if profile and profile.roles else None,
            tags=dict(self.tags[instance.id]) if with_tags else None,
            enabled=options.http_endpoint == "enabled",
        )

    def _mirror(self, instance: Instance, guest: Guest) -> None:
        """Let moto's instance say what the guest is."""
        if guest.state == "terminated":
            instance.terminate()
            self.world.agents.forget(instance.id)
        instance._state = InstanceState(guest.state, STATE_CODES[guest.state])
        if guest.state == "pending":
            instance.launch_time = guest.started.replace(tzinfo=None)
        code, message = guest.reason or ("", "")
        instance.state_reason = StateReason(message, code)
        when = self.world.clock.now().strftime("%Y-%m-%d %H:%M:%S GMT")
        instance._reason = f"User initiated ({when})" if code == "Client.UserInitiatedShutdown" else message
        instance.nics[0].public_ip_auto_assign = False  # or moto invents an address
        instance.nics[0].public_ip = guest.address

    def start_instances(self, instance_ids: list[str]) -> list[tuple[Instance, InstanceState]]:
        def start(guest: Guest) -> None:
            try:
                guest.start()
            except NoCapacity as error:
                raise EC2ClientError("InsufficientInstanceCapacity", str(error)) from error

        return self._each(instance_ids, start)

    def stop_instances(self, instance_ids: list[str], force: bool = False) -> list[tuple[Instance, InstanceState]]:
        for instance_id in instance_ids:
            if self._pair(instance_id)[0].disable_api_stop:
                raise EC2ClientError(
                    "OperationNotPermitted",
                    f"The instance '{instance_id}' may not be stopped. Modify its 'disableApiStop' instance attribute.",
                )
        return self._each(instance_ids, lambda guest: guest.stop(force=force))

    def terminate_instances(self, instance_ids: list[str]) -> list[tuple[Instance, InstanceState]]:
        for instance_id in instance_ids:
            if self._pair(instance_id)[0].disable_api_termination:
                raise EC2ClientError(
                    "OperationNotPermitted",
                    f"The instance '{instance_id}' may not be terminated. Modify its 'disableApiTermination' "
                    "instance attribute and try again.",
                )
        return self._each(instance_ids, Guest.terminate)

    def reboot_instances(self, instance_ids: list[str]) -> list[Instance]:
        return [instance for instance, _ in self._each(instance_ids, Guest.reboot)]

    def _each(self, instance_ids: list[str], do: Callable[[Guest], None]) -> list[tuple[Instance, InstanceState]]:
        """Do it to each, all known first; with the state before."""
        pairs = [self._pair(instance_id) for instance_id in instance_ids]
        done = []
        for instance, guest in pairs:
            before = InstanceState(guest.state, STATE_CODES[guest.state])
            try:
                do(guest)
            except WrongState as error:
                raise EC2ClientError(
                    "IncorrectInstanceState",
                    f"The instance '{instance.id}' is not in a state that allows this: it is {error}.",
                ) from error
            done.append((instance, before))
        return done


def _raw(user_data: Any) -> bytes | None:
    """User data as the guest gets it: decoded, and not taken for text, because it may be compressed."""
    return base64.b64decode(str(user_data)) if user_data else None


class LocalEC2Response(copies.CopyingResponse, EC2Response):
    """The calls whose parameters moto would not look at."""

    @property
    def backend(self) -> LocalEC2Backend:
        found: LocalEC2Backend = self.ec2_backend
        return found

    def call_action(self) -> Any:
        self.backend.settle_copies()
        try:
            return super().call_action()
        except NotImplementedError as error:
            return self.serialized(ActionResult(unsupported(f"{self._get_action()}: {error}")))

    def _only(self, supported: frozenset[str]) -> None:
        idle = {name for name, values in ASKS_FOR_NOTHING.items() if self.params.get(name) in values}
        if others := sorted(set(self.params) - supported - idle):
            raise unsupported(f"{', '.join(others)} in {self._get_action()}")

    def run_instances(self) -> ActionResult:
        self._only(RUN_PARAMETERS)
        if int(self._get_param("MinCount", 1)) != 1 or int(self._get_param("MaxCount", 1)) != 1:
            raise unsupported("more than one instance in a RunInstances call")
        ami = self.backend.launchable(self._get_param("ImageId"))
        self._check_instance_type()
        self._complete_root_volume(ami)
        self._complete_metadata_options(ami)
        self.params.setdefault("ClientToken", str(uuid.uuid4()))
        return super().run_instances()

    def _check_instance_type(self) -> None:
        name = self._get_param("InstanceType", "m1.small")
        if name not in INSTANCE_TYPES:
            raise EC2ClientError("InvalidInstanceType", f"The instance type '{name}' does not exist")
        architectures = INSTANCE_TYPES[name]["ProcessorInfo"]["SupportedArchitectures"]
        if "x86_64" not in architectures:
            raise invalid(
                f"The architecture '{','.join(architectures)}' of the specified instance type does not match the "
                "architecture 'x86_64' of the specified AMI."
            )

    def _complete_root_volume(self, ami: LocalAmi) -> None:
        """The one volume a guest has; what the call leaves out comes from the image, as in EC2."""
        mappings = self._get_param("BlockDeviceMappings", [])
        if others := [mapping for mapping in mappings if mapping.get("DeviceName") != ami.root_device_name]:
            raise unsupported(f"a volume besides the root volume {ami.root_device_name}: {others[0]}")
        ebs = dict(mappings[0].get("Ebs", {})) if mappings else {}
        size = int(ebs.get("VolumeSize") or ami.volume.size_gib)
        if size < ami.volume.size_gib:
            raise EC2ClientError(
                "InvalidBlockDeviceMapping",
                f"Volume of size {size}GB is smaller than snapshot '{ami.ebs_snapshot.id}', expect size >= "
                f"{ami.volume.size_gib}GB",
            )
        ebs |= {
            "VolumeSize": size,
            "VolumeType": ebs.get("VolumeType") or ami.volume.type,
            "Encrypted": bool(ebs.get("Encrypted") or ami.volume.encrypted),
            "DeleteOnTermination": ebs.get("DeleteOnTermination", True),
        }
        if not ebs["DeleteOnTermination"]:
            raise unsupported("a root volume that outlives its instance")
        self.params["BlockDeviceMappings"] = [{"DeviceName": ami.root_device_name, "Ebs": ebs}]

    def _complete_metadata_options(self, ami: LocalAmi) -> None:
        """IMDSv2 always: there is no version 1 here, so a call that asks for it must not seem to get it."""
        options = dict(self._get_param("MetadataOptions", {}))
        if options.get("HttpTokens") == "optional":
            raise unsupported("IMDSv1 (MetadataOptions.HttpTokens=optional)")
        default_hops = 2 if ami.imds_support == "v2.0" else 1
        self.params["MetadataOptions"] = {"HttpPutResponseHopLimit": default_hops, **options, "HttpTokens": "required"}

    def modify_instance_metadata_options(self) -> ActionResult:
        if self._get_param("HttpTokens") == "optional":
            raise unsupported("IMDSv1 (HttpTokens=optional)")
        return super().modify_instance_metadata_options()

    def stop_instances(self) -> ActionResult:
        if self._get_param("Hibernate"):
            raise unsupported("hibernation")
        self.error_on_dryrun()
        done = self.backend.stop_instances(self._get_param("InstanceIds", []), force=bool(self._get_param("Force")))
        return ActionResult({"StoppingInstances": self._changes(done)})

    def start_instances(self) -> ActionResult:
        self.error_on_dryrun()
        done = self.backend.start_instances(self._get_param("InstanceIds", []))
        return ActionResult({"StartingInstances": self._changes(done)})

    def terminate_instances(self) -> ActionResult:
        self.error_on_dryrun()
        done = self.backend.terminate_instances(self._get_param("InstanceIds", []))
        return ActionResult({"TerminatingInstances": self._changes(done)})

    @staticmethod
    def _changes(done: list[tuple[Instance, InstanceState]]) -> list[dict[str, Any]]:
        return [
            {"InstanceId": instance.id, "CurrentState": instance.instance_state, "PreviousState": before}
            for instance, before in done
        ]

    def get_console_output(self) -> ActionResult:
        instance_id = self._get_param("InstanceId")
        _, guest = self.backend._pair(instance_id)
        text = guest.console.read_bytes()[-CONSOLE_BYTES:] if guest.console.exists() else b""
        return ActionResult(
            {
                "InstanceId": instance_id,
                "Timestamp": self.backend.world.clock.now(),
                "Output": Base64EncodedString.from_raw_string(text.decode(errors="replace")),
            }
        )

    def create_image(self) -> ActionResult:
        self._only(CREATE_IMAGE_PARAMETERS)
        tags: dict[str, dict[str, str]] = convert_tag_spec(self._get_param("TagSpecifications", []))
        if others := sorted(set(tags) - {"image", "snapshot"}):
            raise invalid(f"'{others[0]}' is not a valid taggable resource type for this operation.")
        name = self._get_param("Name", "")
        if not 3 <= len(name) <= 128:
            raise EC2ClientError("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long")
        changes: dict[str, Any] = {}
        for mapping in self._get_param("BlockDeviceMappings", []):
            ebs = mapping.get("Ebs", {})
            if mapping.get("DeviceName") != stand_in.ROOT_DEVICE or set(ebs) - {"DeleteOnTermination", "VolumeType"}:
                raise unsupported(f"the block device mapping {mapping} in CreateImage")
            changes |= {"delete_on_termination": ebs["DeleteOnTermination"]} if "DeleteOnTermination" in ebs else {}
            changes |= {"type": ebs["VolumeType"]} if "VolumeType" in ebs else {}
        self.error_on_dryrun()
        ami = self.backend.make_image(
            self._get_param("InstanceId"),
            name=name,
            description=self._get_param("Description", ""),
            no_reboot=bool(self._get_param("NoReboot")),
            tags=tags.get("image", {}),
            snapshot_tags=tags.get("snapshot", {}),
            volume_changes=changes,
        )
        return ActionResult({"ImageId": ami.id})

    def deregister_image(self) -> ActionResult:
        self.error_on_dryrun()
        deleted = self.backend.deregister_image(
            self._get_param("ImageId"), bool(self._get_param("DeleteAssociatedSnapshots"))
        )
        results = [{"SnapshotId": snapshot_id, "ReturnCode": "success"} for snapshot_id in deleted]
        return ActionResult({"Return": True, "DeleteSnapshotResults": results})

    def enable_image_deprecation(self) -> ActionResult:
        ami = self.backend.own_image(self._get_param("ImageId"))
        when: datetime = self._get_param("DeprecateAt")
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        now = self.backend.world.clock.now()
        if not now < when <= now + MAX_DEPRECATION:
            raise invalid(f"DeprecateAt must be in the future and at most 10 years from now: {when.isoformat()}")
        self.error_on_dryrun()
        self.backend.change_record(ami, deprecation_time=when.replace(second=0, microsecond=0))
        return ActionResult({"Return": True})

    def disable_image_deprecation(self) -> ActionResult:
        ami = self.backend.own_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        self.backend.change_record(ami, deprecation_time=None)
        return ActionResult({"Return": True})

    def enable_image_deregistration_protection(self) -> ActionResult:
        ami = self.backend.own_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        if self._get_param("WithCooldown"):
            raise unsupported("deregistration protection with a cooldown")
        self.backend.change_record(ami, deregistration_protection="enabled-without-cooldown")
        return ActionResult({"Return": "enabled-without-cooldown"})

    def disable_image_deregistration_protection(self) -> ActionResult:
        ami = self.backend.own_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        self.backend.change_record(ami, deregistration_protection="disabled")
        return ActionResult({"Return": "disabled"})

    def modify_image_attribute(self) -> ActionResult:
        self._only(MODIFY_IMAGE_PARAMETERS)
        ami = self.backend.own_image(self._get_param("ImageId"))
        permission = self._get_param("LaunchPermission", {})
        added = [*permission.get("Add", [])]
        removed = [*permission.get("Remove", [])]
        named: list[dict[str, str]] = [
            {key: value}
            for parameter, key in (
                ("UserIds", "UserId"),
                ("UserGroups", "Group"),
                ("OrganizationArns", "OrganizationArn"),
                ("OrganizationalUnitArns", "OrganizationalUnitArn"),
            )
            for value in self._get_param(parameter, [])
        ]
        operation = self._get_param("OperationType")
        (removed if operation == "remove" else added).extend(one for one in named if one not in added)
        if any(one.get("Group") for one in added):
            raise EC2ClientError(
                "OperationNotPermitted",
                "You can't publicly share this image because block public access for AMIs is enabled for this account.",
            )
        self.backend.validate_permission_targets(added)
        changes: dict[str, Any] = {}
        if description := self._get_param("Description"):
            changes["description"] = description["Value"]
        if imds := self._get_param("ImdsSupport"):
            if imds["Value"] != "v2.0":
                raise invalid(f"Value ({imds['Value']}) for parameter imdsSupport is invalid. The only value is v2.0.")
            changes["imds_support"] = "v2.0"
        if added or removed:
            kept = [one for one in ami.launch_permissions if one not in removed and one not in added]
            changes["launch_permissions"] = tuple(kept + added)
        if not changes:
            raise unsupported("this change of an image attribute")
        self.error_on_dryrun()
        self.backend.change_record(ami, **changes)
        return EmptyResult()


def _refuse(action: str) -> Callable[[LocalEC2Response], ActionResult]:
    def refuse(self: LocalEC2Response) -> ActionResult:
        raise unsupported(self._get_action())

    refuse.__name__ = action
    return refuse


for _action in REFUSED:
    setattr(LocalEC2Response, _action, _refuse(_action))


def install(world: World) -> None:
    """Make moto's EC2 ours. Call it before the first request."""
    ec2_backends.backend = type("EC2Backend", (LocalEC2Backend,), {"world": world})
