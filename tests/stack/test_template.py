"""The stack's template: clean under cfn-lint, and closed in the ways that matter; cfripper has `test_rules.py`."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.stack.template import LIMIT, TEMPLATE, rendered_template
from tests.policy import listed

TEXT = rendered_template()


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, each as `{name: argument}`."""


def _function(loader: Any, name: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)
RESOURCES: dict[str, Any] = yaml.load(TEXT, _Loader)["Resources"]  # noqa: S506 - a SafeLoader


def of_type(kind: str) -> dict[str, Any]:
    return {name: one.get("Properties", {}) for name, one in RESOURCES.items() if one["Type"] == kind}


def statements() -> list[tuple[str, dict[str, Any]]]:
    found = []

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            if "Effect" in value:
                found.append((name, value))
            for item in value.values():
                walk(name, item)
        elif isinstance(value, list):
            for item in value:
                walk(name, item)

    for name, resource in RESOURCES.items():
        walk(name, resource)
    return found


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEXT)
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_fits_into_a_call() -> None:
    assert len(TEXT.encode()) <= LIMIT


def test_the_bucket_is_versioned_encrypted_closed_and_kept() -> None:
    bucket = RESOURCES["Bucket"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    (refusal,) = RESOURCES["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (refusal["Effect"], refusal["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_what_holds_data_outlives_the_stack() -> None:
    kinds = ("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Logs::LogGroup")
    kept = {name: one for name, one in RESOURCES.items() if one["Type"] in kinds}
    assert len(kept) == 4
    assert {(one["DeletionPolicy"], one["UpdateReplacePolicy"]) for one in kept.values()} == {("Retain", "Retain")}


def test_logs_and_topic_are_encrypted_and_logs_end() -> None:
    (group,) = of_type("AWS::Logs::LogGroup").values()
    assert {"KmsKeyId", "RetentionInDays"} <= set(group)
    (topic,) = of_type("AWS::SNS::Topic").values()
    assert "KmsMasterKeyId" in topic


def test_builds_are_bounded() -> None:
    project = RESOURCES["Project"]["Properties"]
    assert (project["ConcurrentBuildLimit"], project["AutoRetryLimit"], project["TimeoutInMinutes"]) == (1, 1, 180)
    assert "PrivilegedMode" not in project["Environment"]
    names = {one["Name"] for one in project["Environment"]["EnvironmentVariables"]}
    assert not [name for name in names if re.search("SECRET|TOKEN|PASSWORD|KEY", name)]


def test_nothing_comes_in() -> None:
    for group in of_type("AWS::EC2::SecurityGroup").values():
        assert "SecurityGroupIngress" not in group


def test_every_role_takes_the_boundary_and_is_for_this_account_only() -> None:
    roles = of_type("AWS::IAM::Role")
    assert set(roles) == {"BuildRole", "ScheduleRole"}
    assert roles["BuildRole"]["ManagedPolicyArns"] == [{"Ref": "BakePolicy"}, {"Ref": "PromotePolicy"}]
    for role in roles.values():
        assert role["PermissionsBoundary"]["If"][0] == "HasBoundary"
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_nobody_is_allowed_everything() -> None:
    for name, statement in statements():
        if statement["Effect"] == "Deny":
            continue
        assert statement.get("Principal") != "*", name
        assert not {"NotAction", "NotResource", "NotPrincipal"} & set(statement), name
        wild = [action for action in listed(statement["Action"]) if "*" in action]
        assert wild in ([], ["kms:*"]), name
        assert not wild or name in ("Key", "SigningKey"), name


def test_each_wildcard_written_here_has_its_reason_beside_it() -> None:
    """Those of the two policies that are put in have theirs in `pipeline/policies/`."""
    for number, line in enumerate(TEMPLATE.read_text(encoding="utf-8").splitlines(), 1):
        value, hash_, reason = line.partition(" # ")
        if re.search(r"(Resource|Principal|Action): .*\*|^ +- (arn:|!Sub).*\*", value):
            assert hash_ and reason, f"line {number}: {line.strip()}"


@pytest.mark.parametrize("alarm", sorted(of_type("AWS::CloudWatch::Alarm")))
def test_every_alarm_tells_somebody_and_says_what_to_do_about_silence(alarm: str) -> None:
    properties = RESOURCES[alarm]["Properties"]
    assert properties["AlarmActions"] == [{"Ref": "Topic"}]
    assert properties["TreatMissingData"] == ("breaching" if alarm == "ImageStale" else "notBreaching")
