"""The stand-in packages. In: versions and a kernel line. Out: folders, cached: what the base guest has installed, the
repository its updates come from, and the agent's artifact store with its signatures.

Programs come from the Go module in `standins/agents`, packages from the spec files in `standins/rpm`, kernels from
the line's Debian root. Two test keys are made once and kept with the cache: one signs the agent as AWS's key does,
one signs the repository's packages. Neither is ever in a folder that guests can read.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree

from pipeline.cache import Cache, digest_tree
from pipeline.catalog import Architecture
from pipeline.process import run
from pipeline.progress import Phase, Progress
from pipeline.rehearsal.guest_root import GUESTS, STANDINS, UPDATE_KERNEL, Line, ensure_guest_root
from pipeline.tools import go_build, go_toolchain

AGENTS: Final = STANDINS / "agents"
SPECS: Final = STANDINS / "rpm"
RPM_NAMES: Final[Mapping[Architecture, str]] = {"x86_64": "x86_64", "arm64": "aarch64"}
# The older one is in the base; both are at least the 1.77.0 that GuardDuty asks for (ECS developer guide).
ECS_AGENT_IN_BASE: Final = "1.102.0"
ECS_AGENT_UPDATE: Final = "1.106.1"
BUILD_TIME: Final = "1735689600"  # 1 January 2025: packages do not differ by when they were built
AGENT_SECONDS: Final = 5.0
KERNEL_SECONDS: Final = 5.0

Key = Literal["agent-test-key", "repository-test-key"]
KEY_OWNERS: Final[Mapping[Key, str]] = {
    "agent-test-key": "Ovenproof test key in place of AwsGuardDuty",
    "repository-test-key": "Ovenproof test key of the stand-in repository",
}
Tampering = Literal["flipped-byte", "other-key", "missing-signature", "expired-key", "truncated", "wrong-arch"]


@dataclass(frozen=True, kw_only=True)
class ArtifactStore:
    """Agent packages laid out as in AWS's bucket (GuardDuty user guide, "Installing ... manually").

    root         holds `<version>/publickey.pem` and, in `<version>/<arch>/`, the package with its signature
    version      the agent's version
    fingerprint  40 hex digits of the key that a bake has to pin for this store
    """

    root: Path
    version: str
    fingerprint: str

    def package(self, architecture: Architecture) -> Path:
        """The RPM of an architecture; its detached signature is beside it with the suffix .sig."""
        name = f"amazon-guardduty-agent-{self.version}.{architecture}.rpm"
        return self.root / self.version / architecture / name


def ensure_artifacts(version: str, cache: Cache, progress: Progress) -> ArtifactStore:
    """Return the store with the agent stand-in of that version, for both architectures. Raises MachineError."""
    key = ensure_key("agent-test-key", cache)
    inputs = {
        "version": version,
        "programs": digest_tree([AGENTS]),
        "specs": digest_tree([SPECS]),
        "key": (key / "fingerprint").read_text(),
        "build": _digest_of_this_module(),
    }

    def make(folder: Path) -> None:
        with progress.phase(f"GuardDuty agent stand-in {version}", AGENT_SECONDS) as phase, gpg_home() as home:
            gpg(home, "--import", key / "secret.asc")
            store = ArtifactStore(root=folder, version=version, fingerprint="")
            for architecture in RPM_NAMES:
                package = store.package(architecture)
                _build_agent(package, version, architecture, cache, progress, phase)
                sign(home, package)
            shutil.copyfile(key / "publickey.pem", folder / version / "publickey.pem")

    root = cache.entry("agent-artifacts", inputs, make)
    return ArtifactStore(root=root, version=version, fingerprint=(key / "fingerprint").read_text())


def ensure_base_packages(line: Line, cache: Cache, progress: Progress) -> Path:
    """Return a folder with the base guest's packages.

    `install/` holds what rpm installs, `known/` what only the RPM database gets because Debian brought the files,
    `repository.asc` the public key of the update repository.
    """
    root = ensure_guest_root(line, cache, progress)
    key = ensure_key("repository-test-key", cache)

    def make(folder: Path) -> None:
        with progress.phase(f"packages of the {line} guest", AGENT_SECONDS) as phase:
            (folder / "install").mkdir()
            (folder / "known").mkdir()
            _build_ecs_init(folder / "install", ECS_AGENT_IN_BASE, cache, progress, phase)
            defines = {"base_version": "2" if line == "al2" else "2023", "suite": GUESTS[line].suite}
            build_rpm("standin-base", defines, folder / "known")
            with _kernel_tree(root, update=False) as tree:
                build_rpm("kernel", _kernel_defines(tree) | {"payload": "0"}, folder / "known")
            shutil.copyfile(key / "publickey.pem", folder / "repository.asc")

    return cache.entry(f"guest-packages-{line}", _package_inputs(root, key), make)


def ensure_repository(line: Line, cache: Cache, progress: Progress) -> Path:
    """Return a dnf repository with the line's updates, signed packages and security advisories in it.

    A newer kernel and a newer ecs-init; what of it is taken is for the bake to say.
    """
    root = ensure_guest_root(line, cache, progress)
    key = ensure_key("repository-test-key", cache)

    def make(folder: Path) -> None:
        with progress.phase(f"package repository of the {line} guests", KERNEL_SECONDS) as phase:
            _build_ecs_init(folder, ECS_AGENT_UPDATE, cache, progress, phase)
            phase.line("kernel")
            with _kernel_tree(root, update=True) as tree:
                build_rpm("kernel", _kernel_defines(tree) | {"payload": "1"}, folder)
            packages = sorted(folder.glob("*.rpm"))
            with gpg_home() as home:
                gpg(home, "--import", key / "secret.asc")
                macros = {
                    "__gpg": shutil.which("gpg") or "gpg",  # Debian's rpm looks for another name
                    "_gpg_path": str(home),
                    "_gpg_name": (key / "fingerprint").read_text(),
                }
                run(["rpmsign", *_definitions(macros), "--addsign", *packages])
            run(["createrepo_c", "--quiet", "--no-database", "--simple-md-filenames", folder])
            advisories = folder / "updateinfo.xml"
            advisories.write_text(updateinfo([package_facts(package) for package in packages]))
            run(["modifyrepo_c", "--simple-md-filenames", advisories, folder / "repodata"])
            advisories.unlink()

    return cache.entry(f"guest-repository-{line}", _package_inputs(root, key), make)


@dataclass(frozen=True, kw_only=True)
class PackageFacts:
    """What an advisory says of a package."""

    name: str
    version: str
    release: str
    architecture: str
    file: str


def package_facts(package: Path) -> PackageFacts:
    """Read a package's header."""
    form = "%{NAME}|%{VERSION}|%{RELEASE}|%{ARCH}"
    name, version, release, architecture = run(["rpm", "-qp", "--nosignature", "--qf", form, package]).split("|")
    return PackageFacts(name=name, version=version, release=release, architecture=architecture, file=package.name)


def updateinfo(packages: list[PackageFacts]) -> str:
    """The repository's advisories: an important security update for each package (createrepo_c's format)."""
    updates = ElementTree.Element("updates")
    for number, package in enumerate(packages, start=1):
        update = ElementTree.SubElement(
            updates, "update", {"from": "ovenproof", "status": "final", "type": "security", "version": "1"}
        )
        for tag, text in {
            "id": f"STANDIN-{number:04}",
            "title": f"{package.name} update of the rehearsal",
            "severity": "important",
            "release": "Ovenproof stand-in",
            "description": "Newer than what the base guest has, so that a bake has a security update to make.",
        }.items():
            ElementTree.SubElement(update, tag).text = text
        ElementTree.SubElement(update, "issued", {"date": "2025-01-01 00:00:00"})
        ElementTree.SubElement(update, "references")
        collection = ElementTree.SubElement(
            ElementTree.SubElement(update, "pkglist"), "collection", {"short": "standin"}
        )
        ElementTree.SubElement(collection, "name").text = "Ovenproof stand-in"
        listed = ElementTree.SubElement(
            collection,
            "package",
            {
                "name": package.name,
                "epoch": "0",
                "version": package.version,
                "release": package.release,
                "arch": package.architecture,
            },
        )
        ElementTree.SubElement(listed, "filename").text = package.file
    ElementTree.indent(updates)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(updates, encoding="unicode") + "\n"


# --- test keys and signatures


def ensure_key(name: Key, cache: Cache) -> Path:
    """Return the folder of a test key: `publickey.pem`, `fingerprint`, and `secret.asc` for its owner's eyes only."""

    def make(folder: Path) -> None:
        folder.chmod(0o700)
        with gpg_home() as home:
            fingerprint = generate_key(home, KEY_OWNERS[name])
            (folder / "fingerprint").write_text(fingerprint)
            gpg(home, "--armor", "--output", folder / "publickey.pem", "--export", fingerprint)
            gpg(home, "--armor", "--output", folder / "secret.asc", "--export-secret-keys", fingerprint)
            (folder / "secret.asc").chmod(0o600)

    return cache.entry(name, {"owner": KEY_OWNERS[name]}, make)


@contextmanager
def gpg_home() -> Iterator[Path]:
    """An empty GnuPG home, gone with its agent at the end. Its path is short because the agent's sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="ovenproof-gpg-") as folder:
        try:
            yield Path(folder)
        finally:
            run(["gpgconf", "--homedir", folder, "--kill", "gpg-agent"])


def gpg(home: Path, *arguments: str | Path) -> str:
    """Run gpg in a home, with nobody to ask."""
    return run(["gpg", "--homedir", home, "--batch", "--yes", "--no-tty", "--passphrase", "", *arguments])


def generate_key(home: Path, owner: str, *time: str, expires: str = "never") -> str:
    """Make a signing key without passphrase and return its fingerprint; `time` may be gpg's --faked-system-time."""
    gpg(home, *time, "--quick-generate-key", owner, "rsa3072", "sign", expires)
    keys = gpg(home, *time, "--with-colons", "--list-keys", owner)
    return next(line.split(":")[9] for line in keys.splitlines() if line.startswith("fpr:"))


def sign(home: Path, package: Path, *time: str) -> None:
    """Put a detached signature by the home's key beside the package: `.sig` in place of `.rpm`, as AWS names it."""
    gpg(home, *time, "--output", package.with_suffix(".sig"), "--detach-sign", package)


def tampered(store: ArtifactStore, how: Tampering, into: Path) -> ArtifactStore:
    """Copy a store to the new folder `into` and break it there, for tests of what has to stop a bake.

    The fingerprint is the one a careless catalog would pin: only "expired-key" changes it, since there a good signature
    by the pinned key is what must not do.
    """
    shutil.copytree(store.root, into)
    broken = replace(store, root=into)
    packages = [broken.package(architecture) for architecture in RPM_NAMES]
    match how:
        case "flipped-byte":
            for package in packages:
                content = bytearray(package.read_bytes())
                content[len(content) // 2] ^= 1
                package.write_bytes(content)
        case "truncated":
            for package in packages:
                os.truncate(package, package.stat().st_size // 2)
        case "missing-signature":
            for package in packages:
                package.with_suffix(".sig").unlink()
        case "wrong-arch":
            x86, arm = (package.with_suffix("") for package in packages)
            for suffix in (".rpm", ".sig"):
                first, second, aside = (Path(f"{stem}{suffix}") for stem in (x86, arm, into / "aside"))
                first.rename(aside)
                second.rename(first)
                aside.rename(second)
        case "other-key":
            _sign_again(broken, packages, "Somebody else")
        case "expired-key":
            then = ("--faked-system-time", "20200101T000000!")
            fingerprint = _sign_again(broken, packages, "Ovenproof test key of 2020", *then, expires="1d")
            return replace(broken, fingerprint=fingerprint)
    return broken


def _sign_again(store: ArtifactStore, packages: list[Path], owner: str, *time: str, expires: str = "never") -> str:
    """Replace key and signatures, as somebody with write access to the bucket could; returns the fingerprint."""
    with gpg_home() as home:
        fingerprint = generate_key(home, owner, *time, expires=expires)
        for package in packages:
            sign(home, package, *time)
        public = store.root / store.version / "publickey.pem"
        gpg(home, *time, "--armor", "--output", public, "--export", fingerprint)
    return fingerprint


# --- building


def build_rpm(spec: str, defines: Mapping[str, str], into: Path, architecture: Architecture = "x86_64") -> Path:
    """Build `standins/rpm/<spec>.spec` and return the package, moved to `into`. Same inputs, same bytes."""
    settings = {
        "_build_id_links": "none",
        "_buildhost": "ovenproof.invalid",
        "_binary_payload": "w3.zstdio",
        "__os_install_post": "%{nil}",
        "debug_package": "%{nil}",
        "clamp_mtime_to_source_date_epoch": "1",
        "use_source_date_epoch_as_buildtime": "1",
        "sources": str(SPECS / spec),
    }
    with tempfile.TemporaryDirectory(dir=into, prefix=".rpmbuild-") as folder:
        words = _definitions(settings | {"_topdir": folder} | dict(defines))
        target = f"{RPM_NAMES[architecture]}-linux"
        run(
            ["rpmbuild", "-bb", "--quiet", "--target", target, *words, SPECS / f"{spec}.spec"],
            env=dict(os.environ) | {"SOURCE_DATE_EPOCH": BUILD_TIME},
        )
        [package] = Path(folder, "RPMS").glob("*/*.rpm")
        return package.rename(into / package.name)


def _definitions(macros: Mapping[str, str]) -> list[str]:
    return [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]


def _build_agent(
    package: Path,
    version: str,
    architecture: Architecture,
    cache: Cache,
    progress: Progress,
    phase: Phase,
) -> None:
    folder = package.parent
    folder.mkdir(parents=True)
    program = folder / "amazon-guardduty"
    _build_program(program, version, architecture, cache, progress, phase)
    defines = {"agent_version": version, "program": str(program)}
    build_rpm("amazon-guardduty-agent", defines, folder, architecture).rename(package)
    program.unlink()


def _build_ecs_init(folder: Path, version: str, cache: Cache, progress: Progress, phase: Phase) -> None:
    program = folder / "ecs-init"
    _build_program(program, version, "x86_64", cache, progress, phase)
    build_rpm("ecs-init", {"agent_version": version, "program": str(program)}, folder)
    program.unlink()


def _build_program(
    program: Path, version: str, architecture: Architecture, cache: Cache, progress: Progress, phase: Phase
) -> None:
    flags = ("-trimpath", "-buildvcs=false", f"-ldflags=-s -w -X main.version={version}")
    go = go_toolchain(cache, progress)
    go_build(go, cache, AGENTS, [f"./{program.name}"], program, phase, guest=architecture, flags=flags)


@contextmanager
def _kernel_tree(root: Path, *, update: bool) -> Iterator[Path]:
    """The files of the root's own kernel, or of the update set aside in it, unpacked for as long as they are needed."""
    own = ("./boot", "./usr/lib/modules")
    aside = (f"./{UPDATE_KERNEL}/boot", f"./{UPDATE_KERNEL}/lib/modules")
    versions = (f"./{UPDATE_KERNEL}/version", f"./{UPDATE_KERNEL}/base-version")
    with tempfile.TemporaryDirectory(dir=root.parent.parent, prefix=".kernel-") as folder:
        members = (*versions, *(aside if update else own))
        run(["tar", "--extract", "--file", root, "--directory", folder, "--no-same-owner", *members])
        yield Path(folder)


def _kernel_defines(tree: Path) -> dict[str, str]:
    update = tree / UPDATE_KERNEL
    is_update = (update / "boot").is_dir()
    boot, all_modules = (
        (update / "boot", update / "lib/modules") if is_update else (tree / "boot", tree / "usr/lib/modules")
    )
    version = (update / ("version" if is_update else "base-version")).read_text().strip()
    upstream, _, revision = version.partition("-")
    [modules] = all_modules.iterdir()
    return {
        "kernel_version": upstream,
        "kernel_release": revision.replace("+", "."),
        "uname_release": modules.name,
        "boot": str(boot),
        "modules": str(modules),
    }


def _package_inputs(root: Path, key: Path) -> dict[str, str]:
    return {
        "root": root.parent.name,
        "programs": digest_tree([AGENTS]),
        "specs": digest_tree([SPECS]),
        "key": (key / "fingerprint").read_text(),
        "build": _digest_of_this_module(),
    }


def _digest_of_this_module() -> str:
    return digest_tree([Path(__file__)])
