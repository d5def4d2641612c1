"""Slow things are made once and kept under a digest of what they are made from.

In: a name, the inputs as text, and a function that fills an empty directory. Out: the finished directory.
An entry exists only when it is complete, so a kill or a power cut at any moment costs time and nothing else.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

DIGEST_LENGTH = 12


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
        if final.is_dir():
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

    def _make(self, final: Path, make: Callable[[Path], None]) -> None:
        part = final.with_name(f".{final.name}.part")
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
