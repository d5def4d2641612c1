"""A survey as one HTML page: in, a summary and earlier results; out, a file that needs no network and no server."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.diagnosis import fixes, table
from pipeline.diagnosis.causes import causes
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import STATUSES
from pipeline.diagnosis.summary import CauseCount, Summary, summarise
from pipeline.errors import UsageError
from pipeline.templating import environment

ACCOUNTS_SHOWN = 500


def render(summary: Summary, earlier: Sequence[Path] = ()) -> str:
    """The page. `earlier` are JSON results or ledgers of former surveys. Raises UsageError for other files."""
    templates = environment(Path(__file__).parent, html=True)
    templates.filters["thousands"] = lambda number: f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return templates.get_template("page.html.j2").render(_values(summary, earlier))


def _values(summary: Summary, earlier: Sequence[Path]) -> dict[str, Any]:
    total = summary.hosts.total() or 1
    hosts = [(status, summary.hosts[status]) for status in STATUSES if summary.hosts[status]]
    gaps = sorted(
        ((account, by) for account, by in summary.by_account.items() if by["unhealthy"] + by["absent"]),
        key=lambda item: (-(item[1]["unhealthy"] + item[1]["absent"]), item[0]),
    )
    return {
        "percent": table.percent(summary.percent),
        "scope": summary.scope,
        "own": summary.own_account,
        "started_at": _moment(summary.started_at),
        "looked_until": _moment(summary.looked_until),
        "hosts": hosts,
        "bar": [(status, round(100 * number / total, 3)) for status, number in hosts],
        "bar_words": "Hosts: " + (", ".join(f"{number} {status}" for status, number in hosts) or "none"),
        "clusters": [
            {
                "name": line.name,
                "account": line.account,
                "region": line.region,
                "status": line.status,
                "on": table.monitored_by(line),
                "hosts": f"{line.covered}/{line.hosts - line.not_counted}" if line.hosts else "-",
                "fargate": f"{line.covered_services}/{line.fargate_services}" if line.fargate_services else "-",
                "why": "; ".join(causes()[cause].title for cause in line.causes)
                or table.MAKES_HEALTHY[table.monitored_by(line)],
            }
            for line in summary.clusters_by_need
        ],
        "fargate_healthy": summary.services["healthy"],
        "fargate_services": summary.services.total(),
        "clusters_healthy": sum(line.status == "healthy" for line in summary.clusters),
        "accounts": [
            {
                "account": account,
                "words": table.percent(_share(by)),
                "percent": round(_share(by), 2),
                **{status: by[status] for status in STATUSES[1:]},
            }
            for account, by in gaps[:ACCOUNTS_SHOWN]
        ],
        "accounts_more": max(0, len(gaps) - ACCOUNTS_SHOWN),
        "accounts_total": len(summary.by_account),
        "accounts_healthy": len(summary.by_account) - len(gaps),
        "causes": [_cause(count) for count in summary.causes_by_size],
        "unseen": summary.unseen_by_reason,
        "notes": list(summary.notes),
        "unrecognised": summary.unrecognised.most_common(),
        "trend": _trend(summary, earlier),
    }


def _share(by: Any) -> float:
    known = by["healthy"] + by["unhealthy"] + by["absent"]
    return 100.0 * by["healthy"] / known if known else 100.0


def _moment(text: str) -> str:
    return text.replace("T", " ").replace("+00:00", " UTC") or "-"


def _cause(count: CauseCount) -> dict[str, Any]:
    things = ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in count.things.most_common())
    return {
        "number": things,
        "title": count.title,
        "where": f"{len(count.accounts)} account{'s' if len(count.accounts) > 1 else ''}, "
        f"{', '.join(sorted(count.regions))}",
        "remedy": table.remedy(count),
        "command": fixes.command(count.examples[0], count.cause),
        "several": count.total > 1,
        "acts_in": fixes.acts_in(count.examples[0], count.cause),
        "examples": [{"place": place, "evidence": evidence} for place, evidence in table.seen(count)],
    }


def _trend(summary: Summary, earlier: Sequence[Path]) -> list[dict[str, Any]]:
    if not earlier:
        return []
    points = [_point(path) for path in earlier]
    points.append((summary.looked_until or summary.started_at, summary.percent))
    return [
        {"when": _moment(when), "words": table.percent(value), "percent": round(value, 2)}
        for when, value in sorted(points)
    ]


def _point(path: Path) -> tuple[str, float]:
    """When an earlier survey was made, and its percentage; from its JSON or its ledger."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith('{"format"'):
            before = summarise(Ledger.resume(path))
            return before.looked_until, before.percent
        document = json.loads(text)
        return str(document["looked_until"]), float(document["percent"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "an earlier result cannot be read",
            expected="a file that ./run coverage wrote with --format json or --resume",
            found=f"{type(error).__name__}: {error}",
            where=str(path),
        ) from error
