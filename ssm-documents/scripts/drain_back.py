"""The drain of a way back: as on the way there, but hosts that serve nothing give their room to others.

Where there is no room to double, hosts of the unwanted version may fill it: InService for Auto Scaling, and yet without
an ECS agent, or with tasks that stop as soon as they start. The refresh ends none of them before it has launched
another, and cannot launch. So each that is drained and empty is ended here, and Auto Scaling launches one of the wanted
version in its place; hosts that tasks run on stay until then.
"""

from typing import Any

import boto3
from botocore.exceptions import ClientError
from drain import drain
from fleetview import error_code, services_of


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In and out: as drain.py has it."""
    services = services_of(events["Cluster"]) if events["Cluster"] else []
    daemons = sum(one.get("schedulingStrategy") == "DAEMON" for one in services)
    return drain(events, end=end, daemons=daemons)


def end(instance: str) -> None:
    """Send a host away; the group's desired number stays. One that has gone by itself is no error."""
    try:
        boto3.client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=instance, ShouldDecrementDesiredCapacity=False
        )
    except ClientError as error:
        if error_code(error) != "ValidationError":
            raise
