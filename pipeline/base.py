"""An AWS public parameter in, the base image it names in one region out; and whether that base is fresh enough.

Source of the parameters: Amazon ECS developer guide, "Retrieving Amazon ECS-optimized Linux AMI metadata". The
sub-parameters are read one by one, because the JSON value holds less that can be checked.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import Final

import boto3

from pipeline.aws_errors import aws_errors
from pipeline.catalog import Flavour, Policies, VariantSelection, Waiver
from pipeline.errors import CloudError, PolicyRefusal

SUB_PARAMETERS: Final = ("image_id", "image_name", "image_version", "ecs_agent_version")


@dataclass(frozen=True, kw_only=True)
class Base:
    """One release of an upstream image in one region."""

    id: str
    name: str
    created: datetime
    image_version: str
    ecs_agent_version: str
    architecture: str
    parameter: str
    region: str


@dataclass(frozen=True, kw_only=True)
class BaseAge:
    """How old a base is, and by what right it may be used all the same."""

    days: int
    waiver: Waiver | None


def resolve_base(session: boto3.Session, flavour: Flavour, region: str) -> Base:
    """Read which image is the newest release of a flavour in a region, and make sure that it is what it says.

    Raises CloudError when AWS does not answer or the parameter names no image of Amazon's, PolicyRefusal when the
    image is another kind of machine or kernel line than the catalog expects.
    """
    parameter = flavour.base_parameter
    where = f"{parameter} in {region}"
    names = {key: f"{parameter}/{key}" for key in SUB_PARAMETERS}
    with aws_errors(
        "the base image could not be looked up",
        where=where,
        remedy="allow ssm:GetParameters and ec2:DescribeImages, and check credentials, region and network",
    ):
        answer = session.client("ssm", region_name=region).get_parameters(Names=list(names.values()))
        values = {item["Name"]: item["Value"] for item in answer["Parameters"]}
        if absent := [name for name in names.values() if name not in values]:
            raise CloudError(
                "AWS publishes no such base image",
                expected="\n".join(names.values()),
                found="missing: " + ", ".join(name.removeprefix(f"{parameter}/") for name in absent),
                where=where,
                remedy="check base_parameter in images/catalog.yaml, and that AWS publishes this flavour in the region",
            )
        image_id = values[names["image_id"]]
        images = session.client("ec2", region_name=region).describe_images(ImageIds=[image_id], Owners=["amazon"])[
            "Images"
        ]
    if not images:
        raise CloudError(
            f"the base image {image_id} is not an image of Amazon's",
            expected="an available image with owner alias amazon",
            found="none with that id",
            where=where,
            remedy="wait for AWS to finish its release, or bake in another region",
        )
    image = images[0]
    base = Base(
        id=image_id,
        name=image["Name"],
        created=datetime.fromisoformat(image["CreationDate"]).astimezone(UTC),
        image_version=values[names["image_version"]],
        ecs_agent_version=values[names["ecs_agent_version"]],
        architecture=image["Architecture"],
        parameter=parameter,
        region=region,
    )
    _refuse_another(base, published_name=values[names["image_name"]], state=image["State"], flavour=flavour)
    return base


def _refuse_another(base: Base, *, published_name: str, state: str, flavour: Flavour) -> None:
    wanted = {
        "state": ("available", state),
        "name, as the parameter has it": (published_name, base.name),
        "name, as the catalog has it": (flavour.base_name, base.name),
        "architecture": (flavour.architecture, base.architecture),
    }
    wrong = {
        what: (expected, found)
        for what, (expected, found) in wanted.items()
        if not (fnmatchcase(found, expected) if what.endswith("catalog has it") else found == expected)
    }
    if wrong:
        raise PolicyRefusal(
            f"the base image {base.id} is not the one that was asked for",
            expected="\n".join(f"{what}: {expected}" for what, (expected, _) in wrong.items()),
            found="\n".join(f"{what.partition(',')[0]}: {found}" for what, (_, found) in wrong.items()),
            where=f"{base.parameter} in {base.region}",
            remedy="look at what AWS changed before changing base_name or base_parameter in images/catalog.yaml",
        )


def base_age_verdict(base: Base, selection: VariantSelection, policies: Policies, today: date) -> BaseAge:
    """How old the base is on a day.

    Raises PolicyRefusal when it is older than the catalog allows and no waiver covers the variant on that day.
    """
    days = (today - base.created.date()).days
    if days <= policies.base_max_age_days:
        return BaseAge(days=days, waiver=None)
    waiver = policies.waiver("base-max-age", selection.variant_name, today)
    if waiver is None:
        raise PolicyRefusal(
            f"the base of {selection.id} is too old",
            expected=f"at most {policies.base_max_age_days} days (policies > base_max_age_days)",
            found=f"{days} days: {base.name} of {base.created.date()}",
            where=f"{base.parameter} in {base.region}",
            remedy="bake in a region whose base is newer, or add a waiver of base-max-age with a reason and an end "
            "date to images/catalog.yaml",
        )
    return BaseAge(days=days, waiver=waiver)
