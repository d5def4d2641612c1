"""Five documents in the shapes of well-known runbooks, executed as AWS documents it: which steps, in which order."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import VirtualClock
from pipeline.runbook.answers import read_answers
from pipeline.runbook.command import beside
from pipeline.runbook.document import read_document
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Approval, Moment, Seams, Verdict
from pipeline.runbook.trace import Execution
from tests.runbook.helpers import REGION, statuses

FOLDER = Path(__file__).with_name("documents")
QUEUE = {"QueueUrl": "https://sqs.eu-central-1.amazonaws.com/123456789012/q", "Alarm": "a"}
IMAGE = {"ImageId": "ami-0123456789abcdef0", "Topic": "arn:aws:sns:eu-central-1:123456789012:AutomationApprovals"}


def run(name: str, parameters: dict[str, Any], answers: dict[str, Any] | None = None, **others: Any) -> Execution:
    """Execute a document with its file of answers; `answers` in place of some of them."""
    given = read_answers(FOLDER / f"{name}.answers.yaml")
    given = dataclasses.replace(given, by_key={**given.by_key, **(answers or {})})
    seams = Seams(
        session=given.session(REGION),
        clock=VirtualClock(),
        documents=beside(FOLDER / f"{name}.yaml"),
        **{"approve": given.approval, "command": lambda request: given.command(request.step), **others},
        account_id=given.account_id,
    )
    return execute(read_document(FOLDER / f"{name}.yaml"), parameters, seams)


def test_a_loop_with_an_inner_failure() -> None:
    execution = run("RestartOneByOne", {"TagValue": "weekly"})

    assert statuses(execution) == [
        ("findInstances", "Success"),
        ("restartEach", "Exited"),
        ("stopOne", "Success"),
        ("startOne", "Success"),
        ("remember", "Success"),
        ("stopOne", "TimedOut"),
        ("tellWhereItStopped", "Success"),
        ("tellSuccess", "Pending"),
    ]
    assert execution.status == "TimedOut"
    assert [step.iteration for step in execution.steps if step.parent == "restartEach"] == [1, 1, 1, 2]
    assert execution.outputs == {"tellWhereItStopped.Left": ["i-0000000000000002", "i-0000000000000003"]}


@pytest.mark.parametrize(
    ("platform", "ping", "name", "force", "taken"),
    [
        ("Linux", "Online", "web-1", False, "patchLinux"),
        ("MacOS", "Online", "web-1", False, "patchLinux"),
        ("Windows", "Online", "web-1", False, "patchWindows"),
        ("Linux", "ConnectionLost", "web-1", False, "leave"),
        ("Linux", "Online", "pinned-1", False, "leave"),
        ("Linux", "ConnectionLost", "pinned-1", True, "patchLinux"),
        ("Other", "Online", "web-1", True, "leave"),
    ],
)
def test_a_branch_with_and_or_not(platform: str, ping: str, name: str, force: bool, taken: str) -> None:
    found = {"InstanceInformationList": [{"PlatformType": platform, "PingStatus": ping, "Name": name}]}

    execution = run(
        "PatchByPlatform",
        {"InstanceId": "i-0123456789abcdef0", "Force": force},
        {"ssm.DescribeInstanceInformation": [found]},
    )

    assert execution.status == "Success"
    assert statuses(execution)[:3] == [("look", "Success"), ("choose", "Success"), (taken, "Success")]
    assert {status for _, status in statuses(execution)[3:]} == {"Pending"}


def test_a_nested_automation_with_targets() -> None:
    execution = run("RebootFleet", {"Team": "blue"})

    assert execution.status == "Failed"
    assert statuses(execution) == [("rebootAll", "Failed"), ("countErrors", "Success"), ("allWell", "Pending")]
    # one first; then two at once, of which one fails: the other still ends, and nothing more begins
    assert [(child.parameters["InstanceId"], child.status) for child in execution.children] == [
        ("i-1", "Success"),
        ("i-2", "Failed"),
        ("i-3", "Success"),
    ]
    assert statuses(execution.children[1]) == [("reboot", "Failed"), ("answers", "Pending")]
    assert "3 were not started" in execution.failure


def test_a_rollback_by_the_previous_execution_id() -> None:
    execution = run("ChangeQueueDelay", QUEUE)

    assert execution.status == "Failed"
    assert statuses(execution) == [
        ("checkIsRollback", "Success"),
        ("backup", "Success"),
        ("change", "Success"),
        ("alarmStaysQuiet", "Failed"),
        ("triggerRollback", "Success"),
        ("readPrevious", "Pending"),
        ("restore", "Pending"),
        ("done", "Pending"),
    ]
    (rollback,) = execution.children
    assert rollback.execution_id == execution.step("triggerRollback").outputs["ExecutionId"]
    assert rollback.parameters["PreviousExecutionId"] == execution.execution_id
    assert statuses(rollback)[:3] == [
        ("checkIsRollback", "Success"),
        ("readPrevious", "Success"),
        ("restore", "Success"),
    ]
    assert rollback.step("restore").inputs["Attributes"] == {"DelaySeconds": "5"}
    assert rollback.status == "Success"


def test_the_same_rollback_after_a_cancel() -> None:
    def interrupt(moment: Moment) -> Verdict:
        return "cancel" if (moment.step, moment.when) == ("change", "after") else "go"

    execution = run("ChangeQueueDelay", QUEUE, interrupt=interrupt)

    assert execution.status == "Cancelled"
    assert statuses(execution)[2:4] == [("change", "Cancelled"), ("triggerRollback", "Success")]
    assert execution.children[0].step("restore").status == "Success"


def test_no_rollback_without_its_cause() -> None:
    execution = run(
        "ChangeQueueDelay", QUEUE, {"cloudwatch.DescribeAlarms": [{"MetricAlarms": [{"StateValue": "OK"}]}]}
    )

    assert execution.status == "Success"
    assert statuses(execution)[4] == ("done", "Success")
    assert execution.children == ()


def test_an_approval_that_nobody_gives() -> None:
    execution = run("RetireImage", IMAGE)

    assert execution.status == "TimedOut"
    assert statuses(execution) == [
        ("mark", "Success"),
        ("approval", "TimedOut"),
        ("unmark", "Success"),
        ("remove", "Pending"),
    ]
    assert (execution.ended - execution.started).total_seconds() == 3600
    assert execution.step("approval").inputs["Message"] == "Remove ami-0123456789abcdef0? Asked on 2026-11-23."


@pytest.mark.parametrize(
    ("decision", "status", "taken"), [("Approve", "Success", "remove"), ("Reject", "Failed", "unmark")]
)
def test_an_approval_that_is_answered(decision: Any, status: str, taken: str) -> None:
    execution = run("RetireImage", IMAGE, approve=lambda _: Approval(decision=decision))

    assert execution.status == status
    assert statuses(execution)[2] == (taken, "Success")
