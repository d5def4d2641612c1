"""Packer's process, played by small Python programs."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import Interrupted, MachineError
from pipeline.packer import run_packer
from pipeline.signals import as_interrupted

CLEANS_UP_ON_INTERRUPT = """
import signal, sys, time, pathlib
def stop(*_):
    print("cleaning", flush=True)
    pathlib.Path("cleaned").touch()
    sys.exit(1)
signal.signal(signal.SIGINT, stop)
print("building", flush=True)
signal.pause()
"""


def play(program: str, folder: Path, lines: list[str]) -> int:
    return run_packer(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ,
        log=folder / "packer.log",
        on_line=lines.append,
        clock=SystemClock(),
    )


def test_lines_and_exit_code_come_back(tmp_path: Path) -> None:
    lines: list[str] = []
    assert play("import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)", tmp_path, lines) == 3
    assert sorted(lines) == ["one", "two"]
    assert sorted((tmp_path / "packer.log").read_text().split()) == ["one", "two"]


def test_an_interrupt_lets_packer_clean_up_and_then_goes_through(tmp_path: Path) -> None:
    def when_building(line: str) -> None:
        assert line == "building"
        threading.Timer(0, os.kill, (os.getpid(), signal.SIGTERM)).start()

    with as_interrupted(), pytest.raises(Interrupted, match="stopped by SIGTERM"):
        run_packer(
            [sys.executable, "-c", CLEANS_UP_ON_INTERRUPT],
            cwd=tmp_path,
            env=os.environ,
            log=tmp_path / "packer.log",
            on_line=when_building,
            clock=SystemClock(),
        )
    assert (tmp_path / "cleaned").exists()
    assert (tmp_path / "packer.log").read_text() == "building\ncleaning\n"


def test_the_second_interrupt_does_not_stop_the_clean_up(capfd: pytest.CaptureFixture[str]) -> None:
    with as_interrupted():
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err == "still cleaning up, so that nothing stays behind; please wait\n"


def test_a_packer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError) as error:
        run_packer(
            [tmp_path / "packer"],
            cwd=tmp_path,
            env={},
            log=tmp_path / "packer.log",
            on_line=lambda _: None,
            clock=SystemClock(),
        )
    assert str(error.value).startswith("Packer cannot be started\n")
