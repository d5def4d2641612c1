"""A local cloud in a test's own process: real moto, real answers on loopback, machines that are not there."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core.base_backend import BackendDict
from moto.ec2.models import ec2_backends
from moto.guardduty.models import guardduty_backends
from moto.ssm.models import ssm_backends
from werkzeug.serving import make_server

from pipeline.rehearsal import ec2, guardduty, ssm, stand_in
from pipeline.rehearsal.cloud import session_to
from pipeline.rehearsal.daemon import Application, QuietHandler
from pipeline.rehearsal.guest import Addresses, Hosting
from pipeline.rehearsal.machine import Machine, MachineSpec
from pipeline.rehearsal.store import GIB, BaseRecord, Store
from pipeline.rehearsal.world import World
from tests.doubles import FakeClock
from tests.rehearsal.fake_machine import FakeMachine, Inline, fake_overlay

REGION = "us-east-1"  # the region moto looks its URLs up in: another would be a second backend to make
TOKEN = "the-token"


@dataclass
class Rehearsal:
    """The cloud under test and what stands behind it."""

    world: World
    clock: FakeClock
    root: Path
    session: boto3.Session = field(default_factory=boto3.Session)
    endpoint: str = ""
    machines: list[FakeMachine] = field(default_factory=list)
    memory: int = 64 * GIB

    @cached_property
    def ec2(self) -> Any:
        return self.session.client("ec2")

    @property
    def base_image(self) -> str:
        return stand_in.image_id(self.world.bases["al2"], REGION)

    def launch(self, image_id: str = "", **more: Any) -> str:
        answer = self.ec2.run_instances(
            ImageId=image_id or self.base_image, InstanceType="t3.small", MinCount=1, MaxCount=1, **more
        )
        return str(answer["Instances"][0]["InstanceId"])

    def instance(self, instance_id: str) -> Any:
        return self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]

    def state(self, instance_id: str) -> str:
        return str(self.instance(instance_id)["State"]["Name"])

    def stopped_instance(self) -> str:
        instance_id = self.launch()
        self.ec2.stop_instances(InstanceIds=[instance_id])
        return instance_id

    def make_image(self, name: str = "an-image", **more: Any) -> str:
        answer = self.ec2.create_image(InstanceId=self.stopped_instance(), Name=name, **more)
        return str(answer["ImageId"])

    def image(self, image_id: str) -> Any:
        return self.ec2.describe_images(ImageIds=[image_id])["Images"][0]


def make_world(root: Path, runtime: Path, rehearsal_of: list[Rehearsal]) -> World:
    """A world whose machines are fakes, kept in the rehearsal that is put into the list."""
    clock = FakeClock()

    def make_machine(spec: MachineSpec) -> Machine:
        machine = FakeMachine(spec)
        rehearsal_of[0].machines.append(machine)
        return machine

    hosting = Hosting(
        store=Store(root, make_overlay=fake_overlay),
        clock=clock,
        make_machine=make_machine,
        runtime=runtime,
        memory_available=lambda: rehearsal_of[0].memory,
        addresses=Addresses(can_listen=lambda _: True),
        workers=Inline(),
    )
    return World(hosting=hosting, clock=clock)


def a_base(root: Path) -> BaseRecord:
    disk = root / "base.qcow2"
    fake_overlay(disk, root, size_bytes=3 * GIB)
    return BaseRecord(line="al2", disk=disk, digest="d1", made=datetime(2026, 11, 20, 8, tzinfo=UTC))


def start_over() -> None:
    """Let moto make its backends anew: by ours, and by nobody's of the test before."""
    BackendDict.reset()


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder with a path short enough for sockets, which pytest's is not."""
    folder = Path(tempfile.mkdtemp(prefix="ovp-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def rehearsal(tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rehearsal]:
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # seconds a test; one test wants them
    made: list[Rehearsal] = []
    world = make_world(tmp_path / "local", runtime, made)
    clock = world.clock
    assert isinstance(clock, FakeClock)
    made.append(Rehearsal(world=world, clock=clock, root=tmp_path / "local"))
    world.add_base(a_base(tmp_path))
    start_over()
    for backends in (ec2_backends, ssm_backends, guardduty_backends):
        monkeypatch.setattr(backends, "backend", backends.backend)  # other tests of this process want moto's own back
    for service in (ec2, ssm, guardduty):
        service.install(world)
    application = Application(world, token=TOKEN, started=clock.now(), stop=lambda: None)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=QuietHandler)
    application.endpoint = made[0].endpoint = f"http://127.0.0.1:{server.port}"
    made[0].session = session_to(made[0].endpoint, REGION)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made[0]
    server.shutdown()
    start_over()
