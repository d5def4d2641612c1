"""What bites operators, where a rule's own two examples do not say enough."""

import pytest

from pipeline.runbook.lint.engine import Text, lint


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
