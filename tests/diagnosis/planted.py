"""What a survey of a rehearsed organization has to find: reasoned from what was planted, not from the table."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.diagnosis.access import Access
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.scope import Scope
from pipeline.diagnosis.survey import Survey
from pipeline.diagnosis.views import OWN_DOCUMENT
from pipeline.rehearsal.organization.physics import HEALTHY, cluster_row, host_row, issues_of, kernel_line
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import AccountSpec, OrganizationSpec
from pipeline.rehearsal.organization.state import Cluster, Host, Place, Service
from pipeline.rehearsal.organization.world import World
from tests.doubles import FakeClock

NOT_COVERABLE = {"windows", "ecs-anywhere", "managed-instances", "unsupported-architecture", "eks-node"}
ONLY_INSIDE = {
    "agent-not-installed",
    "agent-restarting",
    "agent-too-old",
    "memlock-too-low",
    "no-btf",
    "unit-off",
}
OF_THE_UNIT = {"agent-restarting", "agent-too-old", "memlock-too-low", "unit-off"}
BY_ENDPOINT = {
    "endpoint-in-another-vpc",
    "endpoint-in-another-zone",
    "endpoint-in-no-subnet",
    "endpoint-missing",
    "endpoint-not-available",
    "endpoint-policy",
    "endpoint-private-dns-off",
    "endpoint-security-group",
    "network-acl-closed",
    "vpc-dns-off",
}
ASSOCIATIONS = {"association-already-gone", "association-exists", "association-missing", "too-many-associations"}
ONLY_TEXT = {
    "agent-version-ended": "Agent not reporting",
    "association-already-gone": "Deletion Failed: GuardDuty SSM association",
    "association-exists": "association already exists",
    "association-missing": "Updation Failed: GuardDuty SSM association",
    "image-pull-failed": "could not be pulled",
    "shared-vpc-endpoint-kept": "Shared VPC Endpoint Deletion Failed",
    "shared-vpc-not-supported": "not supported for shared VPC",
    "shared-vpc-owner-off": "doesn't have either",
    "too-many-associations": "too many SSM associations",
    "unrecognised": "the year after next",
}
"""What lies inside GuardDuty or the image, so that only its text tells; it gives one text a host."""
COMES_WITH_MONITORING = {
    "agent-management-off",
    "agent-not-installed",
    "endpoint-in-another-vpc",
    "endpoint-missing",
    "endpoint-not-available",
}
ACCOUNT_OFF = {"runtime-monitoring-off", "not-a-member", "member-suspended"}
SYMPTOMS = {
    "agent-disconnected",
    "agent-restarting",
    "agent-silent",
    "endpoint-in-another-zone",
    "exclusion-tag-unread",
    "fargate-agent-exited",
    "fargate-not-reporting",
    "fargate-unidentified",
    "identity-document-unreadable",
    "launched-just-now",
    "never-listed",
    "prerequisites-not-met",
    "unverified-kernel",
    "unverified-os",
}
OF_TASKS = {
    "fargate-tasks-before-agent-configuration",
    "fargate-tasks-before-monitoring",
    "fargate-tasks-excluded",
}
"""Texts that name tasks and no service: they are told of the cluster."""


def expected_of(world: World, place: Place, host: Host) -> set[str] | None:
    """The causes that must be told of a host; None when it is healthy, or its causes are only symptoms."""
    account = world.account(place.account)
    assert account is not None
    features = world.features(place.account, place.region)
    row = host_row(place, host, features, member=world.is_member(place.account), now=world.clock.now())
    if row is not None and row[0] == HEALTHY:
        return None
    planted = {*host.planted, *host.network.planted, *account.problems} - {"fargate-agent-management-off"}
    planted |= {"scp-denies"} if place.denied_telemetry else set()
    if final := planted & NOT_COVERABLE:
        return final
    visible = set(planted)
    inside = host.ssm == "online"
    if not host.agent:
        visible.add("agent-not-installed")
    issue = row[1] if row else ""
    visible -= {cause for cause, text in ONLY_TEXT.items() if text not in issue}
    if host.network.owner:
        owner = world.account(host.network.owner)
        if owner is None or not owner.reachable:
            visible -= BY_ENDPOINT - ({"vpc-dns-off"} if "enableDnsHostnames" in issue else set())
        elif "shared-vpc-not-supported" in visible or "shared-vpc-owner-off" in visible:
            visible -= {"endpoint-missing"}  # that is what comes of it
        elif not host.network.endpoint:
            visible.add("endpoint-missing")
    agent_seen = host.agent if (row is not None or inside) else ""
    management_known = row is not None or not planted & {"not-a-member", "member-suspended"}
    if not host.automated and management_known:
        visible -= {"no-instance-profile", "ssm-unreachable"}  # an agent that came with the image needs no SSM
    may_do_without = agent_seen >= "1.17.1" or not agent_seen
    if may_do_without and (host.automated or not management_known):
        visible -= BY_ENDPOINT if "enableDnsHostnames" not in issue else BY_ENDPOINT - {"vpc-dns-off"}
    if place.association_says and issue != place.association_says:
        # GuardDuty says something else of this host, so only what the association did not do can be seen
        visible -= ASSOCIATIONS
    if kernel_line(host) > (5, 10):
        visible -= {"memlock-too-low"}  # newer kernels charge eBPF elsewhere
    if not host.agent:
        visible -= OF_THE_UNIT  # there is none
    if host.os[0] == "Bottlerocket":
        visible -= {"agent-not-installed"}  # there the agent is a container, which no unit shows
    if not inside:
        visible -= ONLY_INSIDE
        if "Kernel version" not in issue:
            visible -= {"kernel-below", "kernel-above"}
    if visible & {"endpoint-missing", "endpoint-in-another-vpc"}:
        used = {other.network.vpc for other in place.hosts if not other.id.startswith("mi-")}
        owned = world.owned_networks(place.account, place.region)
        stray = any(network.endpoint and network.vpc not in used for network in owned) and not host.network.owner
        visible -= {"endpoint-missing", "endpoint-in-another-vpc"}
        visible.add("endpoint-in-another-vpc" if stray else "endpoint-missing")
    if visible & ASSOCIATIONS or ("guardduty-role-missing" in visible and host.automated):
        visible -= {"agent-not-installed"}  # that is what comes of it
    if "agent-management-off" in visible:
        # nobody has agents installed; which is known of hosts that can be looked into
        visible -= {"agent-not-installed"} if "agent-not-installed" in visible else {"agent-management-off"}
    if "exclusion-tag" in visible:
        # nobody wanted one there
        visible -= {"agent-management-off", "agent-not-installed", "no-instance-profile", "ssm-unreachable"}
    if visible & ACCOUNT_OFF:
        visible -= COMES_WITH_MONITORING | ASSOCIATIONS
    return visible


def expected_of_service(world: World, place: Place, cluster: Cluster, service: Service) -> set[str] | None:
    """The causes that must be told of a Fargate service; None when nothing is said of it."""
    account = world.account(place.account)
    assert account is not None
    planted = set(service.planted) - OF_TASKS
    issues = issues_of(service, world.clock.now())
    if _row(world, place, cluster) is None or not issues or (not planted and set(service.planted) & OF_TASKS):
        return None
    told = planted | ({*account.problems} & {"fargate-agent-management-off"})
    told |= {"scp-denies"} if place.denied_telemetry else set()
    if "fargate-windows" in told:
        return {"fargate-windows"}
    return told - SYMPTOMS or told


def expected_of_cluster(world: World, place: Place, cluster: Cluster) -> set[str] | None:
    """The causes that must be told of a cluster as a whole; None when nothing is."""
    account = world.account(place.account)
    assert account is not None
    hosts = [host for host in place.hosts if host.cluster == cluster.name]
    if not hosts and not cluster.services:
        return None
    told = {problem for service in cluster.services for problem in service.planted} & OF_TASKS
    if _row(world, place, cluster) is None:
        told = (ACCOUNT_OFF | {"guardduty-role-missing"}) & {*account.problems} or {"cluster-never-listed"}
    if cluster.tag == "false":
        told.add("cluster-exclusion-tag")
    if not told:
        return None
    if cluster.services and "fargate-agent-management-off" in account.problems:
        told.add("fargate-agent-management-off")
    return told - {"cluster-never-listed"} or told


def _row(world: World, place: Place, cluster: Cluster) -> object:
    features, member = world.features(place.account, place.region), world.is_member(place.account)
    return cluster_row(place, cluster, features, member=member, now=world.clock.now())


def survey(
    organization: Organization,
    clock: FakeClock,
    path: Path,
    *,
    look_inside: str = OWN_DOCUMENT,
    accounts: Sequence[str] = (),
) -> Ledger:
    """A whole survey, with one thread."""
    access = Access(organization.session(check_answers=True), clock)
    scope = Scope(tuple(accounts), organization.world.spec.regions)
    return Survey(access=access, clock=clock, scope=scope, look_inside=look_inside, workers=1, say=lambda _: None).run(
        path
    )


def spec_of(*accounts: AccountSpec, **given: Any) -> OrganizationSpec:
    """An organization of those accounts in one region, but for what is given otherwise."""
    usual: dict[str, Any] = {
        "name": "test",
        "organization": "o-testtest12",
        "administrator": "111111111111",
        "regions": ("eu-central-1",),
        "accounts": accounts,
    }
    return OrganizationSpec(**{**usual, **given})


def organization_of(spec: OrganizationSpec) -> tuple[Organization, FakeClock]:
    clock = FakeClock()
    return Organization(World(spec, clock)), clock


def hosts(world: World) -> Iterator[tuple[Place, Host]]:
    for number in world.account_ids():
        account = world.account(number)
        assert account is not None
        for region in world.regions_of(account):
            place = world.place(number, region)
            for host in place.hosts:
                yield place, host


def causes_of(findings: Iterable[Finding]) -> dict[tuple[str, str, str], set[str]]:
    """By account, region and id."""
    return {(item.account, item.region, item.id): {hit.cause for hit in item.hits} for item in findings}
