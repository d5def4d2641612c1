"""EC2's operations: launch templates, and what a preflight looks at."""

from typing import TYPE_CHECKING, Any

from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.answers.registry import Answer, Parameters, matches, operation, page, tag_list
from pipeline.rehearsal.fleet.spec import Image
from pipeline.rehearsal.fleet.state import Host, Template
from pipeline.rehearsal.fleet.unknown import names_of, only_known

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World


@operation("ec2.DescribeLaunchTemplates", "LaunchTemplateIds LaunchTemplateNames MaxResults NextToken Filters DryRun")
def describe_templates(world: "World", given: Parameters) -> Answer:
    only_known(
        (one["Name"] for one in given.get("Filters", [])), ["launch-template-name"], "filter of launch templates"
    )
    if "LaunchTemplateIds" in given:
        chosen = [world.template_of({"LaunchTemplateId": one}) for one in given["LaunchTemplateIds"]]
    elif "LaunchTemplateNames" in given:
        chosen = [world.template_of({"LaunchTemplateName": one}) for one in given["LaunchTemplateNames"]]
    else:
        chosen = list(world.templates.values())
    chosen = [one for one in chosen if matches(given.get("Filters", []), lambda _, one=one: [one.name])]  # type: ignore[misc]
    found, more = page(chosen, given, most=200, size="MaxResults")
    return {"LaunchTemplates": [_template(world, template) for template in found], **more}


def _template(world: "World", template: Template) -> dict[str, Any]:
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "CreateTime": world.when(template.created[min(template.created)]),
        "CreatedBy": f"arn:aws:iam::{world.spec.account}:root",
        "DefaultVersionNumber": template.default,
        "LatestVersionNumber": max(template.versions),
        "Tags": [],
    }


def _version(world: "World", template: Template, number: int, *, resolve: bool = False) -> dict[str, Any]:
    data = template.versions[number]
    if resolve and str(data.get("ImageId", "")).startswith("resolve:ssm:"):
        data = {**data, "ImageId": world.image_named(data["ImageId"])}
    answer = {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": number,
        "CreateTime": world.when(template.created[number]),
        "CreatedBy": f"arn:aws:iam::{world.spec.account}:root",
        "DefaultVersion": number == template.default,
        "LaunchTemplateData": data,
    }
    if number in template.descriptions:
        answer["VersionDescription"] = template.descriptions[number]
    return answer


@operation(
    "ec2.DescribeLaunchTemplateVersions",
    "LaunchTemplateId LaunchTemplateName Versions MinVersion MaxVersion NextToken MaxResults Filters ResolveAlias "
    "DryRun",
)
def describe_versions(world: "World", given: Parameters) -> Answer:
    only_known((one["Name"] for one in given.get("Filters", [])), ["image-id"], "filter of launch template versions")
    resolve = given.get("ResolveAlias", False)
    if "LaunchTemplateId" in given or "LaunchTemplateName" in given:
        template = world.template_of(given)
        if "Versions" in given:
            numbers = [world.version_number(template, str(version)) for version in given["Versions"]]
        else:
            numbers = sorted(template.versions, reverse=True)
            low, high = int(given.get("MinVersion", 0)), int(given.get("MaxVersion", 10**9))
            numbers = [number for number in numbers if low <= number <= high]
        if world.lag:
            numbers = [number for number in numbers if world.t - template.created[number] >= world.lag]
            if "Versions" in given and not numbers:
                raise Refused(
                    "InvalidLaunchTemplateId.VersionNotFound",
                    f"Could not find launch template version for the launch template with ID {template.id}.",
                )
        chosen = [(template, number) for number in numbers]
    else:
        chosen = [
            (template, world.version_number(template, str(version)))
            for template in world.templates.values()
            for version in given.get("Versions", ["$Latest"])
        ]
    wanted = given.get("Filters", [])
    chosen = [
        (template, number)
        for template, number in chosen
        if matches(wanted, lambda _, t=template, n=number: [t.versions[n].get("ImageId", "")])  # type: ignore[misc]
    ]
    found, more = page(chosen, given, most=200, size="MaxResults")
    return {
        "LaunchTemplateVersions": [_version(world, template, number, resolve=resolve) for template, number in found],
        **more,
    }


@operation(
    "ec2.CreateLaunchTemplateVersion",
    "LaunchTemplateId LaunchTemplateName SourceVersion VersionDescription LaunchTemplateData ClientToken ResolveAlias "
    "DryRun",
    changes=True,
)
def create_version(world: "World", given: Parameters) -> Answer:
    template = world.template_of(given)
    token = given.get("ClientToken")
    if token and (template.id, token) in world.version_tokens:
        number = world.version_tokens[template.id, token]
        return {"LaunchTemplateVersion": _version(world, template, number)}
    data: dict[str, Any] = {}
    if "SourceVersion" in given:
        data = dict(template.versions[world.version_number(template, str(given["SourceVersion"]))])
    data.update(given["LaunchTemplateData"])
    number = template.next_number
    template.next_number += 1
    template.versions[number] = data
    template.created[number] = world.t
    if given.get("VersionDescription"):
        template.descriptions[number] = given["VersionDescription"]
    if token:
        world.version_tokens[template.id, token] = number
    world.note(f"launch template {template.name} has version {number}")
    return {"LaunchTemplateVersion": _version(world, template, number)}


@operation(
    "ec2.ModifyLaunchTemplate", "LaunchTemplateId LaunchTemplateName DefaultVersion ClientToken DryRun", changes=True
)
def modify_template(world: "World", given: Parameters) -> Answer:
    template = world.template_of(given)
    if "DefaultVersion" in given:
        template.default = world.version_number(template, str(given["DefaultVersion"]))
    return {"LaunchTemplate": _template(world, template)}


@operation("ec2.DeleteLaunchTemplateVersions", "LaunchTemplateId LaunchTemplateName Versions DryRun", changes=True)
def delete_versions(world: "World", given: Parameters) -> Answer:
    template = world.template_of(given)
    gone, kept = [], []
    for version in given["Versions"]:
        number = int(version)
        base = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": number}
        if number not in template.versions or number == template.default:
            code = "launchTemplateVersionDoesNotExist" if number not in template.versions else "unexpectedError"
            kept.append({**base, "ResponseError": {"Code": code, "Message": "The version cannot be deleted."}})
        else:
            del template.versions[number]
            gone.append(base)
    return {
        "SuccessfullyDeletedLaunchTemplateVersions": gone,
        "UnsuccessfullyDeletedLaunchTemplateVersions": kept,
    }


INSTANCE_FILTERS = ("instance-id", "instance-state-name", "image-id", "instance-type", "availability-zone", "tag:KEY")


def _host_values(host: Host, name: str) -> list[str]:
    if name.startswith("tag:"):
        return [host.tags[name[4:]]] if name[4:] in host.tags else []
    return {
        "instance-id": [host.id],
        "instance-state-name": [_state(host)],
        "image-id": [host.image],
        "instance-type": [host.instance_type],
        "availability-zone": [host.zone],
    }[name]


def _state(host: Host) -> str:
    if host.alive:
        return (
            "running" if host.container is not None or host.in_service < 1e18 or host.state != "Pending" else "pending"
        )
    return "terminated" if host.state == "Terminated" else "shutting-down"


STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}


def _instance(world: "World", host: Host) -> dict[str, Any]:
    state = _state(host)
    template = world.templates.get(host.template_id)
    data = template.versions.get(host.version, {}) if template else {}
    profile = data.get("IamInstanceProfile", {}).get("Name", "")
    answer: dict[str, Any] = {
        "InstanceId": host.id,
        "ImageId": host.image,
        "InstanceType": host.instance_type,
        "State": {"Name": state, "Code": STATE_CODES[state]},
        "LaunchTime": world.when(host.launched),
        "Placement": {"AvailabilityZone": host.zone, "Tenancy": "default"},
        "SubnetId": host.subnet,
        "PrivateIpAddress": host.ip,
        "Architecture": host.architecture,
        "RootDeviceName": world.images[host.image].root_device,
        "RootDeviceType": "ebs",
        "BlockDeviceMappings": [
            {
                "DeviceName": world.images[host.image].root_device,
                "Ebs": {
                    "AttachTime": world.when(host.launched if host.root_since is None else host.root_since),
                    "DeleteOnTermination": True,
                    "Status": "attached",
                    "VolumeId": f"vol-{host.id.removeprefix('i-')}",
                },
            }
        ],
        "Tags": tag_list(host.tags),
        "MetadataOptions": {
            "State": "applied",
            "HttpTokens": data.get("MetadataOptions", {}).get("HttpTokens", "optional"),
            "HttpPutResponseHopLimit": data.get("MetadataOptions", {}).get("HttpPutResponseHopLimit", 1),
            "HttpEndpoint": data.get("MetadataOptions", {}).get("HttpEndpoint", "enabled"),
        },
    }
    if host.spot:
        answer["InstanceLifecycle"] = "spot"
    if profile:
        answer["IamInstanceProfile"] = {
            "Arn": f"arn:aws:iam::{world.spec.account}:instance-profile/{profile}",
            "Id": "AIPA0000000000000000",
        }
    return answer


@operation("ec2.DescribeInstances", "InstanceIds Filters MaxResults NextToken DryRun")
def describe_instances(world: "World", given: Parameters) -> Answer:
    filters = given.get("Filters", [])
    only_known(names_of(filters), INSTANCE_FILTERS, "filter of instances")
    hosts = [host for host in world.hosts.values() if world.t - host.ended < 3600]
    if world.lag:
        hosts = [host for host in hosts if host.launched < 0 or world.t - host.launched >= world.lag]
    if "InstanceIds" in given:
        known = {host.id: host for host in hosts}
        for name in given["InstanceIds"]:
            if name not in known:
                raise Refused("InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist")
        hosts = [known[name] for name in given["InstanceIds"]]
    if filters:
        hosts = [host for host in hosts if matches(filters, lambda name, host=host: _host_values(host, name))]  # type: ignore[misc]
    found, more = page(hosts, given, most=1000, size="MaxResults")
    return {
        "Reservations": [
            {
                "ReservationId": f"r-{host.index:017x}",
                "OwnerId": world.spec.account,
                "Groups": [],
                "Instances": [_instance(world, host)],
            }
            for host in found
        ],
        **more,
    }


@operation("ec2.DescribeInstanceTypes", "InstanceTypes MaxResults NextToken DryRun")
def describe_types(world: "World", given: Parameters) -> Answer:
    names = given.get("InstanceTypes") or list(world.types)
    for name in names:
        if name not in world.types:
            raise Refused("InvalidInstanceType", f"The following supplied instance types do not exist: [{name}]")
    found, more = page(names, given, most=100, size="MaxResults")
    answer = []
    for name in found:
        kind = world.types[name]
        one: dict[str, Any] = {
            "InstanceType": name,
            "CurrentGeneration": True,
            "ProcessorInfo": {"SupportedArchitectures": [kind.architecture]},
            "VCpuInfo": {"DefaultVCpus": kind.vcpus},
            "MemoryInfo": {"SizeInMiB": kind.memory},
        }
        if kind.gpus:
            one["GpuInfo"] = {"Gpus": [{"Name": "T4", "Manufacturer": "NVIDIA", "Count": kind.gpus}]}
        answer.append(one)
    return {"InstanceTypes": answer, **more}


IMAGE_FILTERS = ("name", "state", "architecture", "image-id", "tag:KEY")


@operation(
    "ec2.DescribeImages", "ImageIds Owners Filters IncludeDeprecated IncludeDisabled MaxResults NextToken DryRun"
)
def describe_images(world: "World", given: Parameters) -> Answer:
    filters = given.get("Filters", [])
    only_known(names_of(filters), IMAGE_FILTERS, "filter of images")
    images = list(world.images.values())
    if "ImageIds" in given:
        for name in given["ImageIds"]:
            if name not in world.images:
                raise Refused("InvalidAMIID.NotFound", f"The image id '[{name}]' does not exist")
        images = [world.images[name] for name in given["ImageIds"]]
    elif not given.get("IncludeDeprecated", True):
        images = [image for image in images if not image.deprecated]

    def values(image: Image, name: str) -> list[str]:
        if name.startswith("tag:"):
            return [image.tags[name[4:]]] if name[4:] in image.tags else []
        return [
            {"name": image.name, "state": "available", "architecture": image.architecture, "image-id": image.id}[name]
        ]

    images = [image for image in images if matches(filters, lambda name, image=image: values(image, name))]  # type: ignore[misc]
    found, more = page(images, given, most=1000, size="MaxResults")
    return {"Images": [_image(world, image) for image in found], **more}


def _image(world: "World", image: Image) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "ImageId": image.id,
        "Name": image.name,
        "State": "available",
        "Architecture": image.architecture,
        "ImageType": "machine",
        "OwnerId": world.spec.account,
        "Public": False,
        "RootDeviceName": image.root_device,
        "RootDeviceType": "ebs",
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "EnaSupport": True,
        "ImdsSupport": "v2.0",
        "CreationDate": f"{world.when(-172800):%Y-%m-%dT%H:%M:%S.000Z}",
        "BlockDeviceMappings": [
            {
                "DeviceName": image.root_device,
                "Ebs": {
                    "VolumeSize": image.root_gib,
                    "VolumeType": "gp3",
                    "Encrypted": False,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "Tags": tag_list(image.tags),
    }
    if image.deprecated:
        answer["DeprecationTime"] = f"{world.when(-86400):%Y-%m-%dT%H:%M:%S.000Z}"
    return answer


@operation("ec2.DescribeSubnets", "SubnetIds Filters MaxResults NextToken DryRun")
def describe_subnets(world: "World", given: Parameters) -> Answer:
    only_known(
        (one["Name"] for one in given.get("Filters", [])), ["subnet-id", "availability-zone"], "filter of subnets"
    )
    subnets = list(world.subnets.values())
    if "SubnetIds" in given:
        for name in given["SubnetIds"]:
            if name not in world.subnets:
                raise Refused("InvalidSubnetID.NotFound", f"The subnet ID '{name}' does not exist")
        subnets = [world.subnets[name] for name in given["SubnetIds"]]
    subnets = [
        subnet
        for subnet in subnets
        if matches(
            given.get("Filters", []),
            lambda name, subnet=subnet: [subnet.id if name == "subnet-id" else subnet.zone],  # type: ignore[misc]
        )
    ]
    found, more = page(subnets, given, most=1000, size="MaxResults")
    used: dict[str, int] = {}
    for host in world.hosts.values():
        if host.alive and host.launched >= 0:
            used[host.subnet] = used.get(host.subnet, 0) + 1
    return {
        "Subnets": [
            {
                "SubnetId": subnet.id,
                "VpcId": "vpc-00000000000000001",
                "AvailabilityZone": subnet.zone,
                "State": "available",
                "AvailableIpAddressCount": subnet.free_addresses - used.get(subnet.id, 0),
                "CidrBlock": "10.0.0.0/16",
                "OwnerId": world.spec.account,
            }
            for subnet in found
        ],
        **more,
    }


@operation("ec2.DescribeCapacityReservations", "CapacityReservationIds Filters MaxResults NextToken DryRun")
def describe_reservations(world: "World", given: Parameters) -> Answer:
    filters = given.get("Filters", [])
    only_known(
        (one["Name"] for one in filters), ["instance-type", "availability-zone", "state"], "filter of reservations"
    )
    chosen = [
        (number, one)
        for number, one in enumerate(world.spec.capacity_reservations, 1)
        if matches(
            filters,
            lambda name, one=one: [
                {"instance-type": one.instance_type, "availability-zone": one.zone, "state": "active"}[name]
            ],  # type: ignore[misc]
        )
    ]
    found, more = page(chosen, given, most=1000, size="MaxResults")
    return {
        "CapacityReservations": [
            {
                "CapacityReservationId": f"cr-{number:017x}",
                "OwnerId": world.spec.account,
                "InstanceType": one.instance_type,
                "InstancePlatform": "Linux/UNIX",
                "AvailabilityZone": one.zone,
                "TotalInstanceCount": one.total,
                "AvailableInstanceCount": one.available,
                "State": "active",
            }
            for number, one in found
        ],
        **more,
    }


@operation("ec2.CreateTags", "Resources Tags DryRun", changes=True)
def create_tags(world: "World", given: Parameters) -> Answer:
    for name in given["Resources"]:
        host = world.hosts.get(name)
        if host is None and name not in world.templates and name not in world.images:
            raise Refused("InvalidID", f"The ID '{name}' is not valid")
        if host is not None:
            host.tags.update({tag["Key"]: tag.get("Value", "") for tag in given["Tags"]})
    return {}


@operation("ec2.TerminateInstances", "InstanceIds DryRun", changes=True)
def terminate_instances(world: "World", given: Parameters) -> Answer:
    answer = []
    for name in given["InstanceIds"]:
        host = world.hosts.get(name)
        if host is None:
            raise Refused("InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist")
        before = _state(host)
        world.groups.die(host)
        if host.group is not None and host.id in host.group.hosts:
            world.after(60, world.groups.terminate, host, "an instance was taken out of service by EC2")
        answer.append(
            {
                "InstanceId": name,
                "PreviousState": {"Name": before, "Code": STATE_CODES[before]},
                "CurrentState": {"Name": "shutting-down", "Code": 32},
            }
        )
    return {"TerminatingInstances": answer}
