"""Which Auto Scaling groups a tag means, or in which accounts and regions that is to be asked. Reads only."""

from typing import Any

import boto3

MOST = 50  # values that a parameter or a target of SSM takes


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: TagKey, TagValue, Accounts, Regions.

    Out: Scope `here` with Groups, the smallest first, since the first one goes alone; or `elsewhere` with Accounts and
    Regions, what was left out filled in. Raises ValueError, with what to do, when there is no group or too many.
    """
    if events["Accounts"] or events["Regions"]:
        return {
            "Scope": "elsewhere",
            "Groups": [],
            "Accounts": events["Accounts"] or [boto3.client("sts").get_caller_identity()["Account"]],
            "Regions": events["Regions"] or [boto3.client("autoscaling").meta.region_name],
        }
    tag = f"{events['TagKey']}={events['TagValue']}"
    sizes: dict[str, int] = {}
    page: dict[str, Any] = {"Filters": [{"Name": f"tag:{events['TagKey']}", "Values": [events["TagValue"]]}]}
    while True:
        answer = boto3.client("autoscaling").describe_auto_scaling_groups(**page)
        sizes.update({group["AutoScalingGroupName"]: group["DesiredCapacity"] for group in answer["AutoScalingGroups"]})
        if not answer.get("NextToken"):
            break
        page["NextToken"] = answer["NextToken"]
    if not sizes:
        raise ValueError(f"no Auto Scaling group has the tag {tag}: tag the groups that are to be rolled together")
    if len(sizes) > MOST:
        raise ValueError(
            f"{len(sizes)} Auto Scaling groups have the tag {tag}, and SSM takes {MOST} at once: give them tag values "
            "that differ (wave-1, wave-2, ...) and roll one value after the other"
        )
    return {
        "Scope": "here",
        "Groups": sorted(sizes, key=lambda name: (sizes[name], name)),
        "Accounts": [],
        "Regions": [],
    }
