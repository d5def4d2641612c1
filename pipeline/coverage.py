"""GuardDuty's word on one instance: in, an instance id; out, its coverage with what to do if it is not healthy.

Shapes and filters: GuardDuty API reference, ListCoverage, GetDetector. An instance that GuardDuty has
never heard of is not in the list at all; that is a state of its own here, not an empty answer.
"""

from dataclasses import dataclass
from typing import Literal

import boto3

from pipeline.aws_errors import aws_errors
from pipeline.clock import Clock
from pipeline.diagnosis import causes
from pipeline.errors import CloudError
from pipeline.wait import poll

Status = Literal["HEALTHY", "UNHEALTHY", "ABSENT"]

UNRECOGNISED = "unknown to Ovenproof: read the issue text, and GuardDuty's page on EC2 coverage issues"
ABSENT_REMEDY = (
    "GuardDuty has not heard of this instance: check that the unit amazon-guardduty-agent runs without restarts, "
    "that the VPC has an endpoint com.amazonaws.<region>.guardduty-data whose security group lets 443 in, and "
    "that Runtime Monitoring is enabled for this account"
)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How GuardDuty sees an instance: `issue` and `remedy` are empty when HEALTHY."""

    instance_id: str
    status: Status
    agent_version: str = ""
    issue: str = ""
    remedy: str = ""

    @property
    def healthy(self) -> bool:
        return self.status == "HEALTHY"


def remedy_for(issue: str) -> str:
    """What to do about an issue text of GuardDuty; says so when the text is unknown."""
    return causes.remedy_for("ec2", issue) or UNRECOGNISED


def runtime_monitoring_detector(session: boto3.Session) -> str:
    """The id of the region's detector. Raises CloudError unless GuardDuty says that Runtime Monitoring is enabled."""
    guardduty = session.client("guardduty")
    where = f"GuardDuty in {session.region_name}"
    with aws_errors(
        "GuardDuty did not say whether Runtime Monitoring is enabled",
        expected="an answer to ListDetectors and GetDetector",
        where=where,
        remedy="the caller needs guardduty:ListDetectors and guardduty:GetDetector",
    ):
        detectors = guardduty.list_detectors()["DetectorIds"]
        features = guardduty.get_detector(DetectorId=detectors[0]).get("Features", []) if detectors else []
    if not detectors:
        raise CloudError(
            "GuardDuty is not enabled in this account and region",
            expected="a detector with the feature RUNTIME_MONITORING enabled",
            found="no detector",
            where=where,
            remedy="enable GuardDuty and Runtime Monitoring (in an organization: from the delegated administrator)",
        )
    states = {feature["Name"]: feature["Status"] for feature in features}
    if states.get("RUNTIME_MONITORING") != "ENABLED":
        raise CloudError(
            "GuardDuty Runtime Monitoring is not enabled in this account and region",
            expected="the feature RUNTIME_MONITORING with status ENABLED",
            found=f"status {states.get('RUNTIME_MONITORING', 'unknown')}",
            where=f"{where}, detector {detectors[0]}",
            remedy="members of an organization cannot enable it: ask the delegated administrator to call "
            "update-member-detectors for this account",
        )
    return detectors[0]


def coverage_of(session: boto3.Session, detector: str, instance_id: str) -> Coverage:
    """One look at one instance; ABSENT when GuardDuty's list does not hold it."""
    answer = session.client("guardduty").list_coverage(
        DetectorId=detector,
        FilterCriteria={
            "FilterCriterion": [
                {"CriterionKey": "RESOURCE_TYPE", "FilterCondition": {"Equals": ["EC2"]}},
                {"CriterionKey": "INSTANCE_ID", "FilterCondition": {"Equals": [instance_id]}},
            ]
        },
    )
    for resource in answer["Resources"]:
        details = resource.get("ResourceDetails", {}).get("Ec2InstanceDetails", {})
        if details.get("InstanceId") != instance_id:
            continue
        healthy = resource.get("CoverageStatus") == "HEALTHY"
        issue = "" if healthy else resource.get("Issue", "") or "No Agent Reporting"
        return Coverage(
            instance_id=instance_id,
            status="HEALTHY" if healthy else "UNHEALTHY",
            agent_version=details.get("AgentDetails", {}).get("Version", ""),
            issue=issue,
            remedy="" if healthy else remedy_for(issue),
        )
    return Coverage(instance_id=instance_id, status="ABSENT", remedy=ABSENT_REMEDY)


def wait_until_healthy(
    session: boto3.Session,
    detector: str,
    instance_id: str,
    *,
    clock: Clock,
    timeout_seconds: float,
    every_seconds: float,
) -> Coverage:
    """Look until the instance is HEALTHY or the time is up; the last look is returned either way."""
    with aws_errors(
        "GuardDuty refused the question about coverage",
        expected="an answer to ListCoverage",
        where=f"detector {detector}, instance {instance_id}",
        remedy="the caller needs guardduty:ListCoverage on the detector",
    ):
        return poll(
            lambda: coverage_of(session, detector, instance_id),
            lambda coverage: coverage.healthy,
            clock=clock,
            timeout_seconds=timeout_seconds,
            every_seconds=every_seconds,
        )
