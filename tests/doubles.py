"""Stand-ins that several tests share: a clock that does not wait, a session with one prepared client."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import boto3

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class FakeClock:
    """Time that passes only by sleeping; `slept` lists the naps in seconds."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class OneClientSession(boto3.Session):
    """A session that hands out the one client it was made with, and refuses any other service."""

    def __init__(self, client: Any) -> None:
        super().__init__(region_name=client.meta.region_name)
        self._client = client

    def client(self, service_name: str, *_: Any, **__: Any) -> Any:
        expected = cast("str", self._client.meta.service_model.service_name)
        if service_name != expected:
            raise AssertionError(f"the test prepared {expected}, the code asked for {service_name}")
        return self._client
