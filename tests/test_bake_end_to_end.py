"""The bake itself: `./run build-image` with real Packer and real guests, and everything that comes of it."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from pipeline import paths, tags
from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.errors import MachineError
from pipeline.process import run
from pipeline.progress import Progress
from pipeline.rehearsal.stand_in import ROOT_DEVICE
from pipeline.tools import Tools, ensure_tools
from tests.end_to_end import FLAVOUR, REGION, VARIANT, OwnCloud, Proven, without_escapes

pytestmark = pytest.mark.slow

NAME = f"{VARIANT}/{FLAVOUR}"
BOOT_SECONDS = 300
PARTITION_BYTES = 1024**2


@pytest.fixture(scope="module")
def tools() -> Tools:
    progress = Progress()
    return ensure_tools(Cache(paths.cache_root(), progress.say), progress)


# -- the command


def test_one_command_ends_with_a_proven_image_and_names_the_record(proven: Proven) -> None:
    assert f"{NAME} is proven: {proven.image_id} ({REGION})" in proven.said.output
    assert f"  record:   {proven.folder / 'record.md'}\n" in proven.said.output
    assert (proven.folder / "record.md").read_text().startswith("# ")


def test_the_same_again_has_nothing_to_do(own_cloud: OwnCloud, proven: Proven) -> None:
    bakes = own_cloud.bakes()

    said = own_cloud.run("build-image")

    warnings = re.match(r"(warning: .*\n)*", said.output)
    assert warnings
    assert said.exit_code == 0
    assert said.output[warnings.end() :] == (
        f"nothing to do: no input changed since {NAME} was proven\n"
        f"  image:  {proven.image_id} ({REGION})\n"
        f"  record: {proven.folder / 'record.json'}\n"
        "  `--force` bakes all the same\n"
    )
    assert own_cloud.bakes() == bakes


def test_of_the_bake_only_the_image_stands(own_cloud: OwnCloud, proven: Proven) -> None:
    [mapping] = image_of(own_cloud, proven)["BlockDeviceMappings"]

    assert own_cloud.standing() == {f"image {proven.image_id}", f"snapshot {mapping['Ebs']['SnapshotId']}"}


# -- the plan


def row_of(plan: str, name: str) -> list[str]:
    """A variant's verdict and reasons in what `./run plan` prints."""
    lines = plan.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{name} "))
    row = [lines[first].removeprefix(name)]
    for line in lines[first + 1 :]:
        if not line.startswith(" "):
            break
        row.append(line)
    return [line.strip() for line in row]


def test_the_plan_has_a_row_for_every_variant(own_cloud: OwnCloud, proven: Proven) -> None:
    said = own_cloud.run("plan")

    assert said.exit_code == 0, said.output
    assert row_of(said.output, NAME)[0] == (
        f"up to date  {proven.image_id}, proven {proven.record.ended_at:%Y-%m-%d} by bake {proven.record.bake_id}"
    )
    assert row_of(said.output, f"ecs-al2023/{FLAVOUR}")[0].split("  ")[0] == "bake"
    assert row_of(said.output, f"{VARIANT}/gpu")[0].split("  ")[0] == "refused"
    for selection in load_catalog().selections():
        assert row_of(said.output, selection.id)


@contextmanager
def other_lock(own_cloud: OwnCloud, path: tuple[str, ...], value: str) -> Iterator[None]:
    """The lock as if the last bake had been made with another input."""
    [lock] = (own_cloud.root / "locks").glob("*.json")
    before = lock.read_text()
    changed = json.loads(before)
    part = changed["inputs"]
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    lock.write_text(json.dumps(changed))
    yield
    lock.write_text(before)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("agent_version",), "1.16.0", "agent version: 1.16.0 -> 1.17.1"),
        (("files", "images/provision/40-harden.sh"), "0" * 64, "provision script 40-harden.sh changed"),
        (("files", "images/ecs-node.pkr.hcl.j2"), "0" * 64, "images/ecs-node.pkr.hcl.j2 changed"),
        (("tools", "packer"), "1.15.0", "tool packer: 1.15.0 -> 1.16.0"),
    ],
)
def test_the_plan_names_exactly_what_changed(
    own_cloud: OwnCloud, proven: Proven, path: tuple[str, ...], value: str, reason: str
) -> None:
    assert proven.image_id
    with other_lock(own_cloud, path, value):
        said = own_cloud.run("plan")

    verdict, *more = row_of(said.output, NAME)
    assert re.split(r" {2,}", verdict) == ["bake", reason]
    assert all(line.startswith("warning: ") for line in more)


# -- the record


def test_the_record_follows_its_schema(proven: Proven) -> None:
    schema = json.loads((paths.CHECKOUT / "pipeline" / "record.schema.json").read_text())

    jsonschema.Draft202012Validator(schema).validate(json.loads((proven.folder / "record.json").read_text()))


def test_the_record_says_what_the_image_is_made_of(proven: Proven) -> None:
    record = proven.record
    packages = {package.name: package for package in record.guest.packages}

    assert record.proven
    assert record.proof.failures == ()
    assert record.proof.coverage.status == "HEALTHY"
    assert record.proof.kernel == record.guest.kernel
    assert record.guest.kernel.startswith("5.10.")
    assert packages["amazon-guardduty-agent"].version == "1.17.1-1"
    assert {"docker.io", "ecs-init", "kernel"} <= set(packages)
    assert record.guest.agent.fingerprint == record.inputs.agent_fingerprint
    assert re.fullmatch(r"[0-9a-f]{64}", record.guest.agent.sha256)
    assert record.guest.agent.unit.enabled == "enabled"
    assert [stand_in.part for stand_in in record.stand_ins] == [
        "base image",
        "GuardDuty agent",
        "package repository",
        "AWS API",
    ]


def test_the_record_says_how_long_each_step_took(proven: Proven) -> None:
    timings = {timing.name: timing for timing in proven.record.timings}

    for script in (paths.IMAGES / "provision").iterdir():
        assert timings[script.name].kind == "provisioner"
        assert timings[script.name].seconds > 0
    assert {"start the builder", "connect to the builder", "create the image", "proof"} <= set(timings)


def test_the_sbom_lists_what_is_in_the_image(proven: Proven) -> None:
    sbom = json.loads((proven.folder / proven.record.sbom.file).read_text())

    assert sbom["bomFormat"] == "CycloneDX"
    assert len(sbom["components"]) == proven.record.sbom.components > 100
    assert {"amazon-guardduty-agent", "docker.io"} <= {component["name"] for component in sbom["components"]}


def verify(tools: Tools, attestation: Path, folder: Path) -> str:
    """Packer's own verification, by the public half of the key that signed on this machine."""
    private = load_pem_private_key((paths.cache_root() / "provenance-key.pem").read_bytes(), password=None)
    public = folder / "public.pem"
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    options = ["-signing-mode=key", f"-verifier={public}"]
    return run([tools.packer, "verify-attestation", *options, attestation], env=tools.environment())


def test_the_provenance_is_ours_and_about_this_image(proven: Proven, tools: Tools, tmp_path: Path) -> None:
    attestation = proven.folder / proven.record.provenance.file
    statement = json.loads(base64.b64decode(json.loads(attestation.read_text())["payload"]))

    verify(tools, attestation, tmp_path)

    assert [subject["name"].rpartition(":")[2] for subject in statement["subject"]] == [proven.image_id]
    variables = statement["predicate"]["buildDefinition"]["externalParameters"]["userVariables"]
    assert variables["bake_id"] == proven.record.bake_id
    assert variables["agent_fingerprint"] == proven.record.inputs.agent_fingerprint


@pytest.mark.parametrize("part", ["payload", "signature"])
def test_provenance_with_another_byte_is_refused(proven: Proven, tools: Tools, tmp_path: Path, part: str) -> None:
    envelope = json.loads((proven.folder / proven.record.provenance.file).read_text())
    if part == "payload":
        payload = base64.b64decode(envelope["payload"])
        image = proven.image_id.encode()
        envelope["payload"] = base64.b64encode(payload.replace(image, b"ami-0" + image[5:])).decode()
        assert base64.b64decode(envelope["payload"]) != payload or image.startswith(b"ami-0")
    else:
        signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
        signature[-1] ^= 1
        envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    broken = tmp_path / "provenance.json"
    broken.write_text(json.dumps(envelope))

    with pytest.raises(MachineError, match="packer failed"):
        verify(tools, broken, tmp_path)


# -- the image


def image_of(own_cloud: OwnCloud, proven: Proven) -> Mapping[str, Any]:
    ec2: Any = own_cloud.session.client("ec2")
    [image] = ec2.describe_images(ImageIds=[proven.image_id])["Images"]
    return dict(image)


def test_the_image_is_what_the_catalog_wants_it_to_be(own_cloud: OwnCloud, proven: Proven) -> None:
    image, record = image_of(own_cloud, proven), proven.record
    ec2: Any = own_cloud.session.client("ec2")
    shared = ec2.describe_image_attribute(ImageId=proven.image_id, Attribute="launchPermission")
    [mapping] = image["BlockDeviceMappings"]
    [snapshot] = ec2.describe_snapshots(SnapshotIds=[mapping["Ebs"]["SnapshotId"]])["Snapshots"]
    catalog = load_catalog()
    ends = record.started_at + timedelta(days=catalog.policies.deprecate_after_days)

    assert image["State"] == "available"
    assert image["ImdsSupport"] == "v2.0"
    assert image["Public"] is False
    assert shared["LaunchPermissions"] == []
    assert image["DeprecationTime"] == f"{ends:%Y-%m-%dT%H:%M}:00.000Z"
    assert mapping["DeviceName"] == ROOT_DEVICE
    assert mapping["Ebs"]["Encrypted"] is True
    assert mapping["Ebs"]["DeleteOnTermination"] is True
    assert snapshot["Encrypted"] is True
    expected = {
        "Name": image["Name"],
        "BakeId": record.bake_id,
        "Owner": tags.as_mapping(image["Tags"])["Owner"],
        "OvenproofState": "proven",
        "Variant": NAME,
        "KernelLine": "5.10",
        "AgentVersion": "1.17.1",
        "BaseId": record.base.id,
        "BaseName": record.base.name,
    }
    assert tags.as_mapping(image["Tags"]) == expected
    assert tags.as_mapping(snapshot["Tags"]) == expected


@pytest.fixture(scope="module")
def disk(own_cloud: OwnCloud, proven: Proven) -> Path:
    """The finished image's own file."""
    return own_cloud.root / "images" / proven.image_id / "disk.qcow2"


def test_the_disk_boots_without_any_of_our_code(proven: Proven, disk: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk, overlay])
    argv = ["qemu-system-x86_64", "-m", "1024", "-smp", "2", "-nic", "none", "-display", "none", "-serial", "stdio"]
    said = ""
    with subprocess.Popen(
        ["timeout", str(BOOT_SECONDS), *argv, "-drive", f"file={overlay},format=qcow2"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as qemu:
        try:
            assert qemu.stdout is not None
            while "login: " not in said and (character := qemu.stdout.read(1)):
                said += character
        finally:
            qemu.terminate()
    said = without_escapes(said)

    [stand_in] = [one for one in proven.record.stand_ins if one.part == "base image"]
    [base_kernel] = re.findall(r"kernel (\S+)", stand_in.played_by)
    assert re.findall(r"Linux version (\S+)", said) == [proven.record.guest.kernel]
    assert proven.record.guest.kernel.startswith("5.10.")
    assert build_number(proven.record.guest.kernel) > build_number(base_kernel)
    assert said.endswith("login: ")


def build_number(kernel: str) -> int:
    """5.10.0-46-cloud-amd64 as 46."""
    return int(kernel.split("-")[1])


@pytest.fixture(scope="module")
def file_system(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image's file system as debugfs names it; nothing is mounted, nothing of the image runs."""
    raw = tmp_path_factory.mktemp("disk") / "disk.raw"
    run(["qemu-img", "convert", "-O", "raw", disk, raw])
    yield f"{raw}?offset={PARTITION_BYTES}"
    raw.unlink()


def look(file_system: str, request: str) -> str:
    """What debugfs answers; it says `File not found` where there is none."""
    done = subprocess.run(
        ["/usr/sbin/debugfs", "-R", request, file_system], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout + done.stderr.partition("\n")[2]


def names_in(file_system: str, folder: str) -> set[str]:
    """The names in a folder, without the two that every folder has."""
    listed = look(file_system, f"ls -p {folder}")  # /inode/mode/user/group/name/size/
    return set(re.findall(r"^/\d+/\d+/\d+/\d+/([^/]+)/", listed, re.MULTILINE)) - {".", ".."}


def test_agent_and_checks_are_on_the_disk(proven: Proven, file_system: str) -> None:
    release = look(file_system, "cat /etc/ovenproof-release")

    assert "amazon-guardduty-agent.service" in names_in(file_system, "/etc/systemd/system/multi-user.target.wants")
    assert "ovenproof-check" in names_in(file_system, "/usr/bin")
    assert "goss" in names_in(file_system, "/usr/libexec/ovenproof")
    assert "hardening.json" in names_in(file_system, "/usr/share/ovenproof")
    assert f"OVENPROOF_BAKE_ID={proven.record.bake_id}\n" in release


def test_nothing_of_the_builder_is_on_the_disk(file_system: str) -> None:
    assert not [name for name in names_in(file_system, "/etc/ssh") if name.startswith("ssh_host_")]
    assert "sshd_config" in names_in(file_system, "/etc/ssh")
    assert re.search(r"Size: 0\b", look(file_system, "stat /etc/machine-id"))
    assert names_in(file_system, "/var/tmp") == set()
    for home in ("/root", *(f"/home/{name}" for name in names_in(file_system, "/home"))):
        assert names_in(file_system, f"{home}/.ssh") == set()
        assert not [name for name in names_in(file_system, home) if name.endswith("_history")]
    assert "ec2-user" in names_in(file_system, "/home")
    assert not {"data", "instance", "instances", "sem"} & names_in(file_system, "/var/lib/cloud")
    assert names_in(file_system, "/var/lib/ecs/data") == set()


def test_the_timer_that_ends_a_builder_is_not_in_the_image(file_system: str) -> None:
    for folder in ("/etc/systemd/system", "/lib/systemd/system", "/run/systemd/system", "/run"):
        assert not [name for name in names_in(file_system, folder) if "dead-man" in name]
