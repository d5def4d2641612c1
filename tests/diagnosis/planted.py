"""What a survey of a rehearsed organization has to find: reasoned from what was planted, not from the table."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.diagnosis.access import Access
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.scope import Scope
from pipeline.diagnosis.survey import Survey
from pipeline.diagnosis.views import OWN_DOCUMENT
from pipeline.rehearsal.organization.physics import HEALTHY, host_row, kernel_line
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import OrganizationSpec
from pipeline.rehearsal.organization.state import Host, Place
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
    "endpoint-missing",
    "endpoint-not-available",
    "endpoint-policy",
    "endpoint-private-dns-off",
    "endpoint-security-group",
    "network-acl-closed",
    "vpc-dns-off",
}
ONLY_TEXT = {
    "agent-version-ended": "Agent not reporting",
    "association-exists": "association already exists",
    "association-missing": "association does not exist",
    "image-pull-failed": "could not be pulled",
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
    "launched-just-now",
    "never-listed",
    "prerequisites-not-met",
    "unverified-os",
}


def expected_of(world: World, place: Place, host: Host) -> set[str] | None:
    """The causes that must be told of a host; None when it is healthy, or its causes are only symptoms."""
    account = world.account(place.account)
    assert account is not None
    features = world.features(place.account, place.region)
    row = host_row(place, host, features, member=world.is_member(place.account), now=world.clock.now())
    if row is not None and row[0] == HEALTHY:
        return None
    planted = {*host.planted, *host.network.planted, *account.problems} - {"fargate-agent-management-off"}
    if final := planted & NOT_COVERABLE:
        return final
    visible = set(planted)
    inside = host.ssm == "online"
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
        visible -= {"association-exists", "association-missing", "too-many-associations"}
        visible.add("agent-not-installed")
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
    if visible & {"association-exists", "association-missing", "too-many-associations"}:
        visible -= {"agent-not-installed"}  # that is what comes of it
    if "exclusion-tag" in visible:
        visible -= {"agent-not-installed", "no-instance-profile", "ssm-unreachable"}  # nobody wanted one there
    if visible & ACCOUNT_OFF:
        visible -= COMES_WITH_MONITORING
        visible -= {"association-exists", "association-missing", "too-many-associations"}
    return visible


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
