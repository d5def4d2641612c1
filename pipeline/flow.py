"""The line of stages behind the commands: plan, render, bake, prove, record. No stage is written here.

In: what the user asked for. Out: the text that answers. Each function reads as the order of things; what a stage
does stands in the module of its name.
"""

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

from pipeline import document_versions, paths, tags
from pipeline import sweep as sweeping
from pipeline.aws_errors import aws_errors, error_code
from pipeline.bake import Workplace, bake, stage, write_inputs
from pipeline.base import Base, base_age_verdict, resolve_base
from pipeline.cache import Cache
from pipeline.catalog import Catalog, VariantSelection, load_catalog
from pipeline.clock import Clock, SystemClock
from pipeline.coverage import runtime_monitoring_detector
from pipeline.custody import mark_proven, nothing_left_behind
from pipeline.documents import document_names
from pipeline.errors import CloudError, OvenproofError, ProofError
from pipeline.hardening import load_hardening
from pipeline.lifetime import expires_at
from pipeline.packer_output import Baked, Timing
from pipeline.plan import (
    NEVER_BAKED,
    BakeInputs,
    Decision,
    Lock,
    PlanRow,
    collect_inputs,
    decide,
    digest_files,
    end_of_support_warning,
    lock_path,
    plan_text,
    read_lock,
    write_lock,
)
from pipeline.progress import Progress, duration
from pipeline.proof_host import ProofRequest
from pipeline.prove import prove
from pipeline.record import (
    MARKDOWN,
    Record,
    expected_seconds,
    find_record,
    latest_record,
    make_record,
    read_evidence,
    read_facts,
    who_bakes,
    write_record,
)
from pipeline.render import packer_variables, render, template_context
from pipeline.signals import as_interrupted
from pipeline.target import AwsTarget, Target
from pipeline.targets import open_session, open_target
from pipeline.tools import MODULES, Tools, pinned_versions, tools_alongside

PROOF_PHASE = "proof"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A selection with everything that is known before anything is made."""

    catalog: Catalog
    selection: VariantSelection
    target: Target
    base: Base
    base_waiver: str
    inputs: BakeInputs
    lock: Lock | None
    decision: Decision
    warnings: tuple[str, ...]
    images: Path


def build_image(variant: str, flavour: str, *, on: str, region: str, force: bool) -> str:
    """Bake, prove and record one variant unless nothing changed since its last proven bake; say what came of it.

    Raises the errors of every stage, and ProofError when the image did not prove itself. Whatever ends it early,
    nothing of the bake stays behind except its folder with the log.
    """
    clock, progress = SystemClock(), Progress()
    with as_interrupted():
        catalog = load_catalog()
        selection = catalog.select(variant, flavour)
        today = clock.now().date()
        cache = Cache(paths.cache_root(), progress.say)
        with tools_alongside(cache, progress) as tools_made:
            target = open_target(on, catalog, selection, region, today=today, cache=cache, progress=progress)
            tools = tools_made()
        return build_on(target, catalog, selection, tools=tools, force=force, clock=clock, progress=progress)


def build_on(
    target: Target,
    catalog: Catalog,
    selection: VariantSelection,
    *,
    tools: Tools,
    force: bool,
    clock: Clock,
    progress: Progress,
    images: Path = paths.IMAGES,
) -> str:
    """What `build_image` does once the target is open; `images` is the folder that the image is made from."""
    planned = plan_one(catalog, selection, target, today=clock.now().date(), force=force, images=images)
    for warning in planned.warnings:
        progress.say(f"warning: {warning}")
    if not planned.decision.bake and planned.lock:
        proven = ", ".join(f"{image} ({where})" for where, image in planned.lock.images.items())
        return (
            f"nothing to do: no input changed since {selection.id} was proven\n"
            f"  image:  {proven}\n"
            f"  record: {target.records / planned.lock.record}\n"
            "  `--force` bakes all the same"
        )
    for reason in planned.decision.reasons:
        progress.say(f"baking {selection.id} because: {reason}")
    for stand_in in target.stand_ins:
        progress.say(f"stand-in for the {stand_in.part}: {stand_in.played_by}")
    record, path = bake_and_prove(planned, tools=tools, clock=clock, progress=progress)
    if not record.proven:
        raise ProofError(
            f"the image of {selection.id} did not prove itself and was removed",
            expected="no failure on a new instance launched from it",
            found="\n".join(record.proof.failures),
            where=str(path.with_name(MARKDOWN)),
            remedy="mend what the failures name, then bake again",
        )
    write_lock(
        lock_path(target.locks, selection),
        Lock(
            bake_id=record.bake_id,
            proven_at=record.ended_at,
            images=record.images,
            record=str(path.relative_to(target.records)),
            inputs=record.inputs,
        ),
    )
    return _summary(record, path.with_name(MARKDOWN))


def plan_one(
    catalog: Catalog,
    selection: VariantSelection,
    target: Target,
    *,
    today: date,
    force: bool = False,
    images: Path = paths.IMAGES,
) -> Planned:
    """Resolve the base, name the inputs, compare them with the lock. Raises PolicyRefusal, CatalogError, CloudError."""
    catalog.check_waivers(today)
    base = resolve_base(target.session, selection.flavour, target.region)
    age = base_age_verdict(base, selection, catalog.policies, today)
    agent = target.agent_source()
    inputs = collect_inputs(
        catalog=catalog,
        selection=selection,
        target=target.name,
        region=target.region,
        base=base,
        agent_url=agent.url,
        agent_fingerprint=agent.fingerprint,
        context=template_context(catalog, selection, target.name, images),
        tools=pinned_versions(MODULES / "go.mod"),
        files=digest_files(images),
        stand_ins={stand_in.part: stand_in.digest for stand_in in target.stand_ins if stand_in.digest},
    )
    lock = read_lock(lock_path(target.locks, selection))
    exists = lock is not None and all(_image_exists(target.session, image) for image in lock.images.values())
    waiver = age.waiver
    warnings = [end_of_support_warning(selection, today)]
    if waiver:
        warnings.append(f"the base is {age.days} days old, allowed until {waiver.until}: {waiver.reason}")
    return Planned(
        catalog=catalog,
        selection=selection,
        target=target,
        base=base,
        base_waiver=waiver.reason if waiver else "",
        inputs=inputs,
        lock=lock,
        decision=decide(inputs, lock, image_exists=exists, force=force),
        images=images,
        warnings=tuple(warning for warning in warnings if warning),
    )


def _image_exists(session: boto3.Session, image_id: str) -> bool:
    with aws_errors(
        "the image of the last bake could not be looked up",
        where=f"{image_id} in {session.region_name}",
        remedy="allow ec2:DescribeImages",
    ):
        try:
            return bool(session.client("ec2").describe_images(ImageIds=[image_id])["Images"])
        except ClientError as error:
            if error_code(error).startswith("InvalidAMIID"):
                return False
            raise


def bake_and_prove(planned: Planned, *, tools: Tools, clock: Clock, progress: Progress) -> tuple[Record, Path]:
    """The stages from the rendered template to the record; the record's file comes with it.

    The record is written before the image is marked proven: no image keeps standing that has none. An image that
    proved itself keeps standing; everything else of the bake is gone when this returns or raises.
    """
    target, selection = planned.target, planned.selection
    runtime_monitoring_detector(target.session)  # without it no image can be proven: said now, not after the bake
    started = clock.now()
    bake_id = tags.new_bake_id(started)
    workplace = Workplace(folder=target.records / bake_id)
    previous = latest_record(target.records, variant=selection.variant_name, flavour=selection.flavour_name)
    usual = expected_seconds(previous)
    expiry = expires_at(
        started,
        policies=planned.catalog.policies,
        polling=planned.catalog.targets[target.name].polling,
        patience=target.proof_seconds,
    )
    workplace.folder.mkdir(parents=True)
    with nothing_left_behind(target.session, bake_id, progress.say):
        baked = _bake(
            planned,
            workplace,
            bake_id,
            tools=tools,
            started=started,
            expiry=expiry,
            usual=usual,
            clock=clock,
            progress=progress,
        )
        guest = read_facts(workplace.facts)
        image = baked.images[target.region]
        with progress.phase(PROOF_PHASE, usual.get(PROOF_PHASE)) as phase:
            proof = prove(
                target.session,
                proof_request(planned, bake_id, image, expiry),
                clock=clock,
                say=phase.line,
                warn=progress.say,
            )
        sbom, provenance = read_evidence(workplace.folder)
        record = make_record(
            bake_id=bake_id,
            started_at=started,
            ended_at=clock.now(),
            made_by=who_bakes(os.environ),
            inputs=planned.inputs,
            base=planned.base,
            base_waiver=planned.base_waiver,
            images=baked.images,
            guest=guest,
            proof=proof,
            timings=(*baked.timings, Timing(name=PROOF_PHASE, kind="phase", seconds=phase.seconds)),
            stand_ins=target.stand_ins,
            sbom=sbom,
            provenance=provenance,
            warnings=planned.warnings,
            previous=previous,
        )
        path = write_record(record, workplace.folder)
        if record.proven:
            try:
                mark_proven(target.session, image)
            except BaseException as error:  # an interrupt too: the image goes, so nothing may call it proven
                write_record(record.unproven(str(error)), workplace.folder)
                raise
    return record, path


def _bake(
    planned: Planned,
    workplace: Workplace,
    bake_id: str,
    *,
    tools: Tools,
    started: datetime,
    expiry: datetime,
    usual: dict[str, float],
    clock: Clock,
    progress: Progress,
) -> Baked:
    target, catalog, selection = planned.target, planned.catalog, planned.selection
    agent = target.agent_source()
    stage(
        workplace,
        hardening=load_hardening(started.date()),
        architecture=selection.flavour.architecture,
        tools=tools,
        today=started.date(),
        images=planned.images,
    )
    write_inputs(
        workplace,
        render(template_context(catalog, selection, target.name, planned.images)),
        packer_variables(
            selection=selection,
            policies=catalog.policies,
            base=planned.base,
            agent_url=agent.url,
            agent_fingerprint=agent.fingerprint,
            signing=target.signing(),
            bake_id=bake_id,
            owner=owner(),
            started=started,
            expires_at=expiry,
            stage_dir=workplace.stage,
            work_dir=workplace.folder,
            images=planned.images,
        ),
    )
    try:
        return bake(
            workplace,
            tools=tools,
            environment=target.packer_environment(),
            expected_seconds=usual,
            progress=progress,
            clock=clock,
        )
    finally:
        workplace.tidy()


def owner() -> str:
    """Who is behind a bake, as its tags say it."""
    return os.environ.get("CODEBUILD_BUILD_ID") or f"{getpass.getuser()}@{socket.gethostname()}"


def proof_request(planned: Planned, bake_id: str, image: str, expiry: datetime) -> ProofRequest:
    """What the finished image of a bake has to show."""
    flavour, settings = planned.selection.flavour, planned.catalog.targets[planned.target.name]
    return ProofRequest(
        bake_id=bake_id,
        image_id=image,
        owner=owner(),
        expires_at=expiry,
        instance_type=flavour.builder_instance_type,
        kernel_line=planned.selection.variant.kernel_line,
        agent_version=planned.catalog.agent.version,
        patience=planned.target.proof_seconds,
        associate_public_ip=settings.associate_public_ip,
        subnet_tags=settings.subnet_tags,
    )


def _summary(record: Record, readable: Path) -> str:
    checks = record.proof.checks.summary
    images = ", ".join(f"{image} ({region})" for region, image in record.images.items())
    ready = f"ready in {duration((record.ended_at - record.started_at).total_seconds())}"
    lines = [
        f"{record.name} is proven: {images}, {ready}",
        f"  kernel:   {record.proof.kernel}",
        f"  agent:    {record.proof.agent_version}, signature by {record.inputs.agent_fingerprint}",
        f"  checks:   {checks.checks - checks.failed} of {checks.checks} passed on {record.proof.instance_id}",
        f"  coverage: {record.proof.coverage.status}",
        f"  record:   {readable}",
    ]
    return "\n".join(lines)


def plan_all(*, on: str, region: str) -> str:
    """A row for each variant and flavour: bake, up to date or refused, with the inputs that changed."""
    progress = Progress()
    with as_interrupted():
        catalog = load_catalog()
        today = SystemClock().now().date()
        cache = Cache(paths.cache_root(), progress.say)
        return plan_text(
            [_plan_row(on, catalog, selection, region, today, cache, progress) for selection in catalog.selections()]
        )


def _plan_row(
    on: str,
    catalog: Catalog,
    selection: VariantSelection,
    region: str,
    today: date,
    cache: Cache,
    progress: Progress,
) -> PlanRow:
    try:
        if on == "local" and _never_proven_here(selection):
            decision = Decision(bake=True, reasons=(NEVER_BAKED,))
            warning = end_of_support_warning(selection, today)
            return PlanRow(name=selection.id, decision=decision, lock=None, warnings=(warning,) if warning else ())
        target = open_target(on, catalog, selection, region, today=today, cache=cache, progress=progress)
        planned = plan_one(catalog, selection, target, today=today)
    except OvenproofError as error:
        if error.exit_code in (2, 7, 8):  # this one cannot be baked; the others may
            return PlanRow(name=selection.id, decision=None, lock=None, problem=error.what)
        raise
    return PlanRow(name=selection.id, decision=planned.decision, lock=planned.lock, warnings=planned.warnings)


def _never_proven_here(selection: VariantSelection) -> bool:
    """Whether a plan can do without the local cloud: making a guest takes minutes, and the answer is known."""
    from pipeline.rehearsal.target import require_stand_in

    require_stand_in(selection)
    return not lock_path(paths.local_root() / "locks", selection).exists()


def record_folders() -> tuple[Path, ...]:
    """Where records lie, of both targets."""
    return (paths.local_root() / "records", AwsTarget.records)


def diff_records(before: str, after: str) -> str:
    """What differs between two bakes, given by bake id or path."""
    from pipeline.diff import diff

    found = diff(find_record(before, record_folders()), find_record(after, record_folders()))
    return found.as_text()


def sweep(*, on: str, region: str, dry_run: bool) -> str:
    """Remove what outlived its expiry tag, and old versions of our documents; with `dry_run` only say what that is.

    Raises OvenproofError if some of it resists. What cannot be seen is kept, and said.
    """
    catalog = load_catalog()
    session = open_session(on, region or catalog.default_region)
    if session is None:
        return "the local cloud is not running: nothing stands in it"
    say, keep_newest = Progress().say, catalog.retention.document_versions
    leftovers = sweeping.overdue(sweeping.inventory(session, say=say), SystemClock().now())
    verdicts = _document_verdicts(session, keep_newest, say)
    old = [verdict for verdict in verdicts if verdict.goes]
    if dry_run:
        lines = [f"would remove {one.resource.kind} {one.resource.id}: {one.reason}" for one in leftovers]
        lines += [f"would {verdict}" for verdict in verdicts if verdict.goes or verdict.beyond]
        return "\n".join(lines) or "nothing has outlived its bake"
    if not leftovers and not old:
        return "nothing has outlived its bake"
    removals = sweeping.remove(session, leftovers, say=say)
    removed = document_versions.carry_out(session, old, keep_newest, say=say)
    failed = [f"{one.leftover.resource.kind} {one.leftover.resource.id}: {one.error}" for one in removals if one.error]
    failed += [f"version {one.verdict.number} of {one.verdict.name}: {one.error}" for one in removed if one.error]
    if failed:
        raise OvenproofError(
            f"{len(failed)} of {len(removals) + len(removed)} leftovers could not be removed",
            found="\n".join(failed),
            remedy="read the reasons, then run `./run sweep` again",
        )
    gone = sum(not one.kept for one in removals) + sum(not one.kept for one in removed)
    return f"removed {gone} leftovers"


def _document_verdicts(
    session: boto3.Session, keep_newest: int, say: Callable[[str], None]
) -> list[document_versions.Verdict]:
    """What becomes of each version of our documents in the session's region; a document that is not seen is said."""
    found: list[document_versions.Verdict] = []
    for name in document_names():
        try:
            view = document_versions.view_of(session, name)
        except CloudError as error:
            say(str(error))
            continue
        if view:
            found += document_versions.decide(view, keep_newest)
    return found
