"""Take our lifecycle hook away; one that is gone already, as where the answer to an attempt was lost, is no error."""

from typing import Any

import boto3
from botocore.exceptions import ClientError
from fleetview import HOOK, error_code


def handler(events: dict[str, Any], _context: Any) -> None:
    """In: Group. Raises ClientError for what is refused for another reason."""
    try:
        boto3.client("autoscaling").delete_lifecycle_hook(AutoScalingGroupName=events["Group"], LifecycleHookName=HOOK)
    except ClientError as error:
        if error_code(error) != "ValidationError":
            raise
