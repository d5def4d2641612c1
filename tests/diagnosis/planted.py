"""What a survey of a rehearsed organization has to find: reasoned from what was planted, not from the table."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.diagnosis.access import Access
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.scope import Scope
from pipeline.diagnosis.survey import Survey
from pipeline.rehearsal.organization.physics import HEALTHY, host_row
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
    inside = host.ssm == "online" and not host.os[0].startswith("Bottlerocket")
    issue = row[1] if row else ""
    if place.association_says and issue != place.association_says:
        # GuardDuty says something else of this host, so only what the association did not do can be seen
        visible -= {"association-exists", "association-missing", "too-many-associations"}
        visible.add("agent-not-installed")
    if not inside:
        visible -= ONLY_INSIDE
        if "Kernel version" not in issue:
            visible -= {"kernel-below", "kernel-above"}
    if visible & ACCOUNT_OFF:
        visible -= COMES_WITH_MONITORING
        visible -= {"association-exists", "association-missing", "too-many-associations"}
    return visible


def survey(organization: Organization, clock: FakeClock, path: Path, *, look_inside: bool = True) -> Ledger:
    """A whole survey, with one thread."""
    access = Access(organization.session(check_answers=True), clock)
    scope = Scope(regions=organization.world.spec.regions)
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
