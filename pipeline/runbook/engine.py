"""What all executions of one run share: the timer, who started what, the budget of steps, and how a step can fail."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import CatalogError, OvenproofError
from pipeline.runbook.seams import Halt, Moment, Seams
from pipeline.runbook.timer import Timer

if TYPE_CHECKING:
    import boto3

    from pipeline.runbook.document import Document
    from pipeline.runbook.trace import Execution

STEP_BUDGET: Final = 20_000
"""Steps of one run, nested executions included: a document that jumps back for ever has to end somewhere."""

NESTING_BUDGET: Final = 20
"""Executions inside of executions: a document that runs itself has to end somewhere."""

POLL_SECONDS: Final = 5.0
"""Between two looks of an action that waits. AWS does not document its own interval."""

_NAMESPACE: Final = uuid.UUID("6f76656e-7072-4f6f-8672-756e626f6f6b")


_clients: "WeakKeyDictionary[boto3.Session, dict[tuple[str, str], Any]]" = WeakKeyDictionary()


class StepFailed(Exception):
    """The step's action did not succeed; the text is its failure message."""


class Cancelled(BaseException):
    """An operator cancelled the execution while this step was the current one."""


class Died(BaseException):
    """The engine stopped dead. Nothing more is run, nothing is cleaned up."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an action yields: the answer that the step's selectors look into, its own outputs, and where it leads."""

    response: Any = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    jump: str = ""
    status: str = "Success"
    ends: bool = False
    aborts: bool = False


class Engine:
    """One run: the execution that was asked for, and every one that it starts."""

    def __init__(self, seams: Seams) -> None:
        self.seams = seams
        self.timer = Timer(seams.clock)
        self.cancelled = False
        self.steps_run = 0
        self.running: dict[str, Any] = {}
        self.waiting: dict[str, Callable[[], Execution]] = {}
        self.account_id = seams.account_id
        self._ids = 0

    def new_id(self, seed: str) -> str:
        """An id for an execution: of the right form, and the same in each repetition of a run."""
        self._ids += 1
        return str(uuid.uuid5(_NAMESPACE, f"{seed}/{self._ids}"))

    def count(self, document: "Document", step: str) -> int:
        """One more step is run. Raises Halt when the run does not seem to end."""
        self.steps_run += 1
        if self.steps_run > STEP_BUDGET:
            raise Halt(
                CatalogError(
                    f"the execution of {document.name} does not end",
                    expected=f"an end within {STEP_BUDGET:,} steps",
                    found=f"step {step} would be number {self.steps_run:,}",
                    where=document.where,
                    remedy="look for a branch or an onFailure that always leads back",
                )
            )
        return self.steps_run

    def count_nested(self, document: "Document", depth: int) -> None:
        """One more execution inside of others. Raises Halt when there does not seem to be a last one."""
        if depth > NESTING_BUDGET:
            raise Halt(
                CatalogError(
                    f"executions of {document.name} do not end",
                    expected=f"at most {NESTING_BUDGET} executions inside of each other",
                    found="one more",
                    where=document.where,
                    remedy="look for a document that executes itself without a condition",
                )
            )

    def ask(self, moment: Moment) -> None:
        """Ask the seam whether to go on. Raises Cancelled or Died."""
        verdict = self.seams.interrupt(moment)
        if verdict == "die":
            raise Died
        if verdict == "cancel" and not self.cancelled:
            self.cancelled = True
            raise Cancelled

    def client(self, session: "boto3.Session", service: str, region: str = "") -> Any:
        """A client, made once for each session, service and region: making one takes longer than a hundred calls.

        Raises StepFailed for an unknown service.
        """
        clients = _clients.setdefault(session, {})
        client = clients.get((service, region))
        if client is None:
            try:
                client = session.client(service, region_name=region) if region else session.client(service)  # type: ignore[call-overload]
            except (BotoCoreError, ValueError) as error:
                raise StepFailed(f"there is no client for the service {service!r}: {error}") from error
            clients[service, region] = client
        return client


def call(method: Callable[..., Any], what: str, parameters: Mapping[str, Any]) -> Any:
    """Call an operation. A refusal, AWS's or botocore's own of the parameters, fails the step.

    A fault of the model behind the session stops the run: it says nothing about the document.
    """
    try:
        return method(**parameters)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        message = error.response.get("Error", {}).get("Message", "")
        raise StepFailed(f"{what} was refused: {code}: {message}") from error
    except BotoCoreError as error:
        raise StepFailed(f"{what} cannot be called: {' '.join(str(error).split())}") from error
    except OvenproofError as error:
        raise Halt(error) from error
    except TypeError as error:
        raise StepFailed(f"{what} cannot be called: {error}") from error
