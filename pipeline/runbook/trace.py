"""What an execution leaves: its status, outputs, and every step as it ran."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.runbook.values import as_json


@dataclass(frozen=True, kw_only=True)
class StepTrace:
    """One step as it ran, or `Pending` when it was never reached.

    `inputs` are resolved; `iteration` counts from 1 inside of the loop `parent`, and is 0 elsewhere.
    """

    name: str
    action: str
    status: str
    attempts: int = 0
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    started: datetime | None = None
    ended: datetime | None = None
    failure: str = ""
    iteration: int = 0
    parent: str = ""
    execution_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """The step with the documented keys and nothing else."""
        return {
            "name": self.name,
            "action": self.action,
            "status": self.status,
            "attempts": self.attempts,
            "inputs": as_json(dict(self.inputs)),
            "outputs": as_json(dict(self.outputs)),
            "started": self.started.isoformat() if self.started else None,
            "ended": self.ended.isoformat() if self.ended else None,
            "failure": self.failure,
        }


@dataclass(frozen=True, kw_only=True)
class Execution:
    """An ended execution. `steps` are in the order in which they ran, those never reached last.

    `outputs` are the document's, by `STEP.OUTPUT`. `children` are the executions that it started, in their order.
    `status` is AWS's word, or `Died`.
    """

    execution_id: str
    document: str
    status: str
    outputs: Mapping[str, Any]
    steps: tuple[StepTrace, ...]
    failure: str
    started: datetime
    ended: datetime
    parameters: Mapping[str, Any]
    children: tuple["Execution", ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The trace as data: `status`, `outputs`, `steps`."""
        return {
            "status": self.status,
            "outputs": as_json(dict(self.outputs)),
            "steps": [step.to_json() for step in self.steps],
        }

    def step(self, name: str) -> StepTrace:
        """The last run of a step. Raises KeyError for a name that the document does not have."""
        for one in reversed(self.steps):
            if one.name == name:
                return one
        raise KeyError(name)
