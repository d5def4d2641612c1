"""The same work in several regions: in, their names and what to do in one; out, what came of it in each.

Regions fail apart from each other: all are tried, and all failures are told together. An interrupt ends every wait
at its next look.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

import boto3

from pipeline import paths
from pipeline.clock import Clock
from pipeline.errors import Interrupted, MachineError, OvenproofError
from pipeline.target import aws_session
from pipeline.targets import open_session

T = TypeVar("T")

Sessions = Callable[[str], boto3.Session]
"""From a region's name to a session of its own: sessions are not shared between threads."""

WORKERS: Final = 8


def open_sessions(on: str, region: str) -> Sessions:
    """The sessions of a target; `region` is the one in which the credentials are tried.

    The local cloud is started where its images are but it does not run. Raises UsageError for a target that is none,
    CloudError without valid credentials, MachineError where nothing was ever baked on this machine.
    """
    if on == "aws":
        aws_session(region)
        return lambda name: boto3.Session(region_name=name)
    if open_session(on, region) is not None or not _anything_baked_here():
        return lambda name: _local(name)
    from pipeline.rehearsal.cloud import LocalCloud

    return LocalCloud.ensure(paths.local_root()).session


def _anything_baked_here() -> bool:
    return any((paths.local_root() / "images").glob("ami-*"))


def _local(region: str) -> boto3.Session:
    session = open_session("local", region)
    if session is None:
        raise MachineError(
            "the local cloud is empty: no image was baked on this machine",
            where=str(paths.local_root()),
            remedy="bake one first with `./run build-image`, or name the other target with `--on aws`",
        )
    return session


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What came of it, by region: a value or an error, never both."""

    values: dict[str, T]
    errors: dict[str, OvenproofError]

    def told(self) -> str:
        """The errors as one text, a region after the other."""
        return "\n".join(f"{region}: {error}" for region, error in self.errors.items())


class StoppableClock:
    """A clock whose sleep ends, and raises Interrupted, when `stop` is called in another thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End every sleep, this one and later ones."""
        self._stopped.set()

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """In slices, so that a stop is heard within a second."""
        while seconds > 0 and not self._stopped.is_set():
            self._clock.sleep(min(seconds, 1.0))
            seconds -= 1.0
        if self._stopped.is_set():
            raise Interrupted("stopped, because the command was")


def in_each(
    regions: Sequence[str], work: Callable[[str, Clock], T], *, clock: Clock, workers: int = WORKERS
) -> Outcome[T]:
    """Do `work` in each region, several at a time; it gets the region and a clock to wait by.

    Raises Interrupted, after every region has come to a halt; everything else that is an OvenproofError is in the
    outcome. With one worker the regions come one after the other in this very thread.
    """
    values: dict[str, T] = {}
    errors: dict[str, OvenproofError] = {}
    stoppable = StoppableClock(clock)

    def one(region: str) -> None:
        try:
            values[region] = work(region, stoppable)
        except Interrupted:
            raise
        except OvenproofError as error:
            errors[region] = error

    if workers == 1:
        for region in regions:
            one(region)
    else:
        with ThreadPoolExecutor(max_workers=workers) as pool:
            futures = [pool.submit(one, region) for region in regions]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                stoppable.stop()
                raise
    return Outcome(
        values={region: values[region] for region in regions if region in values},
        errors={region: errors[region] for region in regions if region in errors},
    )
