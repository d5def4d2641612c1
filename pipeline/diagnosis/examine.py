"""One shard: in, some accounts in a region; out, what is covered there, what is not, and why.

GuardDuty's rows for all accounts of the shard come in one listing. What exists is asked of each account, and the
details (SSM, network, images, policies) only of accounts in which something is wrong.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from pipeline.clock import Clock
from pipeline.diagnosis import policy, views
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.causes import Hit, diagnose, verdict_of
from pipeline.diagnosis.control_policies import ControlPolicies
from pipeline.diagnosis.facts import Facts
from pipeline.diagnosis.join import HostViews, Telemetry, cluster_facts, host_facts, service_facts
from pipeline.diagnosis.model import AccountCount, ClusterLine, Finding, Monitoring, ShardResult, Status, Unseen
from pipeline.diagnosis.scope import GROUP_TAG, Scope
from pipeline.diagnosis.service_roles import NAME, ServiceRoles, may_be_why
from pipeline.errors import CloudError

T = TypeVar("T")

MANY_HOSTS = 500
"""Hosts of an account that are looked into by SSM at most; the others are diagnosed from outside."""


@dataclass(frozen=True)
class Examiner:
    """What every shard needs."""

    access: Access
    clock: Clock
    scope: Scope
    look_inside: str
    """The SSM document to look inside hosts by; nothing: do not."""
    organization: str
    policies: ControlPolicies
    roles: ServiceRoles

    def examine(
        self, shard: str, region: str, accounts: Sequence[str], detector: str, monitoring: Mapping[str, Monitoring]
    ) -> ShardResult:
        """Look at the accounts. Raises CloudError only when GuardDuty itself does not answer."""
        wanted = (self.scope.instance,) if self.scope.instance else ()
        host_rows: Mapping[str, dict[str, views.HostRow]] = {}
        cluster_rows: Mapping[str, dict[str, views.ClusterRow]] = {}
        if detector:
            host_rows, cluster_rows = views.coverage(self.access, region, detector, accounts=accounts, instances=wanted)
        results = [
            _Account(
                self,
                number,
                region,
                host_rows.get(number, {}),
                cluster_rows.get(number, {}),
                monitoring.get(number),
            ).examine()
            for number in accounts
        ]
        return ShardResult(
            shard=shard,
            counts=tuple(result.count() for result in results),
            findings=tuple(finding for result in results for finding in result.findings),
            clusters=tuple(line for result in results for line in result.lines),
            unseen=tuple(item for result in results for item in result.unseen),
            notes=tuple(sorted({note for result in results for note in result.notes})),
            looked_at=self.clock.now().isoformat(timespec="seconds"),
        )


@dataclass
class _Account:
    """One account in one region, step by step."""

    of: Examiner
    account: str
    region: str
    host_rows: dict[str, views.HostRow]
    cluster_rows: dict[str, views.ClusterRow]
    monitoring: Monitoring | None
    findings: list[Finding] = field(default_factory=list)
    lines: list[ClusterLine] = field(default_factory=list)
    unseen: list[Unseen] = field(default_factory=list)
    notes: set[str] = field(default_factory=set)
    by_status: Counter[Status] = field(default_factory=Counter)
    stale: int = 0
    instances: dict[str, views.Instance] | None = None
    clusters: dict[str, views.EcsCluster] | None = None
    ecs: dict[str, views.EcsHost] = field(default_factory=dict)
    cluster_of: dict[str, str] = field(default_factory=dict)
    in_cluster: dict[str, Counter[Status]] = field(default_factory=dict)
    causes_in: dict[str, Counter[str]] = field(default_factory=dict)
    has_role: bool | None = None
    """Whether GuardDuty's service-linked role is there; None as long as nothing asks for it."""
    asked_for_role: bool = False

    def examine(self) -> "_Account":
        self.instances = self._try("EC2 instances", self._instances)
        self.clusters = self._try("ECS clusters", self._clusters)
        troubled = self._troubled()
        if self._needs_container_instances(troubled):
            for cluster in sorted(self.clusters or {}):
                if self.clusters and self.clusters[cluster].hosts and self.of.scope.cluster in ("", cluster):
                    hosts = self._try(f"hosts of cluster {cluster}", functools.partial(self._hosts_of, cluster))
                    self.ecs |= hosts or {}
            external = [number for number in self.ecs if number.startswith("mi-")]
            troubled = sorted({*troubled, *external})
        self._count_healthy(set(troubled))
        wanted = [number for number in troubled if self._in_scope(number)]
        if wanted:
            self._explain_hosts(wanted)
        self._explain_clusters()
        return self

    def count(self) -> AccountCount:
        by = self.by_status
        return AccountCount(
            self.account,
            self.region,
            by["healthy"],
            by["unhealthy"],
            by["absent"],
            by["excluded"],
            by["unsupported"],
            self.stale,
        )

    # ---- what there is

    def _instances(self) -> dict[str, views.Instance]:
        return views.instances(self.of.access, self.account, self.region)

    def _clusters(self) -> dict[str, views.EcsCluster]:
        return views.ecs_clusters(self.of.access, self.account, self.region)

    def _hosts_of(self, cluster: str) -> dict[str, views.EcsHost]:
        return views.ecs_hosts(self.of.access, self.account, self.region, cluster)

    def _try(self, what: str, look: Callable[[], T]) -> T | None:
        """The view, or None with a note of why there is none."""
        try:
            return look()
        except CloudError as error:
            self._note(what, error)
            return None

    def _note(self, what: str, error: CloudError) -> None:
        cannot_enter = error.where.startswith("arn:")
        if cannot_enter and any(item.what == "the account" for item in self.unseen):
            return
        self.unseen.append(
            Unseen(
                self.account,
                self.region,
                "the account" if cannot_enter else what,
                f"{error.what}: {error.found}" if error.found else error.what,
                error.remedy,
            )
        )

    def _troubled(self) -> list[str]:
        """Ids of hosts that are not healthy: listed so, or there and not listed."""
        unhealthy = {number for number, row in self.host_rows.items() if not row.healthy}
        if self.instances is None:
            return sorted(unhealthy)
        self.stale = len(set(self.host_rows) - set(self.instances)) if not self.of.scope.instance else 0
        absent = set(self.instances) - set(self.host_rows)
        return sorted((unhealthy & set(self.instances)) | absent)

    def _needs_container_instances(self, troubled: Sequence[str]) -> bool:
        """Also where a cluster has more hosts than are listed: external ones are in no other view."""
        if not self.clusters:
            return False
        rows = Counter(row.cluster for row in self.host_rows.values())
        more = any(cluster.hosts > rows[cluster.name] for cluster in self.clusters.values())
        return bool(troubled) or more

    def _in_scope(self, number: str) -> bool:
        instance = (self.instances or {}).get(number)
        return self.of.scope.has_host(
            id=number, cluster=self._cluster(number), tags=instance.tags if instance else None
        )

    def _cluster(self, number: str) -> str:
        if number in self.ecs:
            return self.ecs[number].cluster
        row = self.host_rows.get(number)
        return row.cluster if row else ""

    def _count_healthy(self, troubled: set[str]) -> None:
        whole = self.of.scope.is_whole
        for number, row in self.host_rows.items():
            if not row.healthy or number in troubled:
                continue
            if self.instances is not None and number not in self.instances:
                continue  # GuardDuty still lists a machine that is gone
            if whole or self._in_scope(number):
                self._tally("healthy", row.cluster)

    def _tally(self, status: Status, cluster: str) -> None:
        self.by_status[status] += 1
        if cluster:
            self.in_cluster.setdefault(cluster, Counter())[status] += 1

    # ---- why

    def _explain_hosts(self, troubled: list[str]) -> None:
        of, account, region = self.of, self.account, self.region
        entered = self.instances is not None
        there = (
            {number: self.instances[number] for number in troubled if number in self.instances}
            if self.instances
            else {}
        )
        managed: dict[str, views.Managed] | None = None
        networks: views.Networks | None = None
        names: dict[str, str] = {}
        inside: dict[str, views.Inside] = {}
        if entered:
            managed = self._try("SSM", lambda: views.managed(of.access, account, region, troubled))
            networks = self._networks(there)
            images = {instance.image for instance in there.values() if instance.image}
            names = self._try("images", lambda: views.image_names(of.access, account, region, images)) or {}
            if of.look_inside and managed:
                online = [
                    number
                    for number in troubled
                    if number in managed and managed[number].online and number in there and not there[number].windows
                ]
                inside = (
                    self._try(
                        "hosts from inside",
                        lambda: views.inside(of.access, account, region, online[:MANY_HOSTS], of.clock, of.look_inside),
                    )
                    or {}
                )
        seen, telemetry = self._denied_telemetry()
        heard = any(row.healthy for row in self.host_rows.values()) or any(item.installed for item in inside.values())

        def facts_of(number: str) -> Facts:
            instance = there.get(number)
            return host_facts(
                HostViews(
                    id=number,
                    account=account,
                    region=region,
                    now=of.clock.now(),
                    row=self.host_rows.get(number),
                    instance=instance,
                    ecs=self.ecs.get(number),
                    monitoring=self.monitoring,
                    managed=(managed or {}).get(number),
                    managed_seen=managed is not None and instance is not None,
                    inside=inside.get(number),
                    networks=networks,
                    image_name=names.get(instance.image, "") if instance else "",
                    telemetry=telemetry,
                    telemetry_seen=seen,
                    service_role=self.has_role,
                    organization=of.organization,
                    agents_in_account=heard if (heard or inside) else None,
                )
            )

        facts = {number: facts_of(number) for number in troubled}
        if not self.asked_for_role and any(map(may_be_why, facts.values())):
            self._ask_for_role()
            facts = {number: facts_of(number) for number in troubled}
        for number in troubled:
            self._report_host(number, facts[number], there.get(number))

    def _ask_for_role(self) -> None:
        if not self.asked_for_role:
            self.asked_for_role = True
            self.has_role = self._try(f"role {NAME}", lambda: self.of.roles.has(self.account, self.region))

    def _denied_telemetry(self) -> tuple[bool, Telemetry | None]:
        seen, telemetry = self.of.policies.denies(self.account)
        if not seen and self.of.policies.trouble:
            self.notes.add(
                "service control policies were not seen, so one that denies telemetry would not be told: "
                f"{self.of.policies.trouble.found}"
            )
        return seen, telemetry

    def _networks(self, there: Mapping[str, views.Instance]) -> views.Networks:
        of, account, region = self.of, self.account, self.region
        networks = views.Networks(used=frozenset(instance.vpc for instance in (self.instances or {}).values()))
        vpcs = sorted({instance.vpc for instance in there.values() if instance.vpc})
        if vpcs:
            self._try("VPCs", lambda: views.add_owners(of.access, account, region, vpcs, networks))
        own = [vpc for vpc in vpcs if networks.owners.get(vpc, account) == account]
        groups = {group for instance in there.values() for group in instance.groups}
        if own or not vpcs:
            networks.endpoints = self._try("VPC endpoints", lambda: views.endpoints(of.access, account, region))
            self._try("DNS of VPCs", lambda: views.add_dns(of.access, account, region, own, networks))
            here = [item for item in networks.endpoints or () if item.vpc in own]
            groups |= {group for item in here for group in item.groups}
            subnets = {instance.subnet for instance in there.values() if instance.vpc in own}
            self._try("network ACLs", lambda: views.add_ways(of.access, account, region, here, subnets, networks))
        self._try("security groups", lambda: views.add_groups(of.access, account, region, groups, networks))
        for owner in sorted({networks.owners[vpc] for vpc in vpcs if vpc not in own}):
            self._look_as_owner(owner, [vpc for vpc in vpcs if networks.owners[vpc] == owner], there, networks)
        return networks

    def _look_as_owner(
        self, owner: str, vpcs: Sequence[str], there: Mapping[str, views.Instance], networks: views.Networks
    ) -> None:
        """Ask the account that shares VPCs what only it can see of them (VPC user guide, vpc-share-limitations)."""
        access, region = self.of.access, self.region
        subnets = {instance.subnet for instance in there.values() if instance.vpc in vpcs}
        try:
            found = views.endpoints(access, owner, region, vpcs)
            networks.shared |= {vpc: tuple(item for item in found if item.vpc == vpc) for vpc in vpcs}
            views.add_dns(access, owner, region, vpcs, networks)
            views.add_groups(access, owner, region, {group for item in found for group in item.groups}, networks)
            views.add_ways(access, owner, region, found, subnets, networks)
        except CloudError as error:
            what = f"the way to GuardDuty in {', '.join(vpcs)}, which account {owner} shares"
            self.unseen.append(
                Unseen(
                    self.account,
                    region,
                    what,
                    f"{error.what}: {error.found}" if error.found else error.what,
                    error.remedy,
                )
            )

    def _report_host(self, number: str, facts: Facts, instance: views.Instance | None) -> None:
        hits = diagnose(facts)
        row = self.host_rows.get(number)
        status: Status = verdict_of(hits, listed=row is not None)
        cluster = self._cluster(number)
        self._tally(status, cluster)
        if cluster:
            self.causes_in.setdefault(cluster, Counter()).update(hit.cause for hit in hits)
        self.findings.append(
            Finding(
                kind="host",
                account=self.account,
                region=self.region,
                id=number,
                status=status,
                hits=hits,
                cluster=cluster,
                vpc=instance.vpc if instance else "",
                group=instance.tags.get(GROUP_TAG, "") if instance else "",
                issues=facts.issues,
                agent=row.agent if row else "",
                instance_type=instance.type if instance else "",
                image=instance.image if instance else "",
                system=facts.resource,
                vpc_owner=facts.texts.get("vpc_owner", ""),
            )
        )

    # ---- clusters and Fargate

    def _explain_clusters(self) -> None:
        names = set(self.cluster_rows) | {
            name
            for name, cluster in (self.clusters or {}).items()
            if cluster.hosts or cluster.fargate_services or cluster.tasks
        }
        for name in sorted(names):
            if self.of.scope.has_cluster(name) and (self.clusters is None or name in self.clusters):
                self._explain_cluster(name)

    def _explain_cluster(self, name: str) -> None:
        row, ecs = self.cluster_rows.get(name), (self.clusters or {}).get(name)
        issues = row.issues if row else ()
        services: tuple[views.EcsService, ...] = ()
        tagged_out = bool(ecs and ecs.tag.lower() == "false")
        if ecs and ecs.fargate_services and issues:
            services = (
                self._try(
                    f"services of cluster {name}",
                    lambda: views.fargate_services(self.of.access, self.account, self.region, name),
                )
                or ()
            )
        left = list(issues)
        troubled = 0
        for service in services:
            own = tuple(issue for issue in issues if _is_about(issue, service))
            if own:
                troubled += 1
                left = [issue for issue in left if issue not in own]
                self._report(name, "service", service.name, self._service_facts(service, own), listed=True)
        by = self.in_cluster.get(name, Counter())
        bad = by["unhealthy"] + by["absent"]
        set_aside = by["excluded"] + by["unsupported"]
        if row is None or tagged_out or left or (not row.healthy and not (bad or set_aside or troubled)):

            def facts_now() -> Facts:
                return cluster_facts(
                    self.account,
                    self.region,
                    name,
                    row=row,
                    ecs=ecs,
                    issues=tuple(left),
                    monitoring=self.monitoring,
                    hosts_explained=bool(bad or set_aside),
                    service_role=self.has_role,
                )

            facts = facts_now()
            if may_be_why(facts):
                self._ask_for_role()
                facts = facts_now()
            if diagnose(facts):
                self._report(name, "cluster", name, facts, listed=row is not None)
        own_findings = [item for item in self.findings if item.cluster == name and item.kind != "host"]
        causes = self.causes_in.get(name, Counter()) + Counter(hit.cause for item in own_findings for hit in item.hits)
        if row is None:
            status: Status = "absent"
        elif bad or troubled or any(item.status in ("unhealthy", "absent") for item in own_findings):
            status = "unhealthy"
        elif tagged_out or (not row.healthy and by["excluded"]):
            status = "excluded"
        elif not row.healthy:
            status = "unsupported" if by["unsupported"] else "unhealthy"
        else:
            status = "healthy"
        self.lines.append(
            ClusterLine(
                account=self.account,
                region=self.region,
                name=name,
                hosts=sum(by.values()),
                covered=by["healthy"],
                not_counted=by["excluded"] + by["unsupported"],
                fargate_services=ecs.fargate_services if ecs else 0,
                troubled_services=troubled,
                status=status,
                causes=tuple(cause for cause, _ in causes.most_common(5)),
            )
        )

    def _service_facts(self, service: views.EcsService, issues: tuple[str, ...]) -> Facts:
        seen, telemetry = self._denied_telemetry()
        since = None
        if self.monitoring and self.monitoring.since:
            since = datetime.fromisoformat(self.monitoring.since)
        role: dict[str, str] = {}
        if service.execution_role and any("not reporting" in issue.lower() for issue in issues):
            role = self._try("execution role", lambda: self._role(service.execution_role or "")) or {}
        return service_facts(
            self.account,
            self.region,
            service,
            issues=issues,
            monitoring=self.monitoring,
            since=since,
            telemetry=telemetry if seen else None,
            role=role,
        )

    def _role(self, arn: str) -> dict[str, str]:
        """What of the execution role stands in the way; nothing when that is not certain.

        A boundary that does not allow telemetry is in the way; the role's own policies are only where they deny it,
        as AWS's policy for execution roles does not name it either.
        """
        found = views.role_policies(self.of.access, self.account, self.region, arn.rsplit("/", 1)[-1])
        for item in found:
            verdict = policy.weigh(item.document, account=self.account, organization=self.of.organization)
            if verdict.kind == "denied" or (verdict.kind == "silent" and item.is_boundary):
                return {"policy": item.name, "policy_reason": verdict.reason}
        return {}

    def _report(self, cluster: str, kind: str, number: str, facts: Facts, *, listed: bool) -> None:
        hits: tuple[Hit, ...] = diagnose(facts)
        self.findings.append(
            Finding(
                kind="service" if kind == "service" else "cluster",
                account=self.account,
                region=self.region,
                id=number,
                status=verdict_of(hits, listed=listed),
                hits=hits,
                cluster=cluster,
                issues=facts.issues,
                system=facts.resource,
                vpc_owner=facts.texts.get("vpc_owner", ""),
            )
        )


def _is_about(issue: str, service: views.EcsService) -> bool:
    """Whether a text of GuardDuty names the service, or the task definition it runs."""
    named = re.findall(r"service name\(s\): '([^']*)'", issue, re.IGNORECASE) + re.findall(r"Service '([^']*)'", issue)
    if any(service.name == name.strip() for names in named for name in names.split(",")):
        return True
    definitions: Iterable[str] = re.findall(r"TaskDefinition\s*-\s*'?`?([\w:./-]+)", issue)
    return any(service.task_definition == name.rsplit("/", 1)[-1] for name in definitions)
