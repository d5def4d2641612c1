"""Deploying over moto's CloudFormation: shown first, done on a yes, nothing to do the second time, removed."""

import warnings
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws

from pipeline.errors import CloudError, UsageError
from pipeline.stack.deploy import deploy, destroy, parse_settings
from tests.doubles import START

DOCUMENTS = {"Ovenproof-Example": "schemaVersion: '0.3'\ndescription: An example.\nmainSteps: []\n"}
SETTINGS = {"SourceLocation": "https://example.com/images"}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moto names the resources that it does not make
        yield boto3.Session(region_name="eu-west-1")


def run(session: boto3.Session, *, yes: bool, settings: dict[str, str] = SETTINGS, docs: Any = DOCUMENTS) -> str:
    return deploy(session, "ovenproof", settings, docs, yes=yes, now=START, say=lambda _: None)


def test_without_a_yes_it_is_shown_and_nothing_stays(session: boto3.Session) -> None:
    said = run(session, yes=False).splitlines()
    assert said[0] == "stack ovenproof in eu-west-1 would change:"
    assert "add     Project (AWS::CodeBuild::Project)" in said
    assert said[-2:] == ["add     Ovenproof-Example (SSM document)", "`--yes` does it"]
    assert session.client("cloudformation").describe_stacks()["Stacks"] == []


def test_it_is_deployed_once_and_then_there_is_nothing_to_do(session: boto3.Session) -> None:
    said = run(session, yes=True)
    assert said.startswith("stack ovenproof in eu-west-1 is deployed")
    published = session.client("ssm").get_document(Name="Ovenproof-Example")["Content"]
    assert yaml.safe_load(published) == yaml.safe_load(DOCUMENTS["Ovenproof-Example"])
    assert [one for one in session.client("iam").list_roles()["Roles"] if "BuildRole" in one["RoleName"]]
    assert run(session, yes=True, settings={}) == (
        "nothing to do: stack ovenproof in eu-west-1 is as the checkout has it"
    )


def test_a_document_that_changed_becomes_the_default(session: boto3.Session) -> None:
    run(session, yes=True)
    other = {"Ovenproof-Example": DOCUMENTS["Ovenproof-Example"].replace("An example", "Another one")}
    assert "modify  Ovenproof-Example (SSM document)" in run(session, yes=True, settings={}, docs=other)
    assert "Another one" in session.client("ssm").get_document(Name="Ovenproof-Example")["Content"]


def test_it_is_removed_and_says_what_stays(session: boto3.Session) -> None:
    run(session, yes=True)
    shown = destroy(session, "ovenproof", list(DOCUMENTS), yes=False, say=lambda _: None)
    assert shown.splitlines()[0] == "stack ovenproof in eu-west-1 would go:"
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("stays")] == [
        "Key",
        "SigningKey",
        "Bucket",
        "BuildLogs",
    ]
    assert destroy(session, "ovenproof", list(DOCUMENTS), yes=True, say=lambda _: None).startswith(
        "stack ovenproof in eu-west-1 is removed"
    )
    assert destroy(session, "ovenproof", [], yes=True, say=lambda _: None) == (
        "there is no stack ovenproof in eu-west-1"
    )


def test_what_cloudformation_refuses_is_an_error(session: boto3.Session) -> None:
    with pytest.raises(CloudError) as error:
        run(session, yes=True, settings={})
    assert error.value.what == "the stack could not be deployed"
    assert "SourceLocation" in error.value.found


def test_settings_are_read_and_what_is_none_is_told() -> None:
    text = "SourceLocation=https://example.com/a=b; Promote=yes;"
    assert parse_settings(text) == {"SourceLocation": "https://example.com/a=b", "Promote": "yes"}
    with pytest.raises(UsageError) as error:
        parse_settings("Promote")
    assert error.value.found == "Promote"
