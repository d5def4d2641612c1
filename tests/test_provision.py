"""The guest's scripts, on this machine: a folder plays the disk, small programs on PATH play what they would change.

gpg and curl are real, and so are the keys and signatures; every refusal names its cause in its first words.
"""

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import pytest

from pipeline.paths import CHECKOUT, IMAGES
from pipeline.progress import Progress
from pipeline.tools import ensure_apt_packages

PROVISION = IMAGES / "provision"
LIST = IMAGES / "checks" / "leftovers.txt"
GENERATOR = IMAGES / "rootfs" / "lib" / "systemd" / "system-generators" / "ovenproof-agent-limits"
VERSION = "1.17.1"

# What the fake programs have in common: they write down how they were called.
NOTE = '#!/bin/bash\necho "${0##*/} $*" >>"$CALLS"\n'


@dataclass
class Guest:
    """A folder that plays a builder's disk, and a PATH whose first programs are ours."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("bin", "disk/boot", "disk/etc", "disk/var/tmp/ovenproof", "disk/proc/sys/kernel/random"):
            (self.folder / name).mkdir(parents=True)
        self.env = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(self.folder / "calls"),
            "OVENPROOF_ROOT": str(self.disk),
            "OVENPROOF_KERNEL_LINE": "5.10",
        }

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def state(self) -> Path:
        return self.disk / "var" / "tmp" / "ovenproof"

    def program(self, name: str, body: str = "") -> None:
        path = self.folder / "bin" / name
        path.write_text(NOTE + body)
        path.chmod(0o755)

    def write(self, path: str, text: str = "x") -> Path:
        target = self.disk / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def calls(self) -> list[str]:
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def run(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", PROVISION / script],
            env=self.env | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path / "guest")


# -- 10: updates on the kernel line ---------------------------------------------------------------------------------


@pytest.fixture
def updating(guest: Guest) -> Guest:
    guest.write("boot/vmlinuz-5.10.1-a")
    guest.program("dnf", 'eval "${UPDATE:-true}"')
    return guest


def test_only_security_updates_are_taken_and_no_other_kernel_line(updating: Guest) -> None:
    done = updating.run("10-security-updates.sh", UPDATE='touch "$OVENPROOF_ROOT/boot/vmlinuz-5.10.22-b"')

    assert done.stdout == "newest kernel of the 5.10 line: 5.10.22-b\n"
    (call,) = updating.calls()
    assert call.startswith("dnf -y --security ") and call.endswith(" upgrade")
    assert "--exclude=kernel-5.15.*" in call and "--exclude=kernel6.12" in call
    assert "--exclude=kernel-5.10" not in call
    assert "--releasever" not in call


def test_a_repository_locked_to_a_release_is_asked_for_the_newest(updating: Guest) -> None:
    updating.write(
        "etc/yum.repos.d/amazonlinux.repo", "mirrorlist=https://cdn/core/mirrors/$releasever/x/mirror.list\n"
    )

    updating.run("10-security-updates.sh")

    assert "--releasever=latest" in updating.calls()[0]


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (
            'touch "$OVENPROOF_ROOT/boot/vmlinuz-6.1.9-c"',
            "ovenproof-error: kernel-line: the updates brought a kernel outside the 5.10 line: 6.1.9-c \n",
        ),
        (
            'rm "$OVENPROOF_ROOT"/boot/*',
            "ovenproof-error: kernel-line: the updates removed every 5.10 kernel\n",
        ),
        (
            "exit 1",
            "ovenproof-error: update-failed: dnf could not install the security updates; its message stands above\n",
        ),
    ],
)
def test_an_update_that_fails_or_leaves_the_line_stops_the_bake(updating: Guest, update: str, message: str) -> None:
    done = updating.run("10-security-updates.sh", UPDATE=update)

    assert (done.returncode, done.stderr) == (1, message)


def test_a_base_of_another_line_is_refused_before_anything_is_changed(updating: Guest) -> None:
    done = updating.run("10-security-updates.sh", OVENPROOF_KERNEL_LINE="6.1")

    assert done.stderr == "ovenproof-error: kernel-line: the base has no 6.1 kernel in /boot, only: 5.10.1-a \n"
    assert updating.calls() == []


# -- 20 and 25: a reboot where the kernel changed, and proof of it ---------------------------------------------------


@pytest.fixture
def booted(guest: Guest) -> Guest:
    guest.write("boot/vmlinuz-5.10.9-a")
    guest.write("boot/vmlinuz-5.10.46-b")
    guest.write("boot/vmlinuz-6.1.1-c")
    guest.write("proc/sys/kernel/random/boot_id", "boot-1\n")
    guest.program("uname", 'echo "${RUNS:-5.10.46-b}"')
    guest.program("systemd-run")
    guest.program("cloud-init", 'exit "${CLOUD_INIT:-0}"')
    return guest


def test_the_newest_kernel_already_runs(booted: Guest) -> None:
    first = booted.run("20-reboot-if-kernel-changed.sh")
    second = booted.run("25-prove-new-boot.sh")

    assert first.stdout == "no reboot: the builder runs 5.10.46-b, the newest kernel it has\n"
    assert second.stdout == "no reboot was needed: the builder runs 5.10.46-b\n"
    assert [call for call in booted.calls() if not call.startswith("uname")] == []


def test_a_reboot_is_asked_for_and_the_script_waits_for_its_own_end(booted: Guest) -> None:
    script = subprocess.Popen(
        ["bash", PROVISION / "20-reboot-if-kernel-changed.sh"],
        env=booted.env | {"RUNS": "5.10.9-a"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not any(call.startswith("systemd-run") for call in booted.calls()):
        time.sleep(0.05)
    os.killpg(script.pid, signal.SIGTERM)  # what a shutdown does to a session
    said, _ = script.communicate(timeout=20)

    assert script.returncode == 0
    assert said == "rebooting: the builder runs 5.10.9-a, the newest kernel it has is 5.10.46-b\n"
    assert (booted.state / "boot-id-before-reboot").read_text() == "boot-1\n"


@pytest.mark.parametrize(
    ("boot_id", "more", "message"),
    [
        ("boot-2", {}, "a new boot, on 5.10.46-b\n"),
        (
            "boot-1",
            {},
            "ovenproof-error: not-rebooted: a reboot was asked for, but this is still the boot boot-1\n",
        ),
        (
            "boot-2",
            {"RUNS": "5.10.9-a"},
            "ovenproof-error: kernel-not-running: the builder runs 5.10.9-a, expected 5.10.46-b, the newest 5.10 "
            "kernel it has: check the boot loader's default\n",
        ),
        (
            "boot-2",
            {"CLOUD_INIT": "1"},
            "ovenproof-error: cloud-init-failed: cloud-init ended with code 1 after the reboot\n",
        ),
    ],
)
def test_the_barrier_proves_another_boot_on_the_newest_kernel(
    booted: Guest, boot_id: str, more: dict[str, str], message: str
) -> None:
    booted.write("var/tmp/ovenproof/boot-id-before-reboot", "boot-1\n")
    booted.write("proc/sys/kernel/random/boot_id", f"{boot_id}\n")

    done = booted.run("25-prove-new-boot.sh", **more)

    assert done.stdout + done.stderr == message


# -- 30: the agent, and every way in which its package can be wrong ---------------------------------------------------

# Answers for the package in hand; an installed one has the facts in the file `installed`.
RPM = """
case "$*" in
*SIGSIZE*) echo "${DECLARES:-10}" ;;
"-qp "*) echo "${HEADER:-amazon-guardduty-agent 1.17.1 1 x86_64 abc}" ;;
"-q "*) cat "$CALLS.installed" ;;
"-Uvh "*) [[ -z ${RPM_FAILS:-} ]] || exit 1; echo "amazon-guardduty-agent 1.17.1 1 x86_64 abc" >"$CALLS.installed" ;;
*) exit 2 ;;
esac
"""
SYSTEMCTL = """
case "$1" in
is-enabled) echo "${ENABLED:-enabled}" ;;
show) echo "LimitMEMLOCK=${MEMLOCK:-67108864}" ;;
enable) exit "${ENABLE:-0}" ;;
esac
"""


class Signer:
    """A key of its own keyring that signs as AWS's does."""

    def __init__(self, home: Path, expires: str = "never", made: str = "20260101T000000") -> None:
        home.mkdir(mode=0o700)
        self.home = home
        self.gpg("--faked-system-time", made, "--quick-gen-key", "AwsGuardDuty", "rsa2048", "sign", expires)
        listed = self.gpg("--with-colons", "--list-keys").decode()
        self.fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def gpg(self, *arguments: str) -> bytes:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
        return subprocess.run([*argv, *arguments], capture_output=True, check=True).stdout

    def public_key(self) -> bytes:
        return self.gpg("--armor", "--export")

    def sign(self, file: Path, *options: str) -> None:
        self.gpg("--yes", *options, "--output", str(file.with_suffix(".sig")), "--detach-sign", str(file))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Signer]]:
    """Makes keyrings under a short path, which gpg's agent wants, and ends their agents."""
    ensure_apt_packages({"gpg": "verifies signatures", "curl": "fetches the agent"}, Progress(stream=StringIO()))
    made: list[Signer] = []
    folder = tmp_path_factory.mktemp("k")

    def make(**more: str) -> Signer:
        made.append(Signer(folder / str(len(made)), **more))
        return made[-1]

    yield make
    for signer in made:
        subprocess.run(["gpgconf", "--homedir", signer.home, "--kill", "gpg-agent"], check=True)


@pytest.fixture(scope="module")
def aws(keys: Callable[..., Signer]) -> Signer:
    return keys()


class Store:
    """The agent's bucket: files in AWS's layout, served on loopback."""

    def __init__(self, folder: Path, signer: Signer) -> None:
        self.folder = folder
        self.rpm = folder / VERSION / "x86_64" / f"amazon-guardduty-agent-{VERSION}.x86_64.rpm"
        self.sig = self.rpm.with_suffix(".sig")
        self.key = folder / VERSION / "publickey.pem"
        self.rpm.parent.mkdir(parents=True)
        self.rpm.write_bytes(b"the package's many bytes")
        self.key.write_bytes(signer.public_key())
        signer.sign(self.rpm)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path, aws: Signer) -> Store:
    return Store(tmp_path / "store", aws)


@pytest.fixture
def installing(guest: Guest, store: Store, aws: Signer) -> Iterator[Guest]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(store.folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    guest.program("rpm", RPM)
    guest.program("systemctl", SYSTEMCTL)
    guest.write("sys/kernel/btf/vmlinux")
    guest.write("var/tmp/ovenproof/rootfs/lib/systemd/system-generators/ovenproof-agent-limits")
    guest.env |= {
        "OVENPROOF_ARCH": "x86_64",
        "OVENPROOF_AGENT_VERSION": VERSION,
        "OVENPROOF_AGENT_FINGERPRINT": aws.fingerprint,
        "OVENPROOF_AGENT_URL": f"http://127.0.0.1:{server.server_port}",
    }
    yield guest
    server.shutdown()
    server.server_close()


def installed(guest: Guest) -> bool:
    return any(call.startswith("rpm -Uvh") for call in guest.calls())


def test_a_package_by_the_pinned_key_is_installed_enabled_and_written_down(installing: Guest, aws: Signer) -> None:
    done = installing.run("30-install-agent.sh")

    assert done.stderr == ""
    assert done.returncode == 0
    assert installed(installing)
    assert "systemctl enable amazon-guardduty-agent.service" in installing.calls()
    facts = dict(line.split("=", 1) for line in (installing.state / "agent").read_text().splitlines())
    assert facts["fingerprint"] == aws.fingerprint
    assert facts["sha256"] == hashlib.sha256(b"the package's many bytes").hexdigest()
    assert re.match(r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$", facts["signed_at"])
    assert facts["key_created_at"] == "2026-01-01T00:00:00Z"
    assert facts["installed"] == "installed"
    assert [path.name for path in installing.state.iterdir() if path.name.startswith("agent.")] == []


def test_the_same_package_again_is_verified_and_left_alone(installing: Guest) -> None:
    installing.run("30-install-agent.sh")
    (installing.folder / "calls").unlink()

    done = installing.run("30-install-agent.sh")

    assert done.returncode == 0
    assert "good signature" in done.stdout
    assert not installed(installing)
    assert "installed=already-there" in (installing.state / "agent").read_text()


def flip_a_byte(store: Store) -> None:
    content = bytearray(store.rpm.read_bytes())
    content[5] ^= 1
    store.rpm.write_bytes(content)


def remove_signature(store: Store) -> None:
    store.sig.unlink()


def remove_key(store: Store) -> None:
    store.key.unlink()


def remove_package(store: Store) -> None:
    store.rpm.unlink()


def garble_signature(store: Store) -> None:
    store.sig.write_bytes(b"no signature at all")


def garble_key(store: Store) -> None:
    store.key.write_bytes(b"no key at all")


STEM = f"amazon-guardduty-agent-{VERSION}.x86_64"


@pytest.mark.parametrize(
    ("spoil", "more", "message"),
    [
        (
            flip_a_byte,
            {},
            f"signature-bad: BADSIG: {STEM}.rpm is not what the key KEY signed: package or signature was altered",
        ),
        (
            flip_a_byte,
            {"DECLARES": "4000"},
            f"package-truncated: {STEM}.rpm has 24 bytes, its header declares more than 4000",
        ),
        (
            remove_signature,
            {},
            f"signature-missing: URL/{VERSION}/x86_64/{STEM}.sig is not there (HTTP 404): check the agent's version "
            "and the region's artifact account",
        ),
        (
            remove_key,
            {},
            f"key-missing: URL/{VERSION}/publickey.pem is not there (HTTP 404): check the agent's version and the "
            "region's artifact account",
        ),
        (
            remove_package,
            {},
            f"package-missing: URL/{VERSION}/x86_64/{STEM}.rpm is not there (HTTP 404): check the agent's version and "
            "the region's artifact account",
        ),
        (
            garble_signature,
            {},
            f"signature-bad: {STEM}.sig is no detached signature: it has to hold one signature packet and nothing "
            "else, found text that is not one armored signature",
        ),
        (garble_key, {}, f"key-mismatch: URL/{VERSION}/publickey.pem is no OpenPGP key: .*"),
        (
            None,
            {"HEADER": "amazon-guardduty-agent 1.17.1 1 aarch64 abc"},
            f"arch-mismatch: {STEM}.rpm is for aarch64, expected x86_64",
        ),
        (
            None,
            {"HEADER": "amazon-guardduty-agent 1.16.0 1 x86_64 abc"},
            f"package-mismatch: {STEM}.rpm holds amazon-guardduty-agent 1.16.0, expected amazon-guardduty-agent 1.17.1",
        ),
        (None, {"RPM_FAILS": "1"}, f"install-failed: rpm could not install {STEM}.rpm; its message stands above"),
        (
            None,
            {"ENABLE": "1"},
            f"unit-missing: {STEM}.rpm brought no unit amazon-guardduty-agent.service that can be enabled",
        ),
        (
            None,
            {"ENABLED": "masked"},
            "unit-not-enabled: amazon-guardduty-agent.service is 'masked' after it was enabled",
        ),
        (
            None,
            {"OVENPROOF_AGENT_FINGERPRINT": "093FF49D"},
            "input-invalid: OVENPROOF_AGENT_FINGERPRINT has to be a full fingerprint of 40 hexadecimal digits, found "
            "'093FF49D'",
        ),
        (
            None,
            {"OVENPROOF_AGENT_VERSION": "v1"},
            "input-invalid: OVENPROOF_AGENT_VERSION has to be like 1.17.1, found 'v1'",
        ),
        (None, {"OVENPROOF_ARCH": "amd64"}, "input-invalid: OVENPROOF_ARCH has to be x86_64 or arm64, found 'amd64'"),
        (None, {"OVENPROOF_AGENT_URL": ""}, "input-missing: the environment variable OVENPROOF_AGENT_URL is not set"),
    ],
)
def test_a_package_that_is_not_as_published_stops_the_bake(
    installing: Guest,
    store: Store,
    aws: Signer,
    spoil: Callable[[Store], None] | None,
    more: dict[str, str],
    message: str,
) -> None:
    if spoil:
        spoil(store)

    done = installing.run("30-install-agent.sh", **more)

    wanted = message.replace("KEY", aws.fingerprint).replace("URL/", f"{installing.env['OVENPROOF_AGENT_URL']}/")
    assert done.returncode == 1
    assert re.fullmatch(re.escape(f"ovenproof-error: {wanted}\n").replace(r"\.\*", ".*"), done.stderr)
    if spoil:
        assert not installed(installing)


def test_a_signature_by_another_key_stops_the_bake(
    installing: Guest, store: Store, aws: Signer, keys: Callable[..., Signer]
) -> None:
    other = keys()
    other.sign(store.rpm)

    done = installing.run("30-install-agent.sh")

    assert done.stderr == (
        f"ovenproof-error: signature-other-key: ERRSIG: {STEM}.rpm was signed by key {other.fingerprint[-16:]}, "
        f"not by {aws.fingerprint}\n"
    )
    assert not installed(installing)


ARMORED_TEXT = "text that is not one armored signature"

# GnuPG 2.0.22 of Amazon Linux 2: with a signed message in the signature's place it never opens the package.
OLD_GPG = """
if [[ " $* " == *" --verify "* ]]; then set -- "${@:1:$#-1}"; fi
exec -a gpg GPG "$@"
"""


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--sign"], "compressed packet, onepass_sig packet, literal data packet, signature packet"),
        (["--sign", "--compress-algo", "none"], "onepass_sig packet, literal data packet, signature packet"),
        (["--armor", "--sign"], ARMORED_TEXT),
        (["--clearsign"], ARMORED_TEXT),
    ],
)
@pytest.mark.parametrize("signed", ["something else", "the package's many bytes"])
def test_a_signed_message_is_no_signature_of_the_package(
    installing: Guest, store: Store, aws: Signer, options: list[str], found: str, signed: str
) -> None:
    """The pinned key's own: to an old gpg it is good, whatever the package holds."""
    message = store.folder / "message"
    message.write_text(signed)
    aws.gpg("--yes", *options, "--output", str(store.sig), str(message))
    installing.program("gpg", OLD_GPG.replace("GPG", str(shutil.which("gpg"))))

    done = installing.run("30-install-agent.sh")

    assert done.stderr == (
        f"ovenproof-error: signature-bad: {STEM}.sig is no detached signature: it has to hold one signature packet and "
        f"nothing else, found {found}\n"
    )
    assert not installed(installing)


@pytest.mark.parametrize(
    ("armor", "before", "behind", "found"),
    [
        (False, b"", b"junk", "bytes that are no packet: gpg: .*"),
        (False, b"", b"SIGNATURE", "signature packet, signature packet"),
        (True, b"junk\n", b"", ARMORED_TEXT),
        (True, b"", b"junk\n", ARMORED_TEXT),
        (True, b"", b"SIGNATURE", ARMORED_TEXT),
    ],
)
def test_a_signature_with_something_beside_it_stops_the_bake(
    installing: Guest, store: Store, aws: Signer, armor: bool, before: bytes, behind: bytes, found: str
) -> None:
    aws.sign(store.rpm, *(["--armor"] if armor else []))
    signature = store.sig.read_bytes()
    store.sig.write_bytes(before + signature + behind.replace(b"SIGNATURE", signature))

    done = installing.run("30-install-agent.sh")

    assert re.fullmatch(
        f"ovenproof-error: signature-bad: {re.escape(STEM)}.sig is no detached signature: it has to hold one signature "
        f"packet and nothing else, found {found}\n",
        done.stderr,
    )
    assert not installed(installing)


def test_an_empty_signature_stops_the_bake(installing: Guest, store: Store) -> None:
    store.sig.write_bytes(b"")

    assert installing.run("30-install-agent.sh").stderr == (
        f"ovenproof-error: signature-bad: {STEM}.sig is no detached signature: it has to hold one signature packet and "
        "nothing else, found no packet at all\n"
    )


def test_a_signature_of_the_package_as_text_stops_the_bake(installing: Guest, store: Store, aws: Signer) -> None:
    aws.sign(store.rpm, "--textmode")

    assert installing.run("30-install-agent.sh").stderr == (
        f"ovenproof-error: signature-bad: {STEM}.sig has a signature of class 01, expected 00, one of the package's "
        "very bytes\n"
    )
    assert not installed(installing)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_an_armored_signature_is_as_good_as_a_binary_one(
    installing: Guest, store: Store, aws: Signer, line_end: bytes
) -> None:
    aws.sign(store.rpm, "--armor")
    store.sig.write_bytes(store.sig.read_bytes().replace(b"\n", line_end) + line_end)

    done = installing.run("30-install-agent.sh")

    assert (done.stderr, installed(installing)) == ("", True)


def test_another_key_beside_its_own_package_stops_the_bake(
    installing: Guest, store: Store, aws: Signer, keys: Callable[..., Signer]
) -> None:
    other = keys()
    other.sign(store.rpm)
    store.key.write_bytes(other.public_key())

    done = installing.run("30-install-agent.sh")

    assert done.stderr == (
        f"ovenproof-error: key-mismatch: publickey.pem holds the key {other.fingerprint}, the catalog pins "
        f"{aws.fingerprint}: do not use it until AWS explains the change\n"
    )


def test_a_second_key_in_the_file_stops_the_bake(
    installing: Guest, store: Store, aws: Signer, keys: Callable[..., Signer]
) -> None:
    store.key.write_bytes(aws.public_key() + keys().public_key())

    done = installing.run("30-install-agent.sh")

    assert done.stderr == (
        f"ovenproof-error: key-mismatch: publickey.pem holds 2 primary keys, expected exactly one, {aws.fingerprint}\n"
    )


def test_an_expired_key_stops_the_bake(installing: Guest, keys: Callable[..., Signer], store: Store) -> None:
    old = keys(expires="20200201T000000", made="20200101T000000")
    old.sign(store.rpm, "--faked-system-time", "20200115T000000")
    store.key.write_bytes(old.public_key())

    done = installing.run("30-install-agent.sh", OVENPROOF_AGENT_FINGERPRINT=old.fingerprint)

    assert done.stderr == (
        f"ovenproof-error: key-expired: the key {old.fingerprint} has expired: take the key, and its fingerprint, "
        "that AWS publishes now\n"
    )
    assert not installed(installing)


def test_a_revoked_key_stops_the_bake(installing: Guest, keys: Callable[..., Signer], store: Store) -> None:
    revoked = keys()
    revoked.sign(store.rpm)
    certificate = revoked.home / "openpgp-revocs.d" / f"{revoked.fingerprint}.rev"
    usable = certificate.with_suffix(".asc")
    usable.write_text(certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
    revoked.gpg("--import", str(usable))
    store.key.write_bytes(revoked.public_key())

    done = installing.run("30-install-agent.sh", OVENPROOF_AGENT_FINGERPRINT=revoked.fingerprint)

    assert done.stderr == f"ovenproof-error: key-revoked: the key {revoked.fingerprint} was revoked by its owner\n"


def test_an_expired_signature_stops_the_bake(installing: Guest, store: Store, aws: Signer) -> None:
    aws.sign(store.rpm, "--faked-system-time", "20260201T000000", "--default-sig-expire", "1d")

    done = installing.run("30-install-agent.sh")

    assert done.stderr == f"ovenproof-error: signature-expired: EXPSIG: the signature of {STEM}.rpm has expired\n"


def test_a_store_out_of_reach_is_told(installing: Guest) -> None:
    done = installing.run("30-install-agent.sh", OVENPROOF_AGENT_URL="http://127.0.0.1:1")

    assert done.stderr.startswith("ovenproof-error: fetch-failed: http://127.0.0.1:1/1.17.1/publickey.pem: curl: (7) ")


def test_a_kernel_without_btf_stops_the_bake(installing: Guest) -> None:
    (installing.disk / "sys/kernel/btf/vmlinux").unlink()

    done = installing.run("30-install-agent.sh")

    assert re.fullmatch(
        r"ovenproof-error: btf-missing: kernel \S+ has no BTF \(CONFIG_DEBUG_INFO_BTF\), without which the agent "
        r"cannot load its programs\n",
        done.stderr,
    )


@pytest.mark.parametrize(
    ("kernel", "memlock", "enough"),
    [
        ("5.10.1-a", "65536", False),
        ("5.10.1-a", "33554432", True),
        ("5.10.1-a", "infinity", True),
        ("5.10.1-a", "18446744073709551615", True),  # how systemd 219 says infinity
        ("6.1.1-a", "65536", True),
    ],
)
def test_old_kernels_need_32_mb_to_lock(installing: Guest, kernel: str, memlock: str, enough: bool) -> None:
    installing.program("uname", f"echo {kernel}")

    done = installing.run("30-install-agent.sh", MEMLOCK=memlock)

    assert (done.returncode == 0) is enough
    if not enough:
        assert done.stderr == (
            "ovenproof-error: memlock-too-low: amazon-guardduty-agent.service may lock 65536 bytes, and kernel "
            "5.10.1-a needs at least 33554432: see /lib/systemd/system-generators/ovenproof-agent-limits\n"
        )


# -- the agent's limits, by the host they are computed on --------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "kib", "processors", "kernel", "wanted"),
    [
        ("t3.small", 1_992_000, 2, "5.10.1", ["128M", "20%", "LimitMEMLOCK=67108864"]),
        ("c3.xlarge, 7.5 GiB", 7_600_000, 4, "5.10.1", ["128M", "40%", "LimitMEMLOCK=67108864"]),
        ("t3.large, 8 GiB", 8_016_848, 2, "6.1.9-a", ["256M", "20%", ""]),
        ("c4.4xlarge, 30 GiB", 30_700_000, 16, "5.4.0", ["256M", "160%", "LimitMEMLOCK=67108864"]),
        ("t3.2xlarge, 32 GiB", 32_456_000, 8, "5.15.2", ["1024M", "80%", ""]),
        ("m5.24xlarge", 390_000_000, 96, "5.11.0", ["1024M", "960%", ""]),
    ],
)
def test_limits_are_aws_table_for_this_host(
    tmp_path: Path, host: str, kib: int, processors: int, kernel: str, wanted: list[str]
) -> None:
    proc = tmp_path / "proc"
    (proc / "sys" / "kernel").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal:       {kib} kB\nMemFree: 1 kB\n")
    (proc / "cpuinfo").write_text("".join(f"processor\t: {n}\nmodel name\t: x\n\n" for n in range(processors)))
    (proc / "sys" / "kernel" / "osrelease").write_text(f"{kernel}\n")

    subprocess.run([GENERATOR, tmp_path / "run"], env={"OVENPROOF_PROC": str(proc)}, check=True)

    drop_in = tmp_path / "run" / "amazon-guardduty-agent.service.d" / "50-ovenproof-limits.conf"
    memory, cpu, memlock = wanted
    assert drop_in.read_text() == (
        f"# Made at boot by {GENERATOR} for a host with {kib * 1024 // 1_000_000} MB and {processors} vCPU\n"
        f"[Service]\nMemoryLimit={memory}\nMemoryMax={memory}\nCPUQuota={cpu}\n{memlock}\n"
    ), host


# -- 40: hardening, on a base that has less than others ----------------------------------------------------------------


@pytest.fixture
def hardening(guest: Guest) -> Guest:
    """A base as bare as it can be: no auditd, no rsyslog, no cron."""
    shutil.copytree(IMAGES / "rootfs", guest.state / "rootfs")
    guest.write("var/tmp/ovenproof/agent", "sha256=abc\nfingerprint=DEF\n")
    guest.write("etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n")
    guest.write("etc/pam.d/su", "#auth           required        pam_wheel.so use_uid\n")
    for path in ("etc/login.defs", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/fstab"):
        guest.write(path, "")
    # Whoever runs the tests may not be root, who alone gives files away.
    guest.program("install", f'exec {shutil.which("install")} "${{@/#root/$(id -u)}}"')
    for name in ("visudo", "useradd", "sshd", "mount", "augenrules", "sysctl"):
        guest.program(name, 'eval "${FAKE:-true}"')
    guest.program("systemctl", '[[ $1 != --quiet ]] || exit 3; echo "docker.service enabled"')
    guest.env |= {
        f"OVENPROOF_{name}": name.lower()
        for name in ("BAKE_ID", "VARIANT", "ARCH", "BASE_ID", "BASE_NAME", "AGENT_VERSION")
    }
    return guest


def test_a_base_without_auditd_and_rsyslog_is_hardened_and_told(hardening: Guest) -> None:
    done = hardening.run("40-harden.sh")

    assert (done.stderr, done.returncode) == ("", 0)
    told = done.stdout.splitlines()
    assert "rsyslog is not installed: the journal keeps the logs" in told
    assert "auditd is not installed: nothing is audited; the rules in /etc/audit/rules.d hold once it is" in told
    assert not any(call.startswith("augenrules") for call in hardening.calls())
    assert not (hardening.disk / "etc/rsyslog.conf").exists()


def test_the_folder_of_rsyslogs_parts_alone_is_no_rsyslog(hardening: Guest) -> None:
    """ecs-init and others lay files there, whether rsyslog is there or not."""
    hardening.write("etc/rsyslog.d/amazon-ecs.conf")

    done = hardening.run("40-harden.sh")

    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "$FileCreateMode 0640\n"),
        ("*.* /x\n", "$FileCreateMode 0640\n*.* /x\n"),
        ("#\n$FileCreateMode 0600\n*.* /x\n", "#\n$FileCreateMode 0640\n*.* /x\n"),
    ],
)
def test_rsyslog_makes_its_files_for_root_and_its_group(hardening: Guest, before: str, after: str) -> None:
    config = hardening.write("etc/rsyslog.conf", before)
    config.chmod(0o640)

    first = hardening.run("40-harden.sh")
    second = hardening.run("40-harden.sh")

    assert (first.stderr, second.stderr) == ("", "")
    assert config.read_text() == after
    assert config.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in config.parent.glob("rsyslog*")] == ["rsyslog.conf"]


@pytest.mark.parametrize("place", ["sbin", "usr/sbin"])
def test_where_auditd_is_its_rules_are_loaded_and_not_switched_off(hardening: Guest, place: str) -> None:
    hardening.write(f"{place}/auditd").chmod(0o755)
    off = hardening.write("etc/audit/rules.d/audit.rules", "-D\n-a never,task\n-b 8192\n")

    done = hardening.run("40-harden.sh")

    assert (done.stderr, done.returncode) == ("", 0)
    assert "auditd is not installed" not in done.stdout
    assert off.read_text() == "-D\n-b 8192\n"
    assert "augenrules --load" in hardening.calls()


def test_rules_that_auditd_does_not_take_stop_the_bake(hardening: Guest) -> None:
    hardening.write("sbin/auditd").chmod(0o755)
    hardening.program("augenrules", "exit 1")

    done = hardening.run("40-harden.sh")

    assert (done.returncode, done.stderr) == (
        1,
        "ovenproof-error: audit-rules: auditctl does not accept the rules in /etc/audit/rules.d\n",
    )


def test_cloud_inits_logs_are_closed_again_at_every_boot(tmp_path: Path) -> None:
    """Its older versions open them to everybody (0644) before this stage."""
    folder = IMAGES / "rootfs/etc/systemd/system/cloud-final.service.d"
    (command,) = re.findall(r"^ExecStartPre=-(.*)$", (folder / "50-ovenproof-log-modes.conf").read_text(), re.MULTILINE)
    log = tmp_path / "cloud-init.log"
    log.touch(0o644)
    output = tmp_path / "cloud-init-output.log"
    output.touch(0o640)

    subprocess.run(shlex.split(command.replace("/var/log", str(tmp_path))), check=True)

    assert [oct(path.stat().st_mode & 0o777) for path in (log, output)] == ["0o640", "0o640"]


# -- 80 and 90: clean, and looked at once more -------------------------------------------------------------------------


@pytest.fixture
def dirty(guest: Guest) -> Guest:
    """A disk after a bake: something for every kind of leftover, and what has to stay."""
    guest.write("usr/share/ovenproof/leftovers.txt", LIST.read_text())
    for path in (
        "etc/ssh/ssh_host_ed25519_key",
        "root/.ssh/authorized_keys",
        "home/ec2-user/.ssh/authorized_keys",
        "home/ec2-user/.bash_history",
        "etc/machine-id",
        "etc/hostname",
        "var/lib/cloud/instances/i-1/sem/x",
        "var/lib/cloud/data/instance-id",
        "var/lib/ecs/data/agent.db",
        "var/lib/amazon/ssm/Vault/Store/RegistrationKey",
        "var/lib/amazon/ssm/registration",
        "etc/udev/rules.d/70-persistent-net.rules",
        "var/lib/systemd/random-seed",
        "var/log/messages",
        "var/log/amzn-guardduty-agent/agent.log",
        "var/log/audit/audit.log",
        "var/log/messages-20261101",
        "var/log/dnf.log.1",
        "var/log/journal/abc/system.journal",
        "var/cache/dnf/x.solv",
        "var/tmp/ovenproof/facts.json",
        "tmp/.hidden",
    ):
        guest.write(path)
    for path in (
        "etc/ssh/sshd_config",
        "home/ec2-user/.bashrc",
        "var/lib/cloud/seed/x",
        "var/lib/ecs/ecs.config",
        "var/lib/amazon/ssm/i-0abc/channels/x",
        "etc/udev/rules.d/51-ec2-hvm-devices.rules",
        "var/log/amazon/ssm/amazon-ssm-agent.log",
        "tmp/systemd-private-1/tmp/x",
    ):
        guest.write(path, "stays")
    guest.program("systemctl", '[[ $1 != is-enabled ]] || echo "${ENABLED:-enabled}"')
    for name in ("docker", "fstrim", "sync"):
        guest.program(name)
    guest.program("journalctl", 'echo "--relinquish-var"')
    guest.program("lsblk", 'echo "${DISCARD:-0}"')
    return guest


def files_of(guest: Guest) -> dict[str, str]:
    return {
        str(path.relative_to(guest.disk)): path.read_text()
        for path in guest.disk.rglob("*")
        if path.is_file() and path.name != "leftovers.txt"
    }


def test_a_dirty_disk_does_not_pass_the_last_look(dirty: Guest) -> None:
    done = dirty.run("90-last-look.sh")

    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first == f"ovenproof-error: leftovers: {len(rest)} things are left on the disk that no image may carry"
    assert "  /etc/machine-id  (identity of the builder)" in rest
    assert "  /home/ec2-user/.ssh/authorized_keys  (key that may log in, or host known to a user)" in rest
    assert "  /var/log/audit/audit.log  (log of the builder)" in rest
    assert "  /var/tmp/ovenproof  (temporary file)" in rest
    assert "  /var/lib/amazon/ssm/Vault  (SSM agent's registration and fingerprint of the builder)" in rest
    assert "  /etc/udev/rules.d/70-persistent-net.rules  (network card of the builder)" in rest
    assert not [line for line in rest if "systemd-private" in line or "log/amazon/ssm" in line]


def test_a_cleaned_disk_passes_and_keeps_what_an_instance_needs(dirty: Guest) -> None:
    clean = dirty.run("80-clean-up.sh", DISCARD="2147483648")
    look = dirty.run("90-last-look.sh")

    assert (clean.stderr, clean.returncode) == ("", 0)
    assert (look.stderr, look.stdout) == ("", "nothing is left that should not be\n")
    assert files_of(dirty) == {
        "etc/machine-id": "",
        "etc/ssh/sshd_config": "stays",
        "home/ec2-user/.bashrc": "stays",
        "tmp/systemd-private-1/tmp/x": "stays",
        "var/lib/cloud/seed/x": "stays",
        "var/lib/ecs/ecs.config": "stays",
        "var/lib/amazon/ssm/i-0abc/channels/x": "stays",
        "etc/udev/rules.d/51-ec2-hvm-devices.rules": "stays",
        "var/log/amazon/ssm/amazon-ssm-agent.log": "stays",
        "var/log/audit/audit.log": "",
        "var/log/messages": "",
    }
    assert f"fstrim --verbose {dirty.disk}" in dirty.calls()


def test_a_disk_that_takes_no_discard_is_left_as_it_is(dirty: Guest) -> None:
    done = dirty.run("80-clean-up.sh")

    assert "the disk takes no discard, as EBS volumes do not\n" in done.stdout
    assert [call for call in dirty.calls() if call.startswith("fstrim")] == []


@pytest.mark.parametrize("line", [line for line in LIST.read_text().splitlines() if line[:1] in "re"])
def test_every_kind_of_leftover_is_both_removed_and_seen(dirty: Guest, line: str) -> None:
    """One list drives both scripts: what the one leaves, the other finds."""
    action, _, pattern, _ = line.split(None, 3)
    sample = re.sub(r"\[0-9\]", "7", pattern).replace("**/*", "some/file").replace("**", "x").replace("*", "x")
    dirty.run("80-clean-up.sh")
    dirty.write(sample)

    seen = dirty.run("90-last-look.sh")
    dirty.run("80-clean-up.sh")
    gone = dirty.run("90-last-look.sh")

    assert f"  {sample}  (" in seen.stderr
    assert gone.stderr == ""
    assert (dirty.disk / sample.lstrip("/")).exists() is (action == "empty")


def test_an_image_whose_agent_would_not_start_does_not_pass(dirty: Guest) -> None:
    dirty.run("80-clean-up.sh")

    done = dirty.run("90-last-look.sh", ENABLED="disabled")

    assert done.stderr == (
        "ovenproof-error: unit-not-enabled: amazon-guardduty-agent.service is 'disabled' in the finished image, "
        "expected 'enabled'\n"
    )


def test_a_machine_id_that_is_absent_does_not_pass(dirty: Guest) -> None:
    dirty.run("80-clean-up.sh")
    (dirty.disk / "etc/machine-id").unlink()

    assert dirty.run("90-last-look.sh").stderr == (
        "ovenproof-error: machine-id-missing: /etc/machine-id has to be there and empty, so that systemd fills it at "
        "first boot\n"
    )


# -- all of them -------------------------------------------------------------------------------------------------------


def test_scripts_run_in_the_order_of_their_names_and_in_strict_mode() -> None:
    names = [path.name for path in sorted(PROVISION.iterdir())]

    assert [name[:2] for name in names] == ["00", "10", "20", "25", "30", "40", "50", "60", "70", "80", "90"]
    for name in names:
        assert "\nset -euo pipefail\n" in (PROVISION / name).read_text(), name


def test_every_code_is_explained_to_the_user() -> None:
    """`ovenproof-error: <code>` in a script and a cause in failure_causes.yaml belong together."""
    causes = (CHECKOUT / "pipeline" / "failure_causes.yaml").read_text()
    codes = set()
    for script in PROVISION.iterdir():
        text = script.read_text()
        codes |= set(re.findall(r"\bfail ([a-z]+(?:-[a-z]+)+) ", text))
        codes |= set(re.findall(r"ovenproof-error: ([a-z-]+):", text))

    assert sorted(code for code in codes if f"\n  {code}:\n" not in causes) == []


def test_bash_of_amazon_linux_2_understands_the_scripts() -> None:
    """Bash 4.2 has no `local -n`, ${x@Q}, `wait -n` or mapfile -d, and an array that is empty is unset to it."""
    newer = re.compile(
        r"local -n|declare -n|\$\{\w+@|wait -n|mapfile -d|readarray -d|\$EPOCH|shopt -s inherit_errexit"
        r'|in "\$\{matches\[@\]\}"'
    )
    for script in [*PROVISION.iterdir(), GENERATOR]:
        assert newer.findall(script.read_text()) == [], script.name


def test_nothing_asks_which_target_it_is_on() -> None:
    asks = re.compile(r"\b(moto|qemu|rehearsal|local target|is_local|on_aws)\b", re.IGNORECASE)
    for path in IMAGES.rglob("*"):
        if path.is_file() and path.suffix != ".yaml" and "pkr" not in path.name:
            assert asks.findall(path.read_text()) == [], path.name
