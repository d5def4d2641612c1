"""The findings of a survey as counts: in, a ledger; out, what the outputs show. Grows with accounts and causes only."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.diagnosis.causes import Fix, Hit, causes
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import STATUSES, ClusterLine, Finding, ShardResult, Status, Unseen

EXAMPLES = 3
OPEN = "<id>"
"""Where a sentence is about several things."""


@dataclass
class CauseCount:
    """A cause with what it affects, and the first few things affected."""

    cause: str
    things: Counter[str] = field(default_factory=Counter)
    """Hosts, services and clusters by kind."""
    statuses: Counter[Status] = field(default_factory=Counter)
    accounts: Counter[str] = field(default_factory=Counter)
    regions: Counter[str] = field(default_factory=Counter)
    examples: list[Finding] = field(default_factory=list)
    remedy: str = ""
    """What to do about the first one, its own id left open."""
    varies: bool = False
    """Whether other things need something else done: the name of another cluster is enough."""

    @property
    def total(self) -> int:
        return self.things.total()

    @property
    def title(self) -> str:
        return causes()[self.cause].title

    @property
    def fix(self) -> Fix | None:
        return causes()[self.cause].fix

    def add(self, finding: Finding, hit: Hit) -> None:
        remedy = hit.remedy.replace(finding.id, OPEN)
        self.remedy = self.remedy or remedy
        self.varies = self.varies or remedy != self.remedy
        self.things[finding.kind] += 1
        self.statuses[finding.status] += 1
        self.accounts[finding.account] += 1
        self.regions[finding.region] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(finding)


@dataclass
class Summary:
    """Everything an output shows, but for the findings themselves."""

    scope: str = ""
    own_account: str = ""
    started_at: str = ""
    looked_until: str = ""
    hosts: Counter[Status] = field(default_factory=Counter)
    services: Counter[Status] = field(default_factory=Counter)
    by_account: dict[str, Counter[Status]] = field(default_factory=dict)
    """Hosts and Fargate services, as `percent` counts them."""
    by_cause: dict[str, CauseCount] = field(default_factory=dict)
    clusters: list[ClusterLine] = field(default_factory=list)
    unseen: list[Unseen] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    """Each once, in order."""
    unrecognised: Counter[str] = field(default_factory=Counter)
    stale: int = 0
    findings: int = 0

    @property
    def percent(self) -> float:
        """Covered hosts and Fargate services of those that could be covered; 100 when there is none."""
        healthy = self.hosts["healthy"] + self.services["healthy"]
        gaps = sum(by[status] for by in (self.hosts, self.services) for status in ("unhealthy", "absent"))
        return 100.0 * healthy / (healthy + gaps) if healthy + gaps else 100.0

    @property
    def causes_by_size(self) -> list[CauseCount]:
        return sorted(self.by_cause.values(), key=lambda item: (-item.total, item.cause))

    @property
    def clusters_by_need(self) -> list[ClusterLine]:
        rank = {
            status: number
            for number, status in enumerate(("unhealthy", "absent", "unsupported", "excluded", "healthy"))
        }
        return sorted(
            self.clusters,
            key=lambda line: (rank[line.status], line.covered - line.hosts, line.account, line.region, line.name),
        )

    @property
    def unseen_by_reason(self) -> list[Unseen]:
        """What was not seen, once where several regions of an account have the same reason."""
        together: dict[tuple[str, ...], list[str]] = {}
        for item in self.unseen:
            together.setdefault((item.account, item.what, item.why, item.remedy), []).append(item.region)
        return [Unseen(key[0], ", ".join(dict.fromkeys(regions)), *key[1:]) for key, regions in together.items()]

    def add(self, result: ShardResult) -> None:
        self.looked_until = max(self.looked_until, result.looked_at)
        for count in result.counts:
            self.stale += count.stale
            for status in STATUSES:
                self._count(self.hosts, count.account, status, getattr(count, status))
        for line in result.clusters:
            self.clusters.append(line)
            self._count(self.services, line.account, "healthy", line.covered_services)
            if line.status == "absent":
                self._count(self.services, line.account, "absent", line.fargate_services)
        for finding in result.findings:
            self._add_finding(finding)
        self.unseen += result.unseen
        self.notes |= dict.fromkeys(result.notes)

    def _count(self, things: Counter[Status], account: str, status: Status, number: int) -> None:
        if number:
            things[status] += number
            self.by_account.setdefault(account, Counter())[status] += number

    def _add_finding(self, finding: Finding) -> None:
        self.findings += 1
        if finding.kind == "service":
            self._count(self.services, finding.account, finding.status, 1)
        for hit in finding.hits:
            self.by_cause.setdefault(hit.cause, CauseCount(hit.cause)).add(finding, hit)
            if hit.cause == "unrecognised":
                self.unrecognised.update(evidence.removeprefix("GuardDuty: ") for evidence in hit.evidence)


def summarise(ledger: Ledger) -> Summary:
    """Read the ledger once."""
    summary = Summary(
        scope=str(ledger.head["scope"]), own_account=str(ledger.head["own"]), started_at=str(ledger.head["started_at"])
    )
    for result in ledger.results():
        summary.add(result)
    return summary


def findings(ledger: Ledger) -> Iterable[Finding]:
    """Every finding, one at a time."""
    for result in ledger.results():
        yield from result.findings
