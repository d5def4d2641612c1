"""The base guest's disk: its first sectors, and that it starts under a plain QEMU without anything of ours."""

import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.cache import Cache
from pipeline.clock import SystemClock
from pipeline.errors import MachineError
from pipeline.process import run
from pipeline.progress import Progress
from pipeline.rehearsal.guest_image import BaseGuest, core_in_gap, ensure_base_guest, first_sector, hosts_text
from pipeline.rehearsal.guest_root import APT_PACKAGES
from pipeline.rehearsal.target import monthly_release
from pipeline.tools import ensure_apt_packages

BOOT_SECONDS = 600  # emulated, on a machine that runs other tests beside it


def test_the_first_sector_holds_the_boot_program_and_one_active_linux_partition() -> None:
    sector = first_sector(b"\xeb" * 512)

    assert len(sector) == 512
    assert sector[:440] == b"\xeb" * 440
    active, _, kind, _, start, sectors = struct.unpack("<B3sB3sII", sector[446:462])
    assert (active, kind, start, start + sectors) == (0x80, 0x83, 2048, 4 * 1024**3 // 512)
    assert sector[462:510] == bytes(48)
    assert sector[510:] == b"\x55\xaa"


def test_the_core_has_to_fit_in_front_of_the_partition() -> None:
    room = 2047 * 512
    assert core_in_gap(bytes(room)) == bytes(room)
    with pytest.raises(MachineError) as caught:
        core_in_gap(bytes(room + 1))
    assert str(caught.value) == (
        "GRUB's core does not fit in front of the partition\n"
        "  expected: at most 1048064 bytes\n"
        "  found:    1048065 bytes\n"
        "  do:       take modules out of GRUB_MODULES"
    )


def test_the_guest_knows_the_data_endpoint_of_every_region_by_its_private_name() -> None:
    assert hosts_text(["us-east-1", "eu-west-1"]).splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost",
        "169.254.0.12 guardduty-data.eu-west-1.amazonaws.com",
        "169.254.0.12 guardduty-data.us-east-1.amazonaws.com",
    ]


@pytest.fixture(scope="module")
def guest() -> BaseGuest:
    progress = Progress()
    ensure_apt_packages(APT_PACKAGES, progress)
    return ensure_base_guest(
        "al2", monthly_release(SystemClock().now().date()), Cache(paths.cache_root(), progress.say), progress
    )


@contextmanager
def serial_console(disk: Path, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start plain QEMU on a copy-on-write of the disk: no network, no smbios, the default disk controller."""
    overlay = folder / "overlay.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", disk, overlay])
    argv = ["qemu-system-x86_64", "-m", "768", "-nic", "none", "-display", "none", "-serial", "stdio"]
    with subprocess.Popen(
        ["timeout", str(BOOT_SECONDS), *argv, "-drive", f"file={overlay},format=qcow2"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as qemu:
        try:
            yield qemu
        finally:
            qemu.terminate()


@pytest.mark.slow
def test_the_disk_starts_by_itself_with_its_kernel_to_a_login_prompt(guest: BaseGuest, tmp_path: Path) -> None:
    said = ""
    with serial_console(guest.disk, tmp_path) as qemu:
        assert qemu.stdout is not None
        while "login: " not in said and (character := qemu.stdout.read(1)):
            said += character

    assert re.findall(r"Linux version (\S+)", said) == [guest.kernel]
    assert re.fullmatch(r"5\.10\.0-\d+-cloud-amd64", guest.kernel)
    assert "Ovenproof stand-in for Amazon Linux 2 (Debian 11)\n" in said
    assert f"Kernel {guest.kernel} on an x86_64" in said
    assert said.endswith("login: ")
    assert "FAILED" not in said
