"""The commands of the standing pipeline: promote and roll back, status, validate, retire. No decision is taken here.

In: what the user asked for. Out: the text that answers. Each function opens the target, calls the module of its
name, and puts the answer in words.
"""

from pathlib import Path
from typing import TypeVar

from pipeline import paths, published
from pipeline import status as statuses
from pipeline.catalog import Catalog, VariantSelection, load_catalog
from pipeline.clock import SystemClock
from pipeline.distribute import AWS_PATIENCE, LOCAL_PATIENCE
from pipeline.errors import CloudError, OvenproofError, PolicyRefusal, UsageError
from pipeline.flow import owner
from pipeline.hosts import by_group, hosts
from pipeline.notice import notice, publish
from pipeline.progress import Progress
from pipeline.promote import Place, Promotion, promote, regions_of, roll_back
from pipeline.record import Record, find_record, latest_record
from pipeline.regions import Outcome, Sessions, in_each, open_sessions
from pipeline.retire import as_text as retirement_text
from pipeline.retire import decide
from pipeline.retirement import carry_out
from pipeline.signals import as_interrupted
from pipeline.target import AwsTarget
from pipeline.uses import view_of
from pipeline.whole_file import write_whole

T = TypeVar("T")

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


def _where(catalog: Catalog, on: str, region: str, regions: str) -> tuple[tuple[str, ...], Sessions]:
    """The regions that a look goes to, and their sessions."""
    home = region or catalog.default_region
    asked = [name for name in regions.replace(" ", "").split(",") if name]
    return regions_of(catalog, home, asked), open_sessions(on, home)


def _answered(outcome: Outcome[T]) -> Outcome[T]:
    """The same, when at least one region could be asked. Raises the error when none could: nothing was looked at."""
    if outcome.errors and not outcome.values:
        raise next(iter(outcome.errors.values()))
    return outcome


def status(*, on: str, region: str = "", regions: str = "", form: str = "text") -> str:
    """What is promoted where and who runs it, as `text`, `json` or `html`.

    Raises UsageError for another form, and the error of the target when no region of it could be asked.
    """
    if form not in ("text", "json", "html"):
        raise UsageError(f"there is no form {form}", expected="text, json or html", where="--form")
    catalog, now = load_catalog(), SystemClock().now()
    places, sessions = _where(catalog, on, region, regions)
    found = _answered(
        in_each(
            places,
            lambda name, _: [statuses.row(sessions(name), catalog, one, now) for one in catalog.selections()],
            clock=SystemClock(),
        )
    )
    unseen = [
        statuses.Row(variant=one.id, region=name, unknown=(error.found or error.what,))
        for name, error in found.errors.items()
        for one in catalog.selections()
    ]
    seen = [row for rows in found.values.values() for row in rows]
    rows = sorted((*seen, *unseen), key=lambda row: (row.variant, row.region))
    match form:
        case "json":
            return statuses.as_json(rows)
        case "html":
            return statuses.as_html(rows, now)
    promoted = [row for row in rows if row.image_id or row.groups or row.unknown]
    others = sorted({row.variant for row in rows} - {row.variant for row in promoted})
    text = [statuses.as_text(promoted)] if promoted else []
    return "\n".join([*text, *([f"nothing promoted: {', '.join(others)}"] if others else [])])


def validate_published(variant: str, flavour: str, *, on: str, region: str = "", regions: str = "") -> str:
    """Compare what is promoted with the catalog, in each region. Raises PolicyRefusal unless all of it is correct."""
    catalog, now = load_catalog(), SystemClock().now()
    selection = catalog.select(variant, flavour)
    places, sessions = _where(catalog, on, region, regions)
    found = _answered(
        in_each(
            places, lambda name, _: published.validate(sessions(name), catalog, selection, now), clock=SystemClock()
        )
    )
    unseen = [
        published.Finding(variant=selection.id, region=name, word="unreachable", details=(error.found or error.what,))
        for name, error in found.errors.items()
    ]
    findings = [*found.values.values(), *unseen]
    if wrong := [one for one in findings if one.word != "correct"]:
        raise PolicyRefusal(
            f"{len(wrong)} of {len(findings)} regions are not as they should be",
            expected="correct",
            found=published.as_text(findings),
            where=catalog.parameter(selection),
            remedy="promoting the same bake again puts right what is missing or incorrect; what is unexpected, take "
            "away by hand once it is known who gave it",
        )
    return published.as_text(findings)


def retire(*, on: str, region: str = "", regions: str = "", yes: bool = False) -> str:
    """Say for each image what is to be done with it and why; with `yes` do it. Raises when something resists."""
    catalog, clock, progress = load_catalog(), SystemClock(), Progress()
    places, sessions = _where(catalog, on, region, regions)
    with as_interrupted():
        seen = _answered(in_each(places, lambda name, _: view_of(sessions(name), catalog), clock=clock))
        if seen.errors:
            raise CloudError(
                "not every region could be seen, so nothing was done",
                found=seen.told(),
                remedy="mend that and run the command again, or name fewer regions with `--regions`",
            )
        verdicts = decide(list(seen.values.values()), catalog.retention, clock.now())
        if not verdicts:
            return f"there is no image of ours in {', '.join(places)}"
        if not yes:
            asked = sum(verdict.action != "keep" for verdict in verdicts)
            closing = f"\n{asked} of {len(verdicts)} would change; `--yes` does it" if asked else ""
            return retirement_text(verdicts, done=False) + closing
        done = carry_out(sessions, verdicts, clock=clock, say=progress.say)
    if failed := [one for one in done if one.error]:
        raise CloudError(
            f"{len(failed)} of {len(done)} images could not be retired",
            found="\n".join(f"{one.verdict.image.image_id}: {one.error}" for one in failed),
            remedy="read the reasons, then run `./run retire --yes` again",
        )
    return retirement_text(verdicts, done=True)
