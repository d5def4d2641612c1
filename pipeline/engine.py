"""Where our Automation documents run: SSM Automation, or our own executor over a fleet model; one question to both.

In: a document's name and its parameters. Out: how it ended, each step told as it comes.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import boto3

from pipeline.aws_errors import aws_errors
from pipeline.catalog import load_catalog
from pipeline.clock import SystemClock, VirtualClock
from pipeline.documents import document_named, document_text
from pipeline.errors import ExecutionError, UsageError
from pipeline.progress import duration
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Seams, TargetRequest
from pipeline.runbook.trace import Execution, StepTrace

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

POLL_SECONDS: Final = 5
GROUP_TAG: Final = "tag:aws:autoscaling:groupName"
ENDED: Final = ("Success", "Failed", "TimedOut", "Cancelled", "CompletedWithSuccess", "CompletedWithFailure")

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an execution ended: SSM's status, its outputs by `STEP.OUTPUT` as texts, what failed, seconds it took."""

    id: str
    status: str
    outputs: Mapping[str, str]
    failure: str
    seconds: float

    @property
    def good(self) -> bool:
        return self.status == "Success"

    def error(self, what: str, *, remedy: str, found: str = "") -> ExecutionError:
        """The error of whoever needed it to end Success."""
        return ExecutionError(
            what, expected="Success", found=found or self.failure, where=f"execution {self.id}", remedy=remedy
        )


class Engine(Protocol):
    """Where documents run."""

    @property
    def session(self) -> boto3.Session:
        """The session that reads the same account."""

    def run(self, document: str, parameters: Mapping[str, Any], say: Say) -> Ended:
        """Run one of our documents to its end, and say each step as it comes."""


@dataclass(frozen=True)
class ModelEngine:
    """Our own executor over a fleet model; the clock is the model's."""

    seams: Seams

    @property
    def session(self) -> boto3.Session:
        return self.seams.session

    def run(self, document: str, parameters: Mapping[str, Any], say: Say) -> Ended:
        clock = self.seams.clock
        began = clock.now()

        def watch(step: StepTrace) -> None:
            if step.ended is not None and step.status != "Pending":
                say(_line((step.ended - began).total_seconds(), step.name, step.status, step.outputs, step.failure))

        execution = execute(document_named(document), parameters, replace(self.seams, watch=watch))
        return Ended(
            id=execution.execution_id,
            status=execution.status,
            outputs={name: _text(value) for name, value in execution.outputs.items()},
            failure=_failure(execution),
            seconds=(execution.ended - execution.started).total_seconds(),
        )


@dataclass(frozen=True)
class AwsEngine:
    """SSM Automation. Ctrl-C leaves the execution running and says how to come back to it."""

    session: boto3.Session
    role: str = ""

    def run(self, document: str, parameters: Mapping[str, Any], say: Say) -> Ended:
        given = dict(parameters) | ({"AutomationAssumeRole": self.role} if self.role else {})
        with aws_errors(
            f"SSM did not start {document}",
            where=f"SSM in {self.session.region_name}",
            remedy="publish the documents with `./run publish-documents`; the caller needs "
            "ssm:StartAutomationExecution on them",
        ):
            started = self.session.client("ssm").start_automation_execution(
                DocumentName=document, Parameters={name: _texts(value) for name, value in given.items()}
            )
        return self.follow(started["AutomationExecutionId"], say)

    def follow(self, execution_id: str, say: Say) -> Ended:
        """Say each step of an execution that is under way, until it ends."""
        ssm: Any = self.session.client("ssm")
        clock = SystemClock()
        told: set[str] = set()
        began = time.time()
        try:
            while True:
                with aws_errors(
                    f"SSM does not show the execution {execution_id}",
                    where=f"SSM in {self.session.region_name}",
                    remedy="the caller needs ssm:GetAutomationExecution; the execution itself goes on",
                ):
                    found = ssm.get_automation_execution(AutomationExecutionId=execution_id)["AutomationExecution"]
                for step in found.get("StepExecutions", []):
                    key = f"{step['StepExecutionId']} {step['StepStatus']}"
                    if step["StepStatus"] in ("Pending", "InProgress", "Waiting") or key in told:
                        continue
                    told.add(key)
                    outputs = {name: values[0] if values else "" for name, values in step.get("Outputs", {}).items()}
                    failure = step.get("FailureMessage", "")
                    say(_line(time.time() - began, step["StepName"], step["StepStatus"], outputs, failure))
                if found["AutomationExecutionStatus"] in ENDED:
                    break
                clock.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            say(
                f"detached: the execution {execution_id} goes on in {self.session.region_name}\n"
                f"  come back:  ./run roll --on aws --region {self.session.region_name} --follow {execution_id}\n"
                "  cancel it:  aws ssm stop-automation-execution --type Cancel "
                f"--automation-execution-id {execution_id}"
            )
            raise
        ended = found.get("ExecutionEndTime")
        return Ended(
            id=execution_id,
            status=found["AutomationExecutionStatus"],
            outputs={name: values[0] if values else "" for name, values in found.get("Outputs", {}).items()},
            failure=found.get("FailureMessage", ""),
            seconds=(ended - found["ExecutionStartTime"]).total_seconds() if ended else time.time() - began,
        )


def _line(seconds: float, name: str, status: str, outputs: Mapping[str, Any], failure: str) -> str:
    reason = _words(failure) or next(
        (str(value) for key, value in outputs.items() if key.rpartition(".")[2] == "Reason"), ""
    )
    return f"{duration(seconds):>12}  {name:<16} {status:<9} {reason}".rstrip()


def _failure(execution: Execution) -> str:
    """The last step's own words: our documents end with the step that says why."""
    failed = [step for step in execution.steps if step.status in ("Failed", "TimedOut")]
    return _words(failed[-1].failure if failed else execution.failure)


def _words(failure: str) -> str:
    """What the innermost document says: each one around it says who failed, and repeats the rest."""
    return failure.rpartition("RuntimeError: ")[2].partition("; line ")[0]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    if isinstance(value, bool):
        return [str(value).lower()]
    return [str(value)]


def open_model(fleet: str) -> "tuple[ModelEngine, World]":
    """A fleet's model from a file, or the example of that name, and the engine over it.

    Raises UsageError or CatalogError.
    """
    from pipeline.rehearsal.fleet.spec import fleet_named
    from pipeline.rehearsal.fleet.world import World

    world = World(fleet_named(fleet or "twenty"), VirtualClock())
    return ModelEngine(model_seams(world)), world


@contextmanager
def open_guests(fleet: str, session: boto3.Session, *, old: str, new: str) -> "Iterator[tuple[ModelEngine, World]]":
    """A fleet's model whose hosts are guests of the local cloud, and the engine over it; no guest is left at the end.

    `session` is the local cloud's; its images `old` and `new` stand for those of the fleet file. Raises what
    `open_model` raises, and CloudError when guests of the old image do not come up.
    """
    from pipeline.rehearsal.fleet.guests import Guests, with_images
    from pipeline.rehearsal.fleet.spec import fleet_named
    from pipeline.rehearsal.fleet.world import World

    clock = SystemClock()
    spec = with_images(fleet_named(fleet or "pair"), session, old=old, new=new)
    with Guests(session, clock, document_text) as guests:
        world = World(spec, clock, machines=guests)
        yield ModelEngine(model_seams(world)), world


def model_seams(world: "World", *, check_answers: bool = False) -> Seams:
    """How our documents reach a fleet model: its session, its clock, and its groups by their tag, as SSM finds them."""
    from pipeline.rehearsal.fleet.session import fleet_session

    def targets(request: TargetRequest) -> Sequence[str] | None:
        if request.key != GROUP_TAG:
            return None
        return [host.id for host in world.hosts.values() if host.group and host.group.spec.name in request.values]

    return Seams(
        session=fleet_session(world, check_answers=check_answers),
        clock=world.clock,
        documents=document_named,
        account_id=world.spec.account,
        targets=targets,
    )


def open_engine(on: str, region: str, fleet: str) -> "tuple[Engine, World | None]":
    """The engine of that name, and the model behind it if there is one. Raises UsageError for a name that is none."""
    match on:
        case "aws":
            if fleet:
                raise UsageError("--fleet is for the model", expected="--on local with --fleet", where="--fleet")
            from pipeline.target import aws_session

            return AwsEngine(aws_session(region or load_catalog().default_region)), None
        case "local":
            return open_model(fleet)
    raise UsageError(f"there is no target {on}", expected="local or aws", found=on, where="--on")
