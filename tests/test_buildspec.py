"""buildspec.yml: CodeBuild's rules for it, and its commands in order, in a clean folder, on the local target."""

import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.paths import CHECKOUT, cache_root
from pipeline.stack.template import TEMPLATE
from tests.end_to_end import FLAVOUR, VARIANT, OwnCloud, Proven

SPEC: dict[str, Any] = yaml.safe_load((CHECKOUT / "buildspec.yml").read_text(encoding="utf-8"))
PHASES = ("install", "pre_build", "build", "post_build")
BUCKET = "records-of-the-test"


def test_the_phases_are_codebuild_s_and_in_their_order() -> None:
    assert (SPEC["version"], SPEC["env"]["shell"], tuple(SPEC["phases"])) == (0.2, "bash", PHASES)


def test_every_command_is_one_of_ours() -> None:
    listed = subprocess.run([CHECKOUT / "run", "--list"], capture_output=True, text=True, check=True).stdout.split()
    words = [word for phase in PHASES for command in SPEC["phases"][phase]["commands"] for word in command.split()]
    called = [after for before, after in pairwise(words) if before == "./run"]
    assert len(called) == 10
    assert [word for word in called if word not in {*listed, "--list"}] == []


def test_the_list_of_commands_is_a_contents_page_of_one_line_each() -> None:
    listed = subprocess.run([CHECKOUT / "run", "--list"], capture_output=True, text=True, check=True).stdout
    head, *rows = listed.strip().splitlines()
    rows = [row for row in rows if row]
    assert head == "Available tasks:"
    chapters = {"Images", "Fleets", "GuardDuty", "Documents", "Pipeline", "This machine"}
    assert [row for row in rows if len(row) > 80 or row.split(None, 1)[1].split(":")[0] not in chapters] == []


def test_every_variable_comes_from_the_project_or_has_a_default() -> None:
    text = (CHECKOUT / "buildspec.yml").read_text(encoding="utf-8")
    used = {word for word in text.replace("$", " $").split() if word.startswith("$OVENPROOF_")}
    known = {f"${name}" for name in SPEC["env"]["variables"]}
    assert {word.strip('";,)') for word in used} <= known
    project = TEMPLATE.read_text(encoding="utf-8")
    assert [name for name in SPEC["env"]["variables"] if name not in project] == []


@pytest.mark.slow
def test_the_commands_in_order_say_that_nothing_changed_and_leave_the_build_s_reports(
    own_cloud: OwnCloud, proven: Proven, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    files = subprocess.run(
        ["git", "-C", CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, files.split("\0")):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, checkout / name, follow_symlinks=False)
    s3: Any = own_cloud.session.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": own_cloud.session.region_name})
    env = {
        **os.environ,
        **{name: str(value) for name, value in SPEC["env"]["variables"].items()},
        "OVENPROOF_ON": "local",
        "OVENPROOF_IMAGES": f"{VARIANT}/{FLAVOUR}",
        "OVENPROOF_BUCKET": BUCKET,
        "OVENPROOF_CACHE": str(cache_root()),
        "OVENPROOF_LOCAL": str(own_cloud.root),
    }
    said = ""
    for phase in PHASES:
        for command in SPEC["phases"][phase]["commands"]:
            done = subprocess.run(
                ["bash", "-c", command], cwd=checkout, env=env, capture_output=True, text=True, check=False
            )
            said += done.stdout
            assert done.returncode == 0, f"{phase}: {command}\n{done.stdout}{done.stderr}"
    assert "nothing to do: no input changed since" in said
    assert f"held: {VARIANT}/{FLAVOUR}, bake {proven.record.bake_id}, is ready; no parameter was changed" in said
    report = ElementTree.parse(checkout / "build" / "reports" / "ovenproof.xml").getroot()  # noqa: S314 - our own
    assert report[0].get("failures") == "0"
    keys = {one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert f"records/{proven.record.bake_id}/record.json" in keys
    assert any(key.startswith("records/locks/") for key in keys)
    (proven.folder / "promotion.md").unlink()
    own_cloud.session.client("ec2").disable_image_deregistration_protection(ImageId=proven.image_id)
