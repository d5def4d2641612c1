"""aws:executeScript: the text of a Python script in, what its handler returns out.

The script runs in this process, on its own globals, with `boto3` going to the execution's session and `time` and
`datetime` on its clock. That is no sandbox: a script of a stranger's document belongs into `isolated.py`'s process.
Source: UG automation-action-executeScript.
"""

import builtins
import datetime as real_datetime
import json
import signal
import sys
import threading
import time as real_time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import botocore.waiter

from pipeline.clock import Clock
from pipeline.errors import OvenproofError, UsageError
from pipeline.runbook.document import Step, Tree
from pipeline.runbook.engine import Outcome, StepFailed
from pipeline.runbook.language import GLOBAL_VARIABLES, LIMITS, PYTHON_RUNTIMES
from pipeline.runbook.seams import Halt
from pipeline.runbook.values import Reference

if TYPE_CHECKING:
    from pipeline.runbook.execute import Run

LOG_CHARACTERS: Final = 10_000
REAL_SECONDS: float = LIMITS.script_seconds


def execute_script(run: "Run", step: Step, inputs: Mapping[str, Any]) -> Outcome:
    """Run the handler. Raises StepFailed with the script's line when it raises, or returns what AWS does not take."""
    runtime, handler = str(inputs["Runtime"]), str(inputs.get("Handler", ""))
    if runtime not in PYTHON_RUNTIMES:
        raise Halt(
            UsageError(
                f"a script of the runtime {runtime!r} is not executed here",
                expected=f"one of {', '.join(PYTHON_RUNTIMES)}",
                found=f"step {step.name}",
                where=f"{run.document.where}:{step.line}",
                remedy="PowerShell needs AWS; a Python script can be rehearsed",
            )
        )
    if not handler:
        raise StepFailed("a Python script needs a Handler")
    script = _script(run, step, inputs, handler.rpartition(".")[2])
    events = inputs.get("InputPayload", {})
    if run.seams.isolate_scripts:
        from pipeline.runbook.isolation import run_isolated

        returned, log = run_isolated(run, script, events, _context(run))
    else:
        returned, log = _run_here(run, script, events)
    payload = _payload(returned)
    outputs = {"Payload": payload, "OutputPayload": {"Payload": payload}}
    if log:
        outputs["ExecutionLog"] = log[:LOG_CHARACTERS]
    return Outcome(response={"Payload": payload}, outputs=outputs)


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script's text, the file that it stands in, and the name of its handler.

    `first_line` finds the script's first line in that file, or 0; it is looked for only when a failure is told.
    """

    source: str
    where: str
    handler: str
    first_line: Callable[[], int]

    def place(self, line: int) -> str:
        """A line of the script in words, with the text of that line."""
        lines = self.source.splitlines()
        text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        first = self.first_line()
        there = f", {self.where}:{first + line - 1}" if first else ""
        return f"line {line} of the script{there}: {text}"


def _first_line(tree: Tree, path: tuple[str | int, ...], source: str) -> int:
    """The line of a document on which a script of it begins; 0 where it is not written as a block."""
    begins = tree.line(path) + 1
    lines, written = tree.text.splitlines(), source.splitlines()
    told = written and begins <= len(lines) and lines[begins - 1].strip() == written[0].strip()
    return begins if told else 0


def _script(run: "Run", step: Step, inputs: Mapping[str, Any], handler: str) -> Script:
    """The script of the step: its text, or the attachment beside the document."""
    document = run.document
    if "Script" in inputs:
        source = str(inputs["Script"])
        return Script(
            source=source,
            where=document.where,
            handler=handler,
            first_line=lambda: _first_line(document.tree, (*step.path, "inputs", "Script"), source),
        )
    name = str(inputs["Attachment"])
    path = Path(document.where).parent / name
    if document.files and name not in document.files:
        raise StepFailed(f"the document's files do not list the attachment {name}")
    if path.suffix != ".py" or not path.is_file():
        raise Halt(
            UsageError(
                f"the attachment {name} is not there",
                expected="a .py file beside the document",
                found="no such file" if not path.is_file() else f"a {path.suffix} file",
                where=str(path),
                remedy="put the script there, unpacked",
            )
        )
    return Script(source=path.read_text(encoding="utf-8"), where=str(path), handler=handler, first_line=lambda: 1)


def _payload(returned: Any) -> Any:
    """What the handler returned, as AWS hands it on: JSON, 100 KB at most, the first 100 items of a list."""
    try:
        text = json.dumps(returned)
    except (TypeError, ValueError) as error:
        raise StepFailed(f"the handler returned what is not JSON: {error}") from error
    size = len(text.encode())
    if size > LIMITS.script_payload_bytes:
        raise StepFailed(f"the handler returned {size:,} bytes; at most {LIMITS.script_payload_bytes:,} are returned")
    payload = json.loads(text)
    return payload[: LIMITS.script_list_items] if isinstance(payload, list) else payload


@lru_cache(maxsize=512)
def _compiled(source: str, name: str) -> CodeType:
    return compile(source, name, "exec", dont_inherit=True)


_FILE: Final = "<script>"


class _RealTimeUp(BaseException):
    """A script that does not wait, but works for ever, has used up its time in real seconds."""


@contextmanager
def _real_limit() -> Iterator[None]:
    """End a script that never looks at the clock. Only the main thread can be interrupted so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise _RealTimeUp

    before = signal.signal(signal.SIGALRM, stop)
    outer = signal.setitimer(signal.ITIMER_REAL, REAL_SECONDS)  # of a script that waits for this one's execution
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)
        signal.signal(signal.SIGALRM, before)


def _run_here(run: "Run", script: Script, events: Any) -> tuple[Any, str]:
    try:
        with _real_limit():
            return _handled(run, script, events)
    except _RealTimeUp as error:
        raise StepFailed(f"the script still works after {REAL_SECONDS:g} s of real time") from error


def _handled(run: "Run", script: Script, events: Any) -> tuple[Any, str]:
    log: list[str] = []
    try:
        code = _compiled(script.source, _FILE)
        space = {"__name__": "script", "__builtins__": _builtins(run, log)}
        exec(code, space)  # noqa: S102 - running the document's script is what this action is
        handler = space.get(script.handler)
        if not callable(handler):
            raise StepFailed(f"the script has no function {script.handler}")
        return handler(events, _context(run)), "".join(log)
    except SyntaxError as error:
        raise StepFailed(f"the script cannot be read: {error.msg}; {script.place(error.lineno or 1)}") from error
    except OvenproofError as error:
        raise Halt(error) from error
    except SystemExit as error:
        raise StepFailed(f"the script exited with {error.code}") from error
    except StepFailed:
        raise
    except Exception as error:
        raise StepFailed(failure_of(error, script)) from error


def failure_of(error: Exception, script: Script) -> str:
    """The exception in words, with the script's own line nearest to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
    place = f"; {script.place(lines[-1])}" if lines and lines[-1] else ""
    return f"{type(error).__name__}: {error}{place}"


def _context(run: "Run") -> dict[str, Any]:
    return {name: run.lookup(Reference(name)) for name in GLOBAL_VARIABLES if name != "global:ACCOUNT_ID"}


# --- what a script sees ---


def _builtins(run: "Run", log: list[str]) -> dict[str, Any]:
    modules = _modules(run)

    def importing(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name in modules:
            return modules[name]
        if name == "boto3.session":
            return modules["boto3"]
        return real_import(name, *arguments, **keywords)

    def printing(*values: Any, sep: str = " ", end: str = "\n", **_: Any) -> None:
        log.append(sep.join(map(str, values)) + end)

    real_import = builtins.__import__
    return {**builtins.__dict__, "__import__": importing, "print": printing}


def _modules(run: "Run") -> dict[str, Any]:
    """The modules that reach the world: made once for an execution."""
    made = run.script_modules
    if not made:
        made["time"] = ScriptTime(run.timer)
        made["datetime"] = _datetime_module(run.timer)
        made["boto3"] = _boto3_module(run)
    return made


class ScriptTime(ModuleType):
    """The module `time` on the execution's clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("time")
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(real_time, name)

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)

    def time(self) -> float:
        return self._clock.now().timestamp()

    def time_ns(self) -> int:
        return int(self._clock.now().timestamp() * 1_000_000_000)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def perf_counter(self) -> float:
        return self._clock.monotonic()

    def gmtime(self, seconds: float | None = None) -> real_time.struct_time:
        return real_time.gmtime(self.time() if seconds is None else seconds)

    localtime = gmtime

    def strftime(self, form: str, when: Any = None) -> str:
        return real_time.strftime(form, self.gmtime() if when is None else when)


def _datetime_module(clock: Clock) -> ModuleType:
    class _Like(type):
        """Times that come from elsewhere, such as an answer of AWS, are times of this module as well."""

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, cls.__mro__[1])

    class ScriptDatetime(real_datetime.datetime, metaclass=_Like):
        @classmethod
        def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
            now = clock.now()
            return now.astimezone(tz) if tz else now.replace(tzinfo=None)

        @classmethod
        def utcnow(cls) -> Any:
            return clock.now().astimezone(real_datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    class ScriptDate(real_datetime.date, metaclass=_Like):
        @classmethod
        def today(cls) -> Any:
            return clock.now().date()

    module = ModuleType("datetime")
    module.__dict__.update({name: value for name, value in vars(real_datetime).items() if not name.startswith("__")})
    module.__dict__.update({"datetime": ScriptDatetime, "date": ScriptDate})
    return module


def _boto3_module(run: "Run") -> ModuleType:
    """`boto3` with one session, whatever credentials the script thinks of."""

    def client(service_name: str, region_name: str = "", **_: Any) -> ScriptClient:
        region = "" if region_name == run.session.region_name else region_name
        key = (service_name, region)
        if key not in clients:
            try:
                clients[key] = ScriptClient(run.client(service_name, region), run)
            except StepFailed as error:
                raise ValueError(str(error)) from error
        return clients[key]

    class Session:
        """Whatever a script makes of it, it is the execution's."""

        def __init__(self, *_: Any, **__: Any) -> None:
            self.client = client
            self.resource = resource
            self.region_name = run.region

        def __getattr__(self, name: str) -> Any:
            return getattr(run.session, name)

    def resource(service_name: str, **_: Any) -> Any:
        return run.session.resource(service_name)  # type: ignore[call-overload]

    clients: dict[tuple[str, str], ScriptClient] = {}
    module = ModuleType("boto3")
    module.__dict__.update(
        {"client": client, "resource": resource, "Session": Session, "session": SimpleNamespace(Session=Session)}
    )
    return module


class ScriptClient:
    """A client for a script: a fault of the rehearsal is not caught by the script, waiters are on the run's clock."""

    def __init__(self, client: Any, run: "Run") -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if callable(found) and name in self._client.meta.method_to_api_mapping:
            found = self._guarded(found)
        self.__dict__[name] = found
        return found

    def get_waiter(self, name: str) -> Any:
        waiter = self._client.get_waiter(name)
        return SimpleNamespace(
            name=name, config=waiter.config, wait=lambda **given: on_clock(self._run.timer, waiter.wait, **given)
        )

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **parameters: Any) -> Any:
            try:
                return method(*arguments, **parameters)
            except OvenproofError as error:
                raise Halt(error) from error

        return guarded


def on_clock(clock: Clock, wait: Callable[..., Any], **given: Any) -> Any:
    """Let one of botocore's waiters wait on another clock than the machine's."""
    module = sys.modules[botocore.waiter.__name__]
    real, module.time = module.time, ScriptTime(clock)  # type: ignore[attr-defined]
    try:
        return wait(**given)
    finally:
        module.time = real  # type: ignore[attr-defined]
