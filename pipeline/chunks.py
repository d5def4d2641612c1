"""A long list in parts, for calls that take only so many at a time."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """The items in their order, at most `size` together. (`itertools.batched` does it from Python 3.12 on.)"""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
