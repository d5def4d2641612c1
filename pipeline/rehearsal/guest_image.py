"""The base guest: a disk that starts by itself. In: a kernel line. Out: a read-only qcow2, cached, and what it holds.

The disk has an MBR, GRUB and one ext4 partition, as plain `qemu-system-x86_64 -drive file=...` wants it. It stands in
for the ECS-optimized image of the line: older kernel and ECS agent than the guests' package repository offers, and no
GuardDuty agent, so that a bake has its work to do. Building needs neither root nor a loop device.
"""

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import boto3

from pipeline.cache import Cache, digest_tree
from pipeline.errors import MachineError
from pipeline.process import run
from pipeline.progress import Phase, Progress
from pipeline.rehearsal.guest_root import GUESTS, STANDINS, Line, ensure_guest_root
from pipeline.rehearsal.packages import ensure_base_packages
from pipeline.tools import require_space, run_shown

SECTOR: Final = 512
PARTITION_START: Final = 2048  # sectors; GRUB's core lies in the gap before it
DISK_BYTES: Final = 4 * 1024**3
BOOT_CODE_BYTES: Final = 440  # what of the first sector is program; the rest is the partition table's
DISK_SIGNATURE: Final = 0x0F05E9F0
LINUX_PARTITION: Final = 0x83
GRUB: Final = Path("/usr/lib/grub/i386-pc")
GRUB_MODULES: Final = ("biosdisk", "part_msdos", "ext2", "normal", "linux", "echo", "serial")
GRUB_START: Final = "set root=(hd0,msdos1)\nset prefix=(hd0,msdos1)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"
DATA_ENDPOINT_ADDRESS: Final = "169.254.0.12"
EXPECTED_SECONDS: Final = 15.0
DISK_MAKING_BYTES: Final = 3_000_000_000
"""The unpacked root, the raw disk's used part and the qcow2 (measured: 0.8 GB each)."""


@dataclass(frozen=True, kw_only=True)
class BaseGuest:
    """A base guest's disk and what is known about it without starting it.

    disk       qcow2, mode 0444; a guest's own disk is an overlay on it
    line       the kernel line's stand-in
    kernel     release of the kernel it starts, as `uname -r` prints it
    stands_for what it says of itself in /etc/system-release
    digest     names the content: equal digests, equal disks
    """

    disk: Path
    line: Line
    kernel: str
    stands_for: str
    digest: str


def ensure_base_guest(line: Line, release: str, cache: Cache, progress: Progress) -> BaseGuest:
    """Return the line's base guest, made on first use (about two minutes).

    `release` is any word; another one is another base, as upstream's releases are, and is made within a minute.

    The packages of `guest_root.APT_PACKAGES` have to be on the machine. Raises MachineError.
    """
    guest = GUESTS[line]
    stands_for = f"Ovenproof stand-in for {guest.stands_for} ({guest.debian})"
    root = ensure_guest_root(line, cache, progress)
    packages = ensure_base_packages(line, cache, progress)
    hosts = hosts_text(boto3.Session().get_available_regions("guardduty"))
    files = STANDINS / "guest"
    inputs = {
        "release": release,
        "root": root.parent.name,
        "packages": packages.name,
        "files": digest_tree([files / "rootfs", files / "finish-tree.sh"]),
        "hosts": hosts,
        "disk": f"{DISK_BYTES} {DISK_SIGNATURE:x} {GRUB_MODULES} {GRUB_START}",
    }

    def make(folder: Path) -> None:
        require_space(cache.root, DISK_MAKING_BYTES, f"the {line} guest's disk")
        with progress.phase(f"disk of the {line} guest", EXPECTED_SECONDS) as phase:
            raw = folder / "disk.raw"
            write_boot_sectors(raw)
            finish_tree(
                folder,
                {
                    "TAR": str(root),
                    "ROOTFS": str(files / "rootfs"),
                    "RPMS": str(packages / "install"),
                    "KNOWN_RPMS": str(packages / "known"),
                    "RPM_KEY": str(packages / "repository.asc"),
                    "LINE": line,
                    "HOSTS": hosts,
                    "STANDS_FOR": stands_for,
                    "IMAGE": str(raw),
                },
                phase,
            )
            run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, folder / "disk.qcow2"])
            raw.unlink()
            (folder / "disk.qcow2").chmod(0o444)
            (folder / "kernel").write_text(kernel_release(root) + "\n")

    entry = cache.entry(f"guest-{line}", inputs, make)
    return BaseGuest(
        disk=entry / "disk.qcow2",
        line=line,
        kernel=(entry / "kernel").read_text().strip(),
        stands_for=stands_for,
        digest=entry.name.rpartition("-")[2],
    )


def hosts_text(regions: Sequence[str]) -> str:
    """The guest's /etc/hosts; the data endpoints' names are there in place of a VPC's private DNS."""
    endpoints = [f"{DATA_ENDPOINT_ADDRESS} guardduty-data.{region}.amazonaws.com" for region in sorted(regions)]
    return "\n".join(["127.0.0.1 localhost", "::1 localhost", *endpoints])


def kernel_release(root: Path) -> str:
    """Release of the kernel in a root's tar, e.g. 5.10.0-32-cloud-amd64."""
    names = run(["tar", "--list", "--file", root, "--wildcards", "./boot/vmlinuz-*"]).split()
    if len(names) != 1:
        raise MachineError(
            "the guest's root has not exactly one kernel",
            expected="one file /boot/vmlinuz-...",
            found=", ".join(names) or "none",
            where=str(root),
            remedy=f"remove {root.parent} and start again",
        )
    return names[0].partition("vmlinuz-")[2]


def finish_tree(folder: Path, settings: Mapping[str, str], phase: Phase) -> None:
    """Fill the file system in the disk's file, as root or in a user namespace that looks like it."""
    tree = folder / "tree"
    tree.mkdir()
    identity = [] if os.geteuid() == 0 else ["--map-auto", "--map-root-user"]
    size = DISK_BYTES // 1024 - PARTITION_START * SECTOR // 1024
    run_shown(
        [
            *("setpriv", "--pdeathsig", "KILL"),  # when we are killed the kernel ends it
            *("unshare", *identity, "--mount", "--pid", "--kill-child"),
            str(STANDINS / "guest" / "finish-tree.sh"),
        ],
        phase,
        env={
            **os.environ,
            **settings,
            "TREE": str(tree),
            "OFFSET": str(PARTITION_START * SECTOR),
            "SIZE_KIB": str(size),
        },
    )


def write_boot_sectors(raw: Path) -> None:
    """Make the disk's file with its partition table and GRUB; what `grub-install` needs root and a device for.

    The boot image already names sector 1 as where the core lies and the core's first sector names sector 2 for the
    rest, so putting them there is all it takes.
    """
    start = raw.with_name("grub-start.cfg")
    core = raw.with_name("grub-core.img")
    start.write_text(GRUB_START)
    run(["grub-mkimage", "-O", "i386-pc", "-p", "/boot/grub", "-c", start, "-o", core, *GRUB_MODULES])
    with raw.open("wb") as disk:
        disk.truncate(DISK_BYTES)
        disk.write(first_sector((GRUB / "boot.img").read_bytes()))
        disk.write(core_in_gap(core.read_bytes()))
    start.unlink()
    core.unlink()


def first_sector(boot_image: bytes) -> bytes:
    """GRUB's boot program with our partition table behind it: 512 bytes."""
    no_cylinders = b"\xfe\xff\xff"  # the old address form, for a place it cannot express
    entry = struct.pack(
        "<B3sB3sII",
        0x80,  # active
        no_cylinders,
        LINUX_PARTITION,
        no_cylinders,
        PARTITION_START,
        DISK_BYTES // SECTOR - PARTITION_START,
    )
    table = entry + bytes(3 * len(entry))
    return boot_image[:BOOT_CODE_BYTES] + struct.pack("<IH", DISK_SIGNATURE, 0) + table + b"\x55\xaa"


def core_in_gap(core: bytes) -> bytes:
    """The core as it is, if it fits between the first sector and the partition; raises MachineError."""
    room = (PARTITION_START - 1) * SECTOR
    if len(core) > room:
        raise MachineError(
            "GRUB's core does not fit in front of the partition",
            expected=f"at most {room} bytes",
            found=f"{len(core)} bytes",
            remedy="take modules out of GRUB_MODULES",
        )
    return core
