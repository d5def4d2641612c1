"""Publishing to an account that moto plays: what is new, what differs, what is left alone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from pipeline import publish_documents as publishing
from pipeline.clock import VirtualClock
from pipeline.documents import FOLDER, document_text, policy_of, rendered_documents
from pipeline.errors import CloudError, UsageError
from pipeline.publish_documents import (
    Document,
    Standing,
    change_of,
    merged,
    publish,
    standing_of,
    trust_policy,
    wanted_documents,
)

ACCOUNT = "123456789012"
TRUST = trust_policy(ACCOUNT, "aws")


@pytest.fixture
def session() -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session("AKIAEXAMPLE", "secret", region_name="eu-central-1")


@pytest.fixture
def published(session: boto3.Session) -> boto3.Session:
    publish(session, yes=True, clock=VirtualClock(), say=lambda _: None)
    return session


def run(session: boto3.Session, *, yes: bool = False) -> tuple[str, str]:
    said: list[str] = []
    return publish(session, yes=yes, clock=VirtualClock(), say=said.append), "\n".join(said)


def writes(session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls that change something, as they come."""
    seen: list[str] = []
    make = session.client

    def client(name: str, **more: Any) -> Any:
        made = make(name, **more)  # type: ignore[call-overload]
        made.meta.events.register(
            "before-call.*.*",
            lambda model, **_: (
                seen.append(model.name) if not model.name.startswith(("Get", "List", "Describe")) else None
            ),
        )
        return made

    monkeypatch.setattr(session, "client", client)
    return seen


def test_an_empty_account_gets_nothing_without_yes(session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = writes(session, monkeypatch)

    told, diff = run(session)

    assert seen == []
    assert "Ovenproof-RollFleets: new, role new" in told
    assert told.endswith("would change; `--yes` does it")
    assert '+schemaVersion: "0.3"' in diff
    assert "+++ Ovenproof-RollFleets (role)" in diff


def test_an_empty_account_gets_every_document_and_role(published: boto3.Session) -> None:
    ssm = published.client("ssm")
    for name, text in rendered_documents().items():
        assert yaml.safe_load(ssm.get_document(Name=name, DocumentFormat="YAML")["Content"]) == yaml.safe_load(text)
    policy = published.client("iam").get_role_policy(RoleName="Ovenproof-RollFleets", PolicyName="Ovenproof")[
        "PolicyDocument"
    ]
    assert "<" not in json.dumps(policy)
    assert f"arn:aws:ssm:*:{ACCOUNT}:document/Ovenproof-RollFleet" in json.dumps(policy)


def test_only_ssm_for_this_account_may_become_a_role(published: boto3.Session) -> None:
    role = published.client("iam").get_role(RoleName="Ovenproof-RollFleets")["Role"]

    trust: Any = role["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    assert statement["Principal"] == {"Service": "ssm.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}


def test_the_second_time_nothing_is_done(published: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = writes(published, monkeypatch)

    told, diff = run(published, yes=True)

    assert told.endswith(f"nothing to do: eu-central-1 of {ACCOUNT} has all of this")
    assert diff == ""
    assert seen == []


def test_a_changed_document_becomes_a_new_default_version_and_the_old_one_stays(
    published: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = document_text("Ovenproof-RollFleets")
    after = before.replace("Moves several Auto Scaling groups", "Moves many Auto Scaling groups")
    texts = {**rendered_documents(), "Ovenproof-RollFleets": after}
    monkeypatch.setattr(publishing, "rendered_documents", lambda: texts)

    told, diff = run(published, yes=True)

    assert "Ovenproof-RollFleets: changed, version 1 now" in told
    assert "-  Moves several Auto Scaling groups" in diff
    assert "+  Moves many Auto Scaling groups" in diff
    described = published.client("ssm").describe_document(Name="Ovenproof-RollFleets")["Document"]
    assert (described["DefaultVersion"], described["LatestVersion"]) == ("2", "2")
    old = published.client("ssm").get_document(Name="Ovenproof-RollFleets", DocumentVersion="1", DocumentFormat="YAML")
    assert yaml.safe_load(old["Content"]) == yaml.safe_load(before)
    assert "nothing to do" in run(published, yes=True)[0]


def test_a_version_that_was_made_and_not_yet_the_default_becomes_it(
    published: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = document_text("Ovenproof-RollFleets").replace("Moves several", "Moves many")
    published.client("ssm").update_document(
        Name="Ovenproof-RollFleets", Content=after, DocumentVersion="$LATEST", DocumentFormat="YAML"
    )
    texts = {**rendered_documents(), "Ovenproof-RollFleets": after}
    monkeypatch.setattr(publishing, "rendered_documents", lambda: texts)
    seen = writes(published, monkeypatch)

    told, _ = run(published, yes=True)

    assert "Ovenproof-RollFleets: version 2 becomes the default, which is 1 now" in told
    assert seen == ["UpdateDocumentDefaultVersion"]


def test_a_role_that_somebody_widened_is_put_right(published: boto3.Session) -> None:
    iam = published.client("iam")
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_role_policy(RoleName="Ovenproof-RollFleets", PolicyName="everything", PolicyDocument=json.dumps(wide))

    told, diff = run(published, yes=True)

    assert "Ovenproof-RollFleets: as it is, version 1, role changed" in told
    assert "-everything:" in diff
    assert "everything" not in iam.list_role_policies(RoleName="Ovenproof-RollFleets")["PolicyNames"]


def test_a_foreign_role_of_the_same_name_is_left_alone(session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.client("iam").create_role(RoleName="Ovenproof-RollFleets", AssumeRolePolicyDocument=json.dumps(TRUST))
    seen = writes(session, monkeypatch)

    with pytest.raises(CloudError, match="was not made by Ovenproof"):
        run(session, yes=True)

    assert seen == []


def test_what_aws_refuses_is_told(session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failed:
        def describe_document(self, **_: str) -> dict[str, Any]:
            return {"Document": {"Status": "Failed", "StatusInformation": "no such action"}}

    monkeypatch.setattr(session, "client", lambda _: Failed())

    with pytest.raises(CloudError, match="SSM does not take the document one") as refused:
        publishing._until_active(session, "one", "2", VirtualClock())

    assert "no such action" in refused.value.found


def actions(document: Document) -> set[str]:
    return {action for statement in document.policies["Ovenproof"]["Statement"] for action in statement["Action"]}


def test_a_role_may_do_what_the_documents_have_to_that_run_as_it() -> None:
    documents = {document.name: document for document in wanted_documents(ACCOUNT, "aws-us-gov")}

    own = policy_of("Ovenproof-InstallAgentOnInstance")
    proof = policy_of("Ovenproof-ProveInstances")
    assert own and proof
    wanted = {
        action
        for statement in [*own["Statement"], *(proof["Statement"] if "Ovenproof-ProveInstances" in documents else [])]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert actions(documents["Ovenproof-InstallAgentOnInstance"]) == wanted
    assert documents["Ovenproof-InstallAgent"].policies == {}
    assert "arn:aws-us-gov:ssm" in json.dumps(documents["Ovenproof-RollFleets"].policies)
    order = list(documents)
    assert order.index("Ovenproof-InstallAgent") < order.index("Ovenproof-InstallAgentOnInstance")


def test_only_the_roles_that_are_named_can_be_handed_to_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = {
        "Statement": [
            {
                "Sid": "Hand",
                "Effect": "Allow",
                "Action": "iam:PassRole",
                "Resource": "arn:<partition>:iam::<account>:role/<instance-role>",
            }
        ]
    }
    monkeypatch.setattr(publishing, "policy_of", lambda _: policy)

    (document,) = [
        one for one in wanted_documents(ACCOUNT, "aws", ["hosts", "gpu-hosts"]) if one.name == "Ovenproof-RollFleets"
    ]

    (statement,) = document.policies["Ovenproof"]["Statement"]
    assert statement["Resource"] == [f"arn:aws:iam::{ACCOUNT}:role/{role}" for role in ("gpu-hosts", "hosts")]


@pytest.mark.parametrize("roles", ["*", "ecs*", "a b", "role/x"])
def test_a_wildcard_is_no_role(roles: str) -> None:
    with pytest.raises(UsageError, match="is no role's name"):
        publishing.publish_documents(region="", instance_roles=roles, yes=True, say=lambda _: None)


def allow(action: str | list[str], resource: str | list[str], **more: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": "Allow", "Action": action, "Resource": resource, **more}]}


def test_policies_are_put_together_without_allowing_more() -> None:
    condition = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}

    policy = merged(
        [
            allow("a:One", ["x", "y"]),
            allow(["a:Two"], ["y", "x"]),
            allow(["a:One", "a:Two"], "z"),
            allow("a:One", ["x", "y"], Condition=condition),
            allow("a:Three", "w"),
        ]
    )

    assert policy["Statement"] == [
        {"Effect": "Allow", "Action": ["a:One"], "Resource": ["x", "y"], "Condition": condition},
        {"Effect": "Allow", "Action": ["a:One", "a:Two"], "Resource": ["x", "y", "z"]},
        {"Effect": "Allow", "Action": ["a:Three"], "Resource": ["w"]},
    ]


def test_a_denial_is_not_put_together_with_anything() -> None:
    with pytest.raises(ValueError, match="only plain Allow"):
        merged([{"Statement": [{"Effect": "Deny", "Action": "a:One", "Resource": "*"}]}])


def test_every_roles_policies_are_within_iams_size() -> None:
    """IAM: all inline policies of a role together have at most 10,240 characters, white space not counted."""
    for document in wanted_documents(ACCOUNT, "aws-us-gov", ["a-name-of-some-length", "another-one-of-that-kind"]):
        size = sum(len(json.dumps(policy, separators=(",", ":"))) for policy in document.policies.values())
        assert size <= 10_240, document.name


def test_all_policies_together_are_within_iams_size() -> None:
    files = [yaml.safe_load(file.read_text()) for file in (FOLDER / "policies").glob("*.yaml")]

    assert len(json.dumps(merged(files), separators=(",", ":"))) <= 10_240


def test_every_name_of_a_role_is_within_iams_size() -> None:
    assert all(len(document.name) <= 64 for document in wanted_documents(ACCOUNT, "aws"))


SAMPLE = Document(name="Ovenproof-X", kind="Automation", text="a: 1\n", policies={"Ovenproof-X": {"Statement": []}})
SAME = Standing(
    text="{a: 1}", latest="3", default="3", latest_text="{a: 1}", role=True, trust=TRUST, policies=SAMPLE.policies
)


@pytest.mark.parametrize(
    ("standing", "content", "role"),
    [
        (Standing(), "create", "create"),
        (SAME, "keep", "keep"),
        (replace(SAME, text="a: 2"), "make-default", "keep"),
        (replace(SAME, text="a: 2", latest_text="a: 2"), "update", "keep"),
        (replace(SAME, trust={}), "keep", "update"),
        (replace(SAME, policies={}), "keep", "update"),
        (replace(SAME, role=False), "keep", "create"),
    ],
)
def test_what_has_to_be_done_is_decided_without_aws(standing: Standing, content: str, role: str) -> None:
    change = change_of(SAMPLE, standing, TRUST)

    assert (change.content, change.role) == (content, role)
    assert bool(change.diff) == change.is_one


def test_a_command_document_has_no_role(session: boto3.Session) -> None:
    document = Document(name="Ovenproof-InstallAgent", kind="Command", text="a: 1\n", policies={})

    assert change_of(document, standing_of(session, document), TRUST).role == "none"
