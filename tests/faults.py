"""API calls that fail on purpose: in, at which call and how; out, sessions that do so and count.

`refused` never reaches the cloud. `lost` takes effect there, and its answer does not arrive. `interrupted` is Ctrl-C
during the call.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import boto3
from botocore.exceptions import ClientError, ConnectionClosedError

from pipeline.errors import Interrupted, OvenproofError

How = Literal["refused", "lost", "interrupted"]
HOWS: tuple[How, ...] = ("refused", "lost", "interrupted")


@dataclass
class Faults:
    """Counts the calls of the sessions that it watches, over all of them; `names` are the calls made."""

    names: list[str] = field(default_factory=list)
    _at: int | None = None
    _how: How = "refused"

    def watch(self, session: boto3.Session) -> None:
        """Count the calls of a session from now on."""
        events: Any = session.events
        events.register_first("before-call", self._before)
        events.register("after-call", self._after)

    @contextmanager
    def armed(self, at: int | None, how: How) -> Iterator[None]:
        """Count from 0 again, and within the block let the call of that number fail."""
        self.names, self._at, self._how = [], at, how
        try:
            yield
        finally:
            self._at = None

    def calls_of(self, do: Callable[[], object]) -> int:
        """How many calls it makes when none fails."""
        with self.armed(None, "refused"):
            do()
        return len(self.names)

    def broken_off(self, at: int, how: How, do: Callable[[], object]) -> str:
        """Do it with one call failing; which call that was, in words. An interrupt has to come through."""
        with self.armed(at, how), suppress(OvenproofError, Interrupted):
            do()
            assert how != "interrupted", f"an interrupt of {self.names[at]} got lost"
        return f"call {at}, {self.names[at]}, {how}"

    def _before(self, model: Any, **_: Any) -> None:
        self.names.append(model.name)
        if self._now and self._how == "refused":
            said: Any = {"Error": {"Code": "UnauthorizedOperation", "Message": "You are not authorized."}}
            raise ClientError(said, model.name)
        if self._now and self._how == "interrupted":
            raise Interrupted("stopped by SIGINT")

    def _after(self, model: Any, **_: Any) -> None:
        if self._now and self._how == "lost":
            raise ConnectionClosedError(endpoint_url=f"https://{model.name}.example")

    @property
    def _now(self) -> bool:
        return self._at is not None and len(self.names) == self._at + 1
