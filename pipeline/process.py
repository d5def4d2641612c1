"""The one way to run another program: an argument list, never a shell, and an error that says what to do."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import MachineError

TAIL_LINES = 15


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_seconds: float | None = None,
    remedy: str = "",
) -> str:
    """Run a program to its end and return what it printed on standard output.

    `env` replaces the whole environment when given. Raises MachineError when the program is missing,
    exits non-zero (with its last lines) or runs longer than `timeout_seconds`.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=None if env is None else dict(env),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise MachineError(
            f"the program {words[0]} is not on this machine",
            where=" ".join(words),
            remedy=remedy,
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"{words[0]} did not end within {timeout_seconds:.0f} s",
            where=" ".join(words),
            remedy=remedy,
        ) from error
    if done.returncode != 0:
        tail = (done.stderr.strip() or done.stdout.strip()).splitlines()[-TAIL_LINES:]
        raise MachineError(
            f"{words[0]} failed",
            expected="exit code 0",
            found=f"exit code {done.returncode}\n" + "\n".join(tail),
            where=" ".join(words),
            remedy=remedy,
        )
    return done.stdout
