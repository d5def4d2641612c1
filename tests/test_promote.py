"""Promotion: every step over an account in memory, the whole story once over the local cloud. No guest."""

import dataclasses
from typing import Any

import pytest

from pipeline import tags
from pipeline.catalog import Catalog, Sharing, load_catalog
from pipeline.distribute import CONSISTENT_ANSWERS, LOCAL_PATIENCE
from pipeline.errors import CloudError, PolicyRefusal, UsageError
from pipeline.pointer import read_pointer
from pipeline.promote import Place, Promotion, promote, regions_of, roll_back
from pipeline.record import Record
from tests import records
from tests.doubles import FakeClock
from tests.faults import HOWS, How
from tests.image_world import COPY_SECONDS, ImageWorld

REGION, WEST, NORTH = "us-east-1", "eu-west-1", "eu-north-1"
ACCOUNT, UNIT = "111122223333", "arn:aws:organizations::111122223333:ou/o-exampleorgid/ou-ab12-11111111"
NAME = "/ovenproof/images/ecs-al2-kernel-5.10/x86_64"


@pytest.fixture
def world() -> ImageWorld:
    return ImageWorld(clock=FakeClock())


def catalog(**other: Any) -> Catalog:
    return load_catalog().model_copy(update=other)


def sharing() -> Catalog:
    shared = Sharing(accounts=(ACCOUNT,), organizations=(), organizational_units=(UNIT,))
    return catalog(sharing=shared)


def place(world: ImageWorld, *others: str, **more: Any) -> Place:
    """A place with one worker, so that the calls have one order."""
    values: dict[str, Any] = {
        "catalog": load_catalog(),
        "selection": load_catalog().select("ecs-al2-kernel-5.10", "x86_64"),
        "regions": (REGION, *(others or (WEST,))),
        "sessions": world.session,
        "patience": LOCAL_PATIENCE,
        "clock": world.clock,
        "say": lambda _: None,
        "by": "ada",
        "workers": 1,
    }
    return Place(**{**values, **more})


def image_tags(bake_id: str, state: str = "proven") -> dict[str, str]:
    return {
        "Name": bake_id,
        "Variant": "ecs-al2-kernel-5.10/x86_64",
        tags.BAKE_ID: bake_id,
        tags.STATE: state,
    }


def record_of(bake_id: str, image_id: str) -> Record:
    inputs = records.INPUTS.model_copy(update={"region": REGION})
    return records.record(bake_id=bake_id, inputs=inputs, images={REGION: image_id})


def baked(world: ImageWorld, bake_id: str, *, state: str = "proven") -> Record:
    """A record whose image stands in the account, tagged as a proof tags it."""
    image = world.add_image(REGION, f"ecs-{bake_id}", image_tags(bake_id, state), imds="v2.0")
    return record_of(bake_id, image.id)


def said(where: Place) -> dict[str, str]:
    """What each region's parameter names; nothing for one without a parameter."""
    pointers = {region: read_pointer(where.sessions(region), NAME) for region in where.regions}
    return {region: one.current.image_id for region, one in pointers.items() if one.current}


def image(where: Place, region: str, image_id: str) -> Any:
    ec2: Any = where.sessions(region).client("ec2")
    return ec2.describe_images(ImageIds=[image_id])["Images"][0]


def copies(where: Place, region: str) -> list[Any]:
    ec2: Any = where.sessions(region).client("ec2")
    found: list[Any] = ec2.describe_images(Owners=["self"], IncludeDisabled=True)["Images"]
    return found


def test_a_proven_image_is_named_in_each_region_as_it_should_stand_there(world: ImageWorld) -> None:
    where = place(world, WEST, NORTH, catalog=sharing())
    record = baked(world, "b1")
    done = promote(where, record, hold=False)
    assert said(where) == {region: one.now for region, one in done.moved.items()}
    assert len(set(said(where).values())) == 3
    for region, image_id in said(where).items():
        found = image(where, region, image_id)
        own = tags.as_mapping(found["Tags"])
        assert (own[tags.BAKE_ID], own[tags.STATE], own.get(tags.EXPIRES_AT)) == ("b1", "proven", None)
        assert (found["ImdsSupport"], found["DeregistrationProtection"]) == ("v2.0", "enabled-without-cooldown")
        ec2: Any = where.sessions(region).client("ec2")
        shared = ec2.describe_image_attribute(ImageId=image_id, Attribute="launchPermission")["LaunchPermissions"]
        assert shared == [{"UserId": ACCOUNT}, {"OrganizationalUnitArn": UNIT}]
        snapshot = found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        asked = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}
        assert ec2.describe_snapshot_attribute(**asked)["CreateVolumePermissions"] == [{"UserId": ACCOUNT}]


def test_regions_are_made_ready_side_by_side_with_the_same_end(world: ImageWorld) -> None:
    where = place(world, WEST, NORTH, workers=3)
    promote(where, baked(world, "b1"), hold=False)
    assert sorted(said(where)) == sorted((REGION, WEST, NORTH))


def test_a_copy_is_encrypted_with_the_key_of_its_region(world: ImageWorld) -> None:
    key = f"arn:aws:kms:{WEST}:{ACCOUNT}:key/k"
    encryption = load_catalog().encryption.model_copy(update={"region_keys": {WEST: key}})
    where = place(world, catalog=catalog(encryption=encryption))
    promote(where, baked(world, "b1"), hold=False)
    assert world.images[said(where)[WEST]].encrypted_with == key


def test_it_waits_until_several_looks_in_a_row_see_the_copy(world: ImageWorld) -> None:
    where = place(world)
    promote(where, baked(world, "b1"), hold=False)
    looks = 2 * (CONSISTENT_ANSWERS - 1)
    assert world.clock.monotonic() >= COPY_SECONDS + looks * LOCAL_PATIENCE.every - 1


def test_a_second_run_has_nothing_to_do(world: ImageWorld) -> None:
    where = place(world)
    record = baked(world, "b1")
    promote(where, record, hold=False)
    before = [len(copies(where, region)) for region in where.regions]
    again = promote(where, record, hold=False)
    assert not again.changed
    assert [len(copies(where, region)) for region in where.regions] == before
    assert len(read_pointer(where.sessions(WEST), NAME).entries) == 1


def test_held_means_ready_everywhere_and_named_nowhere(world: ImageWorld) -> None:
    where = place(world)
    record = baked(world, "b1")
    held = promote(where, record, hold=True)
    assert (held.held, said(where)) == (True, {})
    assert tags.EXPIRES_AT not in tags.as_mapping(copies(where, WEST)[0]["Tags"])
    promote(where, record, hold=False)
    assert said(where)[WEST] == held.moved[WEST].now


def test_what_is_not_proven_is_not_promoted(world: ImageWorld) -> None:
    where = place(world)
    failed = records.proof(failures=("kernel: expected the 5.10 line, found 4.14",))
    with pytest.raises(PolicyRefusal) as by_record:
        promote(where, records.record(proof=failed), hold=False)
    assert by_record.value.what == "bake 20261123-1200-x of ecs-al2-kernel-5.10/x86_64 is not proven"
    with pytest.raises(PolicyRefusal) as by_tag:
        promote(where, baked(world, "b1", state="baked"), hold=False)
    assert (by_tag.value.expected, by_tag.value.found) == ("OvenproofState: proven", "OvenproofState: baked")
    assert said(where) == {}


def test_an_image_that_is_gone_is_told_so(world: ImageWorld) -> None:
    record = baked(world, "b1")
    del world.images[record.images[REGION]]
    with pytest.raises(PolicyRefusal) as error:
        promote(place(world), record, hold=False)
    assert "state: there is no such image" in error.value.found


def three_promoted(world: ImageWorld, where: Place) -> list[Promotion]:
    return [promote(where, baked(world, bake), hold=False) for bake in ("b1", "b2", "b3")]


def test_back_to_previous_never_leads_to_an_image_that_was_left(world: ImageWorld) -> None:
    where = place(world)
    first, second, _ = three_promoted(world, where)
    assert roll_back(where, "previous").bake_id == "b2"
    assert said(where) == {region: one.now for region, one in second.moved.items()}
    assert roll_back(where, "previous").bake_id == "b1"
    assert said(where) == {region: one.now for region, one in first.moved.items()}
    with pytest.raises(UsageError) as error:
        roll_back(where, "previous")
    assert error.value.found == f"{REGION}: nothing earlier\n{WEST}: nothing earlier"


def test_back_to_a_bake_by_its_id(world: ImageWorld) -> None:
    where = place(world)
    first, *_ = three_promoted(world, where)
    roll_back(where, "b1")
    assert said(where) == {region: one.now for region, one in first.moved.items()}
    notes = [str(entry.note) for entry in read_pointer(where.sessions(WEST), NAME).entries]
    assert notes[-1].startswith("back: bake b1, from ami-")


def test_a_rollback_that_cannot_be_whole_is_not_begun(world: ImageWorld) -> None:
    where = place(world)
    _, second, third = three_promoted(world, where)
    ec2: Any = where.sessions(WEST).client("ec2")
    ec2.disable_image(ImageId=second.moved[WEST].now)
    with pytest.raises(CloudError) as error:
        roll_back(where, "previous")
    assert error.value.what == "not all images could be found, so no parameter was changed"
    assert f"{second.moved[WEST].now} is disabled" in error.value.found
    assert said(where) == {region: one.now for region, one in third.moved.items()}


def test_failures_of_all_regions_are_told_together(world: ImageWorld) -> None:
    where = place(world, WEST, NORTH)

    world.refuses = {(region, "CopyImage"): "UnauthorizedOperation" for region in (WEST, NORTH)}
    with pytest.raises(CloudError) as error:
        promote(where, baked(world, "b1"), hold=False)
    assert error.value.where == f"failed in {WEST}, {NORTH}; good in {REGION}"
    assert error.value.found.count("UnauthorizedOperation") == 2
    assert said(where) == {}


def test_regions_begin_with_the_bake_s_and_name_each_once() -> None:
    promotion = load_catalog().promotion.model_copy(update={"regions": (WEST, REGION)})
    assert regions_of(catalog(promotion=promotion), REGION, ()) == (REGION, WEST)
    assert regions_of(catalog(promotion=promotion), REGION, (NORTH,)) == (REGION, NORTH)


def test_a_copy_that_failed_is_made_anew(world: ImageWorld) -> None:
    where = place(world)
    record = baked(world, "b1")
    held = promote(where, record, hold=True)
    copied = world.images[held.moved[WEST].now]
    copied.broken, copied.protected = True, False
    promote(where, record, hold=False)
    (copy,) = copies(where, WEST)
    assert copy["ImageId"] == said(where)[WEST] != held.moved[WEST].now


def test_a_public_image_is_never_promoted(world: ImageWorld) -> None:
    where = place(world)
    record = baked(world, "b1")
    world.images[record.images[REGION]].shared = [{"Group": "all"}]
    with pytest.raises(CloudError) as error:
        promote(where, record, hold=False)
    assert f"the image {record.images[REGION]} is public" in error.value.found
    assert said(where) == {}


def test_a_value_that_ssm_does_not_take_is_no_promotion(world: ImageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    where = place(world)
    promote(where, baked(world, "b1"), hold=False)
    before = said(where)
    put = world._ssm_PutParameter

    def forgets(region: str, Name: str, Value: str, **more: Any) -> Any:
        return put(region, Name, "ami-0123456789abcdef0" if region == WEST else Value, **more)

    monkeypatch.setattr(world, "_ssm_PutParameter", forgets)
    with pytest.raises(CloudError) as error:
        promote(where, baked(world, "b2"), hold=False)
    assert "SSM took the promoted image, but the parameter does not say it" in error.value.found
    assert error.value.found.endswith("the others were set back")
    assert said(where) == before
    notes = [str(entry.note) for entry in read_pointer(where.sessions(REGION), NAME).entries]
    assert notes[-1].startswith("undone: bake b1, from ami-")


# Every step, every way to fail


@pytest.mark.parametrize("how", HOWS)
def test_a_promotion_broken_off_at_any_call_is_whole_or_not_there_and_a_rerun_ends_right(
    world: ImageWorld, how: How
) -> None:
    where = place(world, catalog=sharing())
    promote(where, baked(world, "b1"), hold=False)
    record = baked(world, "b2")
    start, before = world.state(), said(where)
    number = world.faults.calls_of(lambda: promote(where, record, hold=False))
    assert number > 30
    for at in range(number):
        world.restore(start)
        call = world.faults.broken_off(at, how, lambda: promote(where, record, hold=False))
        now_is = said(where)
        changed = [region for region in where.regions if now_is[region] != before[region]]
        assert changed in ([], list(where.regions)), call
        promote(where, record, hold=False)
        assert said(where)[REGION] == record.images[REGION], call
        (copy,) = [one for one in world.images.values() if one.region == WEST and one.tags[tags.BAKE_ID] == "b2"]
        assert (said(where)[WEST], copy.tags[tags.STATE], tags.EXPIRES_AT in copy.tags) == (copy.id, "proven", False)
        assert tags.EXPIRES_AT not in copy.snapshot_tags, call
        assert copy.protected, call
        assert copy.shared == [{"UserId": ACCOUNT}, {"OrganizationalUnitArn": UNIT}], call


@pytest.mark.parametrize("how", HOWS)
def test_a_rollback_broken_off_at_any_call_is_whole_or_not_there_and_a_rerun_ends_right(
    world: ImageWorld, how: How
) -> None:
    where = place(world)
    done = [promote(where, baked(world, bake), hold=False) for bake in ("b1", "b2")]
    first, second = ({region: one.now for region, one in promotion.moved.items()} for promotion in done)
    start = world.state()
    for at in range(world.faults.calls_of(lambda: roll_back(where, "previous"))):
        world.restore(start)
        call = world.faults.broken_off(at, how, lambda: roll_back(where, "previous"))
        assert said(where) in (first, second), call
        if said(where) == second:
            roll_back(where, "previous")
        assert said(where) == first, call


def test_a_rollback_killed_between_two_regions_is_ended_by_the_same_command(world: ImageWorld) -> None:
    where = place(world)
    first, _ = (promote(where, baked(world, bake), hold=False) for bake in ("b1", "b2"))
    roll_back(dataclasses.replace(where, regions=(REGION,)), "previous")  # a kill undoes nothing
    roll_back(where, "previous")
    assert said(where) == {region: one.now for region, one in first.moved.items()}
