"""What is promoted where, how old it is, and who runs it: in, the catalog and an account; out, rows for people.

A row is one variant in one region. What cannot be looked up is said in its row and does not stop the others.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import boto3

from pipeline import tags
from pipeline.aws_errors import AWS_FAILURES
from pipeline.catalog import Catalog, VariantSelection
from pipeline.distribute import VARIANT
from pipeline.errors import CloudError
from pipeline.hosts import Host, hosts
from pipeline.pointer import read_pointer
from pipeline.templating import environment

PAGE: Final = Path(__file__).with_name("status.html.j2")


@dataclass(frozen=True, kw_only=True)
class GroupStatus:
    """One group (or, with an empty name, the hosts in none) on one image. `healthy` counts GuardDuty's HEALTHY."""

    group: str
    image_id: str
    promoted: bool
    hosts: int
    healthy: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """A variant in a region. Empty texts and None stand for what there is not; `unknown` says what was not answered."""

    variant: str
    region: str
    image_id: str = ""
    bake_id: str = ""
    promoted_at: datetime | None = None
    age_days: int | None = None
    base: str = ""
    base_releases_behind: int | None = None
    base_days_behind: int | None = None
    kernel: str = ""
    agent: str = ""
    end_of_support: date | None = None
    days_of_support: int | None = None
    groups: tuple[GroupStatus, ...] = ()
    unknown: tuple[str, ...] = ()


def row(session: boto3.Session, catalog: Catalog, selection: VariantSelection, now: datetime) -> Row:
    """One row. No error of AWS goes through: it becomes part of `unknown`."""
    region = session.region_name
    known: dict[str, Any] = {
        "variant": selection.id,
        "region": region,
        "end_of_support": selection.variant.end_of_support,
        "days_of_support": (selection.variant.end_of_support - now.date()).days,
    }
    unknown: list[str] = []
    try:
        pointer = read_pointer(session, catalog.parameter(selection))
    except CloudError as error:
        return Row(**known, unknown=(f"the promoted image: {error.found}",))
    current = pointer.current
    if current:
        known |= {"image_id": current.image_id, "promoted_at": current.at, "age_days": (now - current.at).days}
        try:
            known |= _image(session, current.image_id)
            known |= _behind(session, selection, known.get("base", ""))
        except AWS_FAILURES as error:
            unknown.append(f"the image and its base: {error}")
    try:
        known["groups"] = _groups(session, selection, current.image_id if current else "", unknown)
    except AWS_FAILURES as error:
        unknown.append(f"who runs it: {error}")
    except CloudError as error:
        unknown.append(f"who runs it: {error.found}")
    return Row(**known, unknown=tuple(unknown))


def _image(session: boto3.Session, image_id: str) -> dict[str, Any]:
    ec2: Any = session.client("ec2")
    filters = [{"Name": "image-id", "Values": [image_id]}]
    images = ec2.describe_images(Filters=filters, IncludeDisabled=True)["Images"]
    if not images:
        return {"base": "the image is gone"}
    own = tags.as_mapping(images[0].get("Tags", []))
    return {
        "bake_id": own.get(tags.BAKE_ID, ""),
        "base": own.get("BaseName", ""),
        "kernel": own.get("KernelLine", ""),
        "agent": own.get("AgentVersion", ""),
    }


def _behind(session: boto3.Session, selection: VariantSelection, base: str) -> dict[str, Any]:
    """How many releases AWS has made since the base, and how many days lie between it and the newest.

    The base is known by its name, which a release has in every region; its id is another one in each.
    """
    if not base:
        return {}
    ec2: Any = session.client("ec2")
    filters = [{"Name": "name", "Values": [selection.flavour.base_name]}, {"Name": "state", "Values": ["available"]}]
    pages = ec2.get_paginator("describe_images").paginate(Owners=["amazon"], Filters=filters, IncludeDeprecated=True)
    made = {
        one["Name"]: datetime.fromisoformat(one["CreationDate"]).astimezone(UTC) for one in pages.search("Images[]")
    }
    if base not in made:
        return {}
    newer = [when for when in made.values() if when > made[base]]
    days = (max(newer) - made[base]).days if newer else 0
    return {"base_releases_behind": len(newer), "base_days_behind": days}


def _groups(
    session: boto3.Session, selection: VariantSelection, promoted: str, unknown: list[str]
) -> tuple[GroupStatus, ...]:
    ec2: Any = session.client("ec2")
    filters = [{"Name": f"tag:{VARIANT}", "Values": [selection.id]}]
    pages = ec2.get_paginator("describe_images").paginate(Owners=["self"], Filters=filters, IncludeDisabled=True)
    ids = {image["ImageId"] for image in pages.search("Images[]")} | ({promoted} if promoted else set())
    found = hosts(session, ids) if ids else ()
    healthy = _healthy(session, unknown) if found else frozenset()
    counts: Counter[tuple[str, str]] = Counter((host.group, host.image_id) for host in found)
    return tuple(
        GroupStatus(
            group=group,
            image_id=image_id,
            promoted=image_id == promoted,
            hosts=number,
            healthy=sum(_is(host, group, image_id) and host.instance_id in healthy for host in found),
        )
        for (group, image_id), number in sorted(counts.items())
    )


def _is(host: Host, group: str, image_id: str) -> bool:
    return (host.group, host.image_id) == (group, image_id)


def _healthy(session: boto3.Session, unknown: list[str]) -> frozenset[str]:
    """Instances that GuardDuty calls HEALTHY; with no answer nothing is, and that is said."""
    guardduty: Any = session.client("guardduty")
    found: set[str] = set()
    criteria = [
        {"CriterionKey": "RESOURCE_TYPE", "FilterCondition": {"Equals": ["EC2"]}},
        {"CriterionKey": "COVERAGE_STATUS", "FilterCondition": {"Equals": ["HEALTHY"]}},
    ]
    try:
        for detector in guardduty.list_detectors()["DetectorIds"]:
            pages = guardduty.get_paginator("list_coverage").paginate(
                DetectorId=detector, FilterCriteria={"FilterCriterion": criteria}
            )
            for one in pages.search("Resources[]"):
                if one and one["CoverageStatus"] == "HEALTHY":
                    found.add(one["ResourceDetails"]["Ec2InstanceDetails"]["InstanceId"])
    except AWS_FAILURES as error:
        unknown.append(f"coverage: {error}")
    return frozenset(found)


def as_text(rows: Sequence[Row]) -> str:
    """A paragraph for each row."""
    return "\n".join(line for one in rows for line in _lines(one)) or "the catalog has no variant"


def _lines(one: Row) -> list[str]:
    title = f"{one.variant}  {one.region}"
    if not one.image_id and not one.unknown:
        lines = [f"{title}  nothing promoted"]
    else:
        age = f", promoted {one.age_days} days ago" if one.age_days is not None else ""
        lines = [f"{title}  {one.image_id or 'not known'}{age}" + (f", bake {one.bake_id}" if one.bake_id else "")]
        lines += [f"  {text}" for text in (_base_line(one), _content_line(one)) if text]
    if one.days_of_support is not None and one.days_of_support <= 90 and one.image_id:
        over = "is over since" if one.days_of_support < 0 else "ends on"
        lines.append(f"  support {over} {one.end_of_support}")
    for group in one.groups:
        mark = "promoted" if group.promoted else "not the promoted one"
        who = f"group {group.group}" if group.group else "in no group"
        lines.append(f"  {who}: {group.hosts} on {group.image_id} ({mark}), {group.healthy} HEALTHY")
    return [*lines, *(f"  not known: {text}" for text in one.unknown)]


def _base_line(one: Row) -> str:
    if not one.base:
        return ""
    if one.base_releases_behind is None:
        return f"base {one.base}; how far behind is not known here"
    if one.base_releases_behind == 0:
        return f"base {one.base}, the newest"
    plural = "release" if one.base_releases_behind == 1 else "releases"
    return f"base {one.base}, {one.base_releases_behind} {plural} and {one.base_days_behind} days behind"


def _content_line(one: Row) -> str:
    parts = [f"kernel {one.kernel}" if one.kernel else "", f"agent {one.agent}" if one.agent else ""]
    return ", ".join(part for part in parts if part)


def as_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON list; times in ISO 8601."""
    return json.dumps([asdict(one) for one in rows], indent=2, default=lambda value: value.isoformat())


def as_html(rows: Sequence[Row], now: datetime) -> str:
    """One page without anything from elsewhere."""
    return environment(PAGE.parent, html=True).get_template(PAGE.name).render(rows=rows, now=now)
