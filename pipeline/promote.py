"""Promote: in, a proven record; out, one parameter in each region that names its image, and in all of them or none.

First the image is made ready in every region, side by side; nothing that fleets look at changes by that. Only when all
regions are ready are the parameters written, one after the other; if one cannot be written, those before it are set
back. A rollback is the same second half with an image that was promoted before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pipeline import tags
from pipeline.aws_errors import aws_errors
from pipeline.catalog import Catalog, VariantSelection
from pipeline.clock import Clock
from pipeline.distribute import VARIANT, Patience, images_of, make_ready, source_of
from pipeline.errors import CloudError, Interrupted, OvenproofError, PolicyRefusal, UsageError
from pipeline.pointer import Note, Pointer, delete_pointer, read_pointer, write_pointer
from pipeline.record import Record
from pipeline.regions import WORKERS, Outcome, Sessions, in_each

T = TypeVar("T")

PREVIOUS: Final = "previous"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a promotion works with: where, how patiently, in whose name. `regions` begins with that of the bake."""

    catalog: Catalog
    selection: VariantSelection
    regions: tuple[str, ...]
    sessions: Sessions
    patience: Patience
    clock: Clock
    say: Callable[[str], None]
    by: str
    workers: int = WORKERS

    @property
    def parameter(self) -> str:
        """The name of the parameter, the same in each region."""
        return self.catalog.parameter(self.selection)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One region's parameter: the image it named before ("" for none) and the one it names now."""

    before: str
    now: str


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What a promotion did, or a rollback (`back`). `held` means: everything is ready, no parameter was written."""

    bake_id: str
    moved: Mapping[str, Moved]
    held: bool = False
    back: bool = False

    @property
    def changed(self) -> bool:
        """False when every parameter said so already."""
        return any(one.before != one.now for one in self.moved.values())


def regions_of(catalog: Catalog, bake_region: str, asked: Sequence[str]) -> tuple[str, ...]:
    """The regions of a promotion, that of the bake first: those asked for, else those of the catalog."""
    others = asked or catalog.promotion.regions
    return tuple(dict.fromkeys((bake_region, *others)))


def promote(place: Place, record: Record, *, hold: bool) -> Promotion:
    """Make the image of a proven record the one that fleets run.

    Raises PolicyRefusal for a record or image that is not proven, CatalogError without a key for a region, CloudError
    with what failed in each region; no parameter says anything new then.
    """
    require_proven(record)
    keys = {region: place.catalog.encryption.key_in(region) for region in place.regions[1:]}
    image_id = record.images[record.region]
    source = source_of(place.sessions(record.region), image_id, bake_id=record.bake_id, variant=record.name)
    pointers = _pointers(place)

    def ready(region: str, clock: Clock) -> str:
        return make_ready(
            place.sessions(region),
            source,
            kms_key_id=keys.get(region),
            sharing=place.catalog.sharing,
            clock=clock,
            patience=place.patience,
            say=place.say,
        )

    images = _all_or_nothing(in_each(place.regions, ready, clock=place.clock, workers=place.workers), "made ready")
    moved = {region: Moved(before=_current(pointers[region]), now=images[region]) for region in place.regions}
    if hold:
        return Promotion(bake_id=record.bake_id, moved=moved, held=True)
    _point(place, pointers, images, why="promoted", bake_id=record.bake_id)
    return Promotion(bake_id=record.bake_id, moved=moved)


def require_proven(record: Record) -> None:
    """Raise PolicyRefusal unless the record's image proved itself."""
    if not record.proven:
        raise PolicyRefusal(
            f"bake {record.bake_id} of {record.name} is not proven",
            expected="a record without failures",
            found="\n".join(record.proof.failures),
            where=f"the record of bake {record.bake_id}",
            remedy="mend what the failures name and bake again",
        )


def roll_back(place: Place, to: str) -> Promotion:
    """Let the parameters name the image of an earlier bake again: `previous`, or a bake's id.

    It has to stand and be launchable in every region already; nothing is copied. Raises UsageError when there is no
    way back, CloudError with what failed in each region; no parameter says anything new then.
    """
    pointers = _pointers(place)
    bake_id = _bake_before(place, pointers) if to == PREVIOUS else to

    def find(region: str, _: Clock) -> str:
        session = place.sessions(region)
        where = f"EC2 in {region}"
        with aws_errors(
            "the image to go back to could not be looked up", where=where, remedy="allow ec2:DescribeImages"
        ):
            found = images_of(session, bake_id, place.selection.id)
        for image in found:
            if image["State"] == "available" and tags.EXPIRES_AT not in tags.as_mapping(image.get("Tags", [])):
                return str(image["ImageId"])
        raise CloudError(
            f"bake {bake_id} has no image here that could be launched",
            expected=f"one with the tags {tags.BAKE_ID}={bake_id} and {VARIANT}={place.selection.id}",
            found=", ".join(f"{image['ImageId']} is {image['State']}" for image in found) or "none",
            where=where,
            remedy="name another bake with `--to`, or promote that bake anew if its image still stands where it was "
            "baked",
        )

    found = in_each(place.regions, find, clock=place.clock, workers=place.workers)
    images = _all_or_nothing(found, "found")
    moved = {region: Moved(before=_current(pointers[region]), now=images[region]) for region in place.regions}
    _point(place, pointers, images, why="back", bake_id=bake_id)
    return Promotion(bake_id=bake_id, moved=moved, back=True)


def _bake_before(place: Place, pointers: Mapping[str, Pointer]) -> str:
    """The one bake to go back to: what each region named before, or names already because a rollback was cut short."""
    before, now = (
        {region: _bake_of(place, region, image) if image else "" for region, image in images.items()}
        for images in (
            {region: pointer.previous for region, pointer in pointers.items()},
            {region: _current(pointer) for region, pointer in pointers.items()},
        )
    )
    for bake in dict.fromkeys(before.values()):
        if bake and all(bake in (before[region], now[region]) for region in pointers):
            return bake
    raise UsageError(
        f"there is no one image of {place.selection.id} to go back to",
        expected="the same earlier bake in each region",
        found="\n".join(f"{region}: {bake or 'nothing earlier'}" for region, bake in before.items()),
        where=place.parameter,
        remedy="name the bake: `--to BAKE_ID`, or fewer regions with `--regions`",
    )


def _bake_of(place: Place, region: str, image_id: str) -> str:
    with aws_errors(
        "the image to go back to could not be looked up",
        where=f"{image_id} in {region}",
        remedy="allow ec2:DescribeImages",
    ):
        ec2: Any = place.sessions(region).client("ec2")
        filters = [{"Name": "image-id", "Values": [image_id]}]
        images = ec2.describe_images(Filters=filters, IncludeDisabled=True)["Images"]
    return tags.as_mapping(images[0].get("Tags", [])).get(tags.BAKE_ID, "") if images else ""


def _current(pointer: Pointer) -> str:
    return pointer.current.image_id if pointer.current else ""


def _pointers(place: Place) -> dict[str, Pointer]:
    """Every region's parameter, read before anything is done: whoever may not read it would fail late else."""
    read = in_each(
        place.regions,
        lambda region, _: read_pointer(place.sessions(region), place.parameter),
        clock=place.clock,
        workers=place.workers,
    )
    return _all_or_nothing(read, "looked up")


def _all_or_nothing(outcome: Outcome[T], done: str) -> dict[str, T]:
    if not outcome.errors:
        return outcome.values
    if len(outcome.errors) == 1 and not outcome.values:
        raise next(iter(outcome.errors.values()))
    raise CloudError(
        f"not all images could be {done}, so no parameter was changed",
        expected="every region",
        found=outcome.told(),
        where=f"failed in {', '.join(outcome.errors)}; good in {', '.join(outcome.values) or 'none'}",
        remedy="mend what each region names and run the same command again; what is done is not done twice",
    )


def _point(place: Place, pointers: Mapping[str, Pointer], images: Mapping[str, str], *, why: Any, bake_id: str) -> None:
    """Write the parameters that say something else; when one fails, set those before it back and raise."""
    written: list[str] = []
    for region in place.regions:
        before = _current(pointers[region])
        if before == images[region]:
            continue
        note = Note(why=why, bake_id=bake_id, left=before if why == "back" else "", by=place.by)
        try:
            written.append(region)  # before the call: its answer may get lost after it took effect
            _write(place, region, images[region], note)
        except (OvenproofError, KeyboardInterrupt) as error:
            kept = _set_back(place, pointers, images, written)
            if isinstance(error, Interrupted) or not isinstance(error, OvenproofError):
                raise
            raise CloudError(
                f"the parameter could not be written in {region}",
                expected="all regions or none",
                found=str(error)
                + (f"\nand these could not be set back:\n{kept}" if kept else "\nthe others were set back"),
                where=place.parameter,
                remedy="mend that and run the same command again; what is done is not done twice",
            ) from error
        place.say(f"{region}: {place.parameter} names {images[region]}")


def _write(place: Place, region: str, image_id: str, note: Note) -> None:
    write_pointer(
        place.sessions(region),
        place.parameter,
        image_id,
        note,
        clock=place.clock,
        timeout_seconds=place.patience.parameter,
        every_seconds=place.patience.every,
    )


def _set_back(place: Place, pointers: Mapping[str, Pointer], images: Mapping[str, str], written: Sequence[str]) -> str:
    """Undo what was written, newest first; what resists, in words."""
    resisted = []
    for region in reversed(written):
        before = _current(pointers[region])
        try:
            now_is = _current(read_pointer(place.sessions(region), place.parameter))
            if now_is != images[region]:
                continue  # never took effect
            if before:
                note = Note(why="undone", bake_id=_noted_bake(pointers[region]), left=images[region], by=place.by)
                _write(place, region, before, note)
            else:
                delete_pointer(place.sessions(region), place.parameter)
            place.say(f"{region}: {place.parameter} set back to {before or 'nothing'}")
        except OvenproofError as error:
            resisted.append(f"{region}: {error}")
    return "\n".join(resisted)


def _noted_bake(pointer: Pointer) -> str:
    note = pointer.current.note if pointer.current else None
    return note.bake_id if note else "unknown"
