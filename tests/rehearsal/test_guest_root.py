"""What the base guests' Debian is made with."""

import os
from pathlib import Path

import pytest

from pipeline.cache import Cache
from pipeline.errors import MachineError
from pipeline.rehearsal.guest_root import (
    GUESTS,
    PACKAGES,
    Mirrors,
    downloads_of,
    mirrors_in,
    mmdebstrap_argv,
    sources_list,
)


def test_packages_come_from_the_release_and_its_security_updates_both_signed_by_debian() -> None:
    mirrors = Mirrors(archive="http://mirror.example/debian/", security="http://mirror.example/security/")
    assert sources_list("bullseye", mirrors) == (
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian/ bullseye main\n"
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
        "http://mirror.example/security/ bullseye-security main\n"
    )


def test_mirrors_are_those_of_the_machines_own_apt() -> None:
    targets = (
        "https://other.example/apt/ Other Other\n"
        "http://mirror.example/security/ Debian Debian-Security\n"
        "http://mirror.example/debian/ Debian Debian\n"
        "http://second.example/debian/ Debian Debian\n"
    )
    assert mirrors_in(targets) == Mirrors(
        archive="http://mirror.example/debian/", security="http://mirror.example/security/"
    )


def test_an_apt_without_debians_mirrors_is_told_so() -> None:
    with pytest.raises(MachineError) as error:
        mirrors_in("https://other.example/apt/ Other Other\nhttp://new.example/debian/  \n")
    assert str(error.value) == (
        "this machine's apt names no mirror of Debian to make the guests from\n"
        "  expected: sources with the origin Debian and the labels Debian and Debian-Security\n"
        "  found:    Other Other: https://other.example/apt/\n"
        "            no origin: http://new.example/debian/\n"
        "  where:    apt-get indextargets\n"
        "  do:       run `apt-get update` once, or add Debian's own sources, and start again"
    )


def test_the_older_kernel_is_installed_and_the_newer_one_set_aside() -> None:
    argv = mmdebstrap_argv(GUESTS["al2"], Path("/hooks"), None, Path("/out/root.tar"), Path("/out/sources.list"))

    assert argv[:4] == ["mmdebstrap", "--mode=unshare", "--variant=minbase", "--format=tar"]
    assert f"--include=linux-image-cloud-amd64/bullseye,{','.join(PACKAGES)}" in argv
    assert '--customize-hook=/hooks/set-update-kernel-aside.sh "$1" linux-image-cloud-amd64 update-kernel' in argv
    assert argv[-3:] == ["bullseye", "/out/root.tar", "/out/sources.list"]


def test_downloads_go_straight_to_a_folder_that_outlives_the_build() -> None:
    kept = mmdebstrap_argv(GUESTS["al2023"], Path("/a b"), Path("/kept"), Path("t"), Path("s"))
    not_kept = mmdebstrap_argv(GUESTS["al2023"], Path("/a b"), None, Path("t"), Path("s"))

    assert [word for word in kept if word not in not_kept] == [
        """--setup-hook=BIND=/kept '/a b'/keep-downloads.sh "$1\""""
    ]


@pytest.mark.parametrize(("user", "folder"), [(0, "downloads/bullseye"), (1000, None)])
def test_only_root_keeps_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, folder: str | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)

    assert downloads_of(GUESTS["al2"], Cache(tmp_path)) == (folder and tmp_path / folder)
