"""SIGINT, SIGTERM, SIGHUP as one exception, once: what follows the first is cleaning up, which nothing interrupts."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from pipeline.errors import Interrupted

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""SIGHUP: a dropped session. Packer, in a session of its own, would not hear of it and go on alone."""


@contextmanager
def as_interrupted() -> Iterator[None]:
    """Within the block the first of these signals raises Interrupted in the main thread; later ones only say so.

    A builder costs money and an image without a proof misleads, so the second Ctrl-C does not get what the first
    one began to clean up. Who really means it has SIGKILL, and `./run sweep` afterwards. Under nohup SIGHUP stays
    ignored.
    """
    seen = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            # write(2) and not print: a handler may run in the middle of another print. Its terminal may be gone.
            with suppress(OSError, ValueError, AttributeError):
                os.write(sys.stderr.fileno(), b"still cleaning up, so that nothing stays behind; please wait\n")
            return
        seen = True
        raise Interrupted(
            f"stopped by {signal.Signals(number).name}",
            remedy="run the same command again when you want; finished downloads and builds are kept",
        )

    stops = [number for number in STOPS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in stops}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
