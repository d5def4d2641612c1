"""What a base guest is called in the local cloud: in, a base guest; out, the image and parameters that show it.

Names follow AWS's own scheme for ECS-optimized images and their public SSM parameters (ECS developer guide,
"Retrieving Amazon ECS-optimized Linux AMI metadata"); the date in them is the day the guest was made.
"""

import hashlib
import json
from dataclasses import dataclass

from pipeline.rehearsal.store import BaseRecord, Line

OWNER_ID = "591542846629"  # the account that publishes the ECS-optimized images
ROOT_DEVICE = "/dev/xvda"
_PREFIX = "/aws/service/ecs/optimized-ami/"


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The upstream image a line of base guests stands in for."""

    parameter: str  # path of the SSM parameter, without `recommended`
    image_name: str  # with {date}
    image_version: str  # with {date}
    os: str
    distribution: str


UPSTREAM: dict[Line, Upstream] = {
    "al2": Upstream(
        parameter=_PREFIX + "amazon-linux-2/kernel-5.10",
        image_name="amzn2-ami-ecs-kernel-5.10-hvm-2.0.{date}-x86_64-ebs",
        image_version="2.0.{date}",
        os="Amazon Linux 2",
        distribution="Debian 11, kernel 5.10",
    ),
    "al2023": Upstream(
        parameter=_PREFIX + "amazon-linux-2023",
        image_name="al2023-ami-ecs-hvm-2023.0.{date}-kernel-6.1-x86_64",
        image_version="2023.0.{date}",
        os="Amazon Linux 2023",
        distribution="Debian 12, kernel 6.1",
    ),
}


def image_id(base: BaseRecord, region: str) -> str:
    """The same guest has the same id in a region, and another one in every other region, as in AWS."""
    return "ami-0" + hashlib.sha256(f"{base.digest} {region}".encode()).hexdigest()[:16]


def image_name(base: BaseRecord) -> str:
    return UPSTREAM[base.line].image_name.format(date=base.made.strftime("%Y%m%d"))


def description(base: BaseRecord) -> str:
    upstream = UPSTREAM[base.line]
    return f"Ovenproof stand-in for the {upstream.os} ECS-optimized image: {upstream.distribution}"


def parameters(base: BaseRecord, region: str) -> dict[str, str]:
    """The public parameters that lead to this base, by name. Those not here keep what moto has."""
    upstream = UPSTREAM[base.line]
    values = {
        "image_id": image_id(base, region),
        "image_name": image_name(base),
        "image_version": upstream.image_version.format(date=base.made.strftime("%Y%m%d")),
        "os": upstream.os,
        "source_image_name": description(base),
        "schema_version": "1",
    }
    found = {}
    for place in ("recommended", image_name(base)):
        found[f"{upstream.parameter}/{place}"] = json.dumps(values | {"schema_version": 1})
        found |= {f"{upstream.parameter}/{place}/{key}": value for key, value in values.items()}
    return found
