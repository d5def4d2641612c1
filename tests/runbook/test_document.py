"""Reading what people, and editors, and worse, put into a document's file."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import VirtualClock
from pipeline.errors import CatalogError, OvenproofError
from pipeline.runbook.document import Tree, document_of, faults_of, parse_document, parse_tree, read_document
from pipeline.runbook.execute import execute
from pipeline.runbook.trace import Execution
from tests.runbook.helpers import seams

GOOD = """\
schemaVersion: '0.3'
mainSteps:
- name: first
  action: aws:sleep
  inputs:
    Duration: PT1S
"""


def refused(text: str) -> str:
    with pytest.raises(CatalogError) as error:
        parse_document(text, "doc.yaml")
    assert error.value.exit_code == 3
    return str(error.value)


def test_json_and_yaml_give_the_same_document() -> None:
    text = (
        '{"schemaVersion": "0.3", "mainSteps":'
        ' [{"name": "first", "action": "aws:sleep", "inputs": {"Duration": "PT1S"}}]}'
    )

    assert parse_document(text, "a.json").tree.value == parse_document(GOOD, "a.yaml").tree.value


def test_a_step_knows_its_line() -> None:
    step = parse_document(GOOD, "doc.yaml").steps[0]

    assert (step.name, step.line) == ("first", 3)


def test_every_fault_is_told_at_once_with_its_line() -> None:
    message = refused(
        GOOD.replace("aws:sleep", "aws:slep").replace("inputs", "onFailuer: Abort\n  inputs") + "outputs: x\n"
    )

    assert "doc.yaml:4 step first: unknown action 'aws:slep'; did you mean 'aws:sleep'?" in message
    assert "doc.yaml:5 unknown key 'onFailuer' in step first; did you mean 'onFailure'?" in message
    assert "doc.yaml:8 outputs: found a text; a list of STEP.OUTPUT is wanted" in message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "found nothing; a document is a mapping"),
        ("- a\n- b\n", "found a list; a document is a mapping"),
        ("just text", "found a text"),
        ("schemaVersion: '2.2'\n", "expected '0.3' (Automation), found '2.2'"),
        ("description: x\n", "the key schemaVersion is missing"),
        ("schemaVersion: '0.3'\n", "mainSteps: found no such key"),
        ("schemaVersion: '0.3'\nmainSteps: 5\n", "mainSteps: found a number"),
        ("schemaVersion: '0.3'\nmainSteps: [5, null]\n", "step 1: found a number"),
        ("schemaVersion: '0.3'\nmainSteps: [{}]\n", "step 1: the key 'name' is missing"),
        ("schemaVersion: '0.3'\nmainSteps: [{name: a, action: [x]}]\n", "unknown action ['x']"),
        (GOOD.replace("aws:sleep", "aws:loop").replace("Duration: PT1S", "Steps: 5"), "Steps: a list of at least one"),
        (GOOD + "  outputs: [5]\n", "found a number; Name, Selector and Type"),
        (GOOD + "  onFailure: 5\n", "allowed: Abort, Continue, step:NAME"),
        (GOOD + "  maxAttempts: 0\n", "at least 1 is wanted"),
        (GOOD + "parameters: [a]\n", "parameters: found a list"),
        (GOOD + "parameters: {A: {type: Strnig}}\n", "did you mean 'String'?"),
    ],
)
def test_what_is_not_a_document_is_told_in_words(text: str, why: str) -> None:
    assert why in refused(text)


@pytest.mark.parametrize(
    ("text", "why", "line"),
    [
        ("schemaVersion: '0.3'\nmainSteps: []\nmainSteps: []\n", "the key 'mainSteps' is there twice", 3),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice", 1),
        ("a: &x\n  b: *x\n", "the alias *x is inside of what it stands for", 2),
        ("a: *x\n", "alias", 1),
        ("a: !Ref x\n", "the tag !Ref", 1),
        ("a: !!python/object/apply:os.system [x]\n", "the tag tag:yaml.org,2002:python/object/apply", 1),
        ("a: 1\n--- \nb: 2\n", "a second document", 2),
        ("a: [1, 2\nb: 3\n", "did not find expected", 2),
        ("\ta: 1\n", "cannot start any token", 1),
        ("base: &b {x: 1}\na:\n  <<: *b\n", "the merge key", 3),
        ("? [a, b]\n: x\n", "a key has to be a text", 1),
        ("a: " + "[" * 500 + "]" * 500, "nested more than 60 levels", 1),
        ("a: " + "[" * 30_000, "nested more than 60 levels", 1),
        ('{"a": ' * 5000, "nested more than 60 levels", 1),
        ("a: \x07\n", "control characters are not allowed", 1),
    ],
)
def test_what_is_not_readable_is_told_with_its_line(text: str, why: str, line: int) -> None:
    message = refused(text)

    assert why in message
    assert f"doc.yaml:{line}" in message


def test_aliases_that_multiply_are_refused_before_they_do() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    assert "more than 20,000 values" in refused("\n".join(lines))


def test_an_alias_stands_for_its_value() -> None:
    text = GOOD.replace("mainSteps", "description: &d PT1S\nmainSteps").replace("Duration: PT1S", "Duration: *d")

    assert parse_document(text, "doc.yaml").steps[0].inputs == {"Duration": "PT1S"}


def test_numbers_and_flags_are_what_they_look_like() -> None:
    value = parse_tree("a: 5\nb: '5'\nc: true\nd: null\ne: 2026-01-01\nf: 0.5\n", "doc.yaml").value

    assert value == {"a": 5, "b": "5", "c": True, "d": None, "e": "2026-01-01", "f": 0.5}


def test_a_binary_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image.yaml"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")

    with pytest.raises(CatalogError, match="is not text"):
        read_document(path)


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(10 * 1024**3)

    with pytest.raises(CatalogError, match="too large"):
        read_document(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read"):
        read_document(tmp_path / "no.yaml")


def test_faults_can_be_had_without_an_error() -> None:
    faults = faults_of(parse_tree(GOOD.replace("first", "a b"), "doc.yaml"))

    assert [(fault.line, fault.rule, fault.path) for fault in faults] == [(3, "step-name", ("mainSteps", 0, "name"))]


RICH = """\
schemaVersion: '0.3'
description: all kinds of things
assumeRole: '{{ Role }}'
parameters:
  Role: {type: String, default: '', allowedPattern: '^.*$', allowedValues: ['', x], minChars: 0, maxChars: 5}
  Ids: {type: StringList, default: [i-1], minItems: 0, maxItems: 5}
variables:
  seen: {type: String, default: x}
files: {a.py: {checksums: {sha256: x}}}
mainSteps:
- name: call
  action: aws:executeAwsApi
  description: a call
  maxAttempts: 2
  timeoutSeconds: 10
  onFailure: step:last
  onCancel: step:run
  nextStep: choose
  isCritical: false
  inputs: {Service: ssm, Api: GetParameter, Name: '{{ Role }}x'}
  outputs:
  - {Name: Value, Selector: $.Parameter.Value, Type: String}
- name: choose
  action: aws:branch
  inputs:
    Choices:
    - NextStep: each
      And:
      - {Variable: '{{ call.Value }}', StringEquals: v}
      - Not: {Variable: '{{ call.Value }}', StringEquals: w}
    Default: last
- name: each
  action: aws:loop
  inputs:
    Iterators: '{{ Ids }}'
    IteratorDataType: String
    MaxIterations: 3
    Steps:
    - name: set
      action: aws:updateVariable
      inputs: {Name: 'variable:seen', Value: '{{ each.CurrentIteratorValue }}'}
- name: again
  action: aws:loop
  inputs:
    LoopCondition: {Variable: '{{ call.Value }}', StringEquals: v}
    MaxIterations: 2
    Steps: [{name: nap, action: 'aws:sleep', inputs: {Duration: PT1S}}]
- name: run
  action: aws:executeScript
  inputs:
    Runtime: python3.11
    Handler: main
    InputPayload: {ids: '{{ Ids }}'}
    Script: |
      def main(events, context):
          return events
- {name: ask, action: 'aws:approve', timeoutSeconds: 5, onFailure: Continue, inputs: {Approvers: [me], Message: x}}
- name: other
  action: aws:executeAutomation
  onFailure: Continue
  inputs:
    DocumentName: child
    RuntimeParameters: {A: x}
    TargetParameterName: A
    Targets: [{Key: ParameterValues, Values: [x, y]}]
    MaxConcurrency: 50%
    MaxErrors: '1'
- {name: command, action: 'aws:runCommand', inputs: {DocumentName: d, InstanceIds: [i-1], Parameters: {commands: [x]}}}
- {name: state, action: 'aws:changeInstanceState', inputs: {InstanceIds: [i-1], DesiredState: stopped}}
- {name: tags, action: 'aws:createTags', inputs: {ResourceIds: [i-1], Tags: [{Key: k, Value: v}], ResourceType: EC2}}
- name: wait
  action: aws:waitForAwsResourceProperty
  timeoutSeconds: 20
  inputs: {Service: ssm, Api: GetParameter, Name: x, PropertySelector: $.Parameter.Value, DesiredValues: [v]}
- {name: fn, action: 'aws:invokeLambdaFunction', inputs: {FunctionName: f, InputPayload: {a: b}}}
- {name: last, action: 'aws:sleep', isEnd: true, inputs: {Duration: PT1S}}
outputs: [call.Value]
"""
RICH_ANSWERS = """
ssm.GetParameter: [{Parameter: {Value: v}}]
ec2.StopInstances: {}
ec2.DescribeInstances: {Reservations: [{Instances: [{State: {Name: stopped}}]}]}
ec2.CreateTags: {}
approve.ask: Nobody
command.command: {Status: Success}
invoke.fn: {Payload: '{}'}
"""
CHILD = """\
schemaVersion: '0.3'
parameters: {A: {type: String}}
mainSteps: [{name: a, action: 'aws:sleep', inputs: {Duration: PT1S}}]
"""
ODD: list[Any] = [None, 5, -1, True, "x", "", "{{ x", "{{ Ids }}", [], {}, ["x"], [5], {"x": 1}, [{}], [None]]


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths_of(value[key], (*path, key))


def with_value(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_value(value[path[0]], path[1:], odd)
    return copy


@pytest.fixture(scope="module")
def over_the_same_session() -> Callable[[Tree], Execution]:
    child = parse_document(CHILD, "child.yaml")
    given = seams(RICH_ANSWERS, child)
    return lambda tree: execute(document_of(tree), {}, dataclasses.replace(given, clock=VirtualClock()))


Executes = Callable[[Tree], Execution]


def test_a_document_of_everything_runs(over_the_same_session: Executes) -> None:
    execution = over_the_same_session(parse_tree(RICH, "doc.yaml"))

    assert (execution.status, execution.failure) == ("Success", "")
    assert [step.name for step in execution.steps if step.status == "Pending"] == []


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_value_anywhere_is_a_fault_or_a_failure_and_never_a_traceback(
    odd: Any, over_the_same_session: Executes
) -> None:
    whole = parse_tree(RICH, "doc.yaml")

    for path in paths_of(whole.value):
        with contextlib.suppress(OvenproofError):
            over_the_same_session(dataclasses.replace(whole, value=with_value(whole.value, path, odd)))
