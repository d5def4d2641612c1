"""Time as a value that is handed in, so that tests wait for nothing."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The time of day, in UTC, with its zone."""

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


VIRTUAL_START: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class VirtualClock:
    """Time that passes only by sleeping, and then at once: an hour of waiting costs nothing."""

    def __init__(self, start: datetime = VIRTUAL_START) -> None:
        self._start = start
        self._seconds = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Raises ValueError for a negative length, as the machine's own clock does."""
        if seconds < 0:
            raise ValueError(f"sleep length must be non-negative, found {seconds}")
        self._seconds += seconds
