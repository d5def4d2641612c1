"""The commands of the standing pipeline: promote and roll back, status, validate, retire. No decision is taken here.

In: what the user asked for. Out: the text that answers. Each function opens the target, calls the module of its
name, and puts the answer in words.
"""

from pathlib import Path

from pipeline import paths
from pipeline.catalog import VariantSelection, load_catalog
from pipeline.clock import SystemClock
from pipeline.distribute import AWS_PATIENCE, LOCAL_PATIENCE
from pipeline.errors import OvenproofError, UsageError
from pipeline.flow import owner
from pipeline.hosts import by_group, hosts
from pipeline.notice import notice, publish
from pipeline.progress import Progress
from pipeline.promote import Place, Promotion, promote, regions_of, roll_back
from pipeline.record import Record, find_record, latest_record
from pipeline.regions import open_sessions
from pipeline.signals import as_interrupted
from pipeline.target import AwsTarget
from pipeline.whole_file import write_whole

NOTICE = "promotion.md"


def records_folder(on: str) -> Path:
    """Where a target's records lie."""
    return paths.local_root() / "records" if on == "local" else AwsTarget.records


def promote_image(
    variant: str,
    flavour: str,
    *,
    on: str,
    region: str = "",
    regions: str = "",
    bake: str = "",
    to: str = "",
    hold: bool = False,
    topic: str = "",
) -> str:
    """Promote the newest proven bake or the one named, or go back (`to`); tell people, and say what was done.

    `regions` is a list with commas in place of the catalog's. Raises the errors of the stages, UsageError for what
    does not go together.
    """
    if to and (bake or hold):
        raise UsageError(
            "going back and promoting exclude each other",
            expected="either --to, or --bake and --hold",
            where="the command line",
        )
    catalog = load_catalog()
    selection = catalog.select(variant, flavour)
    folder, progress = records_folder(on), Progress()
    record = None if to else _record_to_promote(selection, folder, bake)
    home = record.region if record else region or catalog.default_region
    asked = [name for name in regions.replace(" ", "").split(",") if name]
    sessions = open_sessions(on, home)
    place = Place(
        catalog=catalog,
        selection=selection,
        regions=regions_of(catalog, home, asked),
        sessions=sessions,
        patience=AWS_PATIENCE if on == "aws" else LOCAL_PATIENCE,
        clock=SystemClock(),
        say=progress.say,
        by=owner(),
    )
    with as_interrupted():
        promotion = promote(place, record, hold=hold) if record else roll_back(place, to)
        return _told(place, promotion, folder, topic)


def _record_to_promote(selection: VariantSelection, folder: Path, bake: str) -> Record:
    if bake:
        record = find_record(bake, (folder,))
        if record.name != selection.id:
            raise UsageError(
                f"bake {bake} is not of {selection.id}",
                found=record.name,
                where=str(folder),
                remedy=f"add `--variant {record.variant} --flavour {record.flavour}`",
            )
        return record
    found = latest_record(folder, variant=selection.variant_name, flavour=selection.flavour_name)
    if found is None:
        raise UsageError(
            f"there is no proven bake of {selection.id} to promote",
            where=str(folder),
            remedy="bake one first: `./run build-image`; in a fresh checkout fetch the records",
        )
    return found


def _told(place: Place, promotion: Promotion, folder: Path, topic: str) -> str:
    """The notice, written and sent; and the answer of the command."""
    if not promotion.changed:
        return f"nothing to do: {place.parameter} names bake {promotion.bake_id} in {', '.join(place.regions)} already"
    record = _record_of(folder, promotion.bake_id)
    text = notice(
        promotion,
        variant=place.selection.id,
        parameter=place.parameter,
        record=record,
        before=_record_before(place, promotion, folder),
    )
    if record is not None:
        write_whole(folder / record.bake_id / NOTICE, text.message)
    if topic:
        publish(place.sessions(topic.split(":")[3]), topic, text)
    if promotion.held:
        head = f"held: {place.selection.id}, bake {promotion.bake_id}, is ready; no parameter was changed"
        return "\n".join([head, *_regions(promotion), f"  approve: ./run promote --bake {promotion.bake_id}"])
    word = "back to" if promotion.back else "promoted"
    lines = [f"{word} {place.selection.id}, bake {promotion.bake_id}: {place.parameter}", *_regions(promotion)]
    if record is not None:
        lines.append(f"  notice: {folder / record.bake_id / NOTICE}")
    return "\n".join([*lines, *_still_running(place, promotion)])


def _regions(promotion: Promotion) -> list[str]:
    return [
        f"  {region}: {one.now}" + (f", before {one.before}" if one.before and one.before != one.now else "")
        for region, one in promotion.moved.items()
    ]


def _still_running(place: Place, promotion: Promotion) -> list[str]:
    """Who still runs the image that was named before; after a rollback that is what has to be rolled next."""
    lines = []
    for region, one in promotion.moved.items():
        if not one.before or one.before == one.now:
            continue
        try:
            found = hosts(place.sessions(region), [one.before])
        except OvenproofError as error:
            lines.append(f"  {region}: who still runs {one.before} is not known: {error.found or error.what}")
            continue
        lines.append(f"  {region}: still on {one.before}: {by_group(found) or 'nobody'}")
    return lines


def _record_of(folder: Path, bake_id: str) -> Record | None:
    try:
        return find_record(bake_id, (folder,))
    except UsageError:
        return None


def _record_before(place: Place, promotion: Promotion, folder: Path) -> Record | None:
    """The record whose image was named before, found by image id."""
    before = {one.before for one in promotion.moved.values() if one.before and one.before != one.now}
    for path in sorted(folder.glob("*/record.json"), reverse=True):
        record = _record_of(folder, path.parent.name)
        if record is None or record.name != place.selection.id or record.bake_id == promotion.bake_id:
            continue
        if before & set(record.images.values()):
            return record
    return None
