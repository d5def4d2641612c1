"""Is what was promoted as it should be: in, the catalog and an account; out, a finding for each region and account.

correct      everything as the catalog and the record of its bake want it
incorrect    something is there, and not so
missing      nothing is promoted, or the image is gone
unexpected   there is more than there should be: shared with somebody else, or public
unreachable  it could not be looked up
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import boto3

from pipeline import tags
from pipeline.aws_errors import AWS_FAILURES
from pipeline.catalog import Catalog, VariantSelection
from pipeline.distribute import PROVEN, VARIANT, Standing, standing, wanted_shares, wanted_snapshot_shares
from pipeline.errors import CloudError
from pipeline.pointer import read_pointer

Word = Literal["correct", "incorrect", "missing", "unexpected", "unreachable"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One variant in one region. `details` is empty exactly when it is correct."""

    variant: str
    region: str
    word: Word
    image_id: str = ""
    details: tuple[str, ...] = ()


def validate(session: boto3.Session, catalog: Catalog, selection: VariantSelection, now: datetime) -> Finding:
    """Look at one region. No error of AWS goes through: it makes the region unreachable."""
    at: dict[str, Any] = {"variant": selection.id, "region": session.region_name}
    try:
        pointer = read_pointer(session, catalog.parameter(selection))
        if pointer.current is None:
            return Finding(**at, word="missing", details=(f"no parameter {pointer.name}",))
        image_id = pointer.current.image_id
        ec2: Any = session.client("ec2")
        filters = [{"Name": "image-id", "Values": [image_id]}]
        images = ec2.describe_images(Filters=filters, IncludeDisabled=True)["Images"]
        if not images:
            return Finding(**at, image_id=image_id, word="missing", details=(f"the image {image_id} is gone",))
        found = standing(session, images[0])
    except CloudError as error:
        return Finding(**at, word="unreachable", details=(error.found,))
    except AWS_FAILURES as error:
        return Finding(**at, word="unreachable", details=(str(error),))
    note = pointer.current.note
    wrong = _wrong(found, catalog, selection, note.bake_id if note else "", now)
    extra = _extra(found, catalog)
    word: Word = "incorrect" if wrong else "unexpected" if extra else "correct"
    return Finding(**at, image_id=image_id, word=word, details=(*wrong, *extra))


def _wrong(found: Standing, catalog: Catalog, selection: VariantSelection, bake_id: str, now: datetime) -> list[str]:
    expected = {
        "state": ("available", found.state),
        f"tag {VARIANT}": (selection.id, found.tags.get(VARIANT, "none")),
        f"tag {tags.STATE}": (PROVEN, found.tags.get(tags.STATE, "none")),
        "IMDSv2 by default": (True, found.imds_v2),
        "deregistration protection": (True, found.protected),
        "expiry tag": ("none", found.tags.get(tags.EXPIRES_AT, "none")),
    }
    if bake_id:
        expected[f"tag {tags.BAKE_ID}"] = (bake_id, found.tags.get(tags.BAKE_ID, "none"))
    wrong = [f"{what}: expected {_said(a)}, found {_said(b)}" for what, (a, b) in expected.items() if a != b]
    for one in sorted(wanted_shares(catalog.sharing) - found.shared_with):
        wrong.append(f"shared: expected {one}, which may not launch it")
    for one in sorted(wanted_snapshot_shares(catalog.sharing) - found.snapshots_shared_with):
        wrong.append(f"snapshots shared: expected {one}, which may not use them")
    if found.deprecation is not None and found.deprecation <= now:
        wrong.append(f"deprecated since {found.deprecation:%Y-%m-%d}: bake and promote a newer one")
    return wrong


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _extra(found: Standing, catalog: Catalog) -> list[str]:
    extra = ["it is public"] if found.public else []
    extra += [
        f"shared with {one}, not in the catalog" for one in sorted(found.shared_with - wanted_shares(catalog.sharing))
    ]
    others = found.snapshots_shared_with - wanted_snapshot_shares(catalog.sharing)
    return [*extra, *(f"snapshots shared with {one}, not in the catalog" for one in sorted(others))]


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, its details below."""
    lines = []
    for one in findings:
        lines.append(f"{one.region}  {one.variant}  {one.word}" + (f"  {one.image_id}" if one.image_id else ""))
        lines += [f"  {detail}" for detail in one.details]
    return "\n".join(lines)
