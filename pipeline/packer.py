"""Packer as a child process: in, arguments and a listener for its lines; out, its exit code, and no process left.

Packer's own clean-up (builder, key pair, group, profile) needs it to be asked, not killed: an interrupt of ours
becomes one SIGINT to its process group, as a terminal would send it, and then we wait for it to finish.
"""

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from pipeline.clock import Clock
from pipeline.errors import MachineError

CLEAN_UP_SECONDS: Final = 300
"""How long Packer may take to undo a build after it was asked to; terminating a builder in AWS takes minutes."""


def run_packer(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None],
    clock: Clock,
) -> int:
    """Run Packer to its end; each line goes to the log file and to `on_line`. Returns the exit code.

    An exception raised in between (an interrupt, or `on_line`'s own) makes Packer cancel and clean up; it goes
    through when Packer is gone. Raises MachineError when Packer cannot be started.
    """
    words = [str(word) for word in argv]
    with log.open("a", encoding="utf-8") as log_file:
        try:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # the terminal's Ctrl-C comes to us alone, and is passed on once
            )
        except OSError as error:
            raise MachineError("Packer cannot be started", found=str(error), where=words[0]) from error
        assert process.stdout is not None  # noqa: S101 - it was asked for above
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
        try:
            while (line := lines.get()) is not None:
                log_file.write(line)
                on_line(line.rstrip("\n"))
            return process.wait()
        except BaseException:
            _cancel(process, lines, log_file, clock)
            raise


def _pump(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _cancel(process: subprocess.Popen[str], lines: queue.Queue[str | None], log_file: IO[str], clock: Clock) -> None:
    os.killpg(process.pid, signal.SIGINT)
    deadline = clock.monotonic() + CLEAN_UP_SECONDS
    while clock.monotonic() < deadline:
        try:
            line = lines.get(timeout=1)
        except queue.Empty:
            continue
        if line is None:
            break
        log_file.write(line)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
