"""Random organizations: what is diagnosed is what was planted, one problem or several, and nothing is invented.

What must be found is reasoned in `planted.py` from the truth of the model, which was written from AWS's pages.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.diagnosis.causes import causes, diagnose
from pipeline.diagnosis.facts import VALUES, Facts
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.summary import findings
from pipeline.rehearsal.organization.spec import (
    AccountProblem,
    AccountSpec,
    ClusterProblem,
    ClusterSpec,
    HostProblem,
    HostsSpec,
    NetworkProblem,
    OrganizationSpec,
    PolicySpec,
    ServiceProblem,
    ServiceSpec,
)
from pipeline.rehearsal.organization.state import Cluster, Host, Place
from pipeline.rehearsal.organization.world import World
from tests.diagnosis.planted import (
    SYMPTOMS,
    causes_of,
    expected_of,
    expected_of_cluster,
    expected_of_service,
    hosts,
    organization_of,
    survey,
)

# One of each group at most: two of them would be two truths about the same thing.
GROUPS: list[list[HostProblem]] = [
    [
        "kernel-above",
        "kernel-below",
        "ecs-image-too-old",
        "image-pull-failed",
        "bottlerocket-too-old",
        "agent-version-ended",
        "unverified-kernel",
        "unverified-os",
    ],
    ["agent-not-installed", "agent-silent", "agent-too-old", "unit-off"],
    ["no-instance-profile", "ssm-unreachable", "agent-disconnected"],
    ["windows", "ecs-anywhere", "managed-instances", "unsupported-architecture", "eks-node"],
    ["ecs-agent-too-old"],
    ["exclusion-tag", "exclusion-tag-unread"],
    ["host-egress-closed"],
    ["identity-document-unreadable"],
    ["prerequisites-not-met"],
    ["memlock-too-low"],
    ["metadata-off"],
    ["no-btf"],
    ["launched-just-now"],
    ["never-listed"],
    ["agent-restarting"],
    ["unrecognised"],
]
NETWORK: list[NetworkProblem] = [
    "endpoint-missing",
    "endpoint-in-another-vpc",
    "endpoint-in-another-zone",
    "endpoint-in-no-subnet",
    "endpoint-not-available",
    "endpoint-policy",
    "endpoint-private-dns-off",
    "endpoint-security-group",
    "network-acl-closed",
    "vpc-dns-off",
    "shared-vpc-endpoint-kept",
    "shared-vpc-owner-off",
    "shared-vpc-not-supported",
]
ASSOCIATIONS: list[AccountProblem] = [
    "association-already-gone",
    "association-exists",
    "association-missing",
    "too-many-associations",
]
ACCOUNT: list[AccountProblem] = [
    "agent-management-off",
    "fargate-agent-management-off",
    "guardduty-role-missing",
    "member-suspended",
    "not-a-member",
    "runtime-monitoring-off",
    "scp-denies",
]
CLUSTER: tuple[ClusterProblem, ...] = get_args(ClusterProblem)
SERVICE: tuple[ServiceProblem, ...] = get_args(ServiceProblem)
UNITS = ("workloads", "workloads/prod", "workloads/prod/blue", "sandbox")
OWNER, UNKNOWN = f"{1:012d}", "888888888888"
"""The first account of each organization, and one that nobody can look into."""


@st.composite
def host_problems(draw: st.DrawFn) -> tuple[HostProblem, ...]:
    groups = draw(st.lists(st.sampled_from(GROUPS), max_size=3, unique_by=lambda group: group[0]))
    return tuple(draw(st.sampled_from(group)) for group in groups)


@st.composite
def accounts(draw: st.DrawFn, number: int) -> AccountSpec:
    clusters = []
    for name in ("one", "two")[: draw(st.integers(1, 2))]:
        made = [HostsSpec(problems=problems) for problems in draw(st.lists(host_problems(), min_size=1, max_size=3))]
        network = draw(st.lists(st.sampled_from(NETWORK), max_size=1))
        owner = draw(st.sampled_from([None, None, OWNER, UNKNOWN]))
        shared_by = owner if owner != f"{number:012d}" else None
        services = [
            ServiceSpec(name=f"{name}-{service}", problems=tuple(draw(st.lists(st.sampled_from(SERVICE), max_size=1))))
            for service in ("web", "jobs")[: draw(st.integers(0, 2))]
        ]
        clusters.append(
            ClusterSpec(
                name=name,
                hosts=(HostsSpec(count=2), *made),
                services=tuple(services),
                network=tuple(network),
                shared_by=shared_by,
                problems=tuple(draw(st.lists(st.sampled_from(CLUSTER), max_size=1))),
            )
        )
    agents: Literal["automated", "manual"] = draw(st.sampled_from(["automated", "manual"]))
    problem: AccountProblem | None = draw(
        st.none() | st.sampled_from([*ACCOUNT, *(ASSOCIATIONS if agents == "automated" else ())])
    )
    return AccountSpec(
        id=f"{number:012d}",
        name="any",
        unit=draw(st.sampled_from(UNITS)),
        agents=agents,
        problems=(problem,) if problem else (),
        clusters=tuple(clusters),
    )


@st.composite
def policies(draw: st.DrawFn) -> PolicySpec:
    kind: Literal["deny", "allow-list"] = draw(st.sampled_from(["deny", "allow-list"]))
    return PolicySpec(name=f"{kind}-telemetry", target=draw(st.sampled_from([*UNITS, OWNER])), kind=kind)


@st.composite
def organizations(draw: st.DrawFn) -> OrganizationSpec:
    return OrganizationSpec(
        name="fuzz",
        organization="o-fuzzfuzzfz",
        administrator="111111111111",
        regions=("eu-central-1",),
        seed=draw(st.integers(0, 3)),
        accounts=tuple(draw(accounts(number)) for number in range(1, draw(st.integers(2, 4)))),
        policies=tuple(draw(st.lists(policies(), max_size=2, unique_by=lambda item: item.name))),
        throttle_every=draw(st.sampled_from([0, 0, 7])),
    )


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(organizations())
def test_the_diagnosis_is_what_was_planted(spec: OrganizationSpec) -> None:
    check(spec)


def check(spec: OrganizationSpec) -> None:
    """Survey the organization and compare what is told of each host with what must be."""
    made, clock = organization_of(spec)
    scope = [account.id for account in spec.accounts]
    with tempfile.TemporaryDirectory() as folder:
        ledger = survey(made, clock, Path(folder) / "ledger", accounts=scope)
        told_of = [(item.kind, item) for item in findings(ledger)]
    found = causes_of(item for kind, item in told_of if kind == "host")
    for place, host in hosts(made.world):
        told = found.get((place.account, place.region, host.id))
        expected = expected_of(made.world, place, host)
        if expected is None or told is None:
            assert told == expected, host
            continue
        roots, symptoms = told - SYMPTOMS, told & SYMPTOMS
        assert roots == expected - SYMPTOMS, (host.planted, host.network.planted, spec.accounts)
        # a symptom is told only where no reason is, and something is always told
        assert told and not (symptoms and roots - {"unrecognised"}), (host, told)
        assert symptoms & NOTES <= {*host.planted, *host.network.planted, *_of_metadata(host)}, host
    services = {(*_key(item), item.id): _causes(item) for kind, item in told_of if kind == "service"}
    clusters = {_key(item): _causes(item) for kind, item in told_of if kind == "cluster"}
    for place, cluster in _clusters(made.world):
        key = (place.account, place.region, cluster.name)
        problems = next(account.problems for account in spec.accounts if account.id == place.account)
        assert clusters.get(key) == expected_of_cluster(made.world, place, cluster), (key, cluster.planted, problems)
        for service in cluster.services:
            expected = expected_of_service(made.world, place, cluster, service)
            assert services.get((*key, service.name)) == expected, (service.planted, service.issues, problems)


NOTES = {
    "endpoint-in-another-zone",
    "exclusion-tag-unread",
    "identity-document-unreadable",
    "unverified-kernel",
    "unverified-os",
}
"""Symptoms that say something of their own, which must not be invented either."""


def _of_metadata(host: Host) -> set[str]:
    return set() if host.imds else {"identity-document-unreadable"}


def _key(item: Finding) -> tuple[str, str, str]:
    return item.account, item.region, item.cluster


def _causes(item: Finding) -> set[str]:
    return {hit.cause for hit in item.hits}


def _clusters(world: World) -> Iterator[tuple[Place, Cluster]]:
    for place in {id(place): place for place, _ in hosts(world)}.values():
        for cluster in place.clusters.values():
            yield place, cluster


def test_every_problem_that_can_be_planted_is_drawn() -> None:
    drawn = {*(problem for group in GROUPS for problem in group), *NETWORK, *ACCOUNT, *ASSOCIATIONS, *CLUSTER, *SERVICE}
    kinds = (HostProblem, NetworkProblem, AccountProblem, ClusterProblem, ServiceProblem)
    assert drawn == {problem for kind in kinds for problem in get_args(kind)}


def test_every_cause_can_be_planted() -> None:
    kinds = (HostProblem, NetworkProblem, AccountProblem, ClusterProblem, ServiceProblem)
    # these two only sum up what is wrong with hosts, or say that somebody else's answer is waited for
    assert set(causes()) - {problem for kind in kinds for problem in get_args(kind)} == {
        "hosts-not-covered",
        "waiting-for-ssm",
    }


@given(
    st.fixed_dictionaries({}, optional={name: st.sampled_from(sorted(values)) for name, values in VALUES.items()}),
    st.sampled_from(["ec2", "bottlerocket", "fargate"]),
    st.lists(st.text(max_size=80), max_size=3),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_facts_and_no_texts_break_the_table(known: dict[str, str], resource: str, issues: list[str]) -> None:
    hits = diagnose(Facts(known, {}, resource, tuple(issues)))  # type: ignore[arg-type]
    for hit in hits:
        assert hit.evidence and hit.remedy and "{" not in hit.remedy
        signs = causes()[hit.cause].signs
        by_facts = any(
            sign.when is not None and sign.when.model_dump(exclude_none=True).items() <= known.items() for sign in signs
        )
        by_text = any(
            sign.issue is not None and sign.issue.matches(resource, issue)  # type: ignore[arg-type]
            for sign in signs
            for issue in issues
        )
        assert by_facts or by_text or hit.cause == "unrecognised"
    told = " ".join(evidence for hit in hits for evidence in hit.evidence)
    if not any(causes()[hit.cause].final or causes()[hit.cause].hides for hit in hits):
        assert all(issue in told for issue in issues if not _known(issue, resource))


def _known(issue: str, resource: str) -> bool:
    return any(
        sign.issue is not None and sign.issue.matches(resource, issue)  # type: ignore[arg-type]
        for cause in causes().values()
        for sign in cause.signs
    )
