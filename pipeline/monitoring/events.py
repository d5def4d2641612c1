"""Coverage events as messages with cause and remedy: in, the decision table; out, a CloudFormation template.

One EventBridge rule for each cause that GuardDuty has a text for, one for texts that nobody knows, one for what is
healthy again, and an SNS topic for all of them; no program runs in between. `events.yaml` is it as committed.
EventBridge minds case: the table has the spelling of AWS's pages. Shapes: GuardDuty user guide, coverage events.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.diagnosis.causes import Cause, causes

TEMPLATE = Path(__file__).with_name("events.yaml")
UNHEALTHY, HEALTHY = "GuardDuty Runtime Protection Unhealthy", "GuardDuty Runtime Protection Healthy"
PATHS = {
    "account": "$.detail.resourceAccountId",
    "region": "$.region",
    "instance": "$.detail.resourceDetails.ec2InstanceDetails.instanceId",
    "cluster": "$.detail.resourceDetails.ecsClusterDetails.clusterName",
    "issue": "$.detail.issue",
}
IN_A_MESSAGE = {
    "account": "<account>",
    "region": "<region>",
    "id": "<instance>",
    "cluster": "<cluster>",
    "shared": "",
    "vpc_owner": "which the text names",
}
HEADER = """\
# Made from pipeline/diagnosis/causes.yaml by pipeline/monitoring/events.py; a test says when it is out of date.
# Deploy it in each region, in the account whose coverage events are wanted: aws cloudformation deploy
# --template-file events.yaml --stack-name ovenproof-coverage-events --parameter-overrides Address=you@example.com
"""


class _Plain(yaml.SafeDumper):
    """Without aliases, which CloudFormation does not take."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def render() -> str:
    """The template as text."""
    known: list[str] = []
    resources: dict[str, Any] = {
        "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": "GuardDuty coverage"}},
        "Subscription": {
            "Type": "AWS::SNS::Subscription",
            "Condition": "HasAddress",
            "Properties": {"TopicArn": {"Ref": "Topic"}, "Protocol": "email", "Endpoint": {"Ref": "Address"}},
        },
        "TopicPolicy": {
            "Type": "AWS::SNS::TopicPolicy",
            "Properties": {
                "Topics": [{"Ref": "Topic"}],
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "events.amazonaws.com"},
                            "Action": "sns:Publish",
                            "Resource": {"Ref": "Topic"},
                            "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
                        }
                    ],
                },
            },
        },
    }
    for name, cause in causes().items():
        if patterns := list(dict.fromkeys(sign.event for sign in cause.signs if sign.event)):
            known += patterns
            resources[_logical(name)] = _rule(cause.title, UNHEALTHY, _detail(patterns), _message(cause))
    unknown = {"issue": [{"anything-but": {"wildcard": list(dict.fromkeys(known))}}]}
    resources["Unknown"] = _rule(
        "a text that Ovenproof does not know",
        UNHEALTHY,
        unknown,
        "Not covered: <instance> <cluster> in account <account>, <region>. GuardDuty says: <issue>. Ovenproof does not "
        "know this text; ./run coverage --on aws --account <account> --region <region> may tell more.",
    )
    resources["Healthy"] = _rule(
        "what is covered again", HEALTHY, {}, "Covered: <instance> <cluster> in account <account>, <region>."
    )
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "GuardDuty coverage events as messages with cause and remedy",
        "Parameters": {
            "Address": {"Type": "String", "Default": "", "Description": "An e-mail address to tell, or nothing"}
        },
        "Conditions": {"HasAddress": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Address"}, ""]}]}},
        "Resources": resources,
        "Outputs": {"TopicArn": {"Description": "Where the messages go", "Value": {"Ref": "Topic"}}},
    }
    return HEADER + yaml.dump(template, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


def _logical(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _detail(patterns: list[str]) -> dict[str, Any]:
    """The texts, wherever an event has them: in the issue, or among those of Fargate."""
    matchers: list[Any] = [{"wildcard": text} if "*" in text else text for text in patterns]
    fargate = {"ecsClusterDetails": {"fargateDetails": {"issues": matchers}}}
    return {"$or": [{"issue": matchers}, {"resourceDetails": fargate}]}


def _rule(title: str, kind: str, detail: dict[str, Any], message: str) -> dict[str, Any]:
    pattern: dict[str, Any] = {"source": ["aws.guardduty"], "detail-type": [kind]}
    if detail:
        pattern["detail"] = detail
    return {
        "Type": "AWS::Events::Rule",
        "Properties": {
            "Description": f"GuardDuty coverage: {title}",
            "EventPattern": pattern,
            "Targets": [
                {
                    "Id": "topic",
                    "Arn": {"Ref": "Topic"},
                    "InputTransformer": {"InputPathsMap": dict(PATHS), "InputTemplate": f'"{message}"'},
                }
            ],
        },
    }


def _message(cause: Cause) -> str:
    def word(found: re.Match[str]) -> str:
        return IN_A_MESSAGE.get(found[1], f"the {found[1].replace('_', ' ')}")

    remedy = re.sub(r"\{(\w+)\}", word, cause.remedy).replace('"', "'")
    return (
        f"Not covered: <instance> <cluster> in account <account>, <region>. Cause: {cause.title}. "
        f"What to do: {remedy}. GuardDuty says: <issue>"
    ).replace('"', "'")
