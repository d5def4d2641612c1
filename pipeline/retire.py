"""Retire: in, every image of ours in every region with who uses it; out, for each what to do with it, and why.

The decision is pure. An image goes step by step, with time between: deprecated (still launchable, no longer offered),
disabled (not launchable, undone by an enable), deregistered with its snapshots. Any use keeps it where it is, and so
does a question that AWS did not answer: what cannot be seen is in use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from pipeline.catalog import Retention

Action = Literal["keep", "deprecate", "disable", "deregister"]

_FINAL_FIRST: Final[tuple[Action, ...]] = ("deregister", "disable", "deprecate")


@dataclass(frozen=True, kw_only=True)
class OwnImage:
    """An image that a bake of ours made, or a copy of one. `expires` is true while a bake or a promotion owns it."""

    image_id: str
    region: str
    variant: str
    bake_id: str
    created: datetime
    state: str = "available"
    deprecated_from: datetime | None = None
    disabled_at: datetime | None = None
    last_launched: datetime | None = None
    shared_with: tuple[str, ...] = ()
    protected: bool = False
    expires: bool = False
    snapshots: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class View:
    """One region as it was seen. `uses` are reasons by image id, `blind` the questions that were not answered."""

    region: str
    images: tuple[OwnImage, ...]
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blind: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do with one image, and why."""

    image: OwnImage
    action: Action
    reason: str


def decide(views: Sequence[View], rules: Retention, now: datetime) -> tuple[Verdict, ...]:
    """One verdict for each image, in the order of region, variant and age, newest first."""
    verdicts = [verdict for view in views for verdict in _of_region(view, rules, now)]
    return _capped(verdicts, rules.max_changes_per_run)


def _of_region(view: View, rules: Retention, now: datetime) -> list[Verdict]:
    newest_first = sorted(view.images, key=lambda image: (image.created, image.image_id), reverse=True)
    rank: dict[str, int] = {}
    seen: dict[str, int] = {}
    for image in newest_first:
        if image.state == "available" and not image.expires:
            rank[image.image_id] = seen.setdefault(image.variant, 0)
            seen[image.variant] += 1
    return [
        _verdict(image, view, rules, now, rank.get(image.image_id))
        for image in sorted(newest_first, key=lambda image: image.variant)
    ]


def _verdict(image: OwnImage, view: View, rules: Retention, now: datetime, rank: int | None) -> Verdict:
    if reasons := _to_keep(image, view, rules, now, rank):
        return Verdict(image=image, action="keep", reason="; ".join(reasons))
    idle = f"nothing uses it, last launched {_day(image.last_launched)}, made {_day(image.created)}"
    if image.state == "disabled":
        return _after_disabling(image, rules, now, idle)
    since = image.deprecated_from
    if since is None or since > now:
        return Verdict(image=image, action="deprecate", reason=idle)
    disable_on = since + timedelta(days=rules.disable_after_days)
    if now < disable_on:
        return Verdict(
            image=image,
            action="keep",
            reason=f"deprecated since {_day(since)}; may be disabled from {_day(disable_on)}",
        )
    if image.shared_with:
        shared = f"shared with {', '.join(image.shared_with)}, whose use cannot be seen from here"
        return Verdict(
            image=image, action="keep", reason=f"{shared}; take the permission away once nobody there needs it"
        )
    return Verdict(image=image, action="disable", reason=f"deprecated since {_day(since)}; {idle}")


def _after_disabling(image: OwnImage, rules: Retention, now: datetime, idle: str) -> Verdict:
    since = image.disabled_at
    if since is None:
        return Verdict(image=image, action="disable", reason="it is disabled, but since when is not known: noted anew")
    gone_on = since + timedelta(days=rules.deregister_after_days)
    if now < gone_on:
        return Verdict(
            image=image, action="keep", reason=f"disabled since {_day(since)}; may be deregistered from {_day(gone_on)}"
        )
    return Verdict(image=image, action="deregister", reason=f"disabled since {_day(since)}; {idle}")


def _to_keep(image: OwnImage, view: View, rules: Retention, now: datetime, rank: int | None) -> list[str]:
    reasons = [f"who uses it cannot be seen: {question}" for question in view.blind]
    if image.expires:
        reasons.append("a bake or a promotion is not done with it; `./run sweep` takes it once that is over")
    if image.state not in ("available", "disabled"):
        reasons.append(f"it is {image.state}")
    reasons += view.uses.get(image.image_id, ())
    if rank is not None and rank < rules.keep_newest:
        reasons.append(f"one of the newest {rules.keep_newest} of {image.variant} here")
    idle = timedelta(days=rules.idle_days)
    if now - image.created < idle:
        reasons.append(f"made {_day(image.created)}, less than {rules.idle_days} days ago")
    if image.last_launched and now - image.last_launched < idle:
        reasons.append(f"launched {_day(image.last_launched)}, less than {rules.idle_days} days ago")
    return reasons


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "never"


def _capped(verdicts: Sequence[Verdict], limit: int) -> tuple[Verdict, ...]:
    """At most so many changes: what is nearest its end first, oldest first; the others wait for the next run."""
    changes = [verdict for verdict in verdicts if verdict.action != "keep"]
    changes.sort(key=lambda one: (_FINAL_FIRST.index(one.action), one.image.created, one.image.image_id))
    late = {id(verdict) for verdict in changes[limit:]}
    return tuple(
        Verdict(
            image=verdict.image,
            action="keep",
            reason=f"to {verdict.action} by the next run, over the limit of {limit} changes a run ({verdict.reason})",
        )
        if id(verdict) in late
        else verdict
        for verdict in verdicts
    )


def as_text(verdicts: Sequence[Verdict], *, done: bool) -> str:
    """A line for each image. `done` tells what was done, else what would be."""
    lines = []
    for verdict in verdicts:
        action = verdict.action if done or verdict.action == "keep" else f"would {verdict.action}"
        place = f"{verdict.image.region}  {verdict.image.variant}  {verdict.image.image_id}"
        lines.append(f"{place}  {action}: {verdict.reason}")
    return "\n".join(lines)
