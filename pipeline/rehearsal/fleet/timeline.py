"""What a world looked like over time: counts of hosts and tasks at each moment when one changed, and what was done.

In: changes of hosts and tasks, told by the engines. Out: `samples` and `marks`, which `picture` draws.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.state import Host, TaskState
    from pipeline.rehearsal.fleet.world import World

# Bands of hosts and tasks, in the order in which a picture stacks them.
OLD_SERVING, OLD_LEAVING, OLD_DRAINING, OLD_OTHER, NEW_STARTING, NEW_SERVING, NEW_LEAVING = range(7)
TASKS_OLD, TASKS_NEW, TASKS_STARTING, TASKS_STOPPING = range(7, 11)
BANDS = (
    "old hosts in service",
    "old hosts held on their way out",
    "old hosts draining",
    "old hosts starting, standby or ending",
    "new hosts starting",
    "new hosts in service",
    "new hosts leaving",
    "tasks on old hosts",
    "tasks on new hosts",
    "tasks starting",
    "tasks stopping",
)
NONE = -1


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done or happened, at a time in seconds."""

    at: float
    text: str


class Timeline:
    """Counts over time. `samples` are (seconds, *counts in the order of BANDS)."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.samples: list[tuple[float, ...]] = []
        self.marks: list[Mark] = []
        self.counts = [0] * len(BANDS)
        self.opened = False
        self._changed = True
        self._drained = False

    def open(self) -> None:
        """The world is as it is at its start."""
        self.opened = True
        self.sample()

    def mark(self, text: str) -> None:
        self.marks.append(Mark(self.world.t, text))

    def first_drain(self) -> None:
        if not self._drained:
            self._drained = True
            self.mark("drain")

    def host_changed(self, host: "Host") -> None:
        """Count a host where it belongs now."""
        self._move(host, _host_band(host))
        group, container = host.group, host.container
        if group is None:
            return
        ready = host.alive and container is not None and container.connected and container.status == "ACTIVE"
        # A host that is chosen for another root volume and held serves on, until it is drained.
        in_service = host.alive and (host.state == "InService" or (ready and host.state == "ReplacingRootVolume:Wait"))
        if in_service != host.in_service_counted:
            host.in_service_counted = in_service
            group.serving += 1 if in_service else -1
        ready = ready and host.state not in ("Standby", "Detached")
        if ready != host.ready_counted:
            host.ready_counted = ready
            group.ready += 1 if ready else -1

    def task_changed(self, task: "TaskState") -> None:
        status = task.status
        if status == "STOPPED":
            band = NONE
        elif status == "PENDING":
            band = TASKS_STARTING
        elif status == "RUNNING":
            band = TASKS_NEW if task.container.host.new else TASKS_OLD
        else:
            band = TASKS_STOPPING
        self._move(task, band)

    def _move(self, thing: "Host | TaskState", band: int) -> None:
        before = thing.band
        if band != before:
            if before != NONE:
                self.counts[before] -= 1
            if band != NONE:
                self.counts[band] += 1
            thing.band = band
            self._changed = True

    def sample(self) -> None:
        """Keep the counts of this moment if they changed."""
        if self._changed and self.opened:
            self._changed = False
            self.samples.append((self.world.t, *self.counts))


def _host_band(host: "Host") -> int:
    state, container = host.state, host.container
    if state == "Terminated":
        return NONE
    draining = container is not None and container.status == "DRAINING" and host.alive
    serving = state == "InService" and host.alive and not draining
    if not host.new:
        if serving:
            return OLD_SERVING
        if draining:
            return OLD_DRAINING
        return OLD_LEAVING if state == "Terminating:Wait" else OLD_OTHER
    if serving and container is not None and container.connected:
        return NEW_SERVING
    if serving or state.startswith("Pending") or state == "RootVolumeReplaced":
        return NEW_STARTING
    return NEW_LEAVING
