"""Ovenproof-ProveInstances over the fleet model: what it calls proven, what it waits for, what it says of the rest."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import yaml

from pipeline.clock import VirtualClock
from pipeline.coverage import ABSENT_REMEDY
from pipeline.diagnosis import extract
from pipeline.diagnosis.causes import causes, in_words
from pipeline.documents import FOLDER, document_named, document_text, policy_of
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import FleetSpec, example_fleet, read_fleet
from pipeline.rehearsal.fleet.switches import Switches
from pipeline.rehearsal.fleet.world import World
from pipeline.runbook import permissions
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Seams
from pipeline.runbook.trace import Execution
from tests.diagnosis.test_causes import TEXTS

OLD, NEW = "ami-00000000000000a1d", "ami-00000000000000b2e"
FIRST = "i-00000000000000001"
CHANGING = ("Create", "Delete", "Update", "Put", "Start", "Cancel", "Set", "Terminate", "Suspend", "Resume", "Complete")


class Proof:
    """One execution over a world, and what it asked AWS."""

    def __init__(
        self,
        spec: FleetSpec,
        *,
        faults: Sequence[Fault] = (),
        switches: Switches | None = None,
        answers: Callable[["Proof", str, Mapping[str, Any]], dict[str, Any] | None] = lambda *_: None,
        parameters: Mapping[str, object] | None = None,
        **more: object,
    ) -> None:
        self.clock = VirtualClock()
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self.world = World(spec, self.clock, faults=faults, switches=switches or Switches())
        self.start = self.clock.monotonic()
        self.ask = self.world.call  # AWS's own answer, past `answers`
        proof = self

        def call(service: str, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
            proof.calls.append((operation, given))
            name = f"{service}.{operation}"
            told = answers(proof, name, given)
            return proof.ask(service, operation, given) if told is None else told

        self.world.call = call  # type: ignore[method-assign, assignment]
        seams = Seams(
            session=fleet_session(self.world, check_answers=True),
            clock=self.clock,
            documents=document_named,
            account_id=spec.account,
        )
        given = {**(parameters or {}), **more} or {"Group": "example"}
        self.execution: Execution = execute(document_named("Ovenproof-ProveInstances"), given, seams)
        self.seconds = self.clock.monotonic() - self.start

    @property
    def status(self) -> str:
        return self.execution.status

    @property
    def reason(self) -> str:
        return str(self.execution.outputs["Prove.Reason"])

    @property
    def hosts(self) -> list[dict[str, Any]]:
        told = self.execution.outputs["Prove.Hosts"]
        return list(json.loads(told[0] if isinstance(told, list) else told))

    def asked(self, operation: str) -> list[Mapping[str, Any]]:
        return [given for name, given in self.calls if name == operation]

    def first_host(self) -> str:
        return next(iter(self.world.hosts))


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> FleetSpec:
    """The example with every host on the new image."""
    text = (FOLDER / "fleets" / "twenty.yaml").read_text()
    file = tmp_path_factory.mktemp("fleet") / "rolled.yaml"
    file.write_text(text.replace(f"ImageId: {OLD}", f"ImageId: {NEW}"))
    return read_fleet(file)


def one_host(spec: FleetSpec) -> FleetSpec:
    (group,) = spec.groups
    small = group.model_copy(update={"min_size": 1, "desired": 1})
    return spec.model_copy(update={"groups": (small,), "services": ()})


# -- the two verdicts -------------------------------------------------------------------------------------------------


def test_a_group_on_the_new_image_is_proven(rolled: FleetSpec) -> None:
    proof = Proof(rolled)

    assert proof.status == "Success"
    assert proof.reason == "20 hosts proved themselves"
    assert len(proof.hosts) == 20
    assert proof.hosts[0] == {
        "instance": proof.first_host(),
        "kernel": "5.10.245-241.976.amzn2",
        "unit": {
            "installed": True,
            "enabled": True,
            "active": "active",
            "restarts_in_window": 0,
            "window_seconds": 20,
        },
        "agent_version": "1.17.1",
        "checks": {"passed": 177, "failed": 0, "failures": []},
        "carried": False,
        "coverage": "HEALTHY",
        "issue": "",
        "problems": [],
    }


def test_a_group_on_the_old_image_is_not_and_the_reason_names_kernel_and_agent() -> None:
    proof = Proof(example_fleet("twenty"))

    assert proof.status == "Failed"
    assert proof.reason.startswith("20 of 20 hosts are not proven: kernel 4.14.355-280.672.amzn2 is not supported")
    assert "the GuardDuty agent is not installed: roll the host, or use InstallAgentOnInstances (i-" in proof.reason
    assert proof.reason.count(" and 18 more)") >= 2
    assert proof.reason in proof.execution.failure
    assert len(proof.hosts) == 20
    assert all(len(host["problems"]) == 4 for host in proof.hosts)
    assert "coverage UNHEALTHY: Agent Not Provisioned: Kernel version" in proof.hosts[0]["problems"][3]
    assert proof.seconds < 120  # nobody waits for coverage that cannot come


def test_nothing_is_changed(rolled: FleetSpec) -> None:
    proof = Proof(rolled, Group="example", Cluster="example", Alarms=["example-5xx"])

    assert [name for name, _ in proof.calls if name.startswith(CHANGING)] == []
    assert {given["DocumentName"] for given in proof.asked("SendCommand")} == {"Ovenproof-ProveInstance"}


def test_only_the_named_hosts_are_asked_and_each_once(rolled: FleetSpec) -> None:
    world = World(rolled, VirtualClock())
    some = list(world.hosts)[:3]

    proof = Proof(rolled, InstanceIds=[*some, some[0]], WindowSeconds=45)

    assert proof.status == "Success"
    (sent,) = proof.asked("SendCommand")
    assert sent["InstanceIds"] == some
    assert sent["Parameters"] == {"WindowSeconds": ["45"]}


def test_a_window_that_one_script_could_not_wait_for_is_cut(rolled: FleetSpec) -> None:
    proof = Proof(one_host(rolled), Group="example", WindowSeconds=3000)

    assert proof.status == "Success"
    assert proof.asked("SendCommand")[0]["Parameters"] == {"WindowSeconds": ["120"]}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"WindowSeconds": 20}, "no host and no group was named: give InstanceIds or Group"),
        ({"Group": "exmaple"}, "there is no Auto Scaling group exmaple in this account and region"),
    ],
)
def test_a_question_about_nothing_is_no_proof(rolled: FleetSpec, parameters: dict[str, object], reason: str) -> None:
    proof = Proof(rolled, parameters=parameters)

    assert (proof.status, proof.reason) == ("Failed", reason)


def test_an_empty_group_is_no_proof(rolled: FleetSpec) -> None:
    (group,) = rolled.groups
    empty = rolled.model_copy(
        update={"groups": (group.model_copy(update={"min_size": 0, "desired": 0}),), "services": ()}
    )

    proof = Proof(empty)

    assert (proof.status, proof.reason) == ("Failed", "the group example has no host in service")


# -- what a host can have ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("wrong-kernel", "kernel 4.14.355-280.672.amzn2 is not supported by the agent"),
        ("unit-failed", "the unit amazon-guardduty-agent is failed: journalctl -u amazon-guardduty-agent"),
        ("unit-flapping", "the agent was restarted 4 times in 20 s"),
        ("coverage-unhealthy", "coverage UNHEALTHY: No Agent Reporting: Agent disconnected: on the host: systemctl"),
        ("coverage-absent", "coverage ABSENT: GuardDuty has not heard of this instance"),
    ],
)
def test_each_fault_of_one_host_fails_the_proof_and_names_the_host(rolled: FleetSpec, kind: Any, problem: str) -> None:
    proof = Proof(rolled, faults=[Fault(kind=kind, image="any", first=1)])

    assert proof.status == "Failed"
    assert proof.reason.startswith("1 of 20 hosts are not proven: ")
    assert problem in proof.reason
    bad = [host["instance"] for host in proof.hosts if host["problems"]]
    assert bad == [proof.hosts[0]["instance"]]  # the bad ones come first
    assert f"({bad[0]})" in " ".join(proof.reason.split()) or len(proof.reason) == 500


def test_coverage_is_waited_for_up_to_its_limit_and_no_longer(rolled: FleetSpec) -> None:
    faults = [Fault(kind="coverage-absent", image="any", first=1)]

    proof = Proof(rolled, faults=faults, Group="example", CoverageTimeoutSeconds=900)

    assert proof.status == "Failed"
    assert 900 < proof.seconds < 1000
    asked = [given["FilterCriteria"]["FilterCriterion"][1] for given in proof.asked("ListCoverage")]
    assert len(asked[5]["FilterCondition"]["Equals"]) == 1  # who is HEALTHY is not asked about again
    assert proof.execution.step("Prove").attempts == 2  # a script lives ten minutes; the next attempt goes on


def test_coverage_that_comes_in_time_is_good_enough(rolled: FleetSpec) -> None:
    faults = [Fault(kind="coverage-absent", image="any", first=1, until=700)]

    proof = Proof(rolled, faults=faults)

    assert proof.status == "Success"
    assert 700 < proof.seconds < 760


def test_the_bad_hosts_are_told_first(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        if name != "ssm.ListCommandInvocations":
            return None
        told = proof.ask("ssm", name.removeprefix("ssm."), given)
        last = told["CommandInvocations"][-1]["CommandPlugins"][0]
        last["Output"] = last["Output"].replace('"enabled": true', '"enabled": false')
        return told

    proof = Proof(rolled, answers=answers)

    assert proof.status == "Failed"
    assert proof.hosts[0]["instance"] == list(proof.world.hosts)[-1]
    assert proof.hosts[0]["problems"] == [
        "the unit amazon-guardduty-agent is not enabled, so it would be gone after a reboot"
    ]


def test_guardduty_that_is_not_enabled_is_said_at_once(rolled: FleetSpec) -> None:
    proof = Proof(rolled.model_copy(update={"guardduty": False}))

    assert proof.status == "Failed"
    assert "GuardDuty is not enabled in this account and region" in proof.reason
    assert proof.seconds < 120


def test_an_issue_nobody_knows_is_kept_as_it_is(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, _: Mapping[str, Any]) -> dict[str, Any] | None:
        if name != "guardduty.ListCoverage":
            return None
        details = {"ResourceType": "EC2", "Ec2InstanceDetails": {"InstanceId": proof.first_host()}}
        return {"Resources": [{"ResourceDetails": details, "CoverageStatus": "UNHEALTHY", "Issue": "Moon in Leo"}]}

    proof = Proof(one_host(rolled), answers=answers, Group="example", CoverageTimeoutSeconds=0)

    assert proof.hosts[0]["problems"] == ["coverage UNHEALTHY: Moon in Leo"]
    assert proof.hosts[0]["issue"] == "Moon in Leo"


def test_an_empty_issue_gets_the_user_guides_remedy(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, _: Mapping[str, Any]) -> dict[str, Any] | None:
        if name != "guardduty.ListCoverage":
            return None
        details = {"ResourceType": "EC2", "Ec2InstanceDetails": {"InstanceId": proof.first_host()}}
        return {"Resources": [{"ResourceDetails": details, "CoverageStatus": "UNHEALTHY"}]}

    proof = Proof(one_host(rolled), answers=answers, Group="example", CoverageTimeoutSeconds=0)

    (problem,) = proof.hosts[0]["problems"]
    assert problem.startswith("coverage UNHEALTHY: no issue is named: check that the unit amazon-guardduty-agent runs")


def swapping(proof: Proof, *_: object) -> None:
    """Before the proof the host gets a new root volume of the same image: GuardDuty's row of it is HEALTHY."""
    if len(proof.calls) == 1:
        host = proof.world.hosts[proof.first_host()]
        assert host.group is not None
        host.swap_to = host.group.configuration
        proof.world.groups.refreshes.swap(host)
        proof.clock.sleep(proof.world.spec.timing.root_swap * 1.1)


def test_coverage_from_before_a_root_volume_was_replaced_is_not_believed(rolled: FleetSpec) -> None:
    absent = Fault(kind="coverage-absent", image="any", after=1)

    proof = Proof(one_host(rolled), answers=swapping, faults=[absent], InstanceIds=[FIRST], CoverageTimeoutSeconds=600)

    assert proof.status == "Failed"
    assert "coverage HEALTHY as it was before its root volume was replaced" in proof.reason
    assert 600 < proof.seconds < 800


def test_coverage_is_waited_for_anew_once_a_root_volume_was_replaced(rolled: FleetSpec) -> None:
    timing = rolled.timing

    proof = Proof(one_host(rolled), answers=swapping, InstanceIds=[FIRST])

    assert proof.status == "Success"
    assert proof.seconds > (timing.root_swap + timing.coverage) * 0.9 + timing.pending


# -- hosts that come and go -------------------------------------------------------------------------------------------


def test_a_new_hosts_ssm_agent_may_come_later(rolled: FleetSpec) -> None:
    """SendCommand refuses all of its hosts for one that SSM does not know yet."""

    def answers(proof: Proof, *_: object) -> None:
        if not proof.asked("SendCommand") and len(proof.calls) == 1:
            proof.world.hosts[proof.first_host()].ssm_online = proof.world.t + 60

    proof = Proof(rolled, answers=answers)

    assert proof.status == "Success"
    assert sorted(len(given["InstanceIds"]) for given in proof.asked("SendCommand")) == [1, 19]
    assert proof.seconds > 60


def test_a_host_that_ssm_never_manages_is_named_with_what_to_look_at(rolled: FleetSpec) -> None:
    def answers(proof: Proof, *_: object) -> None:
        if len(proof.calls) == 1:
            proof.world.hosts[proof.first_host()].ssm_online = 1e18

    proof = Proof(rolled, answers=answers)

    assert proof.status == "Failed"
    assert "1 of 20 hosts are not proven: SSM does not manage it" in proof.reason
    assert "AmazonSSMManagedInstanceCore" in proof.reason
    assert 600 < proof.seconds < 700
    assert sum(not host["problems"] for host in proof.hosts) == 19


def test_a_host_that_goes_between_look_and_command_is_asked_at_the_next_look(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, _: Mapping[str, Any]) -> None:
        if name == "ssm.SendCommand" and len(proof.asked("SendCommand")) == 1:
            raise Refused("InvalidInstanceId", "Instances [[i-0]] not in a valid state")

    proof = Proof(rolled, answers=answers)

    assert proof.status == "Success"
    assert len(proof.asked("SendCommand")) == 2


def test_a_host_that_leaves_the_group_meanwhile_is_not_held_against_it(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, _: Mapping[str, Any]) -> dict[str, Any] | None:
        if name == "autoscaling.DescribeAutoScalingGroups" and len(proof.asked("DescribeAutoScalingGroups")) > 1:
            group = proof.world.groups.all["example"]
            gone = group.hosts.pop(proof.first_host(), None)
            assert gone is not None or len(proof.asked("DescribeAutoScalingGroups")) > 2
        return None

    faults = [Fault(kind="unit-failed", image="any", first=1)]
    proof = Proof(rolled, faults=faults, answers=answers)

    assert proof.status == "Success"
    assert proof.reason == "19 hosts proved themselves"


def test_a_host_that_joins_the_group_meanwhile_has_its_own_time(rolled: FleetSpec) -> None:
    faults = [
        Fault(kind="coverage-absent", image="any", first=1, until=510),
        Fault(kind="scale-out-mid-way", after=400),  # in service after 30 s more, healthy after some 150
    ]

    proof = Proof(rolled, faults=faults, Group="example", CoverageTimeoutSeconds=520)

    assert proof.status == "Success"
    assert proof.reason == "21 hosts proved themselves"
    assert proof.execution.step("Prove").attempts == 2


def test_hosts_of_the_group_that_are_out_of_service_are_not_asked(rolled: FleetSpec) -> None:
    (group,) = rolled.groups
    spec = rolled.model_copy(update={"groups": (group.model_copy(update={"standby": 2}),)})

    assert Proof(spec).reason == "20 hosts proved themselves"


def test_a_host_that_ssm_lost_does_not_keep_the_others_from_being_asked(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
        if name != "ssm.DescribeInstanceInformation" or len(proof.asked("DescribeInstanceInformation")) > 1:
            return None
        told = proof.ask("ssm", name.removeprefix("ssm."), given)
        told["InstanceInformationList"][0]["PingStatus"] = "ConnectionLost"
        return told

    proof = Proof(rolled, answers=answers)

    assert proof.status == "Success"
    assert [len(given["InstanceIds"]) for given in proof.asked("SendCommand")] == [19, 1]


def test_more_than_fifty_hosts_are_asked_fifty_at_a_time(rolled: FleetSpec) -> None:
    (group,) = rolled.groups
    many = rolled.model_copy(
        update={"groups": (group.model_copy(update={"desired": 120, "max_size": 240}),), "services": ()}
    )

    proof = Proof(many)

    assert proof.status == "Success"
    assert [len(given["InstanceIds"]) for given in proof.asked("SendCommand")] == [50, 50, 20]
    asked = [given["FilterCriteria"]["FilterCriterion"][1] for given in proof.asked("ListCoverage")]
    assert all(len(one["FilterCondition"]["Equals"]) <= 50 for one in asked)


def test_what_is_told_of_a_thousand_hosts_stays_json_and_below_ssms_limit() -> None:
    spec = example_fleet("twenty")
    (group,) = spec.groups
    many = spec.model_copy(
        update={"groups": (group.model_copy(update={"desired": 1000, "max_size": 2000}),), "services": ()}
    )

    proof = Proof(many)

    assert proof.status == "Failed"
    assert proof.reason.startswith("1000 of 1000 hosts are not proven")
    assert len(json.dumps(proof.execution.step("Prove").outputs["Hosts"])) < 90_000
    *told, rest = proof.hosts
    assert rest == {"left_out": 1000 - len(told)}


# -- reports that are none --------------------------------------------------------------------------------------------


def invocation(proof: Proof, **fields: Any) -> dict[str, Any]:
    return {
        "CommandInvocations": [
            {
                "CommandId": proof.world.hosts and next(iter(proof.world.commands)),
                "InstanceId": proof.first_host(),
                "Status": "Failed",
                "CommandPlugins": [],
                **fields,
            }
        ]
    }


def test_a_list_cuts_outputs_short_and_then_the_hosts_own_is_read(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, _: Mapping[str, Any]) -> dict[str, Any] | None:
        if name != "ssm.ListCommandInvocations":
            return None
        proof.clock.sleep(60)
        plugin = {"Output": '{"kernel": "5.10.245'}
        return invocation(proof, Status="Success", CommandPlugins=[plugin])

    proof = Proof(one_host(rolled), answers=answers)

    assert proof.status == "Success"
    assert len(proof.asked("GetCommandInvocation")) == 1


@pytest.mark.parametrize("output", ["", "sh: 1: not found\n", '{"hello": 1}\n', "{\n", "{}{}\n"])
def test_a_command_that_prints_no_report_is_a_failure_with_its_last_words(rolled: FleetSpec, output: str) -> None:
    def answers(proof: Proof, name: str, _: Mapping[str, Any]) -> dict[str, Any] | None:
        if name == "ssm.ListCommandInvocations":
            return invocation(proof, CommandPlugins=[{"Output": output}])
        if name == "ssm.GetCommandInvocation":
            return {
                "StandardOutputContent": output,
                "StandardErrorContent": "the disk is full\n",
                "StatusDetails": "Failed",
            }
        return None

    proof = Proof(one_host(rolled), answers=answers)

    assert proof.status == "Failed"
    assert "ProveInstance ended Failed without a report: the disk is full" in proof.reason


def test_a_list_that_does_not_show_every_host_yet_is_no_answer(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, _: Mapping[str, Any]) -> dict[str, Any] | None:
        empty = name == "ssm.ListCommandInvocations" and len(proof.asked("ListCommandInvocations")) < 6
        return {"CommandInvocations": []} if empty else None

    assert Proof(rolled, answers=answers).status == "Success"


def test_a_command_that_never_ends_is_given_up(rolled: FleetSpec) -> None:
    def answers(proof: Proof, name: str, _: Mapping[str, Any]) -> dict[str, Any] | None:
        return invocation(proof, Status="InProgress") if name == "ssm.ListCommandInvocations" else None

    proof = Proof(one_host(rolled), answers=answers)

    assert proof.status == "Failed"
    assert "no answer to ProveInstance within 420 s" in proof.reason
    assert len(proof.asked("SendCommand")) == 1


# -- AWS itself -------------------------------------------------------------------------------------------------------


def test_a_refusal_is_a_verdict_and_hosts_are_not_asked_again_and_again(rolled: FleetSpec) -> None:
    def answers(_: Proof, name: str, __: Mapping[str, Any]) -> None:
        if name == "guardduty.ListCoverage":
            raise Refused("AccessDeniedException", "not authorized to perform guardduty:ListCoverage")

    proof = Proof(rolled, answers=answers)

    assert proof.status == "Failed"
    assert proof.reason.startswith("AWS refuses: An error occurred (AccessDeniedException)")
    assert len(proof.asked("SendCommand")) == 1


@pytest.mark.parametrize(
    "operation",
    [
        "autoscaling.DescribeAutoScalingGroups",
        "ec2.DescribeInstances",
        "ssm.DescribeInstanceInformation",
        "ssm.SendCommand",
        "ssm.ListCommandInvocations",
        "guardduty.ListDetectors",
        "guardduty.ListCoverage",
    ],
)
def test_throttling_of_any_call_only_takes_time(rolled: FleetSpec, operation: str) -> None:
    proof = Proof(rolled, faults=[Fault(kind="throttling", operation=operation, times=2)])

    assert proof.status == "Success"


def flipped(switches: Switches) -> str:
    return next(
        (f"{name}={value}" for name, value in vars(switches).items() if value != getattr(Switches(), name)), "-"
    )


@pytest.mark.parametrize("switches", list(Switches.every_single_flip()), ids=flipped)
def test_the_verdict_is_the_same_whatever_aws_does_where_it_is_not_documented(
    rolled: FleetSpec, switches: Switches
) -> None:
    assert Proof(rolled, switches=switches).status == "Success"
    assert Proof(example_fleet("twenty"), switches=switches).status == "Failed"


# -- services and alarms ----------------------------------------------------------------------------------------------


def test_with_a_cluster_the_gate_waits_until_services_are_steady(rolled: FleetSpec) -> None:
    proof = Proof(rolled, faults=[Fault(kind="deploy-mid-way", after=1)], Group="example", Cluster="example")

    assert proof.status == "Success"
    assert proof.execution.step("Gate").status == "Success"
    assert "steady" in str(proof.execution.outputs["Gate.Reason"])


@pytest.mark.parametrize("cluster", [{}, {"Cluster": "example"}])
def test_an_alarm_that_is_on_keeps_the_gate_shut_with_or_without_a_cluster(
    rolled: FleetSpec, cluster: dict[str, str]
) -> None:
    faults = [Fault(kind="alarm-fires", name="example-5xx")]

    proof = Proof(rolled, faults=faults, parameters={"Group": "example", "Alarms": ["example-5xx"], **cluster})

    assert proof.status == "Failed"
    assert "alarm not quiet: example-5xx" in proof.execution.failure


def test_an_alarm_that_is_not_there_is_not_quiet(rolled: FleetSpec) -> None:
    proof = Proof(rolled, Group="example", Alarms=["example-6xx"])

    assert proof.status == "Failed"
    assert "alarm not quiet: example-6xx" in proof.execution.failure


def test_without_cluster_and_alarms_no_service_is_asked(rolled: FleetSpec) -> None:
    assert Proof(rolled).asked("ListServices") == []


# -- what belongs together --------------------------------------------------------------------------------------------


def test_remedies_in_the_script_are_those_of_the_table() -> None:
    assert extract.SCRIPT.read_text(encoding="utf-8") == extract.render(), "python -m pipeline.diagnosis.extract"
    scope: dict[str, Any] = {}
    text = yaml.safe_load(document_text("Ovenproof-ProveInstances"))
    (script,) = (step["inputs"]["Script"] for step in text["mainSteps"] if step["name"] == "Prove")
    exec(compile(script, "prove", "exec"), scope)  # noqa: S102 - our own script

    for on, issue, cause in TEXTS:
        for said in (issue, issue.upper()):
            if set(on) & {"ec2", "bottlerocket"}:
                assert scope["remedy_for"](said) == in_words(causes()[cause].remedy), issue
    for unknown in ("", "A text of 2029", "Agent Not Provisioned: a text of 2029", "No Agent Reporting: of 2029"):
        assert scope["remedy_for"](unknown) == ""
    assert scope["ABSENT"] == ABSENT_REMEDY


def test_the_policy_beside_it_is_enough_and_none_of_it_is_too_much(rolled: FleetSpec) -> None:
    policy = policy_of("Ovenproof-ProveInstances")
    allowed = permissions.statements(policy)
    used: set[str] = set()

    def answers(_: Proof, name: str, given: Mapping[str, Any]) -> None:
        service, _dot, operation = name.partition(".")
        used.update(permissions.actions_of(service, operation))
        if denied := permissions.evaluate(allowed, service, operation, given):
            raise Refused("AccessDeniedException", f"the role is not allowed to perform {denied}")

    done = Proof(rolled, answers=answers, Group="example", Cluster="example", Alarms=["example-5xx"])
    Proof(example_fleet("twenty"), answers=answers)

    assert done.status == "Success"
    only_when = {"ssm:GetCommandInvocation", "ssm:GetAutomationExecution"}  # a cut report; a failed proof's last step
    assert {action for statement in allowed for action in statement.actions} - used <= only_when


def test_the_policies_wildcards_all_have_their_reason() -> None:
    lines = (FOLDER / "policies" / "ProveInstances.yaml").read_text().splitlines()

    bare = [line for above, line in itertools.pairwise(lines) if "*" in line and "#" not in above + line]
    assert bare == []


def test_scripts_import_only_what_ssm_has() -> None:
    text = yaml.safe_load(document_text("Ovenproof-ProveInstances"))
    imported = {
        line.split()[1].partition(".")[0]
        for step in text["mainSteps"]
        for line in step.get("inputs", {}).get("Script", "").splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported <= {"boto3", "botocore", "collections", "json", "time", "typing"}
