"""Run Command through boto3; what the guest answers comes from a table."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.rehearsal.ssm import OUTPUT_CHARACTERS
from tests.rehearsal.conftest import Rehearsal


@pytest.fixture
def managed(rehearsal: Rehearsal) -> str:
    """An instance whose agent has answered."""
    instance_id = rehearsal.launch()
    rehearsal.world.hosting.poll_agents()
    return instance_id


def run(rehearsal: Rehearsal, instance_id: str, *lines: str, **parameters: list[str]) -> Any:
    """Send and fetch: with the test's executor the command has ended when SendCommand returns."""
    ssm = rehearsal.session.client("ssm")
    command = ssm.send_command(
        InstanceIds=[instance_id],
        DocumentName="AWS-RunShellScript",
        Parameters={"commands": list(lines), **parameters},
    )["Command"]
    return ssm.get_command_invocation(CommandId=command["CommandId"], InstanceId=instance_id)


def ping(rehearsal: Rehearsal, instance_id: str) -> list[str]:
    answer = rehearsal.session.client("ssm").describe_instance_information(
        Filters=[{"Key": "InstanceIds", "Values": [instance_id]}]
    )
    return [one["PingStatus"] for one in answer["InstanceInformationList"]]


def test_an_instance_is_online_while_its_agent_answers(rehearsal: Rehearsal) -> None:
    instance_id = rehearsal.launch()
    seen = [ping(rehearsal, instance_id)]
    rehearsal.world.hosting.poll_agents()
    seen.append(ping(rehearsal, instance_id))
    rehearsal.machines[0].agent.there = False
    rehearsal.clock.sleep(60)
    rehearsal.world.hosting.poll_agents()
    seen.append(ping(rehearsal, instance_id))
    assert seen == [[], ["Online"], ["ConnectionLost"]]


ENDS = [(0, "Success", "Success", 0), (3, "Failed", "Failed", 3), (124, "Failed", "Failed", 124)]


@pytest.mark.parametrize(("code", "status", "details", "response_code"), ENDS)
def test_the_exit_code_decides(
    rehearsal: Rehearsal, managed: str, code: int, status: str, details: str, response_code: int
) -> None:
    rehearsal.machines[0].agent.exits_with = code
    rehearsal.machines[0].agent.prints = "root\n"
    found = run(rehearsal, managed, "whoami")
    assert (found["Status"], found["StatusDetails"], found["ResponseCode"], found["StandardOutputContent"]) == (
        status,
        details,
        response_code,
        "root\n",
    )


def test_the_lines_are_one_script_under_a_time_limit(rehearsal: Rehearsal, managed: str) -> None:
    run(rehearsal, managed, "set -e", "id", executionTimeout=["30"])
    (call,) = [arguments for name, arguments in rehearsal.machines[0].agent.calls if name == "guest-exec"]
    assert (call["path"], call["arg"]) == ("/usr/bin/timeout", ["--kill-after=5", "30", "/bin/sh", "-c", "set -e\nid"])


def test_a_script_that_runs_into_the_limit_timed_out(
    rehearsal: Rehearsal, managed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = rehearsal.machines[0].agent
    agent.exits_with = 124
    answer = agent.call

    def slow(command: str, arguments: Any = None) -> Any:
        rehearsal.clock.sleep(30)
        return answer(command, arguments)

    monkeypatch.setattr(agent, "call", slow)
    found = run(rehearsal, managed, "sleep 60", executionTimeout=["30"])
    assert (found["Status"], found["StatusDetails"], found["ResponseCode"]) == ("TimedOut", "Execution Timed Out", -1)


def test_long_output_is_cut_as_ssm_does(rehearsal: Rehearsal, managed: str) -> None:
    rehearsal.machines[0].agent.prints = "x" * 30_000
    text = run(rehearsal, managed, "cat big")["StandardOutputContent"]
    assert (len(text), text[-25:]) == (OUTPUT_CHARACTERS, "xx\n---Output truncated---"[-25:])


def test_an_agent_that_goes_away_is_a_failed_command(rehearsal: Rehearsal, managed: str) -> None:
    rehearsal.machines[0].agent.there = False
    found = run(rehearsal, managed, "reboot")
    assert (found["Status"], found["StatusDetails"], found["StandardErrorContent"]) == (
        "Failed",
        "Terminated",
        "the guest's agent went away: nobody answers",
    )


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"DocumentName": "AWS-RunPowerShellScript"}, "InvalidDocument", "runs AWS-RunShellScript only"),
    ({"Parameters": {}}, "InvalidParameters", "needs the parameter commands"),
    (
        {"Parameters": {"commands": ["id"], "executionTimeout": ["0"]}},
        "InvalidParameters",
        "1 to 172800 seconds, not 0",
    ),
    ({"OutputS3BucketName": "bucket"}, "UnsupportedOperation", "OutputS3BucketName in SendCommand"),
    ({"InstanceIds": ["i-00000000000000000"]}, "InvalidInstanceId", "not in a valid state"),
]


@pytest.mark.parametrize(("changes", "code", "words"), REFUSED)
def test_what_cannot_be_sent_is_refused(
    rehearsal: Rehearsal, managed: str, changes: dict[str, Any], code: str, words: str
) -> None:
    asked = {"InstanceIds": [managed], "DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["id"]}}
    with pytest.raises(ClientError) as caught:
        rehearsal.session.client("ssm").send_command(**(asked | changes))
    error = caught.value.response["Error"]
    assert error["Code"] == code
    assert words in error["Message"]
