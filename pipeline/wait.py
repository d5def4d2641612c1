"""The one way to wait for something: look, until it is good or the time is up."""

import math
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_fixed

from pipeline.clock import Clock

T = TypeVar("T")


def poll(
    look: Callable[[], T],
    good: Callable[[T], bool],
    *,
    clock: Clock,
    timeout_seconds: float,
    every_seconds: float,
) -> T:
    """Look every `every_seconds`, for about `timeout_seconds`; return the first good answer, or else the last.

    What a last answer that is not good means, the caller decides. Whatever `look` raises goes through.
    """

    def last_answer(state: RetryCallState) -> T:
        assert state.outcome is not None  # noqa: S101 - tenacity calls this only after an attempt
        answer: T = state.outcome.result()
        return answer

    retrying = Retrying(
        stop=stop_after_attempt(max(1, math.ceil(timeout_seconds / every_seconds))),
        wait=wait_fixed(every_seconds),
        retry=retry_if_result(lambda answer: not good(answer)),
        retry_error_callback=last_answer,
        sleep=clock.sleep,
    )
    return retrying(look)
