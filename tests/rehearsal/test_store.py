"""Disks: what may be removed, what a crash leaves."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.rehearsal.store import GIB, Store, disk_bytes, removable, virtual_bytes
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
