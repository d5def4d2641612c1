"""Coverage through boto3: heartbeats go in at the guest's data endpoint."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.rehearsal.ec2 import GUARDDUTY_ADDRESS, METADATA_ADDRESS
from pipeline.rehearsal.metadata import identity_document
from pipeline.rehearsal.wire import HangUp, Reply, Request
from tests.rehearsal.conftest import REGION, Rehearsal


def services(rehearsal: Rehearsal, instance_id: str) -> Any:
    return rehearsal.world.hosting.guests[instance_id].launch.services


def beat(rehearsal: Rehearsal, instance_id: str, **changes: Any) -> Reply:
    """A heartbeat as the agent in that guest sends it; `changes` are lies in its identity document."""
    document = identity_document(services(rehearsal, instance_id)[METADATA_ADDRESS].facts()) | changes
    body = json.dumps({"identityDocument": document, "agentVersion": "1.17.1"}).encode()
    reply = services(rehearsal, instance_id)[GUARDDUTY_ADDRESS](Request(method="POST", path="/heartbeat", body=body))
    assert isinstance(reply, Reply)
    return reply


def coverage(rehearsal: Rehearsal, key: str = "INSTANCE_ID", *values: str, **more: Any) -> list[tuple[str, str, str]]:
    """(instance, status, issue) of each row."""
    guardduty: Any = rehearsal.session.client("guardduty")
    (detector,) = guardduty.list_detectors()["DetectorIds"]
    criteria = [{"CriterionKey": key, "FilterCondition": {"Equals": list(values)}}] if values else []
    answer = guardduty.list_coverage(DetectorId=detector, FilterCriteria={"FilterCriterion": criteria}, **more)
    return [(row["ResourceId"], row["CoverageStatus"], row.get("Issue", "")) for row in answer["Resources"]]


def test_runtime_monitoring_is_on(rehearsal: Rehearsal) -> None:
    guardduty = rehearsal.session.client("guardduty")
    (detector,) = guardduty.list_detectors()["DetectorIds"]
    features = guardduty.get_detector(DetectorId=detector)["Features"]
    assert [(one["Name"], one["Status"]) for one in features] == [("RUNTIME_MONITORING", "ENABLED")]


def test_absent_then_healthy_then_disconnected_then_gone(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    seen = [coverage(rehearsal, "INSTANCE_ID", instance_id)]
    assert beat(rehearsal, instance_id).status == 200
    seen.append(coverage(rehearsal, "INSTANCE_ID", instance_id))
    rehearsal.clock.sleep(9)
    seen.append(coverage(rehearsal, "INSTANCE_ID", instance_id))
    rehearsal.ec2.terminate_instances(InstanceIds=[instance_id])
    seen.append(coverage(rehearsal, "INSTANCE_ID", instance_id))
    assert seen == [
        [],
        [(instance_id, "HEALTHY", "")],
        [(instance_id, "UNHEALTHY", "No Agent Reporting: Agent disconnected")],
        [],
    ]


def test_an_agent_cannot_speak_for_another_instance(rehearsal: Rehearsal) -> None:
    instance_id, other = rehearsal.launch(), rehearsal.launch()
    assert beat(rehearsal, instance_id, instanceId=other).status == 403
    assert coverage(rehearsal) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"identityDocument": 1}', b"\xff"])
def test_what_is_not_a_heartbeat_is_refused(rehearsal: Rehearsal, body: bytes) -> None:
    endpoint = services(rehearsal, rehearsal.launch())[GUARDDUTY_ADDRESS]
    assert endpoint(Request(method="POST", path="/heartbeat", body=body)).status == 400


def test_without_an_endpoint_in_the_vpc_nobody_answers(rehearsal: Rehearsal) -> None:
    launched_before = rehearsal.launch()
    (endpoint,) = rehearsal.ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["ServiceName"] == f"com.amazonaws.{REGION}.guardduty-data"
    rehearsal.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    with pytest.raises(HangUp):
        beat(rehearsal, launched_before)
    assert GUARDDUTY_ADDRESS not in services(rehearsal, rehearsal.launch())


def test_filters_and_order(rehearsal: Rehearsal) -> None:
    first, second = sorted([rehearsal.launch(), rehearsal.launch()])
    beat(rehearsal, first)
    rehearsal.clock.sleep(9)
    beat(rehearsal, second)
    assert [row[0] for row in coverage(rehearsal, "COVERAGE_STATUS", "UNHEALTHY")] == [first]
    backwards = {"AttributeName": "INSTANCE_ID", "OrderBy": "DESC"}
    assert [row[0] for row in coverage(rehearsal, SortCriteria=backwards)] == [second, first]


def test_pages(rehearsal: Rehearsal) -> None:
    instances = sorted(rehearsal.launch() for _ in range(3))
    for instance_id in instances:
        beat(rehearsal, instance_id)
    guardduty: Any = rehearsal.session.client("guardduty")
    (detector,) = guardduty.list_detectors()["DetectorIds"]
    pages = guardduty.get_paginator("list_coverage").paginate(DetectorId=detector, MaxResults=2)
    assert [[row["ResourceId"] for row in page["Resources"]] for page in pages] == [instances[:2], instances[2:]]


def test_statistics(rehearsal: Rehearsal) -> None:
    beat(rehearsal, rehearsal.launch())
    guardduty = rehearsal.session.client("guardduty")
    (detector,) = guardduty.list_detectors()["DetectorIds"]
    answer = guardduty.get_coverage_statistics(DetectorId=detector, StatisticsType=["COUNT_BY_COVERAGE_STATUS"])
    assert answer["CoverageStatistics"] == {"CountByCoverageStatus": {"HEALTHY": 1}}


WRONG = [
    (
        {"SortCriteria": {"AttributeName": "ISSUE"}},
        "The request was rejected: EC2 resources do not sort by ISSUE.",
    ),
    ({"MaxResults": 51}, "The request was rejected: MaxResults is above 50."),
    (
        {"FilterCriteria": {"FilterCriterion": [{"CriterionKey": "ISSUE", "FilterCondition": {}}]}},
        "The request was rejected: CoverageFilterCriterionKey has no value 'ISSUE'.",
    ),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_what_guardduty_refuses_is_refused(rehearsal: Rehearsal, parameters: dict[str, Any], message: str) -> None:
    guardduty = rehearsal.session.client("guardduty")
    (detector,) = guardduty.list_detectors()["DetectorIds"]
    with pytest.raises(ClientError) as caught:
        guardduty.list_coverage(DetectorId=detector, **parameters)
    assert caught.value.response["Error"] == {"Code": "BadRequestException", "Message": message}
