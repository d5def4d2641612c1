"""The session: botocore's own checks and exceptions, one world each, nothing ignored in silence."""

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from pipeline.errors import OvenproofError, UsageError
from pipeline.rehearsal.fleet import answers
from tests.rehearsal.fleet.worlds import Fleet


def test_parameters_are_checked_by_botocore() -> None:
    with pytest.raises(ParamValidationError, match="AutoScalingGroupName"):
        Fleet().autoscaling.start_instance_refresh()


def test_a_refusal_is_the_modelled_exception() -> None:
    fleet = Fleet()
    with pytest.raises(fleet.autoscaling.exceptions.ActiveInstanceRefreshNotFoundFault):
        fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName=fleet.name)
    with pytest.raises(ClientError) as caught:
        fleet.autoscaling.cancel_instance_refresh(AutoScalingGroupName="nobody")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_an_operation_that_is_not_modelled_is_named() -> None:
    with pytest.raises(UsageError, match=r"autoscaling\.EnterStandby"):
        Fleet().autoscaling.enter_standby(AutoScalingGroupName="example", ShouldDecrementDesiredCapacity=True)
    with pytest.raises(UsageError, match=r"s3\.ListBuckets"):
        Fleet().s3.list_buckets()


def test_a_parameter_that_is_not_modelled_is_named() -> None:
    with pytest.raises(UsageError, match="IncludeManagedResources"):
        Fleet().autoscaling.describe_auto_scaling_groups(IncludeManagedResources=True)


def test_a_filter_that_is_not_modelled_is_named() -> None:
    with pytest.raises(UsageError, match="private-ip-address"):
        Fleet().ec2.describe_instances(Filters=[{"Name": "private-ip-address", "Values": ["10.0.0.1"]}])
    with pytest.raises(UsageError, match="filter"):
        Fleet().ecs.list_container_instances(cluster="example", filter="agentVersion >= 1.0")


def test_a_waiter_is_refused_because_it_would_really_wait() -> None:
    with pytest.raises(UsageError, match="real time"):
        Fleet().ecs.get_waiter("services_stable")


def test_two_worlds_do_not_meet() -> None:
    one, other = Fleet(), Fleet()
    one.autoscaling.create_or_update_tags(
        Tags=[{"ResourceId": "example", "ResourceType": "auto-scaling-group", "Key": "a", "Value": "b"}]
    )
    assert len(one.group()["Tags"]) == len(other.group()["Tags"]) + 1


def test_an_answer_that_aws_could_not_give_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    wrong = answers.registry.Operation(lambda *_: {"Tags": [{"Key": 7}]}, frozenset(), False)
    monkeypatch.setitem(answers.OPERATIONS, "autoscaling.DescribeTags", wrong)
    with pytest.raises(OvenproofError, match="not one that AWS could give"):
        fleet.autoscaling.describe_tags()


def test_paginators_of_botocore_work() -> None:
    fleet = Fleet()
    pages = fleet.autoscaling.get_paginator("describe_auto_scaling_groups").paginate()
    assert [group["AutoScalingGroupName"] for page in pages for group in page["AutoScalingGroups"]] == ["example"]
    arns = [
        arn
        for page in fleet.ecs.get_paginator("list_tasks").paginate(cluster="example", PaginationConfig={"PageSize": 7})
        for arn in page["taskArns"]
    ]
    assert len(set(arns)) == len(arns) == 60
