"""Whom to look at: in, the caller's credentials; out, the accounts of its GuardDuty organization and their settings."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pipeline.chunks import chunks
from pipeline.diagnosis.access import Access, Denied
from pipeline.diagnosis.model import Monitoring
from pipeline.errors import CloudError

ACCOUNTS_A_CALL = 50


def detector_of(access: Access, region: str) -> str:
    """The caller's detector; nothing when GuardDuty is off there."""
    ids = access.call("", region, "guardduty", "list_detectors").get("DetectorIds", ())
    return ids[0] if ids else ""


def own_settings(access: Access, region: str, detector: str) -> Monitoring:
    """The caller's own settings."""
    answer = access.call("", region, "guardduty", "get_detector", DetectorId=detector)
    return _monitoring(access.own_account, "member", "", answer.get("Features", ()))


def relationships(access: Access, region: str, detector: str) -> dict[str, str] | None:
    """Each member's relationship status; None when the caller administers nothing."""
    try:
        rows = list(
            access.pages(
                "",
                region,
                "guardduty",
                "list_members",
                "Members",
                DetectorId=detector,
                OnlyAssociated="true",
                MaxResults=50,
            )
        )
    except Denied:
        return None
    except CloudError as error:
        if "BadRequestException" in error.found:
            return None
        raise
    return {row["AccountId"]: row.get("RelationshipStatus", "") for row in rows}


def settings(
    access: Access, region: str, detector: str, members: Mapping[str, str], wanted: Sequence[str]
) -> dict[str, Monitoring]:
    """What is on for each wanted account. Suspended members and foreign accounts have no settings to read."""
    found: dict[str, Monitoring] = {}
    enabled = [number for number in wanted if members.get(number) == "Enabled"]
    for some in chunks(enabled, ACCOUNTS_A_CALL):
        answer = access.call("", region, "guardduty", "get_member_detectors", DetectorId=detector, AccountIds=some)
        for row in answer.get("MemberDataSourceConfigurations", ()):
            found[row["AccountId"]] = _monitoring(row["AccountId"], "member", "Enabled", row.get("Features", ()))
    for number in wanted:
        if number not in found:
            relationship = members.get(number, "")
            membership: Literal["none", "suspended"] | None = None
            if number not in members:
                membership = "none"
            elif relationship != "Enabled":
                membership = "suspended"
            found[number] = Monitoring(number, membership, relationship)
    return found


def _monitoring(
    account: str, membership: Literal["member"], relationship: str, rows: Iterable[Mapping[str, Any]]
) -> Monitoring:
    features: dict[str, str] = {}
    since, managed_by = "", ""
    for feature in rows:
        name = feature.get("Name", "")
        if name not in ("RUNTIME_MONITORING", "EKS_RUNTIME_MONITORING"):
            continue
        features[name] = feature.get("Status", "")
        if name == "RUNTIME_MONITORING":
            updated = feature.get("UpdatedAt")
            since = updated.isoformat() if isinstance(updated, datetime) else ""
            managed_by = feature.get("ManagedBy", "")
            for extra in feature.get("AdditionalConfiguration", ()):
                features[extra.get("Name", "")] = extra.get("Status", "")
                managed_by = managed_by or extra.get("ManagedBy", "")
    return Monitoring(account, membership, relationship, features, since, managed_by)
