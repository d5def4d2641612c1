"""Instances as guests: in, what RunInstances decided; out, the life of a machine in EC2's states.

    pending ──▶ running ──▶ stopping ──▶ stopped ──▶ pending (start)
                   │  └─ powers itself off: stopped or terminated, by InstanceInitiatedShutdownBehavior
                   └──▶ shutting-down ──▶ terminated        (also from pending and stopped; also when QEMU dies)

States and their codes: EC2 API reference, InstanceState; reasons: StateReason. This module knows nothing of moto:
`changed` tells whoever keeps the books.
"""

import contextlib
import ipaddress
import random
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from pipeline.clock import Clock
from pipeline.errors import OvenproofError
from pipeline.rehearsal.machine import MEMORY_MIB, SSH_PORT, TRANSLATION_MIB, Exit, Machine, MachineSpec
from pipeline.rehearsal.store import ImageRecord, Store, virtual_bytes
from pipeline.rehearsal.wire import Responder, UnixServer
from pipeline.wait import poll

State = Literal["pending", "running", "stopping", "stopped", "shutting-down", "terminated"]
ShutdownBehavior = Literal["stop", "terminate"]

POWER_DOWN_GRACE_SECONDS = 120
POWER_BUTTON_EVERY_SECONDS = 1
AGENT_SILENT_AFTER = timedelta(seconds=15)
AGENT_POLL_SECONDS = 2
RESERVE_BYTES = 256 * 1024**2
GUEST_BYTES = (MEMORY_MIB + TRANSLATION_MIB) * 1024**2  # what a guest grows to

USER_SHUTDOWN = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
GUEST_SHUTDOWN = (
    "Client.InstanceInitiatedShutdown",
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
)


class NoCapacity(Exception):
    """This machine has no room for another guest; the text says what is short."""


class WrongState(Exception):
    """The instance is not in a state that allows what was asked."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What RunInstances decided. `backing_image` is the local image whose disk is used, "" for a base guest's."""

    instance_id: str
    region: str
    image_id: str
    instance_type: str
    mac: str
    backing: Path
    backing_image: str
    size_gib: int
    public: bool
    shutdown_behavior: Callable[[], str]
    tags: Callable[[], Mapping[str, str]]
    services: Mapping[str, Responder]  # "169.254.169.254:80" -> who answers there
    changed: Callable[["Guest"], None]


MakeMachine = Callable[[MachineSpec], Machine]


def memory_available_bytes() -> int:
    """MemAvailable of /proc/meminfo (proc(5))."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")


def memory_short_by(available: int, residents: list[int]) -> int:
    """Bytes missing for one more guest, 0 when it fits.

    A guest takes its memory as it touches it, so what the running ones (`residents`, bytes each) have not touched
    yet is promised already.
    """
    promised = sum(max(0, GUEST_BYTES - resident) for resident in residents)
    return max(0, GUEST_BYTES + RESERVE_BYTES + promised - available)


def can_listen(address: str) -> bool:
    """Whether nobody listens on the guest's ssh port at that loopback address."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, SSH_PORT))
        return True
    return False


class Addresses:
    """Loopback addresses for guests, from a /24 of our own; another daemon's are found taken and left alone."""

    def __init__(self, *, can_listen: Callable[[str], bool] = can_listen) -> None:
        self._can_listen = can_listen
        # Not for secrecy: two daemons rarely pick the same, and probing settles it when they do.
        self.network = ipaddress.ip_network(f"127.{random.randint(16, 254)}.{random.randint(0, 255)}.0/24")  # noqa: S311
        self._taken: set[str] = set()

    def take(self) -> str:
        for host in self.network.hosts():
            address = str(host)
            if address not in self._taken and self._can_listen(address):
                self._taken.add(address)
                return address
        raise NoCapacity(f"every address of {self.network} is taken")

    def give_back(self, address: str) -> None:
        self._taken.discard(address)


@dataclass
class Hosting:
    """What all guests of a daemon share."""

    store: Store
    clock: Clock
    make_machine: MakeMachine
    runtime: Path  # a short path: sockets live here
    memory_available: Callable[[], int] = memory_available_bytes
    addresses: Addresses = field(default_factory=Addresses)
    lock: threading.RLock = field(default_factory=threading.RLock)
    guests: dict[str, "Guest"] = field(default_factory=dict)
    workers: Executor = field(default_factory=lambda: ThreadPoolExecutor(max_workers=32, thread_name_prefix="guest"))

    def launch(self, launch: Launch) -> "Guest":
        """Register a guest and begin to boot it. Raises NoCapacity before anything was made."""
        with self.lock:
            guest = Guest(launch, self)
            guest.boot()
            self.guests[launch.instance_id] = guest
            return guest

    def check_capacity(self) -> None:
        """Raises NoCapacity when another guest does not fit into this machine's memory."""
        residents = [guest.resident_bytes for guest in self.guests.values() if guest.alive]
        available = self.memory_available()
        if short := memory_short_by(available, residents):
            raise NoCapacity(
                f"a guest takes {GUEST_BYTES // 1024**2} MiB, {available // 1024**2} MiB are free and "
                f"{len(residents)} guests may still grow into it: {-(-short // 1024**2)} MiB are missing"
            )

    def images_in_use(self) -> set[str]:
        """Images that back the disk of an instance."""
        return {
            guest.backing_image for guest in self.guests.values() if guest.state != "terminated" and guest.backing_image
        }

    def collect(self) -> None:
        """Remove images that nothing needs any more."""
        self.store.collect(self.images_in_use())

    def poll_agents(self) -> None:
        """Ask every running guest's agent whether it is there; called in a loop."""
        with self.lock:
            running = [guest for guest in self.guests.values() if guest.state == "running"]
        for guest in running:
            self.workers.submit(guest.ask_agent)


class Guest:
    """One instance. Its fields change under the hosting's lock only."""

    def __init__(self, launch: Launch, hosting: Hosting) -> None:
        self.launch = launch
        self.hosting = hosting
        self.state: State = "pending"
        self.reason: tuple[str, str] | None = None
        self.address: str | None = None
        self.machine: Machine | None = None
        self.started: datetime = hosting.clock.now()
        self.agent_seen: datetime | None = None
        self.backing_image = launch.backing_image
        self._servers: list[UnixServer] = []
        self._asking = threading.Lock()
        self._down = threading.Event()
        self._boots = 0

    @property
    def id(self) -> str:
        return self.launch.instance_id

    @property
    def disk(self) -> Path:
        return self.hosting.store.instance_disk(self.id)

    @property
    def console(self) -> Path:
        return self.hosting.store.instance_folder(self.id) / "console.log"

    @property
    def alive(self) -> bool:
        """Whether a machine runs, or is about to."""
        return self.state in {"pending", "running", "stopping"}

    @property
    def resident_bytes(self) -> int:
        return self.machine.resident_bytes if self.machine else 0

    @property
    def managed(self) -> bool:
        """Whether the agent in the guest answered lately."""
        seen = self.agent_seen
        return self.state == "running" and seen is not None and (self.hosting.clock.now() - seen < AGENT_SILENT_AFTER)

    # What EC2's calls do

    def boot(self) -> None:
        """From nothing, or from stopped, to pending and, from another thread, running."""
        self.hosting.check_capacity()
        if self.launch.public:
            self.address = self.hosting.addresses.take()
        self.reason = None
        self.started = self.hosting.clock.now()
        self._down.clear()
        self._become("pending")
        self.hosting.workers.submit(self._boot)

    def start(self) -> None:
        with self.hosting.lock:
            if self.state in {"pending", "running"}:
                return
            if self.state != "stopped":
                raise WrongState(self.state)
            self.boot()

    def stop(self, *, force: bool = False) -> None:
        with self.hosting.lock:
            if self.state in {"stopping", "stopped"}:
                return
            if self.state not in {"pending", "running"}:
                raise WrongState(self.state)
            self.reason = USER_SHUTDOWN
            self._become("stopping")
            self.hosting.workers.submit(self._power_down, 0 if force else POWER_DOWN_GRACE_SECONDS)

    def reboot(self) -> None:
        """An orderly reboot by the guest's agent, the reset button when there is none."""
        with self.hosting.lock:
            if self.state != "running" or self.machine is None:
                raise WrongState(self.state)
            machine, managed = self.machine, self.managed
            self.agent_seen = None
        self.hosting.workers.submit(self._reboot, machine, managed)

    def terminate(self) -> None:
        with self.hosting.lock:
            if self.state in {"shutting-down", "terminated"}:
                return
            was = self.state
            self.reason = USER_SHUTDOWN
            self._become("shutting-down")
            if was == "stopped":
                self._finish("terminated")
            elif self.machine:
                self.machine.kill()

    def take_image(self, record: ImageRecord) -> None:
        """Turn the disk as it is into an image; the instance goes on from an overlay on it.

        Stopped: a rename. Running: a live snapshot of the block device, consistent as after a power cut.
        """
        with self.hosting.lock:
            store = self.hosting.store
            size = virtual_bytes(self.disk)
            if self.state == "stopped":
                disk = store.add_image(record, self.disk)
                store.make_overlay(self.disk, disk, size_bytes=size)
            elif self.state == "running" and self.machine:
                overlay = self.disk.with_name("next.qcow2")
                overlay.unlink(missing_ok=True)
                final = store.image_disk(record.image_id)
                store.make_overlay(overlay, final, size_bytes=size, backing_exists=False)
                self.machine.snapshot_onto(overlay)
                store.add_image(record, self.disk)
                overlay.rename(self.disk)
            else:
                raise WrongState(self.state)
            self.backing_image = record.image_id

    def wait_down(self, seconds: float) -> bool:
        """Wait until the machine has ended; whether it has."""
        return self._down.wait(seconds)

    # What happens behind them

    def ask_agent(self) -> None:
        machine = self.machine
        if machine is None or not self._asking.acquire(blocking=False):
            return
        try:
            if machine.agent.answers():
                self.agent_seen = self.hosting.clock.now()
        finally:
            self._asking.release()

    def _become(self, state: State) -> None:
        self.state = state
        self.launch.changed(self)

    def _boot(self) -> None:
        try:
            if not self.disk.exists():
                self.hosting.store.make_instance_disk(self.id, self.launch.backing, self.launch.size_gib)
            with self.hosting.lock:
                if self.state != "pending":  # stopped or terminated before it had a machine
                    self._ended(Exit(code=0))
                    return
                self.machine = self.hosting.make_machine(self._spec())
                self.machine.start(self._ended)
                self._become("running")
        except (OvenproofError, OSError) as error:
            self._ended(Exit(code=1, detail=str(error)))

    def _socket(self, use: str) -> Path:
        """A path of this boot's own: the servers of the boot before may still be closing theirs."""
        return self.hosting.runtime / f"{self.id}.{self._boots}.{use}"

    def _spec(self) -> MachineSpec:
        self._boots += 1
        identity = str(uuid.uuid5(uuid.NAMESPACE_OID, self.id))
        forwards = {}
        for number, (where, respond) in enumerate(sorted(self.launch.services.items())):
            path = self._socket(str(number))
            self._servers.append(UnixServer(path, respond))
            forwards[where] = path
        return MachineSpec(
            name=self.id,
            folder=self.hosting.store.instance_folder(self.id),
            disk=self.disk,
            mac=self.launch.mac,
            address=self.address,
            identity="ec2" + identity[3:],
            instance_type=self.launch.instance_type,
            control_socket=self._socket("qmp"),
            agent_socket=self._socket("qga"),
            forwards=forwards,
        )

    def _power_down(self, grace_seconds: float) -> None:
        def press() -> bool:
            if (machine := self.machine) is not None:
                machine.power_down()  # again and again: a guest that is still booting misses the first ones
            return self._down.is_set()

        if grace_seconds and poll(
            press,
            bool,
            clock=self.hosting.clock,
            timeout_seconds=grace_seconds,
            every_seconds=POWER_BUTTON_EVERY_SECONDS,
        ):
            return
        with self.hosting.lock:
            if self.machine is not None and self.state == "stopping":
                self.machine.kill()

    def _reboot(self, machine: Machine, managed: bool) -> None:
        if managed:
            with contextlib.suppress(OSError):
                machine.agent.call("guest-exec", {"path": "/bin/systemctl", "arg": ["reboot"]})
                return
        with contextlib.suppress(OSError):
            machine.reset()

    def _ended(self, how: Exit) -> None:
        with self.hosting.lock:
            if self.state == "stopping":
                self._finish("stopped")
            elif self.state == "shutting-down":
                self._finish("terminated")
            elif self.state in {"pending", "running"}:
                if how.orderly:
                    self.reason = GUEST_SHUTDOWN
                    self._finish("stopped" if self.launch.shutdown_behavior() == "stop" else "terminated")
                else:
                    said = how.detail or f"QEMU ended with {how.code}"
                    self.reason = ("Server.InternalError", f"Server.InternalError: the guest died: {said}")
                    self._finish("terminated")

    def _finish(self, state: State) -> None:
        self.machine = None
        self.agent_seen = None
        servers, self._servers = self._servers, []
        for server in servers:
            self.hosting.workers.submit(server.close)  # it waits for its loop, which may wait for our lock
        for leftover in ("qmp", "qga"):
            self._socket(leftover).unlink(missing_ok=True)
        if self.address:
            self.hosting.addresses.give_back(self.address)
            self.address = None
        if state == "terminated":
            self.hosting.store.drop_instance_disk(self.id)
        self._become(state)
        if state == "terminated":
            self.hosting.collect()
        self._down.set()
