"""Scripts: what they see of the world, in this process and in one of their own, and how they fail."""

from typing import Any

import pytest

from pipeline.errors import OvenproofError, UsageError
from pipeline.runbook import scripts
from pipeline.runbook.trace import Execution
from tests.runbook.helpers import run, script

PARAMETER = {"ssm.GetParameter": [{"Parameter": {"Value": "v"}}]}
BOTH = pytest.mark.parametrize("isolated", [False, True], ids=["here", "isolated"])


def returned(body: str, isolated: bool, answers: Any = "", **others: Any) -> Any:
    execution = run(script(body), answers=answers, isolate_scripts=isolated, **others)
    return execution.step("script").outputs["Payload"] if execution.status == "Success" else execution.failure


def ran(body: str, isolated: bool, answers: Any = "") -> Execution:
    return run(script(body), answers=answers, isolate_scripts=isolated)


@BOTH
def test_calls_go_through_the_session(isolated: bool) -> None:
    body = "import boto3\nreturn boto3.client('ssm').get_parameter(Name='x')['Parameter']['Value']"

    assert returned(body, isolated, PARAMETER) == "v"


@BOTH
def test_a_session_of_the_scripts_own_is_the_executions(isolated: bool) -> None:
    body = """
    import boto3
    session = boto3.session.Session(region_name='us-east-1')
    return [session.region_name, session.client('ssm').get_parameter(Name='x')['Parameter']['Value']]
    """
    assert returned(body, isolated, PARAMETER) == ["eu-central-1", "v"]


@BOTH
def test_a_refusal_can_be_caught_by_its_code_and_by_its_class(isolated: bool) -> None:
    body = """
    import boto3
    from botocore.exceptions import ClientError
    ssm = boto3.client('ssm')
    caught = []
    try:
        ssm.get_parameter(Name='x')
    except ClientError as error:
        caught.append(error.response['Error']['Code'])
    try:
        ssm.get_parameter(Name='x')
    except ssm.exceptions.ParameterNotFound:
        caught.append('by its class')
    return caught
    """
    answers = {"ssm.GetParameter": [{"Error": {"Code": "ParameterNotFound", "Message": "no"}}]}

    assert returned(body, isolated, answers) == ["ParameterNotFound", "by its class"]


@BOTH
def test_pages_are_turned(isolated: bool) -> None:
    body = """
    import boto3
    pages = boto3.client('ssm').get_paginator('describe_instance_information').paginate()
    return [one['InstanceId'] for page in pages for one in page['InstanceInformationList']]
    """
    answers = {
        "ssm.DescribeInstanceInformation": [
            {"InstanceInformationList": [{"InstanceId": "i-1"}], "NextToken": "more"},
            {"InstanceInformationList": [{"InstanceId": "i-2"}]},
        ]
    }
    assert returned(body, isolated, answers) == ["i-1", "i-2"]


@BOTH
def test_waiting_is_on_the_executions_clock(isolated: bool) -> None:
    body = """
    import time
    from datetime import datetime, timezone
    begun = time.time()
    time.sleep(500)
    return [time.time() - begun, datetime.now(timezone.utc).isoformat(), datetime.utcnow().hour]
    """
    assert returned(body, isolated) == [500.0, "2026-11-23T12:08:20+00:00", 12]


@BOTH
def test_a_waiter_waits_on_the_executions_clock(isolated: bool) -> None:
    body = "import boto3\nboto3.client('ec2').get_waiter('instance_running').wait(InstanceIds=['i-1'])\nreturn 1"
    states = [
        {"Reservations": [{"Instances": [{"State": {"Name": name}}]}]} for name in ("pending", "pending", "running")
    ]

    execution = ran(body, isolated, {"ec2.DescribeInstances": states})

    assert execution.status == "Success"
    assert (execution.ended - execution.started).total_seconds() == 30


@BOTH
def test_times_of_an_answer_are_times(isolated: bool) -> None:
    body = """
    import boto3
    from datetime import datetime, timedelta
    created = boto3.client('autoscaling').describe_auto_scaling_groups()['AutoScalingGroups'][0]['CreatedTime']
    return [isinstance(created, datetime), (created + timedelta(days=1)).isoformat()]
    """
    group = {"AutoScalingGroupName": "a", "CreatedTime": "2026-01-01T00:00:00Z"}
    answers = {"autoscaling.DescribeAutoScalingGroups": [{"AutoScalingGroups": [group]}]}

    assert returned(body, isolated, answers) == [True, "2026-01-02T00:00:00+00:00"]


@BOTH
def test_a_failure_names_the_line(isolated: bool) -> None:
    assert returned("x = 1\nreturn x / 0", isolated) == (
        "step script: ZeroDivisionError: division by zero; line 3 of the script, doc.yaml:11: return x / 0"
    )


@BOTH
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return (", "the script cannot be read"),
        ("import sys; sys.exit('enough')", "the script exited with enough"),
        ("import boto3; boto3.client('nothing')", "nothing"),
        ("import boto3; boto3.client('ssm').get_parameter(Nome='x')", "Nome"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_a_script_that_fails(body: str, why: str, isolated: bool) -> None:
    assert why in returned(body, isolated)


@BOTH
def test_a_missing_answer_is_not_caught_by_the_script(isolated: bool) -> None:
    body = "import boto3\ntry:\n    boto3.client('ssm').get_parameter(Name='x')\nexcept Exception:\n    return 'caught'"

    with pytest.raises(OvenproofError, match=r"nothing for ssm\.GetParameter"):
        ran(body, isolated)


@BOTH
def test_what_is_printed_is_kept_as_the_log(isolated: bool) -> None:
    assert ran("print('a', 1)\nprint('b')", isolated).step("script").outputs["ExecutionLog"] == "a 1\nb\n"


def test_an_isolated_script_has_no_credentials_and_does_not_share_this_process() -> None:
    body = "import os\nreturn [name for name in os.environ if 'KEY' in name or 'TOKEN' in name]"

    assert returned(body, True) == []
    assert returned("import sys\nsys.modules['pipeline'] = None\nreturn 1", True) == 1


def test_a_process_that_ends_without_a_word_is_told() -> None:
    assert "ended without a result (code 3)" in returned("import os\nos._exit(3)", True)


def test_nothing_of_one_script_is_left_for_the_next() -> None:
    first = script("global seen\nseen = 1\nreturn 1", name="first")
    second = script("return 'seen' in globals()", name="second")

    assert run(first + second).step("second").outputs["Payload"] is False


def test_another_runtime_is_told() -> None:
    with pytest.raises(UsageError, match=r"runtime 'PowerShell 7\.0' is not executed here"):
        run(script("return 1").replace("python3.11", "PowerShell 7.0"))


def test_the_context_has_the_system_values() -> None:
    assert returned("return context['global:REGION']", False) == "eu-central-1"


def test_a_script_that_is_edited_is_compiled_anew() -> None:
    assert [returned(f"return {number}", False) for number in (1, 2, 1)] == [1, 2, 1]


def test_a_script_that_never_looks_at_the_clock_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "REAL_SECONDS", 0.05)

    assert "still works after 0.05 s of real time" in returned(
        "while True:\n    try:\n        pass\n    except Exception:\n        pass", False
    )
