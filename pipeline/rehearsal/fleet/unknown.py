"""What the model does not know is said, never ignored in silence."""

from collections.abc import Iterable

from pipeline.errors import UsageError


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
