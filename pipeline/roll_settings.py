"""What decides how long a roll takes, read from the account: a group and a cluster in, their times out. Reads only."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import boto3

from pipeline.chunks import chunks
from pipeline.roll_time import GroupTimes, ServiceTimes

STOP_TIMEOUT: Final = 30
"""Default of the ECS agent on EC2 (ECS API reference, ContainerDefinition.stopTimeout)."""
ASSUMED_START: Final = 20
"""Pulling and starting a task: no API tells."""
ASSUMED_BOOT: Final = 90
"""Launch until the ECS agent is connected: no API tells before it has happened."""
ASSUMED_COVERED: Final = 150
"""Launch until GuardDuty calls the host HEALTHY: not documented."""
COMMAND: Final = 10
"""Run Command there and back."""


def group_times(*, hosts: int, canary: int, window: float, batch: int = 1) -> GroupTimes:
    """The group's times; `window` is how long a unit is watched, in seconds."""
    return GroupTimes(
        hosts=hosts,
        canary=canary,
        boot=ASSUMED_BOOT,
        check=window + COMMAND,
        covered=ASSUMED_COVERED,
        batch=batch,
    )


def service_times(session: boto3.Session, cluster: str) -> tuple[ServiceTimes, ...]:
    """Every service of the cluster that moves tasks: daemons go with their host."""
    ecs: Any = session.client("ecs")
    elb: Any = session.client("elbv2")
    found = []
    for service in _services(ecs, cluster):
        if service.get("schedulingStrategy") == "DAEMON":
            continue
        definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        stop = max((one.get("stopTimeout", STOP_TIMEOUT) for one in definition["containerDefinitions"]), default=0)
        health, delay = 0.0, 0.0
        arns = [one["targetGroupArn"] for one in service.get("loadBalancers", []) if "targetGroupArn" in one]
        for arn in arns:
            [group] = elb.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]
            health = max(health, group["HealthCheckIntervalSeconds"] * group["HealthyThresholdCount"])
            attributes = elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
            named = {one["Key"]: one["Value"] for one in attributes}
            delay = max(delay, float(named.get("deregistration_delay.timeout_seconds", 300)))
        found.append(
            ServiceTimes(
                name=service["serviceName"], start=ASSUMED_START, health=health, deregistration=delay, stop=stop
            )
        )
    return tuple(found)


def _services(ecs: Any, cluster: str) -> Iterator[Any]:
    arns: Sequence[str] = [
        arn for page in ecs.get_paginator("list_services").paginate(cluster=cluster) for arn in page["serviceArns"]
    ]
    for some in chunks(arns, 10):
        yield from ecs.describe_services(cluster=cluster, services=some)["services"]
