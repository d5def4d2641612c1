"""What a diagnosis is made of and what it says: frozen values, all of which can be written as JSON and read back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.diagnosis.causes import Hit

Status = Literal["healthy", "unhealthy", "absent", "excluded", "unsupported"]
STATUSES: tuple[Status, ...] = ("healthy", "unhealthy", "absent", "excluded", "unsupported")
Kind = Literal["host", "service", "cluster"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not healthy: a host, a Fargate service, or a cluster as a whole."""

    kind: Kind
    account: str
    region: str
    id: str
    status: Status
    hits: tuple[Hit, ...]
    cluster: str = ""
    vpc: str = ""
    group: str = ""
    issues: tuple[str, ...] = ()
    agent: str = ""
    instance_type: str = ""
    image: str = ""
    system: str = ""
    """Whose texts GuardDuty has for it: ec2, bottlerocket or fargate."""
    vpc_owner: str = ""
    """The account that shares the VPC, where it is not the thing's own."""

    @property
    def cause(self) -> str:
        """The first cause, or nothing when none is known."""
        return self.hits[0].cause if self.hits else ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Finding":
        hits = tuple(Hit(hit["cause"], tuple(hit["evidence"]), hit["remedy"]) for hit in data["hits"])
        return cls(**{**data, "hits": hits, "issues": tuple(data["issues"])})


@dataclass(frozen=True, slots=True)
class ClusterLine:
    """A cluster with what monitors it: counts of hosts by status, and of its Fargate services."""

    account: str
    region: str
    name: str
    hosts: int
    covered: int
    not_counted: int
    """Hosts that are excluded or unsupported."""
    fargate_services: int
    troubled_services: int
    status: Status
    causes: tuple[str, ...] = ()

    @property
    def covered_services(self) -> int:
        """Fargate services that GuardDuty has no complaint of; none where it does not know the cluster."""
        return 0 if self.status == "absent" else max(0, self.fargate_services - self.troubled_services)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ClusterLine":
        return cls(**{**data, "causes": tuple(data["causes"])})


@dataclass(frozen=True, slots=True)
class Unseen:
    """A view that nobody could take: what is missing because of it is not known, and not healthy."""

    account: str
    region: str
    what: str
    why: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AccountCount:
    """Hosts of an account in a region by status; `stale` are rows of machines that are gone."""

    account: str
    region: str
    healthy: int = 0
    unhealthy: int = 0
    absent: int = 0
    excluded: int = 0
    unsupported: int = 0
    stale: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ShardResult:
    """Everything found about some accounts in one region."""

    shard: str
    counts: tuple[AccountCount, ...] = ()
    findings: tuple[Finding, ...] = ()
    clusters: tuple[ClusterLine, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    notes: tuple[str, ...] = ()
    """What of the whole could not be taken into account."""
    looked_at: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "shard": self.shard,
            "looked_at": self.looked_at,
            "counts": [count.to_json() for count in self.counts],
            "findings": [finding.to_json() for finding in self.findings],
            "clusters": [cluster.to_json() for cluster in self.clusters],
            "unseen": [unseen.to_json() for unseen in self.unseen],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ShardResult":
        return cls(
            shard=data["shard"],
            looked_at=data["looked_at"],
            counts=tuple(AccountCount(**count) for count in data["counts"]),
            findings=tuple(Finding.from_json(finding) for finding in data["findings"]),
            clusters=tuple(ClusterLine.from_json(cluster) for cluster in data["clusters"]),
            unseen=tuple(Unseen(**unseen) for unseen in data["unseen"]),
            notes=tuple(data.get("notes", ())),
        )


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What GuardDuty's settings are for an account in a region, as far as they could be read."""

    account: str
    membership: Literal["member", "none", "suspended"] | None = None
    relationship: str = ""
    features: Mapping[str, str] = field(default_factory=dict)
    """ENABLED or DISABLED by name, additional configuration included."""
    since: str = ""
    managed_by: str = ""
