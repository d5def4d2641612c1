"""Which signals stop a bake, and that a terminal that went away with one does not stop the cleaning up."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import pytest

from pipeline.errors import Interrupted
from pipeline.signals import as_interrupted
from tasks import tells_errors


@pytest.fixture(autouse=True)
def _not_under_nohup() -> Iterator[None]:
    """Tests may be started with SIGHUP ignored, which is a setting that counts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_each_way_to_be_stopped_is_one_exception_and_the_old_handler_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with as_interrupted(), pytest.raises(Interrupted, match=f"stopped by {number.name}"):
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_a_command_under_nohup_outlives_its_session() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with as_interrupted():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def terminal(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard error as a dropped session leaves it. No fixture: pytest sets the stream anew for a test's body."""
    stream: TextIO | None = None
    if kind == "a pipe that nobody reads":
        read, write = os.pipe()
        os.close(read)
        stream = os.fdopen(write, "w", buffering=1)
    elif kind == "closed":
        stream = (tmp_path / "stderr").open("w")
        stream.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield
    if stream:
        with suppress(OSError):  # for what was written to it in vain
            stream.close()


KINDS = ["closed", "a pipe that nobody reads", "not there"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_signal_without_a_terminal_does_not_break_the_clean_up(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(kind, tmp_path, monkeypatch), as_interrupted():
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_that_nobody_can_read_any_more_keeps_its_exit_code(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @tells_errors
    def command() -> None:
        raise Interrupted("stopped by SIGHUP")

    with terminal(kind, tmp_path, monkeypatch), pytest.raises(SystemExit) as left:
        command()
    assert left.value.code == 130
