"""What bites operators, where a rule's own two examples do not say enough."""

import textwrap

import pytest

from pipeline.runbook.lint.engine import Text, lint


def steps_found(rule: str, steps: str) -> list[str]:
    """The steps of a document at which a rule finds something."""
    text = f'schemaVersion: "0.3"\nmainSteps:\n{textwrap.indent(textwrap.dedent(steps), "  ")}'
    found = lint([Text(name="Document.yaml", content=text.encode())]).findings
    return [finding.step for finding in found if finding.rule == rule]


def rules_of(step: str) -> list[str]:
    text = f'schemaVersion: "0.3"\nmainSteps:\n  - {step}\n'
    return [finding.rule for finding in lint([Text(name="Document.yaml", content=text.encode())]).findings]


@pytest.mark.parametrize(
    ("call", "twice"),
    [
        ("Service: autoscaling, Api: CreateOrUpdateTags, Tags: [{Key: roll, Value: done}]", False),
        ("Service: ec2, Api: CreateTags, Resources: [i-0123456789abcdef0], Tags: [{Key: roll, Value: done}]", False),
        # the second is refused, by an error of its own in botocore's model
        ("Service: autoscaling, Api: StartInstanceRefresh, AutoScalingGroupName: example", False),
        ("Service: iam, Api: CreateGroup, GroupName: operators", False),
        ("Service: ec2, Api: RebootInstances, InstanceIds: [i-0123456789abcdef0]", True),
        ("Service: ssm, Api: SendCommand, DocumentName: AWS-RunPatchBaseline, InstanceIds: [i-1]", True),
        # in progress only for as long as the first attempt takes
        ("Service: autoscaling, Api: ExecutePolicy, PolicyName: grow", True),
    ],
)
def test_attempts_are_counted_where_aws_would_do_it_again(call: str, twice: bool) -> None:
    step = f"{{name: Do, action: 'aws:executeAwsApi', maxAttempts: 3, onFailure: Abort, inputs: {{{call}}}}}"
    assert ("retry-twice" in rules_of(step)) is twice


SUSPEND = "inputs: {Service: autoscaling, Api: SuspendProcesses, AutoScalingGroupName: a}"
RESUME = "inputs: {Service: autoscaling, Api: ResumeProcesses, AutoScalingGroupName: a}"
PROTECT = "inputs: {Service: autoscaling, Api: DetachTrafficSources, AutoScalingGroupName: a, TrafficSources: []}"


def test_a_change_counts_for_the_steps_that_may_follow_it() -> None:
    steps = f"""\
    - name: Which
      action: aws:branch
      inputs:
        Choices: [{{Variable: "{{{{ global:REGION }}}}", StringEquals: eu-central-1, NextStep: One}}]
        Default: Other
    - {{name: One, action: "aws:executeAwsApi", isEnd: true, {SUSPEND}}}
    - {{name: Other, action: "aws:executeAwsApi", {PROTECT}}}
    - {{name: Third, action: "aws:executeAwsApi", {SUSPEND}}}
    """
    assert steps_found("no-way-back", steps) == ["Third"]


def test_a_step_that_takes_a_change_back_needs_no_way_back_itself() -> None:
    steps = f"""\
    - {{name: Suspend, action: "aws:executeAwsApi", {SUSPEND}}}
    - {{name: Protect, action: "aws:executeAwsApi", onFailure: Continue, onCancel: Abort, {PROTECT}}}
    - {{name: Resume, action: "aws:executeAwsApi", {RESUME}}}
    """
    assert steps_found("no-way-back", steps) == []


def test_a_stop_by_force_is_the_same_change_as_the_stop() -> None:
    stop = "action: 'aws:changeInstanceState', timeoutSeconds: 600"
    steps = f"""\
    - {{name: Stop, {stop}, onFailure: Continue, inputs: {{InstanceIds: [i-1], DesiredState: stopped}}}}
    - {{name: Force, {stop}, inputs: {{InstanceIds: [i-1], Force: true, DesiredState: stopped}}}}
    - {{name: Start, {stop}, inputs: {{InstanceIds: [i-1], DesiredState: running}}}}
    """
    assert steps_found("no-way-back", steps) == ["Start"]


def test_an_output_of_a_script_may_be_the_whole_answer() -> None:
    step = """\
    - name: Look
      action: aws:executeScript
      inputs: {Runtime: python3.11, Handler: main, Script: "def main(events, context):\\n    return {'a': 1}\\n"}
      outputs: [{Name: All, Selector: $, Type: StringMap}, {Name: One, Selector: $.a, Type: Integer}]
    """
    assert steps_found("script-output", step) == ["Look"]
