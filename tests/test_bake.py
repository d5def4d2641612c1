"""A bake's folder, and what Packer's end means, played by a small program in Packer's place."""

import json
import re
from io import StringIO
from pathlib import Path

import pytest

from pipeline.bake import Workplace, bake, stage, write_inputs
from pipeline.clock import SystemClock
from pipeline.errors import BakeError, MachineError
from pipeline.hardening import load_hardening
from pipeline.progress import Progress
from pipeline.tools import Tools
from tests.doubles import START

BUILD = "ecs.amazon-ebs.node"
MANIFEST = {
    "builds": [
        {
            "name": "node",
            "builder_type": "amazon-ebs",
            "artifact_id": "eu-central-1:ami-1",
            "packer_run_uuid": "u",
        }
    ],
    "last_run_uuid": "u",
}


SAMPLES = Path(__file__).parent / "samples" / "packer"


def tools(folder: Path, validate: str = "true", build: str = "true") -> Tools:
    """Tools whose Packer runs one line of shell for `validate` and one for `build`."""
    folder.mkdir(exist_ok=True)
    packer, goss = folder / "packer", folder / "goss"
    packer.write_text(f"#!/bin/bash\ncase $1 in validate) {validate} ;; build) {build} ;; esac\n")
    packer.chmod(0o755)
    goss.write_text("goss")
    return Tools(
        packer=packer,
        plugin=folder / "plugin",
        goss={"x86_64": goss, "arm64": goss},
        versions={},
        plugin_folder=folder,
        settings_folder=folder,
    )


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    place = Workplace(folder=tmp_path / "bake")
    place.folder.mkdir()
    write_inputs(place, "template", {"bake_id": "b"})
    return place


def run(workplace: Workplace, with_tools: Tools) -> object:
    return bake(
        workplace, tools=with_tools, environment={}, expected_seconds={}, progress=Progress(), clock=SystemClock()
    )


def test_the_guest_gets_rootfs_checks_rules_and_goss(tmp_path: Path, workplace: Workplace) -> None:
    today = START.date()
    stage(
        workplace,
        hardening=load_hardening(today),
        architecture="x86_64",
        tools=tools(tmp_path / "tools"),
        today=today,
    )
    staged = {path.name for path in workplace.stage.iterdir()}
    assert staged == {"checks", "goss", "hardening", "rootfs"}
    assert "file" in json.loads((workplace.stage / "hardening" / "hardening.json").read_text())


def test_tidying_keeps_the_evidence_and_drops_what_was_only_carried(workplace: Workplace) -> None:
    (workplace.stage / "rootfs").mkdir(parents=True)
    (workplace.folder / "package-databases").mkdir()
    (workplace.folder / "package-databases.tar.gz").touch()
    workplace.tidy()
    assert sorted(path.name for path in workplace.folder.iterdir()) == ["bake.pkrvars.json", "template.pkr.hcl"]


def test_the_image_comes_from_packers_events_and_its_manifest(tmp_path: Path, workplace: Workplace) -> None:
    workplace.manifest.write_text(json.dumps(MANIFEST))
    said = f"echo 1,{BUILD},artifact,0,id,eu-central-1:ami-1"
    baked = run(workplace, tools(tmp_path / "tools", build=said))
    assert getattr(baked, "images", None) == {"eu-central-1": "ami-1"}


def test_a_manifest_that_names_another_image_is_an_error(tmp_path: Path, workplace: Workplace) -> None:
    workplace.manifest.write_text(json.dumps(MANIFEST).replace("ami-1", "ami-2"))
    said = f"echo 1,{BUILD},artifact,0,id,eu-central-1:ami-1"
    with pytest.raises(BakeError, match="output and its manifest name different images"):
        run(workplace, tools(tmp_path / "tools", build=said))


def test_a_build_without_an_image_is_an_error_that_names_the_log(tmp_path: Path, workplace: Workplace) -> None:
    with pytest.raises(BakeError) as error:
        run(workplace, tools(tmp_path / "tools"))
    assert "Packer ended without an error and named no image" in str(error.value)
    assert f"  where:    {workplace.log}" in str(error.value)


@pytest.mark.parametrize(
    ("sample", "failed", "done"),
    [
        ("signature-bad", "30-install-agent.sh", "clean up"),
        ("image-failed", "create the image", "clean up"),
        ("ssh-timeout", "connect to the builder", "clean up"),
        ("no-base", "look up the base", "read the template"),
    ],
)
def test_the_phase_that_failed_is_told_as_failed_and_the_clean_up_after_it_is_not(
    tmp_path: Path, workplace: Workplace, sample: str, failed: str, done: str
) -> None:
    packer = tools(tmp_path / "tools", build=f"cat {SAMPLES / sample}.txt; exit 1")
    said = StringIO()
    with pytest.raises(BakeError):
        bake(
            workplace,
            tools=packer,
            environment={},
            expected_seconds={},
            progress=Progress(stream=said),
            clock=SystemClock(),
        )
    assert re.findall(r"^bake: (.*): failed after", said.getvalue(), re.MULTILINE) == [failed]
    assert f"\nbake: {done}: done in" in said.getvalue()


def test_a_whole_bake_has_no_phase_that_failed(tmp_path: Path, workplace: Workplace) -> None:
    said = StringIO()
    with pytest.raises(BakeError):  # of the manifest, which is not the recording's
        bake(
            workplace,
            tools=tools(tmp_path / "tools", build=f"cat {SAMPLES / 'baked'}.txt"),
            environment={},
            expected_seconds={},
            progress=Progress(stream=said),
            clock=SystemClock(),
        )
    assert "failed" not in said.getvalue()


def test_a_template_that_packer_refuses_never_starts_a_build(tmp_path: Path, workplace: Workplace) -> None:
    refusing = tools(tmp_path / "tools", validate="echo bad template >&2; exit 1", build="touch built")
    with pytest.raises(MachineError, match="bad template"):
        run(workplace, refusing)
    assert not workplace.log.exists()


def test_a_packer_that_somebody_else_ended_is_told_with_what_it_left(tmp_path: Path, workplace: Workplace) -> None:
    lines = (SAMPLES / "interrupted.txt").read_text().splitlines()
    left = lines[0].split(",")[0] + ",,ui,error,==> ovenproof.amazon-ebs.node: Error deleting temporary keypair: denied"
    cleaning = next(index for index, line in enumerate(lines) if "No volumes to clean up" in line)
    said = tmp_path / "said"
    said.write_text("\n".join([*lines[:cleaning], left, *lines[cleaning:]]) + "\n")
    with pytest.raises(BakeError) as error:
        run(workplace, tools(tmp_path / "tools", build=f"cat {said}; exit 1"))
    assert error.value.found == (
        "a cancellation that did not come from this command\nError deleting temporary keypair: denied"
    )
