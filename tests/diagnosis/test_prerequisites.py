"""Each prerequisite of AWS's pages, one after the other: planted in a world that is otherwise well, told by itself.

The pages: prereq-runtime-monitoring-ec2-support, -ecs-support and -cpu-os-kernel-support,
creating-vpc-endpoint-ec2-agent-manually, validate-vpc-endpoint-config-runtime-monitoring,
runtime-monitoring-shared-vpc and slr-permissions.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.diagnosis import table
from pipeline.diagnosis.summary import findings, summarise
from pipeline.rehearsal.answered_session import Call, Refused
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import (
    AccountProblem,
    AccountSpec,
    ClusterSpec,
    HostProblem,
    HostsSpec,
    NetworkProblem,
    PolicySpec,
    ServiceProblem,
    ServiceSpec,
)
from pipeline.rehearsal.organization.state import Host, Network
from tests.diagnosis.planted import causes_of, organization_of, spec_of, survey
from tests.doubles import FakeClock

ONE, TWO = "200000000001", "200000000002"
REGION, ELSEWHERE = "eu-central-1", "us-east-1"


def world(
    *,
    host: HostProblem | None = None,
    network: NetworkProblem | None = None,
    account: AccountProblem | None = None,
    service: ServiceProblem | None = None,
    agents: Any = "manual",
    regions: tuple[str, ...] = (REGION,),
    name: str = "jobs",
) -> tuple[Organization, FakeClock]:
    """An account with a host, the problem of which is given, and a Fargate service; everything else is well."""
    services = (ServiceSpec(name=name, problems=(service,) if service else ()),)
    cluster = ClusterSpec(
        name="main",
        hosts=(HostsSpec(problems=(host,) if host else ()),),
        services=services,
        network=(network,) if network else (),
    )
    accounts = (
        AccountSpec(id=ONE, name="a", agents=agents, clusters=(cluster,), problems=(account,) if account else ()),
        AccountSpec(id=TWO, name="b", clusters=(ClusterSpec(name="main", hosts=(HostsSpec(count=2),)),)),
    )
    return organization_of(spec_of(*accounts, regions=regions))


def told(made: tuple[Organization, FakeClock], folder: Path) -> dict[str, set[str]]:
    """The causes by id, of everything of which something is told."""
    found = causes_of(findings(survey(*made, folder / "ledger", accounts=(ONE, TWO))))
    return {number: causes for (_, _, number), causes in found.items()}


def test_where_everything_is_well_nothing_is_told(tmp_path: Path) -> None:
    assert told(world(), tmp_path) == {}


HOST: list[tuple[str, HostProblem, Any]] = [
    ("the kernel is 5.4 or newer", "kernel-below", "manual"),
    ("the kernel is no newer than the agent knows", "kernel-above", "manual"),
    ("up to 5.10, RLIMIT_MEMLOCK is 32 MB", "memlock-too-low", "manual"),
    ("the kernel has BTF", "no-btf", "manual"),
    ("the processor is x86-64, or Graviton2 or later", "unsupported-architecture", "manual"),
    ("the ECS agent is 1.77.0 or later", "ecs-agent-too-old", "manual"),
    ("the ECS image is of 2023-09-29 or later", "ecs-image-too-old", "manual"),
    ("on ECS images after 2024-01-31, the agent is 1.0.2 or later", "agent-too-old", "manual"),
    ("Bottlerocket is v1.62.1 or later", "bottlerocket-too-old", "automated"),
    ("Bottlerocket may pull from ECR", "image-pull-failed", "automated"),
    ("the machine does not run Windows", "windows", "manual"),
    ("the machine is no ECS Anywhere one", "ecs-anywhere", "manual"),
    ("the machine is no ECS Managed Instance", "managed-instances", "manual"),
    ("for automated installation, SSM manages the host", "no-instance-profile", "automated"),
    ("for automated installation, SSM reaches the host", "ssm-unreachable", "automated"),
    ("the metadata service is on", "metadata-off", "manual"),
    ("the host is not tagged out", "exclusion-tag", "manual"),
    ("443 is let out of the host", "host-egress-closed", "manual"),
    ("the agent is installed", "agent-not-installed", "automated"),
    ("the agent's unit is on", "unit-off", "manual"),
    ("the agent's version is supported", "agent-version-ended", "manual"),
]


@pytest.mark.parametrize(("prerequisite", "problem", "agents"), HOST, ids=[row[1] for row in HOST])
def test_what_a_host_needs(tmp_path: Path, prerequisite: str, problem: HostProblem, agents: str) -> None:
    found = told(world(host=problem, agents=agents), tmp_path)
    assert set.union(*found.values()) == {problem}, prerequisite


NOTES: list[tuple[str, HostProblem]] = [
    ("the identity document is there", "identity-document-unreadable"),
    ("AWS has verified the kernel for the operating system", "unverified-kernel"),
    ("AWS has verified the operating system", "unverified-os"),
    ("an exclusion tag is shown by the metadata service", "exclusion-tag-unread"),
]


@pytest.mark.parametrize(("prerequisite", "problem"), NOTES, ids=[row[1] for row in NOTES])
def test_what_may_be_why_is_told_beside_what_happened(tmp_path: Path, prerequisite: str, problem: HostProblem) -> None:
    (found,) = told(world(host=problem), tmp_path).values()
    assert found == {problem, "agent-restarting"}, prerequisite


def test_a_host_whose_exclusion_is_not_read_is_a_gap(tmp_path: Path) -> None:
    for problem, status in (("exclusion-tag", "excluded"), ("exclusion-tag-unread", "unhealthy")):
        (host,) = findings(survey(*world(host=problem, agents="automated"), tmp_path / problem))  # type: ignore[arg-type]
        assert host.status == status


NETWORK: list[tuple[str, NetworkProblem]] = [
    ("the VPC has an endpoint", "endpoint-missing"),
    ("it is in the host's own VPC", "endpoint-in-another-vpc"),
    ("it is available", "endpoint-not-available"),
    ("it is in a subnet", "endpoint-in-no-subnet"),
    ("its private DNS is on", "endpoint-private-dns-off"),
    ("the DNS attributes of the VPC are on", "vpc-dns-off"),
    ("its group lets 443 in", "endpoint-security-group"),
    ("ACLs let both ways through", "network-acl-closed"),
    ("its policy lets the account", "endpoint-policy"),
]


@pytest.mark.parametrize(("prerequisite", "problem"), NETWORK, ids=[row[1] for row in NETWORK])
def test_what_the_network_needs(tmp_path: Path, prerequisite: str, problem: NetworkProblem) -> None:
    (found,) = told(world(network=problem), tmp_path).values()
    assert found == {problem}, prerequisite


def test_the_endpoint_is_that_of_the_same_region(tmp_path: Path) -> None:
    made, clock = world()
    network_of(made).endpoint_region = ELSEWHERE
    (found,) = told((made, clock), tmp_path).values()
    assert found == {"endpoint-missing"}


def network_of(made: Organization) -> Network:
    return made.world.place(ONE, REGION).networks[0]


def test_what_to_let_in_is_the_part_of_the_vpc_that_the_host_is_in(tmp_path: Path) -> None:
    made, clock = world(network="endpoint-security-group")
    network = network_of(made)
    network.cidr, network.more_cidrs = "100.64.0.0/16", ("10.0.0.0/20",)
    ledger = survey(made, clock, tmp_path / "ledger")
    (host,) = findings(ledger)
    (hit,) = host.hits
    group = network.endpoint_group
    assert hit.remedy == (
        f"aws ec2 authorize-security-group-ingress --region {REGION} --group-id {group} --protocol tcp --port 443 "
        "--cidr 10.0.0.0/20"
    )
    assert f"  do:     {hit.remedy}\n" in table.render(summarise(ledger)) + "\n"  # in one piece, to be copied


def host_of(made: Organization) -> Host:
    return made.world.place(ONE, REGION).hosts[0]


def test_an_endpoint_in_another_zone_is_a_note_and_no_cause(tmp_path: Path) -> None:
    made, clock = world(network="endpoint-in-another-zone")
    ledger = survey(made, clock, tmp_path / "1")
    (host,) = findings(ledger)
    (note,) = [hit for hit in host.hits if hit.cause == "endpoint-in-another-zone"]
    assert "interfaces in euc1-az2, the host is in euc1-az1" in note.evidence[0]
    assert note.remedy.startswith("by itself no harm")
    # nothing keeps the zones apart: the name leads to the other zone, and the host is healthy
    network_of(made).zones_apart = False
    assert told((made, clock), tmp_path) == {}
    # a cause that is one by itself is told, and the note is not
    host_of(made).unit = "inactive"
    assert told((made, clock), tmp_path) == {host.id: {"unit-off"}}


def test_zones_that_nobody_saw_are_not_told(tmp_path: Path) -> None:
    made, clock = world(network="endpoint-in-another-zone")
    made.deny = refuse("DescribeNetworkInterfaces", ONE)
    (found,) = told((made, clock), tmp_path).values()
    assert found == {"agent-restarting"}


def refuse(operation: str, account: str) -> Callable[[Call, str], Refused | None]:
    def deny(call: Call, caller: str) -> Refused | None:
        refused = call.operation == operation and caller == account
        return Refused("AccessDeniedException", "no", status=403) if refused else None

    return deny


ACCOUNT: list[tuple[str, AccountProblem, Any]] = [
    ("Runtime Monitoring is on", "runtime-monitoring-off", "manual"),
    ("the account is a member", "not-a-member", "manual"),
    ("GuardDuty is not suspended there", "member-suspended", "manual"),
    ("somebody installs agents", "agent-management-off", "automated"),
    ("GuardDuty's SSM association can be made", "association-exists", "automated"),
    ("GuardDuty's SSM association is there", "association-missing", "automated"),
    ("GuardDuty's SSM association has room", "too-many-associations", "automated"),
    ("GuardDuty's service-linked role is in the account", "guardduty-role-missing", "automated"),
    ("GuardDuty's service-linked role is in the account, with agents of its own", "guardduty-role-missing", "manual"),
    ("no service control policy denies telemetry", "scp-denies", "manual"),
]


@pytest.mark.parametrize(
    ("prerequisite", "problem", "agents"), ACCOUNT, ids=[f"{problem}-{agents}" for _, problem, agents in ACCOUNT]
)
def test_what_the_account_needs(tmp_path: Path, prerequisite: str, problem: AccountProblem, agents: str) -> None:
    found = told(world(account=problem, agents=agents), tmp_path)
    assert set.union(*found.values()) == {problem}, prerequisite


POLICIES = [
    ("no policy denies telemetry on a unit", PolicySpec(name="quiet", target="workloads")),
    ("a list of what is allowed names telemetry", PolicySpec(name="list", target=ONE, kind="allow-list")),
    ("a list of what is allowed above names it", PolicySpec(name="list", target="workloads", kind="allow-list")),
]


@pytest.mark.parametrize(("prerequisite", "policy"), POLICIES, ids=[row[0] for row in POLICIES])
def test_what_service_control_policies_have_to_let(tmp_path: Path, prerequisite: str, policy: PolicySpec) -> None:
    account = AccountSpec(id=ONE, name="a", unit="workloads/prod", hosts=(HostsSpec(),))
    other = AccountSpec(id=TWO, name="b", unit="workloads-too", hosts=(HostsSpec(problems=("unit-off",)),))
    made = organization_of(spec_of(account, other, policies=(policy,)))
    found = told(made, tmp_path)
    assert sorted(found.values(), key=sorted) == [{"scp-denies"}, {"unit-off"}], prerequisite


def test_an_agent_that_the_role_would_not_bring_is_told_beside_it(tmp_path: Path) -> None:
    made, clock = world(account="guardduty-role-missing", host="agent-not-installed")
    host = host_of(made).id
    assert told((made, clock), tmp_path)[host] == {"guardduty-role-missing", "agent-management-off"}


def test_the_role_is_asked_for_once_an_account_and_only_where_it_may_be_why(tmp_path: Path) -> None:
    both = (REGION, ELSEWHERE)
    for problem, asked in (("guardduty-role-missing", 1), ("runtime-monitoring-off", 0), ("member-suspended", 0)):
        made, clock = world(account=problem, regions=both)  # type: ignore[arg-type]
        survey(made, clock, tmp_path / problem)
        assert made.calls.get("iam:GetRole", 0) == asked, problem
    for host, asked in (("unit-off", 0), ("kernel-below", 0), ("windows", 0), ("never-listed", 1)):
        made, clock = world(host=host, regions=both)  # type: ignore[arg-type]
        survey(made, clock, tmp_path / host)
        assert made.calls.get("iam:GetRole", 0) == asked, host


def test_a_role_that_cannot_be_seen_is_not_taken_for_missing(tmp_path: Path) -> None:
    made, clock = world(account="guardduty-role-missing", regions=(REGION, ELSEWHERE))
    made.deny = refuse("GetRole", ONE)
    ledger = survey(made, clock, tmp_path / "ledger")
    assert "guardduty-role-missing" not in {hit.cause for item in findings(ledger) for hit in item.hits}
    (unseen,) = summarise(ledger).unseen_by_reason
    assert unseen.what == "role AWSServiceRoleForAmazonGuardDuty" and "iam:GetRole" in unseen.remedy
    assert made.calls["iam:GetRole"] == 1


SERVICE: list[tuple[str, ServiceProblem, str]] = [
    ("the task definition has an execution role", "fargate-role-missing", "jobs"),
    ("the execution role's boundary lets telemetry", "role-denies", "jobs"),
    ("the execution role's own policy lets telemetry", "role-denies", "video"),
    ("the platform version is 1.4.0 or later", "fargate-platform-version", "jobs"),
    ("the tasks do not run Windows", "fargate-windows", "jobs"),
    ("the processor is supported", "fargate-architecture", "jobs"),
    ("the tasks have a network", "fargate-network-missing", "jobs"),
    ("ECS itself starts the tasks", "fargate-launcher", "jobs"),
    ("the sidecar's image can be pulled", "fargate-image-pull-failed", "jobs"),
    ("the service is newer than Runtime Monitoring", "fargate-service-needs-deployment", "jobs"),
    ("the service is newer than agent configuration", "fargate-services-before-agent-configuration", "jobs"),
    ("the cluster was not tagged out at deployment", "fargate-services-excluded", "jobs"),
]


@pytest.mark.parametrize(
    ("prerequisite", "problem", "name"), SERVICE, ids=[f"{problem}-{name}" for _, problem, name in SERVICE]
)
def test_what_a_fargate_service_needs(tmp_path: Path, prerequisite: str, problem: ServiceProblem, name: str) -> None:
    found = told(world(service=problem, name=name), tmp_path)
    assert found == {name: {problem}}, prerequisite


def test_a_denial_in_the_roles_own_policy_is_named(tmp_path: Path) -> None:
    (service,) = findings(survey(*world(service="role-denies", name="video"), tmp_path / "ledger"))
    (hit,) = service.hits
    assert "the role's own policy quiet of arn:aws:iam::200000000001:role/denied-execution" in hit.evidence[0]
    assert "NoTelemetry denies guardduty:SendSecurityTelemetry" in hit.evidence[0]


def test_fargate_agents_are_configured_and_hosts_do_not_need_that(tmp_path: Path) -> None:
    found = told(world(account="fargate-agent-management-off", host="unit-off"), tmp_path)
    assert sorted(found.values(), key=sorted) == [{"fargate-agent-management-off"}, {"unit-off"}]
