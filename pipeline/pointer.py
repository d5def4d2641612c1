"""The one parameter that says which image is promoted: in, its history; out, what it says, said before, says next.

One SSM parameter of type `aws:ec2:image` a variant, flavour and region. SSM keeps up to a hundred versions with the
description each was written with; the description is where we say why, so the history alone tells the way back.
Source: Systems Manager API reference, PutParameter and GetParameterHistory; its user guide, "Native parameter
support for Amazon Machine Image IDs": SSM answers a write first and looks at the image afterwards.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import boto3

from pipeline.aws_errors import AWS_FAILURES, aws_errors, error_code
from pipeline.clock import Clock
from pipeline.errors import CloudError
from pipeline.wait import poll

Why = Literal["promoted", "back", "undone"]

_NOTE: Final = re.compile(r"(promoted|back|undone): bake (\S*?)(?:, from (ami-[0-9a-f]+))?(?:, by (.*))?")


@dataclass(frozen=True, kw_only=True)
class Note:
    """Why a version was written: `promoted`, `back` (a rollback) or `undone` (a promotion that failed elsewhere).

    `left` is the image that a rollback or an undo left behind.
    """

    why: Why
    bake_id: str
    left: str = ""
    by: str = ""

    def __str__(self) -> str:
        text = f"{self.why}: bake {self.bake_id}"
        text += f", from {self.left}" if self.left else ""
        return text + (f", by {self.by}" if self.by else "")

    @classmethod
    def parse(cls, text: str) -> "Note | None":
        """The note in a version's description; None when somebody else wrote it."""
        found = _NOTE.fullmatch(text)
        if found is None:
            return None
        why: Any = found[1]
        return cls(why=why, bake_id=found[2], left=found[3] or "", by=found[4] or "")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One version of the parameter."""

    version: int
    image_id: str
    at: datetime
    note: Note | None


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """A parameter in one region with its history, oldest version first; empty before the first promotion."""

    name: str
    region: str
    entries: tuple[Entry, ...]

    @property
    def current(self) -> Entry | None:
        """What it says now."""
        return self.entries[-1] if self.entries else None

    def ways_back(self) -> tuple[str, ...]:
        """Images that a rollback could still mean, the current one first: newest first, each once.

        An image that a rollback left is none, until somebody promotes it again. A version that was undone counts as
        never written, and so does the undoing.
        """
        kept: list[Entry] = []
        for entry in self.entries:
            undone = entry.note is not None and entry.note.why == "undone"
            if undone and len(kept) > 1 and kept[-2].image_id == entry.image_id:
                kept.pop()
            else:
                kept.append(entry)
        left: set[str] = set()
        for entry in kept:
            if entry.note and entry.note.left:
                left.add(entry.note.left)
            left.discard(entry.image_id)
        newest_first = [entry.image_id for entry in reversed(kept)]
        return tuple(dict.fromkeys(image for image in newest_first if image not in left))

    @property
    def previous(self) -> str | None:
        """The image to go back to, if there is one."""
        images = self.ways_back()
        return images[1] if len(images) > 1 else None


def read_pointer(session: boto3.Session, name: str) -> Pointer:
    """The parameter with its history, from the session's region. Raises CloudError when SSM does not answer."""
    ssm: Any = session.client("ssm")
    where = f"{name} in {session.region_name}"
    with aws_errors("the promoted image could not be looked up", where=where, remedy="allow ssm:GetParameterHistory"):
        try:
            pages = list(ssm.get_paginator("get_parameter_history").paginate(Name=name))
        except ssm.exceptions.ParameterNotFound:
            pages = []
    versions = [one for page in pages for one in page["Parameters"]]
    return Pointer(name=name, region=session.region_name, entries=_entries(versions))


def _entries(versions: Sequence[dict[str, Any]]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            version=one["Version"],
            image_id=one["Value"],
            at=one["LastModifiedDate"],
            note=Note.parse(one.get("Description", "")),
        )
        for one in sorted(versions, key=lambda one: int(one["Version"]))
    )


def write_pointer(
    session: boto3.Session,
    name: str,
    image_id: str,
    note: Note,
    *,
    clock: Clock,
    timeout_seconds: float,
    every_seconds: float,
) -> None:
    """Let the parameter say `image_id`, and wait until it does. Raises CloudError when it does not come to it."""
    ssm: Any = session.client("ssm")
    where = f"{name} in {session.region_name}"
    remedy = "allow ssm:PutParameter, ssm:GetParameter and ec2:DescribeImages; SSM looks the image up as the caller"
    with aws_errors("the promoted image could not be written down", where=where, remedy=remedy):
        ssm.put_parameter(
            Name=name, Value=image_id, Type="String", DataType="aws:ec2:image", Description=str(note), Overwrite=True
        )

    def value() -> str:
        try:
            return str(ssm.get_parameter(Name=name)["Parameter"]["Value"])
        except AWS_FAILURES as error:
            return error_code(error) or str(error)

    found = poll(
        value,
        lambda value: value == image_id,
        clock=clock,
        timeout_seconds=timeout_seconds,
        every_seconds=every_seconds,
    )
    if found != image_id:
        raise CloudError(
            "SSM took the promoted image, but the parameter does not say it",
            expected=image_id,
            found=found,
            where=where,
            remedy="SSM looks whether the image exists after it has answered; make sure that it is available there, "
            "then run the command again",
        )


def delete_pointer(session: boto3.Session, name: str) -> None:
    """Undo a parameter's first version. Raises CloudError."""
    with aws_errors(
        "a parameter that was just made could not be removed",
        where=f"{name} in {session.region_name}",
        remedy="allow ssm:DeleteParameter, or delete it by hand",
    ):
        session.client("ssm").delete_parameter(Name=name)
