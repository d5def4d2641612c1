"""Bake or not, and why: in, what a bake would be made of and what the last proven one was made of; out, a decision.

What a bake is made of are its *inputs*, each by a name that a person knows: a version, an id, a setting, a file's
digest. A *lock*, one file per variant and flavour, holds the inputs of the last bake that proved itself.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from pipeline import paths
from pipeline.base import Base
from pipeline.cache import digest_tree
from pipeline.catalog import Catalog, TargetName, VariantSelection
from pipeline.errors import CatalogError
from pipeline.render import TemplateContext, render
from pipeline.whole_file import write_whole
from pipeline.yaml_file import StrictModel

SHOWN_DIGEST: Final = 12


class BakeInputs(StrictModel):
    """Everything that decides what comes out of a bake; equal inputs make an equal image, up to the packages that
    the repositories hold on the day."""

    variant: str
    flavour: str
    target: TargetName
    region: str
    base_id: str
    base_name: str
    agent_version: str
    agent_fingerprint: str
    agent_url: str
    settings: Mapping[str, str] = Field(description="what the template is rendered with, and other builder settings")
    tools: Mapping[str, str] = Field(description="versions of Packer, its plugin and goss")
    files: Mapping[str, str] = Field(description="SHA-256 of each file that goes into a bake, by path in the checkout")
    stand_ins: Mapping[str, str] = Field(description="digest of each part that a local bake puts for a real one")
    rendered_template: str = Field(description="SHA-256 of the Packer template as it would be run")

    def digest(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


# Inputs with a field, or a place in `files`, of their own; the template's context would name them twice.
_NAMED_ELSEWHERE: Final = frozenset({"variant", "slug", "agent_version", "scripts"})


def collect_inputs(
    *,
    catalog: Catalog,
    selection: VariantSelection,
    target: TargetName,
    region: str,
    base: Base,
    agent_url: str,
    agent_fingerprint: str,
    context: TemplateContext,
    tools: Mapping[str, str],
    files: Mapping[str, str],
    stand_ins: Mapping[str, str],
) -> BakeInputs:
    """Name what a bake of `selection` would be made of. Nothing is looked up here.

    `files` comes from `digest_files`, `stand_ins` from the target (part to digest; empty in AWS), `tools` are
    versions by name. Raises CatalogError if the template cannot be rendered.
    """
    settings = {
        name: text
        for name, text in _flat(context)
        if name.split(".")[0] not in _NAMED_ELSEWHERE and text not in ("", "None")
    }
    settings["deprecate_after_days"] = str(catalog.policies.deprecate_after_days)
    return BakeInputs(
        variant=selection.variant_name,
        flavour=selection.flavour_name,
        target=target,
        region=region,
        base_id=base.id,
        base_name=base.name,
        agent_version=catalog.agent.version,
        agent_fingerprint=agent_fingerprint,
        agent_url=agent_url,
        settings=dict(sorted(settings.items())),
        tools=dict(sorted(tools.items())),
        files=dict(sorted(files.items())),
        stand_ins=dict(sorted(stand_ins.items())),
        rendered_template=hashlib.sha256(render(context).encode()).hexdigest(),
    )


def digest_files(images: Path = paths.IMAGES) -> dict[str, str]:
    """SHA-256 of every file under `images/`, mode included, by its path from the checkout.

    The catalog is left out: of it, only the values that reach this variant count, and they are inputs by name.
    """
    return {
        str(file.relative_to(images.parent)): digest_tree([file])
        for file in sorted(images.rglob("*"))
        if (file.is_file() or file.is_symlink()) and file.name != "catalog.yaml" and "__pycache__" not in file.parts
    }


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """A value of values as `a.b` and text, in order of the fields."""
    if is_dataclass(value):
        pairs: Sequence[tuple[str, Any]] = [(field.name, getattr(value, field.name)) for field in fields(value)]
    elif isinstance(value, BaseModel):
        pairs = [(name, getattr(value, name)) for name in type(value).model_fields]
    elif isinstance(value, Mapping):
        pairs = sorted(value.items())
    elif isinstance(value, tuple):
        yield path, ", ".join(str(item) for item in value)
        return
    else:
        yield path, str(value)
        return
    for name, item in pairs:
        yield from _flat(item, f"{path}.{name}" if path else name)


class Lock(StrictModel):
    """What the last proven bake of a variant and flavour was made of, and what came out."""

    schema_version: Literal[1] = 1
    bake_id: str
    proven_at: datetime
    images: Mapping[str, str] = Field(description="image id by region")
    record: str = Field(description="the record's file, from the folder of records")
    inputs: BakeInputs


def lock_path(locks: Path, selection: VariantSelection) -> Path:
    """The lock's file in a target's folder of locks."""
    return locks / f"{selection.slug}.json"


def read_lock(path: Path) -> Lock | None:
    """The lock, or None before the first proven bake. Raises CatalogError when the file is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return Lock.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CatalogError(
            "a lock cannot be read",
            expected="what Ovenproof wrote after the last proven bake",
            found=f"{' > '.join(map(str, first['loc'])) or 'the file'}: {first['msg']}",
            where=str(path),
            remedy="restore the file from git, or delete it: the next `./run build-image` bakes and writes it anew",
        ) from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replace the lock in one step."""
    write_whole(path, lock.model_dump_json(indent=2) + "\n")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One reason to bake: an input that is another one now. `old` and `new` are empty where only the fact counts."""

    what: str
    old: str = ""
    new: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.old} -> {self.new}" if self.old or self.new else self.what


NEVER_BAKED: Final = Change(what="never baked and proven here")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether to bake, and each reason for it; without a reason there is no bake."""

    bake: bool
    reasons: tuple[Change, ...]


def decide(inputs: BakeInputs, lock: Lock | None, *, image_exists: bool, force: bool) -> Decision:
    """Bake if anything differs from the last proven bake, if its image is gone, or if told to.

    `image_exists` is whether every image of the lock is still there; without a lock it means nothing.
    """
    if lock is None:
        reasons = [NEVER_BAKED]
    else:
        reasons = list(changes(lock.inputs, inputs))
        if not image_exists:
            gone = ", ".join(f"{image} in {region}" for region, image in sorted(lock.images.items()))
            reasons.append(Change(what=f"the image of the last bake is gone ({gone})"))
    if force:
        reasons.append(Change(what="asked for with --force"))
    return Decision(bake=bool(reasons), reasons=tuple(reasons))


def changes(old: BakeInputs, new: BakeInputs) -> tuple[Change, ...]:
    """Every input that differs, by the name a person knows it by."""
    found = [
        Change(what=what, old=getattr(old, name), new=getattr(new, name))
        for name, what in (
            ("variant", "variant"),
            ("flavour", "flavour"),
            ("target", "target"),
            ("region", "region"),
            ("agent_version", "agent version"),
            ("agent_fingerprint", "agent key"),
            ("agent_url", "agent source"),
        )
        if getattr(old, name) != getattr(new, name)
    ]
    if (old.base_id, old.base_name) != (new.base_id, new.base_name):
        found.append(
            Change(what="base", old=f"{old.base_id} ({old.base_name})", new=f"{new.base_id} ({new.base_name})")
        )
    found += _value_changes("tool", old.tools, new.tools)
    found += _value_changes("setting", old.settings, new.settings)
    found += _file_changes(old.files, new.files)
    found += _value_changes("stand-in", old.stand_ins, new.stand_ins)
    if not found and old.rendered_template != new.rendered_template:
        # With any other change this is its consequence; alone, the rendering itself has changed.
        found.append(
            Change(
                what="rendered template",
                old=old.rendered_template[:SHOWN_DIGEST],
                new=new.rendered_template[:SHOWN_DIGEST],
            )
        )
    return tuple(found)


def _value_changes(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    return [
        Change(what=f"{kind} {name}", old=_shown(old.get(name)), new=_shown(new.get(name)))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _shown(value: str | None) -> str:
    if value is None:
        return "none"
    is_digest = len(value) == 64 and all(char in "0123456789abcdef" for char in value)
    return value[:SHOWN_DIGEST] if is_digest else value


def _file_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    found = []
    for path in sorted({*old, *new}):
        if path not in old:
            found.append(Change(what=f"{_file_kind(path)} added"))
        elif path not in new:
            found.append(Change(what=f"{_file_kind(path)} removed"))
        elif old[path] != new[path]:
            found.append(Change(what=f"{_file_kind(path)} changed"))
    return found


def _file_kind(path: str) -> str:
    """`images/provision/30-x.sh` as `provision script 30-x.sh`; a reader looks for the kind first."""
    for folder, kind in (
        ("images/provision/", "provision script "),
        ("images/rootfs/", "file of the image /"),
        ("images/checks/", "check "),
    ):
        if path.startswith(folder):
            return kind + path.removeprefix(folder)
    return path


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One variant and flavour in the plan. `problem` is why it cannot be planned (no base, a policy), else empty."""

    name: str
    decision: Decision | None
    lock: Lock | None
    warnings: tuple[str, ...] = ()
    problem: str = ""

    @property
    def verdict(self) -> str:
        """`bake`, `up to date` or `refused`."""
        if self.decision is None:
            return "refused"
        return "bake" if self.decision.bake else "up to date"

    @property
    def details(self) -> tuple[str, ...]:
        """The reasons, or what there is already, then warnings."""
        if self.decision is None:
            lines: tuple[str, ...] = tuple(self.problem.splitlines())
        elif self.decision.bake:
            lines = tuple(str(reason) for reason in self.decision.reasons)
        elif self.lock is not None:
            images = ", ".join(self.lock.images.values())
            lines = (f"{images}, proven {self.lock.proven_at:%Y-%m-%d} by bake {self.lock.bake_id}",)
        else:
            lines = ()
        return (*lines, *(f"warning: {warning}" for warning in self.warnings))


def plan_text(rows: Sequence[PlanRow]) -> str:
    """The plan as plain lines, which a terminal, a file and a diff all take."""
    name_width = max((len(row.name) for row in rows), default=0)
    verdict_width = max((len(row.verdict) for row in rows), default=0)
    lines = []
    for row in rows:
        first, *more = row.details or ("",)
        lines.append(f"{row.name:<{name_width}}  {row.verdict:<{verdict_width}}  {first}".rstrip())
        lines += [" " * (name_width + verdict_width + 4) + line for line in more]
    return "\n".join(lines)


def end_of_support_warning(selection: VariantSelection, today: date) -> str:
    """A sentence if the variant is past its end of support on that day, or within 90 days of it; else empty."""
    end = selection.variant.end_of_support
    days = (end - today).days
    if days < 0:
        return f"{selection.variant_name} is past its end of support since {end} ({-days} days): plan the move"
    if days <= 90:
        return f"{selection.variant_name} reaches its end of support on {end}, in {days} days: plan the move"
    return ""
