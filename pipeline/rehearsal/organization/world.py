"""The rehearsed organization: in, its spec and a clock; out, the truth about each account, made when it is asked for.

An account in a region is made anew from the spec's seed whenever it is wanted and only a few are kept, so that 2,000
accounts of 200 machines need no more memory than one. What calls have changed (features, endpoints, deployments) is
kept beside and laid over.
"""

import hashlib
import random
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import RLock

from pipeline.clock import Clock
from pipeline.rehearsal.organization import problems
from pipeline.rehearsal.organization.spec import (
    AccountSpec,
    BulkSpec,
    ClusterSpec,
    HostsSpec,
    OrganizationSpec,
    OsName,
    ServiceSpec,
)
from pipeline.rehearsal.organization.state import (
    EC2_AGENT,
    EKS_ADDON,
    EKS_MONITORING,
    FARGATE_AGENT,
    MONITORING,
    Cluster,
    Features,
    Host,
    Network,
    Place,
    Service,
)

KEPT_PLACES = 96
SYSTEMS: dict[OsName, tuple[tuple[str, str], str, str, str]] = {
    "al2": (
        ("Amazon Linux", "2"),
        "5.10.245-245.983.amzn2.x86_64",
        "ami-0a1b2c3d4e5f60718",
        "amzn2-ami-ecs-kernel-5.10-hvm-2.0.20261105-x86_64-ebs",
    ),
    "al2023": (
        ("Amazon Linux", "2023"),
        "6.1.158-178.288.amzn2023.x86_64",
        "ami-0a1b2c3d4e5f60719",
        "al2023-ami-ecs-hvm-2023.0.20261105-kernel-6.1-x86_64",
    ),
    "ubuntu": (
        ("Ubuntu", "24.04"),
        "6.8.0-1041-aws",
        "ami-0a1b2c3d4e5f60720",
        "ubuntu-noble-24.04-amd64-server-20261101",
    ),
    "bottlerocket": (
        ("Bottlerocket", "1.63.0"),
        "6.1.150",
        "ami-0a1b2c3d4e5f60721",
        "bottlerocket-aws-ecs-2-x86_64-v1.63.0-abcdef01",
    ),
    "windows": (
        ("Microsoft Windows Server 2022 Datacenter", "10.0.20348"),
        "10.0",
        "ami-0a1b2c3d4e5f60722",
        "Windows_Server-2022-English-Core-ECS_Optimized-2026.11.10",
    ),
    "other": (("Gentoo", "2.17"), "6.1.158", "ami-0a1b2c3d4e5f60723", "gentoo-20261101"),
}
TROUBLES = (
    "unit-off",
    "kernel-below",
    "no-instance-profile",
    "agent-not-installed",
    "exclusion-tag",
    "memlock-too-low",
    "metadata-off",
)


def bulk_account(number: int, administrator: str, bulk: BulkSpec, seed: int) -> AccountSpec:
    """The account of that number, by the rule."""
    chance = random.Random(seed * 1_000_003 + number)  # noqa: S311 - a rehearsal that repeats itself
    troubled = chance.randrange(100) < bulk.troubled_percent
    hosts = [HostsSpec(count=bulk.hosts - troubled)] if bulk.hosts - troubled > 0 else []
    if troubled and bulk.hosts:
        hosts.append(HostsSpec(problems=(chance.choice(TROUBLES),)))  # type: ignore[arg-type]
    del administrator
    return AccountSpec(
        id=f"{200_000_000_000 + number}",
        name=f"member-{number:05d}",
        unit=f"workloads/{number % 7}",
        clusters=(ClusterSpec(name="main", hosts=tuple(hosts)),),
    )


class World:
    """The truth, and what calls have changed of it. Every method may be called from any thread."""

    def __init__(self, spec: OrganizationSpec, clock: Clock) -> None:
        self.spec = spec
        self.clock = clock
        self.started = clock.now()
        self.lock = RLock()
        self._listed = {account.id: account for account in spec.accounts}
        self._places: OrderedDict[tuple[str, str], Place] = OrderedDict()
        self._features: dict[tuple[str, str], Features] = {}
        self.auto_enable: dict[str, dict[str, str]] = {region: {} for region in spec.regions}
        self.endpoints_made: dict[tuple[str, str, str], str] = {}
        self.stacks: dict[tuple[str, str, str], dict[str, str]] = {}
        self.redeployed: dict[tuple[str, str, str, str], datetime] = {}
        self.cluster_tags: dict[tuple[str, str, str], str] = {}

    # ---- accounts

    def account_ids(self) -> Iterator[str]:
        """Every account but the administrator, in no order that means anything."""
        yield from self._listed
        if self.spec.bulk:
            for number in range(self.spec.bulk.accounts):
                yield f"{200_000_000_000 + number}"

    def account(self, number: str) -> AccountSpec | None:
        """What the spec says of an account; the administrator has nothing in it."""
        if number in self._listed:
            return self._listed[number]
        if number == self.spec.administrator:
            return AccountSpec(id=number, name="security", unit="security")
        bulk = self.spec.bulk
        if bulk and number.isdigit() and 0 <= int(number) - 200_000_000_000 < bulk.accounts:
            return bulk_account(int(number) - 200_000_000_000, self.spec.administrator, bulk, self.spec.seed)
        return None

    def regions_of(self, account: AccountSpec) -> tuple[str, ...]:
        return account.regions or self.spec.regions

    def relationship(self, number: str) -> str:
        """How GuardDuty calls the membership; nothing for a foreign account."""
        account = self.account(number)
        if account is None or "not-a-member" in account.problems:
            return ""
        return "Disabled" if "member-suspended" in account.problems else "Enabled"

    def is_member(self, number: str) -> bool:
        return number == self.spec.administrator or self.relationship(number) == "Enabled"

    # ---- features

    def features(self, number: str, region: str) -> Features:
        """What is on for the account; the object is the truth and may be changed under `lock`."""
        key = (number, region)
        with self.lock:
            if key not in self._features:
                self._features[key] = self._first_features(number)
            return self._features[key]

    def _first_features(self, number: str) -> Features:
        account = self.account(number)
        automated = account is not None and account.agents == "automated"
        status = {MONITORING: True, EC2_AGENT: automated, FARGATE_AGENT: True, EKS_ADDON: False, EKS_MONITORING: False}
        features = Features(status=status, since=self.started - timedelta(days=300))
        if account:
            features.managed = account.policy_managed
            blank = Place(number, "")
            for problem in account.problems:
                problems.plant_in_account(problem, blank, features)
        return features

    # ---- places

    def place(self, number: str, region: str) -> Place:
        """What is in the account there."""
        key = (number, region)
        with self.lock:
            if key in self._places:
                self._places.move_to_end(key)
                return self._places[key]
            place = self._make(number, region)
            self._places[key] = place
            if len(self._places) > KEPT_PLACES:
                self._places.popitem(last=False)
            return place

    def owned_networks(self, number: str, region: str) -> list[Network]:
        """VPCs that the account owns there: its own, and those that it shares with accounts of the spec's list."""
        own = [network for network in self.place(number, region).networks if not network.owner]
        for other in self.spec.accounts:
            if region in self.regions_of(other) and any(item.shared_by == number for item in other.clusters):
                own += [item for item in self.place(other.id, region).networks if item.owner == number]
        return own

    def _make(self, number: str, region: str) -> Place:
        place = Place(number, region)
        account = self.account(number)
        if account is None or region not in self.regions_of(account):
            return place
        serial = _Serial(number, region)
        loose = ClusterSpec.model_construct(name="", hosts=account.hosts, network=account.network)
        for cluster in (*account.clusters, *((loose,) if account.hosts else ())):
            self._add_cluster(place, account, cluster, serial)
        place.gone = [serial.id("i") for _ in range(account.stale_rows)]
        for problem in account.problems:
            problems.plant_in_account(problem, place, Features(status={}))
        place.denied_telemetry = any(policy.covers(account) for policy in self.spec.all_policies)
        for network in place.networks:
            if made := self.endpoints_made.get((number, region, network.vpc)):
                network.endpoint, network.endpoint_state, network.endpoint_dns = made, "available", True
                network.endpoint_open, network.endpoint_policy = True, ""
        return place

    def _add_cluster(self, place: Place, account: AccountSpec, spec: ClusterSpec, serial: "_Serial") -> None:
        network = Network(vpc=serial.id("vpc"), subnet=serial.id("subnet"), group=serial.id("sg"))
        network.endpoint, network.endpoint_group = serial.id("vpce"), serial.id("sg")
        network.endpoint_subnet, network.owner = serial.id("subnet"), spec.shared_by or ""
        place.networks.append(network)
        for hosts in spec.hosts:
            for _ in range(hosts.count):
                place.hosts.append(self._host(hosts, network, spec.name, account, serial))
        if spec.name:
            cluster = place.clusters[spec.name] = Cluster(spec.name)
            cluster.planted = spec.problems
            cluster.listed = "cluster-never-listed" not in spec.problems
            cluster.tag = "false" if "cluster-exclusion-tag" in spec.problems else ""
            cluster.tag = self.cluster_tags.get((place.account, place.region, spec.name), cluster.tag)
            cluster.services = [self._service(service, cluster, network, place) for service in spec.services]
        network.planted = spec.network
        for problem in spec.network:
            problems.plant_in_network(problem, network, place)

    def _host(self, spec: HostsSpec, network: Network, cluster: str, account: AccountSpec, serial: "_Serial") -> Host:
        system, kernel, image, image_name = SYSTEMS[spec.os]
        host = Host(
            id=serial.id("i"),
            network=network,
            launched=self.started - timedelta(days=20),
            type=spec.type,
            os=system,
            kernel=kernel,
            image=image,
            image_name=image_name,
            cluster=cluster,
            automated=account.agents == "automated",
            groups=(network.group,),
            says=spec.says,
            tags={"aws:autoscaling:groupName": f"{cluster or 'hosts'}-group"},
        )
        host.planted = (*(("windows",) if spec.os == "windows" else ()), *spec.problems)
        for problem in host.planted:
            problems.HOST[problem](host, self.started)
        return host

    def _service(self, spec: ServiceSpec, cluster: Cluster, network: Network, place: Place) -> Service:
        service = Service(
            name=spec.name,
            cluster=cluster.name,
            network=network,
            deployed=self.started - timedelta(days=30),
            tasks=spec.tasks,
        )
        service.planted = spec.problems
        for problem in spec.problems:
            problems.plant_in_service(problem, service, cluster)
        if again := self.redeployed.get((place.account, place.region, cluster.name, spec.name)):
            service.deployed = again
            service.deploying_until = again + timedelta(minutes=2)
        return service

    def forget(self, number: str, region: str) -> None:
        """Make the place anew when it is asked for next, as something of it was changed."""
        with self.lock:
            self._places.pop((number, region), None)


class _Serial:
    """Ids that are the same in every run."""

    def __init__(self, account: str, region: str) -> None:
        self._stem = hashlib.blake2s(f"{account}/{region}".encode(), digest_size=5).hexdigest()
        self._next = 0

    def id(self, kind: str) -> str:
        self._next += 1
        return f"{kind}-0{self._stem}{self._next:06x}"


def fixed_start() -> datetime:
    """The moment at which rehearsals begin, so that two runs show the same."""
    return datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
