"""AWS's session-manager-plugin, through which Packer reaches a builder in AWS with no port open.

In: the release that is pinned here. Out: the folder of the program, which said that version. It is taken only with
the pinned digest and with a signature by the pinned key, so neither a changed file nor a changed key is enough.

Sources: Systems Manager user guide, "Session Manager plugin latest version and release history" and "Verify the
signature of the Session Manager plugin" (key and fingerprint). AWS publishes no digests; these are of what it signed.
"""

import hashlib
import os
import platform
import re
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.cache import Cache
from pipeline.errors import MachineError
from pipeline.process import run
from pipeline.progress import Progress

PROGRAM: Final = "session-manager-plugin"
WAIT_SECONDS: Final = 60
USUAL_SECONDS: Final = 5.0
INSTEAD: Final = "install it by hand as AWS describes, or set ssh_interface to public_ip (own address only)"
DO_NOT_GO_ON: Final = "do not go on: the download is not what was pinned; look at who changed it, AWS or a mirror"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release as it is pinned. `address` has a place for the platform; digests are by the machine's name for it."""

    version: str
    address: str
    platforms: Mapping[str, str]
    digests: Mapping[str, str]
    key: Path
    fingerprint: str


RELEASE: Final = Release(
    version="1.2.835.0",
    address="https://s3.amazonaws.com/session-manager-downloads/plugin/1.2.835.0/{platform}/session-manager-plugin.deb",
    platforms={"x86_64": "ubuntu_64bit", "aarch64": "ubuntu_arm64"},
    digests={
        "x86_64": "7c6dcad12518571cc7959a713e6a8ae1bdf6ed66fd9bee37dc189e39ca58ae03",
        "aarch64": "0add94c4c8b6ca63f26e44fd655d662b0f6455a268b5b9ebebee0f462214e928",
    },
    key=Path(__file__).with_name("session_plugin.asc"),
    fingerprint="7959637124CE093AD501D47A2C4D4AFF6F6757EE",
)


def ensure_session_plugin(cache: Cache, progress: Progress, release: Release = RELEASE) -> Path:
    """Return the folder of the program: that on PATH as it is, else the pinned one, fetched on first use.

    Raises MachineError where it cannot be had, or is not what was pinned.
    """
    if found := shutil.which(PROGRAM):
        return Path(found).parent
    machine = platform.machine()
    missing = [name for name in ("dpkg-deb", "gpg") if not shutil.which(name)]
    if platform.system() != "Linux" or machine not in release.digests or missing:
        raise MachineError(
            f"{PROGRAM} is not on this machine",
            expected="the program on PATH, or Linux (x86_64, aarch64) with dpkg-deb and gpg to fetch it: Packer "
            "reaches the builder through it, with no port open",
            found=f"{platform.system()} {machine}" + (f" without {' and '.join(missing)}" if missing else ""),
            where="images/catalog.yaml, targets > aws > ssh_interface",
            remedy=INSTEAD,
        )

    def make(folder: Path) -> None:
        address = release.address.format(platform=release.platforms[machine])
        with progress.phase(f"fetch {PROGRAM} {release.version}", USUAL_SECONDS):
            package, signature = folder / "plugin.deb", folder / "plugin.deb.sig"
            _fetch(address, package)
            _fetch(f"{address}.sig", signature)
            _check_digest(package, release.digests[machine], address)
            _check_signature(package, signature, release, address)
            run(["dpkg-deb", "--extract", package, folder / "unpacked"])
            program = folder / "unpacked" / "usr" / "local" / "sessionmanagerplugin" / "bin" / PROGRAM
            said = run([program, "--version"]).strip()
            if said != release.version:
                raise MachineError(
                    f"{PROGRAM} is another version than its address says",
                    expected=release.version,
                    found=said,
                    where=address,
                    remedy=DO_NOT_GO_ON,
                )
            shutil.move(program, folder / PROGRAM)
            shutil.rmtree(folder / "unpacked")
            package.unlink()
            signature.unlink()

    inputs = {"version": release.version, "digest": release.digests[machine], "key": release.fingerprint}
    return cache.entry(PROGRAM, inputs, make)


def _fetch(address: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(address, timeout=WAIT_SECONDS) as answer, target.open("wb") as out:  # noqa: S310
            shutil.copyfileobj(answer, out)
    except OSError as error:
        raise MachineError(
            f"{PROGRAM} could not be fetched",
            found=str(error),
            where=address,
            remedy=f"check the network (HTTPS_PROXY counts) and start again, or {INSTEAD}",
        ) from error


def _check_digest(package: Path, expected: str, address: str) -> None:
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != expected:
        raise MachineError(
            f"{PROGRAM} has another digest than the pinned one",
            expected=f"sha256 {expected}",
            found=f"sha256 {found}",
            where=address,
            remedy=DO_NOT_GO_ON,
        )


def _check_signature(package: Path, signature: Path, release: Release, address: str) -> None:
    """By the pinned key alone: a keyring of its own holds nothing else, and the fingerprint is compared besides."""
    with tempfile.TemporaryDirectory(prefix="ovenproof-gpg-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--no-tty", "--no-autostart"]
        env = {**os.environ, "LC_ALL": "C"}
        run([*gpg, "--import", release.key], env=env)
        try:
            said = run([*gpg, "--status-fd", "1", "--verify", signature, package], env=env)
        except MachineError as error:
            said = error.found
    valid = re.search(r"^\[GNUPG:\] VALIDSIG (?:\S+ ){9}([0-9A-F]{40})$", said, re.MULTILINE)
    if not valid or valid[1] != release.fingerprint:
        raise MachineError(
            f"{PROGRAM} is not signed by AWS's key",
            expected=f"a good signature by {release.fingerprint}",
            found=valid[1] if valid else said,
            where=f"{address}.sig",
            remedy=DO_NOT_GO_ON,
        )
