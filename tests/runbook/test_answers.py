"""The file of prepared answers: what is given out, in which order, and what is refused when the file is read."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from pipeline.errors import CatalogError, OvenproofError
from tests.runbook.helpers import REGION, prepared


def refused(text: str) -> str:
    with pytest.raises(CatalogError) as error:
        prepared(text)
    return str(error.value)


def test_answers_are_given_in_order_and_the_last_one_again() -> None:
    answers = prepared("ssm.GetParameter: [{Parameter: {Value: a}}, {Parameter: {Value: b}}]")
    ssm = answers.session(REGION).client("ssm")

    assert [ssm.get_parameter(Name="x")["Parameter"]["Value"] for _ in range(4)] == ["a", "b", "b", "b"]


def test_an_error_is_raised_as_the_clients_own_exception() -> None:
    answers = prepared("ssm.GetParameter: [{Error: {Code: ParameterNotFound, Message: no such}}]")
    ssm = answers.session(REGION).client("ssm")

    with pytest.raises(ssm.exceptions.ParameterNotFound, match="no such"):
        ssm.get_parameter(Name="x")
    with pytest.raises(ClientError):
        ssm.get_parameter(Name="x")


def test_parameters_are_checked_as_aws_would() -> None:
    ssm = prepared("ssm.GetParameter: [{Parameter: {Value: a}}]").session(REGION).client("ssm")

    wrong: dict[str, Any] = {"Nome": "x"}
    with pytest.raises(ParamValidationError):
        ssm.get_parameter(**wrong)


def test_what_is_missing_is_told_with_what_to_write() -> None:
    ec2 = prepared().session(REGION).client("ec2")

    with pytest.raises(OvenproofError) as error:
        ec2.describe_images(ImageIds=["ami-1"])
    assert "the answers have nothing for ec2.DescribeImages" in str(error.value)
    assert "ec2.DescribeImages: [{Images: [{" in str(error.value)


def test_values_are_read_by_the_operations_shape() -> None:
    text = """
    sts.GetCallerIdentity: [{Account: 012345678901}]
    ec2.DescribeImages:
    - Images: [{ImageId: ami-1, Public: true, CreationDate: 2026-01-01}]
    autoscaling.DescribeAutoScalingGroups:
    - AutoScalingGroups:
      - {AutoScalingGroupName: a, MinSize: 1, CreatedTime: 2026-01-01T00:00:00Z}
    """
    session = prepared(text).session(REGION)

    assert session.client("sts").get_caller_identity()["Account"] == "012345678901"
    image = session.client("ec2").describe_images()["Images"][0]
    assert (image["Public"], image["CreationDate"]) == (True, "2026-01-01")
    group = session.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]
    assert (group["MinSize"], group["CreatedTime"]) == (1, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_single_answer_needs_no_list() -> None:
    ssm = prepared("ssm.GetParameter: {Parameter: {Value: a}}").session(REGION).client("ssm")

    assert ssm.get_parameter(Name="x")["Parameter"]["Value"] == "a"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1, 2]", "found a list; a mapping of `service.Operation`"),
        ("text", "found a text"),
        ("ssm.GetParamter: [{}]", "has no operation 'GetParamter'; did you mean 'GetParameter'?"),
        ("smm.GetParameter: [{}]", "there is no service 'smm'; did you mean"),
        ("ssm.GetParameter: []", "an empty list answers nothing"),
        ("ssm.GetParameter: [5]", "found a text; an answer is a mapping"),
        ("ssm.GetParameter: [{Paramter: {}}]", "has no member 'Paramter'; did you mean 'Parameter'?"),
        ("ssm.GetParameter: [{Parameter: [x]}]", "found a list; a mapping is wanted"),
        ("ssm.GetParameter: [{Parameter: {Version: x}}]", "found 'x'; a long is wanted"),
        ("ssm.GetParameter: [{Error: {Message: x}}]", "an Error needs a Code"),
        ("ec2.DeleteSnapshot: [{Done: true}]", "the operation answers with nothing; found 'Done'"),
        ("approve.step: Maybe", "Approve, Reject, or Nobody is wanted"),
        ("command.step: {State: Success}", "a mapping of Status, Output, ResponseCode, CommandId"),
        ("a: &x [*x]", "would never end"),
        ("ssm.GetParameter: [{}]\nssm.GetParameter: [{}]", "is there twice"),
    ],
)
def test_a_wrong_file_is_refused_when_it_is_read(text: str, why: str) -> None:
    message = refused(text)

    assert why in message
    assert "answers.yaml:" in message


def test_people_are_answered_too() -> None:
    answers = prepared("command.do: [{Status: Success, Output: one}, {Status: Failed}]\npause.wait: Resume\n")

    first, second = answers.command("do"), answers.command("do")

    assert first is not None
    assert second is not None
    assert (first.status, first.output, first.response_code) == ("Success", "one", 0)
    assert (second.status, second.response_code) == ("Failed", 1)
    assert answers.resumes("wait") is True
    assert answers.resumes("other") is None
