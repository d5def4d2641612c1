"""Which base a flavour has in a region, and whether it is fresh enough.

The real parameters and images of a day in September 2026 come with moto; the failures are played by botocore's Stubber.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from pipeline.base import Base, base_age_verdict, resolve_base
from pipeline.catalog import Catalog, Flavour, VariantSelection, Waiver, load_catalog
from pipeline.errors import CloudError, PolicyRefusal

CATALOG = load_catalog()
PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2/kernel-5.10/recommended"
NAME = "amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260924-x86_64-ebs"


@pytest.fixture(scope="module")
def aws() -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session(aws_access_key_id="none", aws_secret_access_key="none")


@pytest.mark.parametrize("selection", CATALOG.selections(), ids=lambda selection: selection.id)
def test_every_flavour_has_a_base(aws: boto3.Session, selection: VariantSelection) -> None:
    base = resolve_base(aws, selection.flavour, "us-east-1")

    assert f"kernel-{selection.variant.kernel_line}-" in base.name
    assert base.architecture == selection.flavour.architecture


def test_what_is_known_of_a_base(aws: boto3.Session) -> None:
    base = resolve_base(aws, flavour(), "us-east-1")

    assert base == Base(
        id="ami-06524d4ef4a884456",
        name=NAME,
        created=base.created,
        image_version="2.0.20260924",
        ecs_agent_version="1.107.0",
        architecture="x86_64",
        parameter=PARAMETER,
        region="us-east-1",
    )
    assert base.created.tzinfo is UTC


def test_regions_are_not_in_step(aws: boto3.Session) -> None:
    assert resolve_base(aws, flavour(), "me-south-1").image_version == "2.0.20260226"


def flavour() -> Flavour:
    return CATALOG.select("ecs-al2-kernel-5.10", "x86_64").flavour


class Stubbed:
    """A session whose SSM and EC2 answer what a test says."""

    def __init__(self) -> None:
        real = boto3.Session(aws_access_key_id="none", aws_secret_access_key="none", region_name="eu-west-1")
        self.clients: dict[str, Any] = {name: real.client(name) for name in ("ssm", "ec2")}
        self.stubs = {name: Stubber(client) for name, client in self.clients.items()}
        for stub in self.stubs.values():
            stub.activate()

    def client(self, name: str, region_name: str) -> Any:
        assert region_name == "eu-west-1"
        return self.clients[name]

    def parameters(self, **values: str) -> None:
        self.stubs["ssm"].add_response(
            "get_parameters",
            {"Parameters": [{"Name": f"{PARAMETER}/{key}", "Value": value} for key, value in values.items()]},
            {
                "Names": [
                    f"{PARAMETER}/{key}" for key in ("image_id", "image_name", "image_version", "ecs_agent_version")
                ]
            },
        )

    def release(self) -> None:
        self.parameters(
            image_id="ami-06524d4ef4a884456", image_name=NAME, image_version="2.0.20260924", ecs_agent_version="1.107.0"
        )

    def images(self, *images: dict[str, str]) -> None:
        self.stubs["ec2"].add_response(
            "describe_images", {"Images": images}, {"ImageIds": ["ami-06524d4ef4a884456"], "Owners": ["amazon"]}
        )

    def resolve(self) -> Base:
        return resolve_base(self, flavour(), "eu-west-1")  # type: ignore[arg-type]


IMAGE = {
    "ImageId": "ami-06524d4ef4a884456",
    "Name": NAME,
    "Architecture": "x86_64",
    "State": "available",
    "CreationDate": "2026-09-24T18:11:02.000Z",
}


@pytest.fixture
def stubbed() -> Stubbed:
    return Stubbed()


def test_creation_is_read_with_its_zone(stubbed: Stubbed) -> None:
    stubbed.release()
    stubbed.images(IMAGE)

    assert stubbed.resolve().created == datetime(2026, 9, 24, 18, 11, 2, tzinfo=UTC)


def test_flavour_that_is_not_published_there(stubbed: Stubbed) -> None:
    stubbed.parameters(image_id="ami-06524d4ef4a884456", image_version="2.0.20260924")

    with pytest.raises(CloudError) as caught:
        stubbed.resolve()

    assert str(caught.value) == (
        "AWS publishes no such base image\n"
        f"  expected: {PARAMETER}/image_id\n"
        f"            {PARAMETER}/image_name\n"
        f"            {PARAMETER}/image_version\n"
        f"            {PARAMETER}/ecs_agent_version\n"
        "  found:    missing: image_name, ecs_agent_version\n"
        f"  where:    {PARAMETER} in eu-west-1\n"
        "  do:       check base_parameter in images/catalog.yaml, and that AWS publishes this flavour in the region"
    )


def test_permission_that_is_missing(stubbed: Stubbed) -> None:
    stubbed.stubs["ssm"].add_client_error("get_parameters", "AccessDeniedException", "not you")

    with pytest.raises(CloudError) as caught:
        stubbed.resolve()

    assert str(caught.value) == (
        "the base image could not be looked up\n"
        "  found:    An error occurred (AccessDeniedException) when calling the GetParameters operation: not you\n"
        f"  where:    {PARAMETER} in eu-west-1\n"
        "  do:       allow ssm:GetParameters and ec2:DescribeImages, and check credentials, region and network"
    )


def test_parameter_whose_image_is_not_there_yet_or_not_amazons(stubbed: Stubbed) -> None:
    stubbed.release()
    stubbed.images()

    with pytest.raises(CloudError) as caught:
        stubbed.resolve()

    assert str(caught.value) == (
        "the base image ami-06524d4ef4a884456 is not an image of Amazon's\n"
        "  expected: an available image with owner alias amazon\n"
        "  found:    none with that id\n"
        f"  where:    {PARAMETER} in eu-west-1\n"
        "  do:       wait for AWS to finish its release, or bake in another region"
    )


@pytest.mark.parametrize(
    ("change", "expected", "found"),
    [
        (
            {"Name": "amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260101-x86_64-ebs"},
            f"name, as the parameter has it: {NAME}",
            "name: amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260101-x86_64-ebs",
        ),
        ({"Architecture": "arm64"}, "architecture: x86_64", "architecture: arm64"),
        ({"State": "pending"}, "state: available", "state: pending"),
    ],
)
def test_image_that_contradicts_its_parameter(
    stubbed: Stubbed, change: dict[str, str], expected: str, found: str
) -> None:
    stubbed.release()
    stubbed.images(IMAGE | change)

    with pytest.raises(PolicyRefusal) as caught:
        stubbed.resolve()

    assert caught.value.what == "the base image ami-06524d4ef4a884456 is not the one that was asked for"
    assert (caught.value.expected, caught.value.found) == (expected, found)


def test_parameter_that_starts_to_name_another_kernel_line(stubbed: Stubbed) -> None:
    other = "amzn2-ami-ecs-kernel-5.15-hvm-2.0.20261201-x86_64-ebs"
    stubbed.parameters(
        image_id="ami-06524d4ef4a884456", image_name=other, image_version="2.0.20261201", ecs_agent_version="1.109.0"
    )
    stubbed.images(IMAGE | {"Name": other})

    with pytest.raises(PolicyRefusal) as caught:
        stubbed.resolve()

    assert str(caught.value) == (
        "the base image ami-06524d4ef4a884456 is not the one that was asked for\n"
        "  expected: name, as the catalog has it: amzn2-ami-ecs-kernel-5.10-hvm-*-x86_64-ebs\n"
        "  found:    name: amzn2-ami-ecs-kernel-5.15-hvm-2.0.20261201-x86_64-ebs\n"
        f"  where:    {PARAMETER} in eu-west-1\n"
        "  do:       look at what AWS changed before changing base_name or base_parameter in images/catalog.yaml"
    )


BASE = Base(
    id="ami-06524d4ef4a884456",
    name=NAME,
    created=datetime(2026, 9, 24, 18, 11, 2, tzinfo=UTC),
    image_version="2.0.20260924",
    ecs_agent_version="1.107.0",
    architecture="x86_64",
    parameter=PARAMETER,
    region="eu-west-1",
)
WAIVER = Waiver(policy="base-max-age", variant="ecs-al2-kernel-5.10", reason="frozen", until=date(2026, 12, 31))


def with_waiver(catalog: Catalog) -> Catalog:
    return catalog.model_copy(update={"policies": catalog.policies.model_copy(update={"waivers": (WAIVER,)})})


@pytest.mark.parametrize(("today", "days"), [(date(2026, 9, 24), 0), (date(2026, 11, 8), 45)])
def test_base_within_the_limit(today: date, days: int) -> None:
    verdict = base_age_verdict(BASE, CATALOG.select("ecs-al2-kernel-5.10", "x86_64"), CATALOG.policies, today)

    assert (verdict.days, verdict.waiver) == (days, None)


def test_base_past_the_limit_is_refused() -> None:
    with pytest.raises(PolicyRefusal) as caught:
        base_age_verdict(BASE, CATALOG.select("ecs-al2-kernel-5.10", "x86_64"), CATALOG.policies, date(2026, 11, 9))

    assert str(caught.value) == (
        "the base of ecs-al2-kernel-5.10/x86_64 is too old\n"
        "  expected: at most 45 days (policies > base_max_age_days)\n"
        f"  found:    46 days: {NAME} of 2026-09-24\n"
        f"  where:    {PARAMETER} in eu-west-1\n"
        "  do:       bake in a region whose base is newer, or add a waiver of base-max-age with a reason and an end "
        "date to images/catalog.yaml"
    )


def test_base_past_the_limit_under_a_waiver() -> None:
    policies = with_waiver(CATALOG).policies
    selection = CATALOG.select("ecs-al2-kernel-5.10", "x86_64")

    assert base_age_verdict(BASE, selection, policies, date(2026, 12, 31)).waiver == WAIVER
    with pytest.raises(PolicyRefusal):
        base_age_verdict(BASE, selection, policies, date(2027, 1, 1))
    with pytest.raises(PolicyRefusal):
        base_age_verdict(BASE, CATALOG.select("ecs-al2023", "x86_64"), policies, date(2026, 12, 31))
