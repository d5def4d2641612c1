"""`./run coverage`: in, the command line; out, a table, JSON, CSV or a page, and an exit code for CI."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import boto3

from pipeline.cache import say_on_stderr
from pipeline.clock import Clock, SystemClock
from pipeline.diagnosis import outputs
from pipeline.diagnosis import watch as watching
from pipeline.diagnosis.access import ROLE, Access
from pipeline.diagnosis.scope import Scope, read_scope
from pipeline.diagnosis.summary import Summary, summarise
from pipeline.diagnosis.survey import Survey
from pipeline.diagnosis.table import percent
from pipeline.diagnosis.views import ANY_SCRIPT, OWN_DOCUMENT
from pipeline.errors import ProofError, UsageError
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import EXAMPLE, read_organization
from pipeline.rehearsal.organization.world import World, fixed_start
from pipeline.signals import as_interrupted

FORMATS = ("table", "json", "csv", "html")
DOCUMENTS = {"yes": OWN_DOCUMENT, "shell": ANY_SCRIPT}
"""Ways to look inside hosts."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a survey is made: the session, the clock, the regions that count when none is named."""

    session: boto3.Session
    clock: Clock
    regions: tuple[str, ...]
    is_local: bool


def open_place(on: str, regions: Sequence[str], organization: str = "") -> Place:
    """`aws`, or `local`: an organization from a file behind the same calls. Raises UsageError, CatalogError."""
    if on == "aws":
        if organization:
            raise UsageError("--organization is for --on local", remedy="leave one of the two out")
        session = boto3.Session(region_name=regions[0] if regions else None)
        found = (session.region_name,) if session.region_name else ()
        if not (regions or found):
            raise UsageError("no region is named", remedy="give --region, or set AWS_REGION")
        return Place(session=session, clock=SystemClock(), regions=tuple(regions) or found, is_local=False)
    if on != "local":
        raise UsageError(f"there is no target {on}", expected="local or aws", where="--on")
    spec = read_organization(Path(organization) if organization else EXAMPLE)
    if foreign := sorted(set(regions) - set(spec.regions)):
        raise UsageError(
            f"{spec.name} is not in {foreign[0]}", expected=f"one of {', '.join(spec.regions)}", where="--region"
        )
    clock = RehearsalClock()
    return Place(
        session=Organization(World(spec, clock)).session(),
        clock=clock,
        regions=tuple(regions) or spec.regions,
        is_local=True,
    )


class RehearsalClock:
    """The machine's time for durations, a fixed day for dates, and nothing to wait for."""

    def __init__(self) -> None:
        self._real = SystemClock()
        self._skipped = 0.0
        self._began = self._real.monotonic()

    def now(self) -> datetime:
        return fixed_start() + timedelta(seconds=int(self._skipped))

    def monotonic(self) -> float:
        return self._real.monotonic() - self._began + self._skipped

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds


def coverage(
    *,
    on: str = "local",
    account: str = "",
    region: str = "",
    cluster: str = "",
    group: str = "",
    instance: str = "",
    format: str = "table",
    out: str = "",
    fail_under: float | str = 0,
    resume: str = "",
    organization: str = "",
    role: str = "",
    look_inside: str = "",
    earlier: str = "",
    watch: bool = False,
    show: Callable[[str], object],
    say: Callable[[str], None] = say_on_stderr,
) -> None:
    """Show what is covered, what is not, why, and what to do. Raises ProofError when it is under `fail_under` %."""
    if format not in FORMATS:
        raise UsageError(f"there is no format {format}", expected=", ".join(FORMATS), where="--format")
    wanted_percent = _percentage(fail_under)
    if look_inside not in ("", "no", *DOCUMENTS):
        raise UsageError(f"--look-inside {look_inside} is unclear", expected="yes, shell or no", where="--look-inside")
    if earlier and format != "html":
        raise UsageError("a trend is shown on the page only", expected="--format html", where="--earlier")
    before = [Path(name) for name in earlier.split(",") if name]
    wanted = read_scope(accounts=[account], regions=[region], cluster=cluster, group=group, instance=instance)
    place = open_place(on, wanted.regions, organization)
    scope = Scope(wanted.accounts, place.regions, wanted.cluster, wanted.group, wanted.instance)
    inside = DOCUMENTS.get(look_inside or ("yes" if place.is_local else "no"), "")
    if watch and (out or resume or format != "table"):
        raise UsageError("--watch shows changes, and nothing else", remedy="leave --out, --format and --resume out")
    with as_interrupted(), _ledger_path(resume) as path:
        survey = Survey(
            access=Access(place.session, place.clock, role=role or ROLE),
            clock=place.clock,
            scope=scope,
            look_inside=inside,
            say=say,
        )
        if watch:
            watching.watch(survey.run, place.clock, show=show)
            return
        ledger = survey.run(Path(path), resume=bool(resume))
        summary = summarise(ledger)
        if scope.instance and not summary.hosts.total():
            raise UsageError(
                f"{scope.instance} is not there",
                expected="a running instance",
                found="neither EC2 nor GuardDuty names it" if not summary.unseen else summary.unseen[0].why,
                where=scope.describe(),
                remedy="name the account and region it is in: --account, --region",
            )
        text = outputs.write(format, ledger, summary, Path(out) if out else None, before)
    show(text)
    judge(summary, wanted_percent)


def _percentage(given: float | str) -> float:
    """A percentage of the command line; nothing given is 0. Raises UsageError for anything else."""
    try:
        value = float(given or 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise UsageError(f"--fail-under {given} is no percentage", expected="0 to 100", where="--fail-under")
    return value


def _ledger_path(resume: str) -> AbstractContextManager[str]:
    if resume:
        return nullcontext(resume)
    return _TemporaryLedger()


class _TemporaryLedger(AbstractContextManager[str]):
    """A ledger that nobody asked to keep."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ovenproof-coverage-")

    def __enter__(self) -> str:
        return str(Path(self._folder.name) / "ledger.jsonl")

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def judge(summary: Summary, fail_under: float) -> None:
    """Raise ProofError when less is covered than wanted, or when nobody can know."""
    if not fail_under:
        return
    if summary.percent < fail_under:
        raise ProofError(
            f"coverage is under {fail_under:g} %",
            expected=f"{fail_under:g} % of hosts and Fargate services",
            found=percent(summary.percent),
        )
    if summary.unseen:
        accounts = sorted({item.account for item in summary.unseen})
        raise ProofError(
            f"whether coverage is {fail_under:g} % cannot be known",
            expected="a view of every account in scope",
            found=f"parts of {len(accounts)} accounts were not seen: {', '.join(accounts[:5])}",
            remedy="let the caller look into them, or leave them out by naming others with --account",
        )
