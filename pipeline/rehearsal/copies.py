"""The later life of images in the local cloud: copied to other regions, shared, disabled, asked who uses them.

In:  EC2 API calls, as moto has parsed them.
Out: EC2 API answers. A copy is another name for the same disk, because the disk of an image is never written to.

What a copy does not take along (Amazon EC2 user guide, "Copy an Amazon EC2 AMI"): launch permissions, deprecation
and deregistration protection; tags only when asked. Whether `ImdsSupport` comes along is not documented: here it does
not, so that nobody relies on it.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.utils import convert_tag_spec, random_ami_id, random_snapshot_id
from moto.ssm.models import ssm_backends

from pipeline.rehearsal.refusals import invalid, unsupported
from pipeline.rehearsal.store import ImageRecord

if TYPE_CHECKING:
    from pipeline.rehearsal.ec2 import OwnAmi

COPY_SECONDS: Final = 4
"""How long a copy is pending: long enough that nobody who does not wait gets away with it."""

COPY_PARAMETERS: Final = frozenset(
    (
        *("ClientToken", "CopyImageTags", "Description", "DryRun", "Encrypted", "KmsKeyId", "Name"),
        *("SourceImageId", "SourceRegion", "TagSpecifications"),
    )
)
SNAPSHOT_PARAMETERS: Final = frozenset(
    ("Attribute", "CreateVolumePermission", "DryRun", "GroupNames", "OperationType", "SnapshotId", "UserIds")
)
REFERENCE_PARAMETERS: Final = frozenset(
    ("DryRun", "ImageIds", "IncludeAllResourceTypes", "MaxResults", "NextToken", "ResourceTypes")
)


def snapshot_description(record: ImageRecord) -> str:
    """What EC2 writes on the snapshot of a new image."""
    if record.source_region:
        return f"Copied for DestinationAmi {record.image_id} from SourceAmi {record.source_image_id}."
    return f"Created by CreateImage({record.source_instance_id}) for {record.image_id}"


def _users(permissions: Iterable[Mapping[str, str]]) -> list[str]:
    return [one["UserId"] for one in permissions if "UserId" in one]


class CopyingBackend:
    """The part of the EC2 backend that copies images and remembers whom they are shared with."""

    def copy_own_image(
        self: Any,  # the LocalEC2Backend that this is mixed into
        source_id: str,
        source_region: str,
        *,
        name: str,
        description: str,
        kms_key_id: str | None,
        encrypted: bool,
        client_token: str,
        copy_tags: bool,
        tags: Mapping[str, str],
        snapshot_tags: Mapping[str, str],
    ) -> "OwnAmi":
        """CopyImage into this region."""
        if client_token:  # a call repeated with its token is the same call
            earlier: OwnAmi
            for earlier in self.own_images():
                if earlier.record.client_token == client_token:
                    return earlier
        source = ec2_backends[self.account_id][source_region].own_image(source_id)  # type: ignore[attr-defined]
        if source.state != "available":
            raise EC2ClientError("InvalidRequest", f"The image {source_id} is {source.state}, not available.")
        if taken := [ami for ami in self.own_images() if ami.name == name]:
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {taken[0].id}")
        old: ImageRecord = source.record
        now = self.world.clock.now()
        record = old.model_copy(
            update={
                "image_id": random_ami_id(),
                "region": self.region_name,
                "name": name,
                "description": description or old.description,
                "created": now,
                "source_instance_id": "",
                "source_image_id": source_id,
                "source_image_name": old.name,
                "source_region": source_region,
                "snapshot_id": random_snapshot_id(),
                "volume": old.volume.model_copy(
                    update={"encrypted": encrypted or old.volume.encrypted, "kms_key_id": kms_key_id}
                ),
                "client_token": client_token,
                "available_at": now + timedelta(seconds=COPY_SECONDS),
                "imds_support": None,
                "deprecation_time": None,
                "deregistration_protection": "disabled",
                "launch_permissions": (),
                "volume_permissions": (),
                "disabled": False,
                "last_launched": None,
                "tags": {**(old.tags if copy_tags else {}), **tags},
                "snapshot_tags": dict(snapshot_tags),
            }
        )
        self.store.copy_image(record, source_id)
        ami: OwnAmi = self._show_record(record)
        self.settle_copies()
        return ami

    def settle_copies(self: Any) -> None:
        """Let copies be as far as they are by now. Called before each answer."""
        now = self.world.clock.now()
        for ami in self.own_images():
            if ami.record.available_at is None or ami.state not in {"pending", "available"}:
                continue
            pending = now < ami.record.available_at
            ami.state = "pending" if pending else "available"
            if snapshot := self.snapshots.get(ami.record.snapshot_id):
                snapshot.status = "pending" if pending else "completed"

    def image_references(self: Any, image_id: str) -> Iterator[tuple[str, str]]:
        """Type and ARN of what names an image here: instances, launch templates, parameters of image type."""
        place = f"{self.region_name}:{self.account_id}"
        for reservation in self.reservations.values():
            for instance in reservation.instances:
                if instance.image_id == image_id and instance._state.name != "terminated":
                    yield "ec2:Instance", f"arn:aws:ec2:{place}:instance/{instance.id}"
        for template in self.launch_templates.values():
            if any(version.data.get("ImageId") == image_id for version in template.versions):
                yield "ec2:LaunchTemplate", f"arn:aws:ec2:{place}:launch-template/{template.id}"
        parameters = ssm_backends[self.account_id][self.region_name]._parameters
        for name in list(parameters):
            current = parameters[name][-1] if parameters[name] else None
            if current and current.data_type == "aws:ec2:image" and current.value == image_id:
                yield "ssm:Parameter", f"arn:aws:ssm:{place}:parameter/{name.lstrip('/')}"


class CopyingResponse:
    """The calls of that part. `params` and the helpers are moto's EC2Response's."""

    backend: Any
    _get_param: Any
    _only: Any
    error_on_dryrun: Any

    def copy_image(self) -> ActionResult:
        self._only(COPY_PARAMETERS)
        tags: dict[str, dict[str, str]] = convert_tag_spec(self._get_param("TagSpecifications", []))
        if others := sorted(set(tags) - {"image", "snapshot"}):
            raise invalid(f"'{others[0]}' is not a valid taggable resource type for this operation.")
        encrypted, key = bool(self._get_param("Encrypted")), self._get_param("KmsKeyId")
        if key and not encrypted:
            raise invalid("KmsKeyId is only for a copy with Encrypted true.")
        self.error_on_dryrun()
        ami = self.backend.copy_own_image(
            self._get_param("SourceImageId"),
            self._get_param("SourceRegion"),
            name=self._get_param("Name"),
            description=self._get_param("Description", ""),
            kms_key_id=key,
            encrypted=encrypted,
            client_token=self._get_param("ClientToken", ""),
            copy_tags=bool(self._get_param("CopyImageTags")),
            tags=tags.get("image", {}),
            snapshot_tags=tags.get("snapshot", {}),
        )
        return ActionResult({"ImageId": ami.id})

    def describe_images(self) -> ActionResult:
        answer: Any = super().describe_images()  # type: ignore[misc]
        images = answer.result["Images"]
        if self._get_param("IncludeDisabled"):
            return ActionResult({"Images": images})
        return ActionResult({"Images": [image for image in images if image.state != "disabled"]})

    def disable_image(self) -> ActionResult:
        ami = self.backend.own_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        if ami.state not in {"available", "disabled"}:
            raise EC2ClientError("IncorrectState", f"The image {ami.id} is {ami.state}.")
        self.backend.change_record(ami, disabled=True, launch_permissions=())
        return ActionResult({"Return": True})

    def enable_image(self) -> ActionResult:
        ami = self.backend.own_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        self.backend.change_record(ami, disabled=False)
        return ActionResult({"Return": True})

    def describe_image_references(self) -> ActionResult:
        self._only(REFERENCE_PARAMETERS)
        if self._get_param("ResourceTypes") or not self._get_param("IncludeAllResourceTypes"):
            raise unsupported("DescribeImageReferences without IncludeAllResourceTypes")
        found = [
            {"ImageId": image_id, "ResourceType": kind, "Arn": arn}
            for image_id in self._get_param("ImageIds", [])
            for kind, arn in self.backend.image_references(image_id)
        ]
        return ActionResult({"ImageReferences": found})

    def modify_snapshot_attribute(self) -> ActionResult:
        self._only(SNAPSHOT_PARAMETERS)
        permission = self._get_param("CreateVolumePermission", {})
        added, removed = list(permission.get("Add", [])), list(permission.get("Remove", []))
        named = [
            *({"Group": group} for group in self._get_param("GroupNames", [])),
            *({"UserId": user} for user in self._get_param("UserIds", [])),
        ]
        (removed if self._get_param("OperationType") == "remove" else added).extend(named)
        if any(one.get("Group") for one in added):
            raise EC2ClientError(
                "OperationNotPermitted", "Block public access for snapshots is enabled for this account."
            )
        self.backend.validate_permission_targets(added)
        self.error_on_dryrun()
        snapshot_id = self._get_param("SnapshotId")
        self.backend.add_create_volume_permission(snapshot_id, user_ids=_users(added), groups=[])
        self.backend.remove_create_volume_permission(snapshot_id, user_ids=_users(removed), groups=[])
        for ami in self.backend.own_images():
            if ami.record.snapshot_id == snapshot_id:
                kept = self.backend.snapshots[snapshot_id].create_volume_permission_userids
                self.backend.change_record(ami, volume_permissions=tuple(sorted(kept)))
        return EmptyResult()
