"""A clock with ends: whatever waits on it stops at the earliest time limit around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from pipeline.clock import Clock


@dataclass(eq=False)
class Deadline:
    """The end of a limit, on the clock's `monotonic`."""

    at: float
    seconds: float


class TimeUp(BaseException):
    """A limit is over. Not an Exception, so that no script of a document can catch it."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__(f"not done after {deadline.seconds:g} s")
        self.deadline = deadline


class Timer:
    """The clock of one run, a `Clock` itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: list[Deadline] = []

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass, but only up to the earliest limit. Raises TimeUp there."""
        if self._deadlines:
            first = min(self._deadlines, key=lambda deadline: deadline.at)
            left = first.at - self._clock.monotonic()
            if seconds > left:
                self._clock.sleep(max(left, 0.0))
                raise TimeUp(first)
        self._clock.sleep(seconds)

    def check(self) -> None:
        """Raise TimeUp if a limit is over already: something took long without sleeping on this clock."""
        now = self._clock.monotonic()
        for deadline in self._deadlines:
            if now > deadline.at:
                raise TimeUp(deadline)

    @contextmanager
    def limit(self, seconds: float | None) -> Iterator[Deadline | None]:
        """A limit for what happens inside; None is no limit."""
        if seconds is None:
            yield None
            return
        deadline = Deadline(self._clock.monotonic() + seconds, seconds)
        self._deadlines.append(deadline)
        try:
            yield deadline
            self.check()
        finally:
            self._deadlines.remove(deadline)

    @contextmanager
    def no_limits(self) -> Iterator[None]:
        """The limits around stand still: what happens inside is not on whoever waits for it."""
        begun, outer = self._clock.monotonic(), self._deadlines
        self._deadlines = []
        try:
            yield
        finally:
            passed = self._clock.monotonic() - begun
            for deadline in outer:
                deadline.at += passed
            self._deadlines = outer
