"""Commands on an instance, with SSM's own answers."""

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from pipeline.commands import CommandResult, run_on_instance, wait_until_managed
from pipeline.errors import CloudError
from tests.doubles import FakeClock, OneClientSession

SENT = {"Command": {"CommandId": "11111111-2222-3333-4444-555555555555"}}


def ssm(*answers: tuple[str, dict[str, Any]]) -> tuple[OneClientSession, Stubber]:
    client = boto3.client("ssm", region_name="eu-central-1")
    stub = Stubber(client)
    for operation, answer in answers:
        stub.add_response(operation, answer)
    return OneClientSession(client), stub


def invocation(status: str, code: int = -1, out: str = "", err: str = "") -> tuple[str, dict[str, Any]]:
    answer = {
        "Status": status,
        "ResponseCode": code,
        "StandardOutputContent": out,
        "StandardErrorContent": err,
    }
    return ("get_command_invocation", answer)


def test_a_command_is_waited_for_and_its_output_comes_back() -> None:
    session, stub = ssm(("send_command", SENT), invocation("InProgress"), invocation("Success", 0, "5.10.1\n"))
    clock = FakeClock()
    with stub:
        result = run_on_instance(session, "i-1", ["uname -r"], clock=clock, timeout_seconds=60, every_seconds=5)
    assert result == CommandResult(status="Success", exit_code=0, stdout="5.10.1\n", stderr="")
    assert clock.slept == [5]


def test_a_failed_command_is_an_answer_and_no_error() -> None:
    session, stub = ssm(("send_command", SENT), invocation("Failed", 7, "", "no such file\n"))
    with stub:
        result = run_on_instance(session, "i-1", ["cat x"], clock=FakeClock(), timeout_seconds=60, every_seconds=5)
    assert (result.status, result.exit_code, result.stderr) == ("Failed", 7, "no such file\n")


def test_an_invocation_that_cannot_be_read_yet_is_asked_for_again() -> None:
    session, stub = ssm(("send_command", SENT))
    stub.add_client_error("get_command_invocation", "InvocationDoesNotExist")
    stub.add_response(*invocation("Success", 0))
    with stub:
        result = run_on_instance(session, "i-1", ["true"], clock=FakeClock(), timeout_seconds=60, every_seconds=5)
    assert result.status == "Success"


def test_a_refused_command_says_what_is_missing() -> None:
    session, stub = ssm()
    stub.add_client_error("send_command", "AccessDeniedException", "not you")
    with stub, pytest.raises(CloudError) as error:
        run_on_instance(session, "i-1", ["true"], clock=FakeClock(), timeout_seconds=60, every_seconds=5)
    assert str(error.value) == (
        "SSM did not take the command\n"
        "  expected: SendCommand of AWS-RunShellScript accepted\n"
        "  found:    An error occurred (AccessDeniedException) when calling the SendCommand operation: not you\n"
        "  where:    SSM in eu-central-1, instance i-1\n"
        "  do:       the caller needs ssm:SendCommand on the instance and the document"
    )


def test_a_command_without_end_is_given_up() -> None:
    session, stub = ssm(("send_command", SENT), *[invocation("InProgress")] * 9)
    with stub, pytest.raises(CloudError, match="did not end in time"):
        run_on_instance(session, "i-1", ["sleep 1d"], clock=FakeClock(), timeout_seconds=60, every_seconds=10)


def test_an_instance_that_ssm_does_not_manage_is_named() -> None:
    session, stub = ssm(*[("describe_instance_information", {"InstanceInformationList": []})] * 3)
    with stub, pytest.raises(CloudError) as error:
        wait_until_managed(session, "i-1", clock=FakeClock(), timeout_seconds=30, every_seconds=10)
    assert "  found:    not registered\n" in str(error.value)


def test_waiting_for_ssm_ends_when_the_agent_is_online() -> None:
    online = {"InstanceInformationList": [{"InstanceId": "i-1", "PingStatus": "Online"}]}
    lost = {"InstanceInformationList": [{"InstanceId": "i-1", "PingStatus": "ConnectionLost"}]}
    session, stub = ssm(("describe_instance_information", lost), ("describe_instance_information", online))
    clock = FakeClock()
    with stub:
        wait_until_managed(session, "i-1", clock=clock, timeout_seconds=30, every_seconds=10)
    assert clock.slept == [10]


@pytest.mark.parametrize(
    ("answers", "refused", "permission"),
    [
        ((), "describe_instance_information", "ssm:DescribeInstanceInformation"),
        ((("send_command", SENT),), "get_command_invocation", "ssm:GetCommandInvocation"),
    ],
)
def test_a_question_that_ssm_refuses_names_the_permission(
    answers: tuple[tuple[str, dict[str, Any]], ...], refused: str, permission: str
) -> None:
    session, stub = ssm(*answers)
    stub.add_client_error(refused, "AccessDeniedException", "not you")
    clock = FakeClock()
    with stub, pytest.raises(CloudError, match=permission):
        if answers:
            run_on_instance(session, "i-1", ["true"], clock=clock, timeout_seconds=60, every_seconds=5)
        else:
            wait_until_managed(session, "i-1", clock=clock, timeout_seconds=30, every_seconds=10)
