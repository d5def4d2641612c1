"""What an account shows of its images in a region: in, a session; out, the images of ours, and who uses each.

Every question that is not answered is named in the view, and decides for keeping. What is asked: instances, launch
templates with all versions, launch configurations, Auto Scaling groups and their refreshes under way, the parameters
of promotion with their history, and EC2's own list of references (which knows other parameters and Image Builder).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import boto3

from pipeline import tags
from pipeline.aws_errors import AWS_FAILURES
from pipeline.catalog import Catalog
from pipeline.chunks import chunks
from pipeline.distribute import VARIANT, standing
from pipeline.errors import CloudError
from pipeline.hosts import by_group, hosts
from pipeline.pointer import read_pointer
from pipeline.retire import OwnImage, View

DISABLED_AT: Final = "OvenproofDisabledAt"
_IMAGE_ID: Final = re.compile(r"ami-[0-9a-f]{8,17}")
_UNDER_WAY: Final = frozenset({"Pending", "InProgress", "Cancelling", "RollbackInProgress", "Baking"})
_REFERENCES_A_CALL: Final = 100

Use = tuple[str, str]
"""An image's id, and in words who uses it."""


def view_of(session: boto3.Session, catalog: Catalog) -> View:
    """The session's region. Raises CloudError when not even the images can be listed."""
    region = session.region_name
    try:
        images = tuple(_own_images(session))
    except AWS_FAILURES as error:
        raise CloudError(
            "the images could not be listed, so nothing was decided",
            found=str(error),
            where=f"EC2 in {region}",
            remedy="allow ec2:DescribeImages, ec2:DescribeImageAttribute and ec2:DescribeSnapshotAttribute",
        ) from error
    ids = [image.image_id for image in images]
    uses: dict[str, list[str]] = {}
    blind: list[str] = []
    questions: dict[str, Callable[[], Iterator[Use]]] = {
        "instances": lambda: _of_instances(session, ids),
        "launch templates": lambda: _of_templates(session),
        "launch configurations": lambda: _of_configurations(session),
        "Auto Scaling groups": lambda: _of_groups(session),
        "promoted parameters": lambda: _of_parameters(session, catalog),
        "references known to EC2": lambda: references(session, ids),
    }
    for what, ask in questions.items():
        try:
            for image_id, use in ask():
                uses.setdefault(image_id, []).append(use)
        except AWS_FAILURES as error:
            blind.append(f"{what} in {region}: {error}")
        except CloudError as error:
            blind.append(f"{what} in {region}: {error.found}")
    known = {image_id: tuple(dict.fromkeys(found)) for image_id, found in uses.items()}
    return View(region=region, images=images, uses=known, blind=tuple(blind))


def _own_images(session: boto3.Session) -> Iterator[OwnImage]:
    ec2: Any = session.client("ec2")
    filters = [{"Name": "tag-key", "Values": [tags.STATE]}]
    pages = ec2.get_paginator("describe_images").paginate(Owners=["self"], Filters=filters, IncludeDisabled=True)
    for image in pages.search("Images[]"):
        own = tags.as_mapping(image.get("Tags", []))
        if not tags.is_bake_id(own.get(tags.BAKE_ID, "")) or VARIANT not in own:
            continue  # somebody else's tag of the same name
        now_is = standing(session, image)
        yield OwnImage(
            image_id=image["ImageId"],
            region=session.region_name,
            variant=own[VARIANT],
            bake_id=own[tags.BAKE_ID],
            created=_time(image["CreationDate"]),
            state=image["State"],
            deprecated_from=now_is.deprecation,
            disabled_at=_tagged_time(own.get(DISABLED_AT)),
            last_launched=_time(image["LastLaunchedTime"]) if image.get("LastLaunchedTime") else None,
            shared_with=tuple(sorted(now_is.shared_with | now_is.snapshots_shared_with)),
            protected=now_is.protected,
            expires=tags.EXPIRES_AT in own,
            snapshots=now_is.snapshots,
        )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _tagged_time(text: str | None) -> datetime | None:
    try:
        return tags.parse_time(text) if text else None
    except ValueError:
        return None


def _of_instances(session: boto3.Session, ids: Sequence[str]) -> Iterator[Use]:
    if not ids:
        return
    found = hosts(session, ids)
    for image_id in ids:
        if mine := [host for host in found if host.image_id == image_id]:
            yield image_id, f"hosts run it: {by_group(mine)}"


def _of_templates(session: boto3.Session) -> Iterator[Use]:
    ec2: Any = session.client("ec2")
    ssm: Any = session.client("ssm")
    for template in ec2.get_paginator("describe_launch_templates").paginate().search("LaunchTemplates[]"):
        pages = ec2.get_paginator("describe_launch_template_versions").paginate(
            LaunchTemplateId=template["LaunchTemplateId"]
        )
        for version in pages.search("LaunchTemplateVersions[]"):
            named = version.get("LaunchTemplateData", {}).get("ImageId", "")
            which = f"version {version['VersionNumber']} of launch template {template['LaunchTemplateId']} names it"
            if named.startswith("resolve:ssm:"):
                name = named.removeprefix("resolve:ssm:")
                yield ssm.get_parameter(Name=name)["Parameter"]["Value"], f"{which}, through {name}"
            elif named:
                yield named, which


def _of_configurations(session: boto3.Session) -> Iterator[Use]:
    scaling: Any = session.client("autoscaling")
    for one in scaling.get_paginator("describe_launch_configurations").paginate().search("LaunchConfigurations[]"):
        yield one["ImageId"], f"launch configuration {one['LaunchConfigurationName']} names it"


def _of_groups(session: boto3.Session) -> Iterator[Use]:
    scaling: Any = session.client("autoscaling")
    for group in scaling.get_paginator("describe_auto_scaling_groups").paginate().search("AutoScalingGroups[]"):
        name = group["AutoScalingGroupName"]
        for image_id in _named_in(group):
            yield image_id, f"Auto Scaling group {name} names it"
        answer = scaling.describe_instance_refreshes(AutoScalingGroupName=name)
        for refresh in answer["InstanceRefreshes"]:
            if refresh["Status"] in _UNDER_WAY:
                for image_id in _named_in(refresh):
                    yield image_id, f"a refresh of {name} is under way with it"


def _named_in(value: Any) -> Iterator[str]:
    """Every image id anywhere in an answer: APIs grow new places for one."""
    if isinstance(value, str):
        yield from _IMAGE_ID.findall(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _named_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named_in(item)


def _of_parameters(session: boto3.Session, catalog: Catalog) -> Iterator[Use]:
    ssm: Any = session.client("ssm")
    pages = ssm.get_paginator("get_parameters_by_path").paginate(
        Path=catalog.promotion.parameter_prefix, Recursive=True
    )
    for parameter in pages.search("Parameters[]"):
        name = parameter["Name"]
        for position, image_id in enumerate(read_pointer(session, name).ways_back()[: catalog.retention.ways_back]):
            yield image_id, f"{name} names it" if position == 0 else f"{name} named it: way back number {position}"


def references(session: boto3.Session, ids: Sequence[str]) -> Iterator[Use]:
    """What EC2 itself knows of: instances, launch templates, parameters, Image Builder recipes."""
    ec2: Any = session.client("ec2")
    for some in chunks(ids, _REFERENCES_A_CALL):
        pages = ec2.get_paginator("describe_image_references").paginate(ImageIds=some, IncludeAllResourceTypes=True)
        for one in pages.search("ImageReferences[]"):
            yield one["ImageId"], f"EC2 knows of a use: {one['Arn']}"
