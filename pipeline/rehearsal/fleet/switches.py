"""Where AWS does not document what it does: each such behaviour is a switch, and a rehearsal runs with both values.

A document that is right only for one value of a switch relies on something that nobody promised.
"""

import typing
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self


@dataclass(frozen=True, kw_only=True)
class Switches:
    """One value for each open question; the first of the choices is the default, the likelier one.

    refresh_order            which old hosts a refresh ends first
    surge_launch             min 100 / max 200: all replacements at once, or the next batch only when the hosts that
                             the last one replaced are gone
    checkpoint_counts        a checkpoint is reached when the new hosts are warm, or when the old ones are gone as well
    checkpoint_ends          at a checkpoint the replaced hosts are on their way out, or still in service
    refresh_above_max        whether a refresh may launch above the group's maximum size for a while
    success_waits            Successful when the old hosts are gone, or already when they are on their way out
    held_is_stuck            whether the one-hour timeout also runs while a lifecycle hook holds hosts
    cancel_waits_for_held    whether Cancelling lasts until hosts in a termination hook are gone
    cancelled_excess         hosts above the desired number after a cancelled refresh: scaled in, or kept
    scale_out_launches       what a scale-out during a refresh launches: the desired configuration, or the saved one
    root_swap_registers      a host with a new root volume: another container instance, or the same one
    coverage_lag             coverage as late as the fleet file says, or ten times as late
    describe_lag             what is read is current, or some seconds old
    protection_holds_drain   whether a protected task stays on a draining host until its protection ends
    healthy_without_balancer a task without a load balancer is healthy once RUNNING (as the ECS API reference has it
                             for draining), or 40 s later (as it has it for deployments)
    checkpoint_rounds        a percentage of hosts that is no whole number: up, or down (at least one)
    """

    refresh_order: Literal["oldest-first", "newest-first", "zone-by-zone"] = "oldest-first"
    surge_launch: Literal["all-at-once", "by-what-is-gone"] = "all-at-once"
    checkpoint_counts: Literal["warm", "gone"] = "warm"
    checkpoint_ends: Literal["replaced", "nothing"] = "replaced"
    refresh_above_max: Literal["yes", "no"] = "yes"
    success_waits: Literal["gone", "leaving"] = "gone"
    held_is_stuck: Literal["no", "yes"] = "no"
    cancel_waits_for_held: Literal["no", "yes"] = "no"
    cancelled_excess: Literal["scaled-in", "kept"] = "scaled-in"
    scale_out_launches: Literal["desired", "saved"] = "desired"
    root_swap_registers: Literal["another", "same"] = "another"
    coverage_lag: Literal["short", "long"] = "short"
    describe_lag: Literal["none", "seconds"] = "none"
    protection_holds_drain: Literal["yes", "no"] = "yes"
    healthy_without_balancer: Literal["running", "after-40-s"] = "running"
    checkpoint_rounds: Literal["up", "down"] = "up"

    @classmethod
    def choices(cls) -> dict[str, tuple[str, ...]]:
        """Every switch with its values, the default first."""
        hints = typing.get_type_hints(cls)
        return {field.name: typing.get_args(hints[field.name]) for field in fields(cls)}

    @classmethod
    def every_single_flip(cls) -> tuple[Self, ...]:
        """The defaults, then one set for every other value of every switch."""
        flipped: list[Self] = [cls()]
        for name, values in cls.choices().items():
            change: dict[str, Any]
            for value in values[1:]:
                change = {name: value}
                flipped.append(replace(flipped[0], **change))
        return tuple(flipped)

    def flipped(self) -> tuple[str, ...]:
        """What differs from the defaults, as `name=value`."""
        usual = type(self)()
        return tuple(
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(usual, field.name)
        )
