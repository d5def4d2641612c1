"""Whole bakes in a local cloud of the tests' own: commands as a user starts them, and what stands before and after.

`python -m tests.end_to_end JSON` is `./run build-image --force` with one part replaced, named by `Instead`: the
folder that images are made from, the store that the agent comes from, or the time of day.
"""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from pydantic import BaseModel

from pipeline import flow, paths
from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.clock import SystemClock
from pipeline.commands import CommandResult, run_on_instance, wait_until_managed
from pipeline.packer import CLEAN_UP_SECONDS
from pipeline.progress import Progress
from pipeline.record import Record
from pipeline.rehearsal.cloud import LocalCloud
from pipeline.rehearsal.journal import Call
from pipeline.rehearsal.target import FILES_URL, open_local_target
from pipeline.render import FACTS_AFTER, REBOOTS
from pipeline.signals import as_interrupted
from pipeline.target import AgentSource
from pipeline.tools import ensure_tools
from pipeline.wait import poll

VARIANT, FLAVOUR, REGION = "ecs-al2-kernel-5.10", "x86_64", "eu-central-1"
INSTANCE_TYPE = "c6i.large"
HANGS_SECONDS = 900


class Instead(BaseModel):
    """What a bake is given in place of what the checkout and the target have."""

    images: Path = paths.IMAGES
    store: Path | None = None
    fingerprint: str = ""
    hours_ago: float = 0


@dataclass(frozen=True)
class Ended:
    """A command that has ended; what it printed on both streams, as a terminal would show it."""

    exit_code: int
    output: str


class Command:
    """A command under way, in a process group of its own as in a terminal. One that hangs is killed."""

    def __init__(self, argv: list[str | Path], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            argv,
            cwd=paths.CHECKOUT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._output = ""
        self._watchdog = threading.Timer(HANGS_SECONDS, self.signal, [signal.SIGKILL])
        self._watchdog.daemon = True
        self._watchdog.start()

    def until(self, words: str) -> None:
        """Follow what it prints up to a line with these words; it is an AssertionError if they never come."""
        for line in self._lines():
            if words in line:
                return
        raise AssertionError(f"ended without a word of '{words}':\n{self._output}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, as a terminal's Ctrl-C does."""
        os.killpg(self._process.pid, number)

    def end(self) -> Ended:
        """Follow it to its end."""
        for _ in self._lines():
            pass
        code = self._process.wait()
        self._watchdog.cancel()
        return Ended(code, self._output)

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._output += line
            yield line


class OwnCloud:
    """A local cloud beside the user's: own images, records and locks; tools and base guests are shared."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def cloud(self) -> LocalCloud:
        found = LocalCloud.find(self.root)
        assert found is not None, f"no local cloud runs in {self.root}"
        return found

    @property
    def session(self) -> boto3.Session:
        return self.cloud.session(REGION)

    def start(self, *words: str) -> Command:
        """Start `./run` with these words."""
        return Command([paths.CHECKOUT / "run", *words], self._environment())

    def run(self, *words: str) -> Ended:
        """`./run` with these words, to its end."""
        return self.start(*words).end()

    def start_bake(self, instead: Instead) -> Command:
        """Start a bake with a part replaced."""
        argv = [sys.executable, "-m", "tests.end_to_end", instead.model_dump_json()]
        return Command([*argv], self._environment())

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "OVENPROOF_CACHE": str(paths.cache_root()), "OVENPROOF_LOCAL": str(self.root)}

    def standing(self) -> set[str]:
        """Everything that a bake makes and that is there now: in the account, and as processes of this machine."""
        ec2: Any = self.session.client("ec2")
        iam: Any = self.session.client("iam")
        ecs: Any = self.session.client("ecs")
        clusters = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
        bases = {
            mapping["Ebs"]["SnapshotId"]
            for image in ec2.describe_images(Owners=["amazon"])["Images"]
            for mapping in image["BlockDeviceMappings"]
        }
        found = {
            "image": [one["ImageId"] for one in ec2.describe_images(Owners=["self"])["Images"]],
            "snapshot": {one["SnapshotId"] for one in ec2.describe_snapshots()["Snapshots"]} - bases,
            "volume": [one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]],
            "group": [
                one["GroupName"]
                for one in ec2.describe_security_groups()["SecurityGroups"]
                if one["GroupName"] != "default"
            ],
            "key pair": [one["KeyName"] for one in ec2.describe_key_pairs()["KeyPairs"]],
            "profile": [one["InstanceProfileName"] for one in iam.list_instance_profiles()["InstanceProfiles"]],
            "role": [one["RoleName"] for one in iam.list_roles()["Roles"]],
            "cluster": [one["clusterName"] for one in clusters if one["status"] == "ACTIVE"],
            "instance": [
                one["InstanceId"]
                for reservation in ec2.describe_instances()["Reservations"]
                for one in reservation["Instances"]
                if one["State"]["Name"] != "terminated"
            ],
            "guest process": self.guest_processes(),
        }
        return {f"{kind} {name}" for kind, names in found.items() for name in names}

    def guest_processes(self) -> list[int]:
        """QEMU processes with a disk of this cloud."""
        return [pid for pid in processes_of("qemu-system") if str(self.root) in said_by_kernel(pid, "cmdline")]

    def packer_processes(self) -> list[int]:
        """Packer and its plugins, at work in this cloud."""
        endpoint = f"AWS_ENDPOINT_URL={self.cloud.endpoint_url}\n"
        return [pid for pid in processes_of("packer") if endpoint in said_by_kernel(pid, "environ")]

    def bakes(self) -> list[Path]:
        """The folder of each bake, oldest first."""
        return sorted(path for path in (self.root / "records").iterdir() if path.is_dir())

    @contextmanager
    def instance_of(self, image_id: str) -> Iterator["Instance"]:
        """A new instance of an image, answering to SSM; gone at the end."""
        ec2: Any = self.session.client("ec2")
        launched = ec2.run_instances(ImageId=image_id, InstanceType=INSTANCE_TYPE, MinCount=1, MaxCount=1)
        instance_id = launched["Instances"][0]["InstanceId"]
        try:
            wait_until_managed(self.session, instance_id, clock=SystemClock(), timeout_seconds=300, every_seconds=1)
            yield Instance(instance_id, self.session)
        finally:
            ec2.terminate_instances(InstanceIds=[instance_id])
            ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1})

    @contextmanager
    def without_data_endpoint(self) -> Iterator[None]:
        """Meanwhile no guest reaches GuardDuty: the VPC's endpoint to its data service is deleted."""
        ec2: Any = self.session.client("ec2")
        endpoints = ec2.describe_vpc_endpoints(
            Filters=[{"Name": "service-name", "Values": [f"com.amazonaws.{REGION}.guardduty-data"]}]
        )["VpcEndpoints"]
        [endpoint] = [one for one in endpoints if one["State"] == "available"]
        ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
        try:
            yield
        finally:
            ec2.create_vpc_endpoint(
                VpcEndpointType="Interface",
                VpcId=endpoint["VpcId"],
                ServiceName=endpoint["ServiceName"],
                SubnetIds=endpoint["SubnetIds"],
                PrivateDnsEnabled=True,
            )

    @classmethod
    def open(cls) -> "OwnCloud":
        """One with nothing in it. Its path is short, because sockets lie in it."""
        return cls(Path(tempfile.mkdtemp(prefix="ovp-e2e-")))

    def close(self) -> None:
        """End it with every guest, and remove what it held."""
        if cloud := LocalCloud.find(self.root):
            cloud.stop()
        shutil.rmtree(self.root)


@dataclass(frozen=True)
class Instance:
    """An instance that takes commands."""

    id: str
    session: boto3.Session

    def run(self, script: str, *, timeout_seconds: int = 300) -> CommandResult:
        """Run a shell script as root, through SSM as anybody would."""
        return run_on_instance(
            self.session, self.id, [script], clock=SystemClock(), timeout_seconds=timeout_seconds, every_seconds=0.5
        )


@dataclass(frozen=True)
class Proven:
    """The one real bake of a test run: what the command said, what it left, and what it called."""

    said: Ended
    folder: Path
    calls: tuple[Call, ...]
    """What it and Packer called in the local cloud."""

    @cached_property
    def record(self) -> Record:
        return Record.model_validate_json((self.folder / "record.json").read_bytes())

    @property
    def image_id(self) -> str:
        return self.record.images[REGION]


def said_by_kernel(pid: int, about: str) -> str:
    """`cmdline` or `environ` of a process, an entry a line; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/{about}").read_bytes().replace(b"\0", b"\n").decode(errors="replace")
    except OSError:
        return ""


def processes_of(program: str) -> Iterator[int]:
    """The processes whose program's name holds these words."""
    for folder in Path("/proc").glob("[0-9]*"):
        if program in said_by_kernel(int(folder.name), "cmdline").partition("\n")[0]:
            yield int(folder.name)


def wait_for(look: Callable[[], Any], what: str, *, timeout_seconds: float = CLEAN_UP_SECONDS) -> None:
    """Look until the answer is true. AssertionError when it never is."""
    found = poll(look, bool, clock=SystemClock(), timeout_seconds=timeout_seconds, every_seconds=0.1)
    assert found, f"not within {timeout_seconds} s: {what}"


def quick_images(folder: Path, proven: Proven, scripts: Mapping[str, str]) -> Path:
    """A copy of images/ that bakes in a minute, with these scripts by file name and hardly any other.

    There is no reboot, and the facts are not collected but taken from the bake that was real.
    """
    images = folder / "images"
    shutil.copytree(paths.IMAGES, images)
    for script in (images / "provision").iterdir():
        script.unlink()
    shutil.copy(proven.folder / "facts.json", images / "checks")  # a folder that is uploaded
    databases = "/etc/os-release /var/lib/dpkg/status"
    facts = f"cp checks/facts.json .\ntar --create --gzip --file package-databases.tar.gz {databases}\n"
    known = {
        f"{REBOOTS}.sh": "true\n",
        f"{FACTS_AFTER}.sh": f"set -e\ncd /var/tmp/ovenproof\n{facts}",
        **scripts,
    }
    for name, text in known.items():
        (images / "provision" / name).write_text(text)
    return images


def without_escapes(console: str) -> str:
    """A serial console's text without what moves the cursor or sets colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console)


class _EarlierClock(SystemClock):
    """The machine's clock, set back: a bake that began then."""

    def __init__(self, hours: float) -> None:
        self._back = timedelta(hours=hours)

    def now(self) -> datetime:
        return super().now() - self._back


def bake(instead: Instead) -> str:
    """`flow.build_image` on the local target, with parts replaced."""
    progress = Progress()
    with as_interrupted():
        catalog = load_catalog()
        selection = catalog.select(VARIANT, FLAVOUR)
        cache = Cache(paths.cache_root(), progress.say)
        tools = ensure_tools(cache, progress)
        today = SystemClock().now().date()
        target = open_local_target(catalog, selection, REGION, today=today, cache=cache, progress=progress)
        if instead.store:
            target.cloud.serve(instead.store.name, instead.store)
            agent = AgentSource(url=f"{FILES_URL}/{instead.store.name}", fingerprint=instead.fingerprint)
            target = dataclasses.replace(target, agent=agent)
        return flow.build_on(
            target,
            catalog,
            selection,
            tools=tools,
            force=True,
            clock=_EarlierClock(instead.hours_ago),
            progress=progress,
            images=instead.images,
        )


if __name__ == "__main__":
    from tasks import tells_errors

    tells_errors(lambda: print(bake(Instead.model_validate_json(sys.argv[1]))))()  # noqa: T201
