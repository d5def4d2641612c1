"""The hardening rules: in, images/hardening.yaml and today's date; out, typed rules, their goss spec, their table.

Loading refuses unknown keys, rules that nothing applies or nothing checks, and waivers past their day.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from pipeline import paths
from pipeline.errors import CatalogError
from pipeline.yaml_file import StrictModel, load_yaml

HARDENING: Final = paths.IMAGES / "hardening.yaml"

Line = Literal["al2", "al2023"]
Kind = Literal["command", "file", "kernel-param", "matching", "mount", "service"]

# The attribute of each kind that says what is looked at, where the resource's own name does not (goss, "gossfile").
SUBJECT: Final[Mapping[str, str]] = {
    "file": "path",
    "kernel-param": "name",
    "mount": "mountpoint",
    "service": "name",
}


class Waiver(StrictModel):
    """Why a rule does not hold for now, and the last day of that."""

    reason: str
    until: date


class Rule(StrictModel):
    """One thing that is hardened. `check` holds goss's own attributes: kind, then name, then attributes."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: str
    cis: dict[Line, str] = Field(default_factory=dict)
    why: str
    applied: str
    risk: str
    remedy: str = ""
    needs: tuple[str, ...] = ()
    check: dict[Kind, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    waiver: Waiver | None = None

    @model_validator(mode="after")
    def _is_checked_or_waived(self) -> "Rule":
        if not self.check and not self.waiver:
            raise ValueError(f"the rule {self.id!r} has neither a check nor a waiver")
        return self

    @property
    def what_to_do(self) -> str:
        """The rule's own remedy, or the one that fits everything the image brought."""
        if self.remedy:
            return self.remedy
        changed = "find out what changed it after the bake"
        if self.applied.startswith("rootfs/"):
            changed = f"find out what overrides {self.applied.removeprefix('rootfs')}"
        return f"{changed}; a new instance has it right"


class Hardening(StrictModel):
    """All rules, in the order of the file."""

    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "Hardening":
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ValueError(f"the id {rule.id!r} is given twice")
            seen.add(rule.id)
        return self


def load_hardening(today: date, path: Path = HARDENING) -> Hardening:
    """The rules of `path`. Raises CatalogError with every fault: form, files that are not there, waivers run out."""
    hardening = load_yaml(path, Hardening)
    faults = [fault for rule in hardening.rules for fault in _faults(rule, today, path.parent)]
    if faults:
        raise CatalogError(
            f"{path.name} has {len(faults)} rule{'s' if len(faults) > 1 else ''} that cannot hold",
            expected="every waiver still open, every rule applied by a file under images/",
            found="\n".join(faults),
            where=str(path),
            remedy="apply the rule, or give its waiver a later day and a reason that is still true",
        )
    return hardening


def _faults(rule: Rule, today: date, images: Path) -> list[str]:
    faults = []
    if not (images / rule.applied).exists():
        faults.append(f"{rule.id}: applied by {rule.applied}, which is not there")
    if rule.waiver and rule.waiver.until < today:
        faults.append(f"{rule.id}: its waiver ended on {rule.waiver.until} ({rule.waiver.reason})")
    return faults


def goss_spec(hardening: Hardening, today: date) -> dict[str, dict[str, dict[str, Any]]]:
    """The goss spec of every rule that holds on `today`, ready to be written as JSON.

    Contents that begin with `fact:` are filled in by ovenproof-check, which also leaves out a rule whose `needs` are
    all absent from the machine.
    """
    spec: dict[str, dict[str, dict[str, Any]]] = {}
    for rule in hardening.rules:
        if is_waived(rule, today):
            continue
        about: dict[str, Any] = {"id": rule.id, "topic": "hardening", "remedy": rule.what_to_do, "cis": dict(rule.cis)}
        if rule.needs:
            about["needs"] = list(rule.needs)
        for kind, resources in rule.check.items():
            for name, attributes in resources.items():
                subject = {SUBJECT[kind]: name} if kind in SUBJECT else {}
                # Named after the rule, because two rules may look at one file and goss keeps one resource a name.
                spec.setdefault(kind, {})[f"{rule.id} {name}"] = {
                    **subject,
                    **_lists(attributes),
                    "title": f"{rule.title}: {name}",
                    "meta": about,
                }
    return spec


def is_waived(rule: Rule, today: date) -> bool:
    """Whether the rule does not hold on `today`."""
    return rule.waiver is not None and rule.waiver.until >= today


def _lists(value: Any) -> Any:
    """Frozen tuples as the lists that JSON and goss know."""
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple) else value
