"""The policy for whoever bakes in AWS: nothing that is called is missing, nothing is allowed that nobody calls."""

import ast
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore import xform_name

from pipeline.paths import CHECKOUT
from pipeline.proof_host import CALLER_POLICY
from tests.policy import NO_PERMISSION, allowed, listed, statements_of

POLICY: Final = CHECKOUT / CALLER_POLICY.split()[0]
STATEMENTS: Final = statements_of("bake-caller")
SERVICES: Final = ("ec2", "ecs", "guardduty", "iam", "ssm", "sts")

PACKER_NEEDS: Final = {
    # packer-plugin-amazon 1.8.2, docs/README.md, "IAM Task or Instance Role": the minimal set, and what it adds for
    # associate_public_ip_address without a subnet and for deprecate_at
    *(
        f"ec2:{action}"
        for action in (
            *("AuthorizeSecurityGroupIngress", "CreateImage", "CreateKeyPair", "CreateSecurityGroup", "CreateTags"),
            *("DeleteKeyPair", "DeleteSecurityGroup", "DeleteSnapshot", "DeleteVolume", "DeregisterImage"),
            *("DescribeImageAttribute", "DescribeImages", "DescribeInstances", "DescribeInstanceStatus"),
            *("DescribeRegions", "DescribeSecurityGroups", "DescribeSnapshots", "DescribeSubnets", "DescribeTags"),
            *("DescribeVolumes", "ModifyImageAttribute", "ModifyInstanceAttribute", "RunInstances", "StopInstances"),
            *("TerminateInstances", "DescribeVpcs", "DescribeInstanceTypeOfferings", "EnableImageDeprecation"),
        )
    ),
    # the same source's steps for a temporary instance profile and for ssh_interface session_manager
    *(
        f"iam:{action}"
        for action in (
            *("AddRoleToInstanceProfile", "CreateInstanceProfile", "CreateRole", "DeleteInstanceProfile", "DeleteRole"),
            *("DeleteRolePolicy", "GetInstanceProfile", "GetRole", "GetRolePolicy", "PassRole", "PutRolePolicy"),
            "RemoveRoleFromInstanceProfile",
        )
    ),
    *("ssm:StartSession", "ssm:TerminateSession"),
}
"""Of the documented set without what this template never asks for: copies, snapshots and volumes of its own,
registering an image from a snapshot, passwords of Windows, sharing. The local EC2 refuses these calls."""

TAGGING: Final = {"iam:TagRole", "iam:TagInstanceProfile", "ecs:TagResource"}  # asked for where a creation tags
KMS: Final = {
    # EBS user guide, "Permissions for IAM users"; Packer's provenance post-processor with a KMS key
    *("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"),
    *("kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GetPublicKey", "kms:Sign"),
}


def operations() -> dict[str, set[str]]:
    """Method name of boto3 to the actions it may stand for."""
    found: dict[str, set[str]] = {}
    for service in SERVICES:
        model: Any = boto3.client(service, region_name="eu-central-1").meta.service_model
        for name in model.operation_names:
            found.setdefault(xform_name(name), set()).add(f"{service}:{name}")
    return found


def modules_of_a_bake() -> set[Path]:
    """What `pipeline/flow.py` imports, directly or not; the local target's own modules call no AWS."""
    found: set[Path] = set()
    ahead = [CHECKOUT / "pipeline" / "flow.py"]
    while ahead:
        module = ahead.pop()
        found.add(module)
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            names = [f"{node.module}.{one.name}" for one in node.names] if node.module == "pipeline" else [node.module]
            paths = [CHECKOUT / (name.replace(".", "/") + ".py") for name in names if "rehearsal" not in name]
            ahead += [path for path in paths if path.is_file() and path not in found]
    return found


def names_in(source: Path) -> set[str]:
    """Every attribute and every string in a module: calls, and the names given to paginators."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return attributes | {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.fixture(scope="module")
def called() -> set[str]:
    names = {name for module in modules_of_a_bake() for name in names_in(module)}
    found = {action for name, actions in operations().items() if name in names for action in actions}
    assert {"ec2:RunInstances", "iam:ListRoles", "ecs:ListClusters", "guardduty:ListCoverage"} <= found
    return found


def test_every_call_of_the_code_is_allowed(called: set[str]) -> None:
    assert called - allowed(STATEMENTS) - NO_PERMISSION == set()


def test_everything_that_packer_documents_for_this_template_is_allowed() -> None:
    assert PACKER_NEEDS - allowed(STATEMENTS) == set()


def test_nothing_is_allowed_that_nobody_calls(called: set[str]) -> None:
    assert allowed(STATEMENTS) - called - PACKER_NEEDS - TAGGING - KMS == set()


def test_each_wildcard_has_its_reason_beside_it() -> None:
    lines = POLICY.read_text(encoding="utf-8").splitlines()
    resources = [line for line in lines if line.lstrip().startswith("Resource:")]
    assert len(resources) == len(STATEMENTS)
    for line in resources:
        assert "*" not in line.partition("#")[0] or "#" in line, line
        assert line.strip() != "Resource:", "a list needs its reason too"


def test_no_action_is_a_wildcard_and_what_removes_is_bound_to_a_bake() -> None:
    for statement in STATEMENTS:
        actions = listed(statement["Action"])
        assert not [action for action in actions if "*" in action]
        removes = [action for action in actions if action.split(":")[1].startswith(("Delete", "Terminate", "Dereg"))]
        if removes and statement["Resource"] == "*":
            assert "aws:ResourceTag/BakeId" in statement["Condition"]["Null"]


def test_a_role_s_policy_may_hold_it() -> None:
    """IAM takes 6,144 characters without white space in a managed policy."""
    size = len("".join(str(list(STATEMENTS)).split()))
    assert size < 6144
