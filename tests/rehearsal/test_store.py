"""Disks: what may be removed, what a crash leaves."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

from pipeline.cache import Cache
from pipeline.progress import Progress
from pipeline.rehearsal.store import (
    GIB,
    BaseRecord,
    Store,
    backing_of,
    disk_bytes,
    disks_stood_on,
    remember_local_root,
    removable,
    virtual_bytes,
)
from pipeline.rehearsal.target import prune_cache
from tests.rehearsal.conftest import Rehearsal
from tests.rehearsal.fake_machine import fake_overlay

REMOVABLE: list[tuple[str, Mapping[str, str], set[str], set[str], set[str]]] = [
    ("a registered image stays", {"a": ""}, {"a"}, set(), set()),
    ("nothing wants it", {"a": ""}, set(), set(), {"a"}),
    ("an instance stands on it", {"a": ""}, set(), {"a"}, set()),
    ("an image that stays stands on it", {"a": "", "b": "a"}, {"b"}, set(), set()),
    ("through several", {"a": "", "b": "a", "c": "b"}, set(), {"c"}, set()),
    ("only one that goes stands on it", {"a": "", "b": "a"}, set(), set(), {"a", "b"}),
    ("the middle goes with the end", {"a": "", "b": "a", "c": "b"}, {"a"}, set(), {"b", "c"}),
    ("a parent that is gone is nobody's need", {"b": "a"}, {"b"}, set(), set()),
]


@pytest.mark.parametrize(
    ("parents", "wanted", "in_use", "gone"), [case[1:] for case in REMOVABLE], ids=[case[0] for case in REMOVABLE]
)
def test_removable(parents: Mapping[str, str], wanted: set[str], in_use: set[str], gone: set[str]) -> None:
    assert removable(parents, wanted, in_use) == gone


def test_a_sweep_removes_what_a_crash_left_and_says_so(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    store = rehearsal.world.hosting.store
    instances = [folder.name for folder in store.instances.iterdir()]
    (store.images / ".ami-half").mkdir()
    (store.images / ".ami-half" / "disk.qcow2").touch()
    assert store.sweep() == [
        "removed the half-made image ami-half",
        *(f"removed the disk of instance {name}, whose daemon is gone" for name in instances),
    ]
    assert [record.image_id for record in store.records()] == [image_id]
    assert store.image_disk(image_id).exists()


def test_with_a_record_of_another_version_nothing_is_removed(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    store = rehearsal.world.hosting.store
    (store.images / image_id / "image.json").write_text('{"image_id": "?"}', encoding="utf-8")
    assert store.unreadable() == [store.images / image_id]
    assert store.collect(set()) == []
    assert store.image_disk(image_id).exists()


def test_base_guests_are_remembered_as_long_as_their_disk_is_there(rehearsal: Rehearsal) -> None:
    store, base = rehearsal.world.hosting.store, rehearsal.world.bases["al2"]
    assert store.known_bases() == [base]
    base.disk.unlink()
    assert store.known_bases() == []


def test_the_size_of_a_disk_comes_from_its_header(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    fake_overlay(disk, tmp_path, size_bytes=3 * GIB)
    assert virtual_bytes(disk) == 3 * GIB
    disk.write_bytes(b"something else, and longer than a header")
    with pytest.raises(ValueError, match=f"^{disk} is not a qcow2 file$"):
        virtual_bytes(disk)


def test_a_disk_that_is_not_there_takes_no_room(tmp_path: Path) -> None:
    assert disk_bytes(tmp_path / "none") == 0


def test_two_stores_see_the_same_folder(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    assert [record.image_id for record in Store(rehearsal.root).records()] == [image_id]


def qcow2(disk: Path, backing: str = "") -> Path:
    """The head of a qcow2 file that names its backing file, as qemu-img writes it."""
    disk.parent.mkdir(parents=True, exist_ok=True)
    place = 112 if backing else 0
    head = b"QFI\xfb" + (3).to_bytes(4, "big") + place.to_bytes(8, "big") + len(backing).to_bytes(4, "big")
    disk.write_bytes(head.ljust(112, b"\0") + backing.encode())
    return disk


def test_a_disk_names_the_one_it_stands_on(tmp_path: Path) -> None:
    assert backing_of(qcow2(tmp_path / "b", "/cache/guest/disk.qcow2")) == Path("/cache/guest/disk.qcow2")
    assert backing_of(qcow2(tmp_path / "c")) is None
    (tmp_path / "d").write_bytes(b"no disk")
    assert backing_of(tmp_path / "d") is None


def test_what_any_known_cloud_stands_on_is_in_use(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    clouds = [tmp_path / "one", cache / "local"]
    for number, root in enumerate(clouds):
        qcow2(root / "images" / f"ami-{number}" / "disk.qcow2", f"/cache/guest-{number}/disk.qcow2")
        qcow2(root / "instances" / "i-1" / "disk.qcow2", f"/cache/other-{number}/disk.qcow2")
        remember_local_root(cache, root)
        remember_local_root(cache, root)
    qcow2(tmp_path / "unknown" / "images" / "ami-9" / "disk.qcow2", "/cache/guest-9/disk.qcow2")
    base = BaseRecord(line="al2", disk=qcow2(tmp_path / "base"), digest="1", made=datetime.now(UTC))
    Store(clouds[0]).remember_base(base)
    remember_local_root(cache, tmp_path / "gone")

    assert {str(path) for path in disks_stood_on(cache)} == {
        "/cache/guest-0/disk.qcow2",
        "/cache/guest-1/disk.qcow2",
        "/cache/other-0/disk.qcow2",
        "/cache/other-1/disk.qcow2",
        str(tmp_path / "base"),
    }


def test_a_cache_that_knows_no_cloud_has_nothing_in_use(tmp_path: Path) -> None:
    assert disks_stood_on(tmp_path) == set()


def test_the_guest_under_a_local_image_outlives_newer_ones_and_replaced_tools_do_not(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    root = cache.root / "local"
    for age, version in enumerate(["3", "2", "1"]):
        for name in ("guest-al2", "tools"):
            entry = cache.entry(name, {"version": version}, lambda part: (part / "disk.qcow2").touch())
            os.utime(entry, (age, age))
    guest = cache.path("guest-al2", {"version": "3"})
    qcow2(root / "images" / "ami-1" / "disk.qcow2", f"{guest}/disk.qcow2")
    remember_local_root(cache.root, root)
    said = StringIO()

    prune_cache(cache, Progress(stream=said), datetime.now(UTC))

    assert sorted(path.name for path in cache.root.glob("[gt]*-*")) == sorted(
        path.name for path in (guest, *(cache.path(name, {"version": "1"}) for name in ("guest-al2", "tools")))
    )
    assert said.getvalue().count("GB): replaced, and no longer asked for") == 3
