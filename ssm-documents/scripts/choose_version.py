"""Find the launch template version that was made for this roll, and say what a refresh onto it has to be told."""

from typing import Any

import boto3
from fleetview import desired_configuration, group_named, wait_for


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Group, TemplateId, ToVersion (empty: the one described as Description), Description, Image.

    Out: State `found`, ToVersion, DesiredConfiguration.
    """

    def look() -> dict[str, Any]:
        group = group_named(events["Group"])
        if group is None:
            return {"State": "lost", "ToVersion": "", "DesiredConfiguration": {}}
        version = events["ToVersion"] or described(events["TemplateId"], events["Description"])
        if not version:
            return {"State": "waiting", "Reason": f"EC2 does not show the new version of {events['TemplateId']} yet"}
        return {
            "State": "found",
            "ToVersion": version,
            "DesiredConfiguration": desired_configuration(group, version, events["Image"]),
        }

    return wait_for(look)


def described(template: str, description: str) -> str:
    """The newest version with that description; empty when there is none."""
    ec2 = boto3.client("ec2")
    page: dict[str, Any] = {"LaunchTemplateId": template, "MaxResults": 200}
    numbers: list[int] = []
    while True:
        answer = ec2.describe_launch_template_versions(**page)
        numbers += [
            one["VersionNumber"]
            for one in answer["LaunchTemplateVersions"]
            if one.get("VersionDescription") == description
        ]
        if not answer.get("NextToken"):
            return str(max(numbers)) if numbers else ""
        page["NextToken"] = answer["NextToken"]
