"""What long work shows while it runs, on standard error.

In: phases with a title, the seconds they usually take, and lines of output as they come. Out: on a terminal one live
row a phase (elapsed, usual time, last line) and a line that stays when it ends; elsewhere one line at each end.
"""

import atexit
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.console import Console
from rich.control import strip_control_codes
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.clock import Clock, SystemClock
from pipeline.errors import Interrupted

REFRESHES_PER_SECOND = 4


def duration(seconds: float) -> str:
    """Seconds as people say them: `0.4 s`, `41 s`, `5 min 02 s`, `1 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


class Phase:
    """One piece of work under way; `Progress.phase` makes it."""

    def __init__(self, title: str, expected_seconds: float | None, clock: Clock) -> None:
        self.title = title
        self.expected_seconds = expected_seconds
        self.last_line = ""
        self.outcome = "done in"
        self._clock = clock
        self._began = clock.monotonic()
        self._took: float | None = None

    @property
    def seconds(self) -> float:
        """Elapsed seconds: so far while it runs, in all once it has ended."""
        return self._clock.monotonic() - self._began if self._took is None else self._took

    @property
    def usually(self) -> str:
        """`, usually 40 s`, or nothing where no earlier run is known."""
        return "" if self.expected_seconds is None else f", usually {duration(self.expected_seconds)}"

    def line(self, text: str) -> None:
        """Show the newest line of output; escape sequences are dropped, blank lines are ignored."""
        plain = strip_control_codes(Text.from_ansi(text).plain).strip()
        if plain:
            self.last_line = plain.splitlines()[-1]

    def fail(self) -> None:
        """Have it told as failed, although its `with` block ends without an exception."""
        self.outcome = "failed after"

    def end(self) -> None:
        """Stop the watch; `Progress.phase` calls it."""
        self._took = self.seconds


class Progress:
    """Phases of one command; they may run side by side, from several threads."""

    def __init__(self, clock: Clock | None = None, stream: TextIO | None = None) -> None:
        """Show on `stream`, standard error unless given; live when it is a terminal that can move its cursor."""
        self._clock = clock or SystemClock()
        self._stream = stream or sys.stderr
        self._console = Console(file=self._stream, highlight=False)
        self._is_live = self._stream.isatty() and not self._console.is_dumb_terminal
        self._lock = threading.RLock()
        self._open: tuple[Phase, ...] = ()  # replaced, never changed: the display's thread reads it unlocked
        self._live: Live | None = None
        if self._is_live:
            atexit.register(self._stop)  # a second Ctrl-C can fall into the clean-up after the first

    def say(self, text: str) -> None:
        """Print one line that stays, above whatever is live."""
        # A closed pipe or a terminal that went away must neither stop the work nor hide the error it ends with.
        with self._lock, suppress(OSError):
            if self._live:
                self._console.print(Text(text))
            else:
                self._stream.write(text + "\n")
                self._stream.flush()

    @contextmanager
    def phase(self, title: str, expected_seconds: float | None = None) -> Iterator[Phase]:
        """Show a piece of work while the `with` block runs; its exception, if any, is told and goes through."""
        phase = Phase(title, expected_seconds, self._clock)
        if not self._is_live:
            self.say(f"{title} ...{phase.usually.replace(',', '', 1)}")
        try:
            self._show(phase)
            yield phase
        except (KeyboardInterrupt, Interrupted):
            phase.outcome = "interrupted after"
            raise
        except BaseException:
            phase.fail()
            raise
        finally:
            phase.end()
            self._hide(phase, f"{title}: {phase.outcome} {duration(phase.seconds)}{phase.usually}")

    def _show(self, phase: Phase) -> None:
        with self._lock, suppress(OSError):
            self._open = (*self._open, phase)
            if self._is_live and not self._live:
                self._live = Live(
                    get_renderable=self._rows,
                    console=self._console,
                    refresh_per_second=REFRESHES_PER_SECOND,
                    transient=True,
                    redirect_stdout=sys.stdout.isatty(),  # results in a pipe are not for the display
                )
                self._live.start(refresh=True)

    def _hide(self, phase: Phase, last_words: str) -> None:
        with self._lock, suppress(OSError):
            self._open = tuple(other for other in self._open if other is not phase)
            if not self._open:
                self._stop()
            self.say(last_words)

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live:
            with suppress(OSError):
                live.stop()  # gives the cursor back, whatever ended the phase

    def _rows(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
        for phase in self._open:
            table.add_row(Text(phase.title), f"{duration(phase.seconds)}{phase.usually}", Text(phase.last_line))
        return table
