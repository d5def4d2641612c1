"""The decision table: in, the facts of one thing; out, every cause that a sign of `causes.yaml` betrays.

The table is data and this module is its only reader. It has no opinion: a cause is told when a text of GuardDuty
matches, or when facts that were seen hold, and never else.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.diagnosis.facts import TEXTS, Conditions, Facts, Resource
from pipeline.yaml_file import StrictModel, load_yaml

TABLE = Path(__file__).with_name("causes.yaml")

Level = Literal["organization", "account", "vpc", "cluster", "service", "host"]
Verdict = Literal["unhealthy", "excluded", "unsupported"]
Fix = Literal["enable-monitoring", "endpoint", "install-agent", "roll", "redeploy"]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]
LowerCase = Annotated[str, StringConstraints(min_length=1, to_lower=False, pattern=r"^[^A-Z]+$")]


class IssueText(StrictModel):
    """A text of GuardDuty by its parts, in lower case."""

    on: Annotated[tuple[Resource, ...], Field(min_length=1)]
    type: LowerCase | None = None
    message: tuple[LowerCase, ...] | None = None
    """Parts that must all be there; none at all means that the message is empty."""

    def matches(self, resource: Resource, issue: str) -> bool:
        """Whether this is what GuardDuty says, however it joins type and message."""
        if resource not in self.on:
            return False
        text = issue.lower()
        if self.type is not None and self.type not in text:
            return False
        if self.message == ():
            return not text.replace(self.type or "", "", 1).strip(" \t\n.:;-")
        return all(part in text for part in self.message or ())


class Sign(StrictModel):
    """One way to tell a cause: a text, or facts."""

    issue: IssueText | None = None
    when: Conditions | None = None
    unless: Conditions | None = None
    event: NonEmpty | None = None
    """The text as an EventBridge pattern, in the spelling of AWS's page; `*` stands for anything."""
    evidence: NonEmpty
    source: NonEmpty

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.issue is None) == (self.when is None):
            raise ValueError("a sign has either `issue` or `when`")
        if self.when is not None and not self.when.model_dump(exclude_none=True):
            raise ValueError("`when` names no fact, so it would always hold")
        if (self.issue is None) != (self.event is None):
            raise ValueError("a sign with `issue` has `event` too, and no other has")
        if self.event is not None and "**" in self.event:
            raise ValueError("EventBridge takes no two `*` in a row")
        _require_texts(self.evidence)
        return self


class Cause(StrictModel):
    """One reason why something is not covered; the fields are explained at the head of `causes.yaml`."""

    title: NonEmpty
    level: Level
    verdict: Verdict = "unhealthy"
    symptom: bool = False
    final: bool = False
    hides: tuple[str, ...] = ()
    remedy: NonEmpty
    fix: Fix | None = None
    options: str = ""
    signs: Annotated[tuple[Sign, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        _require_texts(self.remedy)
        if self.options and self.fix is None:
            raise ValueError("`options` are those of a command, and without `fix` there is none")
        return self


class Table(StrictModel):
    """The whole file."""

    causes: Annotated[Mapping[Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")], Cause], Field(min_length=1)]

    @model_validator(mode="after")
    def _hidden_ones_exist(self) -> Self:
        for name, cause in self.causes.items():
            if unknown := sorted(set(cause.hides) - set(self.causes)):
                raise ValueError(f"{name} hides {unknown[0]!r}, which is no cause")
        if "unrecognised" not in self.causes:
            raise ValueError("the cause 'unrecognised' is missing: texts that nobody knows need a place")
        return self


def _require_texts(template: str) -> None:
    names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if unknown := sorted(names - TEXTS):
        raise ValueError(f"{{{unknown[0]}}} is none of the texts of pipeline/diagnosis/facts.py")


@dataclass(frozen=True, slots=True)
class Hit:
    """A cause that applies, with what was seen and what to do, both filled in."""

    cause: str
    evidence: tuple[str, ...]
    remedy: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A sign made ready for many comparisons."""

    cause: str
    symptom: bool
    issue: IssueText | None
    when: tuple[tuple[str, str], ...]
    unless: tuple[tuple[str, str], ...]
    evidence: str


@cache
def causes() -> Mapping[str, Cause]:
    """The table, by id of the cause. Raises CatalogError when the file is wrong."""
    return read_table(TABLE)


def read_table(path: Path) -> Mapping[str, Cause]:
    """Read a decision table. Raises CatalogError with each fault's line and column."""
    return load_yaml(path, Table).causes


@cache
def _rows() -> tuple[_Row, ...]:
    def pairs(conditions: Conditions | None) -> tuple[tuple[str, str], ...]:
        return tuple(conditions.model_dump(exclude_none=True).items()) if conditions else ()

    return tuple(
        _Row(name, cause.symptom, sign.issue, pairs(sign.when), pairs(sign.unless), sign.evidence)
        for name, cause in causes().items()
        for sign in cause.signs
    )


MAY_BE_EMPTY = frozenset({"eks_only", "shared"})


class _Texts(dict[str, str]):
    """Texts for a template; what is not known is named as such."""

    def __missing__(self, key: str) -> str:
        return f"(unknown {key.replace('_', ' ')})"


def fill(template: str, texts: Mapping[str, str]) -> str:
    """A remedy or piece of evidence with its braces filled in."""
    return template.format_map(_Texts(texts))


IN_WORDS = {
    "id": "the host",
    "service": "the service",
    "cluster": "its cluster",
    "account": "its account",
    "region": "its region",
    "vpc": "its VPC",
    "vpc_owner": "which the text names",
    **dict.fromkeys(MAY_BE_EMPTY, ""),
}


def in_words(template: str) -> str:
    """A remedy where nothing is known of the thing but GuardDuty's text."""
    alone = re.sub(r"\b(account|region|cluster|service) (?=\{\1\})", "", template)
    return re.sub(r"\{(\w+)\}", lambda found: IN_WORDS.get(found[1], f"the {found[1].replace('_', ' ')}"), alone)


def left_open(template: str) -> str:
    """A remedy for several things, with a name in angle brackets where they differ."""
    shown = {"vpc_owner": "<owner>", **dict.fromkeys(MAY_BE_EMPTY, "")}
    return re.sub(r"\{(\w+)\}", lambda found: shown.get(found[1], f"<{found[1].replace('_', ' ')}>"), template)


def remedy_for(resource: Resource, issue: str) -> str:
    """What to do about a text of GuardDuty alone; nothing for a text that the table does not know."""
    hits = diagnose(Facts({}, {}, resource, (issue,)))
    return "" if hits[0].cause == "unrecognised" else in_words(causes()[hits[0].cause].remedy)


def diagnose(facts: Facts) -> tuple[Hit, ...]:
    """Every cause that applies, in the table's order; symptoms only where nothing tells why."""
    known = dict(facts.known)
    texts = dict.fromkeys(MAY_BE_EMPTY, "") | {key: value for key, value in facts.texts.items() if value}
    evidence: dict[str, list[str]] = {}
    recognised: set[str] = set()
    for row in _rows():
        if row.issue is not None:
            for issue in facts.issues:
                if row.issue.matches(facts.resource, issue):
                    recognised.add(issue)
                    evidence.setdefault(row.cause, []).append(fill(row.evidence, {**texts, "issue": issue}))
        elif all(known.get(name) == value for name, value in row.when) and not any(
            known.get(name) == value for name, value in row.unless
        ):
            evidence.setdefault(row.cause, []).append(fill(row.evidence, texts))
    if foreign := [issue for issue in facts.issues if issue not in recognised]:
        evidence["unrecognised"] = [f"GuardDuty: {issue}" for issue in foreign]
    table = causes()
    if final := [name for name in evidence if table[name].final]:
        evidence = {name: evidence[name] for name in final}
    hidden = {other for name in evidence for other in table[name].hides}
    evidence = {name: found for name, found in evidence.items() if name not in hidden}
    roots = {name for name in evidence if not table[name].symptom}
    told = {name for name in evidence if name in roots or not roots or name == "unrecognised"}
    return tuple(
        Hit(name, tuple(dict.fromkeys(evidence[name])), fill(table[name].remedy, texts))
        for name in table
        if name in told
    )


def verdict_of(hits: tuple[Hit, ...], *, listed: bool) -> Literal["unhealthy", "absent", "excluded", "unsupported"]:
    """What something that is not healthy is called."""
    verdicts = {causes()[hit.cause].verdict for hit in hits}
    if "unsupported" in verdicts:
        return "unsupported"
    if "excluded" in verdicts:
        return "excluded"
    return "unhealthy" if listed else "absent"
