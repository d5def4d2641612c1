"""session-manager-plugin over loopback: a package of the test's own, signed by its own key, taken or refused."""

import hashlib
import platform
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.cache import Cache
from pipeline.errors import MachineError
from pipeline.process import run
from pipeline.progress import Progress
from pipeline.session_plugin import PROGRAM, RELEASE, Release, ensure_session_plugin

MACHINE = platform.machine()


class Quiet(SimpleHTTPRequestHandler):
    """A file server that keeps its log to itself."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@dataclass
class Site:
    """What is served, and the release as it is pinned."""

    folder: Path
    release: Release
    homes: Path

    def signed_by(self, owner: str) -> str:
        """Sign the package with a key of this owner, made when it is not there; the key's fingerprint."""
        home = self.homes / owner
        home.mkdir(mode=0o700, exist_ok=True)
        gpg: list[str | Path] = ["gpg", "--homedir", home, "--batch", "--yes", "--passphrase", ""]
        if not (home / "pubring.kbx").exists():
            run([*gpg, "--quick-generate-key", owner, "ed25519", "sign", "never"])
        package = self.folder / "plugin.deb"
        run([*gpg, "--output", f"{package}.sig", "--detach-sign", package])
        listed = run([*gpg, "--with-colons", "--list-keys"])
        run([*gpg, "--yes", "--armor", "--output", home / "public.asc", "--export", owner])
        run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"])
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))


def a_package(folder: Path, says: str) -> str:
    """A Debian package with a program that says a version; its digest."""
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    program = tree / "usr" / "local" / "sessionmanagerplugin" / "bin" / PROGRAM
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {PROGRAM}\nVersion: {says}\nArchitecture: all\nMaintainer: t <t@example.com>\nDescription: -\n"
    )
    run(["dpkg-deb", "--build", tree, folder / "plugin.deb"])
    return hashlib.sha256((folder / "plugin.deb").read_bytes()).hexdigest()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder, homes = tmp_path / "site", Path(tempfile.mkdtemp(prefix="ovp-"))  # short: an agent's socket lies in it
    folder.mkdir()
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == PROGRAM else real(name))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    release = Release(
        version="9.9.9.0",
        address=f"http://127.0.0.1:{server.server_port}/plugin.deb",
        platforms={MACHINE: "any"},
        digests={MACHINE: a_package(folder, "9.9.9.0")},
        key=homes / "aws" / "public.asc",
        fingerprint="",
    )
    found = Site(folder=folder, release=release, homes=homes)
    found.release = replace(release, fingerprint=found.signed_by("aws"))
    yield found
    server.shutdown()
    server.server_close()
    shutil.rmtree(homes)


def ensure(site: Site, tmp_path: Path) -> Path:
    return ensure_session_plugin(Cache(tmp_path / "cache"), Progress(), site.release)


def refusal(site: Site, tmp_path: Path) -> str:
    with pytest.raises(MachineError) as error:
        ensure(site, tmp_path)
    assert not list((tmp_path / "cache").glob(f"{PROGRAM}-*"))
    return error.value.what


def test_what_is_pinned_and_signed_is_taken_once(site: Site, tmp_path: Path) -> None:
    folder = ensure(site, tmp_path)
    assert run([folder / PROGRAM, "--version"]) == "9.9.9.0\n"
    assert [path.name for path in folder.iterdir()] == [PROGRAM]
    (site.folder / "plugin.deb").unlink()
    assert ensure(site, tmp_path) == folder


def test_another_digest_is_refused(site: Site, tmp_path: Path) -> None:
    with (site.folder / "plugin.deb").open("ab") as file:
        file.write(b"\0")
    site.signed_by("aws")
    assert refusal(site, tmp_path) == f"{PROGRAM} has another digest than the pinned one"


@pytest.mark.parametrize("how", ["another key", "another file", "no signature"])
def test_without_a_good_signature_by_the_pinned_key_the_digest_is_not_enough(
    site: Site, tmp_path: Path, how: str
) -> None:
    match how:
        case "another key":
            site.signed_by("mallory")
        case "another file":
            a_package(site.folder, "1.0.0.0")
            site.signed_by("aws")
            digest = a_package(site.folder, "9.9.9.0")
            site.release = replace(site.release, digests={MACHINE: digest})
        case "no signature":
            (site.folder / "plugin.deb.sig").write_bytes(b"")
    assert refusal(site, tmp_path) == f"{PROGRAM} is not signed by AWS's key"


def test_a_key_file_that_was_changed_is_refused_by_its_fingerprint(site: Site, tmp_path: Path) -> None:
    site.signed_by("mallory")
    site.release = replace(site.release, key=site.homes / "mallory" / "public.asc")
    assert refusal(site, tmp_path) == f"{PROGRAM} is not signed by AWS's key"


def test_an_older_version_at_the_address_is_refused(site: Site, tmp_path: Path) -> None:
    site.release = replace(site.release, digests={MACHINE: a_package(site.folder, "1.2.3.0")})
    site.signed_by("aws")
    assert refusal(site, tmp_path) == f"{PROGRAM} is another version than its address says"


def test_what_is_not_there_is_told_with_its_address(site: Site, tmp_path: Path) -> None:
    (site.folder / "plugin.deb").unlink()
    assert refusal(site, tmp_path) == f"{PROGRAM} could not be fetched"


def test_the_key_that_is_committed_is_the_pinned_one() -> None:
    shown = run(["gpg", "--show-keys", "--with-colons", RELEASE.key])
    assert [line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr:")] == [RELEASE.fingerprint]
    assert RELEASE.version in RELEASE.address


def test_the_program_on_the_machine_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / PROGRAM).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ensure_session_plugin(Cache(tmp_path / "cache"), Progress()) == tmp_path


def test_a_machine_that_cannot_fetch_it_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError) as error:
        ensure_session_plugin(Cache(tmp_path / "cache"), Progress())
    assert error.value.what == f"{PROGRAM} is not on this machine"
    assert error.value.found == f"Linux {MACHINE} without dpkg-deb and gpg"
    assert error.value.remedy.startswith("install it by hand")
