"""The rights that a document needs, told from its steps and scripts, and what a policy allows."""

from typing import Any

import pytest

from pipeline.runbook import permissions
from pipeline.runbook.lint import source
from pipeline.runbook.lint.view import Document, view

HEAD = 'schemaVersion: "0.3"\nassumeRole: r\nmainSteps:\n'
SCRIPT = """\
  - name: Do
    action: aws:executeScript
    inputs:
      Runtime: python3.11
      Handler: main
      Script: |
"""


def document(text: str) -> Document:
    whole = HEAD + text
    return view(source.read(whole)[0], whole, json=False, name="Example")


def script(text: str) -> Document:
    return document(SCRIPT + "".join(f"        {line}\n" for line in text.strip("\n").split("\n")))


def needed(of: Document, *, sure: bool = True) -> set[str]:
    return {need.action for need in permissions.needs(of) if need.sure is sure}


def api(service: str, name: str, inputs: str = "") -> Document:
    return document(
        f'  - name: Do\n    action: "aws:executeAwsApi"\n    inputs: {{Service: {service}, Api: {name}{inputs}}}\n'
    )


@pytest.mark.parametrize(
    ("service", "operation", "action"),
    [
        ("ecs", "ListClusters", "ecs:ListClusters"),
        ("elbv2", "DescribeTargetHealth", "elasticloadbalancing:DescribeTargetHealth"),
        ("cloudwatch", "DescribeAlarms", "cloudwatch:DescribeAlarms"),
        ("stepfunctions", "StartExecution", "states:StartExecution"),
        ("service-quotas", "GetServiceQuota", "servicequotas:GetServiceQuota"),
        ("s3", "ListObjectsV2", "s3:ListBucket"),
        ("application-autoscaling", "DescribeScalableTargets", "application-autoscaling:DescribeScalableTargets"),
    ],
)
def test_an_operation_has_its_action(service: str, operation: str, action: str) -> None:
    assert permissions.actions_of(service, operation) == (action,)
    assert permissions.known_action(action)


def test_a_call_that_needs_no_right_asks_for_none() -> None:
    assert needed(api("sts", "GetCallerIdentity")) == set()


def test_a_refresh_with_a_new_template_needs_to_launch_and_to_pass_the_role() -> None:
    plain = api("autoscaling", "StartInstanceRefresh", ", AutoScalingGroupName: main")
    assert needed(plain) == {"autoscaling:StartInstanceRefresh"}
    wanted = (
        ", AutoScalingGroupName: main, DesiredConfiguration: {LaunchTemplate: {LaunchTemplateId: lt-0, Version: '2'}}"
    )
    with_template = api("autoscaling", "StartInstanceRefresh", wanted)
    assert needed(with_template) == {"autoscaling:StartInstanceRefresh", "ec2:RunInstances", "iam:PassRole"}


def test_an_input_that_is_a_role_is_passed_on() -> None:
    hook = ", AutoScalingGroupName: main, LifecycleHookName: drain, RoleARN: r"
    assert "iam:PassRole" in needed(api("autoscaling", "PutLifecycleHook", hook))


def test_a_literal_narrows_the_resource_and_a_reference_does_not() -> None:
    (literal,) = permissions.needs(api("autoscaling", "SuspendProcesses", ", AutoScalingGroupName: main"))
    assert literal.resources == ("arn:*:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/main",)
    (referred,) = permissions.needs(api("autoscaling", "SuspendProcesses", ", AutoScalingGroupName: '{{ Group }}'"))
    assert referred.resources == ("arn:*:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/*",)


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ('import boto3\ndef main(e, c):\n    boto3.client("ecs").list_tasks()', {"ecs:ListTasks"}),
        ('import boto3\necs = boto3.client("ecs")\ndef main(e, c):\n    ecs.list_tasks()', {"ecs:ListTasks"}),
        (
            'import boto3\ndef main(e, c):\n    s = boto3.Session()\n    x = s.client("ecs")\n    x.list_tasks()',
            {"ecs:ListTasks"},
        ),
        (
            'import boto3\ndef main(e, c):\n    for p in boto3.client("ecs").get_paginator("list_tasks").paginate():\n'
            "        print(p)",
            {"ecs:ListTasks"},
        ),
        (
            'import boto3\ndef main(e, c):\n    boto3.client("ec2").get_waiter("instance_running").wait()',
            {"ec2:DescribeInstances"},
        ),
        (
            'import boto3\ndef look(client):\n    client.list_tasks()\ndef main(e, c):\n    look(boto3.client("ecs"))',
            {"ecs:ListTasks"},
        ),
        (
            "import boto3\ndef make(name):\n    return boto3.client(name)\n"
            'def main(e, c):\n    make("ecs").list_tasks()',
            {"ecs:ListTasks"},
        ),
        (
            "import boto3\ndef all(call, **kw):\n    return call(**kw)\ndef main(e, c):\n"
            '    all(boto3.client("ecs").list_tasks, cluster="x")',
            {"ecs:ListTasks"},
        ),
        (
            'import boto3\nclass A:\n    def __init__(self):\n        self.ecs = boto3.client("ecs")\n'
            "    def go(self):\n        self.ecs.list_tasks()\ndef main(e, c):\n    A().go()",
            {"ecs:ListTasks"},
        ),
        ('import boto3\ndef main(e, c):\n    getattr(boto3.client("ecs"), "list_tasks")()', {"ecs:ListTasks"}),
    ],
)
def test_clients_are_followed_through_scripts(text: str, actions: set[str]) -> None:
    assert needed(script(text)) == actions


def test_a_client_that_cannot_be_known_is_told() -> None:
    of = script('import boto3\ndef main(events, context):\n    boto3.client(events["s"]).list_tasks()')
    assert [why for _, _, why in permissions.unresolved(of)] == ["a client of a service that is not written here"]


def test_the_least_policy_allows_each_need_and_nothing_else() -> None:
    of = script(
        'import boto3\ndef main(events, context):\n    boto3.client("ecs").list_tasks(cluster="main")\n'
        '    boto3.client("autoscaling").describe_auto_scaling_groups()'
    )
    assert permissions.least_policy(of) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AutoscalingRights1",
                "Effect": "Allow",
                "Action": ["autoscaling:DescribeAutoScalingGroups"],
                "Resource": "*",
            },
            {
                "Sid": "EcsRights2",
                "Effect": "Allow",
                "Action": ["ecs:ListTasks"],
                "Resource": ["arn:*:ecs:*:*:container-instance/main/*"],
            },
        ],
    }


@pytest.mark.parametrize(
    ("one", "other", "met"),
    [
        ("*", "arn:aws:ecs:x", True),
        ("arn:aws:ecs:*:*:cluster/a*", "arn:*:ecs:*:1:cluster/ab", True),
        ("arn:aws:ecs:*:*:cluster/a*", "arn:*:ecs:*:1:cluster/b", False),
        ("arn:<partition>:ecs:<region>:<account>:cluster/x", "arn:*:ecs:*:*:cluster/*", True),
        ("a?c", "abc", True),
        ("a", "b", False),
        ("", "*", True),
    ],
)
def test_patterns_meet(one: str, other: str, met: bool) -> None:
    assert permissions.overlap(one, other) is met
    assert permissions.overlap(other, one) is met


def allowed(policy: dict[str, Any], service: str, operation: str, **parameters: Any) -> str:
    return permissions.evaluate(permissions.statements(policy), service, operation, parameters)


def test_a_policy_is_enforced() -> None:
    policy = {
        "Statement": [
            {"Effect": "Allow", "Action": "ecs:List*", "Resource": "arn:aws:ecs:*:*:container-instance/main/*"}
        ]
    }
    assert allowed(policy, "ecs", "ListTasks", cluster="main") == ""
    assert allowed(policy, "ecs", "ListTasks", cluster="other") == "ecs:ListTasks"
    assert allowed(policy, "ecs", "DescribeTasks", cluster="main") == "ecs:DescribeTasks"
    policy["Statement"].append({"Effect": "Deny", "Action": "ecs:*", "Resource": "*"})
    assert allowed(policy, "ecs", "ListTasks", cluster="main") == "ecs:ListTasks"


def test_what_a_call_needs_besides_is_enforced_too() -> None:
    policy = {"Statement": {"Effect": "Allow", "Action": ["autoscaling:*", "ec2:RunInstances"], "Resource": "*"}}
    wanted = {"AutoScalingGroupName": "main", "DesiredConfiguration": {}}
    assert allowed(policy, "autoscaling", "StartInstanceRefresh", **wanted) == "iam:PassRole"


def test_each_kind_of_resource_has_to_be_allowed() -> None:
    start = {"Effect": "Allow", "Action": "ssm:StartAutomationExecution"}
    document = "arn:aws:ssm:*:*:document/Example"
    policy = {"Statement": [{**start, "Resource": document}]}
    assert allowed(policy, "ssm", "StartAutomationExecution", DocumentName="Example") == "ssm:StartAutomationExecution"
    policy["Statement"].append({**start, "Resource": "arn:aws:ssm:*:*:automation-execution/*"})
    assert allowed(policy, "ssm", "StartAutomationExecution", DocumentName="Example") == ""
    assert allowed(policy, "ssm", "StartAutomationExecution", DocumentName="Other") == "ssm:StartAutomationExecution"


def test_a_command_is_allowed_on_a_document_and_on_instances() -> None:
    send = {"Effect": "Allow", "Action": "ssm:SendCommand"}
    policy = {"Statement": [{**send, "Resource": "arn:aws:ssm:*:*:document/Example"}]}
    assert allowed(policy, "ssm", "SendCommand", DocumentName="Example") == "ssm:SendCommand"
    policy["Statement"].append({**send, "Resource": "arn:aws:ec2:*:*:instance/*"})
    assert allowed(policy, "ssm", "SendCommand", DocumentName="Example") == ""


def test_a_tag_may_be_on_anything_and_a_policy_may_hold_it_to_one_kind() -> None:
    (need,) = permissions.needs(api("ec2", "CreateTags", ", Resources: ['{{ Image }}'], Tags: []"))
    assert need.resources == ("arn:*:ec2:*:*:*",)
    policy = {"Statement": [{"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*::image/*"}]}
    assert allowed(policy, "ec2", "CreateTags", Resources=["ami-0"]) == ""


def test_one_of_several_kinds_of_resources_is_enough_where_none_is_always_needed() -> None:
    tag = {"Effect": "Allow", "Action": "ecs:TagResource", "Resource": "arn:aws:ecs:*:*:cluster/*"}
    assert allowed({"Statement": [tag]}, "ecs", "TagResource", resourceArn="x") == ""
    assert allowed({"Statement": [tag]}, "ecs", "UntagResource", resourceArn="x") == "ecs:UntagResource"


def test_other_accounts_are_entered_by_a_role() -> None:
    inputs = "{DocumentName: Other, TargetLocations: [{Accounts: ['1']}]}"
    of = document(f"  - name: Do\n    action: aws:executeAutomation\n    inputs: {inputs}\n")
    assert needed(of) == {"ssm:StartAutomationExecution", "ssm:GetAutomationExecution", "sts:AssumeRole"}
