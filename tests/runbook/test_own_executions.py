"""Executions as a document sees them through SSM's own API, an engine that dies, and who watches."""

from typing import Any

import pytest

from pipeline.clock import VirtualClock
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Moment, Verdict
from tests.runbook.helpers import document, run, script, seams, statuses, step

LOOK = """
import boto3
from botocore.exceptions import ClientError
try:
    found = boto3.client('ssm').get_automation_execution(AutomationExecutionId=events['id'])['AutomationExecution']
except ClientError as error:
    return error.response['Error']['Code']
return [found['DocumentName'], found['AutomationExecutionStatus'],
        [[one['StepName'], one['StepStatus']] for one in found['StepExecutions']]]
"""
ABOUT = script(LOOK, name="about").replace("    Script:", "    InputPayload: {id: '{{ Id }}'}\n    Script:")
ID = "parameters: {Id: {type: String}}\n"
NOBODY = "00000000-0000-0000-0000-000000000000"


def answer_about(execution_id: str, **others: Any) -> Any:
    """What a document learns about an execution."""
    execution = run(ABOUT, ID, parameters={"Id": execution_id}, **others)
    return execution.step("about").outputs["Payload"]


def dies_at(name: str) -> Any:
    def interrupt(moment: Moment) -> Verdict:
        return "die" if moment.step == name and moment.when == "before" else "go"

    return interrupt


def test_an_engine_that_dies_runs_nothing_more() -> None:
    steps = (
        step("a", "sleep", "Duration: PT1S")
        + step("b", "sleep", "Duration: PT1S")
        + step("c", "sleep", "Duration: PT1S")
    )

    execution = run(steps, interrupt=dies_at("b"))

    assert execution.status == "Died"
    assert statuses(execution) == [("a", "Success"), ("b", "InProgress"), ("c", "Pending")]


def test_an_earlier_execution_is_found_by_its_id() -> None:
    known: dict[str, Any] = {}
    first = run(step("a", "sleep", "Duration: PT1S"), executions=known)

    assert answer_about(first.execution_id, executions=known) == ["doc", "Success", [["a", "Success"]]]


def test_one_that_died_and_one_that_never_was_are_not_found() -> None:
    known: dict[str, Any] = {}
    dead = run(step("a", "sleep", "Duration: PT1S"), executions=known, interrupt=dies_at("a"))

    assert answer_about(dead.execution_id, executions=known) == "AutomationExecutionNotFoundException"
    assert answer_about(NOBODY, executions=known) == "AutomationExecutionNotFoundException"


def test_the_running_execution_sees_itself() -> None:
    own = ABOUT.replace("{{ Id }}", "{{ automation:EXECUTION_ID }}")
    before = step("a", "sleep", "Duration: PT1S")

    execution = run(before + own)

    assert execution.step("about").outputs["Payload"] == [
        "doc",
        "InProgress",
        [["a", "Success"], ["about", "InProgress"]],
    ]


def test_ids_differ_and_repeat() -> None:
    known: dict[str, Any] = {}
    steps = step("a", "sleep", "Duration: PT1S")
    first, second = run(steps, executions=known), run(steps, executions=known)

    assert first.execution_id != second.execution_id
    assert run(steps).execution_id == first.execution_id


BEGIN = """
- name: begin
  action: aws:executeAwsApi
  inputs: {Service: ssm, Api: StartAutomationExecution, DocumentName: child}
  outputs:
  - {Name: Id, Selector: $.AutomationExecutionId, Type: String}
"""


def test_a_started_execution_is_run_when_somebody_waits_for_it() -> None:
    child = document(step("long", "sleep", "Duration: PT2H"), name="child")
    wait = step(
        "wait",
        "waitForAwsResourceProperty",
        "Service: ssm\nApi: GetAutomationExecution\nAutomationExecutionId: '{{ begin.Id }}'\n"
        "PropertySelector: $.AutomationExecution.AutomationExecutionStatus\nDesiredValues: [Success]",
        more="  timeoutSeconds: 60\n",
    )
    execution = run(BEGIN + wait, nested=(child,))

    # the child took two hours, which are not the waiting step's
    assert (execution.status, len(execution.children)) == ("Success", 1)
    assert (execution.ended - execution.started).total_seconds() == 7200


def test_a_started_execution_that_nobody_waits_for_is_run_at_the_end() -> None:
    child = document(step("long", "sleep", "Duration: PT2H"), name="child")

    execution = run(BEGIN + step("b", "sleep", "Duration: PT1S"), nested=(child,))

    assert statuses(execution) == [("begin", "Success"), ("b", "Success")]
    assert statuses(execution.children[0]) == [("long", "Success")]


def test_the_session_answers_when_it_is_asked_to() -> None:
    answers = {"ssm.StartAutomationExecution": [{"AutomationExecutionId": NOBODY}]}

    assert run(BEGIN, answers=answers, own_executions=False).step("begin").outputs["Id"] == NOBODY


def test_parameters_of_a_started_execution_are_checked_by_the_model() -> None:
    wrong = BEGIN.replace("DocumentName: child", "Document: child")

    assert 'Missing required parameter in input: "DocumentName"' in run(wrong).failure


@pytest.mark.parametrize("when", ["before", "attempt", "after"])
def test_every_moment_is_asked_about(when: str) -> None:
    asked: list[tuple[str, str, int, int]] = []

    def interrupt(moment: Moment) -> Verdict:
        asked.append((moment.when, moment.step, moment.number, moment.attempt))
        return "go"

    fails = script("raise ValueError('no')", name="a", more="  maxAttempts: 2\n  onFailure: Continue\n")
    run(fails + step("b", "sleep", "Duration: PT1S"), interrupt=interrupt)

    expected = {
        "before": [("before", "a", 1, 0), ("before", "b", 2, 0)],
        "attempt": [("attempt", "a", 1, 1)],
        "after": [("after", "a", 1, 2), ("after", "b", 2, 1)],
    }
    assert [one for one in asked if one[0] == when] == expected[when]


def test_whoever_watches_sees_each_step_begin_and_end() -> None:
    seen: list[tuple[str, str]] = []

    run(step("a", "sleep", "Duration: PT1S"), watch=lambda one: seen.append((one.name, one.status)))

    assert seen == [("a", "InProgress"), ("a", "Success")]


def test_a_document_is_compiled_once_and_executed_often() -> None:
    one = document(script("return 1"))
    given = seams()

    first = execute(one, {}, given)
    second = execute(one, {}, seams(clock=VirtualClock()))

    assert first.steps == second.steps
