"""A survey as text for a terminal: causes first, the biggest first, each with its remedy."""

import re
import textwrap
from collections import Counter
from collections.abc import Sequence

from pipeline.diagnosis import fixes
from pipeline.diagnosis.causes import causes, left_open
from pipeline.diagnosis.model import ClusterLine, Finding, Status
from pipeline.diagnosis.summary import OPEN, CauseCount, Summary

WIDTH = 118
CLUSTERS_SHOWN, ACCOUNTS_SHOWN, UNSEEN_SHOWN = 25, 10, 10


def render(summary: Summary) -> str:
    """The whole table."""
    parts = [_headline(summary), _causes(summary), _clusters(summary), _accounts(summary), _unseen(summary)]
    return "\n\n".join(part for part in parts if part)


def percent(value: float) -> str:
    """A percentage that says 100 only when nothing is missing."""
    return "100 %" if value >= 100 else f"{min(value, 99.99):.2f}".rstrip("0").rstrip(".") + " %"


def _headline(summary: Summary) -> str:
    hosts, services = summary.hosts, summary.services
    lines = [
        f"coverage {percent(summary.percent)} of what can be covered ({summary.scope})",
        f"  hosts:    {_counts(hosts)}",
    ]
    if services.total():
        lines.append(f"  Fargate:  services {_counts(services)}")
    if summary.clusters:
        by = Counter(line.status for line in summary.clusters)
        lines.append(f"  clusters: {_counts(by)}")
    if summary.unseen:
        accounts = len({item.account for item in summary.unseen})
        lines.append(f"  not seen: parts of {accounts} account{'s' if accounts > 1 else ''}; not known, see below")
    if summary.stale:
        lines.append(f"  note:     GuardDuty still lists {summary.stale} instances that are gone; they are not counted")
    for note in summary.notes:
        lines += _wrapped("note:", note)
    return "\n".join(lines)


def _counts(by: Counter[Status]) -> str:
    order: tuple[Status, ...] = ("healthy", "unhealthy", "absent", "excluded", "unsupported")
    found = [f"{by[status]:,} {status}".replace(",", " ") for status in order if by[status]]
    return ", ".join(found) or "none"


def _causes(summary: Summary) -> str:
    parts = [_cause(count) for count in summary.causes_by_size]
    if any(count.total > 1 and count.fix for count in summary.causes_by_size):
        parts.append("each `run:` is that of the first one; all of them, filled in: ./run fix --on aws")
    return "\n\n".join(parts)


def _cause(count: CauseCount) -> str:
    cause = causes()[count.cause]
    things = ", ".join(
        f"{number:,} {kind}{'s' if number > 1 else ''}".replace(",", " ") for kind, number in count.things.most_common()
    )
    where = f"{len(count.accounts)} account{'s' if len(count.accounts) > 1 else ''}, {', '.join(sorted(count.regions))}"
    lines = [f"{things}: {cause.title}  [{count.cause}]", f"  where:  {where}"]
    for where, evidence in seen(count):
        lines += _wrapped("seen:", f"{where}: {evidence}")
    if count.total > len(count.examples):
        lines.append(f"          and {count.total - len(count.examples):,} more".replace(",", " "))
    lines += _do(remedy(count))
    first = count.examples[0]
    if line := fixes.command(first, count.cause):
        lines.append(f"  run:    {line}")  # in one piece, to be copied
        if account := fixes.acts_in(first, count.cause):
            lines.append(f"  as:     somebody of account {account}")
    return "\n".join(lines)


def _do(text: str) -> list[str]:
    """A remedy; a command at its start is left in one piece, to be copied."""
    if not text.startswith("aws "):
        return _wrapped("do:", text)
    command, *rest = re.split(r"; | (?=\()", text, maxsplit=1)
    return [f"  do:     {command}", *(line for part in rest for line in _wrapped("", part))]


def remedy(count: CauseCount) -> str:
    """What to do, filled in where it is the same for all things; else with what differs left open."""
    if count.total == 1:
        return next(hit.remedy for hit in count.examples[0].hits if hit.cause == count.cause)
    return left_open(causes()[count.cause].remedy) if count.varies else count.remedy


def seen(count: CauseCount) -> list[tuple[str, str]]:
    """Examples as place and evidence; those of which the same was seen stand together."""
    together: dict[tuple[str, ...], list[tuple[Finding, str]]] = {}
    for example in count.examples:
        evidence = "; ".join(next(hit.evidence for hit in example.hits if hit.cause == count.cause))
        key = (example.kind, example.account, example.region, example.cluster, evidence.replace(example.id, OPEN))
        together.setdefault(key, []).append((example, evidence))
    return [
        (place(*(example for example, _ in alike)), alike[0][1] if len(alike) == 1 else key[-1])
        for key, alike in together.items()
    ]


def place(finding: Finding, *neighbours: Finding) -> str:
    """What and where it is, in a few words; neighbours are named along with it."""
    cluster = f" in {finding.cluster}" if finding.cluster and finding.kind != "cluster" else ""
    names = ", ".join(item.id for item in (finding, *neighbours))
    kind = "" if finding.kind == "host" else f"{finding.kind} "
    return f"{kind}{names}{cluster} ({finding.account}, {finding.region})"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=f"  {label:<8}",
        subsequent_indent=" " * 10,
        break_long_words=False,
        break_on_hyphens=False,
    )


MAKES_HEALTHY = {
    "EC2": "kernel, agent unit and endpoint on every host; no service update",
    "Fargate": "execution role, platform 1.4.0 or later, and a new deployment or task",
    "both": "EC2 hosts: kernel, agent, endpoint; Fargate services: role, platform, a new deployment",
    "nothing": "nothing runs in it",
}


def monitored_by(line: ClusterLine) -> str:
    """Which of the two agents watches a cluster: EC2, Fargate or both."""
    if line.hosts and line.fargate_services:
        return "both"
    if line.fargate_services:
        return "Fargate"
    return "EC2" if line.hosts else "nothing"


def _clusters(summary: Summary) -> str:
    lines = summary.clusters_by_need
    if not lines:
        return ""
    rows = [
        [
            line.name,
            line.account,
            line.region,
            line.status,
            monitored_by(line),
            f"{line.covered}/{line.hosts - line.not_counted}" if line.hosts else "-",
            f"{line.covered_services}/{line.fargate_services}" if line.fargate_services else "-",
            ", ".join(line.causes) or MAKES_HEALTHY[monitored_by(line)],
        ]
        for line in lines[:CLUSTERS_SHOWN]
    ]
    head = [
        "cluster",
        "account",
        "region",
        "status",
        "watched on",
        "hosts",
        "Fargate",
        "causes, or what keeps it healthy",
    ]
    more = len(lines) - CLUSTERS_SHOWN
    return _columns(head, rows) + (f"\nand {more} more; --format csv or html has all" if more > 0 else "")


def _accounts(summary: Summary) -> str:
    gaps = {account: by for account, by in summary.by_account.items() if by["unhealthy"] + by["absent"]}
    if len(summary.by_account) < 2 or not gaps:
        return ""
    worst = sorted(gaps.items(), key=lambda item: (-(item[1]["unhealthy"] + item[1]["absent"]), item[0]))
    rows = [
        [
            account,
            str(by["healthy"]),
            str(by["unhealthy"]),
            str(by["absent"]),
            str(by["excluded"]),
            str(by["unsupported"]),
        ]
        for account, by in worst[:ACCOUNTS_SHOWN]
    ]
    more = len(worst) - ACCOUNTS_SHOWN
    head = ["account", "healthy", "unhealthy", "absent", "excluded", "unsupported"]
    table = "hosts and Fargate services of the accounts with gaps:\n" + _columns(head, rows)
    return table + (f"\nand {more} more account{'s' if more > 1 else ''} with gaps" if more > 0 else "")


def _unseen(summary: Summary) -> str:
    if not summary.unseen:
        return ""
    lines = ["not seen, so not known to be covered:"]
    unseen = summary.unseen_by_reason
    for item in unseen[:UNSEEN_SHOWN]:
        lines += textwrap.wrap(
            f"{item.account}, {item.region}: {item.what}: {item.why}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
        )
        if item.remedy:
            lines += textwrap.wrap(f"do: {item.remedy}", WIDTH, initial_indent="    ", subsequent_indent="        ")
    if len(unseen) > UNSEEN_SHOWN:
        lines.append(f"  and {len(unseen) - UNSEEN_SHOWN} more")
    return "\n".join(lines)


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )
