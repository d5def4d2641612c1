"""End an execution with the reason in its last message: the first step that failed, or the verdict that was no."""

from collections.abc import Mapping, Sequence
from typing import Any

import boto3


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Execution (of the document that this step is in), What (a sentence to begin with), After (one to end with).

    Raises RuntimeError, always: that is the step's purpose.
    """
    found = boto3.client("ssm").get_automation_execution(AutomationExecutionId=events["Execution"])
    raise RuntimeError(
        f"{events['What']}: {reason_in(found['AutomationExecution']['StepExecutions'])}. {events['After']}"
    )


def reason_in(steps: Sequence[Mapping[str, Any]]) -> str:
    """Why it went wrong: what a failed step says, or else the last verdict with a reason that is no good one."""
    for step in steps:
        if step["StepStatus"] in ("Failed", "TimedOut"):
            return f"step {step['StepName']}: {core(step.get('FailureMessage', step['StepStatus']))}"
        outputs = step.get("Outputs", {})
        state, reason = first(outputs, "State"), first(outputs, "Reason")
        if reason and state in ("failed", "shut", "blocked", "refused", "lost"):
            return f"step {step['StepName']}: {reason}"
    return "no step says why"


def core(message: str) -> str:
    """The words of the innermost document: each one around it says who failed, and repeats the rest."""
    return message.rpartition("RuntimeError: ")[2].partition("; line ")[0]


def first(outputs: Mapping[str, Any], name: str) -> str:
    for key, values in outputs.items():
        if key.rpartition(".")[2] == name and values:
            return str(values[0])
    return ""
