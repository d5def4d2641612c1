"""An organization as a YAML file: accounts, clusters, hosts, and the problems planted in them.

In: the file. Out: a frozen `OrganizationSpec`. Problems have the names of the causes they should be diagnosed as.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.catalog import AccountId, NonEmpty, Region
from pipeline.yaml_file import StrictModel, load_yaml

EXAMPLE = Path(__file__).with_name("example.yaml")

HostProblem = Literal[
    "agent-disconnected", "agent-not-installed", "agent-restarting", "agent-silent", "agent-too-old",
    "agent-version-ended", "bottlerocket-too-old", "ecs-agent-too-old", "ecs-anywhere", "ecs-image-too-old",
    "eks-node", "exclusion-tag", "exclusion-tag-unread", "host-egress-closed", "identity-document-unreadable",
    "image-pull-failed", "kernel-above", "kernel-below", "launched-just-now", "managed-instances",
    "memlock-too-low", "metadata-off", "never-listed", "no-btf", "no-instance-profile", "prerequisites-not-met",
    "ssm-unreachable", "unit-off", "unrecognised", "unsupported-architecture", "unverified-kernel", "unverified-os",
    "windows",
]  # fmt: skip
NetworkProblem = Literal[
    "endpoint-in-another-vpc", "endpoint-in-another-zone", "endpoint-in-no-subnet", "endpoint-missing",
    "endpoint-not-available", "endpoint-policy", "endpoint-private-dns-off", "endpoint-security-group",
    "network-acl-closed", "shared-vpc-endpoint-kept", "shared-vpc-not-supported", "shared-vpc-owner-off",
    "vpc-dns-off",
]  # fmt: skip
AccountProblem = Literal[
    "agent-management-off", "association-already-gone", "association-exists", "association-missing",
    "fargate-agent-management-off", "guardduty-role-missing", "member-suspended", "not-a-member",
    "runtime-monitoring-off", "scp-denies", "too-many-associations",
]  # fmt: skip
ClusterProblem = Literal["cluster-exclusion-tag", "cluster-never-listed"]
ServiceProblem = Literal[
    "fargate-agent-exited", "fargate-architecture",
    "fargate-image-pull-failed", "fargate-launcher", "fargate-network-missing", "fargate-not-reporting",
    "fargate-platform-version", "fargate-role-missing", "fargate-service-needs-deployment",
    "fargate-services-before-agent-configuration", "fargate-services-excluded",
    "fargate-tasks-before-agent-configuration", "fargate-tasks-before-monitoring", "fargate-tasks-excluded",
    "fargate-unidentified", "fargate-windows", "role-denies",
]  # fmt: skip
OsName = Literal["al2", "al2023", "ubuntu", "bottlerocket", "windows", "other"]


class HostsSpec(StrictModel):
    """Some hosts that are alike."""

    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    os: OsName = "al2"
    type: NonEmpty = "m6i.large"
    problems: tuple[HostProblem, ...] = ()
    says: str = ""
    """A text that GuardDuty gives for them, in place of its own."""


class ServiceSpec(StrictModel):
    """A Fargate service."""

    name: NonEmpty
    tasks: Annotated[int, Field(ge=0)] = 2
    problems: tuple[ServiceProblem, ...] = ()


class ClusterSpec(StrictModel):
    """An ECS cluster in a VPC of its own, in each region of its account."""

    name: NonEmpty
    hosts: tuple[HostsSpec, ...] = ()
    services: tuple[ServiceSpec, ...] = ()
    network: tuple[NetworkProblem, ...] = ()
    shared_by: AccountId | None = None
    """The account that owns the VPC and shares it."""
    problems: tuple[ClusterProblem, ...] = ()


class AccountSpec(StrictModel):
    """A member account; `agents` says who installs them. The problems are those of the account as a whole."""

    id: AccountId
    name: NonEmpty
    unit: NonEmpty = "workloads"
    tags: Mapping[NonEmpty, str] = {}
    agents: Literal["manual", "automated"] = "automated"
    policy_managed: bool = False
    reachable: bool = True
    """Whether a role of ours can be assumed there."""
    regions: tuple[Region, ...] = ()
    clusters: tuple[ClusterSpec, ...] = ()
    hosts: tuple[HostsSpec, ...] = ()
    network: tuple[NetworkProblem, ...] = ()
    problems: tuple[AccountProblem, ...] = ()
    stale_rows: Annotated[int, Field(ge=0)] = 0
    """Instances that GuardDuty still lists although they are gone."""


class PolicySpec(StrictModel):
    """A service control policy that keeps telemetry back: by a Deny, or by a list of what is allowed without it."""

    name: NonEmpty
    target: NonEmpty
    """An account's id, or a unit's path."""
    kind: Literal["deny", "allow-list"] = "deny"

    def covers(self, account: "AccountSpec") -> bool:
        """Whether it hangs on the account or a unit above."""
        return self.target == account.id or f"{account.unit}/".startswith(f"{self.target}/")


class BulkSpec(StrictModel):
    """Many accounts made by a rule, for scale: in each region one cluster with so many hosts."""

    accounts: Annotated[int, Field(ge=1, le=50_000)]
    hosts: Annotated[int, Field(ge=0, le=100_000)]
    troubled_percent: Annotated[int, Field(ge=0, le=100)] = 5
    """Accounts with a host that has a problem, in percent."""


class OrganizationSpec(StrictModel):
    """The whole file."""

    name: NonEmpty
    organization: Annotated[str, StringConstraints(pattern=r"^o-[a-z0-9]{10,32}$")]
    administrator: AccountId
    regions: Annotated[tuple[Region, ...], Field(min_length=1)]
    seed: int = 0
    accounts: tuple[AccountSpec, ...] = ()
    policies: tuple[PolicySpec, ...] = ()
    bulk: BulkSpec | None = None
    throttle_every: Annotated[int, Field(ge=0)] = 0
    """Every so many calls one is refused as too many; 0: never."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        ids = [account.id for account in self.accounts]
        if twice := sorted({number for number in ids if ids.count(number) > 1}):
            raise ValueError(f"account {twice[0]} is there twice")
        for account in self.accounts:
            if foreign := sorted(set(account.regions) - set(self.regions)):
                raise ValueError(f"account {account.id} is in {foreign[0]}, which is none of the regions")
            names = [cluster.name for cluster in account.clusters]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"account {account.id} has the cluster {twice[0]} twice")
        return self

    @property
    def all_policies(self) -> tuple[PolicySpec, ...]:
        """Those of the file, and the one that accounts have whose problem it is."""
        frozen = [account.id for account in self.accounts if "scp-denies" in account.problems]
        return (*self.policies, *(PolicySpec(name="frozen-workloads", target=number) for number in frozen))


def read_organization(path: Path) -> OrganizationSpec:
    """Read the file. Raises CatalogError with every fault's line and column."""
    return load_yaml(path, OrganizationSpec)
