"""Packer's output, recorded from Packer 1.16.0 with its Amazon plugin 1.8.2, and what we read from it.

tests/samples/packer: amazon-ebs against moto's EC2, with a real sshd; only paths were shortened afterwards.
"""

from pathlib import Path

import pytest

from pipeline.errors import BakeError
from pipeline.packer_output import (
    ArtifactPart,
    Baked,
    BuildErrored,
    BuildFollower,
    Cancelled,
    Counted,
    Event,
    Failed,
    Outcome,
    Said,
    Step,
    Timing,
    Unstructured,
    check_against_manifest,
    parse_line,
    read_manifest,
)
from tests.doubles import FakeClock

SAMPLES = Path(__file__).parent / "samples" / "packer"
NODE = "ovenproof.amazon-ebs.node"


def followed(sample: str, exit_code: int) -> Outcome:
    follower = BuildFollower()
    for line in (SAMPLES / f"{sample}.txt").read_text().splitlines():
        follower.feed(line)
    return follower.finish(exit_code)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            f"1795476010,,ui,say,==> {NODE}: boot finished%!(PACKER_COMMA) status: done",
            Said(at=1795476010, build=NODE, text="boot finished, status: done", is_error=False),
        ),
        (
            f"1795476010,,ui,error,==> {NODE}: gpg: BAD signature",
            Said(at=1795476010, build=NODE, text="gpg: BAD signature", is_error=True),
        ),
        (
            f"1795476010,,ui,message,    {NODE}: older plugins indent",
            Said(at=1795476010, build="", text=f"    {NODE}: older plugins indent", is_error=False),
        ),
        (
            f"1795476010,,ui,say,==> {NODE} (provenance): Wrote attestation to /x.json",
            Said(at=1795476010, build=f"{NODE} (provenance)", text="Wrote attestation to /x.json", is_error=False),
        ),
        (
            "1795476010,,ui,say,\\n==> Wait completed after 5 seconds",
            Said(at=1795476010, build="", text="\n==> Wait completed after 5 seconds", is_error=False),
        ),
        (
            f"1795476010,{NODE},error,Timeout waiting for SSH.",
            BuildErrored(at=1795476010, build=NODE, text="Timeout waiting for SSH."),
        ),
        (
            f"1795476010,{NODE},artifact,0,id,us-east-1:ami-1%!(PACKER_COMMA)us-west-2:ami-2",
            ArtifactPart(at=1795476010, build=NODE, index=0, key="id", values=("us-east-1:ami-1,us-west-2:ami-2",)),
        ),
        (
            f"1795476010,{NODE},artifact,0,end",
            ArtifactPart(at=1795476010, build=NODE, index=0, key="end", values=()),
        ),
        ("1795476010,,error-count,1", Counted(at=1795476010, what="error-count", count=1)),
        ("panic: runtime error: index out of range", Unstructured(text="panic: runtime error: index out of range")),
        ("1795476010,,error-count,many", Unstructured(text="1795476010,,error-count,many")),
        ("", Unstructured(text="")),
    ],
)
def test_a_line_is_an_event(line: str, event: Event) -> None:
    assert parse_line(line) == event


def test_a_bake_is_followed_phase_by_phase() -> None:
    follower = BuildFollower()
    begun = []
    for line in (SAMPLES / "baked.txt").read_text().splitlines():
        if step := follower.feed(line):
            begun.append((step.kind, step.name))
    assert begun == [
        ("phase", "look up the base"),
        ("phase", "start the builder"),
        ("phase", "connect to the builder"),
        ("provisioner", "upload the staging folder"),
        ("provisioner", "00-wait-for-boot.sh"),
        ("provisioner", "10-security-updates.sh"),
        ("provisioner", "20-reboot-if-kernel-changed.sh"),
        ("provisioner", "30-install-agent.sh"),
        ("provisioner", "70-collect-facts.sh"),
        ("provisioner", "download facts.json"),
        ("phase", "stop the builder"),
        ("phase", "create the image"),
        ("phase", "clean up"),
        ("phase", "write the evidence"),
    ]
    outcome = follower.finish(0)
    assert isinstance(outcome, Baked)
    assert outcome.images == {"us-east-1": "ami-df8ea9fa128ffa6df"}
    assert Timing(name="20-reboot-if-kernel-changed.sh", kind="provisioner", seconds=3) in outcome.timings


def test_an_image_copied_to_a_second_region_is_one_image_each() -> None:
    outcome = followed("two-regions", 0)
    assert isinstance(outcome, Baked)
    assert outcome.images == {"us-east-1": "ami-0cd12e5737517f8ae", "us-west-2": "ami-76d51ac9b7c3d61e9"}


def failure(sample: str) -> Failed:
    outcome = followed(sample, 1)
    assert isinstance(outcome, Failed)
    return outcome


def test_a_failing_script_is_named_with_its_last_lines() -> None:
    failed = failure("signature-bad")
    assert (failed.kind, failed.phase) == ("provisioner", "30-install-agent.sh")
    assert failed.reason == "Script exited with non-zero exit status: 12. Allowed exit codes are: [0]"
    assert failed.last_lines == (
        'gpg: BAD signature from "GuardDuty test key"',
        "ovenproof-error: signature-bad: the package does not match its signature",
        "fetching amazon-guardduty-agent 1.17.1",
    )
    assert failed.stderr == failed.last_lines[:2]
    assert failed.left_behind == ()


@pytest.mark.parametrize(
    ("sample", "phase", "reason"),
    [
        ("ssh-timeout", "connect to the builder", "Timeout waiting for SSH."),
        (
            "name-taken",
            "look up the base",
            "Error: AMI Name: 'ovenproof-a' is used by an existing AMI: ami-df8ea9fa128ffa6df",
        ),
        ("no-base", "look up the base", "The image id '[ami-00000000000000000]' does not exist"),
        ("image-failed", "create the image", "lookup ec2.us-east-1.amazonaws.com: no such host"),
        ("unknown-variable", "read the template", 'A "nonsense" variable was passed in the command line'),
    ],
)
def test_a_failure_outside_the_scripts_names_the_phase(sample: str, phase: str, reason: str) -> None:
    failed = failure(sample)
    assert (failed.kind, failed.phase) == ("phase", phase)
    assert reason in failed.reason
    assert failed.left_behind == ()


def test_an_interrupted_build_is_cancelled_not_failed() -> None:
    outcome = followed("interrupted", 1)
    assert isinstance(outcome, Cancelled)
    assert (outcome.phase, outcome.left_behind) == ("10-security-updates.sh", ())


def said(text: str, voice: str = "say") -> str:
    return f"1795476010,,ui,{voice},==> {NODE}: {text.replace(',', '%!(PACKER_COMMA)')}"


def test_what_packer_could_not_remove_is_kept() -> None:
    follower = BuildFollower()
    follower.feed(said("Provisioning with shell script: /x/40-harden.sh"))
    follower.feed(said("Terminating the source AWS instance..."))
    follower.feed(said("Error terminating instance, may still be around: timeout", "error"))
    follower.feed(f"1795476010,{NODE},error,Script exited with non-zero exit status: 1")
    outcome = follower.finish(1)
    assert isinstance(outcome, Failed)
    assert outcome.phase == "40-harden.sh"
    assert outcome.left_behind == ("Error terminating instance, may still be around: timeout",)


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([], "Packer ended without an error and named no image"),
        (
            ["us-east-1:ami-1", "us-east-1:ami-2"],
            "Packer named two images in us-east-1: ami-1 and ami-2",
        ),
        (["ami-1"], "Packer named 'ami-1', which is not an image of a region"),
        (["us-east-1:/tmp/x"], "Packer named 'us-east-1:/tmp/x', which is not an image of a region"),
    ],
)
def test_not_exactly_one_image_per_region_is_no_bake(ids: list[str], reason: str) -> None:
    follower = BuildFollower()
    for index, text in enumerate(ids):
        follower.feed(f"1795476010,{NODE},artifact,{index},id,{text}")
    outcome = follower.finish(0)
    assert isinstance(outcome, Failed)
    assert outcome.reason == reason


def test_a_crash_without_words_is_still_a_failure() -> None:
    follower = BuildFollower()
    follower.feed("panic: runtime error: invalid memory address")
    outcome = follower.finish(2)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "Packer ended with exit code 2 and gave no reason"
    assert outcome.last_lines == ("panic: runtime error: invalid memory address",)


def test_a_guest_cannot_print_an_image_or_a_phase_that_is_over() -> None:
    follower = BuildFollower()
    follower.feed(said("Waiting for SSH to become available..."))
    follower.feed(said("Provisioning with shell script: /x/40-harden.sh"))
    assert follower.feed(said("Prevalidating AMI Name: x")) is None
    follower.feed(said("1795476010,,artifact,0,id,us-east-1:ami-1"))
    assert follower.step == Step(name="40-harden.sh", kind="provisioner")
    outcome = follower.finish(0)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "Packer ended without an error and named no image"


def test_with_a_clock_times_are_finer_than_packers_seconds() -> None:
    clock = FakeClock()
    follower = BuildFollower(clock)
    clock.sleep(0.25)
    follower.feed(said("Provisioning with shell script: /x/00-wait-for-boot.sh"))
    clock.sleep(1.5)
    follower.feed(said("Provisioning with shell script: /x/10-security-updates.sh"))
    follower.feed(f"1795476010,{NODE},artifact,0,id,us-east-1:ami-1")
    outcome = follower.finish(0)
    assert outcome.timings == (
        Timing(name="read the template", kind="phase", seconds=0.25),
        Timing(name="00-wait-for-boot.sh", kind="provisioner", seconds=1.5),
        Timing(name="10-security-updates.sh", kind="provisioner", seconds=0),
    )


@pytest.mark.parametrize("sample", ["baked", "two-regions"])
def test_output_and_manifest_agree(sample: str) -> None:
    outcome = followed(sample, 0)
    assert isinstance(outcome, Baked)
    check_against_manifest(outcome, read_manifest(SAMPLES / f"{sample}.manifest.json"))


def test_an_output_and_a_manifest_that_disagree_stop_the_bake() -> None:
    with pytest.raises(BakeError) as caught:
        check_against_manifest(
            Baked(images={"us-east-1": "ami-1"}, timings=()), read_manifest(SAMPLES / "baked.manifest.json")
        )
    assert str(caught.value) == (
        "Packer's output and its manifest name different images\n"
        "  expected: us-east-1: ami-1 (output)\n"
        "  found:    us-east-1: ami-df8ea9fa128ffa6df (manifest)\n"
        "  do:       use neither image; bake again into an empty folder"
    )


def test_a_manifest_without_the_last_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"builds": [], "last_run_uuid": "1"}')
    with pytest.raises(BakeError, match="Packer ended without an error and named no image"):
        read_manifest(path).images()


def test_a_missing_manifest_says_which_file(tmp_path: Path) -> None:
    with pytest.raises(BakeError, match="Packer's manifest cannot be read") as caught:
        read_manifest(tmp_path / "manifest.json")
    assert caught.value.where == str(tmp_path / "manifest.json")
