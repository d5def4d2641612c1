"""Two records in, what differs between their images out: packages, kernel, agent, units, settings, checks, inputs.

`before` is the older one by the caller's word; nothing here looks at dates. The difference is a value that a record
keeps, and that prints as Markdown or as plain text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import Field

from pipeline.packer_output import Timing
from pipeline.plan import changes
from pipeline.progress import duration
from pipeline.versions import is_older
from pipeline.yaml_file import StrictModel

if TYPE_CHECKING:
    from pipeline.record import GuestFacts, Package, Record

SLOWER_RATIO: Final = 1.5
SLOWER_SECONDS: Final = 20.0


class Moved(StrictModel):
    """Something that both have, at another value; `older` when a version went back."""

    name: str
    before: str
    after: str
    older: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.before} -> {self.after}" + (" (older)" if self.older else "")


class Slower(StrictModel):
    """A phase that took notably longer. Seconds."""

    name: str
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.name} took {duration(self.after)}, before {duration(self.before)}"


class RecordDiff(StrictModel):
    """What the later image has that the earlier had not, and the other way round. Empty tuples mean no difference."""

    before: str = Field(description="bake id")
    after: str = Field(description="bake id")
    inputs: tuple[str, ...] = Field(description="inputs of the bake, as the plan words them")
    facts: tuple[Moved, ...] = Field(description="kernel, agent, ECS, docker, distribution")
    packages_added: tuple[str, ...]
    packages_removed: tuple[str, ...]
    packages_moved: tuple[Moved, ...]
    units_enabled: tuple[str, ...]
    units_no_longer_enabled: tuple[str, ...]
    sysctls: tuple[Moved, ...]
    checks_gained: tuple[str, ...]
    checks_lost: tuple[str, ...]
    checks_broken: tuple[str, ...] = Field(description="passed before, failed now")
    checks_repaired: tuple[str, ...] = Field(description="failed before, pass now")
    slower: tuple[Slower, ...]

    @property
    def same_image(self) -> bool:
        """True when the images do not differ in anything that is recorded; how long the bake took does not count."""
        return not any(items for _, items in self.sections() if items)

    def sections(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Every section with its title and lines, those without lines too; the time is not among them."""
        return (
            ("Kernel, agent and runtime", _lines(self.facts)),
            ("Checks that fail now", self.checks_broken),
            ("Checks that pass now", self.checks_repaired),
            ("Packages moved", _lines(self.packages_moved)),
            ("Packages added", self.packages_added),
            ("Packages removed", self.packages_removed),
            ("Units enabled", self.units_enabled),
            ("Units no longer enabled", self.units_no_longer_enabled),
            ("Kernel settings", _lines(self.sysctls)),
            ("Checks gained", self.checks_gained),
            ("Checks lost", self.checks_lost),
            ("Inputs", self.inputs),
        )

    def as_text(self) -> str:
        """Plain lines for a terminal."""
        return "\n".join(self._render(title=f"{self.before} -> {self.after}", heading="", item="  "))

    def as_markdown(self, level: int = 3) -> str:
        """Sections with bullet points, under headings of that level."""
        return "\n".join(self._render(title="", heading="#" * level + " ", item="- "))

    def _render(self, *, title: str, heading: str, item: str) -> list[str]:
        lines = [title] if title else []
        for name, items in (*self.sections(), ("Slower than before", _lines(self.slower))):
            if items:
                lines += [*([""] if lines else []), f"{heading}{name} ({len(items)})"]
                lines += ["", *(f"{item}{text}" for text in items)] if heading else [f"{item}{text}" for text in items]
        if self.same_image:
            lines += [*([""] if lines else []), "No difference in the image."]
        return lines


def diff(before: "Record", after: "Record") -> RecordDiff:
    """What changed from one record to the other."""
    added, removed, moved = _packages(before.guest.packages, after.guest.packages)
    old_checks, new_checks = _checks(before), _checks(after)
    return RecordDiff(
        before=before.bake_id,
        after=after.bake_id,
        inputs=tuple(str(change) for change in changes(before.inputs, after.inputs)),
        facts=_moved(_facts(before.guest), _facts(after.guest)),
        packages_added=added,
        packages_removed=removed,
        packages_moved=moved,
        units_enabled=_only_in(after.guest.units_enabled, before.guest.units_enabled),
        units_no_longer_enabled=_only_in(before.guest.units_enabled, after.guest.units_enabled),
        sysctls=_moved(before.guest.sysctls, after.guest.sysctls),
        checks_gained=_only_in(new_checks, old_checks),
        checks_lost=_only_in(old_checks, new_checks),
        checks_broken=tuple(name for name, ok in new_checks.items() if not ok and old_checks.get(name)),
        checks_repaired=tuple(name for name, ok in new_checks.items() if ok and old_checks.get(name) is False),
        slower=slower(before.timings, after.timings),
    )


def slower(before: Sequence[Timing], after: Sequence[Timing]) -> tuple[Slower, ...]:
    """Phases that took more than 1.5 times as long and more than 20 s longer."""
    old = {timing.name: timing.seconds for timing in before}
    return tuple(
        Slower(name=timing.name, before=old[timing.name], after=timing.seconds)
        for timing in after
        if timing.name in old
        and timing.seconds > old[timing.name] * SLOWER_RATIO
        and timing.seconds - old[timing.name] > SLOWER_SECONDS
    )


def _lines(items: Iterable[Moved | Slower]) -> tuple[str, ...]:
    return tuple(str(item) for item in items)


def _facts(guest: "GuestFacts") -> dict[str, str]:
    return {
        "kernel": guest.kernel,
        "distribution": f"{guest.os_release.get('ID', '')} {guest.os_release.get('VERSION_ID', '')}".strip(),
        "GuardDuty agent": f"{guest.agent.version}-{guest.agent.release}",
        "GuardDuty agent's package": guest.agent.sha256,
        "GuardDuty agent's key": guest.agent.fingerprint,
        "GuardDuty agent's memory limit": "none" if guest.agent.memory_max_bytes is None else "set",
        "ecs-init": guest.ecs.init_version or "none",
        "docker": guest.docker_version or "none",
    }


def _moved(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Moved, ...]:
    return tuple(
        Moved(name=name, before=before.get(name, "none"), after=after.get(name, "none"))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )


def _only_in(these: Iterable[str], those: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(these) - set(those)))


def _checks(record: "Record") -> dict[str, bool]:
    """Every check that ran in the bake or in the proof, by topic and title; it passed if it passed wherever it ran."""
    found: dict[str, bool] = {}
    for report in (record.guest.checks, record.proof.checks):
        for check in report.checks:
            name = f"{check.topic}: {check.title}"
            found[name] = found.get(name, True) and check.passed
    return dict(sorted(found.items()))


def _packages(
    before: Sequence["Package"], after: Sequence["Package"]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Moved, ...]]:
    """Added, removed and moved. A kernel may be there in several versions: then whole sets are compared."""
    old, new = _by_name(before), _by_name(after)
    added = tuple(f"{name} {', '.join(new[key])}" for key, name in _names(new) if key not in old)
    removed = tuple(f"{name} {', '.join(old[key])}" for key, name in _names(old) if key not in new)
    moved = tuple(
        Moved(
            name=name,
            before=", ".join(old[key]),
            after=", ".join(new[key]),
            older=len(old[key]) == len(new[key]) == 1 and is_older(key[0], new[key][0], old[key][0]),
        )
        for key, name in _names(new)
        if key in old and old[key] != new[key]
    )
    return added, removed, moved


_Key = tuple[str, str, str]


def _by_name(packages: Sequence["Package"]) -> dict[_Key, tuple[str, ...]]:
    found: dict[_Key, tuple[str, ...]] = {}
    for package in packages:
        key = (package.source, package.name, package.arch)
        found[key] = tuple(sorted((*found.get(key, ()), package.version)))
    return found


def _names(packages: Mapping[_Key, object]) -> list[tuple[_Key, str]]:
    """Keys with the name to show: the architecture only where a package is there in two."""
    names = [(source, name) for source, name, _ in packages]
    shown = [(key, key[1] if names.count((key[0], key[1])) == 1 else f"{key[1]}.{key[2]}") for key in sorted(packages)]
    return sorted(shown, key=lambda pair: pair[1])
