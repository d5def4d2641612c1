"""A machine without QEMU: it starts at once, ends when told, and its agent answers from a table."""

import base64
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.rehearsal.machine import Exit, MachineSpec


class Inline(Executor):
    """Runs what is submitted at once, so that a test sees the end of it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@dataclass
class FakeAgent:
    """Answers once `there`; `exits_with` is what every command in the guest ends with."""

    there: bool = True
    exits_with: int = 0
    prints: str = ""
    calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def answers(self) -> bool:
        return self.there

    def call(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        self.calls.append((command, arguments or {}))
        if not self.there:
            raise TimeoutError("nobody answers")
        if command == "guest-exec":
            return {"pid": 7}
        out = base64.b64encode(self.prints.encode()).decode()
        return {"exited": True, "exitcode": self.exits_with, "out-data": out}


@dataclass
class FakeMachine:
    spec: MachineSpec
    heeds_power_button: bool = True
    agent: FakeAgent = field(default_factory=FakeAgent)
    pressed: int = 0
    resets: int = 0
    pid: int | None = 4242
    resident_bytes: int = 0
    ended: Callable[[Exit], None] = lambda _: None

    def start(self, ended: Callable[[Exit], None]) -> None:
        self.ended = ended

    def power_down(self) -> None:
        self.pressed += 1
        if self.heeds_power_button:
            self.ended(Exit(code=0))

    def reset(self) -> None:
        self.resets += 1

    def kill(self) -> None:
        self.ended(Exit(code=-9))

    def snapshot_onto(self, overlay: Path) -> None:
        assert overlay.exists()


def fake_overlay(path: Path, backing: Path, *, size_bytes: int, backing_exists: bool = True) -> None:
    """A file with as much of qcow2's header as our code reads, then what it is backed by."""
    assert backing.exists() or not backing_exists
    path.write_bytes(b"QFI\xfb" + bytes(20) + size_bytes.to_bytes(8, "big") + json.dumps(str(backing)).encode())
