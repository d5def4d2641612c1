"""The local cloud from outside: in, the cache's local folder; out, an endpoint, a boto3 session, what is running.

    cloud = LocalCloud.ensure(local_root(), bases=[...], artifacts=..., repositories=...)
    cloud.session("eu-central-1").client("ec2").run_instances(...)

One daemon serves all bakes of a cache folder at once. It is started when it is not there and ends by itself when
nothing was asked of it for a while.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.clock import Clock, SystemClock
from pipeline.errors import MachineError
from pipeline.paths import CHECKOUT
from pipeline.rehearsal.journal import Calls
from pipeline.rehearsal.store import BaseRecord
from pipeline.wait import poll

ADMIN_PREFIX = "/_ovenproof/"
DAEMON_FILE = "daemon.json"
LOG_FILE = "daemon.log"
START_SECONDS = 90
STOP_SECONDS = 30
LOG_LINES = 15
LOG_MAX_BYTES = 4 * 1024**2

# They open nothing: the daemon checks no signature, and no request with them ever leaves this machine.
ACCESS_KEY_ID = "AKIALOCALCLOUD000000"
SECRET_ACCESS_KEY = "local-cloud-only"  # noqa: S105


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DaemonFile(_Model):
    """`daemon.json`: how to reach the daemon. Readable by its owner only, because of the token."""

    pid: int
    endpoint: str
    token: str
    code: str
    started: datetime

    def write(self, path: Path) -> None:
        draft = path.with_name(f".{path.name}")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.model_dump_json(indent=2) + "\n")
        draft.rename(path)


class InstanceStatus(_Model):
    """One instance that is not terminated. `pid` is QEMU's."""

    instance_id: str
    image_id: str
    region: str
    state: str
    address: str | None
    pid: int | None
    memory_bytes: int
    age_seconds: float
    disk_bytes: int
    tags: dict[str, str]

    @property
    def alive(self) -> bool:
        return self.state in {"pending", "running", "stopping"}


class ImageStatus(_Model):
    """One image on disk. Not `registered`: it was deregistered, but something still needs its disk."""

    image_id: str
    region: str
    name: str
    created: datetime
    registered: bool
    disk_bytes: int


class Status(_Model):
    """What the daemon is and holds."""

    pid: int
    endpoint: str
    started: datetime
    uptime_seconds: float
    instances: list[InstanceStatus]
    images: list[ImageStatus]
    bases: list[BaseRecord]

    @property
    def disk_bytes(self) -> int:
        """What images and instances occupy; base guests belong to the cache."""
        return sum(one.disk_bytes for one in self.images) + sum(one.disk_bytes for one in self.instances)


def code_digest() -> str:
    """A digest of the code a daemon runs: a daemon of older code would answer as it did then."""
    digest = hashlib.sha256()
    for path in sorted((CHECKOUT / "pipeline" / "rehearsal").glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class LocalCloud:
    """A running daemon."""

    root: Path
    daemon: DaemonFile

    @classmethod
    def find(cls, root: Path) -> "LocalCloud | None":
        """The daemon of this folder if one runs and answers; nothing is started."""
        try:
            daemon = DaemonFile.model_validate_json((root / DAEMON_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError):
            return None
        cloud = cls(root, daemon)
        with contextlib.suppress(MachineError):
            cloud.status()
            return cloud
        return None

    @classmethod
    def ensure(
        cls,
        root: Path,
        *,
        bases: Sequence[BaseRecord] = (),
        roots: Mapping[str, Path] | None = None,
        clock: Clock | None = None,
    ) -> "LocalCloud":
        """The daemon of this folder, started if need be, that knows `bases` and serves `roots`.

        `roots` are folders by the first part of the URL that guests see: {"repo": ..., "artifacts": ...}.
        Raises MachineError when it does not come up (with the end of its log), or when a daemon of other code is
        there and something runs in it.
        """
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "daemon.lock"):
            cloud = cls.find(root)
            if cloud and cloud.daemon.code != code_digest():
                cloud._refuse_if_busy()
                cloud.stop()
                cloud = None
            if cloud is None:
                cloud = cls._start(root, clock or SystemClock())
        if bases:
            cloud._call("POST", "bases", [base.model_dump(mode="json") for base in bases])
        if roots:
            cloud._call("POST", "roots", {name: str(path) for name, path in roots.items()})
        return cloud

    @classmethod
    def _start(cls, root: Path, clock: Clock) -> "LocalCloud":
        (root / DAEMON_FILE).unlink(missing_ok=True)
        path = root / LOG_FILE
        if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
            path.replace(path.with_suffix(".log.old"))
        before = path.stat().st_size if path.exists() else 0
        with path.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.rehearsal.daemon", str(root)],
                cwd=CHECKOUT,
                env=_daemon_environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C in the terminal is for the bake, not for the cloud it runs in
            )
        found = poll(
            lambda: cls.find(root),
            lambda cloud: cloud is not None or process.poll() is not None,
            clock=clock,
            timeout_seconds=START_SECONDS,
            every_seconds=0.1,
        )
        if found is not None:
            return found
        code = process.poll()
        process.kill()
        with path.open("rb") as log:
            log.seek(before)
            tail = log.read().decode(errors="replace").strip().splitlines()[-LOG_LINES:]
        why = f"no answer within {START_SECONDS} s" if code is None else f"it ended with exit code {code}"
        raise MachineError(
            "the local cloud did not come up",
            found="\n".join([why, *tail]),
            where=str(path),
            remedy="read the log; `./run local clean` starts over without the local images",
        )

    @property
    def endpoint_url(self) -> str:
        return self.daemon.endpoint

    def environment(self, region: str) -> dict[str, str]:
        """What to add to a program's environment so that its AWS SDK talks to this cloud and nothing else.

        The user's profile and configuration files are out of it: they could name another endpoint, or real keys.
        """
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def session(self, region: str) -> boto3.Session:
        """A boto3 session whose every client and resource goes to this cloud, whatever the user's settings are."""
        return session_to(self.endpoint_url, region)

    def status(self) -> Status:
        return Status.model_validate(self._call("GET", "status"))

    def calls(self, since: int = 0) -> Calls:
        """Every distinct call of AWS's that was made in this daemon's life, after its first `since` ones."""
        return Calls.model_validate(self._call("POST", "calls", since))

    def serve(self, name: str, folder: Path) -> None:
        """Serve one more folder to guests, read-only, at http://169.254.0.10/<name>/."""
        self._call("POST", "roots", {name: str(folder)})

    def stop(self, *, clock: Clock | None = None) -> None:
        """End the daemon and every guest in it. Images stay. Raises MachineError when it does not end in time."""
        self._call("POST", "stop", {})
        still = poll(
            lambda: _runs_daemon(self.daemon.pid),
            lambda runs: not runs,
            clock=clock or SystemClock(),
            timeout_seconds=STOP_SECONDS,
            every_seconds=0.1,
        )
        if still:
            raise MachineError(
                "the local cloud does not stop",
                expected=f"its end within {STOP_SECONDS} s",
                found=f"process {self.daemon.pid} still runs",
                where=str(self.root / LOG_FILE),
                remedy=f"end it by hand: kill {self.daemon.pid}",
            )

    def clean(self) -> list[str]:
        """Terminate every instance, deregister and remove every local image; ids of what was removed."""
        removed = self._call("POST", "clean", {})
        return [*removed["instances"], *removed["images"]]

    def _refuse_if_busy(self) -> None:
        busy = [one.instance_id for one in self.status().instances if one.alive]
        if busy:
            raise MachineError(
                "the local cloud that runs was started from other code, and guests run in it",
                expected="no guests, so that it can be started anew",
                found=", ".join(busy),
                where=f"process {self.daemon.pid}, started {self.daemon.started:%Y-%m-%d %H:%M} UTC",
                remedy="wait for the bake that uses it, or end it: ./run local stop",
            )

    def _call(self, method: str, what: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the endpoint is ours, on loopback
            self.daemon.endpoint + ADMIN_PREFIX + what,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-ovenproof-token": self.daemon.token, "content-type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise MachineError(
                f"the local cloud refused the call {what}",
                found=error.read().decode(errors="replace").strip(),
                where=self.daemon.endpoint,
            ) from error
        except (OSError, ValueError) as error:
            raise MachineError(
                "the local cloud does not answer",
                found=str(error),
                where=f"{self.daemon.endpoint}, process {self.daemon.pid}",
                remedy=f"read {self.root / LOG_FILE}",
            ) from error


class _EndpointSession(boto3.Session):
    """A session with one endpoint for every service, and no configuration file behind it."""

    def __init__(self, endpoint_url: str, region: str) -> None:
        super().__init__(aws_access_key_id=ACCESS_KEY_ID, aws_secret_access_key=SECRET_ACCESS_KEY, region_name=region)
        for name in ("config_file", "credentials_file"):
            self._session.set_config_variable(name, os.devnull)
        self._session.set_config_variable("profile", None)
        self._endpoint_url = endpoint_url

    def client(self, *args: Any, **kwargs: Any) -> Any:
        return super().client(*args, **{**kwargs, "endpoint_url": self._endpoint_url})

    def resource(self, *args: Any, **kwargs: Any) -> Any:
        return super().resource(*args, **{**kwargs, "endpoint_url": self._endpoint_url})


def session_to(endpoint_url: str, region: str) -> boto3.Session:
    """A session whose every client goes to that endpoint, with keys that open nothing."""
    return _EndpointSession(endpoint_url, region)


def remove_state(root: Path) -> list[str]:
    """Remove everything a daemon left, when none runs: images, instances, logs. Returns the image ids removed."""
    removed = sorted(path.name for path in (root / "images").glob("ami-*"))
    for name in ("images", "instances", "bases", "parameters"):
        shutil.rmtree(root / name, ignore_errors=True)
    for name in (DAEMON_FILE, LOG_FILE):
        (root / name).unlink(missing_ok=True)
    return removed


def _daemon_environment() -> dict[str, str]:
    """Nothing of the user's AWS settings: moto itself makes boto3 sessions."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    return kept | {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}


def _runs_daemon(pid: int) -> bool:
    """Whether that process is a daemon of ours, and not another one that got its number."""
    try:
        return b"pipeline.rehearsal.daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
