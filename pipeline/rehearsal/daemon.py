"""The local cloud as a process: in, a folder of state; out, an endpoint on 127.0.0.1 that answers like AWS.

    python -m pipeline.rehearsal.daemon <local root>

One process holds moto's server with our extensions, the guests as child processes that die with it, and the services
guests see. It writes `daemon.json` once it answers, and ends by itself after a quarter of an hour without guests and
requests. A client starts it (see `cloud`); nobody has to.
"""

import contextlib
import hmac
import io
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

# moto reads these when it is imported. The first keeps it from naming containers of its own.
os.environ.setdefault("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "true")

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from pydantic import TypeAdapter, ValidationError
from werkzeug.serving import make_server
from werkzeug.wrappers import Request as WebRequest
from werkzeug.wrappers import Response as WebResponse

from pipeline.clock import Clock, SystemClock
from pipeline.rehearsal import ec2, guardduty, ssm
from pipeline.rehearsal.cloud import (
    ADMIN_PREFIX,
    DAEMON_FILE,
    DaemonFile,
    ImageStatus,
    InstanceStatus,
    Status,
    code_digest,
)
from pipeline.rehearsal.guest import AGENT_POLL_SECONDS, Hosting
from pipeline.rehearsal.journal import Call, Journal, read
from pipeline.rehearsal.machine import Launcher, Machine, MachineSpec, QemuMachine, probe_accelerator
from pipeline.rehearsal.store import BaseRecord, Store, disk_bytes
from pipeline.rehearsal.world import World

RUNTIME_PARENT = Path("/tmp")  # noqa: S108 - sockets need a short path; mkdtemp makes a folder of our own in it
RUNTIME_PREFIX = "ovp-"
RUNTIME_FILE = "runtime-folder"
IDLE_AFTER = timedelta(minutes=15)
WATCH_SECONDS = 5
KILL_WAIT_SECONDS = 15


def log(text: str) -> None:
    """One line with the time, to standard error: the client made that the log file."""
    sys.stderr.write(f"{SystemClock().now():%Y-%m-%d %H:%M:%S} {text}\n")
    sys.stderr.flush()


def end_leftovers(root: Path) -> list[str]:
    """End guests of a daemon that is gone: processes whose command line names our state folder. Says which."""
    said = []
    for pidfile in sorted((root / "instances").glob("*/qemu.pid")):
        with contextlib.suppress(OSError, ValueError):
            pid = int(pidfile.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(os.fsencode(pidfile) == word for word in words):
                os.kill(pid, signal.SIGKILL)
                said.append(f"ended the guest {pidfile.parent.name} (pid {pid}), whose daemon is gone")
    return said


def remove_old_runtime(root: Path) -> list[str]:
    """Remove the folder of sockets that a killed daemon of this state folder left. Says so."""
    note = root / RUNTIME_FILE
    if not note.exists():
        return []
    folder = Path(note.read_text(encoding="utf-8"))
    note.unlink()
    # The note is a file anybody may have edited: only what can be a folder of ours is removed.
    if folder.parent != RUNTIME_PARENT or not folder.name.startswith(RUNTIME_PREFIX) or not folder.is_dir():
        return []
    shutil.rmtree(folder)
    return [f"removed the sockets in {folder}, whose daemon is gone"]


def _call_in(environ: dict[str, Any]) -> Call | None:
    """The call that a request is; its body is left to be read again."""
    request = WebRequest(environ)
    body = request.get_data()
    environ["wsgi.input"] = io.BytesIO(body)
    return read(
        request.method,
        request.path,
        authorization=request.headers.get("authorization", ""),
        target=request.headers.get("x-amz-target", ""),
        body=body,
    )


class Application:
    """WSGI: the admin calls of our client, and everything else to moto, one call at a time.

    moto keeps its state in plain dictionaries; one lock around it, shared with the guests, makes every call atomic.
    """

    def __init__(self, world: World, *, token: str, started: datetime, stop: Callable[[], None]) -> None:
        self._world = world
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._journal = Journal()
        self._token = token
        self._started = started
        self.endpoint = ""  # known once the server has its port
        self._stop = stop
        self.last_request = world.clock.now()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.last_request = self._world.clock.now()
        if environ.get("PATH_INFO", "").startswith(ADMIN_PREFIX):
            return self._admin(WebRequest(environ))(environ, start_response)
        call = _call_in(environ)
        with self._world.hosting.lock:
            if call:
                self._journal.write(call.with_tags(self._world.tags_on))
            try:
                return list(self._moto(environ, start_response))
            except NotImplementedError as error:
                answer = WebResponse(f"The local cloud does not support this: {error}\n", status=HTTPStatus.BAD_REQUEST)
                return answer(environ, start_response)

    def _admin(self, request: WebRequest) -> WebResponse:
        if not hmac.compare_digest(request.headers.get("x-ovenproof-token", ""), self._token):
            return WebResponse("not for you\n", status=HTTPStatus.FORBIDDEN)
        calls = {
            ("GET", "status"): self._status,
            ("POST", "calls"): self._calls,
            ("POST", "bases"): self._add_bases,
            ("POST", "roots"): self._add_roots,
            ("POST", "stop"): self._stop_all,
            ("POST", "clean"): self._clean,
        }
        call = calls.get((request.method, request.path.removeprefix(ADMIN_PREFIX)))
        if call is None:
            return WebResponse("no such call\n", status=HTTPStatus.NOT_FOUND)
        try:
            return WebResponse(call(request.get_data()), mimetype="application/json")
        except (ValidationError, ValueError) as error:
            return WebResponse(f"{error}\n", status=HTTPStatus.BAD_REQUEST)

    def _status(self, _: bytes) -> str:
        with self._world.hosting.lock:
            return self.status().model_dump_json()

    def _calls(self, body: bytes) -> str:
        with self._world.hosting.lock:
            return self._journal.since(int(json.loads(body))).model_dump_json()

    def status(self) -> Status:
        hosting = self._world.hosting
        now = self._world.clock.now()
        return Status(
            pid=os.getpid(),
            endpoint=self.endpoint,
            started=self._started,
            uptime_seconds=(now - self._started).total_seconds(),
            instances=[
                InstanceStatus(
                    instance_id=guest.id,
                    image_id=guest.launch.image_id,
                    region=guest.launch.region,
                    state=guest.state,
                    address=guest.address,
                    pid=guest.machine.pid if guest.machine else None,
                    memory_bytes=guest.resident_bytes,
                    age_seconds=(now - guest.started).total_seconds(),
                    disk_bytes=disk_bytes(guest.disk),
                    tags=dict(guest.launch.tags()),
                )
                for guest in hosting.guests.values()
                if guest.state != "terminated"
            ],
            images=[
                ImageStatus(
                    image_id=record.image_id,
                    region=record.region,
                    name=record.name,
                    created=record.created,
                    registered=record.registered,
                    disk_bytes=disk_bytes(hosting.store.image_disk(record.image_id)),
                )
                for record in hosting.store.records()
            ],
            bases=list(self._world.bases.values()),
        )

    def _add_bases(self, body: bytes) -> str:
        for base in TypeAdapter(list[BaseRecord]).validate_json(body):
            self._world.add_base(base)
        return "{}"

    def _add_roots(self, body: bytes) -> str:
        roots = TypeAdapter(dict[str, Path]).validate_json(body)
        if bad := [name for name in roots if not name.replace("-", "").isalnum()]:
            raise ValueError(f"{bad[0]!r} is not a name for a folder that is served")
        with self._world.hosting.lock:
            self._world.roots |= roots
        return "{}"

    def _stop_all(self, _: bytes) -> str:
        threading.Thread(target=self._stop).start()
        return "{}"

    def _clean(self, _: bytes) -> str:
        """Terminate every instance and remove every image; base guests stay known."""
        hosting = self._world.hosting
        with hosting.lock:
            for guest in hosting.guests.values():
                guest.terminate()
            waiting = list(hosting.guests.values())
        for guest in waiting:
            guest.wait_down(KILL_WAIT_SECONDS)
        with hosting.lock:
            for backend in self._world.ec2.values():
                backend.forget_images()
            for record in list(hosting.store.records()):
                hosting.store.update_image(record.model_copy(update={"registered": False, "snapshot_exists": False}))
            removed = hosting.store.collect(hosting.images_in_use())
            for guest in waiting:
                hosting.store.drop_instance(guest.id)
        return json.dumps({"images": removed, "instances": [guest.id for guest in waiting]})


class Daemon:
    """Everything that runs, from start to stop."""

    def __init__(self, root: Path, *, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._stopping = threading.Event()
        launcher = Launcher()
        accelerator = probe_accelerator()
        log(f"guests run with {accelerator}")

        def make_machine(spec: MachineSpec) -> Machine:
            return QemuMachine(spec, launcher=launcher, accelerator=accelerator)

        store = Store(root)
        for line in [*end_leftovers(root), *remove_old_runtime(root), *store.sweep()]:
            log(line)
        self._runtime = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir=RUNTIME_PARENT))  # mode 0700
        (root / RUNTIME_FILE).write_text(str(self._runtime), encoding="utf-8")
        self._hosting = Hosting(store=store, clock=clock, make_machine=make_machine, runtime=self._runtime)
        self._world = World(hosting=self._hosting, clock=clock)
        for base in store.known_bases():
            self._world.add_base(base)
        for service in (ec2, ssm, guardduty):
            service.install(self._world)

    def run(self) -> None:
        """Serve until stopped, idle, or told by a signal."""
        token = secrets.token_urlsafe(32)
        started = self._clock.now()
        application = self._application = Application(
            self._world, token=token, started=started, stop=self._stopping.set
        )
        server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietHandler)
        endpoint = application.endpoint = f"http://127.0.0.1:{server.port}"
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        threading.Thread(target=self._poll_agents, daemon=True).start()
        mine = DaemonFile(pid=os.getpid(), endpoint=endpoint, token=token, code=code_digest(), started=started)
        mine.write(self._root / DAEMON_FILE)
        log(f"listening on {endpoint}, state in {self._root}")
        try:
            while not self._stopping.wait(WATCH_SECONDS):
                if self._idle():
                    log("nothing ran and nobody asked for a quarter of an hour: stopping")
                    break
        finally:
            (self._root / DAEMON_FILE).unlink(missing_ok=True)
            server.shutdown()
            self._end_guests()
            shutil.rmtree(self._runtime, ignore_errors=True)
            (self._root / RUNTIME_FILE).unlink(missing_ok=True)
            log("stopped")

    def _idle(self) -> bool:
        with self._hosting.lock:
            busy = any(guest.alive for guest in self._hosting.guests.values())
        if busy:
            self._application.last_request = self._clock.now()
        return self._clock.now() - self._application.last_request > IDLE_AFTER

    def _poll_agents(self) -> None:
        while not self._stopping.wait(AGENT_POLL_SECONDS):
            self._hosting.poll_agents()

    def _end_guests(self) -> None:
        with self._hosting.lock:
            guests = list(self._hosting.guests.values())
            for guest in guests:
                guest.terminate()
        for guest in guests:
            guest.wait_down(KILL_WAIT_SECONDS)
            self._hosting.store.drop_instance(guest.id)


class QuietHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the log is for what goes wrong; Packer polls every second."""


def main() -> None:
    (root,) = sys.argv[1:]
    Daemon(Path(root), clock=SystemClock()).run()


if __name__ == "__main__":
    main()
