"""Slow things are made once and kept under a digest of what they are made from.

In: a name, the inputs as text, and a function that fills an empty directory. Out: the finished directory.
An entry exists only when it is complete, so a kill or a power cut at any moment costs time and nothing else.

What a newer entry has replaced stays for a while, as another checkout may ask for it; then `Cache.prune` removes it.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

DIGEST_LENGTH = 12
KEPT_UNUSED: Final = timedelta(days=14)
"""How long an entry that was replaced may go unused before `Cache.prune` removes it."""

ENTRY = re.compile(rf"(.+)-[0-9a-f]{{{DIGEST_LENGTH}}}")
OF_OTHERS: Final = frozenset({"venv"})
"""What lies in the same folder, is named alike, and is made by `run`: a process may live from it for weeks."""


def say_on_stderr(text: str) -> None:
    """One line for the person who waits; `Progress.say` is the one that knows about a live display."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Cache:
    """Directories `<root>/<name>-<digest>`, each made once, whoever asks first."""

    def __init__(self, root: Path, say: Callable[[str], None] = say_on_stderr) -> None:
        self.root = root
        self._say = say

    def path(self, name: str, inputs: Mapping[str, str]) -> Path:
        """Where the entry is, or will be; `is_dir()` tells whether it is there already."""
        text = json.dumps([name, dict(inputs)], sort_keys=True)
        return self.root / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]}"

    def entry(self, name: str, inputs: Mapping[str, str], make: Callable[[Path], None]) -> Path:
        """Return the entry's directory; when it is missing, have `make` fill it first.

        `inputs` holds everything the content depends on: a version, a digest, a flag each. `make` gets an empty
        directory beside the final one and must not remember its path, because it is renamed when `make` returns.
        Whatever `make` raises goes through, and leaves no entry. While another process or thread makes the same
        entry this one says so and waits for it.
        """
        final = self.path(name, inputs)
        if _is_used_now(final):
            return final
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f".{final.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._say(f"{name} is being made by another start of Ovenproof; waiting for it")
            lock.acquire()
        try:
            if not final.is_dir():
                self._make(final, make)
        finally:
            lock.release()
        return final

    def prune(self, in_use: Collection[Path], now: datetime) -> list[tuple[str, int]]:
        """Remove what nothing will ask for again; return each name removed and the bytes it occupied.

        That is what a killed start left half made, and each entry that a newer one of its name has replaced, that was
        not asked for within `KEPT_UNUSED` of `now`, and in which none of the paths `in_use` lies. What another
        process is making or waiting for stays: its lock says so.
        """
        ages: dict[str, list[tuple[float, Path]]] = {}
        for path in self.root.glob(f"*-{'[0-9a-f]' * DIGEST_LENGTH}"):
            named = ENTRY.fullmatch(path.name)
            if named and named[1] not in OF_OTHERS and path.is_dir():
                ages.setdefault(named[1], []).append((path.stat().st_mtime, path))
        needed = {path.resolve() for path in in_use}
        oldest = (now - KEPT_UNUSED).timestamp()
        removed = []
        for entries in ages.values():
            *replaced, _newest = sorted(entries)
            for used, path in replaced:
                if used < oldest and not any(one.is_relative_to(path.resolve()) for one in needed):
                    removed += self._remove(path)
        for part in self.root.glob(".*.part"):
            removed += self._remove(self.root / part.name[1:].removesuffix(".part"))
        return sorted(removed)

    def _remove(self, final: Path) -> list[tuple[str, int]]:
        """Remove an entry, half made or whole, unless somebody holds its lock. It is whole or absent at any moment."""
        lock = FileLock(self.root / f".{final.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return []
        try:
            part = _part_of(final)
            if part.exists():
                final = part
            else:
                final.rename(part)
            occupied = _occupied(part)
            shutil.rmtree(part)
        finally:
            lock.release()
        return [(final.name, occupied)]

    def _make(self, final: Path, make: Callable[[Path], None]) -> None:
        part = _part_of(final)
        if part.exists():  # left by a kill; its lock died with it
            shutil.rmtree(part)
        part.mkdir()
        try:
            make(part)
            # Bytes reach the disk before the rename does, or a power cut could leave an entry that only looks complete.
            # One sync for all: an fsync for each of a Go toolchain's 11,000 files takes twenty seconds.
            os.sync()
            part.rename(final)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _part_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.part")


def _is_used_now(entry: Path) -> bool:
    """Whether the entry is there; its time of change then says when it was asked for last."""
    try:
        os.utime(entry)
    except FileNotFoundError:
        return False
    except OSError:  # a cache that somebody else owns can be read all the same
        return entry.is_dir()
    return True


def _occupied(folder: Path) -> int:
    """Bytes that the files below really take from the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def digest_tree(paths: Iterable[Path]) -> str:
    """SHA-256 (64 hex digits) over the names, modes and bytes of files and of everything below directories.

    Only what a git checkout keeps counts: a name is relative to the given path's parent, a mode is "executable" or
    not, a symbolic link is its target, an empty directory is nothing. So two clones in two places, made under two
    umasks, agree. Python's `__pycache__` is left out. Raises OSError when a path is missing or unreadable.
    """
    lines = [
        f"{_kind(file)} {_content_digest(file)} {file.relative_to(path.parent)}"
        for path in paths
        for file in _files(path)
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for child in path.iterdir():
        if child.name != "__pycache__":
            yield from _files(child)


def _kind(file: Path) -> str:
    if file.is_symlink():
        return "link"
    return "program" if file.stat().st_mode & 0o100 else "file"


def _content_digest(file: Path) -> str:
    if file.is_symlink():
        return hashlib.sha256(bytes(file.readlink())).hexdigest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
