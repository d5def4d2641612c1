"""What another automation has put out, as values: the plan of Ovenproof-Preflight."""

import json
from typing import Any

import boto3


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Execution, of Ovenproof-Preflight. Out: its plan."""
    found = boto3.client("ssm").get_automation_execution(AutomationExecutionId=events["Execution"])
    [text] = found["AutomationExecution"]["Outputs"]["Look.Plan"]
    return dict(json.loads(text))
