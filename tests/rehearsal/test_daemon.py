"""The daemon's admin calls, and the daemon itself as a process."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import MachineError
from pipeline.rehearsal import stand_in
from pipeline.rehearsal.cloud import ADMIN_PREFIX, LOG_FILE, LocalCloud, code_digest, remove_state
from pipeline.rehearsal.daemon import RUNTIME_FILE, remove_old_runtime
from pipeline.rehearsal.store import BaseRecord
from pipeline.wait import poll
from tests.rehearsal.conftest import TOKEN, Rehearsal


def admin(rehearsal: Rehearsal, method: str, call: str, body: Any = None, token: str = TOKEN) -> tuple[int, str]:
    request = urllib.request.Request(  # noqa: S310 - our own server
        rehearsal.endpoint + ADMIN_PREFIX + call,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"x-ovenproof-token": token},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_only_the_client_with_the_token_is_answered(rehearsal: Rehearsal) -> None:
    assert admin(rehearsal, "GET", "status", token="guess") == (403, "not for you\n")


def test_the_status_lists_what_is_there(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    running = rehearsal.launch(
        image_id, TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Owner", "Value": "me"}]}]
    )
    status = json.loads(admin(rehearsal, "GET", "status")[1])
    assert [(one["image_id"], one["name"], one["registered"]) for one in status["images"]] == [
        (image_id, "an-image", True)
    ]
    (found,) = [one for one in status["instances"] if one["instance_id"] == running]
    assert (found["state"], found["image_id"], found["tags"], found["pid"]) == (
        "running",
        image_id,
        {"Owner": "me"},
        4242,
    )


def test_a_folder_for_failure_tests_can_be_served_beside_the_others(rehearsal: Rehearsal, tmp_path: Path) -> None:
    assert admin(rehearsal, "POST", "roots", {"artifacts-flipped": str(tmp_path)}) == (200, "{}")
    assert rehearsal.world.roots == {"artifacts-flipped": tmp_path}


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_name_that_is_no_name_is_refused(rehearsal: Rehearsal, name: str) -> None:
    assert admin(rehearsal, "POST", "roots", {name: "/etc"}) == (
        400,
        f"{name!r} is not a name for a folder that is served\n",
    )


def test_cleaning_leaves_base_guests_only(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    rehearsal.ec2.enable_image_deregistration_protection(ImageId=image_id)
    rehearsal.launch(image_id)
    status, body = admin(rehearsal, "POST", "clean", {})
    assert (status, json.loads(body)["images"]) == (200, [image_id])
    assert list(rehearsal.world.hosting.store.images.iterdir()) == []
    assert list(rehearsal.world.hosting.store.instances.iterdir()) == []
    assert [image["ImageId"] for image in rehearsal.ec2.describe_images()["Images"]] == [rehearsal.base_image]


@pytest.mark.parametrize("inside", ["kept", "ovp-kept"])
def test_a_note_that_names_another_folder_removes_nothing(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / inside
    folder.mkdir()
    (tmp_path / RUNTIME_FILE).write_text(str(folder), encoding="utf-8")
    assert remove_old_runtime(tmp_path) == []
    assert folder.is_dir()


def test_no_daemon_is_found_where_none_runs(tmp_path: Path) -> None:
    assert LocalCloud.find(tmp_path) is None


def test_state_without_a_daemon_can_be_removed(rehearsal: Rehearsal) -> None:
    image_id = rehearsal.make_image()
    assert remove_state(rehearsal.root) == [image_id]
    assert list(rehearsal.root.iterdir()) == []


# With a real daemon and real QEMU


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LocalCloud]:
    """A daemon that knows a base guest with an empty disk: enough for everything but a system in it."""
    disk = tmp_path / "empty.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M"], check=True)
    base = BaseRecord(line="al2", disk=disk, digest="empty", made=datetime(2026, 11, 20, tzinfo=UTC))
    made = LocalCloud.ensure(tmp_path / "local", bases=[base])
    yield made
    if last := LocalCloud.find(made.root):
        last.stop()


def start_guest(cloud: LocalCloud) -> tuple[Any, str]:
    ec2 = cloud.session("us-east-1").client("ec2")
    image = stand_in.image_id(cloud.status().bases[0], "us-east-1")
    launched = ec2.run_instances(ImageId=image, InstanceType="t3.small", MinCount=1, MaxCount=1)
    instance_id = str(launched["Instances"][0]["InstanceId"])
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1})
    return ec2, instance_id


def gone(pid: int) -> bool:
    return poll(
        lambda: not Path(f"/proc/{pid}").exists(), bool, clock=SystemClock(), timeout_seconds=20, every_seconds=0.1
    )


@pytest.mark.slow
def test_a_second_client_meets_the_same_daemon(cloud: LocalCloud) -> None:
    assert LocalCloud.ensure(cloud.root).daemon == cloud.daemon
    environment = cloud.environment("eu-central-1")
    assert environment["AWS_ENDPOINT_URL"] == cloud.endpoint_url
    assert environment["AWS_EC2_METADATA_DISABLED"] == "true"
    assert (cloud.root / "daemon.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_stopping_ends_the_guests_and_removes_their_disks(cloud: LocalCloud) -> None:
    _, instance_id = start_guest(cloud)
    (guest,) = cloud.status().instances
    assert guest.instance_id == instance_id
    assert guest.pid is not None
    cloud.stop()
    assert gone(guest.pid)
    assert list((cloud.root / "instances").iterdir()) == []
    assert LocalCloud.find(cloud.root) is None


@pytest.mark.slow
def test_a_killed_daemon_takes_its_guests_along_and_the_next_one_cleans_up(cloud: LocalCloud) -> None:
    ec2, instance_id = start_guest(cloud)
    image_id = ec2.create_image(InstanceId=instance_id, Name="an-image", NoReboot=True)["ImageId"]
    (guest,) = cloud.status().instances
    sockets = Path((cloud.root / RUNTIME_FILE).read_text(encoding="utf-8"))
    assert sockets.is_dir()
    os.kill(cloud.daemon.pid, signal.SIGKILL)
    assert guest.pid is not None
    assert gone(guest.pid)
    again = LocalCloud.ensure(cloud.root)
    assert again.daemon.pid != cloud.daemon.pid
    assert not sockets.exists()
    assert again.status().instances == []
    assert [image.image_id for image in again.status().images] == [image_id]
    assert f"removed the disk of instance {instance_id}, whose daemon is gone" in (
        (cloud.root / LOG_FILE).read_text(encoding="utf-8")
    )


@pytest.mark.slow
def test_a_daemon_of_other_code_is_restarted_unless_guests_run_in_it(cloud: LocalCloud) -> None:
    _, instance_id = start_guest(cloud)
    path = cloud.root / "daemon.json"
    path.write_text(path.read_text(encoding="utf-8").replace(code_digest(), "older"), encoding="utf-8")
    with pytest.raises(MachineError) as caught:
        LocalCloud.ensure(cloud.root)
    assert (caught.value.found, caught.value.remedy) == (
        instance_id,
        "wait for the bake that uses it, or end it: ./run local stop",
    )
    cloud.clean()
    assert LocalCloud.ensure(cloud.root).daemon.pid != cloud.daemon.pid


@pytest.mark.slow
def test_a_daemon_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("in the way", encoding="utf-8")
    with pytest.raises(MachineError) as caught:
        LocalCloud.ensure(tmp_path)
    error = caught.value
    assert (error.what, error.where) == ("the local cloud did not come up", str(tmp_path / LOG_FILE))
    assert error.found.startswith("it ended with exit code 1\n")
    assert f"FileExistsError: [Errno 17] File exists: '{tmp_path / 'images'}'" in error.found
