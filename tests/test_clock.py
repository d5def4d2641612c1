from datetime import UTC, datetime, timedelta

import pytest

from pipeline.clock import VirtualClock


def test_an_hour_of_virtual_time_passes_at_once() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    clock = VirtualClock(start)

    clock.sleep(3600)
    clock.sleep(0.5)

    assert clock.now() == start + timedelta(seconds=3600.5)
    assert clock.monotonic() == 3600.5


def test_virtual_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        VirtualClock().sleep(-1)
