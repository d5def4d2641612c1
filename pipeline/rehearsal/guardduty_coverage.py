"""Coverage as GuardDuty sees it: in, heartbeats of agents; out, rows of ListCoverage and counts.

An instance is HEALTHY while its agent was heard within the last seconds, UNHEALTHY once it fell silent, and not
in the list at all before its agent was heard for the first time or after it was terminated. Shapes: GuardDuty API
reference, CoverageResource; issue text: GuardDuty user guide, "Coverage ... for Amazon EC2 instance".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

SILENT_AFTER = timedelta(seconds=8)  # the stand-in for the agent speaks every 2 s
DISCONNECTED = "No Agent Reporting: Agent disconnected"


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    instance_id: str
    instance_type: str
    region: str
    account_id: str
    version: str
    at: datetime


@dataclass
class Agents:
    """The last heartbeat of each instance."""

    last: dict[str, Heartbeat] = field(default_factory=dict)

    def heard(self, heartbeat: Heartbeat) -> None:
        self.last[heartbeat.instance_id] = heartbeat

    def forget(self, instance_id: str) -> None:
        self.last.pop(instance_id, None)


def coverage_row(heartbeat: Heartbeat, detector_id: str, now: datetime) -> dict[str, Any]:
    """One CoverageResource on the wire: member names in lower camel case, as the service model gives them."""
    silent = now - heartbeat.at > SILENT_AFTER
    row: dict[str, Any] = {
        "resourceId": heartbeat.instance_id,
        "detectorId": detector_id,
        "accountId": heartbeat.account_id,
        "resourceDetails": {
            "resourceType": "EC2",
            "ec2InstanceDetails": {
                "instanceId": heartbeat.instance_id,
                "instanceType": heartbeat.instance_type,
                "agentDetails": {"version": heartbeat.version},
                "managementType": "MANUAL",
            },
        },
        "coverageStatus": "UNHEALTHY" if silent else "HEALTHY",
        "updatedAt": heartbeat.at.timestamp(),
    }
    if silent:
        row["issue"] = DISCONNECTED
    return row


def value_of(row: Mapping[str, Any], criterion: str) -> str | None:
    """What a filter criterion compares; None for what an EC2 row does not have."""
    details = row["resourceDetails"]["ec2InstanceDetails"]
    return {
        "ACCOUNT_ID": row["accountId"],
        "RESOURCE_TYPE": row["resourceDetails"]["resourceType"],
        "COVERAGE_STATUS": row["coverageStatus"],
        "AGENT_VERSION": details["agentDetails"]["version"],
        "MANAGEMENT_TYPE": details["managementType"],
        "INSTANCE_ID": details["instanceId"],
    }.get(criterion)


def matching(rows: Iterable[dict[str, Any]], criteria: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for which every criterion holds: its value among `equals`, where given, and none of `notEquals`."""

    def holds(row: Mapping[str, Any], criterion: Mapping[str, Any]) -> bool:
        value = value_of(row, criterion["criterionKey"])
        condition = criterion["filterCondition"]
        equals, others = condition.get("equals") or [], condition.get("notEquals") or []
        return (not equals or value in equals) and value not in others

    return [row for row in rows if all(holds(row, criterion) for criterion in criteria)]
