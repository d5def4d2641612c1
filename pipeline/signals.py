"""SIGINT and SIGTERM as one exception, once: what follows the first is cleaning up, and nothing may interrupt that."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.errors import Interrupted

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def as_interrupted() -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM raises Interrupted in the main thread; later ones only say so.

    A builder costs money and an image without a proof misleads, so the second Ctrl-C does not get what the first
    one began to clean up. Who really means it has SIGKILL, and `./run sweep` afterwards.
    """
    seen = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            # write(2) and not print: a handler may run in the middle of another print
            os.write(sys.stderr.fileno(), b"still cleaning up, so that nothing stays behind; please wait\n")
            return
        seen = True
        raise Interrupted(
            f"stopped by {signal.Signals(number).name}",
            remedy="run the same command again when you want; finished downloads and builds are kept",
        )

    before = {number: signal.signal(number, stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
