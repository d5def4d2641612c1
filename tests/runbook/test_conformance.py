"""Each rule that AWS documents about Automation as a test, with its source. CONFORMANCE.md is made from this."""

import json
from datetime import timedelta
from typing import Any

import pytest

from pipeline.clock import VIRTUAL_START, VirtualClock
from pipeline.errors import UsageError
from pipeline.runbook import engine
from pipeline.runbook.actions import EXECUTED
from pipeline.runbook.automation import batches
from pipeline.runbook.document import parse_document
from pipeline.runbook.execute import NOT_AVAILABLE, execute
from pipeline.runbook.language import ACTIONS, ON_CANCEL_FORBIDDEN_TARGETS
from pipeline.runbook.seams import Moment, Verdict
from tests.runbook.conformance import TABLE, decided, rendered, rule
from tests.runbook.helpers import approves, document, refusal, run, script, seams, statuses, step

SLEEP = "- name: {0}\n  action: aws:sleep\n  inputs: {{Duration: PT1S}}\n"
FAIL = script("raise ValueError('no')", name="fail")
GET = """
- name: get
  action: aws:executeAwsApi
  inputs: {Service: ssm, Api: GetParameter, Name: x}
  outputs:
  - {Name: Value, Selector: $.Parameter.Value, Type: String}
"""
PARAMETER = {"ssm.GetParameter": [{"Parameter": {"Value": "v", "Version": 7}}]}


def sleep(name: str, more: str = "") -> str:
    return SLEEP.format(name) + more


def fail(name: str = "fail", more: str = "") -> str:
    return script("raise ValueError('no')", name=name, more=more)


def cancel_at(step: str, when: str = "before") -> Any:
    def interrupt(moment: Moment) -> Verdict:
        return "cancel" if (moment.step, moment.when) == (step, when) else "go"

    return interrupt


# --- the document --------------------------------------------------------------------------------------------------

AREA = "The document"


@rule(AREA, "mainSteps is needed", "cdk-preflight")
@pytest.mark.parametrize("text", ["schemaVersion: '0.3'\n", "schemaVersion: '0.3'\nmainSteps: []\n"])
def test_main_steps_are_needed(text: str) -> None:
    with pytest.raises(Exception, match="mainSteps: found"):
        parse_document(text, "doc.yaml")


@rule(AREA, "step names are unique, inner steps of loops included", "UG automation-actions")
def test_step_names_are_unique() -> None:
    assert "'a' is there twice" in refusal(sleep("a") + sleep("a"))


@rule(AREA, "a step's name has letters, digits and _", "UG automation-actions")
def test_a_step_name_has_letters_digits_and_underscores() -> None:
    assert "found 'a-b'" in refusal(sleep("a-b"))


@rule(AREA, "an unknown action is refused", "cdk-preflight")
def test_an_unknown_action_is_refused() -> None:
    assert "unknown action 'aws:sleeep'; did you mean 'aws:sleep'?" in refusal("- {name: a, action: aws:sleeep}\n")


@rule(AREA, "a parameter's name has letters and digits only", "cdk-preflight")
def test_a_parameter_name_has_letters_and_digits() -> None:
    assert "only letters and digits" in refusal(sleep("a"), "parameters: {a_b: {type: String}}\n")


@rule(AREA, "a default of another type is refused", "cdk-preflight")
@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("String", "5"),
        ("Integer", "'5'"),
        ("Boolean", "'true'"),
        ("StringList", "x"),
        ("StringMap", "[]"),
        ("MapList", "{}"),
    ],
)
def test_a_default_has_the_parameters_type(kind: str, default: str) -> None:
    assert f"the type is {kind}" in refusal(sleep("a"), f"parameters: {{A: {{type: {kind}, default: {default}}}}}\n")


@rule(AREA, "a reference to what is not declared is refused", "cdk-preflight")
@pytest.mark.parametrize("name", ["B", "other.Value", "a.Value", "global:TIME", "variable:v", "automation:ID"])
def test_an_undeclared_reference_is_refused_before_anything_runs(name: str) -> None:
    step = f"- name: a\n  action: aws:sleep\n  inputs:\n    Duration: '{{{{ {name} }}}}'\n"

    assert f"doc.yaml:6 step a: {{{{ {name} }}}} is not declared" in refusal(step)


@rule(AREA, "nextStep, onFailure and onCancel name steps that are there", "cdk-preflight")
@pytest.mark.parametrize("line", ["nextStep: b", "onFailure: step:b", "onCancel: step:b"])
def test_targets_are_steps(line: str) -> None:
    assert "there is no step 'b'" in refusal(sleep("a", f"  {line}\n"))


@rule(AREA, "isEnd: true and nextStep exclude each other", "cdk-preflight")
def test_is_end_and_next_step_exclude_each_other() -> None:
    assert "exclude each other" in refusal(sleep("a", "  isEnd: true\n  nextStep: b\n") + sleep("b"))


@rule(AREA, "the document's outputs name steps and their outputs", "cdk-preflight")
def test_outputs_name_steps() -> None:
    assert "there is no step 'b'" in refusal(sleep("a"), "outputs: [b.Value]\n")


@rule(AREA, "a document has 64 KB at most", "SDK MaxDocumentSizeExceeded")
def test_a_document_has_64_kb() -> None:
    with pytest.raises(Exception, match="at most 65,536 bytes"):
        parse_document("schemaVersion: '0.3'\ndescription: " + "x" * 65_536, "doc.yaml")


@rule(AREA, "`{{ssm:NAME}}` in a step's input is refused (InvalidDocumentContent)", "UG automation-variables")
def test_a_parameter_of_ssm_is_not_referred_to_in_a_step() -> None:
    assert "InvalidDocumentContent" in refusal("- name: a\n  action: aws:sleep\n  inputs: {Duration: '{{ssm:x}}'}\n")


@rule(AREA, "`{{ssm:NAME}}` in assumeRole is refused", "UG automation-variables")
def test_a_parameter_of_ssm_is_not_the_role() -> None:
    assert "assumeRole: {{ssm:NAME}} is not allowed here" in refusal(sleep("a"), "assumeRole: '{{ssm:role}}'\n")


@rule(AREA, "a default that refers to another parameter is refused", "UG automation-variables")
def test_a_default_does_not_refer_to_a_parameter() -> None:
    head = "parameters: {A: {type: String, default: x}, B: {type: String, default: '{{A}}'}}\n"

    assert "parameters > B > default: refers to {{ A }}" in refusal(sleep("a"), head)


@rule(AREA, "a reference inside of a reference is refused", "UG automation-variables")
def test_references_do_not_nest() -> None:
    head = "parameters: {A: {type: String, default: x}}\n"

    assert "inside of a reference" in refusal(
        "- name: a\n  action: aws:sleep\n  inputs: {Duration: '{{ {{A}} }}'}\n", head
    )


@rule(AREA, "a key that is a reference is refused", "UG automation-variables")
def test_a_key_is_not_a_reference() -> None:
    assert "a key cannot be a reference" in refusal(sleep("a", "  '{{x}}': 1\n"))


@rule(AREA, "a JSON document cannot hold a Script", "UG automation-action-executeScript")
def test_a_json_document_holds_no_script() -> None:
    inputs = {"Runtime": "python3.11", "Handler": "main", "Script": "def main(events, context): pass"}
    step = {"name": "a", "action": "aws:executeScript", "inputs": inputs}

    with pytest.raises(Exception, match="a JSON document cannot hold a Script"):
        parse_document(json.dumps({"schemaVersion": "0.3", "mainSteps": [step]}), "doc.json")


@rule(
    AREA, "steps that lead back to themselves for ever are refused, with the circle", "UG automation-branch-condition"
)
def test_a_circle_is_refused() -> None:
    assert "a -> b -> a" in refusal(sleep("a") + sleep("b", "  nextStep: a\n"))


@rule(
    AREA,
    "onCancel does not go to approve, copyImage, createImage, createStack, createTags, pause, runInstances, sleep",
    "UG automation-actions",
)
def test_on_cancel_does_not_go_to_what_takes_long() -> None:
    assert "may not go to step b, which is aws:sleep" in refusal(sleep("a", "  onCancel: step:b\n") + sleep("b"))
    assert len(ON_CANCEL_FORBIDDEN_TARGETS) == 8


@rule(
    AREA,
    "aws:loop and aws:updateVariable do not support onCancel",
    "UG automation-action-loop, automation-action-update-variable",
)
def test_on_cancel_is_not_supported_by_loops_and_variables() -> None:
    loop = step("l", "loop", "{Iterators: [x], Steps: [{name: a, action: 'aws:pause'}]}", "  onCancel: Abort\n")
    update = "- name: u\n  action: aws:updateVariable\n  onCancel: Abort\n  inputs: {Name: variable:v, Value: x}\n"

    assert "aws:loop does not support onCancel" in refusal(loop)
    assert "aws:updateVariable does not support onCancel" in refusal(update, "variables: {v: {type: String}}\n")


@rule(AREA, "at most five attachments", "UG automation-document-script-considerations")
def test_five_attachments() -> None:
    files = "".join(f"  f{number}.py: {{}}\n" for number in range(6))

    assert "6 attachments" in refusal(sleep("a"), "files:\n" + files)


# --- starting ------------------------------------------------------------------------------------------------------

AREA = "Starting an execution"


def start(declared: str, **given: Any) -> dict[str, Any]:
    head = f"parameters: {{A: {{{declared}}}}}\n"
    return dict(run(sleep("a"), head, parameters=given).parameters)


def start_refused(declared: str, **given: Any) -> str:
    with pytest.raises(UsageError) as error:
        start(declared, **given)
    return str(error.value)


@rule(AREA, "a parameter without a default is needed; an unknown one is refused", "UG automation-variables")
def test_parameters_are_those_that_are_declared() -> None:
    assert "A: is required, a String" in start_refused("type: String")
    assert "B: the document has no such parameter" in start_refused("type: String", A="x", B="y")


@rule(
    AREA,
    "a value has the parameter's type, as itself or as AWS's list of texts",
    "UG documents-syntax-data-elements-parameters",
)
@pytest.mark.parametrize(
    ("kind", "given", "taken"),
    [
        ("String", "x", "x"),
        ("String", ["x"], "x"),
        ("Integer", 5, 5),
        ("Integer", ["5"], 5),
        ("Boolean", ["true"], True),
        ("StringList", ["x", "y"], ["x", "y"]),
        ("StringMap", ['{"a": "b"}'], {"a": "b"}),
        ("MapList", ['{"a": "b"}', '{"c": "d"}'], [{"a": "b"}, {"c": "d"}]),
        ("'AWS::EC2::Instance::Id'", "i-1", "i-1"),
        ("'List<AWS::EC2::Instance::Id>'", ["i-1"], ["i-1"]),
    ],
)
def test_a_value_has_the_parameters_type(kind: str, given: Any, taken: Any) -> None:
    assert start(f"type: {kind}", A=given) == {"A": taken}


@rule(AREA, "a value of another type is refused; nothing is converted", "UG documents-syntax-data-elements-parameters")
@pytest.mark.parametrize(
    ("kind", "given"),
    [("String", 5), ("String", ["x", "y"]), ("Integer", "five"), ("Integer", 5.5), ("Boolean", 1), ("StringList", "x")],
)
def test_a_value_of_another_type_is_refused(kind: str, given: Any) -> None:
    assert f"the type is {kind}" in start_refused(f"type: {kind}", A=given) or "is one value" in start_refused(
        f"type: {kind}", A=given
    )


@rule(AREA, "allowedValues, allowedPattern, min and max are checked", "UG documents-syntax-data-elements-parameters")
@pytest.mark.parametrize(
    ("declared", "given", "why"),
    [
        ("type: String, allowedValues: [a, b]", "c", "not one of the allowed values: a, b"),
        ("type: String, allowedPattern: '^[a-z]+$'", "A", "does not match the allowed pattern"),
        ("type: StringList, allowedPattern: '^i-[0-9]+$'", ["i-1", "x"], "'x' does not match"),
        ("type: String, minChars: 3", "ab", "at least 3"),
        ("type: String, maxChars: 1", "ab", "at most 1"),
        ("type: StringList, minItems: 2", ["a"], "at least 2"),
        ("type: StringList, maxItems: 1", ["a", "b"], "at most 1"),
    ],
)
def test_declared_limits_are_checked(declared: str, given: Any, why: str) -> None:
    assert why in start_refused(declared, A=given)


@rule(AREA, "a default may name system variables; a given value is taken as it is", "UG automation-variables")
def test_a_default_names_a_system_variable() -> None:
    head = "parameters: {A: {type: String, default: 'stack-{{global:DATE}}'}}\n"

    assert run(sleep("a"), head).parameters == {"A": "stack-2026-11-23"}
    assert run(sleep("a"), head, parameters={"A": "{{global:DATE}}"}).parameters == {"A": "{{global:DATE}}"}
    with pytest.raises(UsageError, match="a default cannot be had"):
        run(sleep("a"), "parameters: {A: {type: String, default: '{{TARGET_ID}}'}}\n")


@rule(AREA, "at most 200 parameters", "MODEL AutomationParameterMap")
def test_200_parameters() -> None:
    assert "201 parameters" in start_refused("type: String", **{f"P{number}": "x" for number in range(201)})


@rule(AREA, "at most 50 values of a parameter", "MODEL AutomationParameterValueList")
def test_50_values() -> None:
    assert start("type: StringList", A=["x"] * 50) == {"A": ["x"] * 50}
    assert "51 values" in start_refused("type: StringList", A=["x"] * 51)


@rule(AREA, "1 to 512 characters in a value", "MODEL AutomationParameterValue")
def test_512_characters() -> None:
    assert start("type: String", A="x" * 512) == {"A": "x" * 512}
    assert "513 characters" in start_refused("type: String", A="x" * 513)
    assert "an empty value" in start_refused("type: String", A="")
    assert "characters" in start_refused("type: StringMap", A={"plan": "x" * 510})


@rule(AREA, "a default may be a parameter of Parameter Store, but no SecureString", "UG automation-variables")
def test_a_default_comes_from_parameter_store() -> None:
    head = "parameters: {A: {type: String, default: '{{ssm:/image}}'}}\n"
    plain = {"ssm.GetParameter": [{"Parameter": {"Value": "ami-1", "Type": "String"}}]}
    secret = {"ssm.GetParameter": [{"Parameter": {"Value": "x", "Type": "SecureString"}}]}

    assert run(sleep("a"), head, answers=plain).parameters == {"A": "ami-1"}
    with pytest.raises(UsageError, match="is a SecureString"):
        run(sleep("a"), head, answers=secret)


# --- values --------------------------------------------------------------------------------------------------------

AREA = "Values"


def told(value: str, head: str = "", **others: Any) -> Any:
    """What a script is handed for a value with references."""
    step = (
        "- name: tell\n  action: aws:executeScript\n  inputs:\n    Runtime: python3.11\n    Handler: main\n"
        f"    InputPayload: {{value: {value}}}\n"
        "    Script: |\n      def main(events, context):\n          return events\n"
    )
    execution = run(others.pop("before", "") + step, head, **others)
    last = execution.step("tell")
    return last.failure if last.failure else last.outputs["Payload"]["value"]


@rule(AREA, "a text that is one reference becomes the value with its type", "UG automation-variables")
def test_a_whole_reference_keeps_its_type() -> None:
    head = """
    parameters:
      A: {type: StringList, default: [x, y]}
      B: {type: Integer, default: 5}
      C: {type: Boolean, default: true}
    """

    assert told("'{{ A }}'", head) == ["x", "y"]
    assert told("'{{B}}'", head) == 5
    assert told("'{{ C }}'", head) is True


@rule(AREA, "references inside of a text are replaced by strings and numbers", "UG automation-variables")
def test_references_inside_of_a_text() -> None:
    head = "parameters: {A: {type: String, default: x}, B: {type: Integer, default: 5}}\n"

    assert told("'a {{ A }}-{{ B }} b'", head) == "a x-5 b"


@rule(AREA, "a list inside of a text is refused: nothing is converted", "UG automation-action-outputs-inputs")
def test_a_list_inside_of_a_text_is_refused() -> None:
    assert "stands inside a longer text" in told("'a {{ A }}'", "parameters: {A: {type: StringList, default: [x]}}\n")


@rule(AREA, "a StringList does not feed a String input", "UG automation-variables, unsupported scenarios")
def test_a_list_does_not_feed_a_string() -> None:
    head = "parameters: {A: {type: StringList, default: [PT1S]}}\n"
    execution = run("- name: a\n  action: aws:sleep\n  inputs: {Duration: '{{ A }}'}\n", head)

    assert execution.status == "Failed"
    assert "input Duration: found a StringList, the action takes a String" in execution.failure


@rule(AREA, "a String does not feed MaxInstanceCount", "UG documents-syntax-data-elements-parameters")
def test_a_string_does_not_feed_an_integer() -> None:
    head = "parameters: {A: {type: String, default: '2'}}\n"
    execution = run(
        "- name: a\n  action: aws:runInstances\n  inputs: {ImageId: ami-1, MaxInstanceCount: '{{ A }}'}\n", head
    )

    assert "input MaxInstanceCount: found a String, the action takes a Integer" in execution.failure


@rule(
    AREA,
    'a StringList in `["{{ launch.InstanceIds }}"]` gives its items',
    "UG automation-variables, automation variable",
)
def test_a_list_in_a_list_gives_its_items() -> None:
    head = "parameters: {A: {type: StringList, default: [i-1, i-2]}}\n"
    answers: dict[str, Any] = {"ec2.StopInstances": {}, "ec2.DescribeInstances": {"Reservations": []}}
    step = "- name: a\n  action: aws:changeInstanceState\n  inputs: {InstanceIds: ['{{ A }}'], DesiredState: stopped}\n"

    assert run(step, head, answers=answers).step("a").inputs["InstanceIds"] == ["i-1", "i-2"]


@rule(
    AREA,
    "global:DATE is yyyy-MM-dd, global:DATE_TIME yyyy-MM-dd_HH.mm.ss, both of the moment of the step",
    "UG automation-variables",
)
def test_the_time_is_that_of_the_step() -> None:
    wait = "- name: w\n  action: aws:sleep\n  inputs: {Duration: PT13H}\n"

    assert told("'{{ global:DATE_TIME }}'") == "2026-11-23_12.00.00"
    assert told("'{{ global:DATE_TIME }}'", before=wait) == "2026-11-24_01.00.00"
    assert told("'{{ global:DATE }}'", before=wait) == "2026-11-24"


@rule(
    AREA, "global:REGION, global:ACCOUNT_ID, global:AWS_PARTITION, automation:EXECUTION_ID", "UG automation-variables"
)
def test_where_and_what_it_is() -> None:
    assert told("'{{ global:REGION }}'") == "eu-central-1"
    assert told("'{{ global:AWS_PARTITION }}'") == "aws"
    identity = {"sts.GetCallerIdentity": [{"Account": "210987654321"}]}
    assert told("'{{ global:ACCOUNT_ID }}'", answers=identity) == "210987654321"
    assert len(told("'{{ automation:EXECUTION_ID }}'")) == 36


@rule(AREA, "`.child`, `..scan` (always a list) and `[index]` select", "UG automation-action-outputs-inputs")
def test_selectors() -> None:
    answer = {
        "Reservations": [
            {"Instances": [{"ImageId": "ami-1", "State": {"Code": 16, "Name": "running"}}]},
            {"Instances": [{"ImageId": "ami-2", "State": {"Code": 80, "Name": "stopped"}}]},
        ]
    }
    step = """
- name: look
  action: aws:executeAwsApi
  inputs: {Service: ec2, Api: DescribeInstances}
  outputs:
  - {Name: One, Selector: "$.Reservations[0].Instances[0].ImageId", Type: String}
  - {Name: Code, Selector: "$.Reservations[1].Instances[0].State.Code", Type: Integer}
  - {Name: All, Selector: "$.Reservations..Instances..ImageId", Type: StringList}
  - {Name: States, Selector: "$.Reservations..Instances..State", Type: MapList}
  - {Name: Whole, Selector: "$.Reservations[0].Instances[0].State", Type: StringMap}
"""
    outputs = run(step, answers={"ec2.DescribeInstances": [answer]}).step("look").outputs

    assert outputs["One"] == "ami-1"
    assert outputs["Code"] == 80
    assert outputs["All"] == ["ami-1", "ami-2"]
    assert outputs["States"] == [{"Code": 16, "Name": "running"}, {"Code": 80, "Name": "stopped"}]
    assert outputs["Whole"] == {"Code": 16, "Name": "running"}


@rule(AREA, "other operators of JSONPath are not on AWS's list", "UG automation-action-outputs-inputs")
@pytest.mark.parametrize(
    "selector", ["$.Reservations[*]", "$.Reservations[?(@.x)]", "$.Reservations[0:2]", "$.Reservations.length()"]
)
def test_other_selectors_fail_the_step(selector: str) -> None:
    step = f"""
- name: look
  action: aws:executeAwsApi
  inputs: {{Service: ec2, Api: DescribeInstances}}
  outputs:
  - {{Name: One, Selector: "{selector}", Type: StringList}}
"""
    execution = run(step, answers={"ec2.DescribeInstances": [{"Reservations": []}]})

    assert execution.status == "Failed"
    assert f"the selector '{selector}'" in execution.failure


@rule(
    AREA,
    "an output of another type than declared fails the step: nothing is converted",
    "UG automation-action-outputs-inputs",
)
def test_an_output_has_its_type() -> None:
    step = GET.replace("$.Parameter.Value", "$.Parameter.Version")

    assert "found a Integer, the Type is String" in run(step, answers=PARAMETER).failure


@rule(
    AREA,
    "an output that the answer does not have is left out, and the step succeeds",
    "UG automation-branch-condition (describeInstance.Platform)",
)
def test_an_output_that_is_not_there() -> None:
    execution = run(GET, answers={"ssm.GetParameter": [{"Parameter": {"Version": 1}}]})

    assert execution.status == "Success"
    assert "Value" not in execution.step("get").outputs


@decided(AREA, "a selector without `$.` is read as if it had it", "published runbooks that run in AWS have such")
def test_a_selector_without_its_beginning() -> None:
    step = GET.replace("$.Parameter.Value", "Parameter.Value")

    assert run(step, answers=PARAMETER).step("get").outputs == {"Value": "v"}


@decided(AREA, "a whole number such as 10000.0 is an Integer", "published runbooks that run in AWS declare rates so")
def test_a_whole_number_is_an_integer() -> None:
    step = """
- name: get
  action: aws:executeAwsApi
  inputs: {Service: apigatewayv2, Api: GetStage, ApiId: a, StageName: s}
  outputs:
  - {Name: Rate, Selector: "$.DefaultRouteSettings.ThrottlingRateLimit", Type: Integer}
"""
    stage = {"apigatewayv2.GetStage": {"StageName": "s", "DefaultRouteSettings": {"ThrottlingRateLimit": 10000.0}}}
    half = {"apigatewayv2.GetStage": {"StageName": "s", "DefaultRouteSettings": {"ThrottlingRateLimit": 0.5}}}

    assert run(step, answers=stage).step("get").outputs == {"Rate": 10000}
    assert run(step, answers=half).status == "Failed"


@decided(
    AREA,
    "a reference to an output that is not there fails the step that refers to it",
    "AWS's guide is silent; a literal `{{ }}` passed on would be worse",
)
def test_a_reference_to_an_output_that_is_not_there() -> None:
    assert "step get has no such output this time" in told(
        "'{{ get.Value }}'", before=GET, answers={"ssm.GetParameter": [{"Parameter": {"Version": 1}}]}
    )


@decided(
    AREA, "a document's output that was not made says so in AWS's words", "seen in published traces, not in the guide"
)
def test_a_documents_output_that_is_not_there() -> None:
    execution = run(fail() + GET, "outputs: [get.Value]\n", answers=PARAMETER)

    assert execution.outputs == {"get.Value": NOT_AVAILABLE}


# --- the flow ------------------------------------------------------------------------------------------------------

AREA = "The flow"


@rule(AREA, "steps run in the order of the document", "UG automation-branch-condition")
def test_steps_run_in_order() -> None:
    assert statuses(run(sleep("a") + sleep("b"))) == [("a", "Success"), ("b", "Success")]


@rule(AREA, "nextStep follows on success", "UG automation-actions")
def test_next_step() -> None:
    execution = run(sleep("a", "  nextStep: c\n") + sleep("b") + sleep("c"))

    assert statuses(execution) == [("a", "Success"), ("c", "Success"), ("b", "Pending")]


@rule(AREA, "isEnd stops after the step, successful or failed", "UG automation-actions")
def test_is_end() -> None:
    good = run(sleep("a", "  isEnd: true\n") + sleep("b"))
    bad = run(fail(more="  isEnd: true\n  onFailure: Continue\n") + sleep("b"))

    assert statuses(good) == [("a", "Success"), ("b", "Pending")]
    assert statuses(bad) == [("fail", "Failed"), ("b", "Pending")]


@rule(AREA, "steps that were never reached are Pending, and last", "UG automation-statuses")
def test_pending() -> None:
    execution = run(sleep("a", "  nextStep: c\n") + sleep("b") + sleep("c", "  isEnd: true\n") + sleep("d"))

    assert statuses(execution)[-2:] == [("b", "Pending"), ("d", "Pending")]
    assert execution.steps[-1].started is None


@rule(AREA, "onFailure is Abort unless said: the execution stops and has Failed", "UG automation-actions")
def test_abort_is_the_default() -> None:
    execution = run(fail() + sleep("b"))

    assert execution.status == "Failed"
    assert statuses(execution) == [("fail", "Failed"), ("b", "Pending")]


@rule(AREA, "onFailure: Continue goes on, and is not critical unless said", "UG automation-actions")
def test_continue() -> None:
    execution = run(fail(more="  onFailure: Continue\n") + sleep("b"))

    assert execution.status == "Success"
    assert statuses(execution) == [("fail", "Failed"), ("b", "Success")]


@rule(AREA, "onFailure: Continue with isCritical: true ends Failed", "UG automation-actions")
def test_continue_and_critical() -> None:
    execution = run(fail(more="  onFailure: Continue\n  isCritical: true\n") + sleep("b"))

    assert execution.status == "Failed"
    assert statuses(execution) == [("fail", "Failed"), ("b", "Success")]


@rule(
    AREA,
    "onFailure: step:NAME goes there; the execution still ends Failed",
    "UG automation-actions, automation-branch-condition",
)
def test_on_failure_to_a_step_ends_failed() -> None:
    execution = run(fail(more="  onFailure: step:repair\n  nextStep: repair\n") + sleep("b") + sleep("repair"))

    assert execution.status == "Failed"
    assert statuses(execution) == [("fail", "Failed"), ("repair", "Success"), ("b", "Pending")]


@rule(AREA, "onFailure: step:NAME with isCritical: false ends Success", "UG automation-branch-condition, example 3")
def test_on_failure_to_a_step_not_critical() -> None:
    execution = run(fail(more="  onFailure: step:repair\n  isCritical: false\n") + sleep("b") + sleep("repair"))

    assert execution.status == "Success"


@decided(
    AREA,
    "onFailure: Abort fails the execution even with isCritical: false",
    "MODEL StepExecution: Abort will fail the automation when the step fails",
)
def test_abort_and_not_critical() -> None:
    assert run(fail(more="  isCritical: false\n")).status == "Failed"


@decided(
    AREA, "the first critical step that failed decides between Failed and TimedOut", "the guide has one such step only"
)
def test_the_first_critical_failure_decides() -> None:
    late = (
        "- name: late\n  action: aws:sleep\n  timeoutSeconds: 1\n  onFailure: step:fail\n  inputs: {Duration: PT1M}\n"
    )

    assert run(late + fail()).status == "TimedOut"


@decided(
    AREA,
    "isEnd on a failed step wins over onFailure: step:NAME",
    "UG automation-actions: stops if the step failed or succeeded",
)
def test_is_end_wins_over_on_failure() -> None:
    execution = run(fail(more="  isEnd: true\n  onFailure: step:b\n") + sleep("b"))

    assert (execution.status, statuses(execution)) == ("Failed", [("fail", "Failed"), ("b", "Pending")])


@rule(AREA, "maxAttempts: the step has failed only after all attempts", "UG automation-actions")
def test_max_attempts() -> None:
    error = {"Error": {"Code": "ThrottlingException", "Message": "slow down"}}
    answers = {"ssm.GetParameter": [error, error, *PARAMETER["ssm.GetParameter"]]}

    good = run(GET + "  maxAttempts: 3\n", answers=answers)
    bad = run(GET + "  maxAttempts: 2\n", answers=answers)

    assert (good.status, good.step("get").attempts) == ("Success", 3)
    assert (bad.status, bad.step("get").attempts) == ("Failed", 2)
    assert "ThrottlingException: slow down" in bad.failure


@decided(AREA, "no pause between attempts", "the guide names none")
def test_no_pause_between_attempts() -> None:
    execution = run(fail(more="  maxAttempts: 5\n"))

    assert execution.step("fail").attempts == 5
    assert execution.ended == execution.started


@rule(AREA, "timeoutSeconds: the step is TimedOut, and so is the execution", "UG automation-handling-timeouts")
def test_a_step_times_out() -> None:
    execution = run("- name: a\n  action: aws:sleep\n  timeoutSeconds: 60\n  inputs: {Duration: PT1H}\n")

    assert (execution.status, statuses(execution)) == ("TimedOut", [("a", "TimedOut")])
    assert execution.ended - execution.started == timedelta(seconds=60)


@rule(
    AREA,
    "a step that timed out goes to its onFailure; isCritical: false keeps the execution from it",
    "UG automation-handling-timeouts",
)
def test_a_timeout_that_is_not_critical() -> None:
    more = "  timeoutSeconds: 60\n  isCritical: false\n  onFailure: step:c\n"
    late = step("a", "sleep", "Duration: PT1H", more)
    execution = run(late + sleep("b") + sleep("c"))

    assert execution.status == "Success"
    assert statuses(execution) == [("a", "TimedOut"), ("c", "Success"), ("b", "Pending")]


@rule(
    AREA,
    "with maxAttempts, a step has timed out only after all attempts; each has the whole time",
    "UG automation-actions",
)
def test_each_attempt_has_the_time() -> None:
    execution = run(
        "- name: a\n  action: aws:sleep\n  timeoutSeconds: 60\n  maxAttempts: 3\n  inputs: {Duration: PT1H}\n"
    )

    assert (execution.step("a").status, execution.step("a").attempts) == ("TimedOut", 3)
    assert execution.ended - execution.started == timedelta(seconds=180)


@decided(
    AREA,
    "a way back that a branch chooses every time ends at 20,000 steps with an error",
    "AWS refuses what it can see is endless",
)
def test_a_budget_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STEP_BUDGET", 50)
    back = (
        "- name: again\n  action: aws:branch\n  inputs:\n    Choices: [{NextStep: a, Variable: x, StringEquals: x}]\n"
    )

    with pytest.raises(Exception, match="does not end"):
        run(sleep("a") + back)


# --- cancelling ----------------------------------------------------------------------------------------------------

AREA = "Cancelling"
CLEAN = script("return 1", name="clean", more="  isEnd: true\n")


@rule(AREA, "a cancelled execution stops: the step is Cancelled, later ones stay Pending", "UG automation-statuses")
def test_a_cancelled_execution() -> None:
    execution = run(sleep("a") + sleep("b") + sleep("c"), interrupt=cancel_at("b"))

    assert execution.status == "Cancelled"
    assert statuses(execution) == [("a", "Success"), ("b", "Cancelled"), ("c", "Pending")]


@rule(AREA, "onCancel: step:NAME goes there; the execution is Cancelled all the same", "UG automation-actions")
def test_on_cancel_goes_to_a_step() -> None:
    execution = run(sleep("a", "  onCancel: step:clean\n") + sleep("b") + CLEAN, interrupt=cancel_at("a"))

    assert execution.status == "Cancelled"
    assert statuses(execution) == [("a", "Cancelled"), ("clean", "Success"), ("b", "Pending")]


@rule(AREA, "the way of a cancellation has two minutes", "UG automation-actions")
def test_a_cancellation_has_two_minutes() -> None:
    slow = script("import time; time.sleep(500)", name="slow")
    execution = run(sleep("a", "  onCancel: step:slow\n") + slow + sleep("b"), interrupt=cancel_at("a"))

    assert execution.status == "Cancelled"
    assert statuses(execution) == [("a", "Cancelled"), ("slow", "Cancelled"), ("b", "Pending")]
    assert execution.ended - execution.started == timedelta(seconds=120)


@decided(
    AREA,
    "a cancel after the action's work and before its end counts as one of that step",
    "harder: the work is done, and the document is told that it was not",
)
def test_a_cancel_right_after_the_work() -> None:
    execution = run(sleep("a", "  onCancel: step:clean\n") + sleep("b") + CLEAN, interrupt=cancel_at("a", "after"))

    assert statuses(execution) == [("a", "Cancelled"), ("clean", "Success"), ("b", "Pending")]


@decided(
    AREA,
    "cancelling a parent cancels its child first; both go the way of their onCancel",
    "the guide names neither order nor depth",
)
def test_a_cancelled_child() -> None:
    child = document(sleep("inner", "  onCancel: step:clean\n") + CLEAN, name="child")
    call = "- name: call\n  action: aws:executeAutomation\n  onCancel: step:after\n  inputs: {DocumentName: child}\n"

    execution = run(call + script("return 1", name="after"), nested=(child,), interrupt=cancel_at("inner"))

    assert statuses(execution) == [("call", "Cancelled"), ("after", "Success")]
    assert statuses(execution.children[0]) == [("inner", "Cancelled"), ("clean", "Success")]
    assert (execution.status, execution.children[0].status) == ("Cancelled", "Cancelled")


@decided(
    AREA,
    "what the way of a cancellation starts by StartAutomationExecution runs after it, without the two minutes",
    "starting is all that the two minutes are enough for",
)
def test_a_cancellation_starts_the_way_back() -> None:
    back = document("- name: long\n  action: aws:sleep\n  inputs: {Duration: PT1H}\n", name="back")
    begin = step("begin", "executeAwsApi", "{Service: ssm, Api: StartAutomationExecution, DocumentName: back}")

    execution = run(sleep("a", "  onCancel: step:begin\n") + begin, nested=(back,), interrupt=cancel_at("a"))

    assert statuses(execution) == [("a", "Cancelled"), ("begin", "Success")]
    assert [(child.document, child.status) for child in execution.children] == [("back", "Success")]


@decided(
    AREA, "aws:executeAutomation on the way of a cancellation runs, within the two minutes", "it is a step like others"
)
def test_a_child_on_the_way_of_a_cancellation_runs() -> None:
    child = document(sleep("inner"), name="child")
    call = step("call", "executeAutomation", "DocumentName: child")

    execution = run(sleep("a", "  onCancel: step:call\n") + call, nested=(child,), interrupt=cancel_at("a"))

    assert statuses(execution) == [("a", "Cancelled"), ("call", "Success")]
    assert statuses(execution.children[0]) == [("inner", "Success")]
    assert (execution.status, execution.children[0].status) == ("Cancelled", "Success")


@decided(AREA, "a second cancel changes nothing on the way of the first", "the execution is Cancelling already")
def test_a_second_cancel() -> None:
    execution = run(sleep("a", "  onCancel: step:clean\n") + CLEAN, interrupt=lambda _: "cancel")

    assert statuses(execution) == [("a", "Cancelled"), ("clean", "Success")]


# --- actions -------------------------------------------------------------------------------------------------------

AREA = "aws:approve, aws:pause, aws:sleep"
APPROVE = "- name: ask\n  action: aws:approve\n{more}  inputs:\n    Approvers: [arn:aws:iam::123456789012:user/me]\n"


def approval(more: str = "", **others: Any) -> Any:
    return run(APPROVE.format(more=more) + others.pop("inputs", "") + sleep("b"), **others)


@rule(
    AREA,
    "an approval lets the execution go on; ApprovalStatus and ApproverDecisions come out",
    "UG automation-action-approve",
)
def test_an_approval() -> None:
    execution = approval(approve=approves)

    assert statuses(execution) == [("ask", "Success"), ("b", "Success")]
    assert execution.step("ask").outputs["ApprovalStatus"] == "Approved"
    assert execution.step("ask").outputs["ApproverDecisions"][0]["Approver"] == "me"


@rule(AREA, "a rejection fails the step", "UG automation-action-approve")
def test_a_rejection() -> None:
    execution = approval(answers={"approve.ask": "Reject"})

    assert (execution.status, statuses(execution)) == ("Failed", [("ask", "Failed"), ("b", "Pending")])


@rule(
    AREA,
    "nobody answers: step and execution are TimedOut after seven days, or timeoutSeconds",
    "UG automation-action-approve",
)
@pytest.mark.parametrize(
    ("more", "seconds"), [("", 604_800), ("  timeoutSeconds: 3600\n", 3600), ("  timeoutSeconds: 9999999\n", 2_592_000)]
)
def test_nobody_approves(more: str, seconds: int) -> None:
    execution = approval(more)

    assert (execution.status, statuses(execution)) == ("TimedOut", [("ask", "TimedOut"), ("b", "Pending")])
    assert execution.ended - execution.started == timedelta(seconds=seconds)


@rule(
    AREA,
    "at most ten approvers; no more required than there are; the topic's name begins with Automation",
    "UG automation-action-approve",
)
def test_limits_of_an_approval() -> None:
    eleven = "- name: ask\n  action: aws:approve\n  inputs:\n    Approvers: [" + ", ".join("abcdefghijk") + "]\n"

    assert "11 items; at most 10" in run(eleven).failure
    assert "MinRequiredApprovals: 2" in approval(inputs="    MinRequiredApprovals: 2\n").failure
    assert (
        "begin with Automation"
        in approval(inputs="    NotificationArn: arn:aws:sns:eu-central-1:123456789012:other\n").failure
    )


@rule(AREA, "a pause waits for the signal Resume, its status Waiting", "UG automation-action-pause")
def test_a_pause() -> None:
    seen: list[str] = []
    execution = run(
        "- {name: p, action: aws:pause, inputs: {}}\n",
        pause=lambda _: True,
        watch=lambda step: seen.append(step.status),
    )

    assert execution.status == "Success"
    assert seen == ["InProgress", "Waiting", "Success"]


@rule(AREA, "a sleep lasts an ISO 8601 duration", "UG automation-action-sleep")
@pytest.mark.parametrize(("text", "seconds"), [("PT10M", 600), ("P1DT2H3M4S", 93_784), ("P6D", 518_400), ("PT0S", 0)])
def test_a_sleep(text: str, seconds: int) -> None:
    execution = run(f"- name: a\n  action: aws:sleep\n  inputs: {{Duration: {text}}}\n")

    assert execution.status == "Success"
    assert execution.ended - execution.started == timedelta(seconds=seconds)


@rule(AREA, "a sleep until a time that is over ends at once", "UG automation-action-sleep")
def test_a_sleep_until() -> None:
    later = run("- name: a\n  action: aws:sleep\n  inputs: {Timestamp: '2026-11-23T13:00:00Z'}\n")
    over = run("- name: a\n  action: aws:sleep\n  inputs: {Timestamp: '2020-01-01T01:00:00Z'}\n")

    assert later.ended == VIRTUAL_START + timedelta(hours=1)
    assert over.ended == VIRTUAL_START


@rule(AREA, "a sleep has at most 604,799 s, and no negative length", "UG automation-action-sleep")
@pytest.mark.parametrize("text", ["P7D", "-PT5M", "5 minutes"])
def test_a_sleep_that_is_refused(text: str) -> None:
    assert run(f"- name: a\n  action: aws:sleep\n  inputs: {{Duration: {text}}}\n").status == "Failed"


AREA = "aws:executeAwsApi, aws:assertAwsResourceProperty, aws:waitForAwsResourceProperty"
STATE = """\
  inputs:
    Service: ec2
    Api: DescribeInstances
    PropertySelector: $.Reservations[0].Instances[0].State.Name
    DesiredValues: [running]
"""


def instances(*states: str) -> dict[str, Any]:
    return {
        "ec2.DescribeInstances": [{"Reservations": [{"Instances": [{"State": {"Name": state}}]}]} for state in states]
    }


@rule(AREA, "inputs are the operation's parameters, checked by its model", "UG automation-action-executeAwsApi")
def test_parameters_are_checked_by_the_model() -> None:
    wrong = run(GET.replace("Name: x}", "Name: x, Nome: y}"), answers=PARAMETER)
    missing = run(GET.replace(", Name: x}", "}"), answers=PARAMETER)

    assert 'Unknown parameter in input: "Nome"' in wrong.failure
    assert 'Missing required parameter in input: "Name"' in missing.failure


@rule(AREA, "a refused call fails the step", "UG automation-action-executeAwsApi")
def test_a_refused_call() -> None:
    answers = {"ssm.GetParameter": [{"Error": {"Code": "ParameterNotFound", "Message": "no x"}}]}

    assert run(GET, answers=answers).failure == "step get: ssm:GetParameter was refused: ParameterNotFound: no x"


@rule(AREA, "streaming operations are not supported", "UG automation-action-executeAwsApi")
def test_streaming_is_not_supported() -> None:
    step = "- name: a\n  action: aws:executeAwsApi\n  inputs: {Service: s3, Api: GetObject, Bucket: b, Key: k}\n"

    assert "s3:GetObject is a streaming operation" in run(step).failure


@rule(AREA, "a call has 25 s", "UG automation-action-executeAwsApi")
def test_a_call_has_25_seconds() -> None:
    clock = VirtualClock()
    given = seams(PARAMETER, clock=clock)
    given.session.events.register("before-parameter-build", lambda **_: clock.sleep(26))  # a slow answer

    execution = execute(document(GET + "  timeoutSeconds: 600\n"), {}, given)

    assert statuses(execution) == [("get", "TimedOut")]


@rule(AREA, "an assertion looks once", "UG automation-action-assertAwsResourceProperty")
def test_an_assertion() -> None:
    step = "- name: a\n  action: aws:assertAwsResourceProperty\n" + STATE
    bad = run(step, answers=instances("pending", "running"))

    assert run(step, answers=instances("running")).status == "Success"
    assert bad.failure.endswith("State.Name is 'pending', not one of ['running']")
    assert bad.ended == bad.started


@rule(AREA, "a wait looks until the value is one of the desired", "UG automation-action-waitForAwsResourceProperty")
def test_a_wait() -> None:
    execution = run(
        "- name: a\n  action: aws:waitForAwsResourceProperty\n" + STATE,
        answers=instances("pending", "pending", "running"),
    )

    assert execution.status == "Success"


@rule(AREA, "a wait is TimedOut after 3600 s, or timeoutSeconds", "UG automation-action-waitForAwsResourceProperty")
@pytest.mark.parametrize(("more", "seconds"), [("", 3600), ("  timeoutSeconds: 90\n", 90)])
def test_a_wait_times_out(more: str, seconds: int) -> None:
    execution = run(
        "- name: a\n  action: aws:waitForAwsResourceProperty\n" + more + STATE, answers=instances("pending")
    )

    assert execution.status == "TimedOut"
    assert execution.ended - execution.started == timedelta(seconds=seconds)


@rule(AREA, "a Boolean is desired as True or False", "UG automation-action-assertAwsResourceProperty")
@pytest.mark.parametrize(("desired", "status"), [("'True'", "Success"), ("'true'", "Failed"), ("true", "Success")])
def test_a_boolean_is_desired_with_a_capital(desired: str, status: str) -> None:
    step = f"""
- name: a
  action: aws:assertAwsResourceProperty
  inputs:
    Service: ec2
    Api: DescribeImages
    PropertySelector: $.Images[0].Public
    DesiredValues: [{desired}]
"""
    assert run(step, answers={"ec2.DescribeImages": [{"Images": [{"Public": True}]}]}).status == status


@decided(AREA, "a wait looks every 5 s", "the interval is not documented")
def test_a_wait_looks_every_five_seconds() -> None:
    execution = run(
        "- name: a\n  action: aws:waitForAwsResourceProperty\n" + STATE,
        answers=instances("pending", "pending", "running"),
    )

    assert execution.ended - execution.started == timedelta(seconds=10)


@decided(
    AREA,
    "a refused call fails a wait, also a throttled one",
    "harder: a document that must survive it says maxAttempts",
)
def test_a_refused_call_fails_a_wait() -> None:
    answers = {"ec2.DescribeInstances": [{"Error": {"Code": "RequestLimitExceeded", "Message": ""}}]}

    assert run("- name: a\n  action: aws:waitForAwsResourceProperty\n" + STATE, answers=answers).status == "Failed"


@decided(
    AREA,
    "all values that a scan finds have to be desired, and there has to be one",
    "the guide shows single values only",
)
@pytest.mark.parametrize(
    ("states", "status"), [(["running", "running"], "Success"), (["running", "pending"], "Failed"), ([], "Failed")]
)
def test_a_scan_is_desired_as_a_whole(states: list[str], status: str) -> None:
    step = "- name: a\n  action: aws:assertAwsResourceProperty\n" + STATE.replace(
        "[0].Instances[0].State.Name", "..State..Name"
    )
    answer = {"Reservations": [{"Instances": [{"State": {"Name": state}} for state in states]}]}

    assert run(step, answers={"ec2.DescribeInstances": [answer]}).status == status


AREA = "aws:executeScript"


@rule(AREA, "what the handler returns is the Payload", "UG automation-action-executeScript")
def test_a_script_returns_its_payload() -> None:
    outputs = "  outputs:\n  - {Name: x, Selector: $.Payload.x, Type: Integer}\n"

    assert run(script("return {'x': 5}", outputs=outputs)).step("script").outputs["x"] == 5


@rule(AREA, "a script has 600 s, and no timeoutSeconds gives it more", "UG automation-action-executeScript")
@pytest.mark.parametrize(
    ("more", "seconds"), [("", 600), ("  timeoutSeconds: 3600\n", 600), ("  timeoutSeconds: 30\n", 30)]
)
def test_a_script_has_600_seconds(more: str, seconds: int) -> None:
    execution = run(
        script(
            "import time\nwhile True:\n    try:\n        time.sleep(7)\n    except Exception:\n        pass", more=more
        )
    )

    assert execution.status == "TimedOut"
    assert execution.ended - execution.started == timedelta(seconds=seconds)


@rule(AREA, "up to 100 KB are returned", "UG automation-action-executeScript")
def test_a_script_returns_100_kb() -> None:
    assert run(script("return 'x' * (100 * 1024 - 2)")).status == "Success"
    assert "at most 102,400 are returned" in run(script("return 'x' * (100 * 1024 - 1)")).failure


@rule(AREA, "of a list, at most 100 items are returned", "UG automation-action-executeScript")
def test_a_script_returns_100_items() -> None:
    assert run(script("return list(range(150))")).step("script").outputs["Payload"] == list(range(100))


@rule(AREA, "an exception fails the step; the message has the script's line", "UG automation-action-executeScript")
def test_a_script_that_raises() -> None:
    failure = run(script("x = {}\nreturn x['y']")).failure

    assert failure == "step script: KeyError: 'y'; line 3 of the script, doc.yaml:11: return x['y']"


@rule(AREA, "what is not JSON cannot be returned", "UG automation-action-executeScript")
def test_a_script_returns_json() -> None:
    assert "is not JSON" in run(script("import datetime\nreturn datetime.datetime.now()")).failure


@rule(AREA, "the handler is a function of events and context", "UG automation-action-executeScript")
def test_the_handler_is_a_function_of_two() -> None:
    assert "no function main" in run(script("return 1").replace("def main", "def other")).failure
    assert "TypeError" in run(script("return 1").replace("(events, context)", "(events)")).failure


AREA = "aws:branch"


def branch(condition: str, head: str = "", more: str = "", **others: Any) -> str:
    """The step that is gone to: `yes`, or `no` by Default."""
    choices = f"    Choices:\n    - NextStep: yes1\n{condition}    Default: no1\n"
    step = f"- name: choose\n  action: aws:branch\n  inputs:\n{choices}"
    execution = run(
        others.pop("before", "") + step + more + sleep("no1", "  isEnd: true\n") + sleep("yes1"), head, **others
    )
    assert execution.status == "Success"
    return "yes" if execution.step("yes1").status == "Success" else "no"


@rule(AREA, "the operations on texts, numbers and booleans", "UG automation-action-branch")
@pytest.mark.parametrize(
    ("kind", "default", "operation", "answer"),
    [
        ("String", "Linux", "StringEquals: Linux", "yes"),
        ("String", "Linux", "StringEquals: linux", "no"),
        ("String", "Linux", "EqualsIgnoreCase: linux", "yes"),
        ("String", "Linux", "StartsWith: Li", "yes"),
        ("String", "Linux", "EndsWith: ux", "yes"),
        ("String", "Linux", "Contains: inu", "yes"),
        ("String", "Linux", "Contains: win", "no"),
        ("Integer", "5", "NumericEquals: 5", "yes"),
        ("Integer", "5", "NumericGreater: 5", "no"),
        ("Integer", "5", "NumericGreaterOrEquals: 5", "yes"),
        ("Integer", "5", "NumericLesser: 6", "yes"),
        ("Integer", "5", "NumericLesserOrEquals: 4", "no"),
        ("Boolean", "true", "BooleanEquals: true", "yes"),
        ("Boolean", "false", "BooleanEquals: true", "no"),
    ],
)
def test_operations(kind: str, default: str, operation: str, answer: str) -> None:
    head = f"parameters: {{A: {{type: {kind}, default: {default}}}}}\n"

    assert branch(f"      Variable: '{{{{ A }}}}'\n      {operation}\n", head) == answer


@rule(AREA, "And, Or and Not", "UG automation-branch-condition")
@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        ("And: [{Variable: '{{ A }}', StringEquals: x}, {Variable: '{{ B }}', NumericEquals: 5}]", "yes"),
        ("And: [{Variable: '{{ A }}', StringEquals: x}, {Variable: '{{ B }}', NumericEquals: 6}]", "no"),
        ("Or: [{Variable: '{{ A }}', StringEquals: y}, {Variable: '{{ B }}', NumericEquals: 5}]", "yes"),
        ("Or: [{Variable: '{{ A }}', StringEquals: y}, {Variable: '{{ B }}', NumericEquals: 6}]", "no"),
        ("Not: {Variable: '{{ A }}', StringEquals: y}", "yes"),
        ("Not: {Or: [{Variable: '{{ A }}', StringEquals: x}, {Variable: '{{ B }}', NumericEquals: 6}]}", "no"),
    ],
)
def test_logic(condition: str, answer: str) -> None:
    head = "parameters: {A: {type: String, default: x}, B: {type: Integer, default: 5}}\n"

    assert branch(f"      {condition}\n", head) == answer


@rule(AREA, "choices are tried in their order", "UG automation-action-branch")
def test_choices_in_order() -> None:
    step = """
- name: choose
  action: aws:branch
  inputs:
    Choices:
    - {NextStep: c, Variable: x, StringEquals: y}
    - {NextStep: b, Variable: x, StringEquals: x}
    - {NextStep: c, Variable: x, StringEquals: x}
"""
    execution = run(step + sleep("a") + sleep("b", "  isEnd: true\n") + sleep("c"))

    assert statuses(execution)[:2] == [("choose", "Success"), ("b", "Success")]


@rule(
    AREA,
    "no choice and no Default: the next step in the document, or the end with isEnd",
    "UG automation-action-branch",
)
def test_no_choice() -> None:
    step = (
        "- name: choose\n  action: aws:branch\n  inputs:\n    Choices: [{NextStep: b, Variable: x, StringEquals: y}]\n"
    )

    assert statuses(run(step + sleep("a") + sleep("b")))[1] == ("a", "Success")
    assert statuses(run(step + "  isEnd: true\n" + sleep("a") + sleep("b")))[1] == ("a", "Pending")


@rule(
    AREA,
    "an output that is not there is equal to nothing",
    "UG automation-branch-condition (describeInstance.Platform)",
)
def test_a_branch_on_an_output_that_is_not_there() -> None:
    answers = {"ssm.GetParameter": [{"Parameter": {"Version": 1}}]}

    assert branch("      Variable: '{{ get.Value }}'\n      StringEquals: v\n", before=GET, answers=answers) == "no"
    assert branch("      Not: {Variable: '{{ get.Value }}', StringEquals: v}\n", before=GET, answers=answers) == "yes"


@rule(AREA, "an unknown operation is refused", "UG automation-action-branch")
def test_an_unknown_operation_is_refused() -> None:
    step = (
        "- name: choose\n  action: aws:branch\n  inputs:\n    Choices: [{NextStep: choose, Variable: x, Equals: y}]\n"
    )

    assert "needs one operation, found Equals" in refusal(step)


AREA = "aws:loop, aws:updateVariable"
EACH = """
- name: each
  action: aws:loop
  inputs:
    Iterators: "{{ A }}"
    Steps:
"""
ITEMS = "parameters: {A: {type: StringList, default: [x, y, z]}}\n"


def inner(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip("\n").splitlines())


def taken(name: str = "take", value: str = "'{{ each.CurrentIteratorValue }}'", more: str = "") -> str:
    return (
        f"- name: {name}\n  action: aws:executeScript\n{more}  inputs:\n    Runtime: python3.11\n    Handler: main\n"
        f"    InputPayload: {{item: {value}}}\n    Script: |\n      def main(events, context):\n"
        "          if events['item'] == 'y':\n              raise ValueError('not y')\n          return events\n"
    )


@rule(AREA, "a loop runs its steps for each item, `{{ LOOP.CurrentIteratorValue }}`", "UG automation-action-loop")
def test_a_loop_over_items() -> None:
    execution = run(EACH + inner(taken()) + sleep("after"), ITEMS.replace("y, ", ""))

    assert statuses(execution) == [("each", "Success"), ("take", "Success"), ("take", "Success"), ("after", "Success")]
    assert [step.outputs["Payload"]["item"] for step in execution.steps if step.name == "take"] == ["x", "z"]


@rule(AREA, "inside of a loop, `loop` is the loop around, and the iteration has a number", "UG automation-action-loop")
@pytest.mark.parametrize("value", ["loop.CurrentIteratorValue", "each.CurrentIteratorValue"])
def test_the_loop_around(value: str) -> None:
    execution = run(EACH + inner(taken(value=f"'{{{{ {value} }}}}'")), ITEMS.replace("y, ", ""))
    numbers = run(EACH + inner(taken(value="'{{ loop.CurrentLoopIteration }}'")), ITEMS)

    assert [one.outputs["Payload"]["item"] for one in execution.steps if one.parent] == ["x", "z"]
    assert [one.outputs["Payload"]["item"] for one in numbers.steps if one.parent] == [1, 2, 3]
    assert "{{ loop.CurrentIteratorValue }} is not declared" in refusal(
        step("a", "sleep", "Duration: '{{ loop.CurrentIteratorValue }}'")
    )


@rule(
    AREA,
    "the inner step's onFailure is the loop's: Abort fails the loop and the execution",
    "UG automation-action-loop",
)
def test_a_loop_with_an_inner_failure() -> None:
    execution = run(EACH + inner(taken()) + sleep("after"), ITEMS)

    assert execution.status == "Failed"
    assert statuses(execution) == [("each", "Failed"), ("take", "Success"), ("take", "Failed"), ("after", "Pending")]


@rule(AREA, "an inner onFailure: Continue goes on with the loop", "UG automation-action-loop")
def test_a_loop_that_goes_on() -> None:
    execution = run(EACH + inner(taken(more="  onFailure: Continue\n")), ITEMS)

    assert execution.status == "Success"
    assert statuses(execution) == [("each", "Success"), ("take", "Success"), ("take", "Failed"), ("take", "Success")]


@rule(AREA, "a loop that an inner step jumps out of is Exited", "UG automation-statuses (current edition)")
def test_a_loop_that_is_exited() -> None:
    execution = run(
        EACH + inner(taken(more="  onFailure: step:repair\n")) + sleep("b", "  isEnd: true\n") + sleep("repair"), ITEMS
    )

    assert execution.status == "Failed"
    assert statuses(execution) == [
        ("each", "Exited"),
        ("take", "Success"),
        ("take", "Failed"),
        ("repair", "Success"),
        ("b", "Pending"),
    ]


@rule(
    AREA,
    "LoopCondition is looked at after the steps: they run at least once, and again while it holds",
    "UG automation-action-loop",
)
def test_a_loop_with_a_condition() -> None:
    loop = """
- name: again
  action: aws:loop
  inputs:
    LoopCondition: {Variable: "{{ get.Value }}", StringEquals: more}
    MaxIterations: 10
    Steps:
"""
    answers = {"ssm.GetParameter": [{"Parameter": {"Value": value}} for value in ("more", "more", "done")]}

    execution = run(loop + inner(GET), answers=answers)

    assert statuses(execution) == [("again", "Success"), ("get", "Success"), ("get", "Success"), ("get", "Success")]


@rule(
    AREA, "MaxIterations ends a loop, even if its condition still holds or items are left", "UG automation-action-loop"
)
def test_max_iterations() -> None:
    loop = step("again", "loop", "LoopCondition: {Variable: x, StringEquals: x}\nMaxIterations: 3\nSteps:")
    items = EACH.replace("    Steps:", "    MaxIterations: 1\n    Steps:")

    assert statuses(run(loop + inner(sleep("a")))) == [("again", "Success"), *[("a", "Success")] * 3]
    assert statuses(run(items + inner(taken()), ITEMS)) == [("each", "Success"), ("take", "Success")]


@rule(AREA, "at most 100 iterations and 100 items", "UG automation-action-loop")
def test_100_iterations() -> None:
    loop = (
        "- name: again\n  action: aws:loop\n  inputs:\n    LoopCondition: {Variable: x, StringEquals: x}\n    Steps:\n"
    )
    many = EACH.replace('"{{ A }}"', "[" + ", ".join(["x"] * 101) + "]")
    more = loop.replace("    Steps:", "    MaxIterations: 101\n    Steps:")

    assert len([step for step in run(loop + inner(sleep("a"))).steps if step.name == "a"]) == 100
    assert "at most 100" in refusal(many + inner(sleep("a")))
    assert "allowed: 1 to 100" in refusal(more + inner(sleep("a")))


@rule(AREA, "Iterators or LoopCondition, not both", "UG automation-action-loop")
def test_one_kind_of_loop() -> None:
    both = EACH.replace('"{{ A }}"', "[x]\n    LoopCondition: {Variable: x, StringEquals: x}")

    assert "exactly one of the inputs Iterators or LoopCondition" in refusal(both + inner(sleep("a")))


@rule(AREA, "IteratorDataType: items are Strings unless said, and are of that type", "UG automation-action-loop")
def test_the_type_of_items() -> None:
    numbers = EACH.replace('"{{ A }}"', "[1, 2]")
    typed = numbers.replace("    Steps:", "    IteratorDataType: Integer\n    Steps:")

    assert "found a Integer, IteratorDataType is String" in run(numbers + inner(sleep("a"))).failure
    assert run(typed + inner(sleep("a"))).status == "Success"


UPDATE = "- name: set\n  action: aws:updateVariable\n  inputs: {Name: 'variable:v', Value: %s}\n"


@rule(
    AREA, "a variable has a default, and a new value from aws:updateVariable on", "UG automation-action-update-variable"
)
def test_a_variable() -> None:
    head = "variables: {v: {type: String, default: before}}\n"

    assert told("'{{ variable:v }}'", head) == "before"
    assert told("'{{ variable:v }}'", head, before=UPDATE % "after") == "after"


@rule(
    AREA,
    "a variable keeps its type; limits of 512 characters, 50 items, 200 maps, keys of 50",
    "UG automation-action-update-variable",
)
@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("String", "5", "found a Integer, its type is String"),
        ("String", "'" + "x" * 513 + "'", "513 characters"),
        ("String", "''", "0 characters"),
        ("StringList", json.dumps(["x"] * 51), "51 items"),
        ("MapList", json.dumps([{"a": "b"}] * 201), "201 items"),
        ("StringMap", json.dumps({"k" * 51: "x"}), "a key of 51"),
    ],
)
def test_limits_of_a_variable(kind: str, value: str, why: str) -> None:
    assert why in run(UPDATE % value, f"variables: {{v: {{type: {kind}}}}}\n").failure


@decided(
    AREA,
    "isEnd inside of a loop ends the execution; the loop is Exited",
    "isEnd stops an automation; loops are no exception in the guide",
)
def test_is_end_inside_of_a_loop() -> None:
    execution = run(EACH + inner(taken(more="  isEnd: true\n")) + sleep("after"), ITEMS)

    assert (execution.status, statuses(execution)) == (
        "Success",
        [("each", "Exited"), ("take", "Success"), ("after", "Pending")],
    )


AREA = "aws:executeAutomation"
CHILD_HEAD = (
    "parameters: {Id: {type: String, default: ''}, Ids: {type: StringList, default: []}}\noutputs: [work.Payload]\n"
)
CHILD = """
- name: work
  action: aws:executeScript
  inputs:
    Runtime: python3.11
    Handler: main
    InputPayload: {id: "{{ Id }}"}
    Script: |
      def main(events, context):
          if events["id"].startswith("bad"):
              raise ValueError("it is bad")
          return events["id"]
"""
CALL = "- name: call\n  action: aws:executeAutomation\n  inputs:\n    DocumentName: child\n"


def nested(inputs: str, **others: Any) -> Any:
    child = document(CHILD, CHILD_HEAD, name="child")
    lines = "".join(f"    {line}\n" for line in inputs.splitlines())
    return run(CALL + lines, nested=(child,), **others)


def targets(*values: str, more: str = "") -> str:
    return f"TargetParameterName: Id\nTargets: [{{Key: ParameterValues, Values: [{', '.join(values)}]}}]\n{more}"


@rule(
    AREA,
    "the other document runs with RuntimeParameters; Output, ExecutionId and Status come out",
    "UG automation-action-executeAutomation",
)
def test_a_nested_execution() -> None:
    execution = nested("RuntimeParameters: {Id: x}\n")

    outputs = execution.step("call").outputs
    assert (outputs["Status"], outputs["Output"]) == ("Success", ["x"])
    assert outputs["ExecutionId"] == execution.children[0].execution_id


@rule(AREA, "the step fails when the other execution does", "UG automation-action-executeAutomation")
def test_a_nested_execution_that_fails() -> None:
    execution = nested("RuntimeParameters: {Id: bad}\n")

    assert execution.status == "Failed"
    assert "ended Failed: step work: ValueError: it is bad" in execution.failure


@rule(
    AREA,
    "one target first, then two more, then twice as many, up to MaxConcurrency",
    "UG running-automations-scale-controls",
)
@pytest.mark.parametrize(
    ("count", "concurrency", "sizes"),
    [(1, 10, [1]), (10, 4, [1, 2, 4, 3]), (5, 1, [1, 1, 1, 1, 1]), (20, 10, [1, 2, 4, 8, 5]), (0, 5, [])],
)
def test_the_ramp(count: int, concurrency: int, sizes: list[int]) -> None:
    assert list(batches(count, concurrency)) == sizes


@rule(
    AREA,
    "each target is an execution of its own, its value in TargetParameterName",
    "UG running-automations-map-targets",
)
def test_targets() -> None:
    execution = nested(targets("a", "b", "c"))

    assert [child.parameters["Id"] for child in execution.children] == ["a", "b", "c"]
    assert execution.step("call").outputs["Output"] == ["a", "b", "c"]


@rule(
    AREA,
    "MaxErrors 0 stops after the first error; executions that run already end",
    "UG automation-action-executeAutomation",
)
def test_max_errors() -> None:
    execution = nested(targets("a", "bad1", "c", "d", "e", more="MaxConcurrency: '2'\nMaxErrors: '0'\n"))

    assert [child.parameters["Id"] for child in execution.children] == ["a", "bad1", "c"]
    assert "1 of 5 executions of child did not succeed, 0 are allowed; 2 were not started" in execution.failure


@rule(AREA, "MaxErrors n stops at the error after it, also as a percentage", "UG automation-action-executeAutomation")
@pytest.mark.parametrize(("errors", "started"), [("1", 3), ("40%", 4), ("2", 4)])
def test_more_errors(errors: str, started: int) -> None:
    execution = nested(targets("a", "bad1", "bad2", "bad3", "e", more=f"MaxConcurrency: '1'\nMaxErrors: '{errors}'\n"))

    assert len(execution.children) == started


@rule(
    AREA,
    "one tag or one resource group as target; what it stands for is asked of AWS",
    "UG running-automations-map-targets",
)
def test_a_tag_as_target() -> None:
    found = [{"ResourceARN": f"arn:aws:ec2:eu-central-1:123456789012:instance/i-{number}"} for number in (1, 2)]
    answers = {"resourcegroupstaggingapi.GetResources": {"ResourceTagMappingList": found}}
    tag = "{Key: 'tag:Team', Values: [blue]}"

    execution = nested(f"TargetParameterName: Id\nTargets: [{tag}]\n", answers=answers)

    assert [child.parameters["Id"] for child in execution.children] == ["i-1", "i-2"]
    assert "only one resource group or tag" in nested(f"TargetParameterName: Id\nTargets: [{tag}, {tag}]\n").failure


@rule(AREA, "TargetMaps: parameters by target; not together with Targets", "UG automation-action-executeAutomation")
def test_target_maps() -> None:
    execution = nested("TargetMaps: [{Id: [a]}, {Id: [b]}]\n")

    assert [child.parameters["Id"] for child in execution.children] == ["a", "b"]
    assert "cannot be specified together" in nested(targets("a") + "TargetMaps: [{Id: [a]}]\n").failure


@rule(
    AREA,
    "TargetLocations: each account in each region, one at a time, no error allowed, unless said",
    "MODEL TargetLocation",
)
def test_target_locations() -> None:
    execution = nested(
        "TargetLocations: [{Accounts: ['111111111111', '222222222222'], Regions: [eu-west-1, us-east-1]}]\n"
        "RuntimeParameters: {Id: x}\n"
    )

    assert len(execution.children) == 4
    assert (
        len(
            nested(
                "TargetLocations: [{Accounts: ['111111111111', '222222222222']}]\nRuntimeParameters: {Id: bad}\n"
            ).children
        )
        == 1
    )


@rule(AREA, "a list parameter can be the target's", "UG running-automations-map-targets")
def test_a_list_as_target() -> None:
    execution = nested(targets("a").replace("TargetParameterName: Id", "TargetParameterName: Ids"))

    assert execution.children[0].parameters["Ids"] == ["a"]


@decided(AREA, "errors within MaxErrors leave the step Success", "the guide describes only when starting stops")
def test_errors_that_are_allowed() -> None:
    execution = nested(targets("a", "bad1", "c", more="MaxErrors: '1'\n"))

    assert (execution.status, len(execution.children)) == ("Success", 3)


AREA = "aws:runCommand, aws:invokeLambdaFunction"
COMMAND = """
- name: do
  action: aws:runCommand
  inputs:
    DocumentName: AWS-RunShellScript
    InstanceIds: [i-1]
    Parameters: {commands: [date]}
"""


@rule(AREA, "CommandId, Status, ResponseCode and Output come out", "UG automation-action-runcommand")
def test_a_command() -> None:
    answers = {
        "ssm.SendCommand": [{"Command": {"CommandId": "11111111-2222-3333-4444-555555555555"}}],
        "ssm.GetCommandInvocation": [
            {"Error": {"Code": "InvocationDoesNotExist", "Message": "not yet"}},
            {"Status": "InProgress", "ResponseCode": -1, "StandardOutputContent": ""},
            {"Status": "Success", "ResponseCode": 0, "StandardOutputContent": "Monday"},
        ],
    }
    outputs = run(COMMAND, answers=answers).step("do").outputs

    assert outputs == {
        "CommandId": "11111111-2222-3333-4444-555555555555",
        "Status": "Success",
        "ResponseCode": 0,
        "Output": "Monday",
    }


@rule(AREA, "a command that does not succeed fails the step", "UG automation-action-runcommand")
def test_a_command_that_fails() -> None:
    execution = run(COMMAND, answers={"command.do": {"Status": "Failed", "Output": "no such file"}})

    assert execution.failure == "step do: the command ended Failed (code 1): no such file"


@rule(AREA, "at most 50 instances by id", "UG automation-action-runcommand")
def test_50_instances() -> None:
    many = COMMAND.replace("[i-1]", "[" + ", ".join(f"i-{number}" for number in range(51)) + "]")

    assert "51 items; at most 50" in run(many).failure


@rule(AREA, "a function's Payload and StatusCode come out; its error fails the step", "UG automation-action-lamb")
def test_a_function() -> None:
    step = "- name: f\n  action: aws:invokeLambdaFunction\n  inputs: {FunctionName: fn, InputPayload: {a: 1}}\n"
    good = {"lambda.Invoke": [{"StatusCode": 200, "Payload": '{"Retry": true}'}]}
    outputs = "  outputs:\n  - {Name: Retry, Selector: $.Retry, Type: Boolean}\n"

    assert run(step + outputs, answers=good).step("f").outputs == {
        "StatusCode": "200",
        "Payload": '{"Retry": true}',
        "Retry": True,
    }
    assert "the function failed (Unhandled)" in run(step, answers={"invoke.f": {"FunctionError": "Unhandled"}}).failure


AREA = "Instances, images, tags"


@rule(
    AREA,
    "aws:changeInstanceState to running waits for the state and for both status checks",
    "UG automation-action-changestate",
)
def test_running_waits_for_both_checks() -> None:
    def status(instance: str, system: str) -> dict[str, Any]:
        return {
            "InstanceStatuses": [
                {
                    "InstanceState": {"Name": "running"},
                    "InstanceStatus": {"Status": instance},
                    "SystemStatus": {"Status": system},
                }
            ]
        }

    answers = {
        "ec2.StartInstances": {},
        "ec2.DescribeInstanceStatus": [status("initializing", "ok"), status("ok", "initializing"), status("ok", "ok")],
    }
    execution = run(
        "- name: a\n  action: aws:changeInstanceState\n  inputs: {InstanceIds: [i-1], DesiredState: running}\n",
        answers=answers,
    )

    assert execution.status == "Success"
    assert execution.ended - execution.started == timedelta(seconds=10)


@rule(AREA, "CheckStateOnly changes nothing; an hour by default", "UG automation-action-changestate")
def test_check_state_only() -> None:
    asks = step("a", "changeInstanceState", "{InstanceIds: [i-1], DesiredState: stopped, CheckStateOnly: true}")

    execution = run(asks, answers=instances("running"))

    assert execution.status == "TimedOut"  # a call of StopInstances would have found no answer
    assert execution.ended - execution.started == timedelta(hours=1)


@rule(
    AREA,
    "aws:createImage and aws:copyImage wait until the image is available",
    "UG automation-action-create, automation-action-copyimage",
)
@pytest.mark.parametrize(
    ("action", "operation", "inputs"),
    [
        ("createImage", "CreateImage", "{InstanceId: i-1, ImageName: image, NoReboot: true}"),
        (
            "copyImage",
            "CopyImage",
            "{SourceImageId: ami-1, SourceRegion: eu-west-1, ImageName: image}",
        ),
    ],
)
def test_images_are_waited_for(action: str, operation: str, inputs: str) -> None:
    answers = {
        f"ec2.{operation}": {"ImageId": "ami-2"},
        "ec2.DescribeImages": [
            {"Images": []},
            {"Images": [{"State": "pending"}]},
            {"Images": [{"State": "available"}]},
        ],
    }
    execution = run(f"- name: a\n  action: aws:{action}\n  inputs: {inputs}\n", answers=answers)

    assert execution.step("a").outputs == {"ImageId": "ami-2", "ImageState": "available"}


@rule(AREA, "aws:deleteImage deregisters the image and deletes its snapshots", "UG automation-action-delete")
def test_an_image_is_deleted_with_its_snapshots() -> None:
    answers = {
        "ec2.DescribeImages": {
            "Images": [{"BlockDeviceMappings": [{"Ebs": {"SnapshotId": "snap-1"}}, {"VirtualName": "x"}]}]
        },
        "ec2.DeregisterImage": {},
    }
    step = "- name: a\n  action: aws:deleteImage\n  inputs: {ImageId: ami-1}\n"

    with pytest.raises(Exception, match=r"nothing for ec2\.DeleteSnapshot"):
        run(step, answers=answers)
    assert run(step, answers={**answers, "ec2.DeleteSnapshot": {}}).status == "Success"


@rule(
    AREA,
    "aws:createTags: EC2 resources, or one ManagedInstance, MaintenanceWindow or Parameter",
    "UG automation-action-createtag",
)
def test_tags() -> None:
    tag = step("a", "createTags", "{ResourceIds: [x, y], Tags: [{Key: k, Value: v}], ResourceType: %s}")

    assert run(tag % "EC2", answers={"ec2.CreateTags": {}}).status == "Success"
    assert "one at a time" in run(tag % "Parameter").failure


@rule(AREA, "aws:runInstances: InstanceIds and InstanceStates come out", "UG automation-action-runinstance")
def test_instances_are_run() -> None:
    answers = {"ec2.RunInstances": {"Instances": [{"InstanceId": "i-1"}]}, **instances("pending", "running")}

    execution = run(
        "- name: a\n  action: aws:runInstances\n  inputs: {ImageId: ami-1, MaxInstanceCount: 1}\n", answers=answers
    )

    assert execution.step("a").outputs == {"InstanceIds": ["i-1"], "InstanceStates": ["running"]}


# --- the whole -----------------------------------------------------------------------------------------------------

AREA = "The executor itself"


@rule(AREA, "the 23 actions are known", "AWS's remediation-impact table, cdk-preflight")
def test_the_actions() -> None:
    assert len(ACTIONS) == 23
    assert {name for name, action in ACTIONS.items() if action.executed} == EXECUTED


@decided(
    AREA,
    "an action that is not executed is an error that names it, never a skip",
    "a skipped step would be a rehearsal of another document",
)
@pytest.mark.parametrize("action", sorted(set(ACTIONS) - EXECUTED))
def test_what_is_not_executed_is_told(action: str) -> None:
    needed = ", ".join(f"{name}: x" for name, one in ACTIONS[action].inputs.items() if one.required)

    with pytest.raises(UsageError, match=f"the action {action} is not executed here"):
        run(f"- name: a\n  action: {action}\n  inputs: {{{needed}}}\n")


def test_the_table_is_true_to_this_suite() -> None:
    assert TABLE.read_text(encoding="utf-8") == rendered(), "write it anew: python -m tests.runbook.conformance"
