"""What the member role and the callers' policies allow, held against the calls that the commands make on the model.

Each call is weighed with its parameters, as IAM would: by action and by resource. Conditions are taken as met.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from policy_sentry.querying.actions import get_action_data

from pipeline.diagnosis import command, views
from pipeline.diagnosis.access import ROLE
from pipeline.monitoring import command as enabling
from pipeline.monitoring import endpoints
from pipeline.monitoring import fix as fixing
from pipeline.paths import CHECKOUT
from pipeline.rehearsal.answered_session import Call, Refused
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import EXAMPLE
from pipeline.runbook import permissions

TEMPLATE: Final = CHECKOUT / "pipeline" / "diagnosis" / "member.yaml"
CALLERS: Final = {
    name: CHECKOUT / "pipeline" / "policies" / f"{name}.yaml"
    for name in ("coverage-caller", "enable-monitoring-caller")
}
ADMINISTRATOR: Final = "111111111111"

WITH_STACKS: Final = {
    # what CloudFormation does in the caller's name when it makes, tags and, should that fail, unmakes endpoint.yaml
    *("ec2:AuthorizeSecurityGroupIngress", "ec2:CreateSecurityGroup", "ec2:CreateTags", "ec2:CreateVpcEndpoint"),
    *("ec2:DeleteSecurityGroup", "ec2:DeleteVpcEndpoints", "route53:AssociateVPCWithHostedZone"),
    *("cloudformation:DeleteStack", "cloudformation:TagResource"),
}
"""Allowed for fix, and called by no line of ours."""
ONLY_WITH_OTHER_POLICIES: Final = {
    # asked only where a service control policy hangs on a unit or root, or is a list of what is allowed
    "organizations:ListAccountsForParent",
    "organizations:ListOrganizationalUnitsForParent",
    "organizations:ListPoliciesForTarget",
}
"""Allowed for coverage, and not called on the example, whose policy denies and hangs on an account."""


class Loader(yaml.SafeLoader):
    """CloudFormation's short forms: Sub is filled in, the others are kept by name."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        text = str(loader.construct_scalar(node))
        return re.sub(
            r"\$\{AWS::(\w+)\}", lambda found: {"Partition": "aws", "AccountId": "*"}.get(found[1], "*"), text
        )
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    raise AssertionError(suffix)


Loader.add_multi_constructor("!", _intrinsic)
RESOURCES: Final[dict[str, Any]] = yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader)["Resources"]  # noqa: S506


def member_policies() -> dict[str, Any]:
    documents = {name: RESOURCES[name]["Properties"]["PolicyDocument"] for name in ("Read", "Inside")}
    (fix,) = RESOURCES["Fix"]["Properties"]["Policies"]
    return {**documents, "Fix": fix["PolicyDocument"]}


def caller_policy(name: str) -> Any:
    return yaml.safe_load(CALLERS[name].read_text(encoding="utf-8"))


def actions(*policies: Any) -> set[str]:
    return {
        action for policy in policies for statement in permissions.statements(policy) for action in statement.actions
    }


class Recorder:
    """The model behind every organization of a test, with every call by who made it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: defaultdict[str, list[Call]] = defaultdict(list)
        self.roles: set[str] = set()
        inner = Organization.answer

        def answer(organization: Organization, call: Call) -> Mapping[str, Any]:
            number = call.access_key[4:16]
            self.calls["administrator" if number == ADMINISTRATOR else "member"].append(call)
            if call.operation == "AssumeRole":
                self.roles.add(call.parameters["RoleArn"].rsplit("/", 1)[-1])
            return inner(organization, call)

        monkeypatch.setattr(Organization, "answer", answer)

    def used(self, who: str) -> set[str]:
        return {action for call in self.calls[who] for action in permissions.actions_of(call.service, call.operation)}

    def denied(self, who: str, *policies: Any) -> set[str]:
        allowed = [statement for policy in policies for statement in permissions.statements(policy)]
        return {
            denied
            for call in self.calls[who]
            if (denied := permissions.evaluate(allowed, call.service, call.operation, call.parameters))
        }


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def test_coverage_calls_what_role_and_caller_allow_and_little_less(recorder: Recorder) -> None:
    command.coverage(show=lambda _: None, say=lambda _: None)
    policies = member_policies()
    member = [policies["Read"], policies["Inside"]]
    assert recorder.denied("member", *member) == set()
    assert actions(*member) - recorder.used("member") == {"ec2:DescribeSubnets"}, "only fix asks for subnets"
    own = caller_policy("coverage-caller")
    assert recorder.denied("administrator", own, policies["Read"]) == set()  # its own hosts are looked at too
    assert actions(own) - recorder.used("administrator") == ONLY_WITH_OTHER_POLICIES
    assert recorder.roles == {ROLE} == {RESOURCES["Coverage"]["Properties"]["RoleName"]}


def test_without_looking_inside_the_role_that_only_reads_is_enough(recorder: Recorder) -> None:
    command.coverage(look_inside="no", show=lambda _: None, say=lambda _: None)
    assert recorder.denied("member", member_policies()["Read"]) == set()


def test_fix_calls_what_its_role_allows_and_little_less(recorder: Recorder) -> None:
    fixing.fix(endpoint=True, services=True, yes=True, show=lambda _: None, say=lambda _: None)
    policies = member_policies()
    assert recorder.denied("member", *policies.values()) == set()
    assert actions(policies["Fix"]) - recorder.used("member") == WITH_STACKS
    assert "ec2:DescribeSubnets" in recorder.used("member")
    assert recorder.denied("administrator", caller_policy("coverage-caller"), policies["Read"]) == set()
    assert recorder.roles == {fixing.FIX_ROLE} == {RESOURCES["Fix"]["Properties"]["RoleName"]}


def test_fix_that_only_lists_assumes_the_role_that_only_reads(recorder: Recorder) -> None:
    fixing.fix(endpoint=True, services=True, show=lambda _: None, say=lambda _: None)
    assert recorder.roles == {ROLE}
    assert recorder.denied("member", member_policies()["Read"], member_policies()["Inside"]) == set()


def test_enabling_calls_what_its_caller_may_and_nothing_less(recorder: Recorder, tmp_path: Path) -> None:
    # the administrator itself is enabled too, by another call; then all of it is undone
    text = EXAMPLE.read_text(encoding="utf-8").replace("accounts:\n", ADMINISTRATOR_OFF, 1)
    (tmp_path / "organization.yaml").write_text(text, encoding="utf-8")
    given: dict[str, Any] = {
        "organization": str(tmp_path / "organization.yaml"),
        "yes": True,
        "show": lambda _: None,
        "say": lambda _: None,
    }
    chosen = f"200000000003,{ADMINISTRATOR}"
    enabling.enable_monitoring(
        account=chosen,
        region="eu-central-1",
        agents="ec2,fargate",
        new_accounts="NEW",
        undo_file=str(tmp_path / "1"),
        **given,
    )
    enabling.enable_monitoring(
        unit="workloads/prod", tag="team=shop", agents="fargate", undo_file=str(tmp_path / "2"), **given
    )
    enabling.enable_monitoring(undo=str(tmp_path / "1"), undo_file=str(tmp_path / "3"), **given)
    policy = caller_policy("enable-monitoring-caller")
    assert recorder.denied("administrator", policy) == set()
    assert actions(policy) - recorder.used("administrator") == set()
    assert recorder.calls["member"] == []


ADMINISTRATOR_OFF: Final = f"""accounts:
  - id: "{ADMINISTRATOR}"
    name: security
    problems: [runtime-monitoring-off]
"""


def test_a_call_too_many_would_be_seen(recorder: Recorder) -> None:
    command.coverage(show=lambda _: None, say=lambda _: None)
    policy = member_policies()["Read"]
    for statement in policy["Statement"]:
        statement["Action"] = [one for one in _listed(statement["Action"]) if one != "ecs:ListServices"]
    assert recorder.denied("member", policy) == {"ecs:ListServices", "ssm:SendCommand", "ssm:ListCommandInvocations"}


def test_what_stacks_need_is_what_aws_documents_for_their_resources() -> None:
    """Actions that depend on others are in the Service Authorization Reference."""
    (first, *_) = get_action_data("ec2", "CreateVpcEndpoint")["ec2"]
    needed = {*first["dependent_actions"], "ec2:CreateVpcEndpoint"}
    assert needed <= actions(*member_policies().values())
    made = yaml.load(endpoints.TEMPLATE.read_text(encoding="utf-8"), Loader)["Resources"]  # noqa: S506
    kinds = {item["Type"] for item in made.values()}
    assert kinds == {"AWS::EC2::SecurityGroup", "AWS::EC2::VPCEndpoint"}


def test_a_host_is_looked_into_by_one_script_only() -> None:
    (step,) = RESOURCES["Script"]["Properties"]["Content"]["mainSteps"]
    assert RESOURCES["Script"]["Properties"]["Name"] == views.OWN_DOCUMENT
    assert step["inputs"]["runCommand"] == [views.LOOK_INSIDE.read_text(encoding="utf-8")]
    assert step["inputs"]["timeoutSeconds"] == str(views.LOOK_SECONDS)
    assert "{{" not in step["inputs"]["runCommand"][0]
    allowed = permissions.statements(member_policies()["Inside"])
    sent = {"InstanceIds": ["i-1"], "DocumentName": views.ANY_SCRIPT}
    assert permissions.evaluate(allowed, "ssm", "SendCommand", sent) == "ssm:SendCommand"
    assert permissions.evaluate(allowed, "ssm", "SendCommand", {**sent, "DocumentName": views.OWN_DOCUMENT}) == ""


def test_the_coverage_role_changes_nothing() -> None:
    reads = ("Describe", "Get", "List")
    assert [one for one in actions(member_policies()["Read"]) if not one.split(":")[1].startswith(reads)] == []


@pytest.mark.parametrize("role", ["Coverage", "Fix"])
def test_only_the_administrator_of_the_same_organization_is_trusted(role: str) -> None:
    (statement,) = RESOURCES[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"AWS": "arn:aws:iam::${Administrator}:root"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:PrincipalOrgID": "Organization"},
        "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::${Administrator}:${Caller}"},
    }


def test_in_other_regions_than_home_only_the_document_is_made() -> None:
    at_home = {"AtHome", "LooksAtHome", "RepairsAtHome"}
    elsewhere = {name for name, item in RESOURCES.items() if item["Condition"] not in at_home}
    assert elsewhere == {"Script"}


@pytest.mark.parametrize("file", [TEMPLATE, *CALLERS.values()], ids=lambda file: file.name)
def test_each_wildcard_has_its_reason_beside_it(file: Path) -> None:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if re.match(r" +Resource:", line)]
    assert len(lines) >= 3
    for line in lines:
        assert re.search(r"[^$]# ?\w|# \w", line), line


@pytest.mark.parametrize("name", ["Read", "Inside", "Fix", *CALLERS])
def test_no_action_is_a_wildcard_all_exist_and_the_policy_is_small_enough(name: str) -> None:
    """IAM takes 6,144 characters without white space in a managed policy, 10,240 for a role's own."""
    policy = member_policies()[name] if name not in CALLERS else caller_policy(name)
    assert [action for action in actions(policy) if "*" in action or not permissions.known_action(action)] == []
    assert len("".join(str(policy).split())) < 6144


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_a_document_that_is_not_deployed_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Organization.answer

    def answer(organization: Organization, call: Call) -> Mapping[str, Any]:
        if call.operation == "SendCommand":
            raise Refused("InvalidDocument", "The specified SSM document doesn't exist.")
        return inner(organization, call)

    monkeypatch.setattr(Organization, "answer", answer)
    shown: list[str] = []
    command.coverage(account="200000000002", region="us-east-1", show=shown.append, say=lambda _: None)
    told = " ".join(shown[0].split())
    assert "hosts from inside: there is no document Ovenproof-LookInside" in told
    assert "deploy pipeline/diagnosis/member.yaml there with LookInside=yes, or use --look-inside shell" in told


def test_policies_of_the_organization_that_were_not_seen_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Organization.answer

    def answer(organization: Organization, call: Call) -> Mapping[str, Any]:
        if call.operation == "ListPolicies":
            raise Refused("AccessDeniedException", "You don't have permissions to access this resource.")
        return inner(organization, call)

    monkeypatch.setattr(Organization, "answer", answer)
    for format in ("table", "json", "html"):
        shown: list[str] = []
        command.coverage(format=format, show=shown.append, say=lambda _: None)
        assert "service control policies were not seen" in " ".join(shown[0].split())
