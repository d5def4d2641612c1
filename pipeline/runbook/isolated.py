"""The other side of `isolation.py`: runs one script, asks over standard output for whatever it needs of the world.

Started as a program of its own, with Python's isolated mode; it imports nothing of this package.
"""

import base64
import datetime as real_datetime
import json
import sys
import time as real_time
import traceback
from types import ModuleType, SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

PIPE_IN, PIPE_OUT = sys.stdin, sys.stdout
FILE = "<script>"


class Side:
    """The pipe, and the time as the other side last told it."""

    now = 0.0
    monotonic = 0.0

    def ask(self, **request: Any) -> dict[str, Any]:
        PIPE_OUT.write(json.dumps(request, default=tagged) + "\n")
        PIPE_OUT.flush()
        line = PIPE_IN.readline()
        if not line:
            sys.exit(1)
        answer: dict[str, Any] = json.loads(line, object_hook=untagged)
        self.now, self.monotonic = answer["now"], answer["monotonic"]
        return answer


def tagged(value: Any) -> Any:
    if isinstance(value, real_datetime.datetime):
        return {"$time": value.isoformat()}
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


class Body:
    """A streamed answer, read once."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self) -> bytes:
        content, self._content = self._content, b""
        return content


def untagged(value: dict[str, Any]) -> Any:
    if "$time" in value:
        return real_datetime.datetime.fromisoformat(value["$time"])
    if "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    if "$body" in value:
        return Body(base64.b64decode(value["$body"]))
    return value


class Exceptions:
    """`client.exceptions`: a class by each name that is asked for, the same one each time."""

    def __init__(self) -> None:
        self.ClientError = ClientError

    def __getattr__(self, name: str) -> type[ClientError]:
        made = type(name, (ClientError,), {})
        setattr(self, name, made)
        return made


class Client:
    def __init__(self, side: Side, service: str, region: str) -> None:
        self.exceptions = Exceptions()
        self.meta = SimpleNamespace(region_name=region)
        self._side, self._service, self._region = side, service, region
        self._ask("client", "", {})

    def _ask(self, kind: str, method: str, parameters: dict[str, Any]) -> Any:
        answer = self._side.ask(
            kind=kind, service=self._service, region=self._region, method=method, parameters=parameters
        )
        if "refused" in answer:
            refused = answer["refused"]
            kind_of = ClientError if refused["class"] == "ClientError" else getattr(self.exceptions, refused["class"])
            raise kind_of(refused["response"], refused["operation"])
        if "raised" in answer:
            raise RuntimeError(answer["raised"])
        return answer["result"]

    def __getattr__(self, name: str) -> Any:
        return lambda **parameters: self._ask("call", name, parameters)

    def get_paginator(self, name: str) -> Any:
        return SimpleNamespace(paginate=lambda **parameters: iter(self._ask("pages", name, parameters)))

    def get_waiter(self, name: str) -> Any:
        return SimpleNamespace(wait=lambda **parameters: self._ask("wait", name, parameters))


def time_module(side: Side) -> ModuleType:
    module = ModuleType("time")
    module.__dict__.update({name: value for name, value in vars(real_time).items() if not name.startswith("__")})

    def sleep(seconds: float) -> None:
        side.ask(sleep=seconds)

    module.__dict__.update(
        sleep=sleep,
        time=lambda: side.now,
        time_ns=lambda: int(side.now * 1_000_000_000),
        monotonic=lambda: side.monotonic,
        perf_counter=lambda: side.monotonic,
        gmtime=lambda seconds=None: real_time.gmtime(side.now if seconds is None else seconds),
    )
    return module


def datetime_module(side: Side) -> ModuleType:
    class Like(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, cls.__mro__[1])

    class IsolatedDatetime(real_datetime.datetime, metaclass=Like):
        @classmethod
        def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
            now = real_datetime.datetime.fromtimestamp(side.now, real_datetime.UTC)
            return now.astimezone(tz) if tz else now.replace(tzinfo=None)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now()

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    class IsolatedDate(real_datetime.date, metaclass=Like):
        @classmethod
        def today(cls) -> Any:
            return IsolatedDatetime.now().date()

    module = ModuleType("datetime")
    module.__dict__.update({name: value for name, value in vars(real_datetime).items() if not name.startswith("__")})
    module.__dict__.update(datetime=IsolatedDatetime, date=IsolatedDate)
    return module


def boto3_module(side: Side, region: str) -> ModuleType:
    def client(service_name: str, region_name: str = region, **_: Any) -> Client:
        key = (service_name, region_name or region)
        if key not in clients:
            clients[key] = Client(side, *key)
        return clients[key]

    def session(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(client=client, region_name=region)

    clients: dict[tuple[str, str], Client] = {}
    module = ModuleType("boto3")
    module.__dict__.update(client=client, Session=session, session=SimpleNamespace(Session=session))
    return module


def main() -> None:
    given = json.loads(PIPE_IN.readline())
    side = Side()
    side.now, side.monotonic = given["now"], given["monotonic"]
    log: list[str] = []

    def printing(*values: Any, sep: str = " ", end: str = "\n", **_: Any) -> None:
        log.append(sep.join(map(str, values)) + end)

    for name, module in (
        ("time", time_module(side)),
        ("datetime", datetime_module(side)),
        ("boto3", boto3_module(side, given["region"])),
        ("boto3.session", boto3_module(side, given["region"])),
    ):
        sys.modules[name] = module
    result: dict[str, Any]
    try:
        space: dict[str, Any] = {"__name__": "script", "print": printing}
        exec(compile(given["source"], FILE, "exec", dont_inherit=True), space)  # noqa: S102 - it is what this is for
        handler = space.get(given["handler"])
        if not callable(handler):
            result = {"failed": f"the script has no function {given['handler']}", "line": 0}
        else:
            result = {"returned": handler(given["events"], given["context"]), "log": "".join(log)}
        text = json.dumps(result)
    except SyntaxError as error:
        text = json.dumps({"failed": f"the script cannot be read: {error.msg}", "line": error.lineno or 1})
    except SystemExit as error:
        text = json.dumps({"failed": f"the script exited with {error.code}", "line": 0})
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
        line = (lines[-1] if lines else 0) or 0
        text = json.dumps({"failed": f"{type(error).__name__}: {error}", "line": line})
    PIPE_OUT.write(text + "\n")
    PIPE_OUT.flush()


if __name__ == "__main__":
    main()
