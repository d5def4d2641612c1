"""A survey written down: table, JSON, CSV or a page; to a file when one is named."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.diagnosis import fixes, page, table
from pipeline.diagnosis.causes import causes
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.summary import Summary, findings
from pipeline.errors import UsageError

COLUMNS = (
    "kind", "account", "region", "cluster", "id", "status", "cause", "title", "evidence", "remedy", "fix", "agent",
    "instance_type", "image", "vpc", "group", "issues",
)  # fmt: skip


def write(format: str, ledger: Ledger, summary: Summary, out: Path | None, earlier: Sequence[Path] = ()) -> str:
    """Write the survey to `out` and say so, or return it. Raises UsageError when the file cannot be written."""
    if out is None:
        stream = io.StringIO()
        _write(format, ledger, summary, stream, earlier)
        return stream.getvalue().rstrip("\n")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", encoding="utf-8", newline="") as file:
            _write(format, ledger, summary, file, earlier)
    except OSError as error:
        raise UsageError("the result cannot be written", found=str(error), where=str(out)) from error
    return f"coverage {table.percent(summary.percent)}; written to {out}"


def _write(format: str, ledger: Ledger, summary: Summary, stream: IO[str], earlier: Sequence[Path]) -> None:
    if format == "table":
        stream.write(table.render(summary) + "\n")
    elif format == "csv":
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows(ledger):
            writer.writerow({name: _safe(str(row[name])) for name in COLUMNS})
    elif format == "html":
        stream.write(page.render(summary, earlier))
    elif format == "json":
        for piece in as_json(ledger, summary):
            stream.write(piece)


def rows(ledger: Ledger) -> Iterator[dict[str, str]]:
    """A row for each cause of each finding."""
    for finding in findings(ledger):
        for hit in finding.hits:
            cause = causes()[hit.cause]
            yield {
                "kind": finding.kind,
                "account": finding.account,
                "region": finding.region,
                "cluster": finding.cluster,
                "id": finding.id,
                "status": finding.status,
                "cause": hit.cause,
                "title": cause.title,
                "evidence": " | ".join(hit.evidence),
                "remedy": hit.remedy,
                "fix": fixes.command(finding, hit.cause),
                "agent": finding.agent,
                "instance_type": finding.instance_type,
                "image": finding.image,
                "vpc": finding.vpc,
                "group": finding.group,
                "issues": " | ".join(finding.issues),
            }


def _safe(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t" else text


def _with_commands(finding: Finding) -> dict[str, Any]:
    """A finding as JSON, each cause with the command that mends it and the account whose credentials that needs."""
    document = finding.to_json()
    for hit in document["hits"]:
        hit["command"] = fixes.command(finding, hit["cause"])
        hit["acts_in"] = fixes.acts_in(finding, hit["cause"]) if hit["command"] else ""
    return document


def as_json(ledger: Ledger, summary: Summary) -> Iterator[str]:
    """One document, piece by piece, so that 100,000 findings need no memory."""
    head: dict[str, Any] = {
        "scope": summary.scope,
        "asked_by": summary.own_account,
        "started_at": summary.started_at,
        "looked_until": summary.looked_until,
        "percent": round(summary.percent, 4),
        "hosts": dict(summary.hosts),
        "fargate_services": {status: number for status, number in summary.services.items() if number},
        "stale_rows": summary.stale,
        "statistics": ledger.head["statistics"],
        "causes": [
            {
                "cause": count.cause,
                "title": count.title,
                "level": causes()[count.cause].level,
                "remedy": table.remedy(count),
                "things": dict(count.things),
                "accounts": len(count.accounts),
                "regions": sorted(count.regions),
            }
            for count in summary.causes_by_size
        ],
        "unrecognised": dict(summary.unrecognised),
        "accounts": {account: dict(by) for account, by in sorted(summary.by_account.items())},
        "clusters": [
            {**line.to_json(), "covered_services": line.covered_services} for line in summary.clusters_by_need
        ],
        "unseen": [item.to_json() for item in summary.unseen],
        "notes": list(summary.notes),
    }
    text = json.dumps(head, indent=2)
    yield text[: text.rindex("\n}")] + ',\n  "findings": ['
    separator = "\n    "
    for finding in findings(ledger):
        yield separator + json.dumps(_with_commands(finding))
        separator = ",\n    "
    yield "\n  ]\n}\n"
