"""What an execution reaches the world through: AWS calls, time, people, commands, and whoever watches or breaks it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import boto3

from pipeline.clock import Clock
from pipeline.errors import OvenproofError
from pipeline.runbook.document import Document

if TYPE_CHECKING:
    from pipeline.runbook.trace import Execution, StepTrace

Verdict = Literal["go", "cancel", "die"]


@dataclass(frozen=True, kw_only=True)
class ApprovalRequest:
    """What aws:approve asks of people."""

    step: str
    message: str
    approvers: Sequence[str]
    required: int
    notification_arn: str
    execution_id: str


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What they said. `approver` is one of the request's, or empty."""

    decision: Literal["Approve", "Reject"]
    approver: str = ""
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class PauseRequest:
    """An execution that waits for the signal Resume."""

    step: str
    execution_id: str


@dataclass(frozen=True, kw_only=True)
class CommandRequest:
    """What aws:runCommand sends. `parameters` are lists of texts by name."""

    step: str
    document_name: str
    instance_ids: Sequence[str]
    targets: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CommandAnswer:
    """How the command ended, in Run Command's words (`Success`, `Failed`, `TimedOut`, `Cancelled`)."""

    status: str
    output: str = ""
    response_code: int = 0
    command_id: str = ""


@dataclass(frozen=True, kw_only=True)
class LambdaRequest:
    """What aws:invokeLambdaFunction sends; `payload` is the JSON text."""

    step: str
    function_name: str
    payload: str
    inputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LambdaAnswer:
    """What the function returned; `payload` is the JSON text."""

    payload: str = "null"
    status_code: int = 200
    function_error: str = ""
    log_result: str = ""


@dataclass(frozen=True, kw_only=True)
class TargetRequest:
    """Targets of a rate-controlled execution that only AWS can resolve: a tag, a resource group, `*`."""

    step: str
    key: str
    values: Sequence[str]
    parameter: str
    document_name: str


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Where an execution stands when it asks whether to go on.

    `number` counts the steps of the whole run, nested executions included, from 1; `depth` is 0 for the execution that
    was asked for; `attempt` is 0 before the step.
    """

    when: Literal["before", "attempt", "after"]
    document: str
    step: str
    action: str
    number: int
    attempt: int
    depth: int
    execution_id: str


class Halt(BaseException):
    """The rehearsal itself cannot go on. Not an Exception, so that no script of a document can catch it."""

    def __init__(self, error: OvenproofError) -> None:
        super().__init__(str(error))
        self.error = error


def ignore(_: "StepTrace") -> None:
    """Watch nothing."""


def go_on(_: Moment) -> Verdict:
    """Let the execution run."""
    return "go"


@dataclass(frozen=True, kw_only=True)
class Seams:
    """Everything an execution may touch.

    session           every AWS call of every action and every script goes through its clients
    clock             every wait of every action and every script is on it
    documents         a document by name, for nested executions; raises UsageError when there is none
    approve           asked when aws:approve starts; None means that nobody answers before the timeout
    pause             asked when aws:pause starts; False means that nobody resumes it
    command           answers aws:runCommand; None, or its answer None: through the session's ssm client
    invoke            answers aws:invokeLambdaFunction; None, or its answer None: through the session's lambda client
    targets           answers what tags and resource groups stand for; None: through the session
    session_for       the session in an account and region of TargetLocations; None: always `session`
    account_id        global:ACCOUNT_ID; None: asked of sts when a step wants to know
    own_executions    ssm:StartAutomationExecution and ssm:GetAutomationExecution, called by a step or script, are
                      about executions run here; False: the session answers them
    executions        ended executions by id, this run's added: hand the same mapping to every run over one world, and
                      their documents see each other's
    permit            asked before each call of steps and scripts: document, service, operation, parameters;
                      the IAM action that it names is refused, "" lets the call go on. `permissions.evaluate` tells it
    isolate_scripts   scripts run in a process of their own, their AWS calls handed over a pipe
    watch             told when a step starts, and when it ends
    interrupt         asked before and after each step and before each further attempt: "go", "cancel" (an operator
                      cancels the execution), "die" (the engine stops dead, as if its machine had gone)
    """

    session: boto3.Session
    clock: Clock
    documents: Callable[[str], Document]
    approve: Callable[[ApprovalRequest], Approval | None] = field(default=lambda _: None)
    pause: Callable[[PauseRequest], bool] = field(default=lambda _: False)
    command: Callable[[CommandRequest], CommandAnswer | None] | None = None
    invoke: Callable[[LambdaRequest], LambdaAnswer | None] | None = None
    targets: Callable[[TargetRequest], Sequence[str] | None] | None = None
    session_for: Callable[[str, str], boto3.Session] | None = None
    account_id: str | None = None
    own_executions: bool = True
    executions: dict[str, "Execution"] = field(default_factory=dict)
    permit: Callable[[str, str, str, Mapping[str, Any]], str] | None = None
    isolate_scripts: bool = False
    watch: Callable[["StepTrace"], None] = ignore
    interrupt: Callable[[Moment], Verdict] = go_on
