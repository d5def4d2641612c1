"""A script in a process of its own: the script and a session in, what its handler returns out.

The process has no credentials and makes no call itself: it asks over its standard output, one JSON object a line, and
this side calls, sleeps and answers. It is ended when the step's time, in real seconds, is over.
"""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from pipeline.errors import OvenproofError
from pipeline.runbook.engine import StepFailed
from pipeline.runbook.language import LIMITS
from pipeline.runbook.seams import Halt

if TYPE_CHECKING:
    from pipeline.runbook.execute import Run
    from pipeline.runbook.scripts import Script

_CHILD: Final = Path(__file__).with_name("isolated.py")


def run_isolated(run: "Run", script: "Script", events: Any, context: Mapping[str, Any]) -> tuple[Any, str]:
    """The handler's result and what the script printed. Raises StepFailed."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull},
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: S101 - both are pipes
    watchdog = threading.Timer(LIMITS.script_seconds, process.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        first = {"source": script.source, "handler": script.handler, "events": events, "context": dict(context)}
        _send(process.stdin, {**first, **_time(run), "region": run.region})
        for line in process.stdout:
            request = json.loads(line)
            if "returned" in request:
                return request["returned"], request["log"]
            if "failed" in request:
                place = script.place(request["line"]) if request["line"] else ""
                raise StepFailed("; ".join(filter(None, [request["failed"], place])))
            _send(process.stdin, _answer(run, request))
        raise StepFailed(f"the script's process ended without a result (code {process.wait()})")
    except (BrokenPipeError, ValueError) as error:
        raise StepFailed(f"the script's process does not speak any more: {error}") from error
    finally:
        watchdog.cancel()
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def _send(stream: IO[str], value: Mapping[str, Any]) -> None:
    stream.write(json.dumps(value, default=_tagged) + "\n")
    stream.flush()


def _time(run: "Run") -> dict[str, Any]:
    return {"now": run.timer.now().timestamp(), "monotonic": run.timer.monotonic()}


def _tagged(value: Any) -> Any:
    """What JSON does not have, so that the other side can make it again."""
    if isinstance(value, datetime):
        return {"$time": value.isoformat()}
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    if hasattr(value, "read"):
        return {"$body": base64.b64encode(value.read()).decode()}
    return str(value)


def untagged(value: dict[str, Any]) -> Any:
    """The way back, for what the script passes as parameters."""
    if "$time" in value:
        return datetime.fromisoformat(value["$time"])
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    return value


def _answer(run: "Run", request: Mapping[str, Any]) -> dict[str, Any]:
    if "sleep" in request:
        run.timer.sleep(float(request["sleep"]))
        return _time(run)
    parameters = json.loads(json.dumps(request["parameters"]), object_hook=untagged)
    try:
        region = request["region"] if request["region"] != run.region else ""
        client = run.client(request["service"], region)
        if request["kind"] == "client":
            result = None
        elif request["kind"] == "call":
            result = getattr(client, request["method"])(**parameters)
        elif request["kind"] == "pages":
            result = list(client.get_paginator(request["method"]).paginate(**parameters))
        else:
            from pipeline.runbook.scripts import on_clock

            on_clock(run.timer, client.get_waiter(request["method"]).wait, **parameters)
            result = None
    except ClientError as error:
        refused = {"response": error.response, "operation": error.operation_name, "class": type(error).__name__}
        return {"refused": refused, **_time(run)}
    except OvenproofError as error:
        raise Halt(error) from error
    except (BotoCoreError, AttributeError, TypeError, ValueError, StepFailed) as error:
        return {"raised": f"{type(error).__name__}: {error}", **_time(run)}
    return {"result": result, **_time(run)}
