"""The table of operations, and what several of them share: pages and filters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.rehearsal.answered_session import Refused

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

Parameters = Mapping[str, Any]
Answer = dict[str, Any]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Operation:
    function: "Callable[[World, Parameters], Answer]"
    understands: frozenset[str]
    changes: bool


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str, understands: str = "", *, changes: bool = False
) -> "Callable[[Callable[[World, Parameters], Answer]], Callable[[World, Parameters], Answer]]":
    """Enter a function as `service.Operation`; `understands` lists its parameters, `changes` that it changes things."""

    def enter(function: "Callable[[World, Parameters], Answer]") -> "Callable[[World, Parameters], Answer]":
        OPERATIONS[name] = Operation(function, frozenset(understands.split()), changes)
        return function

    return enter


def page(
    items: Sequence[Item],
    given: Parameters,
    *,
    most: int,
    size: str = "MaxRecords",
    token: str = "NextToken",  # noqa: S107 - a page token
    error: str = "InvalidNextToken",
) -> tuple[Sequence[Item], dict[str, str]]:
    """One page of a list, and the token of the next as a piece of the answer; `most` is AWS's limit for a page."""
    wanted = given.get(size) or most
    if wanted > most:
        raise Refused("ValidationError", f"{size} must be {most} or less.")
    start = 0
    if given.get(token):
        mark = str(given[token])
        if not mark.startswith("page-") or not mark[5:].isdecimal():
            raise Refused(error, "The token is not valid.")
        start = int(mark[5:])
    end = start + wanted
    if start == 0 and end >= len(items):
        return items, {}
    more = {token: f"page-{end}"} if end < len(items) else {}
    return items[start:end], more


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def matches(filters: Sequence[Parameters], values: "Callable[[str], Sequence[str]]") -> bool:
    """Whether something passes every `{Name, Values}` filter; `values` gives what it has under a filter's name."""
    return all(set(one["Values"]).intersection(values(one["Name"])) for one in filters)
