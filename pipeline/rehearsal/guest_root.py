"""The Debian files under a base guest. In: a kernel line. Out: one tar of a root file system, cached.

mmdebstrap makes it from Debian's signed archive. The root holds the older of the archive's two kernels of the line,
installed; the newer one lies complete (image, modules, initial ramdisk) under `/update-kernel`, for `packages.py` to
wrap as an RPM, so that a bake has a real kernel update to make.

Downloads are kept by suite next to the cache's entries and written as they arrive: an interrupted build goes on.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pipeline.cache import Cache, digest_tree
from pipeline.errors import MachineError
from pipeline.process import run
from pipeline.progress import Progress
from pipeline.tools import require_space, run_shown

Line = Literal["al2", "al2023"]

STANDINS: Final = Path(__file__).parent / "standins"
UPDATE_KERNEL: Final = "update-kernel"  # folder of the root; the disk never holds it
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

APT_PACKAGES: Final[Mapping[str, str]] = {
    "mmdebstrap": "makes the base guest's root file system",
    "debian-archive-keyring": "proves that its packages are Debian's",
    "uidmap": "lets an ordinary user make it",
    "e2fsprogs": "makes its file system",
    "qemu-utils": "makes and copies disks",
    "qemu-system-x86": "runs guests",
    "grub-pc-bin": "makes the disk start by itself",
    "rpm": "builds the stand-in packages",
    "createrepo-c": "makes the guests' package repository",
    "gpg": "signs the agent stand-in with a test key",
    "netcat-openbsd": "carries a guest's requests to its metadata service",
}


@dataclass(frozen=True, kw_only=True)
class Guest:
    """What a line's guest is made of, and what it stands for."""

    line: Line
    kernel_line: str
    suite: str
    debian: str
    stands_for: str


GUESTS: Final[Mapping[Line, Guest]] = {
    "al2": Guest(line="al2", kernel_line="5.10", suite="bullseye", debian="Debian 11", stands_for="Amazon Linux 2"),
    "al2023": Guest(
        line="al2023", kernel_line="6.1", suite="bookworm", debian="Debian 12", stands_for="Amazon Linux 2023"
    ),
}

# The cloud kernel has BTF, ext4 and what virtio and EC2 need, at a quarter of the size of the full one.
KERNEL = "linux-image-cloud-amd64"
PACKAGES: Final = (
    "auditd",
    "ca-certificates",
    "cloud-init",
    "cron",
    "curl",
    "dbus",
    "dnf",
    "docker.io",
    "gpg",
    "gpg-agent",
    "iproute2",
    "jq",
    "kmod",
    "libnss-myhostname",
    "libpam-pwquality",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "qemu-guest-agent",
    "rpm",
    "rsyslog",
    "sudo",
    "systemd-sysv",
    "udev",
)
NOT_UNPACKED: Final = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bash-completion/*",
)
UNPACKED_STILL: Final = ("/usr/share/doc/*/copyright",)
EXPECTED_SECONDS: Final = 70.0
ROOT_BYTES: Final = 3_000_000_000
"""Downloads, the unpacked root and its tar while it is made (measured: 0.4, 0.8 and 0.8 GB)."""


def ensure_guest_root(line: Line, cache: Cache, progress: Progress) -> Path:
    """Return the tar of the line's root file system, made on first use (about two minutes and 500 MB).

    The packages of APT_PACKAGES have to be on the machine. Raises MachineError with mmdebstrap's last lines.
    """
    guest = GUESTS[line]
    hooks = STANDINS / "guest" / "root-hooks"
    inputs = {
        "command": " ".join(mmdebstrap_argv(guest, Path("hooks"), None, Path("root.tar"), Path("sources"))),
        "suite": guest.suite,
        "hooks": digest_tree([hooks]),
    }

    def make(folder: Path) -> None:
        require_space(cache.root, ROOT_BYTES, f"the {line} guest's root file system")
        sources = folder / "sources.list"
        sources.write_text(sources_list(guest.suite, machine_mirrors()))
        argv = mmdebstrap_argv(guest, hooks, downloads_of(guest, cache), folder / "root.tar", sources)
        with progress.phase(f"{guest.debian} for the {line} guest", EXPECTED_SECONDS) as phase:
            run_shown(
                [*_ends_with_us(), *argv[:1], *_proxies(), *argv[1:]],
                phase,
                env=dict(os.environ) | _temporary_folder(folder),
                remedy="check the network (http_proxy counts) and start again: finished downloads are kept",
            )

    return cache.entry(f"guest-root-{line}", inputs, make) / "root.tar"


@dataclass(frozen=True, kw_only=True)
class Mirrors:
    """Where a machine gets Debian from. Debian's keys sign what comes, so plain HTTP will do."""

    archive: str
    security: str


def machine_mirrors() -> Mirrors:
    """The mirrors of this machine's own apt. Raises MachineError when it names none of Debian's."""
    return mirrors_in(run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)"]))


def mirrors_in(index_targets: str) -> Mirrors:
    """The mirrors among apt's index targets, given as lines of address, origin and label."""
    found: dict[str, str] = {}
    for line in index_targets.splitlines():
        address, _, origin_and_label = line.partition(" ")
        found.setdefault(origin_and_label.strip(), address)
    try:
        return Mirrors(archive=found["Debian Debian"], security=found["Debian Debian-Security"])
    except KeyError as error:
        raise MachineError(
            "this machine's apt names no mirror of Debian to make the guests from",
            expected="sources with the origin Debian and the labels Debian and Debian-Security",
            found="\n".join(f"{label or 'no origin'}: {address}" for label, address in found.items()) or "no sources",
            where="apt-get indextargets",
            remedy="run `apt-get update` once, or add Debian's own sources, and start again",
        ) from error


def sources_list(suite: str, mirrors: Mirrors) -> str:
    """Where the packages come from: the suite as released, which holds the older kernel, and its security updates."""
    return (
        f"deb [signed-by={KEYRING}] {mirrors.archive} {suite} main\n"
        f"deb [signed-by={KEYRING}] {mirrors.security} {suite}-security main\n"
    )


def mmdebstrap_argv(guest: Guest, hooks: Path, downloads: Path | None, tar: Path, sources: Path) -> list[str]:
    """The command that makes `tar` from what the sources list names.

    Unshare mode also for root: mounts and processes then end with mmdebstrap, whatever ends it.
    """
    argv = ["mmdebstrap", "--mode=unshare", "--variant=minbase", "--format=tar"]
    argv += [f"--include={','.join((f'{KERNEL}/{guest.suite}', *PACKAGES))}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in NOT_UNPACKED]
    argv += [f"--dpkgopt=path-include={pattern}" for pattern in UNPACKED_STILL]
    argv += ['--aptopt=Acquire::Languages "none"']
    folder = shlex.quote(str(hooks))  # mmdebstrap gives its hooks to a shell
    argv += [f'--setup-hook={folder}/merge-usr.sh "$1"']
    if downloads:
        argv += [f'--setup-hook=BIND={shlex.quote(str(downloads))} {folder}/keep-downloads.sh "$1"']
    argv += [f'--essential-hook={folder}/small-ramdisk.sh "$1"']
    argv += [f'--customize-hook={folder}/set-update-kernel-aside.sh "$1" {KERNEL} {UPDATE_KERNEL}']
    return [*argv, guest.suite, str(tar), str(sources)]


def downloads_of(guest: Guest, cache: Cache) -> Path | None:
    """Folder that keeps downloaded packages, for root only: an ordinary user could not delete what lands there."""
    if os.geteuid() != 0:
        return None
    folder = cache.root / "downloads" / guest.suite
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    return folder


def _proxies() -> list[str]:
    """The machine's own apt proxies; mmdebstrap takes those of the environment but not those of apt's configuration."""
    dump = run(["apt-config", "dump", "--format", '%f "%v"%n', "Acquire::http::Proxy", "Acquire::https::Proxy"])
    return [f"--aptopt={line}" for line in dump.splitlines() if not line.endswith('""')]


def _ends_with_us() -> list[str]:
    """What has the kernel end mmdebstrap when we are killed: with all its processes for root, else by a signal."""
    if os.geteuid() == 0:
        return ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--mount-proc", "--kill-child"]
    return ["setpriv", "--pdeathsig", "TERM"]


def _temporary_folder(folder: Path) -> dict[str, str]:
    """mmdebstrap unpacks a gigabyte: beside the result, not in a small /tmp, where its user may go there."""
    return {"TMPDIR": str(folder)} if os.geteuid() == 0 else {}
