"""The policy for promoting and retiring, held against the calls that these commands make in one account in memory.

`tests/test_story.py` holds it against the calls of the commands themselves, with the tags that these bear.
"""

from datetime import timedelta
from typing import Final

import pytest

from pipeline import published, status
from pipeline.notice import Notice, publish
from pipeline.paths import CHECKOUT
from pipeline.promote import promote, roll_back
from pipeline.retire import decide
from pipeline.retirement import carry_out
from pipeline.uses import view_of
from tests.doubles import FakeClock
from tests.image_world import AMAZON, ImageWorld
from tests.policy import allowed, listed, statements_of
from tests.test_promote import REGION, WEST, baked, place, sharing
from tests.test_retirement import a_world_with_everything

POLICY: Final = CHECKOUT / "pipeline" / "policies" / "promote-caller.yaml"
STATEMENTS: Final = statements_of("promote-caller")

WITH_ANOTHER: Final = {
    "ec2:DeleteSnapshot",  # DeregisterImage with DeleteAssociatedSnapshots
    # CopyImage and launches of encrypted images, asked for by EC2 in the caller's name (EBS user guide)
    *("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"),
    *("kms:ReEncryptFrom", "kms:ReEncryptTo"),
    "ssm:DeleteParameter",  # only to undo a first promotion that failed in another region
}
"""Allowed, and called by no line of ours in a run where all goes well."""


@pytest.fixture(scope="module")
def called() -> set[str]:
    """Every call of promote, roll back, status, validate, notice and retire, over one account in memory."""
    world = ImageWorld(clock=FakeClock())
    where = place(world, catalog=sharing())
    ec2_time = world.clock.now()
    for bake in ("b1", "b2"):
        record = baked(world, bake)
        world.images[record.images[REGION]].deprecation = ec2_time + timedelta(days=100)
        promote(where, record, hold=False)
    copied = next(one for one in world.images.values() if one.region == WEST)
    copied.imds = ""
    promote(where, record, hold=False)
    roll_back(where, "previous")
    a_world_with_everything(world)
    world.add_image(REGION, "base", {}, owner=AMAZON)
    world.templates[WEST] = {
        "lt-1": [{"VersionNumber": 1, "LaunchTemplateData": {"ImageId": f"resolve:ssm:{where.parameter}"}}]
    }
    world.groups[WEST] = [
        {
            "AutoScalingGroupName": "web",
            "MinSize": 0,
            "MaxSize": 1,
            "DesiredCapacity": 1,
            "DefaultCooldown": 1,
            "AvailabilityZones": [],
            "HealthCheckType": "EC2",
            "CreatedTime": ec2_time,
        }
    ]
    world.instances[REGION] = [{"InstanceId": "i-2", "ImageId": record.images[REGION], "State": {"Name": "running"}}]
    for region in (REGION, WEST):
        session = world.session(region)
        status.row(session, where.catalog, where.selection, world.clock.now())
        published.validate(session, where.catalog, where.selection, world.clock.now())
    rules = where.catalog.retention.model_copy(update={"keep_newest": 1})
    verdicts = decide([view_of(world.session(WEST), where.catalog)], rules, world.clock.now())
    carry_out(world.session, verdicts, clock=world.clock, say=lambda _: None)
    publish(world.session(REGION), f"arn:aws:sns:{REGION}:123456789012:images", Notice(subject="s", message="m"))
    return world.called


def test_every_call_is_allowed(called: set[str]) -> None:
    assert called - allowed(STATEMENTS) == set()


def test_what_is_allowed_and_not_called_is_listed_with_its_reason(called: set[str]) -> None:
    assert allowed(STATEMENTS) - called == WITH_ANOTHER


def test_each_wildcard_has_its_reason_beside_it() -> None:
    resources = [
        line for line in POLICY.read_text(encoding="utf-8").splitlines() if line.strip().startswith("Resource:")
    ]
    assert len(resources) == len(STATEMENTS)
    for line in resources:
        assert "<" in line or "#" in line, line


def test_no_action_is_a_wildcard_and_what_changes_an_image_is_bound_to_a_bake() -> None:
    assert not [action for action in allowed(STATEMENTS) if "*" in action]
    for statement in STATEMENTS:
        changes = [
            one for one in listed(statement["Action"]) if one.startswith("ec2:") and not one.startswith("ec2:Describe")
        ]
        if changes:
            assert {"aws:ResourceTag/BakeId", "aws:RequestTag/BakeId"} & set(statement["Condition"]["Null"])


def test_a_role_s_policy_may_hold_it() -> None:
    """IAM takes 6,144 characters without white space in a managed policy."""
    assert len("".join(str(list(STATEMENTS)).split())) < 6144
