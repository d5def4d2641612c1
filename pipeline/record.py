"""What a bake leaves behind: in, everything it was made of and everything it showed; out, `record.json` for machines
and `record.md` for people, in the bake's own folder.

`record.json` follows `pipeline/record.schema.json`, which is made from the types below. A record is written for
every image that was baked, proven or not.
"""

import getpass
import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, JsonValue, ValidationError

from pipeline import paths
from pipeline.base import Base
from pipeline.catalog import TargetName
from pipeline.coverage import Coverage
from pipeline.diff import RecordDiff, diff
from pipeline.errors import BakeError, CatalogError, MachineError, ProofError, UsageError
from pipeline.packer_output import Timing
from pipeline.plan import BakeInputs
from pipeline.process import run
from pipeline.prove import Proof
from pipeline.record_markdown import as_markdown
from pipeline.target import StandIn
from pipeline.whole_file import write_whole
from pipeline.yaml_file import StrictModel

RECORD: Final = "record.json"
MARKDOWN: Final = "record.md"
SCHEMA: Final = Path(__file__).with_name("record.schema.json")


# -- what images/rootfs/usr/bin/ovenproof-check reports -------------------------------------------------------------


class Unit(StrictModel):
    """A systemd unit's states, in systemd's words."""

    enabled: str
    active: str
    sub: str
    result: str = ""


class CheckedAgent(StrictModel):
    """The GuardDuty agent as the check saw it; `steady` means no restart during the window."""

    version: str
    unit: Unit
    steady: bool
    endpoint: Literal["reachable", "unreachable", "unknown"]


class CheckWindow(StrictModel):
    """The time over which units were watched for restarts, and each unit at its begin and end."""

    seconds: float
    units: Mapping[str, Mapping[str, JsonValue]]


class CheckSummary(StrictModel):
    """Counts, and the seconds it all took."""

    checks: int
    failed: int
    not_applicable: int
    seconds: float


class FailedCheck(StrictModel):
    """A check that did not pass, with what to do."""

    id: str
    topic: str
    title: str
    expected: str
    found: str
    remedy: str
    cis: Mapping[str, JsonValue] | None = None


class SkippedCheck(StrictModel):
    """A rule that means nothing on this image."""

    id: str
    title: str
    why: str


class RanCheck(StrictModel):
    """A check that ran."""

    id: str
    topic: str
    title: str
    passed: bool


class CheckReport(StrictModel):
    """The JSON of `ovenproof-check`."""

    schema_version: Literal[1] = Field(alias="schema")
    at: Literal["bake", "first-boot", "running"]
    passed: bool
    kernel: str
    release: Mapping[str, str]
    agent: CheckedAgent
    window: CheckWindow
    summary: CheckSummary
    failures: tuple[FailedCheck, ...]
    not_applicable: tuple[SkippedCheck, ...]
    checks: tuple[RanCheck, ...]


# -- what images/provision/70-collect-facts.sh writes down ----------------------------------------------------------


class Package(StrictModel):
    """An installed package; an rpm's version is `[epoch:]version-release`."""

    source: Literal["rpm", "deb"]
    name: str
    version: str
    arch: str


class AgentFacts(StrictModel):
    """The agent's package, whose signature was verified in the builder, and the limits its unit got there."""

    name: str
    version: str
    release: str
    arch: str
    fingerprint: str
    sha256: str
    size_bytes: int
    signed_at: str
    key_created_at: str
    url: str
    installed: Literal["installed", "already-there"]
    unit: Unit
    memory_max_bytes: int | None
    memlock_bytes: int | None
    cpu_quota_percent: int | None


class EcsFacts(StrictModel):
    """The ECS agent's package, and what the agent says of itself where it answered."""

    init_version: str | None
    agent_version: str | None = None
    agent_answer: str | None = None


class GuestFacts(StrictModel):
    """`facts.json`, fetched from the builder before it is cleaned up."""

    schema_version: Literal[1] = Field(alias="schema")
    kernel: str
    arch: Literal["x86_64", "aarch64"]
    os_release: Mapping[str, str]
    packages: tuple[Package, ...]
    units_enabled: tuple[str, ...]
    sysctls: Mapping[str, str]
    agent: AgentFacts
    ecs: EcsFacts
    docker_version: str | None
    installed_bytes: int
    release: Mapping[str, str]
    checks: CheckReport


def read_facts(path: Path) -> GuestFacts:
    """The guest's facts. Raises BakeError that names the first field which is not as agreed."""
    try:
        return GuestFacts.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise BakeError(
            "the facts that the builder wrote down cannot be used",
            expected="the fields of pipeline.record.GuestFacts",
            found=_first_fault(error),
            where=str(path),
            remedy="make images/provision/70-collect-facts.sh and pipeline/record.py agree",
        ) from error


def check_report(report: Mapping[str, Any]) -> CheckReport:
    """The report of the new instance as a value. Raises ProofError that names the first field not as agreed."""
    try:
        return CheckReport.model_validate_json(json.dumps(report))
    except ValidationError as error:
        raise ProofError(
            "the report of ovenproof-check cannot be used",
            expected="the fields of pipeline.record.CheckReport",
            found=_first_fault(error),
            where="the instance of the proof",
            remedy="make images/rootfs/usr/bin/ovenproof-check and pipeline/record.py agree",
        ) from error


def _first_fault(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error)
    first, *more = error.errors(include_url=False)
    text = f"{' > '.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return text + (f" (and {len(more)} more)" if more else "")


# -- the record -----------------------------------------------------------------------------------------------------


class MadeBy(StrictModel):
    """Who baked, where, from which state of the checkout. `commit` is empty outside a git checkout."""

    user: str
    host: str
    ci_build: str
    commit: str
    dirty: bool


class BaseFacts(StrictModel):
    """The base image, and how old it was. `waiver` is why an older one than allowed was used, else empty."""

    id: str
    name: str
    created: datetime
    age_days: int
    ecs_agent_version: str
    waiver: str = ""


class ProofFacts(StrictModel):
    """What an instance of the finished image showed. `failures` is empty exactly when it is proven."""

    instance_id: str
    kernel: str
    agent_version: str
    failures: tuple[str, ...]
    coverage: Coverage
    checks: CheckReport
    console: str = ""


class EvidenceFile(StrictModel):
    """A file beside the record, by name and digest."""

    file: str
    sha256: str


class Sbom(EvidenceFile):
    """The software bill of materials, in CycloneDX."""

    spec_version: str
    components: int


class Record(StrictModel):
    """One bake."""

    schema_version: Literal[1] = 1
    bake_id: str
    variant: str
    flavour: str
    target: TargetName
    region: str
    proven: bool
    started_at: datetime
    ended_at: datetime
    made_by: MadeBy
    inputs: BakeInputs
    inputs_digest: str
    base: BaseFacts
    images: Mapping[str, str] = Field(description="image id by region")
    guest: GuestFacts
    proof: ProofFacts
    timings: tuple[Timing, ...]
    stand_ins: tuple[StandIn, ...]
    sbom: Sbom
    provenance: EvidenceFile
    warnings: tuple[str, ...]
    difference: RecordDiff | None = Field(description="from the last proven record of the variant; null for the first")

    @property
    def name(self) -> str:
        """The variant and flavour as people write them."""
        return f"{self.variant}/{self.flavour}"

    def unproven(self, why: str) -> "Record":
        """The same bake, not proven after all; `why` is one more failure of its proof."""
        proof = self.proof.model_copy(update={"failures": (*self.proof.failures, why)})
        return self.model_copy(update={"proven": False, "proof": proof})

    def as_json(self) -> str:
        """The text of `record.json`."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"

    def as_markdown(self) -> str:
        """The text of `record.md`."""
        return as_markdown(self)


def make_record(
    *,
    bake_id: str,
    started_at: datetime,
    ended_at: datetime,
    made_by: MadeBy,
    inputs: BakeInputs,
    base: Base,
    base_waiver: str,
    images: Mapping[str, str],
    guest: GuestFacts,
    proof: Proof,
    timings: Sequence[Timing],
    stand_ins: Sequence[StandIn],
    sbom: Sbom,
    provenance: EvidenceFile,
    warnings: Sequence[str],
    previous: Record | None,
) -> Record:
    """Put a record together; nothing is looked up here.

    `timings` are Packer's phases and whatever else was timed (the proof). `previous` is the last proven record of
    the same variant, flavour and target. Raises ProofError if the new instance's report is not as agreed.
    """
    record = Record(
        bake_id=bake_id,
        variant=inputs.variant,
        flavour=inputs.flavour,
        target=inputs.target,
        region=inputs.region,
        proven=proof.proven,
        started_at=started_at,
        ended_at=ended_at,
        made_by=made_by,
        inputs=inputs,
        inputs_digest=inputs.digest(),
        base=BaseFacts(
            id=base.id,
            name=base.name,
            created=base.created,
            age_days=(started_at - base.created).days,
            ecs_agent_version=base.ecs_agent_version,
            waiver=base_waiver,
        ),
        images=dict(images),
        guest=guest,
        proof=ProofFacts(
            instance_id=proof.instance_id,
            kernel=proof.kernel,
            agent_version=proof.agent_version,
            failures=proof.failures,
            coverage=proof.coverage,
            checks=check_report(proof.checks),
            console=proof.console,
        ),
        timings=tuple(timings),
        stand_ins=tuple(stand_ins),
        sbom=sbom,
        provenance=provenance,
        warnings=tuple(warnings),
        difference=None,
    )
    if previous is None:
        return record
    difference = diff(previous, record)
    slow = (f"slower than the last bake: {item}" for item in difference.slower)
    return record.model_copy(update={"difference": difference, "warnings": (*record.warnings, *slow)})


def expected_seconds(previous: Record | None) -> dict[str, float]:
    """What each phase took last time, by its name; nothing before the first record."""
    return {} if previous is None else {timing.name: timing.seconds for timing in previous.timings}


def who_bakes(environment: Mapping[str, str], checkout: Path = paths.CHECKOUT) -> MadeBy:
    """Who runs this, on which machine, from which commit. CodeBuild's own variable names the CI build."""
    try:
        commit = run(["git", "-C", checkout, "rev-parse", "HEAD"]).strip()
        dirty = bool(run(["git", "-C", checkout, "status", "--porcelain"]).strip())
    except MachineError:  # an unpacked archive, or a machine without git: that is a fact too
        commit, dirty = "", False
    return MadeBy(
        user=getpass.getuser(),
        host=socket.gethostname(),
        ci_build=environment.get("CODEBUILD_BUILD_ID", ""),
        commit=commit,
        dirty=dirty,
    )


def read_evidence(folder: Path) -> tuple[Sbom, EvidenceFile]:
    """SBOM and provenance of the one bake in a folder, under the names that Packer's post-processor gives them.

    Raises BakeError unless there is exactly one of each, or if the SBOM is unusable.
    """
    return read_sbom(_only(folder, "*.sbom.cdx.json")), _evidence_file(_only(folder, "*.provenance.json"))


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise BakeError(
            "the bake's evidence is not complete",
            expected=f"one file {pattern}, written by Packer's provenance post-processor",
            found=", ".join(path.name for path in found) or "none",
            where=str(folder),
            remedy="look for the post-processor's messages in Packer's log",
        )
    return found[0]


def _evidence_file(path: Path) -> EvidenceFile:
    return EvidenceFile(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def read_sbom(path: Path) -> Sbom:
    """A CycloneDX file's digest and size. Raises BakeError when it is of another format, or empty."""
    data = path.read_bytes()
    try:
        document = json.loads(data)
        version = document["specVersion"] if document["bomFormat"] == "CycloneDX" else None
        components = len(document["components"])
    except (ValueError, KeyError, TypeError):
        version, components = None, 0
    if not isinstance(version, str) or components == 0:
        raise BakeError(
            "the software bill of materials is not usable",
            expected="CycloneDX in JSON, with at least one component",
            found=f"{components} components" if version else "another format",
            where=str(path),
            remedy="look for the scanner's messages in Packer's log beside it",
        )
    return Sbom(file=path.name, sha256=hashlib.sha256(data).hexdigest(), spec_version=version, components=components)


# -- records on disk ------------------------------------------------------------------------------------------------


def write_record(record: Record, directory: Path) -> Path:
    """Write both forms into the bake's folder, `record.json` last, so that it exists only when all is there."""
    write_whole(directory / MARKDOWN, record.as_markdown())
    path = directory / RECORD
    write_whole(path, record.as_json())
    return path


def read_record(path: Path) -> Record:
    """One record. Raises CatalogError when the file is damaged, UsageError when there is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError("there is no such record", found=str(error), where=str(path)) from error
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise CatalogError(
            "a record cannot be read",
            expected="what Ovenproof wrote, see pipeline/record.schema.json",
            found=_first_fault(error),
            where=str(path),
            remedy="restore the file, or remove its folder if nobody needs it",
        ) from error


def find_record(reference: str, folders: Sequence[Path]) -> Record:
    """A record by its file, its folder, or its bake id in one of the targets' folders of records.

    Raises UsageError that lists the newest bakes there are, CatalogError when the file is damaged.
    """
    given = Path(reference)
    candidates = [given, given / RECORD, *(folder / reference / RECORD for folder in folders)]
    for path in candidates:
        if path.is_file():
            return read_record(path)
    known = sorted((path.parent.name for folder in folders for path in folder.glob(f"*/{RECORD}")), reverse=True)
    raise UsageError(
        f"there is no record {reference}",
        expected="a bake id, or the path of a record" + (f"; the newest are {', '.join(known[:5])}" if known else ""),
        found="no bake has left a record yet" if not known else "",
        where=", ".join(str(folder) for folder in folders),
        remedy="name one of those" if known else "run `./run build-image` first",
    )


def latest_record(folder: Path, *, variant: str, flavour: str) -> Record | None:
    """The newest proven record of a variant and flavour in a target's folder, or None.

    Raises CatalogError when a record is damaged: ask before a bake, not after it.
    """
    records = (read_record(path) for path in sorted(folder.glob(f"*/{RECORD}")))
    fitting = [one for one in records if one.proven and (one.variant, one.flavour) == (variant, flavour)]
    return max(fitting, key=lambda one: one.ended_at, default=None)


def record_schema() -> str:
    """The JSON Schema of `record.json`; `pipeline/record.schema.json` holds it, and a test compares."""
    return json.dumps(Record.model_json_schema(by_alias=True), indent=2) + "\n"
