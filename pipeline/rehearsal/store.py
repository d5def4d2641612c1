"""Disks of the local cloud: images that stay, instance disks that do not.

In:  a folder (`paths.local_root()`), disks of base guests, disks that instances leave behind.
Out: images as `images/<ami-id>/{disk.qcow2,image.json}` and instance disks as `instances/<id>/disk.qcow2`.

Every disk is a qcow2 overlay on the one it came from, so launching and imaging cost the same whatever the size.
An image is complete or absent: it is put together in a folder whose name starts with a dot and renamed at the end.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.process import run

Line = Literal["al2", "al2023"]
GIB = 1024**3
BASES = "bases"
LOCAL_ROOTS = ".local-roots"  # in the cache's folder: a symbolic link to each local cloud's

# 4 KiB is the guest's block size: with subclusters of that size the first write to a block copies nothing around it.
OVERLAY_OPTIONS = "cluster_size=128k,extended_l2=on"


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Volume(Record):
    """The root volume as EC2 shows it in a block device mapping."""

    size_gib: int
    type: str
    encrypted: bool
    kms_key_id: str | None = None
    delete_on_termination: bool = True


class ImageRecord(Record):
    """`image.json`: what DescribeImages and DescribeSnapshots have to tell again after a restart."""

    image_id: str
    region: str
    name: str
    description: str
    created: datetime
    architecture: str
    root_device_name: str
    virtualization_type: str
    source_instance_id: str
    source_image_id: str
    source_image_name: str
    parent: str  # image whose disk backs this one; "" for a base guest's
    volume: Volume
    snapshot_id: str
    imds_support: str | None = None
    deprecation_time: datetime | None = None
    deregistration_protection: str = "disabled"
    tags: dict[str, str] = Field(default_factory=dict)
    snapshot_tags: dict[str, str] = Field(default_factory=dict)
    launch_permissions: tuple[dict[str, str], ...] = ()
    volume_permissions: tuple[str, ...] = ()  # accounts that may make volumes of the snapshot
    source_region: str = ""  # of the image that this is a copy of; "" when it was made from an instance
    client_token: str = ""
    available_at: datetime | None = None  # pending until then
    disabled: bool = False
    last_launched: datetime | None = None
    registered: bool = True
    snapshot_exists: bool = True

    @property
    def wanted(self) -> bool:
        """Whether anybody can still ask for the disk by a name of EC2's."""
        return self.registered or self.snapshot_exists


class ParameterVersion(Record):
    """One version of an SSM parameter that a user put; the last of a name is its value."""

    name: str
    value: str
    type: str
    data_type: str
    description: str | None
    version: int
    modified: datetime


class BaseRecord(Record):
    """A base guest that was made: the stand-in for an upstream image."""

    line: Line
    disk: Path
    digest: str
    made: datetime


def removable(parents: Mapping[str, str], wanted: Collection[str], in_use: Collection[str]) -> set[str]:
    """Images whose disk nothing needs: not wanted, backing no instance (`in_use`) and no image that stays.

    `parents` gives for each image the image its disk is backed by, "" for none.
    """
    needed = set(wanted) | set(in_use)
    frontier = list(needed)
    while frontier:
        parent = parents.get(frontier.pop(), "")
        if parent and parent not in needed:
            needed.add(parent)
            frontier.append(parent)
    return set(parents) - needed


def disk_bytes(path: Path) -> int:
    """Bytes the file really occupies; 0 when it is not there."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def make_overlay(path: Path, backing: Path, *, size_bytes: int, backing_exists: bool = True) -> None:
    """Create a disk that reads from `backing` until it is written."""
    run(
        [
            *("qemu-img", "create", "-q", "-f", "qcow2", "-o", OVERLAY_OPTIONS),
            *("-F", "qcow2", "-b", backing, *(() if backing_exists else ("-u",))),
            *(path, str(size_bytes)),
        ],
        remedy="install qemu-utils",
    )


def virtual_bytes(disk: Path) -> int:
    """The size of the disk as a guest sees it, from the qcow2 header (bytes 24 to 31, docs/interop/qcow2.txt)."""
    with disk.open("rb") as file:
        header = file.read(32)
    if header[:4] != b"QFI\xfb":
        raise ValueError(f"{disk} is not a qcow2 file")
    return int.from_bytes(header[24:32], "big")


def backing_of(disk: Path) -> Path | None:
    """The disk that this one reads from where it was not written, from the qcow2 header (bytes 8 to 19)."""
    with disk.open("rb") as file:
        header = file.read(20)
        offset, size = int.from_bytes(header[8:16], "big"), int.from_bytes(header[16:20], "big")
        if header[:4] != b"QFI\xfb" or not offset:
            return None
        file.seek(offset)
        return Path(os.fsdecode(file.read(size)))


def remember_local_root(cache: Path, root: Path) -> None:
    """Note in the cache that the disks of the local cloud in `root` may stand on disks of the cache."""
    root = root.resolve()
    link = cache / LOCAL_ROOTS / hashlib.sha256(bytes(root)).hexdigest()[:12]
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(root)


def disks_stood_on(cache: Path) -> set[Path]:
    """What the disks of every local cloud known to the cache are backed by, and each one's base guests.

    A folder that is not there now may come back, so it is not forgotten.
    """
    found = set()
    for root in (cache / LOCAL_ROOTS).glob("*/"):
        for disk in (*root.glob("images/*/disk.qcow2"), *root.glob("instances/*/disk.qcow2")):
            with contextlib.suppress(FileNotFoundError):  # an instance that ended meanwhile
                found.add(backing_of(disk))
        found |= {base.disk for base in _bases_in(root / BASES)}
    return {path for path in found if path}


def _bases_in(folder: Path) -> list[BaseRecord]:
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(ValidationError):
            base = BaseRecord.model_validate_json(path.read_text(encoding="utf-8"))
            if base.disk.exists():
                found.append(base)
    return found


class MakeOverlay(Protocol):
    def __call__(self, path: Path, backing: Path, *, size_bytes: int, backing_exists: bool = True) -> None: ...


class Store:
    """The folder of disks. Callers hold the cloud's lock; nothing here blocks for long."""

    def __init__(self, root: Path, *, make_overlay: MakeOverlay = make_overlay) -> None:
        self.make_overlay = make_overlay
        self.images = root / "images"
        self.instances = root / "instances"
        self.bases = root / BASES
        self.parameters = root / "parameters"
        for folder in (self.images, self.instances, self.bases, self.parameters):
            folder.mkdir(parents=True, exist_ok=True)

    # Instances

    def instance_folder(self, instance_id: str) -> Path:
        return self.instances / instance_id

    def instance_disk(self, instance_id: str) -> Path:
        return self.instance_folder(instance_id) / "disk.qcow2"

    def make_instance_disk(self, instance_id: str, backing: Path, size_gib: int) -> Path:
        disk = self.instance_disk(instance_id)
        disk.parent.mkdir(parents=True, exist_ok=True)
        self.make_overlay(disk, backing, size_bytes=max(size_gib * GIB, virtual_bytes(backing)))
        return disk

    def drop_instance_disk(self, instance_id: str) -> None:
        """Remove the disk; the console log stays, as GetConsoleOutput still answers for a while in EC2."""
        self.instance_disk(instance_id).unlink(missing_ok=True)

    def drop_instance(self, instance_id: str) -> None:
        shutil.rmtree(self.instance_folder(instance_id), ignore_errors=True)

    # Images

    def image_disk(self, image_id: str) -> Path:
        return self.images / image_id / "disk.qcow2"

    def add_image(self, record: ImageRecord, disk: Path) -> Path:
        """Make `disk` the image's by renaming it; return where it is now. The caller gives its owner a new one."""
        draft = self.images / f".{record.image_id}"
        draft.mkdir()
        self._write(draft / "image.json", record)
        disk.rename(draft / "disk.qcow2")
        draft.rename(self.images / record.image_id)
        return self.image_disk(record.image_id)

    def copy_image(self, record: ImageRecord, source_id: str) -> None:
        """Let a new image have the disk of another: a second name for the same file, which nobody ever writes to."""
        draft = self.images / f".{record.image_id}"
        draft.mkdir()
        self._write(draft / "image.json", record)
        (draft / "disk.qcow2").hardlink_to(self.image_disk(source_id))
        draft.rename(self.images / record.image_id)

    def update_image(self, record: ImageRecord) -> None:
        self._write(self.images / record.image_id / "image.json", record)

    def records(self) -> Iterator[ImageRecord]:
        """Every image there is, complete ones only."""
        for path in sorted(self.images.glob("ami-*/image.json")):
            with contextlib.suppress(ValidationError):  # written by another version: shown by `unreadable`
                yield ImageRecord.model_validate_json(path.read_text(encoding="utf-8"))

    def unreadable(self) -> list[Path]:
        """Image folders whose record this version cannot read."""
        known = {record.image_id for record in self.records()}
        return [path for path in sorted(self.images.glob("ami-*")) if path.name not in known]

    def collect(self, in_use: Collection[str]) -> list[str]:
        """Remove what nothing needs (see `removable`); return the ids removed. Unreadable images stay, with
        everything, because what they are backed by is unknown."""
        if self.unreadable():
            return []
        records = list(self.records())
        gone = removable(
            {record.image_id: record.parent for record in records},
            {record.image_id for record in records if record.wanted},
            in_use,
        )
        for image_id in sorted(gone):
            shutil.rmtree(self.images / image_id)
        return sorted(gone)

    # Parameters

    def save_parameters(self, region: str, versions: Sequence[ParameterVersion]) -> None:
        """Replace what is kept of a region's parameters."""
        path = self.parameters / f"{region}.json"
        draft = path.with_name(f".{path.name}")
        draft.write_bytes(TypeAdapter(list[ParameterVersion]).dump_json(list(versions), indent=2))
        draft.rename(path)

    def known_parameters(self, region: str) -> list[ParameterVersion]:
        """Every version of every parameter of a region, in the order of saving."""
        path = self.parameters / f"{region}.json"
        return TypeAdapter(list[ParameterVersion]).validate_json(path.read_bytes()) if path.exists() else []

    # Base guests

    def remember_base(self, base: BaseRecord) -> None:
        self._write(self.bases / f"{base.line}.json", base)

    def known_bases(self) -> list[BaseRecord]:
        """Base guests told of earlier whose disk is still there."""
        return _bases_in(self.bases)

    # All of it

    def sweep(self) -> list[str]:
        """Remove what a crash left: half-made images and disks of instances that no longer run. Says what."""
        said = []
        for draft in sorted(self.images.glob(".*")):
            shutil.rmtree(draft)
            said.append(f"removed the half-made image {draft.name[1:]}")
        for folder in sorted(self.instances.iterdir()):
            shutil.rmtree(folder)
            said.append(f"removed the disk of instance {folder.name}, whose daemon is gone")
        said += [f"removed the disk of image {image}, which nothing needs" for image in self.collect(set())]
        return said

    @staticmethod
    def _write(path: Path, record: Record) -> None:
        draft = path.with_name(f".{path.name}")
        draft.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.rename(path)
