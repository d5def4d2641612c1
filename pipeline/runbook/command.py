"""`./run execute`: a document's file and where its world comes from in; a table of its steps, and its trace, out."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.clock import Clock, SystemClock, VirtualClock
from pipeline.errors import ExecutionError, OvenproofError, UsageError
from pipeline.runbook.answers import NO_ANSWERS, Answers, read_answers
from pipeline.runbook.document import Document, read_document, read_text
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import (
    Approval,
    ApprovalRequest,
    CommandAnswer,
    CommandRequest,
    LambdaAnswer,
    LambdaRequest,
    PauseRequest,
    Seams,
)
from pipeline.runbook.trace import Execution, StepTrace
from pipeline.whole_file import write_whole

if TYPE_CHECKING:
    import boto3

DEFAULT_REGION: Final = "eu-central-1"
NO_TERMINAL_WIDTH: Final = 160
"""Columns of a table that goes into a file or a pipe: a step is one line there, as far as can be."""
PARAMETERS_BYTES: Final = 1024 * 1024
_STYLES: Final = {
    "Success": "green",
    "Failed": "red",
    "TimedOut": "red",
    "Cancelled": "yellow",
    "Exited": "yellow",
    "Pending": "dim",
}


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Where people are: what is printed goes out here, and questions are asked if somebody is there to answer."""

    console: Console
    ask: Callable[[str], str] | None


def terminal() -> Terminal:
    """The user's own; nobody is there when standard input is not a terminal."""
    width = None if sys.stdout.isatty() else NO_TERMINAL_WIDTH
    return Terminal(console=Console(highlight=False, width=width), ask=input if sys.stdin.isatty() else None)


def execute_file(
    document: str,
    *,
    parameters: str = "",
    fleet: str = "",
    endpoint_url: str = "",
    answers: str = "",
    trace: str = "",
    isolate_scripts: bool = False,
    to: Terminal | None = None,
) -> None:
    """Execute a document's file against a fleet's model, an endpoint, or prepared answers.

    Prints a table of the steps; writes the trace as JSON. Raises ExecutionError when it does not end Success,
    UsageError when the options or the parameters are wrong, CatalogError when a file is.
    """
    shown = to or terminal()
    worlds = [
        name for name, given in (("--fleet", fleet), ("--endpoint-url", endpoint_url), ("--answers", answers)) if given
    ]
    if fleet and endpoint_url:
        raise UsageError(
            "the world of the execution is given twice",
            expected="one of --fleet FILE, --endpoint-url URL, --answers FILE",
            found=" and ".join(worlds),
        )
    if endpoint_url and urlsplit(endpoint_url).scheme not in ("http", "https"):
        raise UsageError("--endpoint-url is no address", expected="such as http://127.0.0.1:5000", found=endpoint_url)
    if not document:
        raise UsageError("no document was named", expected="--document FILE")
    path = _file(document, "--document")
    read = read_document(path)
    given = read_parameters(parameters)
    prepared = read_answers(_file(answers, "--answers")) if answers else NO_ANSWERS
    session, clock = _world(fleet, endpoint_url, prepared)
    steps: list[StepTrace] = []
    seams = Seams(
        session=session,
        clock=clock,
        documents=beside(path),
        approve=_approver(prepared, shown),
        pause=_pauser(prepared, shown),
        command=_commander(prepared, shown, modelled=bool(fleet or endpoint_url)),
        invoke=_invoker(prepared, modelled=bool(fleet or endpoint_url)),
        account_id=None if fleet or endpoint_url else prepared.account_id,
        own_executions="ssm.StartAutomationExecution" not in prepared.by_key,
        isolate_scripts=isolate_scripts,
        watch=lambda step: _remember(steps, step),
    )
    try:
        execution = execute(read, given, seams)
    except OvenproofError:
        if steps:
            shown.console.print(table(steps))
        raise
    _show(execution, shown.console)
    if trace:
        _write(trace, execution)
    if execution.status != "Success":
        raise ExecutionError(
            f"the execution of {read.name} ended {execution.status}",
            expected="Success",
            found=execution.failure,
            where=f"{document}, execution {execution.execution_id}",
            remedy="read the failures in the table above" + (f" and the trace in {trace}" if trace else ""),
        )


def _file(name: str, option: str) -> Path:
    path = Path(name)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "something that is no file" if path.exists() else "no such file"
        raise UsageError(f"{option} names no file", expected="a file that can be read", found=found, where=name)
    return path


def read_parameters(given: str) -> dict[str, Any]:
    """Parameters from JSON text, or from a file of JSON or YAML. Raises UsageError."""
    if not given.strip():
        return {}
    text, where = given, "--parameters"
    if not given.lstrip().startswith("{"):
        path = _file(given, "--parameters")
        text, where = read_text(path, limit=PARAMETERS_BYTES, hint="pass a pointer to large values"), given
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(
            "the parameters cannot be read",
            expected='JSON such as {"Name": "value"}, or a file of it',
            found=" ".join(str(error).split()),
            where=where,
        ) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(
            "the parameters are not a mapping", expected='{"Name": "value"}', found=type(value).__name__, where=where
        )
    return {str(name): item for name, item in value.items()}


def _world(fleet: str, endpoint_url: str, prepared: Answers) -> "tuple[boto3.Session, Clock]":
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
    if endpoint_url:
        from pipeline.rehearsal.cloud import session_to

        return session_to(endpoint_url, region), SystemClock()
    clock = VirtualClock()
    if fleet:
        from pipeline.rehearsal.fleet.session import fleet_session
        from pipeline.rehearsal.fleet.spec import read_fleet
        from pipeline.rehearsal.fleet.world import World

        return fleet_session(World(read_fleet(_file(fleet, "--fleet")), clock)), clock
    return prepared.session(region), clock


def beside(path: Path) -> Callable[[str], Document]:
    """Documents by name: from the folder of the one that is executed, by their file's name; else Ovenproof's own."""
    read: dict[str, Document] = {}

    def find(name: str) -> Document:
        bare = name.rpartition("document/")[2] if name.startswith("arn:") else name
        if bare not in read:
            tried = [path.parent / f"{bare}{suffix}" for suffix in (".yaml", ".yml", ".json")]
            found = next((one for one in tried if "/" not in bare and one.is_file()), None)
            if found is None and bare.startswith("Ovenproof-"):
                from pipeline.documents import document_named

                return document_named(bare)
            if found is None:
                raise UsageError(
                    f"there is no document {name}",
                    expected=" or ".join(one.name for one in tried),
                    found="no such file",
                    where=str(path.parent),
                    remedy="put the document that is started beside the one that starts it",
                )
            read[bare] = read_document(found)
        return read[bare]

    return find


# --- people ---


def _approver(prepared: Answers, shown: Terminal) -> Callable[[ApprovalRequest], Approval | None]:
    def approve(request: ApprovalRequest) -> Approval | None:
        if f"approve.{request.step}" in prepared.by_key:
            return prepared.approval(request)
        if shown.ask is None:
            return None
        while True:
            said = (
                shown.ask(f"{request.step}: {request.message or 'approval is wanted'} [approve/reject/nobody] ")
                .strip()
                .lower()
            )
            if said in ("approve", "a", "yes", "y"):
                return Approval(decision="Approve", approver=(*request.approvers, "")[0])
            if said in ("reject", "r", "no", "n"):
                return Approval(decision="Reject", approver=(*request.approvers, "")[0])
            if said == "nobody":
                return None

    return approve


def _pauser(prepared: Answers, shown: Terminal) -> Callable[[PauseRequest], bool]:
    def pause(request: PauseRequest) -> bool:
        said = prepared.resumes(request.step)
        if said is None and shown.ask is not None:
            shown.ask(f"{request.step}: the execution is paused; Enter resumes it ")
            return True
        return bool(said)

    return pause


def _commander(
    prepared: Answers, shown: Terminal, *, modelled: bool
) -> Callable[[CommandRequest], CommandAnswer | None]:
    """The file's answer; else Run Command in whatever answers the session's calls; else somebody at the terminal."""

    def command(request: CommandRequest) -> CommandAnswer | None:
        found = prepared.command(request.step)
        if found is not None or modelled or "ssm.SendCommand" in prepared.by_key:
            return found
        what = f"{request.document_name} on {', '.join(request.instance_ids) or 'targets'}"
        if shown.ask is None:
            example = "{Status: Success, Output: done}"
            raise prepared.missing(f"command.{request.step}", example, f"a command: {what}")
        status = shown.ask(f"{request.step}: {what}; how does it end? [Success/Failed/TimedOut] ").strip() or "Success"
        output = shown.ask(f"{request.step}: what does it print? ")
        return CommandAnswer(status=status, output=output, response_code=0 if status == "Success" else 1)

    return command


def _invoker(prepared: Answers, *, modelled: bool) -> Callable[[LambdaRequest], LambdaAnswer | None]:
    def invoke(request: LambdaRequest) -> LambdaAnswer | None:
        found = prepared.invocation(request.step)
        if found is not None or modelled or "lambda.Invoke" in prepared.by_key:
            return found
        example = "{Payload: '{}', StatusCode: 200}"
        raise prepared.missing(f"invoke.{request.step}", example, f"the function {request.function_name} is invoked")

    return invoke


# --- what is shown ---


def _remember(steps: list[StepTrace], step: StepTrace) -> None:
    """The newest state of each step, for a table when there is no execution to show."""
    if steps and (steps[-1].name, steps[-1].started) == (step.name, step.started):
        steps[-1] = step
    else:
        steps.append(step)


def _show(execution: Execution, console: Console) -> None:
    for child in execution.children:
        console.print(table(child.steps, title=f"{child.document}, started by {execution.document}: {child.status}"))
    console.print(table(execution.steps, title=execution.document))
    for name, value in execution.outputs.items():
        console.print(f"{escape(name)}: {escape(json.dumps(value, default=str))}")
    if execution.status == "Success":
        took = (execution.ended - execution.started).total_seconds()
        console.print(f"[green]Success[/] after {took:,.0f} s of the execution's own time")


def table(steps: Sequence[StepTrace], title: str = "") -> Table:
    """The steps in their order: what ran, how it ended, how long it took, why it failed."""
    shown = Table(title=escape(title) if title else None, title_justify="left", box=None, pad_edge=False)
    shown.add_column("step", overflow="fold")
    shown.add_column("action", overflow="fold")
    shown.add_column("status", no_wrap=True)
    shown.add_column("tries", justify="right")
    shown.add_column("s", justify="right")
    shown.add_column("failure", overflow="fold")
    for step in steps:
        seconds = f"{(step.ended - step.started).total_seconds():,.0f}" if step.started and step.ended else ""
        name = f"  {step.name} #{step.iteration}" if step.parent else step.name
        style = _STYLES.get(step.status, "")
        shown.add_row(
            escape(name),
            escape(step.action.removeprefix("aws:")),
            f"[{style}]{step.status}[/]" if style else step.status,
            str(step.attempts or ""),
            seconds,
            escape(step.failure),
        )
    return shown


def _write(trace: str, execution: Execution) -> None:
    try:
        write_whole(Path(trace), json.dumps(execution.to_json(), indent=2, default=str) + "\n")
    except OSError as error:
        raise UsageError(
            "the trace cannot be written", expected="a path that can be written", found=str(error), where=trace
        ) from error
