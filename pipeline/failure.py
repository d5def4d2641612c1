"""A failed build in, an error that a person can act on out: where it stopped, its last lines, the likely cause.

The causes are data, in `failure_causes.yaml`. A code that one of our scripts printed is certain; a pattern over the
last lines is a guess, and is called one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from pipeline.errors import BakeError
from pipeline.packer_output import Failed
from pipeline.yaml_file import StrictModel, load_yaml

CAUSES: Final = Path(__file__).with_name("failure_causes.yaml")
_CODE = re.compile(r"ovenproof-error: ([a-z0-9-]+): (.*)")
SHOWN_LINES: Final = 20


class KnownCause(StrictModel):
    """What is behind a failure, and what to do."""

    cause: str
    remedy: str


class CausePattern(KnownCause):
    """A cause that is recognised by what was printed."""

    match: str


class Causes(StrictModel):
    """The whole file."""

    codes: Mapping[str, KnownCause]
    matches: tuple[CausePattern, ...]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a bake failed; `certain` when a script of ours said so."""

    text: str
    remedy: str
    certain: bool


@cache
def known_causes() -> Causes:
    """The file of causes. Raises CatalogError when it is damaged."""
    return load_yaml(CAUSES, Causes)


def likely_cause(failed: Failed) -> Cause | None:
    """The cause of a failure, or None where nothing known fits."""
    causes = known_causes()
    for line in failed.last_lines:
        if said := _CODE.search(line):
            known = causes.codes.get(said[1], KnownCause(cause=said[2], remedy=f"read what {failed.phase} printed"))
            return Cause(text=known.cause, remedy=known.remedy, certain=True)
    printed = "\n".join((failed.reason, *failed.last_lines))
    for pattern in causes.matches:
        if re.search(pattern.match, printed, re.IGNORECASE):
            return Cause(text=pattern.cause, remedy=pattern.remedy, certain=False)
    return None


def bake_error(failed: Failed, log: Path) -> BakeError:
    """The error to raise for a failed build; `log` is the file that has all of Packer's output."""
    cause = likely_cause(failed)
    if cause is None:
        why = ""
    elif cause.certain:
        why = f": {cause.text}"
    else:
        why = f"; likely cause: {cause.text}"
    at = failed.phase if failed.kind == "provisioner" else f"the phase '{failed.phase}'"
    remedy = [cause.remedy if cause else "read the last lines, then the log; nothing in them is known to Ovenproof"]
    found = _texts(failed.reason)
    lines = _without_repetition(failed)
    if lines:
        found += [f"last lines of {failed.phase}:", *(f"  {line}" for line in lines)]
    if failed.left_behind:
        found += ["while cleaning up:", *(f"  {line}" for line in failed.left_behind)]
        remedy.append("run `./run sweep`: Packer could not remove everything")
    return BakeError(
        f"the bake stopped in {at}{why}",
        found="\n".join(found),
        where=str(log),
        remedy="\n".join(remedy),
    )


def _texts(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _without_repetition(failed: Failed) -> list[str]:
    """The last lines, without the one that only repeats Packer's reason; what our script said is never cut off."""
    reason = set(failed.reason.splitlines())
    lines = [line for line in failed.last_lines if line not in reason]
    return [line for line in lines[:-SHOWN_LINES] if _CODE.search(line)] + lines[-SHOWN_LINES:]
