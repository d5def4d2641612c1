"""A session answered by a function: botocore checks what goes in, and on request what comes out."""

from collections.abc import Mapping
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ParamValidationError

from pipeline.errors import OvenproofError
from pipeline.rehearsal.answered_session import Call, Refused, answered_session, not_modelled


def session(answer: Any, *, check: bool = True) -> boto3.Session:
    return answered_session(answer, region="eu-west-1", access_key="AKIATEST", check_answers=check)


def test_the_model_sees_what_the_caller_gave_and_the_caller_gets_its_answer() -> None:
    calls: list[Call] = []

    def answer(call: Call) -> Mapping[str, Any]:
        calls.append(call)
        return {"DetectorIds": ["d"], "NextToken": ""}

    client = session(answer).client("guardduty", region_name="us-east-1")
    assert client.list_detectors(MaxResults=3)["DetectorIds"] == ["d"]
    assert calls == [Call("guardduty", "ListDetectors", {"MaxResults": 3}, "us-east-1", "AKIATEST")]


def test_botocore_refuses_wrong_parameters_before_the_model_is_asked() -> None:
    def never(call: Call) -> Mapping[str, Any]:
        raise AssertionError(call)

    client: Any = session(never).client("guardduty")
    with pytest.raises(ParamValidationError, match='Unknown parameter in input: "Detector"'):
        client.list_coverage(Detector="d")


def test_a_refusal_is_the_exception_that_aws_would_cause() -> None:
    def refuse(_: Call) -> Mapping[str, Any]:
        raise Refused("BadRequestException", "no such detector")

    client = session(refuse).client("guardduty")
    with pytest.raises(client.exceptions.BadRequestException) as error:
        client.get_detector(DetectorId="d")
    assert error.value.response["Error"] == {"Code": "BadRequestException", "Message": "no such detector"}
    assert isinstance(error.value, ClientError)


@pytest.mark.parametrize(
    ("answered", "fault"),
    [
        ({"DetectorIds": "d"}, "Invalid type for parameter DetectorIds"),
        ({}, 'Missing required parameter in input: "DetectorIds"'),
        ({"DetectorIds": [], "Detectors": []}, "unknown member .Detectors"),
    ],
)
def test_an_answer_that_aws_could_not_give_is_found_when_asked(answered: dict[str, Any], fault: str) -> None:
    with pytest.raises(OvenproofError) as error:
        session(lambda _: answered).client("guardduty").list_detectors()
    assert fault in str(error.value)
    session(lambda _: answered, check=False).client("guardduty").list_detectors()


def test_an_unknown_operation_is_told_as_a_gap_of_the_rehearsal() -> None:
    def answer(call: Call) -> Mapping[str, Any]:
        raise not_modelled(call)

    with pytest.raises(OvenproofError, match="the rehearsal does not know ec2:DescribeVpcs"):
        session(answer).client("ec2").describe_vpcs()
