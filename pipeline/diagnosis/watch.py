"""`--watch`: look again and again until everything is covered, and say each time what changed."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pipeline.clock import Clock
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.summary import Summary, findings, summarise
from pipeline.diagnosis.table import percent
from pipeline.errors import ProofError
from pipeline.progress import duration

EVERY_SECONDS = 30
PATIENCE_SECONDS = 2 * 3600

Gaps = Mapping[tuple[str, str, str, str], str]
"""What is not covered, as kind, account, region and id, and why."""


def gaps(found: Iterable[Finding]) -> Gaps:
    """What counts against the percentage."""
    return {
        (item.kind, item.account, item.region, item.id): ", ".join(hit.cause for hit in item.hits) or item.status
        for item in found
        if item.status in ("unhealthy", "absent")
    }


def changes(before: Gaps, after: Gaps) -> list[str]:
    """Each thing whose state changed, in a line."""
    lines = [f"  covered: {_name(key)}" for key in sorted(before) if key not in after]
    for key in sorted(after):
        if key not in before:
            lines.append(f"  not covered any more: {_name(key)}: {after[key]}")
        elif before[key] != after[key]:
            lines.append(f"  other cause: {_name(key)}: {before[key]} -> {after[key]}")
    return lines


def _name(key: tuple[str, str, str, str]) -> str:
    kind, account, region, number = key
    return f"{kind} {number} ({account}, {region})"


def watch(
    look: Callable[[Path], Ledger],
    clock: Clock,
    *,
    show: Callable[[str], object],
    patience_seconds: float = PATIENCE_SECONDS,
) -> Summary:
    """Look until nothing that could be covered is uncovered. Raises ProofError when patience ends first."""
    began = clock.monotonic()
    before: Gaps | None = None
    while True:
        with tempfile.TemporaryDirectory(prefix="ovenproof-watch-") as folder:
            ledger = look(Path(folder) / "ledger.jsonl")
            summary, now = summarise(ledger), gaps(findings(ledger))
        spent = clock.monotonic() - began
        told = [] if before is None else changes(before, now)
        if before is None or told:
            head = f"{clock.now():%H:%M:%S} {percent(summary.percent)}, {len(now)} not covered"
            show("\n".join([head, *told]))
        if not now and not summary.unseen:
            return summary
        if spent >= patience_seconds:
            raise ProofError(
                f"not everything is covered after {duration(spent)}",
                expected="100 % of what can be covered",
                found="\n".join(f"{_name(key)}: {why}" for key, why in sorted(now.items())[:10])
                or f"parts of {len({item.account for item in summary.unseen})} accounts could not be seen",
                remedy="./run coverage says what to do about each",
            )
        before = now
        clock.sleep(EVERY_SECONDS)
