"""Whether a step reads, changes or destroys, also where AWS's own preview says "undetermined".

AWS classes actions (User Guide, remediation impact types); the operation's name tells the rest.
"""

from collections.abc import Iterator
from typing import Literal

from pipeline.runbook.lint import aws
from pipeline.runbook.lint.view import Document, Step

Impact = Literal["reads", "changes", "destroys", "unknown"]
_WORST: tuple[Impact, ...] = ("reads", "unknown", "changes", "destroys")


def impact(step: Step) -> Impact:
    """What one step does to the account."""
    if step.action == "aws:executeAwsApi":
        name = step.inputs.text("Api")
        return "unknown" if not name or "{{" in name else aws.impact(name)  # type: ignore[return-value]
    if step.action in ("aws:deleteImage", "aws:deleteStack"):
        return "destroys"
    if step.action == "aws:changeInstanceState":
        if step.inputs.flag_of("CheckStateOnly"):
            return "reads"
        return "destroys" if step.inputs.text("DesiredState") == "terminated" else "changes"
    if step.action == "aws:updateVariable":
        return "reads"  # nothing outside the execution
    if step.action == "aws:loop":
        return max((impact(inner) for inner in step.steps), key=_WORST.index, default="reads")
    if step.kind is None:
        return "unknown"
    return {"mutating": "changes", "non-mutating": "reads"}.get(step.kind.impact, "unknown")  # type: ignore[return-value]


def impacts(document: Document) -> Iterator[tuple[str, Impact]]:
    """Every step's name with its impact."""
    for step in document.all_steps():
        yield step.name, impact(step)


def mutates(step: Step) -> bool:
    """Whether a step is known to change something in the account, a script's calls included."""
    from pipeline.runbook.lint.checks.scripts import looked_through

    label = impact(step)
    if label != "unknown":
        return label != "reads"
    if step.action == "aws:executeScript":
        script = looked_through(step)
        return script is not None and any(aws.impact(call.operation) != "reads" for call in script.calls.values())
    return step.action in ("aws:executeStateMachine", "aws:invokeLambdaFunction")
