"""What Packer says while it builds: in, lines of `packer build -machine-readable`; out, typed events, where the
build stands, how long each phase took, and in the end one outcome: Baked, Failed or Cancelled.

The format (Packer, "Machine-Readable Output"): `seconds,target,type,data...`, commas inside data written as
`%!(PACKER_COMMA)`, line ends as `\\n` and `\\r`. A guest's output arrives as text like Packer's own, so text only
tells phases and their times; the outcome rests on `error`, `artifact` and the exit code, which no guest can print.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.clock import Clock
from pipeline.errors import BakeError

LAST_LINES: Final = 60
"""Lines of output kept per phase; the log file has all of them."""

Kind = Literal["phase", "provisioner"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """A line for people. `build` is empty for Packer's own words about the whole run."""

    at: float
    build: str
    text: str
    is_error: bool


@dataclass(frozen=True, kw_only=True)
class BuildErrored:
    """Packer's reason why a build failed; there is one for each failed build."""

    at: float
    build: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ArtifactPart:
    """One fact about artifact number `index`, such as key `id`, values `us-east-1:ami-1,us-west-2:ami-2`."""

    at: float
    build: str
    index: int
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How many errors, or artifacts, Packer is going to list."""

    at: float
    what: Literal["error-count", "artifact-count"]
    count: int


@dataclass(frozen=True, kw_only=True)
class Unstructured:
    """A line in no format of Packer's: a crash of Packer or of a plugin, or an event type it did not have before."""

    text: str


Event = Said | BuildErrored | ArtifactPart | Counted | Unstructured

_LINE = re.compile(r"(\d+),([^,]*),([a-z][a-z-]*)(?:,(.*))?", re.DOTALL)
_TARGETED = re.compile(r"==> ([^:\s]+(?: \([\w-]+\))?): ?(.*)", re.DOTALL)


def parse_line(line: str) -> Event:
    """One line, without its line end, as an event."""
    matched = _LINE.fullmatch(line)
    if matched is None:
        return Unstructured(text=line)
    at, build, kind = float(matched[1]), matched[2], matched[3]
    data = [_unescape(part) for part in (matched[4] or "").split(",")]
    match kind, data:
        case "ui", [("say" | "message" | "error") as voice, text]:
            said_by, words = _target_of(text)
            return Said(at=at, build=said_by, text=words, is_error=voice == "error")
        case "error", [text]:
            return BuildErrored(at=at, build=build, text=text)
        case "artifact", [index, key, *values] if index.isdigit():
            return ArtifactPart(at=at, build=build, index=int(index), key=key, values=tuple(values))
        case ("error-count" | "artifact-count") as what, [count] if count.isdigit():
            return Counted(at=at, what=what, count=int(count))
    return Unstructured(text=line)


def _unescape(text: str) -> str:
    # Packer leaves backslashes alone, so a script that prints a backslash and an n cannot be told from a line end.
    return text.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n").replace("\\r", "\r")


def _target_of(text: str) -> tuple[str, str]:
    """`==> build: words` as build and words; words of Packer itself have no build."""
    matched = _TARGETED.fullmatch(text)
    return (matched[1], matched[2]) if matched else ("", text)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long one phase of the build took."""

    name: str
    kind: Kind
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Baked:
    """The image of each region, by id."""

    images: Mapping[str, str]
    timings: tuple[Timing, ...]


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Where the build stopped, what Packer gave as the reason, and the last output before it.

    `stderr` holds those of the last lines that came from standard error. `left_behind` is what went wrong while
    Packer cleaned up; empty when it removed everything.
    """

    phase: str
    kind: Kind
    reason: str
    last_lines: tuple[str, ...]
    stderr: tuple[str, ...]
    left_behind: tuple[str, ...]
    timings: tuple[Timing, ...]


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """Packer was asked to stop, and did. `left_behind` as in Failed."""

    phase: str
    left_behind: tuple[str, ...]
    timings: tuple[Timing, ...]


Outcome = Baked | Failed | Cancelled

READ_TEMPLATE: Final = "read the template"
CLEAN_UP: Final = "clean up"
UPLOAD: Final = "upload the staging folder"

# Packer's first words of each phase. Sources: packer-plugin-amazon 1.8.2 builder/ebs and common, the SDK's
# communicator step, Packer 1.16.0's provisioners. tests/samples/packer holds recordings of all of them.
_PHASES: Final[tuple[tuple[str, str], ...]] = (
    (r"Prevalidating ", "look up the base"),
    (r"(Creating temporary|Using existing SSH|Launching a (source|spot) )", "start the builder"),
    (r"(Using \w+ communicator to connect|Waiting for (SSH|WinRM) to)", "connect to the builder"),
    (r"(Stopping the source instance|Automatic instance stop disabled)", "stop the builder"),
    (r"(Creating AMI \S+ from instance|Skipping AMI creation)", "create the image"),
    (r"Copying/Encrypting AMI", "copy the image"),
    (r"(Provisioning step had errors|Deregistering the AMI|Terminating the source AWS instance)", CLEAN_UP),
    (r"Running post-processor", "write the evidence"),
)
_SCRIPT = re.compile(r"(?:Provisioning with shell|Running local shell) script: (\S+)")
_TRANSFER = re.compile(r"(Uploading|Downloading) (\S+) => (\S+)")
_CANCELLING = re.compile(r"(Cancelling build after receiving|Cleanly cancelled builds)")
# Packer's summing up: it repeats what `error` and `artifact` events say.
_SUMMARY = re.compile(r"(Build '.*' (errored|finished) after|\n==> |--> )")
_LAST_OF_A_BUILDER: Final = "Terminating the source"  # after a failure other words come before these
_LAST_OF_AN_IMAGE: Final = ("create the image", "copy the image")
_ORDER: Final = {name: index for index, (_, name) in enumerate(_PHASES)}


@dataclass(frozen=True, kw_only=True)
class Step:
    """The phase that a line began."""

    name: str
    kind: Kind


def step_begun(said: Said) -> Step | None:
    """The phase that these words of Packer's begin, or None."""
    if not said.build or said.is_error:
        return None
    if matched := _SCRIPT.fullmatch(said.text):
        name = PurePosixPath(matched[1]).name
        return Step(name="inline script" if name.startswith("packer-shell") else name, kind="provisioner")
    if matched := _TRANSFER.fullmatch(said.text):
        down = matched[1] == "Downloading"
        return Step(name=f"download {PurePosixPath(matched[2]).name}" if down else UPLOAD, kind="provisioner")
    for pattern, name in _PHASES:
        if re.match(pattern, said.text):
            return Step(name=name, kind="phase")
    return None


class BuildFollower:
    """Follows one build of one source, line by line.

    With a clock, times are when a line arrived; without one they are Packer's own stamps, to the second.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.step = Step(name=READ_TEMPLATE, kind="phase")
        self.last_line = ""
        self._clock = clock
        self._began: float | None = None if clock is None else clock.monotonic()
        self._latest = self._began
        self._timings: dict[tuple[str, Kind], float] = {}
        self._lines: list[Said | Unstructured] = []
        self._stopped_in: tuple[Step, list[Said | Unstructured]] | None = None
        self._errors: list[str] = []
        self._clean_up_errors: list[str] = []
        self._ids: set[str] = set()
        self._reached = -1
        self._cancelled = False
        self.is_stopping = False
        """Whether Packer cleans up after a phase that failed or was cancelled, rather than after a whole bake."""

    def feed(self, line: str) -> Step | None:
        """Take in one line; the phase is returned when the line began a new one."""
        event = parse_line(line)
        self._tick(event)
        match event:
            case Said():
                return self._said(event)
            case Unstructured(text=text):
                self._keep(event, text)
            case BuildErrored(text=text):
                self._errors.append(text)
            case ArtifactPart(key="id", values=values):
                self._ids.update(values[0].split(",") if values else ())
            case _:
                pass
        return None

    def finish(self, exit_code: int) -> Outcome:
        """What came of it, once Packer is gone. One different image id per region is Baked, nothing else is."""
        self._close_step()
        timings = tuple(Timing(name=name, kind=kind, seconds=s) for (name, kind), s in self._timings.items())
        step, lines = self._stopped_in or (self.step, self._lines)
        left_behind = tuple(self._clean_up_errors)
        if self._cancelled:
            return Cancelled(phase=step.name, left_behind=left_behind, timings=timings)
        images, problem = _one_image_per_region(self._ids)
        if exit_code == 0 and not self._errors and not problem:
            return Baked(images=images, timings=timings)
        if self._errors:
            reason = "; ".join(self._errors)
        elif exit_code != 0:
            last = next((line.text for line in reversed(lines) if isinstance(line, Said) and line.is_error), "")
            reason = last.strip() or f"Packer ended with exit code {exit_code} and gave no reason"
        else:
            reason = problem
        return Failed(
            phase=step.name,
            kind=step.kind,
            reason=reason,
            last_lines=tuple(text for line in lines for text in _texts(line)),
            stderr=tuple(text for line in lines if isinstance(line, Said) and line.is_error for text in _texts(line)),
            left_behind=left_behind,
            timings=timings,
        )

    def _said(self, said: Said) -> Step | None:
        if not said.build:
            self._cancelled = self._cancelled or bool(_CANCELLING.match(said.text))
            if not _SUMMARY.match(said.text):
                self._keep(said, said.text)
            return None
        begun = step_begun(said)
        if begun is None or begun == self.step or not self._may_follow(begun):
            if self.step.name == CLEAN_UP and said.is_error:
                self._clean_up_errors.append(said.text.strip())
            self._keep(said, said.text)
            return None
        if begun.name == CLEAN_UP:
            self._stopped_in = (self.step, self._lines)
            whole = self.step.name in _LAST_OF_AN_IMAGE and said.text.startswith(_LAST_OF_A_BUILDER)
            self.is_stopping = not whole
        self._close_step()
        self.step, self._lines = begun, []
        self._reached = max(self._reached, _ORDER.get(begun.name, 0))
        return begun

    def _may_follow(self, begun: Step) -> bool:
        """Phases only go forward, and nothing is provisioned once the builder is being stopped."""
        if begun.kind == "provisioner":
            return self._reached < _ORDER["stop the builder"]
        return _ORDER[begun.name] > self._reached

    def _keep(self, event: Said | Unstructured, text: str) -> None:
        if text.strip():
            self.last_line = text.strip().splitlines()[-1]
            self._lines = [*self._lines, event][-LAST_LINES:]

    def _tick(self, event: Event) -> None:
        if self._clock is not None:
            self._latest = self._clock.monotonic()
        elif not isinstance(event, Unstructured):
            self._latest = event.at
            self._began = event.at if self._began is None else self._began

    def _close_step(self) -> None:
        if self._began is not None and self._latest is not None:
            key = (self.step.name, self.step.kind)
            self._timings[key] = self._timings.get(key, 0.0) + (self._latest - self._began)
        self._began = self._latest


def _texts(line: Said | Unstructured) -> list[str]:
    return [text for text in line.text.strip().splitlines() if text.strip()]


def _one_image_per_region(ids: set[str]) -> tuple[dict[str, str], str]:
    """`region:ami` pairs as a mapping, and what is wrong with them, if anything."""
    images: dict[str, str] = {}
    for text in sorted(ids):
        region, colon, image = text.partition(":")
        if not colon or not image.startswith("ami-"):
            return {}, f"Packer named {text!r}, which is not an image of a region"
        if region in images:
            return {}, f"Packer named two images in {region}: {images[region]} and {image}"
        images[region] = image
    return images, "" if images else "Packer ended without an error and named no image"


class _Foreign(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ManifestBuild(_Foreign):
    """One build in the file that Packer's `manifest` post-processor writes."""

    name: str
    builder_type: str
    artifact_id: str
    packer_run_uuid: str
    custom_data: Mapping[str, str] | None = None


class Manifest(_Foreign):
    """The whole file; it may hold builds of earlier runs."""

    builds: tuple[ManifestBuild, ...]
    last_run_uuid: str

    def images(self) -> dict[str, str]:
        """The image of each region that the last run made. Raises BakeError unless it is one per region."""
        ids = {
            part
            for build in self.builds
            if build.packer_run_uuid == self.last_run_uuid
            for part in build.artifact_id.split(",")
        }
        images, problem = _one_image_per_region(ids)
        if problem:
            raise BakeError(problem, expected="one image per region", where="Packer's manifest")
        return images


def read_manifest(path: Path) -> Manifest:
    """Packer's manifest as a value. Raises BakeError when there is none, or it is not one."""
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise BakeError(
            "Packer's manifest cannot be read",
            expected="the file that the post-processor `manifest` writes",
            found=str(error),
            where=str(path),
            remedy="keep the bake's folder and look at Packer's log in it",
        ) from error


def check_against_manifest(baked: Baked, manifest: Manifest) -> None:
    """Raise BakeError unless Packer's output and its manifest name the same images."""
    found = manifest.images()
    if found != dict(baked.images):
        text: Callable[[Mapping[str, str]], str] = lambda images: ", ".join(  # noqa: E731
            f"{region}: {image}" for region, image in sorted(images.items())
        )
        raise BakeError(
            "Packer's output and its manifest name different images",
            expected=f"{text(baked.images)} (output)",
            found=f"{text(found)} (manifest)",
            remedy="use neither image; bake again into an empty folder",
        )
