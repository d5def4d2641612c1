"""Progress as a person, a log file and an interrupted terminal see it."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
from datetime import datetime

import pytest

from pipeline.errors import Interrupted
from pipeline.paths import CHECKOUT
from pipeline.progress import Phase, Progress, duration

SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"


class Watch:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        raise AssertionError("progress has no business with the time of day")

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (41.4, "41 s"),
        (59.6, "1 min 00 s"),
        (302, "5 min 02 s"),
        (3900, "1 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_each_phase_has_a_line_at_each_end(watch: Watch) -> None:
    log = io.StringIO()
    progress = Progress(watch, log)

    with progress.phase("build goss", expected_seconds=20) as phase:
        phase.line("github.com/goss-org/goss")
        watch.sleep(12)
        assert phase.seconds == 12
        progress.say("a word in between")
    watch.sleep(5)
    with progress.phase("boot a guest"):
        watch.sleep(3.25)

    assert phase.seconds == 12
    assert log.getvalue() == (
        "build goss ... usually 20 s\n"
        "a word in between\n"
        "build goss: done in 12 s, usually 20 s\n"
        "boot a guest ...\n"
        "boot a guest: done in 3.2 s\n"
    )


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RuntimeError("no"), "failed after"),
        (KeyboardInterrupt(), "interrupted after"),
        (Interrupted("stopped by SIGTERM"), "interrupted after"),
    ],
)
def test_an_error_is_told_and_goes_through(error: BaseException, outcome: str, watch: Watch) -> None:
    log = io.StringIO()

    with pytest.raises(type(error)) as caught, Progress(watch, log).phase("boot a guest"):
        watch.sleep(7)
        raise error

    assert caught.value is error
    assert log.getvalue() == f"boot a guest ...\nboot a guest: {outcome} 7.0 s\n"


def test_a_closed_pipe_hides_no_error(watch: Watch) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(RuntimeError, match="the real one"), Progress(watch, Closed()).phase("boot a guest"):
        raise RuntimeError("the real one")


def test_a_terminal_shows_elapsed_usual_time_and_the_last_line(watch: Watch, terminal: Terminal) -> None:
    with Progress(watch, terminal).phase("build goss", expected_seconds=20) as phase:
        phase.line("first [bold]line[/]\nsecond \x1b[31mline\x1b[0m\n\n")
        phase.line("   ")
        watch.sleep(12)
        while "12 s" not in terminal.getvalue():
            threading.Event().wait(0.05)
        assert "build goss  12 s, usually 20 s  \x1b[2msecond line" in terminal.getvalue()

    assert terminal.getvalue().endswith("build goss: done in 12 s, usually 20 s\n")


def test_phases_may_run_side_by_side(watch: Watch, terminal: Terminal) -> None:
    progress = Progress(watch, terminal)
    all_open, phases = threading.Barrier(4), dict[str, Phase]()

    def work(title: str) -> None:
        with progress.phase(title) as phases[title]:
            all_open.wait(10)
            all_open.wait(10)

    threads = [threading.Thread(target=work, args=(title,)) for title in ("packer", "plugin", "goss")]
    for thread in threads:
        thread.start()
    all_open.wait(10)
    watch.sleep(4)
    all_open.wait(10)
    for thread in threads:
        thread.join()

    assert [phases[title].seconds for title in ("packer", "plugin", "goss")] == [4, 4, 4]
    ended = [line for line in terminal.getvalue().splitlines() if "done in 4.0 s" in line]
    assert len(ended) == 3
    assert terminal.getvalue().count(HIDE_CURSOR) == terminal.getvalue().count(SHOW_CURSOR) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_gives_the_cursor_back(error: type[BaseException], watch: Watch, terminal: Terminal) -> None:
    with pytest.raises(error), Progress(watch, terminal).phase("boot a guest"):
        raise error

    assert terminal.getvalue().rindex(SHOW_CURSOR) > terminal.getvalue().rindex(HIDE_CURSOR)


def test_ctrl_c_on_a_real_terminal_leaves_it_sane() -> None:
    program = """
import threading
from pipeline.paths import CHECKOUT
from pipeline.progress import Progress
with Progress().phase("wait for ever"):
    threading.Event().wait()
"""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    screen = ""
    while "wait for ever" not in screen:
        screen += os.read(ours, 4096).decode()
    child.send_signal(signal.SIGINT)
    try:
        while more := os.read(ours, 4096).decode():
            screen += more
    except OSError:  # how Linux says that the other end of a terminal is closed
        pass
    os.close(ours)

    assert child.wait(10) != 0
    assert screen.rindex(SHOW_CURSOR) > screen.rindex(HIDE_CURSOR)
    assert "wait for ever: interrupted after" in screen
    assert "KeyboardInterrupt" in screen


def test_a_dumb_terminal_gets_plain_lines(watch: Watch, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")

    with Progress(watch, terminal).phase("boot a guest"):
        watch.sleep(1)

    assert terminal.getvalue() == "boot a guest ...\nboot a guest: done in 1.0 s\n"
