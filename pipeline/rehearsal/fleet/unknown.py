"""What the model does not know is said, never ignored in silence."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.errors import UsageError


def names_of(filters: Iterable[Mapping[str, Any]], key: str = "Name") -> Iterator[str]:
    """The names that filters or targets go by, whatever the tag they name."""
    return ("tag:KEY" if one[key].startswith("tag:") else one[key] for one in filters)


def only_known(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raises UsageError when something is asked for that is not among the `known` ones."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UsageError(
            f"the fleet model does not know the {what} {', '.join(unknown)}",
            expected=f"one of {', '.join(sorted(known))}",
            where="pipeline/rehearsal/fleet",
            remedy="use one of them, or rehearse this document with --answers",
        )
