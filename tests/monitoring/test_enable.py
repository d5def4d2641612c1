"""Selected members get Runtime Monitoring in order, others stay untouched, and undo restores exactly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.diagnosis.access import Access
from pipeline.diagnosis.model import Monitoring
from pipeline.errors import CloudError, UsageError
from pipeline.monitoring import command
from pipeline.monitoring.enable import Enablement, read_undo, write_undo
from pipeline.monitoring.features import PHASES, Change, Target, calls, plan
from pipeline.monitoring.select import select
from pipeline.rehearsal.answered_session import Call, Refused
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import AccountSpec, OrganizationSpec
from pipeline.rehearsal.organization.world import World
from tests.doubles import FakeClock

ADMIN, REGIONS = "111111111111", ("eu-central-1", "us-east-1")
OFF, ON, MANAGED, SUSPENDED, FOREIGN, OTHER = (f"{number:012d}" for number in range(1, 7))
BOTH: dict[str, Any] = {"RUNTIME_MONITORING": "ENABLED", "EC2_AGENT_MANAGEMENT": "ENABLED"}


def organization(*, throttle_every: int = 0) -> tuple[Organization, FakeClock]:
    spec = OrganizationSpec(
        name="test",
        organization="o-testtest12",
        administrator=ADMIN,
        regions=REGIONS,
        throttle_every=throttle_every,
        accounts=(
            AccountSpec(id=OFF, name="off", unit="work/a", agents="manual", problems=("runtime-monitoring-off",)),
            AccountSpec(id=ON, name="on", unit="work/b", tags={"team": "x"}),
            AccountSpec(
                id=MANAGED, name="managed", unit="work", policy_managed=True, problems=("runtime-monitoring-off",)
            ),
            AccountSpec(id=SUSPENDED, name="suspended", unit="old", problems=("member-suspended",)),
            AccountSpec(id=FOREIGN, name="foreign", unit="old", problems=("not-a-member",)),
            AccountSpec(id=OTHER, name="other", unit="other", problems=("runtime-monitoring-off",)),
        ),
    )
    clock = FakeClock()
    return Organization(World(spec, clock)), clock


def enablement(made: Organization, clock: FakeClock) -> tuple[Enablement, list[Call]]:
    seen: list[Call] = []
    before = made.deny

    def watch(call: Call, account: str) -> Refused | None:
        seen.append(call)
        return before(call, account)

    made.deny = watch
    return Enablement(Access(made.session(check_answers=True), clock), clock, lambda _: None), seen


def state(made: Organization) -> dict[tuple[str, str], dict[str, bool]]:
    accounts = (OFF, ON, MANAGED, SUSPENDED, FOREIGN, OTHER, ADMIN)
    return {(a, r): dict(made.world.features(a, r).status) for a in accounts for r in REGIONS}


def targets(*accounts: str, features: Mapping[str, Any] = BOTH) -> list[Target]:
    return [Target(account, region, features) for region in REGIONS for account in accounts]


def updates(calls_seen: list[Call]) -> list[tuple[str, list[str], list[str]]]:
    return [
        (
            call.region,
            list(call.parameters["AccountIds"]),
            [call.parameters["Features"][0]["Name"]]
            + [item["Name"] for item in call.parameters["Features"][0].get("AdditionalConfiguration", ())],
        )
        for call in calls_seen
        if call.operation == "UpdateMemberDetectors"
    ]


def test_a_member_is_enabled_in_order_and_others_stay_untouched() -> None:
    made, clock = organization()
    before = state(made)
    steps, seen = enablement(made, clock)
    outcome = steps.apply(steps.plan(targets(OFF)))
    assert updates(seen) == [
        ("eu-central-1", [OFF], ["RUNTIME_MONITORING"]),
        ("us-east-1", [OFF], ["RUNTIME_MONITORING"]),
        ("eu-central-1", [OFF], ["RUNTIME_MONITORING", "EC2_AGENT_MANAGEMENT"]),
        ("us-east-1", [OFF], ["RUNTIME_MONITORING", "EC2_AGENT_MANAGEMENT"]),
    ]
    assert not outcome.failed and not outcome.unverified
    after = state(made)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {(OFF, region) for region in REGIONS}
    assert after[OFF, "us-east-1"] == before[OFF, "us-east-1"] | dict.fromkeys(BOTH, True)
    assert not after[OFF, "us-east-1"]["EKS_RUNTIME_MONITORING"]


def test_who_cannot_be_changed_is_reported_with_the_reason_and_not_touched() -> None:
    made, clock = organization()
    before = state(made)
    steps, seen = enablement(made, clock)
    planned = steps.plan(targets(ON, MANAGED, SUSPENDED, FOREIGN))
    assert not planned.changes
    assert {target.account for target in planned.already} == {ON}
    reasons = {left.account: left.why for left in planned.left}
    assert "policy manages" in reasons[MANAGED] and "GUARDDUTY_POLICY" in reasons[MANAGED]
    assert "suspended" in reasons[SUSPENDED] and "Disabled" in reasons[SUSPENDED]
    assert "no member" in reasons[FOREIGN]
    steps.apply(planned)
    assert updates(seen) == [] and state(made) == before


def test_the_second_run_changes_nothing() -> None:
    made, clock = organization()
    steps, seen = enablement(made, clock)
    steps.apply(steps.plan(targets(OFF, OTHER)))
    seen.clear()
    again = steps.plan(targets(OFF, OTHER))
    assert not again.changes and len(again.already) == 4
    steps.apply(again)
    assert updates(seen) == []


def test_undo_restores_exactly(tmp_path: Path) -> None:
    made, clock = organization()
    before = state(made)
    steps, _ = enablement(made, clock)
    planned = steps.plan(targets(OFF, ON, OTHER, ADMIN, features={**BOTH, "ECS_FARGATE_AGENT_MANAGEMENT": "ENABLED"}))
    path = tmp_path / "undo.json"
    defaults = {region: steps.default(region) for region in REGIONS}
    write_undo(path, planned.changes, defaults, "now")
    steps.apply(planned)
    for region in REGIONS:
        steps.set_default(region, {"members": "NEW", "RUNTIME_MONITORING": "NEW", "EC2_AGENT_MANAGEMENT": "NEW"})
    assert state(made) != before
    back, old_defaults = read_undo(path)
    outcome = steps.apply(steps.plan(back))
    for region in REGIONS:
        steps.set_default(region, old_defaults[region])
    assert not outcome.failed and not outcome.unverified
    assert state(made) == before
    assert {region: steps.default(region) for region in REGIONS} == defaults


def test_undo_switches_agents_off_before_monitoring() -> None:
    change = Change(OFF, "eu-central-1", {}, {"RUNTIME_MONITORING": "DISABLED", "EC2_AGENT_MANAGEMENT": "DISABLED"})
    made = [call for phase in PHASES for call in calls([change], phase)]
    assert [(call.phase, call.features[0]["Status"]) for call in made] == [
        ("agent configuration", "ENABLED"),
        ("monitoring off", "DISABLED"),
    ]


def test_a_throttled_call_is_repeated() -> None:
    made, clock = organization(throttle_every=4)
    steps, _ = enablement(made, clock)
    outcome = steps.apply(steps.plan(targets(OFF)))
    assert made.refusals > 0 and not outcome.failed
    assert state(made)[OFF, "us-east-1"]["EC2_AGENT_MANAGEMENT"]


class Unprocessing:
    """GuardDuty that does not process an account, so many times."""

    def __init__(self, made: Organization, account: str, times: int) -> None:
        self.left, self.account = times, account
        self._inner = made.answer
        made.answer = self  # type: ignore[method-assign]

    def __call__(self, call: Call) -> Mapping[str, Any]:
        if call.operation == "UpdateMemberDetectors" and self.account in call.parameters["AccountIds"] and self.left:
            self.left -= 1
            others = [number for number in call.parameters["AccountIds"] if number != self.account]
            if others:
                parameters = {**call.parameters, "AccountIds": others}
                self._inner(Call(call.service, call.operation, parameters, call.region, call.access_key))
            return {"UnprocessedAccounts": [{"AccountId": self.account, "Result": "internal error"}]}
        return self._inner(call)


def test_an_unprocessed_account_is_tried_again() -> None:
    made, clock = organization()
    Unprocessing(made, OFF, 2)
    steps, _ = enablement(made, clock)
    outcome = steps.apply(steps.plan(targets(OFF, OTHER)))
    assert not outcome.failed
    assert sum(clock.slept) >= 20


def test_an_account_that_stays_unprocessed_is_reported_and_gets_no_second_step() -> None:
    made, clock = organization()
    Unprocessing(made, OFF, 99)
    steps, seen = enablement(made, clock)
    outcome = steps.apply(steps.plan([Target(OFF, "eu-central-1", BOTH), Target(OTHER, "eu-central-1", BOTH)]))
    assert [(left.account, left.why) for left in outcome.failed] == [
        (OFF, "GuardDuty did not process it: internal error")
    ]
    assert {change.account for change in outcome.changed} == {OTHER}
    assert not state(made)[OFF, "eu-central-1"]["RUNTIME_MONITORING"]
    assert all(OFF not in accounts for _, accounts, names in updates(seen) if len(names) > 1)


def test_batches_hold_fifty_accounts() -> None:
    changes = [Change(f"{n:012d}", "eu-central-1", {}, {"RUNTIME_MONITORING": "ENABLED"}) for n in range(120)]
    assert [len(call.accounts) for call in calls(changes, "monitoring on")] == [50, 50, 20]


def test_features_that_aws_does_not_show_count_as_off() -> None:
    found = {(OFF, "eu-central-1"): Monitoring(OFF, "member", "Enabled", {"RUNTIME_MONITORING": "ENABLED"})}
    planned = plan([Target(OFF, "eu-central-1", {"EC2_AGENT_MANAGEMENT": "ENABLED"})], found)
    assert planned.changes[0].after == {"EC2_AGENT_MANAGEMENT": "ENABLED"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"accounts": [ON]}, {ON}),
        ({"accounts": [], "unit": "work"}, {OFF, ON, MANAGED}),
        ({"accounts": [], "unit": "work/b"}, {ON}),
        ({"accounts": [OFF], "tag": "team=x"}, {OFF, ON}),
    ],
)
def test_accounts_by_list_unit_or_tag(given: dict[str, Any], expected: set[str]) -> None:
    made, clock = organization()
    assert set(select(Access(made.session(check_answers=True), clock), **given)) == expected


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"accounts": []}, "no account is named"),
        ({"accounts": [], "unit": "work/c"}, "there is no organizational unit work/c"),
        ({"accounts": [], "tag": "team"}, "team is no tag"),
    ],
)
def test_a_selection_that_means_nothing_is_refused(given: dict[str, Any], complaint: str) -> None:
    made, clock = organization()
    with pytest.raises(UsageError, match=complaint):
        select(Access(made.session(), clock), **given)


def test_a_member_account_is_told_that_only_the_administrator_can(tmp_path: Path) -> None:
    made, clock = organization()
    del tmp_path
    member = Access(made.session(), clock)
    member.call("", "eu-central-1", "sts", "get_caller_identity")
    steps = Enablement(member, clock, lambda _: None)
    made.deny = lambda call, _: (
        Refused("BadRequestException", "no administrator") if call.operation == "ListMembers" else None
    )
    with pytest.raises(CloudError, match="does not administer GuardDuty in eu-central-1"):
        steps.plan(targets(OFF))


# ---- the command


def run(tmp_path: Path, **given: Any) -> str:
    shown: list[str] = []
    command.enable_monitoring(
        show=shown.append, say=lambda _: None, undo_file=str(tmp_path / "undo.json"), **{"on": "local", **given}
    )
    return "\n".join(shown)


def test_without_yes_the_plan_is_all_there_is(tmp_path: Path) -> None:
    text = run(tmp_path, account="200000000003,200000000009", region="eu-central-1", agents="ec2")
    assert "200000000003  eu-central-1  RUNTIME_MONITORING disabled -> enabled" in text
    assert "200000000009  eu-central-1  left alone: GuardDuty is suspended" in text
    assert "--yes carries it out" in text
    assert not (tmp_path / "undo.json").exists()


def test_with_yes_it_is_done_and_the_way_back_is_on_disk(tmp_path: Path) -> None:
    text = run(tmp_path, account="200000000003", region="eu-central-1", new_accounts="NEW", yes=True)
    assert "1 changed, and seen so" in text
    back, defaults = read_undo(tmp_path / "undo.json")
    assert back[0].features["RUNTIME_MONITORING"] == "DISABLED"
    assert defaults["eu-central-1"]["RUNTIME_MONITORING"] == "NONE"


def test_an_undo_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "undo.json").write_text("precious")
    with pytest.raises(UsageError, match="there is an undo file of that name"):
        run(tmp_path, account="200000000003", region="eu-central-1", yes=True)
    assert (tmp_path / "undo.json").read_text() == "precious"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "no account is named"),
        ({"account": "12"}, "12 is no account"),
        ({"account": ON, "agents": "eks"}, "there is no agent configuration eks"),
        ({"account": ON, "new_accounts": "SOME"}, "--new-accounts SOME is unknown"),
        ({"account": ON, "region": "eu-west-9"}, "is not in eu-west-9"),
        ({"undo": "/nowhere"}, "this is no undo file"),
        ({"undo": "x", "account": ON}, "--undo takes accounts"),
        ({"account": ON, "on": "azure"}, "there is no target azure"),
    ],
)
def test_a_wrong_command_line_is_told(tmp_path: Path, given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        run(tmp_path, **given)
