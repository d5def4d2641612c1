"""A small account in memory: images, snapshots, parameters, and who uses them, in any number of regions.

In: calls of boto3 on `ImageWorld.session(region)`. Out: answers and refusals as EC2, SSM and Auto Scaling give them,
held against botocore's models. Hundreds of promotions a second, so that every step can be broken; the local cloud
plays the same story once, in `test_promote.py`, and the two have to agree.
"""

import copy
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import boto3
from botocore.loaders import Loader

from pipeline.clock import Clock
from pipeline.rehearsal.answered_session import Call, Refused, answered_session, not_modelled
from tests.faults import Faults

COPY_SECONDS = 4
ACCOUNT_ID = "123456789012"
AMAZON = "591542846629"
_LOADER = Loader()


@dataclass
class Image:
    """An image with its one snapshot."""

    id: str
    region: str
    name: str
    created: datetime
    tags: dict[str, str]
    snapshot: str
    snapshot_tags: dict[str, str]
    available_at: datetime
    encrypted_with: str = ""
    source: str = ""
    token: str = ""
    imds: str = ""
    protected: bool = False
    disabled: bool = False
    broken: bool = False
    owner: str = ACCOUNT_ID
    deprecation: datetime | None = None
    last_launched: datetime | None = None
    shared: list[dict[str, str]] = field(default_factory=list)
    volume_shared: list[str] = field(default_factory=list)


@dataclass
class ImageWorld:
    """The account. `instances`, `templates`, `groups` and `refreshes` are by region, as the APIs show them."""

    clock: Clock
    images: dict[str, Image] = field(default_factory=dict)
    parameters: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    instances: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    templates: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    groups: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refreshes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    configurations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    coverage: dict[str, str] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    refuses: dict[tuple[str, str], str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    called: set[str] = field(default_factory=set)
    _sessions: dict[str, boto3.Session] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def session(self, region: str) -> boto3.Session:
        """The session of the account in a region; there is one, with one client a service: making them is slow."""
        if region not in self._sessions:
            session = answered_session(self._answer, region=region, check_answers=True)
            session._session.register_component("data_loader", _LOADER)
            session.client = functools.cache(session.client)  # type: ignore[method-assign]
            self.faults.watch(session)
            self._sessions[region] = session
        return self._sessions[region]

    def state(self) -> Any:
        """What stands now, to be put back by `restore`."""
        return copy.deepcopy((self.images, self.parameters, self.instances, self.templates))

    def restore(self, state: Any) -> None:
        """Let stand what stood then; time has gone on."""
        self.images, self.parameters, self.instances, self.templates = copy.deepcopy(state)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers):017x}"

    def add_image(self, region: str, name: str, tags: Mapping[str, str], **more: Any) -> Image:
        """An image that is there already."""
        image = Image(
            id=self.new_id("ami"),
            region=region,
            name=name,
            created=more.pop("created", self.clock.now()),
            tags=dict(tags),
            snapshot=self.new_id("snap"),
            snapshot_tags=dict(tags),
            available_at=self.clock.now(),
            **more,
        )
        self.images[image.id] = image
        return image

    def parameter(self, region: str, name: str) -> str:
        """What a parameter says, "" for none."""
        versions = self.parameters.get((region, name), [])
        return str(versions[-1]["Value"]) if versions else ""

    def _answer(self, call: Call) -> Mapping[str, Any]:
        self.called.add(f"{call.service}:{call.operation}")
        if code := self.refuses.get((call.region, call.operation)):
            raise Refused(code, "You are not authorized to perform this operation.")
        handler: Callable[..., Any] | None = getattr(self, f"_{call.service.replace('-', '_')}_{call.operation}", None)
        if handler is None:
            raise not_modelled(call)
        answer: Mapping[str, Any] | None = handler(call.region, **call.parameters)
        return answer or {}

    # EC2: images

    def _one(self, region: str, image_id: str) -> Image:
        image = self.images.get(image_id)
        if image is None or image.region != region:
            raise Refused("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        return image

    def _state(self, image: Image) -> str:
        if image.broken:
            return "failed"
        if image.disabled:
            return "disabled"
        return "available" if self.clock.now() >= image.available_at else "pending"

    def _shown(self, image: Image) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "ImageId": image.id,
            "Name": image.name,
            "State": self._state(image),
            "OwnerId": image.owner,
            "CreationDate": f"{image.created:%Y-%m-%dT%H:%M:%S.000Z}",
            "Public": {"Group": "all"} in image.shared,
            "Tags": [{"Key": key, "Value": value} for key, value in image.tags.items()],
            "DeregistrationProtection": "enabled-without-cooldown" if image.protected else "disabled",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": image.snapshot}}],
        }
        if image.imds:
            shown["ImdsSupport"] = image.imds
        if image.deprecation:
            shown["DeprecationTime"] = f"{image.deprecation:%Y-%m-%dT%H:%M:%S.000Z}"
        if image.last_launched:
            shown["LastLaunchedTime"] = f"{image.last_launched:%Y-%m-%dT%H:%M:%SZ}"
        return shown

    def _matches(self, image: Image, filters: list[dict[str, Any]]) -> bool:
        values = {
            "image-id": image.id,
            "name": image.name,
            "state": self._state(image),
            "architecture": "x86_64",
            **{f"tag:{key}": value for key, value in image.tags.items()},
        }
        keys = {"tag-key": list(image.tags)}
        return all(
            any(
                fnmatchcase(found, wanted)
                for wanted in one["Values"]
                for found in keys.get(one["Name"], [values.get(one["Name"], "")])
            )
            for one in filters
        )

    def _ec2_DescribeImages(
        self,
        region: str,
        ImageIds: Any = (),
        Filters: Any = (),
        Owners: Any = (),
        IncludeDisabled: bool = False,
        **_: Any,
    ) -> Any:
        for image_id in ImageIds:
            self._one(region, image_id)
        owners = {{"self": ACCOUNT_ID, "amazon": AMAZON}.get(one, one) for one in Owners}
        found = [
            image
            for image in self.images.values()
            if image.region == region
            and (not ImageIds or image.id in ImageIds)
            and (not owners or image.owner in owners)
            and (IncludeDisabled or not image.disabled)
            and self._matches(image, Filters)
        ]
        return {"Images": [self._shown(image) for image in found]}

    def _ec2_CopyImage(self, region: str, **asked: Any) -> Any:
        for image in self.images.values():
            if (image.region, image.token) == (region, asked["ClientToken"]):
                return {"ImageId": image.id}
        source = self._one(asked["SourceRegion"], asked["SourceImageId"])
        if any(image.region == region and image.name == asked["Name"] for image in self.images.values()):
            raise Refused("InvalidAMIName.Duplicate", f"AMI name {asked['Name']} is already in use")
        given = {
            one["ResourceType"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in asked["TagSpecifications"]
        }
        image = self.add_image(
            region,
            asked["Name"],
            given["image"],
            source=source.id,
            token=asked["ClientToken"],
            encrypted_with=asked.get("KmsKeyId", ""),
        )
        image.snapshot_tags = dict(given["snapshot"])
        image.available_at = self.clock.now() + timedelta(seconds=COPY_SECONDS)
        return {"ImageId": image.id}

    def _ec2_DeregisterImage(self, region: str, ImageId: str, **_: Any) -> Any:
        if self._one(region, ImageId).protected:
            raise Refused("OperationNotPermitted", f"The image {ImageId} is protected from deregistration.")
        del self.images[ImageId]
        return {"Return": True}

    def _ec2_DisableImage(self, region: str, ImageId: str, **_: Any) -> Any:
        image = self._one(region, ImageId)
        image.disabled, image.shared = True, []
        return {"Return": True}

    def _ec2_EnableImageDeprecation(
        self,
        region: str,
        ImageId: str,
        DeprecateAt: Any,
        **_: Any,
    ) -> Any:
        at = datetime.fromisoformat(str(DeprecateAt))
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        if at <= self.clock.now():
            raise Refused("InvalidParameterValue", "DeprecateAt must be in the future")
        self._one(region, ImageId).deprecation = at
        return {"Return": True}

    def _ec2_EnableImageDeregistrationProtection(self, region: str, ImageId: str, **_: Any) -> Any:
        self._one(region, ImageId).protected = True
        return {"Return": "enabled-without-cooldown"}

    def _ec2_DisableImageDeregistrationProtection(self, region: str, ImageId: str, **_: Any) -> Any:
        self._one(region, ImageId).protected = False
        return {"Return": "disabled"}

    def _ec2_DescribeImageAttribute(self, region: str, ImageId: str, **_: Any) -> Any:
        return {"ImageId": ImageId, "LaunchPermissions": list(self._one(region, ImageId).shared)}

    def _ec2_ModifyImageAttribute(self, region: str, ImageId: str, **asked: Any) -> None:
        image = self._one(region, ImageId)
        image.imds = asked.get("ImdsSupport", {}).get("Value", image.imds)
        image.shared += asked.get("LaunchPermission", {}).get("Add", [])

    def _snapshot(self, region: str, snapshot_id: str) -> Image:
        for image in self.images.values():
            if (image.region, image.snapshot) == (region, snapshot_id):
                return image
        raise Refused("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")

    def _ec2_DescribeSnapshots(self, region: str, SnapshotIds: list[str], **_: Any) -> Any:
        images = [self._snapshot(region, one) for one in SnapshotIds]
        return {
            "Snapshots": [
                {"SnapshotId": one.snapshot, "State": "completed" if self._state(one) != "pending" else "pending"}
                for one in images
            ]
        }

    def _ec2_DescribeSnapshotAttribute(self, region: str, SnapshotId: str, **_: Any) -> Any:
        shared = self._snapshot(region, SnapshotId).volume_shared
        return {"SnapshotId": SnapshotId, "CreateVolumePermissions": [{"UserId": one} for one in shared]}

    def _ec2_ModifySnapshotAttribute(
        self,
        region: str,
        SnapshotId: str,
        CreateVolumePermission: Any,
        **_: Any,
    ) -> None:
        self._snapshot(region, SnapshotId).volume_shared += [one["UserId"] for one in CreateVolumePermission["Add"]]

    def _tags_of(self, region: str, resource: str) -> dict[str, str]:
        return (
            self._one(region, resource).tags
            if resource.startswith("ami-")
            else self._snapshot(region, resource).snapshot_tags
        )

    def _ec2_CreateTags(self, region: str, Resources: list[str], Tags: list[dict[str, str]], **_: Any) -> None:
        for resource in Resources:
            self._tags_of(region, resource).update({tag["Key"]: tag["Value"] for tag in Tags})

    def _ec2_DeleteTags(self, region: str, Resources: list[str], Tags: list[dict[str, str]], **_: Any) -> None:
        for resource in Resources:
            for tag in Tags:
                self._tags_of(region, resource).pop(tag["Key"], None)

    # EC2: who uses them

    def _ec2_DescribeInstances(self, region: str, Filters: Any = (), InstanceIds: Any = (), **_: Any) -> Any:
        found = self.instances.get(region, [])
        wanted = {one["Name"]: one["Values"] for one in Filters}
        if "image-id" in wanted:
            found = [one for one in found if one["ImageId"] in wanted["image-id"]]
        if "instance-state-name" in wanted:
            found = [one for one in found if one["State"]["Name"] in wanted["instance-state-name"]]
        if InstanceIds:
            found = [one for one in found if one["InstanceId"] in InstanceIds]
        return {"Reservations": [{"Instances": found}]}

    def _ec2_DescribeLaunchTemplates(self, region: str, **_: Any) -> Any:
        return {"LaunchTemplates": [{"LaunchTemplateId": one} for one in self.templates.get(region, {})]}

    def _ec2_DescribeLaunchTemplateVersions(self, region: str, LaunchTemplateId: str, **_: Any) -> Any:
        versions = self.templates.get(region, {}).get(LaunchTemplateId)
        if versions is None:
            raise Refused("InvalidLaunchTemplateId.NotFound", "The specified launch template does not exist.")
        return {"LaunchTemplateVersions": versions}

    def _ec2_DescribeImageReferences(self, region: str, ImageIds: list[str], **_: Any) -> Any:
        found = []
        for one in self.instances.get(region, []):
            if one["ImageId"] in ImageIds and one["State"]["Name"] != "terminated":
                arn = f"arn:aws:ec2:{region}:{ACCOUNT_ID}:instance/{one['InstanceId']}"
                found.append({"ImageId": one["ImageId"], "ResourceType": "ec2:Instance", "Arn": arn})
        for (where, name), versions in self.parameters.items():
            if where == region and versions and versions[-1]["Value"] in ImageIds:
                arn = f"arn:aws:ssm:{region}:{ACCOUNT_ID}:parameter{name}"
                found.append({"ImageId": versions[-1]["Value"], "ResourceType": "ssm:Parameter", "Arn": arn})
        return {"ImageReferences": found}

    # Auto Scaling

    def _autoscaling_DescribeAutoScalingGroups(self, region: str, **_: Any) -> Any:
        return {"AutoScalingGroups": self.groups.get(region, [])}

    def _autoscaling_DescribeInstanceRefreshes(self, region: str, AutoScalingGroupName: str, **_: Any) -> Any:
        found = [one for one in self.refreshes.get(region, []) if one["AutoScalingGroupName"] == AutoScalingGroupName]
        return {"InstanceRefreshes": found}

    def _autoscaling_DescribeLaunchConfigurations(self, region: str, **_: Any) -> Any:
        return {"LaunchConfigurations": self.configurations.get(region, [])}

    # GuardDuty and SNS

    def _guardduty_ListDetectors(self, region: str, **_: Any) -> Any:  # noqa: ARG002
        return {"DetectorIds": ["d1"]}

    def _guardduty_ListCoverage(self, region: str, **_: Any) -> Any:  # noqa: ARG002
        rows = [
            {
                "ResourceId": instance,
                "CoverageStatus": status,
                "ResourceDetails": {"ResourceType": "EC2", "Ec2InstanceDetails": {"InstanceId": instance}},
            }
            for instance, status in self.coverage.items()
        ]
        return {"Resources": rows}

    def _sns_Publish(self, region: str, **asked: Any) -> Any:  # noqa: ARG002
        self.published.append(dict(asked))
        return {"MessageId": "m1"}

    # SSM

    def _ssm_GetParameter(self, region: str, Name: str, **_: Any) -> Any:
        last = self._versions(region, Name)[-1]
        return {"Parameter": {key: last[key] for key in ("Name", "Value", "Version")}}

    def _ssm_GetParameterHistory(self, region: str, Name: str, **_: Any) -> Any:
        return {"Parameters": self._versions(region, Name)}

    def _ssm_GetParametersByPath(self, region: str, Path: str, **_: Any) -> Any:
        found = [
            versions[-1]
            for (where, name), versions in self.parameters.items()
            if where == region and versions and name.startswith(Path + "/")
        ]
        return {"Parameters": [{key: one[key] for key in ("Name", "Value", "Version")} for one in found]}

    def _ssm_GetParameters(self, region: str, Names: list[str], **_: Any) -> Any:
        found = [self.parameters[region, name][-1] for name in Names if self.parameters.get((region, name))]
        shown = [{key: one[key] for key in ("Name", "Value", "Version")} for one in found]
        return {"Parameters": shown, "InvalidParameters": []}

    def _versions(self, region: str, name: str) -> list[dict[str, Any]]:
        versions = self.parameters.get((region, name))
        if not versions:
            raise Refused("ParameterNotFound", f"Parameter {name} not found.")
        return versions

    def _ssm_PutParameter(self, region: str, Name: str, Value: str, **asked: Any) -> Any:
        versions = self.parameters.setdefault((region, Name), [])
        number = versions[-1]["Version"] + 1 if versions else 1
        image = self.images.get(Value)
        if asked.get("DataType") != "aws:ec2:image" or (
            image is not None and image.region == region and self._state(image) == "available"
        ):
            versions.append(
                {
                    "Name": Name,
                    "Value": Value,
                    "Version": number,
                    "Description": asked.get("Description", ""),
                    "LastModifiedDate": self.clock.now(),
                }
            )
        return {"Version": number, "Tier": "Standard"}

    def _ssm_DeleteParameter(self, region: str, Name: str, **_: Any) -> None:
        self._versions(region, Name)
        del self.parameters[region, Name]
