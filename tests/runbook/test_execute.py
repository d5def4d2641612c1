"""The first path through the executor: values from call to script to branch, and a trace of it."""

import json

from tests.runbook.helpers import run, statuses

STEPS = """
- name: get
  action: aws:executeAwsApi
  inputs: {Service: ssm, Api: GetParameter, Name: "{{ Name }}"}
  outputs:
  - {Name: Value, Selector: $.Parameter.Value, Type: String}
- name: count
  action: aws:executeScript
  inputs:
    Runtime: python3.11
    Handler: main
    InputPayload: {text: "{{ get.Value }}"}
    Script: |
      import time
      def main(events, context):
          time.sleep(90)
          return {"length": len(events["text"])}
  outputs:
  - {Name: Length, Selector: $.Payload.length, Type: Integer}
- name: choose
  action: aws:branch
  inputs:
    Choices:
    - NextStep: long
      Variable: "{{ count.Length }}"
      NumericGreater: 3
    Default: short
- name: short
  action: aws:sleep
  inputs: {Duration: PT1S}
  isEnd: true
- name: long
  action: aws:sleep
  inputs: {Duration: PT2H}
"""
HEAD = """
parameters:
  Name: {type: String}
outputs: [count.Length]
"""
ANSWERS = {"ssm.GetParameter": [{"Parameter": {"Value": "ami-1"}}]}


def test_values_go_from_a_call_to_a_script_to_a_branch() -> None:
    execution = run(STEPS, HEAD, answers=ANSWERS, parameters={"Name": "/image"})

    assert execution.status == "Success"
    assert execution.outputs == {"count.Length": 5}
    assert statuses(execution) == [
        ("get", "Success"),
        ("count", "Success"),
        ("choose", "Success"),
        ("long", "Success"),
        ("short", "Pending"),
    ]
    assert (execution.ended - execution.started).total_seconds() == 90 + 7200


def test_the_trace_has_the_documented_keys_and_is_json() -> None:
    execution = run(STEPS, HEAD, answers=ANSWERS, parameters={"Name": "/image"})

    trace = json.loads(json.dumps(execution.to_json()))

    assert list(trace) == ["status", "outputs", "steps"]
    assert {tuple(step) for step in trace["steps"]} == {
        ("name", "action", "status", "attempts", "inputs", "outputs", "started", "ended", "failure")
    }
    assert trace["steps"][0]["inputs"] == {"Service": "ssm", "Api": "GetParameter", "Name": "/image"}
    assert trace["steps"][-1]["started"] is None
