"""What a roll must never do: watched while it happens, and looked at when it is over.

In: the changes of a world. Out: `Broken` values, one for each rule that did not hold, with the time of the worst.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.state import GroupState, ServiceState, TaskState
    from pipeline.rehearsal.fleet.world import World

STATE_TAG = "ovenproof:roll"
KEPT_TAGS = "ovenproof:roll"  # a roll's record stays behind on purpose; it begins so
UNFINISHED = ("running", "rolling-back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule that did not hold: `at` is in seconds from the start of the world."""

    rule: str
    what: str
    at: float

    def __str__(self) -> str:
        return f"{self.rule}: {self.what} (at {self.at:.0f} s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What is asked of a run.

    capacity   hosts InService, or chosen for another root volume and not yet drained, in percent of the desired number,
               that there must always be
    ready      the same for hosts that ECS can place tasks on
    moves      how often a task may move; none: not asked
    kills      whether tasks may be killed before they have stopped, as with the drain policy `proceed`
    over       whether the run is over, so that nothing may be left behind
    ends       which image the hosts must run when it is over; none: either, but not both
    """

    capacity: int = 100
    ready: int = 100
    moves: int | None = None
    kills: bool = False
    over: bool = True
    ends: Literal["old", "new"] | None = None


class Watch:
    """Keeps the worst of what a world goes through."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._killed: list[tuple[float, str, str]] = []
        self._low: dict[str, tuple[int, int, float]] = {}  # service ARN to healthy, floor and time of the worst
        self._hooks: dict[str, frozenset[str]] = {}
        self._suspended: dict[str, frozenset[str]] = {}
        self._tags: dict[str, dict[str, tuple[str, bool]]] = {}
        self._protected: dict[str, int] = {}
        self._standby: dict[str, int] = {}

    def open(self) -> None:
        """Remember how things were."""
        for name, group in self.world.groups.all.items():
            group.floor = group.expected = group.desired
            self._hooks[name] = frozenset(group.hooks)
            self._suspended[name] = frozenset(group.suspended)
            self._tags[name] = dict(group.tags)
            self._protected[name] = sum(host.protected for host in group.hosts.values())
            self._standby[name] = sum(host.state == "Standby" for host in group.hosts.values())

    # -- while it happens -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """After each moment in which something changed."""
        for group in self.world.groups.all.values():
            floor = group.floor
            if not floor:
                continue
            serving, ready = group.serving, group.ready
            if serving >= floor and ready >= floor:
                group.excused = group.useless = 0
                if serving >= group.desired > floor and ready >= group.desired:
                    group.floor = group.desired  # a scale-out has arrived
                continue
            now = self.world.t
            # A host on which nothing can run counts for Auto Scaling, but to send it away takes nothing from the fleet.
            share = (serving + group.excused + group.useless) / floor
            if share < group.lowest_serving[0]:
                group.lowest_serving = (share, now)
            share = (ready + group.excused) / floor
            if share < group.lowest_ready[0]:
                group.lowest_ready = (share, now)

    def desired_changed(self, group: "GroupState", *, by_roll: bool) -> None:
        group.floor = min(group.floor, group.desired)
        if not by_roll:
            group.expected = group.desired

    def killed(self, task: "TaskState") -> None:
        """A task whose host went down under it."""
        service = task.service
        if task.container.host.excused:
            if service is not None:
                service.excused = True
            return
        if service is not None and service.spec.scheduling == "DAEMON":
            return
        name = service.spec.name if service is not None else task.family
        self._killed.append((self.world.t, name, task.status))

    def service_changed(self, service: "ServiceState") -> None:
        """A service gained or lost a healthy task."""
        if service.spec.scheduling == "DAEMON":
            return
        floor = math.ceil(service.desired * service.spec.minimum_healthy_percent / 100)
        if service.healthy >= floor:
            service.excused = False
            return
        if service.excused:
            return
        worst = self._low.get(service.arn)
        if worst is None or service.healthy < worst[0]:
            self._low[service.arn] = (service.healthy, floor, self.world.t)

    # -- afterwards -----------------------------------------------------------------------------------------------

    def moves(self) -> dict[int, int]:
        """How many service tasks that run now stand for one that has moved so often."""
        histogram: dict[int, int] = {}
        for cluster in self.world.clusters.values():
            for service in cluster.services.values():
                for task in service.tasks.values():
                    if task.desired == "RUNNING":
                        histogram[task.generation] = histogram.get(task.generation, 0) + 1
        return dict(sorted(histogram.items()))

    def broken(self, expectations: Expectations) -> tuple[Broken, ...]:
        found: list[Broken] = []
        for group in self.world.groups.all.values():
            name = group.spec.name
            for rule, (share, at), least in (
                ("capacity", group.lowest_serving, expectations.capacity),
                ("ready capacity", group.lowest_ready, expectations.ready),
            ):
                if share * 100 < least - 1e-9:
                    found.append(
                        Broken(
                            rule=rule,
                            what=f"{name} was at {share:.0%} of its desired number, {least} % is the least",
                            at=at,
                        )
                    )
        for arn, (healthy, floor, at) in self._low.items():
            found.append(
                Broken(
                    rule="service minimum",
                    what=f"{arn.rsplit('/', 1)[-1]} had {healthy} healthy tasks, {floor} is the least",
                    at=at,
                )
            )
        if self._killed and not expectations.kills:
            at, name, status = self._killed[0]
            found.append(
                Broken(
                    rule="no task killed",
                    what=f"{len(self._killed)} killed with their host, the first one of {name} while {status}",
                    at=at,
                )
            )
        if expectations.moves is not None:
            most = max(self.moves(), default=0)
            if most > expectations.moves:
                found.append(
                    Broken(
                        rule="moves",
                        what=f"a task moved {most} times, {expectations.moves} is the most",
                        at=self.world.t,
                    )
                )
        if expectations.over:
            for group in self.world.groups.all.values():
                found += [
                    Broken(rule=rule, what=f"{group.spec.name}: {what}", at=self.world.t)
                    for rule, what in self._left_behind(group, expectations)
                ]
            found += self._unsteady()
        return tuple(found)

    def _left_behind(self, group: "GroupState", expectations: Expectations) -> list[tuple[str, str]]:
        name, spec = group.spec.name, group.spec
        found: list[tuple[str, str]] = []
        if group.refresh is not None:
            found.append(("no refresh left", f"a refresh is {group.refresh.status}"))
        states: dict[str, int] = {}
        for host in group.hosts.values():
            if host.state != "InService":
                states[host.state] = states.get(host.state, 0) + 1
        # Somebody else's scale-out in the last seconds is on its way: no roll can wait for what comes after it.
        arriving = min(states.get("Pending", 0), group.desired - group.floor)
        if arriving == states.get("Pending", 0):
            states.pop("Pending", None)
        if states.get("Standby", 0) <= self._standby[name]:
            states.pop("Standby", None)
        if states:
            found.append(("hosts in service", ", ".join(f"{count} {state}" for state, count in sorted(states.items()))))
        strangers = [
            host.id
            for host in group.hosts.values()
            if host.state == "InService" and (host.container is None or not host.container.connected)
        ]
        if len(strangers) > group.desired - group.floor:
            found.append(("hosts in the cluster", f"{len(strangers)} are in service without it: {strangers[0]}"))
        old = sum(not host.new for host in group.hosts.values())
        new = len(group.hosts) - old
        if old and new:
            found.append(("never mixed", f"{old} hosts on the old image, {new} on the new one"))
        elif expectations.ends is not None and group.hosts and (expectations.ends == "new") != bool(new):
            found.append(("ends where it should", f"on the {'new' if new else 'old'} image"))
        launches = self._launches(group)
        if launches is not None and group.hosts and old != new and (launches == "new") != bool(new):
            found.append(
                (
                    "the template agrees",
                    f"hosts run the {'new' if new else 'old'} image, a scale-out launches the {launches}",
                )
            )
        draining = [host.id for host in group.hosts.values() if host.container and host.container.status == "DRAINING"]
        if draining:
            found.append(("no DRAINING left", f"{len(draining)} hosts, {draining[0]} among them"))
        hooks = frozenset(group.hooks)
        if hooks != self._hooks[name]:
            changed = sorted(hooks ^ self._hooks[name])
            found.append(("hooks as before", f"{', '.join(changed)} was added or removed"))
        protected = sum(host.protected for host in group.hosts.values())
        if protected > self._protected[name] and not group.protect_new:
            found.append(("protection as before", f"{protected} hosts protected, {self._protected[name]} before"))
        if group.protect_new != spec.protect_new:
            found.append(("protection as before", f"new hosts protected: {group.protect_new}"))
        if frozenset(group.suspended) != self._suspended[name]:
            changed = sorted(frozenset(group.suspended) ^ self._suspended[name])
            found.append(("processes as before", f"{', '.join(changed)} was suspended or resumed"))
        tags = {key: value for key, value in group.tags.items() if not key.startswith(KEPT_TAGS)}
        before = {key: value for key, value in self._tags[name].items() if not key.startswith(KEPT_TAGS)}
        if tags != before:
            changed = sorted(key for key in tags.keys() | before.keys() if tags.get(key) != before.get(key))
            found.append(("tags as before", f"{', '.join(changed)} was changed"))
        if group.tags.get(STATE_TAG, ("", False))[0] in UNFINISHED:
            found.append(("tags tell the end", f"{STATE_TAG} still says {group.tags[STATE_TAG][0]}"))
        sizes = (group.min_size, group.desired, group.max_size)
        wanted = (spec.min_size, group.expected, spec.max_size)
        if sizes != wanted:
            found.append(("size as before", f"min, desired, max are {sizes}, were {wanted}"))
        if group.serving + arriving != group.desired:
            found.append(("as many hosts as desired", f"{group.serving} in service, {group.desired} desired"))
        return found

    def _launches(self, group: "GroupState") -> Literal["old", "new"] | None:
        _, image, _ = self.world.launch_of(group.configuration)
        if image in self.world.old_images:
            return "old"
        return "new"

    def _unsteady(self) -> list[Broken]:
        found = []
        for cluster in self.world.clusters.values():
            for service in cluster.services.values():
                if service.spec.scheduling == "DAEMON":
                    continue
                if service.live != service.desired or service.healthy != service.desired or service.retiring:
                    found.append(
                        Broken(
                            rule="services steady",
                            what=f"{service.spec.name} has {service.healthy} of {service.desired} healthy tasks",
                            at=self.world.t,
                        )
                    )
        return found
