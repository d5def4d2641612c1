"""Which of two package versions is the older, by the package manager's own rules.

Sources: rpm's manual, "rpm-version" (epoch:version-release, segments, `~` and `^`); Debian policy, section 5.6.12.
"""

import re
from itertools import zip_longest
from typing import Literal


def is_older(kind: str, one: str, other: str) -> bool:
    """Whether version `one` is older than `other`; `kind` is `rpm` or `deb`."""
    return _compare(one, other, "rpm" if kind == "rpm" else "deb") < 0


def _compare(one: str, other: str, kind: Literal["rpm", "deb"]) -> int:
    parts = _compare_rpm_part if kind == "rpm" else _compare_deb_part
    (epoch_one, version_one, release_one), (epoch_other, version_other, release_other) = _split(one), _split(other)
    if epoch_one != epoch_other:
        return -1 if epoch_one < epoch_other else 1
    return parts(version_one, version_other) or parts(release_one, release_other)


def _split(text: str) -> tuple[int, str, str]:
    """Epoch, version, release; the release follows the last hyphen."""
    epoch, colon, rest = text.partition(":")
    if not (colon and epoch.isdigit()):
        epoch, rest = "0", text
    version, hyphen, release = rest.rpartition("-")
    return int(epoch), version if hyphen else rest, release if hyphen else ""


def _compare_rpm_part(one: str, other: str) -> int:
    """Runs of digits or letters, separators ignored; `~` sorts before the end, `^` after it but before a run."""
    pattern = re.compile(r"\d+|[A-Za-z]+|~|\^")
    for left, right in zip_longest(pattern.findall(one), pattern.findall(other), fillvalue=""):
        if left != right and (difference := _rank(left) - _rank(right) or _within(left, right)):
            return -1 if difference < 0 else 1
    return 0


def _rank(run: str) -> int:
    if run in ("~", "", "^"):
        return ("~", "", "^").index(run)
    return 4 if run.isdigit() else 3


def _within(left: str, right: str) -> int:
    """Two runs of the same kind: numbers by value, letters by code."""
    if left.isdigit():
        return int(left) - int(right)
    return (left > right) - (left < right)


def _compare_deb_part(one: str, other: str) -> int:
    """By turns a run without digits, where `~` sorts before the end and letters before the rest, and a number."""
    pattern = re.compile(r"(\D*)(\d*)")
    for left, right in zip_longest(pattern.findall(one), pattern.findall(other), fillvalue=("", "")):
        for a, b in zip_longest(left[0], right[0], fillvalue=""):
            if a != b:
                return -1 if _deb_rank(a) < _deb_rank(b) else 1
        if (difference := int(left[1] or 0) - int(right[1] or 0)) != 0:
            return -1 if difference < 0 else 1
    return 0


def _deb_rank(char: str) -> int:
    if char == "~":
        return -1
    if char == "":
        return 0
    return ord(char) if char.isalpha() else ord(char) + 256
