"""The bake: in, a rendered template with its variables in a folder of their own; out, the image of each region.

Only Packer works here. What it prints is followed, not searched; everything it prints is in `packer.log`.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from pipeline import paths
from pipeline.catalog import Architecture
from pipeline.clock import Clock
from pipeline.errors import BakeError
from pipeline.failure import bake_error
from pipeline.hardening import Hardening, goss_spec
from pipeline.packer import run_packer
from pipeline.packer_output import Baked, BuildFollower, Cancelled, Failed, check_against_manifest, read_manifest
from pipeline.process import run
from pipeline.progress import Progress
from pipeline.tools import Tools

TEMPLATE: Final = "template.pkr.hcl"
VARIABLES: Final = "bake.pkrvars.json"
LOG: Final = "packer.log"
STAGED: Final = ("rootfs", "checks")


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """The folder of one bake: everything that goes in and comes out lies here, under fixed names."""

    folder: Path

    @property
    def stage(self) -> Path:
        """What is uploaded; the folder keeps its name in the guest."""
        return self.folder / "ovenproof"

    def tidy(self) -> None:
        """Remove what only Packer needed: the staged files, and the package databases that the SBOM came from."""
        shutil.rmtree(self.stage, ignore_errors=True)
        shutil.rmtree(self.folder / "package-databases", ignore_errors=True)
        (self.folder / "package-databases.tar.gz").unlink(missing_ok=True)

    @property
    def log(self) -> Path:
        return self.folder / LOG

    @property
    def facts(self) -> Path:
        return self.folder / "facts.json"

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"


def stage(
    workplace: Workplace,
    *,
    hardening: Hardening,
    architecture: Architecture,
    tools: Tools,
    today: date,
    images: Path = paths.IMAGES,
) -> None:
    """Gather what the builder needs in one folder: the rootfs, the checks with the hardening rules, goss."""
    for name in STAGED:
        shutil.copytree(images / name, workplace.stage / name)
    shutil.copy2(tools.goss[architecture], workplace.stage / "goss")
    rules = workplace.stage / "hardening"
    rules.mkdir()
    spec = json.dumps(goss_spec(hardening, today), indent=1, sort_keys=True)
    (rules / "hardening.json").write_text(spec, encoding="utf-8")


def write_inputs(workplace: Workplace, template: str, variables: Mapping[str, str]) -> None:
    """Put the template and its variables where Packer reads them, and keep them beside what comes of them."""
    (workplace.folder / TEMPLATE).write_text(template, encoding="utf-8")
    (workplace.folder / VARIABLES).write_text(json.dumps(variables, indent=2) + "\n", encoding="utf-8")


def bake(
    workplace: Workplace,
    *,
    tools: Tools,
    environment: Mapping[str, str],
    expected_seconds: Mapping[str, float],
    progress: Progress,
    clock: Clock,
) -> Baked:
    """Run `packer validate` and `packer build` in the workplace.

    `expected_seconds` names what earlier bakes took, by phase. Raises BakeError, saying which provisioner or phase
    stopped it and why, and MachineError when the template is not valid. An interrupt goes through after Packer has
    cleaned up.
    """
    env = {**environment, **tools.environment()}
    arguments = [f"-var-file={workplace.folder / VARIABLES}", str(workplace.folder / TEMPLATE)]
    with progress.phase("packer validate"):
        run([tools.packer, "validate", *arguments], cwd=paths.CHECKOUT, env=env)
    follower = BuildFollower(clock)
    with ExitStack() as shown:
        phase = shown.enter_context(progress.phase(f"bake: {follower.step.name}"))

        def follow(line: str) -> None:
            nonlocal phase
            begun = follower.feed(line)
            if begun:
                if follower.is_stopping:
                    phase.fail()
                shown.close()
                phase = shown.enter_context(progress.phase(f"bake: {begun.name}", expected_seconds.get(begun.name)))
            phase.line(follower.last_line)

        exit_code = run_packer(
            [tools.packer, "build", "-machine-readable", "-on-error=cleanup", *arguments],
            cwd=paths.CHECKOUT,  # whose commit goes into the provenance
            env=env,
            log=workplace.log,
            on_line=follow,
            clock=clock,
        )
        outcome = follower.finish(exit_code)
        if not isinstance(outcome, Baked) and not follower.is_stopping:
            phase.fail()  # else it failed before, and what is shown now is the clean-up after it
    match outcome:
        case Baked():
            check_against_manifest(outcome, read_manifest(workplace.manifest))
            return outcome
        case Failed():
            raise bake_error(outcome, workplace.log)
        case Cancelled():
            raise BakeError(
                f"Packer was cancelled in {outcome.phase}",
                found="\n".join(("a cancellation that did not come from this command", *outcome.left_behind)),
                where=str(workplace.log),
                remedy="find out who ended Packer, then bake again",
            )
