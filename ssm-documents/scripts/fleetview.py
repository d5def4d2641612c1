"""What several scripts of the documents share: how a group and its hosts are read, and how a script waits.

Python 3.11 with boto3, which is what aws:executeScript has. Every function reads; what changes anything stands in the
script that is named after it.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore.exceptions import ClientError

HOOK = "ovenproof-drain"
POLL_SECONDS = 10
WARM_SECONDS = 180
PATIENCE_SECONDS = 540  # SSM ends a script after 600
ACTIVE_REFRESH = ("Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress")
GOING = ("Pending", "InProgress", "Waiting", "PendingApproval", "Scheduled", "RunbookInProgress")
PASSING = (  # how their codes begin
    "Internal",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ResourceContention",
    "ServerException",
    "ServiceUnavailable",
    "Throttling",
    "TooManyRequests",
    "Unavailable",
)


class StillWaiting(Exception):
    """The script's time is up and the thing it waits for has not come: the step's next attempt goes on waiting."""


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def is_passing(error: ClientError) -> bool:
    """Whether AWS asks to try again, rather than refuses."""
    return error_code(error).startswith(PASSING)


def wait_for(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Look until the answer's State is no longer `waiting`. Raises StillWaiting before SSM would end the script."""
    deadline = time.time() + PATIENCE_SECONDS
    while True:
        try:
            answer = look()
        except ClientError as error:
            if not is_passing(error):
                raise
            answer = {"State": "waiting", "Reason": str(error)}
        if answer["State"] != "waiting":
            return answer
        if time.time() + POLL_SECONDS > deadline:
            raise StillWaiting(answer["Reason"])
        time.sleep(POLL_SECONDS)


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def group_named(name: str) -> dict[str, Any] | None:
    """The Auto Scaling group, or None when there is none of that name."""
    found = boto3.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    return dict(found[0]) if found else None


def tags_of(group: dict[str, Any]) -> dict[str, str]:
    """What a roll has noted on the group: its tags `ovenproof:…`, without that prefix."""
    return {
        tag["Key"].removeprefix("ovenproof:"): tag.get("Value", "")
        for tag in group.get("Tags", [])
        if tag["Key"].startswith("ovenproof:")
    }


def template_of(group: dict[str, Any]) -> dict[str, str]:
    """The launch template that the group itself names: LaunchTemplateId, LaunchTemplateName, Version."""
    if policy := group.get("MixedInstancesPolicy"):
        return dict(policy["LaunchTemplate"]["LaunchTemplateSpecification"])
    return dict(group.get("LaunchTemplate") or {})


def desired_configuration(group: dict[str, Any], version: str, image: str) -> dict[str, Any]:
    """What an instance refresh is to bring: the group's own configuration with another template version.

    Overrides that name an image get `image`; everything else of a mixed instances policy stays.
    """
    own = template_of(group)
    template = {"LaunchTemplateId": own["LaunchTemplateId"], "Version": version}
    policy = group.get("MixedInstancesPolicy")
    if not policy:
        return {"LaunchTemplate": template}
    overrides = [
        {**override, "ImageId": image} if override.get("ImageId") else dict(override)
        for override in policy["LaunchTemplate"].get("Overrides", [])
    ]
    launch: dict[str, Any] = {"LaunchTemplateSpecification": template}
    if overrides:
        launch["Overrides"] = overrides
    wanted: dict[str, Any] = {"LaunchTemplate": launch}
    if distribution := policy.get("InstancesDistribution"):
        wanted["InstancesDistribution"] = distribution
    return {"MixedInstancesPolicy": wanted}


def version_in(configuration: dict[str, Any]) -> str:
    """The template version that a refresh's DesiredConfiguration names; empty when it names none."""
    return template_of(configuration).get("Version", "")


def warmup(group: dict[str, Any], *, own_hook: bool) -> int:
    """The InstanceWarmup of a refresh of the group.

    Our hook holds hosts until their successors are ready. ECS's own drains a host the moment it is to go, so there the
    successors have to be registered before: that is what warm has to mean.
    """
    return 0 if own_hook else max(WARM_SECONDS, group.get("DefaultInstanceWarmup") or 0)


def is_on(instance: dict[str, Any], version: str, image: str) -> bool:
    """Whether the host runs what `version` (of the template) and `image` say.

    A host whose root volume was replaced keeps its template version and carries an image of its own.
    """
    if instance.get("ImageId"):
        return bool(instance["ImageId"] == image)
    return bool((instance.get("LaunchTemplate") or {}).get("Version") == version)


def refreshes_of(group: str, refresh: str = "") -> list[dict[str, Any]]:
    """The group's latest instance refreshes, the newest first; or the one asked for."""
    client = boto3.client("autoscaling")
    if refresh:
        answer = client.describe_instance_refreshes(AutoScalingGroupName=group, InstanceRefreshIds=[refresh])
    else:
        answer = client.describe_instance_refreshes(AutoScalingGroupName=group, MaxRecords=10)
    return list(answer["InstanceRefreshes"])


def ecs_hosts(cluster: str, instances: list[str]) -> dict[str, dict[str, Any]]:
    """The cluster's container instances by the EC2 instance each is; a disconnected twin gives way to a living one."""
    ecs = boto3.client("ecs")
    arns: list[str] = []
    for some in chunks(instances, 50):
        wanted = f"ec2InstanceId in [{', '.join(some)}]"
        for status in ("ACTIVE", "DRAINING"):
            pages = ecs.get_paginator("list_container_instances").paginate(
                cluster=cluster, filter=wanted, status=status
            )
            arns += [arn for page in pages for arn in page["containerInstanceArns"]]
    found: dict[str, dict[str, Any]] = {}
    for some in chunks(arns, 100):
        for host in ecs.describe_container_instances(cluster=cluster, containerInstances=some)["containerInstances"]:
            before = found.get(host["ec2InstanceId"])
            if before is None or (host["agentConnected"] and not before["agentConnected"]):
                found[host["ec2InstanceId"]] = dict(host)
    return found


def is_ready(host: dict[str, Any] | None) -> bool:
    """Whether ECS can place tasks on the host."""
    return host is not None and host["status"] == "ACTIVE" and bool(host["agentConnected"])


def firing(alarms: list[str]) -> list[str]:
    """Those of the alarms that are in ALARM, and those that do not exist: neither is quiet."""
    if not alarms:
        return []
    answer = boto3.client("cloudwatch").describe_alarms(AlarmNames=alarms, AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    states = {
        alarm["AlarmName"]: alarm["StateValue"]
        for alarm in [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
    }
    return [name for name in alarms if states.get(name, "missing") in ("ALARM", "missing")]


def services_of(cluster: str) -> list[dict[str, Any]]:
    """Every service of the cluster."""
    ecs = boto3.client("ecs")
    pages = ecs.get_paginator("list_services").paginate(cluster=cluster, PaginationConfig={"PageSize": 100})
    arns = [arn for page in pages for arn in page["serviceArns"]]
    services: list[dict[str, Any]] = []
    for some in chunks(arns, 10):
        services += ecs.describe_services(cluster=cluster, services=some)["services"]
    return services


def is_steady(service: dict[str, Any]) -> bool:
    """Whether the service has what it wants and no deployment is under way."""
    return bool(
        service["runningCount"] >= service["desiredCount"]
        and service["pendingCount"] == 0
        and len(service.get("deployments", [])) <= 1
    )


def status_of(execution: str) -> str:
    """The automation's status; empty when SSM does not know it."""
    if not execution:
        return ""
    try:
        found = boto3.client("ssm").get_automation_execution(AutomationExecutionId=execution)
    except ClientError as error:
        if error_code(error) == "AutomationExecutionNotFoundException":
            return ""
        raise
    return str(found["AutomationExecution"]["AutomationExecutionStatus"])


def execution_is_alive(execution: str) -> bool:
    """Whether that automation is still being run; one that is being cancelled still is."""
    return status_of(execution) in (*GOING, "Cancelling")
