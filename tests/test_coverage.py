"""What GuardDuty says of an instance, and what we make of it. The answers are the shapes of botocore's own model."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from pipeline.coverage import (
    ABSENT_REMEDY,
    UNRECOGNISED,
    Coverage,
    coverage_of,
    remedy_for,
    runtime_monitoring_detector,
    wait_until_healthy,
)
from pipeline.errors import CloudError
from tests.doubles import FakeClock, OneClientSession

DETECTOR = "12abc34d567e8fa901bc2d34e56789f0"


@contextmanager
def guardduty(*answers: tuple[str, dict[str, Any]]) -> Iterator[OneClientSession]:
    client = boto3.client("guardduty", region_name="eu-central-1")
    with Stubber(client) as stub:
        for operation, answer in answers:
            stub.add_response(operation, answer)
        yield OneClientSession(client)
        stub.assert_no_pending_responses()


def resource(status: str, issue: str = "") -> dict[str, Any]:
    return {
        "Resources": [
            {
                "ResourceId": "i-1",
                "CoverageStatus": status,
                "Issue": issue,
                "UpdatedAt": datetime(2026, 11, 23),
                "ResourceDetails": {
                    "ResourceType": "EC2",
                    "Ec2InstanceDetails": {"InstanceId": "i-1", "AgentDetails": {"Version": "1.17.1"}},
                },
            }
        ]
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (resource("HEALTHY"), Coverage(instance_id="i-1", status="HEALTHY", agent_version="1.17.1")),
        (
            resource("UNHEALTHY", "Agent Not Provisioned: Kernel version is lower than the supported version."),
            Coverage(
                instance_id="i-1",
                status="UNHEALTHY",
                agent_version="1.17.1",
                issue="Agent Not Provisioned: Kernel version is lower than the supported version.",
                remedy="roll its cluster onto an image with kernel 5.10 (Amazon Linux 2) or 6.1 (Amazon Linux 2023); "
                "the plain Amazon Linux 2 ECS image runs 4.14",
            ),
        ),
        ({"Resources": []}, Coverage(instance_id="i-1", status="ABSENT", remedy=ABSENT_REMEDY)),
    ],
)
def test_the_three_states_of_an_instance(answer: dict[str, Any], expected: Coverage) -> None:
    with guardduty(("list_coverage", answer)) as session:
        assert coverage_of(session, DETECTOR, "i-1") == expected


def test_an_issue_without_text_is_named_by_its_type() -> None:
    with guardduty(("list_coverage", resource("UNHEALTHY"))) as session:
        assert coverage_of(session, DETECTOR, "i-1").issue == "No Agent Reporting"


def test_an_unknown_issue_says_that_it_is_unknown() -> None:
    assert remedy_for("Something new of 2027") == UNRECOGNISED


def test_waiting_ends_with_the_first_healthy_answer() -> None:
    clock = FakeClock()
    answers = [("list_coverage", {"Resources": []}), ("list_coverage", resource("HEALTHY"))]
    with guardduty(*answers) as session:
        coverage = wait_until_healthy(session, DETECTOR, "i-1", clock=clock, timeout_seconds=900, every_seconds=15)
    assert coverage.healthy
    assert clock.slept == [15]


def test_waiting_gives_the_last_look_back_when_the_time_is_up() -> None:
    clock = FakeClock()
    with guardduty(*[("list_coverage", resource("UNHEALTHY", "Agent disconnected"))] * 4) as session:
        coverage = wait_until_healthy(session, DETECTOR, "i-1", clock=clock, timeout_seconds=60, every_seconds=15)
    assert coverage.issue == "Agent disconnected"
    assert clock.slept == [15, 15, 15]


def test_an_account_without_guardduty_is_told_so() -> None:
    with guardduty(("list_detectors", {"DetectorIds": []})) as session, pytest.raises(CloudError) as error:
        runtime_monitoring_detector(session)
    assert str(error.value) == (
        "GuardDuty is not enabled in this account and region\n"
        "  expected: a detector with the feature RUNTIME_MONITORING enabled\n"
        "  found:    no detector\n"
        "  where:    GuardDuty in eu-central-1\n"
        "  do:       enable GuardDuty and Runtime Monitoring (in an organization: from the delegated administrator)"
    )


def test_the_eks_feature_is_not_mistaken_for_runtime_monitoring() -> None:
    features = [
        {"Name": "EKS_RUNTIME_MONITORING", "Status": "ENABLED"},
        {"Name": "RUNTIME_MONITORING", "Status": "DISABLED"},
    ]
    answers: list[tuple[str, dict[str, Any]]] = [
        ("list_detectors", {"DetectorIds": [DETECTOR]}),
        ("get_detector", {"ServiceRole": "r", "Status": "ENABLED", "Features": features}),
    ]
    with guardduty(*answers) as session, pytest.raises(CloudError, match="Runtime Monitoring is not enabled"):
        runtime_monitoring_detector(session)


@pytest.mark.parametrize("operation", ["list_detectors", "get_detector"])
def test_a_question_that_guardduty_refuses_names_the_permission(operation: str) -> None:
    client = boto3.client("guardduty", region_name="eu-central-1")
    with Stubber(client) as stub:
        if operation == "get_detector":
            stub.add_response("list_detectors", {"DetectorIds": [DETECTOR]})
        stub.add_client_error(operation, "AccessDeniedException", "not you")
        with pytest.raises(CloudError) as error:
            runtime_monitoring_detector(OneClientSession(client))
    assert error.value.remedy == "the caller needs guardduty:ListDetectors and guardduty:GetDetector"


def test_a_guardduty_that_cannot_be_reached_is_an_error_of_ours() -> None:
    session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="eu-central-1")

    def unreachable(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://guardduty")

    session.events.register("before-send.guardduty", unreachable)
    with pytest.raises(CloudError, match="check network"):
        wait_until_healthy(session, DETECTOR, "i-1", clock=FakeClock(), timeout_seconds=9, every_seconds=3)
