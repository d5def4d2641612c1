"""The policy for whoever bakes, held against every call of a real bake, a plan and a sweep: Packer's among them."""

from typing import Final

import pytest

from pipeline.rehearsal.journal import Call
from tests.end_to_end import OwnCloud, Proven
from tests.policy import allowed, questions, refusals, statements_of

pytestmark = pytest.mark.slow

NEVER_CALLED_HERE: Final = {
    "only after a failure, or for what one left": {
        *("ec2:DeleteSnapshot", "ec2:DeleteVolume", "ec2:DeregisterImage", "ec2:GetConsoleOutput"),
        *("ecs:DeregisterContainerInstance", "iam:DetachRolePolicy", "iam:ListRoleTags"),
        *("ssm:DeleteDocument", "ssm:DescribeDocumentPermission", "ssm:ListDocumentVersions"),
        *("ssm:DescribeAutomationExecutions", "ssm:ListAssociations", "ssm:ListCommands"),
    },
    "only in AWS, where Packer reaches its builder by a session": {"ssm:StartSession", "ssm:TerminateSession"},
    "only with keys of KMS": {
        *("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"),
        *("kms:GetPublicKey", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:Sign"),
    },
    "Packer documents that it needs them": {
        *("ec2:DescribeImageAttribute", "ec2:DescribeInstanceStatus", "ec2:DescribeTags"),
        *("ec2:ModifyInstanceAttribute", "iam:GetRolePolicy"),
    },
}
"""What is allowed and was not called, by the reason why it is allowed all the same."""


@pytest.fixture(scope="module")
def called(own_cloud: OwnCloud, proven: Proven) -> tuple[Call, ...]:
    """What the bake called, and then a plan and a sweep."""
    mark = own_cloud.cloud.calls().so_far
    for command in ("plan", "sweep"):
        assert own_cloud.run(command).exit_code == 0
    return (*proven.calls, *own_cloud.cloud.calls(mark).calls)


def test_every_call_of_a_bake_is_allowed_with_the_tags_that_it_bears(called: tuple[Call, ...]) -> None:
    assert {"ec2:RunInstances", "ec2:CreateImage", "iam:CreateRole", "ssm:SendCommand"} <= {
        one.action for one in called
    }
    assert "\n".join(refusals(statements_of("bake-caller"), called)) == ""


def test_what_is_allowed_and_was_not_called_is_listed_with_its_reason(called: tuple[Call, ...]) -> None:
    asked = {question.action for call in called for question in questions(call)}
    assert allowed(statements_of("bake-caller")) - asked == set().union(*NEVER_CALLED_HERE.values())


@pytest.mark.parametrize(
    ("sid", "lacks"),
    [
        ("LetPackerAskWhetherEc2SeesItsProfile", "ec2:RunInstances"),
        ("MakeOnlyWhatIsTagged", "ec2:CreateImage"),
        ("ChangeAndRemoveOnlyWhatABakeMade", "ec2:TerminateInstances"),
        ("GiveThoseRolesToInstances", "iam:PassRole"),
        ("ReachTheBuilderAndTheProof", "ssm:SendCommand"),
    ],
)
def test_without_a_statement_a_bake_does_not_come_through(called: tuple[Call, ...], sid: str, lacks: str) -> None:
    fewer = [one for one in statements_of("bake-caller") if one["Sid"] != sid]
    assert len(fewer) == len(statements_of("bake-caller")) - 1
    assert [one for one in refusals(fewer, called) if f"action='{lacks}'" in one]
