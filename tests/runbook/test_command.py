"""`./run execute` as a user starts it, in this process: options, exit codes, the table, the trace."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from rich.console import Console

from pipeline.errors import CatalogError, ExecutionError, OvenproofError, UsageError
from pipeline.paths import CHECKOUT
from pipeline.runbook.command import Terminal, execute_file
from tests.runbook.helpers import step

DOCUMENT = """\
schemaVersion: '0.3'
parameters:
  Name: {type: String, default: /image}
mainSteps:
- name: get
  action: aws:executeAwsApi
  inputs: {Service: ssm, Api: GetParameter, Name: '{{ Name }}'}
  outputs:
  - {Name: Value, Selector: $.Parameter.Value, Type: String}
- name: ask
  action: aws:approve
  timeoutSeconds: 60
  inputs: {Approvers: [me], Message: 'roll to {{ get.Value }}?'}
outputs: [get.Value]
"""
GET_A = """\
- name: get
  action: aws:executeAwsApi
  inputs: {Service: ssm, Api: GetParameter, Name: /a}
  outputs:
  - {Name: Value, Selector: $.Parameter.Value, Type: String}
"""
ANSWERS = "ssm.GetParameter: [{Parameter: {Value: ami-1}}]\n"


class Played:
    """A folder with a document, and a terminal with somebody, or nobody, at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = io.StringIO()
        self.asked: list[str] = []
        self.says: list[str] | None = None
        self.write("doc.yaml", DOCUMENT)
        self.write("answers.yaml", ANSWERS)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def execute(self, document: str = "doc.yaml", answers: str = "answers.yaml", **others: Any) -> str:
        def ask(question: str) -> str:
            self.asked.append(question)
            assert self.says is not None
            return self.says.pop(0)

        console = Console(file=self.out, width=120, highlight=False)
        execute_file(
            str(self.folder / document),
            answers=str(self.folder / answers) if answers else "",
            to=Terminal(console=console, ask=ask if self.says is not None else None),
            **others,
        )
        return self.out.getvalue()


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path)


def test_an_approval_from_the_answers(played: Played) -> None:
    played.write("answers.yaml", ANSWERS + "approve.ask: Approve\n")

    said = played.execute(trace=str(played.folder / "trace.json"))

    assert "get   executeAwsApi  Success" in said
    assert 'get.Value: "ami-1"' in said
    trace = json.loads((played.folder / "trace.json").read_text())
    assert (trace["status"], trace["outputs"]) == ("Success", {"get.Value": "ami-1"})
    assert [one["status"] for one in trace["steps"]] == ["Success", "Success"]


def test_an_approval_from_a_terminal(played: Played) -> None:
    played.says = ["what?", "approve"]

    played.execute()

    assert played.asked == ["ask: roll to ami-1? [approve/reject/nobody] "] * 2


def test_nobody_at_a_terminal_means_that_nobody_answers(played: Played) -> None:
    with pytest.raises(ExecutionError, match="ended TimedOut") as error:
        played.execute(trace=str(played.folder / "trace.json"))

    assert error.value.exit_code == 9
    assert json.loads((played.folder / "trace.json").read_text())["status"] == "TimedOut"


def test_a_rejection_ends_failed(played: Played) -> None:
    played.write("answers.yaml", ANSWERS + "approve.ask: Reject\n")

    with pytest.raises(ExecutionError, match="ended Failed"):
        played.execute()


def test_what_ran_is_shown_when_an_answer_is_missing(played: Played) -> None:
    played.write("answers.yaml", "")

    with pytest.raises(CatalogError, match=r"nothing for ssm\.GetParameter"):
        played.execute()
    assert "get" in played.out.getvalue()


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ('{"Name": 5}', "the type is String"),
        ('{"Nome": "x"}', "no such parameter"),
        ('{"Name": ', "cannot be read"),
        ("no-such-file.json", "--parameters names no file"),
    ],
)
def test_wrong_parameters(played: Played, parameters: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as error:
        played.execute(parameters=parameters)
    assert error.value.exit_code == 2


def test_parameters_from_a_file(played: Played) -> None:
    given = played.write("parameters.json", '{"Name": ["/other"]}')
    played.write("answers.yaml", ANSWERS + "approve.ask: Approve\n")
    trace = played.folder / "trace.json"

    played.execute(parameters=given, trace=str(trace))

    assert json.loads(trace.read_text())["steps"][0]["inputs"]["Name"] == "/other"


def test_parameters_that_are_no_mapping(played: Played) -> None:
    with pytest.raises(UsageError, match="not a mapping"):
        played.execute(parameters=played.write("parameters.json", "[1]"))


def test_files_that_are_not_there(played: Played) -> None:
    for options in ({"document": "no.yaml"}, {"answers": "no.yaml"}, {"fleet": "no.yaml", "answers": ""}):
        with pytest.raises(UsageError, match="names no file"):
            played.execute(**options)


def test_two_worlds_are_one_too_many(played: Played) -> None:
    with pytest.raises(UsageError, match="given twice"):
        played.execute(fleet="fleet.yaml", endpoint_url="http://127.0.0.1:1", answers="")


def test_a_trace_that_cannot_be_written(played: Played) -> None:
    played.write("answers.yaml", ANSWERS + "approve.ask: Approve\n")

    with pytest.raises(UsageError, match="the trace cannot be written"):
        played.execute(trace=str(played.folder / "doc.yaml" / "trace.json"))


def test_a_nested_document_is_found_beside_its_parent(played: Played) -> None:
    played.write(
        "child.yaml", "schemaVersion: '0.3'\nmainSteps:\n- {name: a, action: aws:sleep, inputs: {Duration: PT1S}}\n"
    )
    call = "- name: call\n  action: aws:executeAutomation\n  inputs: {DocumentName: %s}\n"
    played.write("parent.yaml", "schemaVersion: '0.3'\nmainSteps:\n" + call % "child")
    played.write("orphan.yaml", "schemaVersion: '0.3'\nmainSteps:\n" + call % "nobody")

    assert "child, started by parent: Success" in played.execute("parent.yaml")
    with pytest.raises(UsageError, match="there is no document nobody"):
        played.execute("orphan.yaml")


def test_a_pause_that_nobody_resumes_is_told(played: Played) -> None:
    played.write("pause.yaml", "schemaVersion: '0.3'\nmainSteps:\n- {name: p, action: aws:pause, inputs: {}}\n")

    with pytest.raises(OvenproofError, match=r"pause\.p: Resume"):
        played.execute("pause.yaml")


def test_a_fleets_model_answers(played: Played) -> None:
    call = "{Service: autoscaling, Api: DescribeAutoScalingGroups, AutoScalingGroupNames: [example]}"
    outputs = "  outputs:\n  - {Name: Ids, Selector: '$.AutoScalingGroups..InstanceId', Type: StringList}\n"
    look = step("look", "executeAwsApi", call) + outputs
    played.write("fleet-doc.yaml", "schemaVersion: '0.3'\nmainSteps:\n" + look + "outputs: [look.Ids]\n")

    said = played.execute(
        "fleet-doc.yaml", answers="", fleet=str(CHECKOUT / "ssm-documents" / "fleets" / "single.yaml")
    )

    assert "Success" in said
    assert 'look.Ids: ["i-' in said


def test_an_endpoint_answers_in_real_time(played: Played) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        put = step("put", "executeAwsApi", "{Service: ssm, Api: PutParameter, Name: /a, Value: v, Type: String}")
        played.write("endpoint.yaml", "schemaVersion: '0.3'\nmainSteps:\n" + put + GET_A + "outputs: [get.Value]\n")

        said = played.execute("endpoint.yaml", answers="", endpoint_url=f"http://{host}:{port}")
    finally:
        server.stop()

    assert 'get.Value: "v"' in said


def test_a_fleets_file_that_is_wrong(played: Played) -> None:
    with pytest.raises(CatalogError, match="unknown key 'mainSteps'"):
        played.execute(answers="", fleet=str(played.folder / "doc.yaml"))


def test_an_endpoint_that_is_no_address(played: Played) -> None:
    with pytest.raises(UsageError, match="no address"):
        played.execute(answers="", endpoint_url="nonsense")


def test_no_document_at_all() -> None:
    with pytest.raises(UsageError, match="no document was named"):
        execute_file("")


def test_a_document_that_executes_itself_ends(played: Played) -> None:
    played.write(
        "self.yaml", "schemaVersion: '0.3'\nmainSteps:\n" + step("a", "executeAutomation", "DocumentName: self")
    )

    with pytest.raises(CatalogError, match="at most 20 executions inside of each other"):
        played.execute("self.yaml")


COMMAND = "schemaVersion: '0.3'\nmainSteps:\n" + step("do", "runCommand", "{DocumentName: d, InstanceIds: [i-1]}")


def test_a_command_without_an_answer_is_told(played: Played) -> None:
    played.write("command.yaml", COMMAND)

    with pytest.raises(CatalogError, match=r"command\.do: \[\{Status: Success, Output: done\}\]"):
        played.execute("command.yaml")


def test_a_command_is_answered_at_a_terminal(played: Played) -> None:
    played.write("command.yaml", COMMAND)
    played.says = ["Failed", "no space"]

    with pytest.raises(ExecutionError, match="no space"):
        played.execute("command.yaml")
    assert played.asked[0] == "do: d on i-1; how does it end? [Success/Failed/TimedOut] "


def test_a_function_without_an_answer_is_told(played: Played) -> None:
    played.write(
        "fn.yaml", "schemaVersion: '0.3'\nmainSteps:\n" + step("f", "invokeLambdaFunction", "FunctionName: fn")
    )

    with pytest.raises(CatalogError, match=r"nothing for invoke\.f"):
        played.execute("fn.yaml")


def test_our_own_documents_are_known_by_name(played: Played) -> None:
    call = step("a", "executeAutomation", "DocumentName: Ovenproof-Nothing")
    played.write("ours.yaml", "schemaVersion: '0.3'\nmainSteps:\n" + call)

    with pytest.raises(UsageError, match="Ovenproof has no document called Ovenproof-Nothing"):
        played.execute("ours.yaml")
