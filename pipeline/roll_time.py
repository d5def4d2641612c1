"""How long a roll will take: hosts and the settings of their services in; parts, what dominates them, and floor out.

All times are seconds. A task's move takes D = start of its successor + health checks + deregistration delay + stop
timeout; hosts drain side by side, so the slowest service counts. The model: ECS developer guide (container instance
draining), Elastic Load Balancing API reference (target group attributes and their defaults).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Lane = Literal["surge", "rolling", "replace-root-volume"]


@dataclass(frozen=True, kw_only=True)
class ServiceTimes:
    """What of a service's settings decides how long one of its tasks takes to move."""

    name: str
    start: float
    health: float
    """Health check interval times the checks that have to pass; 0 without a load balancer."""
    deregistration: float
    stop: float

    @property
    def move(self) -> float:
        return self.start + self.health + self.deregistration + self.stop

    @property
    def dominant(self) -> str:
        """The setting that takes most of it, and how long."""
        parts = {
            "the start of its task": self.start,
            "its target group's health checks (interval x healthy threshold)": self.health,
            "its target group's deregistration_delay.timeout_seconds": self.deregistration,
            "its container's stopTimeout": self.stop,
        }
        name = max(parts, key=lambda part: parts[part])
        return f"{self.name}: {name}, {parts[name]:.0f} s"


@dataclass(frozen=True, kw_only=True)
class GroupTimes:
    """A group as far as time goes.

    hosts    how many are replaced; `canary` of them first
    boot     launch until ECS can place tasks on a host
    check    the checks on a host, its units watched for a while
    covered  launch until GuardDuty calls a host HEALTHY
    gone     a host is empty until it is terminated and the refresh ended
    swap     a host is empty until it boots from its new root volume
    batch    hosts that the rolling lane replaces at a time
    """

    hosts: int
    canary: int
    boot: float
    check: float
    covered: float
    gone: float = 30
    swap: float = 60
    batch: int = 1

    @property
    def proof(self) -> float:
        """A new host that is up, until it has proven itself."""
        return max(self.check, self.covered - self.boot)


@dataclass(frozen=True, kw_only=True)
class RollTime:
    """The parts of a roll in their order, with what dominates the longest of them."""

    lane: Lane
    parts: tuple[tuple[str, float], ...]
    floor: float
    dominant: str

    @property
    def total(self) -> float:
        return sum(seconds for _, seconds in self.parts)


def predict(lane: Lane, group: GroupTimes, services: Sequence[ServiceTimes]) -> RollTime:
    """What a roll of the group takes in a lane."""
    slowest = max(services, key=lambda one: one.move, default=None)
    move = slowest.move if slowest else 0.0
    dominant = slowest.dominant if slowest and move >= group.boot else f"a host's boot, {group.boot:.0f} s"
    floor = floor_of(group, services, lane)
    first = group.canary if group.canary < group.hosts else 0
    up = move + group.swap + group.boot if lane == "replace-root-volume" else group.boot
    canary = [("canary up", up), ("canary proven", group.proof)] if first else []
    if lane == "surge":
        middle = [("the rest up", group.boot), ("all old hosts drain", move), ("old hosts gone", group.gone)]
    elif lane == "replace-root-volume":
        middle = [(f"{group.hosts - first} hosts one by one", (group.hosts - first) * up)]
    else:
        rounds = math.ceil((group.hosts - first) / max(1, group.batch))
        middle = [(f"{rounds} batches of {group.batch}", rounds * (group.boot + move + group.gone))]
    return RollTime(lane=lane, parts=(*canary, *middle, ("all proven", group.proof)), floor=floor, dominant=dominant)


def floor_of(group: GroupTimes, services: Sequence[ServiceTimes], lane: Lane = "surge") -> float:
    """What no roll can be faster than, whatever drives it.

    Where hosts are launched: the canary up and proven; the rest up, one move, the old hosts gone, and a last look at
    the hosts when that is over or, if that takes longer, until GuardDuty calls the last of them HEALTHY. Where root
    volumes are replaced: one host after the other is swapped and booted, the first and the last one proven; emptying a
    host can go along with the boot of the one before.
    """
    move = max((one.move for one in services), default=0.0)
    if lane == "replace-root-volume":
        proofs = 2 if group.canary < group.hosts else 1
        return group.hosts * (group.swap + group.boot) + proofs * group.proof
    canary = group.boot + group.proof if group.canary < group.hosts else 0.0
    return canary + max(group.boot + move + group.gone + group.check, group.covered)
