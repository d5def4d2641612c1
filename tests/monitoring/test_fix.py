"""Endpoints are created and services deployed only when asked, one by one, and coverage is right afterwards."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.diagnosis.access import Access
from pipeline.diagnosis.causes import Hit
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.summary import findings, summarise
from pipeline.errors import CloudError
from pipeline.install_agent import InstallRequest
from pipeline.monitoring import endpoints, redeploy
from pipeline.monitoring.fix import fix, render_commands
from pipeline.rehearsal.answered_session import Call
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import (
    AccountSpec,
    ClusterSpec,
    HostsSpec,
    NetworkProblem,
    ServiceSpec,
)
from tests.diagnosis.planted import organization_of, spec_of, survey
from tests.doubles import FakeClock

ONE, REGION = "200000000001", "eu-central-1"


def organization(*, network: tuple[NetworkProblem, ...] = ("endpoint-missing",)) -> tuple[Organization, FakeClock]:
    account = AccountSpec(
        id=ONE,
        name="a",
        agents="manual",
        clusters=(
            ClusterSpec(name="silent", hosts=(HostsSpec(count=3),), network=network),
            ClusterSpec(
                name="fargate",
                services=(
                    ServiceSpec(name="old", problems=("fargate-services-before-agent-configuration",)),
                    ServiceSpec(name="older", problems=("fargate-service-needs-deployment",)),
                    ServiceSpec(name="new"),
                ),
            ),
        ),
    )
    return organization_of(spec_of(account))


def parts(made: Organization, clock: FakeClock, path: Path) -> tuple[Access, Ledger]:
    return Access(made.session(check_answers=True), clock), survey(made, clock, path)


def test_an_endpoint_is_created_where_it_lacks_and_the_hosts_are_heard(tmp_path: Path) -> None:
    made, clock = organization()
    access, ledger = parts(made, clock, tmp_path / "1")
    (need,) = endpoints.needs(findings(ledger))
    assert (need.account, need.region, need.hosts) == (ONE, REGION, 3)
    stack = endpoints.prepare(access, need)
    assert stack.cidr == "10.0.0.0/16" and len(stack.subnets) == 1 and not stack.why_not
    endpoints.create(access, clock, stack, organization="", say=lambda _: None)
    after = survey(made, clock, tmp_path / "2")
    assert summarise(after).hosts == {"healthy": 3}
    assert endpoints.needs(findings(after)) == ()


def test_a_shared_vpc_is_explained_and_left_to_its_owner(tmp_path: Path) -> None:
    made, clock = organization(network=("shared-vpc-owner-off",))
    access, _ = parts(made, clock, tmp_path / "1")
    vpc = made.world.place(ONE, REGION).networks[0].vpc
    stack = endpoints.prepare(access, endpoints.Need(ONE, REGION, vpc, 3))
    assert "shared by account 888888888888" in stack.why_not and "one organization" in stack.why_not


def changed(made: Organization, operation: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Let one operation answer something else."""
    inner = made.answer

    def answer(call: Call) -> Mapping[str, Any]:
        answered = inner(call)
        return change(answered) if call.operation == operation else answered

    made.answer = answer  # type: ignore[method-assign]


def test_a_stack_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    made, clock = organization()

    def fail(answered: Mapping[str, Any]) -> Mapping[str, Any]:
        (row,) = answered["Stacks"]
        return {"Stacks": [{**row, "StackStatus": "ROLLBACK_COMPLETE", "StackStatusReason": "DNS is off"}]}

    changed(made, "DescribeStacks", fail)
    access, ledger = parts(made, clock, tmp_path / "1")
    (need,) = endpoints.needs(findings(ledger))
    with pytest.raises(CloudError, match="ROLLBACK_COMPLETE DNS is off"):
        endpoints.create(access, clock, endpoints.prepare(access, need), organization="", say=lambda _: None)


def test_services_are_deployed_one_by_one_and_are_covered_then(tmp_path: Path) -> None:
    made, clock = organization(network=())
    order: list[str] = []
    made.deny = lambda call, _: order.append(call.operation)
    access, ledger = parts(made, clock, tmp_path / "1")
    wanted, tagged_out = redeploy.services(findings(ledger))
    assert [service.name for service in wanted] == ["old", "older"] and not tagged_out
    order.clear()
    for service in wanted:
        redeploy.redeploy(access, clock, service, lambda _: None)
    first, second = [number for number, operation in enumerate(order) if operation == "UpdateService"]
    assert second - first > 5  # the first is watched until it is steady, before the second is touched
    assert summarise(survey(made, clock, tmp_path / "2")).services["unhealthy"] == 0


def test_a_deployment_that_fails_stops_before_the_next(tmp_path: Path) -> None:
    made, clock = organization(network=())

    def fail(answered: Mapping[str, Any]) -> Mapping[str, Any]:
        (row,) = answered["services"]
        deployment = {**row["deployments"][0], "rolloutState": "FAILED", "rolloutStateReason": "tasks failed to start"}
        return {**answered, "services": [{**row, "deployments": [deployment]}]}

    access, ledger = parts(made, clock, tmp_path / "1")
    wanted, _ = redeploy.services(findings(ledger))
    changed(made, "DescribeServices", fail)
    access = Access(made.session(), clock)
    with pytest.raises(CloudError, match="tasks failed to start"):
        redeploy.redeploy(access, clock, wanted[0], lambda _: None)


def test_a_deployment_that_takes_too_long_is_told(tmp_path: Path) -> None:
    made, clock = organization(network=())
    access, ledger = parts(made, clock, tmp_path / "1")
    wanted, _ = redeploy.services(findings(ledger))

    def slow(answered: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**answered, "services": [{**answered["services"][0], "runningCount": 0}]}

    changed(made, "DescribeServices", slow)
    access = Access(made.session(), clock)
    with pytest.raises(CloudError, match="did not become steady"):
        redeploy.redeploy(access, clock, wanted[0], lambda _: None)
    assert sum(clock.slept) >= 1700


def run(**given: Any) -> str:
    shown: list[str] = []
    fix(show=shown.append, say=lambda _: None, **given)
    return "\n".join(shown)


def test_without_yes_nothing_is_done() -> None:
    text = run(endpoint=True, services=True)
    assert "stack ovenproof-guardduty-data-vpc-" in text and "prices of checkout" in text
    assert "nothing is changed yet" in text and "created" not in text


def test_a_cluster_that_is_tagged_out_is_not_deployed_in_vain() -> None:
    text = run(services=True, account="200000000007", region="us-east-1", yes=True)
    assert "cluster outside" in text and "aws ecs tag-resource" in text
    assert "no service needs a new deployment" in text


def test_with_yes_all_of_it_is_done() -> None:
    text = run(endpoint=True, services=True, yes=True)
    assert text.count("created; to go back") == 2 and text.count("deployed, steady") == 2


def test_without_a_kind_the_commands_are_filled_in() -> None:
    text = run()
    for line in (
        "./run enable-monitoring --on aws --account 200000000003 --region eu-central-1",
        "./run fix --on aws --endpoint --account 200000000002 --region us-east-1",
        "./run roll --on aws --region eu-central-1 --group checkout-group",
        "./run fix --on aws --redeploy --account 200000000001 --region us-east-1 --cluster checkout",
    ):
        assert line in text, line


def test_many_hosts_share_a_command() -> None:
    found = [
        Finding("host", ONE, REGION, f"i-{number:017x}", "unhealthy", (Hit("unit-off", ("x",), "y"),))
        for number in range(60)
    ]
    lines = [line for line in render_commands(found).splitlines() if "install-agent" in line]
    assert [line.count("i-") for line in lines] == [50, 10]


def test_the_command_for_hosts_is_one_that_install_agent_takes() -> None:
    found = [
        Finding("host", ONE, REGION, f"i-{number:017x}", "unhealthy", (Hit("unit-off", ("x",), "y"),))
        for number in range(3)
    ]
    [line] = [line for line in render_commands(found).splitlines() if "install-agent" in line]
    words = line.split()
    named = [word for option, word in pairwise(words) if option == "--instance"]

    assert InstallRequest(instances=named).parameters() == {"InstanceIds": [one.id for one in found]}
