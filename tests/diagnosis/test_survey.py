"""A survey from start to end: few calls, resumed when interrupted, patient, honest about what it did not see."""

import json
import os
import signal
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from pipeline.diagnosis import command, table
from pipeline.diagnosis import survey as surveying
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.bench import measure
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import ShardResult
from pipeline.diagnosis.scope import Scope, read_scope
from pipeline.diagnosis.summary import Summary, findings, summarise
from pipeline.diagnosis.survey import Survey
from pipeline.diagnosis.views import OWN_DOCUMENT
from pipeline.errors import CloudError, Interrupted, UsageError
from pipeline.rehearsal.answered_session import Call, Refused
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import (
    AccountSpec,
    BulkSpec,
    ClusterSpec,
    HostsSpec,
    OrganizationSpec,
    ServiceSpec,
)
from pipeline.signals import as_interrupted
from tests.diagnosis.planted import organization_of, spec_of, survey
from tests.doubles import FakeClock

REGION = "eu-central-1"
ONE, TWO = "200000000001", "200000000002"


def two_accounts(**given: Any) -> OrganizationSpec:
    def account(number: str) -> AccountSpec:
        return AccountSpec(
            id=number,
            name=f"a{number[-1]}",
            clusters=(
                ClusterSpec(
                    name="main",
                    hosts=(HostsSpec(count=3), HostsSpec(problems=("unit-off",))),
                    services=(ServiceSpec(name="web", problems=("fargate-role-missing",)),),
                ),
                ClusterSpec(name="side", hosts=(HostsSpec(problems=("metadata-off",)),)),
            ),
        )

    return spec_of(account(ONE), account(TWO), **given)


def run(
    made: Organization, clock: FakeClock, path: Path, *, scope: Scope | None = None, resume: bool = False
) -> Ledger:
    access = Access(made.session(check_answers=True), clock)
    return Survey(
        access=access,
        clock=clock,
        scope=scope or Scope(regions=(REGION,)),
        look_inside=OWN_DOCUMENT,
        workers=1,
        say=lambda _: None,
    ).run(path, resume=resume)


def test_calls_are_near_the_fewest_and_an_interruption_asks_nothing_twice() -> None:
    said: list[str] = []
    result = measure(300, 20, say=said.append)
    assert "interrupted at half; resuming" in said
    assert result.asked_twice == 0
    assert result.ratio <= 1.1
    assert result.summary.hosts.total() == 300 * 20 * 4
    assert result.summary.hosts["unhealthy"] + result.summary.hosts["excluded"] > 0


def test_resumed_results_are_those_of_one_go(tmp_path: Path) -> None:
    whole_made, clock = organization_of(spec_of(bulk=BulkSpec(accounts=120, hosts=4, troubled_percent=30)))
    whole = summarise(survey(whole_made, clock, tmp_path / "whole"))
    made, clock = organization_of(whole_made.world.spec)
    path = tmp_path / "ledger"
    left = 150

    def interrupt(_: Call, _account: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)

    made.deny = interrupt
    with pytest.raises(Interrupted), as_interrupted():
        run(made, clock, path)
    assert 0 < len(Ledger.resume(path).done) < 5
    resumed = summarise(run(made, clock, path, resume=True))
    assert _comparable(resumed) == _comparable(whole)


def test_parts_that_are_done_at_the_same_moment_survive_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, clock = organization_of(spec_of(bulk=BulkSpec(accounts=600, hosts=1, troubled_percent=0)))
    asked: set[str] = set()

    def note(call: Call, account: str) -> None:
        if call.operation == "DescribeInstances":
            asked.add(account)

    def interrupt(_: str) -> None:
        raise Interrupted("stopped by SIGINT")

    made.deny = note
    monkeypatch.setattr(surveying, "wait", lambda futures, **_: wait(futures))  # all of them at once
    whole = Survey(
        access=Access(made.session(), clock),
        clock=clock,
        scope=Scope(regions=(REGION,)),
        look_inside="",
        workers=4,
        say=interrupt,
    )
    with pytest.raises(Interrupted):
        whole.run(tmp_path / "ledger")
    ledger = Ledger.resume(tmp_path / "ledger")
    kept = {number for row in ledger.head["shards"] if row["name"] in ledger.done for number in row["accounts"]}
    assert asked == kept and len(ledger.done) >= 8


def _comparable(summary: Summary) -> dict[str, Any]:
    return {
        "hosts": summary.hosts,
        "causes": {cause: count.things for cause, count in summary.by_cause.items()},
        "clusters": summary.clusters,
        "accounts": summary.by_account,
    }


def test_a_line_cut_off_by_a_kill_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    made, clock = organization_of(spec_of(bulk=BulkSpec(accounts=60, hosts=2)))
    path = tmp_path / "ledger"
    first = summarise(run(made, clock, path))
    path.write_bytes(path.read_bytes()[:-20])
    made.calls.clear()
    again = summarise(run(made, clock, path, resume=True))
    assert _comparable(again) == _comparable(first)
    assert made.calls["ec2:DescribeInstances"] == 11  # 61 accounts in shards of 25: the last one has 11


@pytest.mark.parametrize("content", ["", "not json\n", '{"format": 9}\n', '{"a": 1}\n', "[]\n"])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ledger"
    path.write_text(content)
    with pytest.raises(UsageError, match="this is no file of a coverage survey"):
        Ledger.resume(path)


def test_a_file_about_something_else_is_refused(tmp_path: Path) -> None:
    made, clock = organization_of(two_accounts())
    run(made, clock, tmp_path / "ledger", scope=Scope((ONE,), (REGION,)))
    with pytest.raises(UsageError) as error:
        run(made, clock, tmp_path / "ledger", scope=Scope((TWO,), (REGION,)), resume=True)
    assert f"found:    accounts {ONE}" in str(error.value)


def test_throttling_costs_time_and_no_result(tmp_path: Path) -> None:
    calm, clock = organization_of(two_accounts())
    whole = summarise(survey(calm, clock, tmp_path / "calm"))
    made, clock = organization_of(two_accounts(throttle_every=3))
    summary = summarise(survey(made, clock, tmp_path / "ledger"))
    assert made.refusals > 5 and clock.slept
    assert _comparable(summary) == _comparable(whole)
    assert not summary.unseen


def test_throttling_without_end_is_told_with_a_way_to_go_on(tmp_path: Path) -> None:
    made, clock = organization_of(two_accounts())
    made.deny = lambda call, _: (
        Refused("ThrottlingException", "Rate exceeded", status=429) if call.operation == "ListCoverage" else None
    )
    with pytest.raises(CloudError) as error:
        run(made, clock, tmp_path / "ledger")
    assert "AWS refused guardduty:list_coverage 9 times" in str(error.value)
    assert "--resume" in str(error.value)
    assert 30 < sum(clock.slept) < 120


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("DescribeInstances", "EC2 instances"),
        ("ListClusters", "ECS clusters"),
        ("DescribeInstanceInformation", "SSM"),
        ("DescribeVpcEndpoints", "VPC endpoints"),
        ("DescribeVpcs", "VPCs"),
        ("DescribeVpcAttribute", "DNS of VPCs"),
        ("DescribeNetworkInterfaces", "network ACLs"),
        ("DescribeNetworkAcls", "network ACLs"),
        ("DescribeSecurityGroups", "security groups"),
        ("SendCommand", "hosts from inside"),
        ("ListServices", "services of cluster main"),
    ],
)
def test_a_denied_view_is_told_and_the_others_still_speak(tmp_path: Path, operation: str, what: str) -> None:
    made, clock = organization_of(two_accounts())
    made.deny = lambda call, account: (
        Refused("AccessDeniedException", "no", status=403) if call.operation == operation and account == ONE else None
    )
    ledger = run(made, clock, tmp_path / "ledger")
    summary = summarise(ledger)
    assert [(item.account, item.what) for item in summary.unseen] == [(ONE, what)]
    assert operation.lower() in summary.unseen[0].remedy.lower()
    assert {item.account for item in findings(ledger) if item.kind == "host"} == {ONE, TWO}


def test_denied_coverage_says_which_permission(tmp_path: Path) -> None:
    made, clock = organization_of(two_accounts())
    made.deny = lambda call, _: (
        Refused("AccessDeniedException", "no", status=403) if call.operation == "ListCoverage" else None
    )
    with pytest.raises(CloudError, match="guardduty:ListCoverage"):
        run(made, clock, tmp_path / "ledger")


@pytest.mark.parametrize(
    ("scope", "hosts", "clusters"),
    [
        (Scope((), (REGION,)), 10, {"main", "side"}),
        (Scope((ONE,), (REGION,)), 5, {"main", "side"}),
        (Scope((ONE,), (REGION,), cluster="side"), 1, {"side"}),
        (Scope((ONE,), (REGION,), group="main-group"), 4, set()),
    ],
)
def test_a_scope_counts_what_is_in_it(tmp_path: Path, scope: Scope, hosts: int, clusters: set[str]) -> None:
    made, clock = organization_of(two_accounts())
    summary = summarise(run(made, clock, tmp_path / "ledger", scope=scope))
    assert summary.hosts.total() == hosts
    assert {line.name for line in summary.clusters} == clusters


@pytest.mark.parametrize("which", [0, 3])
def test_one_instance_is_looked_up_by_itself(tmp_path: Path, which: int) -> None:
    made, clock = organization_of(two_accounts())
    host = made.world.place(ONE, REGION).hosts[which]
    ledger = run(made, clock, tmp_path / "ledger", scope=Scope((ONE,), (REGION,), instance=host.id))
    summary = summarise(ledger)
    assert summary.hosts.total() == 1
    assert [item.id for item in findings(ledger)] == ([host.id] if which else [])


def test_for_one_instance_that_is_listed_no_other_account_is_entered(tmp_path: Path) -> None:
    made, clock = organization_of(two_accounts())
    listed = made.world.place(TWO, REGION).hosts[3]
    entered: set[str] = set()

    def note(call: Call, account: str) -> None:
        if call.service == "ec2":
            entered.add(account)

    made.deny = note
    ledger = run(made, clock, tmp_path / "1", scope=Scope((), (REGION,), instance=listed.id))
    assert entered == {TWO}
    assert [(item.id, item.account) for item in findings(ledger)] == [(listed.id, TWO)]


def test_one_instance_that_is_not_listed_is_looked_for_everywhere(tmp_path: Path) -> None:
    account = AccountSpec(id=TWO, name="a", hosts=(HostsSpec(problems=("never-listed",)),))
    made, clock = organization_of(spec_of(AccountSpec(id=ONE, name="b"), account))
    absent = made.world.place(TWO, REGION).hosts[0]
    ledger = run(made, clock, tmp_path / "1", scope=Scope((), (REGION,), instance=absent.id))
    assert [(item.id, item.status) for item in findings(ledger)] == [(absent.id, "absent")]


def test_an_instance_that_nobody_knows_is_told_so(tmp_path: Path) -> None:
    del tmp_path
    with pytest.raises(UsageError, match="i-0123456789abcdef0 is not there"):
        command.coverage(
            account=ONE, region=REGION, instance="i-0123456789abcdef0", show=lambda _: None, say=lambda _: None
        )


def test_services_of_a_cluster_that_is_not_listed_are_absent_and_not_healthy(tmp_path: Path) -> None:
    cluster = ClusterSpec(name="main", services=(ServiceSpec(name="web"), ServiceSpec(name="jobs")))
    account = AccountSpec(id=ONE, name="a", clusters=(cluster,), problems=("runtime-monitoring-off",))
    made, clock = organization_of(spec_of(account))
    summary = summarise(run(made, clock, tmp_path / "ledger"))
    assert (summary.services["absent"], summary.services["healthy"], summary.percent) == (2, 0, 0)
    assert "0/2" in table.render(summary)


def test_rows_of_machines_that_are_gone_are_not_counted(tmp_path: Path) -> None:
    account = AccountSpec(id=ONE, name="a", hosts=(HostsSpec(count=2),), stale_rows=3)
    made, clock = organization_of(spec_of(account))
    summary = summarise(run(made, clock, tmp_path / "ledger"))
    assert (summary.hosts["healthy"], summary.stale) == (2, 3)


def test_a_new_machine_is_absent_until_the_news_arrive(tmp_path: Path) -> None:
    account = AccountSpec(id=ONE, name="a", hosts=(HostsSpec(problems=("launched-just-now",)),))
    made, clock = organization_of(spec_of(account))
    before = summarise(run(made, clock, tmp_path / "1"))
    assert before.hosts["absent"] == 1 and set(before.by_cause) == {"launched-just-now"}
    clock.sleep(900)
    assert summarise(run(made, clock, tmp_path / "2")).hosts["healthy"] == 1


def test_a_single_account_without_members_is_enough(tmp_path: Path) -> None:
    made, clock = organization_of(two_accounts())
    made.deny = lambda call, _: (
        Refused("BadRequestException", "not the administrator") if call.operation == "ListMembers" else None
    )
    summary = summarise(run(made, clock, tmp_path / "ledger"))
    assert summary.hosts.total() == 0  # the administrator's own account has no hosts
    with pytest.raises(CloudError, match="does not administer GuardDuty for account"):
        run(made, clock, tmp_path / "2", scope=Scope((ONE,), (REGION,)))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"accounts": ["12"], "regions": []}, "12 is no account"),
        ({"accounts": [], "regions": ["Frankfurt"]}, "Frankfurt is no region"),
        ({"accounts": [], "regions": [], "instance": "web-1"}, "web-1 is no instance"),
    ],
)
def test_a_scope_that_cannot_be_is_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read_scope(**given)


def test_a_cluster_may_be_given_by_its_arn() -> None:
    found = read_scope(accounts=[""], regions=["us-east-1, eu-west-1"], cluster="arn:aws:ecs:eu-west-1:1:cluster/main")
    assert (found.cluster, found.regions) == ("main", ("us-east-1", "eu-west-1"))


def test_a_result_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    made, clock = organization_of(two_accounts())
    for result in run(made, clock, tmp_path / "ledger").results():
        assert ShardResult.from_json(json.loads(json.dumps(result.to_json()))) == result
