"""A derived policy, enforced while a document runs in the fleet model: it is enough, and none of it is too much."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from botocore.exceptions import ClientError

from pipeline.clock import VirtualClock
from pipeline.errors import UsageError
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import example_fleet
from pipeline.rehearsal.fleet.world import World
from pipeline.runbook import permissions
from pipeline.runbook.document import Document, parse_document
from pipeline.runbook.execute import execute
from pipeline.runbook.lint import source
from pipeline.runbook.lint.view import view
from pipeline.runbook.permitted import Permitted
from pipeline.runbook.seams import Seams
from pipeline.runbook.trace import Execution

TEXT = """\
schemaVersion: "0.3"
assumeRole: "arn:aws:iam::111122223333:role/example"
parameters:
  Group: {type: String}
mainSteps:
  - name: Suspend
    action: aws:executeAwsApi
    inputs:
      Service: autoscaling
      Api: SuspendProcesses
      AutoScalingGroupName: "{{ Group }}"
      ScalingProcesses: [AZRebalance]
  - name: Look
    action: aws:executeScript
    inputs:
      Runtime: python3.11
      Handler: main
      InputPayload: {group: "{{ Group }}"}
      Script: |
        import boto3

        def instances(autoscaling, group):
            answer = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])
            return [one["InstanceId"] for one in answer["AutoScalingGroups"][0]["Instances"]]

        def main(events, context):
            ecs = boto3.client("ecs")
            ids = instances(boto3.client("autoscaling"), events["group"])
            boto3.client("ec2").describe_instances(InstanceIds=ids)
            hosts = ecs.list_container_instances(cluster="example")["containerInstanceArns"]
            ecs.update_container_instances_state(cluster="example", containerInstances=hosts[:1], status="DRAINING")
            return {"hosts": len(ids)}
    outputs: [{Name: Hosts, Selector: $.Payload.hosts, Type: Integer}]
  - name: Resume
    action: aws:executeAwsApi
    inputs: {Service: autoscaling, Api: ResumeProcesses, AutoScalingGroupName: "{{ Group }}"}
outputs: [Look.Hosts]
"""


def run(policy: Mapping[str, Any]) -> Execution:
    """Execute the document over a fleet that refuses what the policy does not allow."""
    clock = VirtualClock()
    world = World(example_fleet("twenty"), clock)
    allowed = permissions.statements(policy)

    def permit(_: str, service: str, operation: str, parameters: Mapping[str, Any]) -> str:
        return permissions.evaluate(allowed, service, operation, parameters)

    def find(name: str) -> Document:
        raise UsageError(f"there is no document {name}")

    seams = Seams(session=fleet_session(world), clock=clock, documents=find, account_id="111122223333", permit=permit)
    return execute(parse_document(TEXT, "Example.yaml"), {"Group": ["example"]}, seams)


POLICY = permissions.least_policy(view(source.read(TEXT)[0], TEXT, json=False, name="Example"))


def test_the_derived_policy_is_enough() -> None:
    execution = run(POLICY)
    assert (execution.status, execution.failure) == ("Success", "")


@pytest.mark.parametrize("index", range(len(POLICY["Statement"])), ids=[one["Sid"] for one in POLICY["Statement"]])
def test_without_any_of_its_statements_the_document_fails(index: int) -> None:
    rest = [one for number, one in enumerate(POLICY["Statement"]) if number != index]
    execution = run({**POLICY, "Statement": rest})
    assert execution.status == "Failed"
    assert "not allowed to perform" in execution.failure


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.describe_instances(),
        lambda client: client.get_paginator("describe_instances").paginate(PaginationConfig={"MaxItems": 1}),
        lambda client: client.get_waiter("instance_running").wait(InstanceIds=["i-0"], WaiterConfig={"Delay": 1}),
    ],
    ids=["call", "paginator", "waiter"],
)
def test_no_way_of_calling_goes_past_the_policy(ask: Callable[[Any], object]) -> None:
    asked: list[tuple[str, str, str, Mapping[str, Any]]] = []

    def permit(document: str, service: str, operation: str, parameters: Mapping[str, Any]) -> str:
        asked.append((document, service, operation, parameters))
        return "ec2:DescribeInstances"

    run = SimpleNamespace(seams=SimpleNamespace(permit=permit), document=SimpleNamespace(name="Example"))
    client = Permitted(boto3.Session(region_name="eu-central-1").client("ec2"), cast("Any", run), "ec2")

    with pytest.raises(ClientError, match="not allowed to perform ec2:DescribeInstances") as refused:
        ask(client)

    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    assert [(one[:3], sorted(one[3])) for one in asked] == [
        (("Example", "ec2", "DescribeInstances"), ["InstanceIds"] if "InstanceIds" in asked[0][3] else [])
    ]
