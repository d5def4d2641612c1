"""What was found, on disk as it is found: in, results of shards; out, the same again after an interruption.

One line of JSON each: first what the survey is about, then a line for every shard that is done. A line cut off by a
kill is dropped. The summary and every output are read from here, so that memory does not grow with what is found.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from pipeline.diagnosis.model import ShardResult
from pipeline.errors import UsageError

FORMAT = 1


class Ledger:
    """The file of one survey."""

    def __init__(self, path: Path, head: Mapping[str, Any], done: frozenset[str]) -> None:
        self.path = path
        self.head = head
        self.done = done
        self._lock = Lock()

    @classmethod
    def begin(cls, path: Path, head: Mapping[str, Any]) -> "Ledger":
        """A new file; one of that name is replaced."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps({"format": FORMAT, **head}) + "\n")
        return cls(path, head, frozenset())

    @classmethod
    def resume(cls, path: Path) -> "Ledger":
        """Go on with a file that was begun. Raises UsageError when it is none of ours."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise UsageError(
                "the file to resume cannot be read",
                found=str(error),
                where=str(path),
                remedy="leave --resume out to begin anew",
            ) from error
        whole = raw[: raw.rfind(b"\n") + 1]
        try:
            first, *others = whole.decode("utf-8").splitlines()
            head = json.loads(first)
            if head["format"] != FORMAT:
                raise ValueError(f"format {head['format']}")
            done = frozenset(str(json.loads(line)["shard"]) for line in others)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                "this is no file of a coverage survey",
                expected="a file that an earlier ./run coverage --resume began",
                found=f"{type(error).__name__}: {error}",
                where=str(path),
                remedy="name another file, or delete it to begin anew",
            ) from error
        if len(whole) < len(raw):
            os.truncate(path, len(whole))
        return cls(path, head, done)

    def add(self, result: ShardResult) -> None:
        """Write a shard's result; it is on its way to the disk when this returns."""
        line = json.dumps(result.to_json(), separators=(",", ":")) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)

    def results(self) -> Iterator[ShardResult]:
        """Every shard's result, one at a time, in the order of the plan and not of the threads."""
        places: dict[str, int] = {}
        with self.path.open("rb") as stream:
            stream.readline()
            at = stream.tell()
            for line in stream:
                places[_shard_of(line)] = at
                at += len(line)
            for row in self.head["shards"]:
                if row["name"] in places:
                    stream.seek(places[row["name"]])
                    yield ShardResult.from_json(json.loads(stream.readline()))


def _shard_of(line: bytes) -> str:
    """The shard's name without reading the whole line: it is the first thing in it."""
    return str(json.JSONDecoder().raw_decode(line[: line.index(b",")].decode().partition(":")[2])[0])
