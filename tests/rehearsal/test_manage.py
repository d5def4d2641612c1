"""`./run local`, in words."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.rehearsal.cloud import ImageStatus, InstanceStatus, Status
from pipeline.rehearsal.manage import _local_status, manage


@pytest.fixture(autouse=True)
def _own_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVENPROOF_LOCAL", str(tmp_path))


def test_two_wishes_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="--start, --stop and --clean exclude each other"):
        manage(start=True, stop=True, clean=False)


def test_a_cloud_that_does_not_run_is_said_so_and_not_started() -> None:
    assert manage(start=False, stop=False, clean=False).startswith("the local cloud is not running;")
    assert manage(start=False, stop=True, clean=False).startswith("the local cloud is not running;")


def test_cleaning_removes_images_records_and_locks_also_when_nothing_runs(tmp_path: Path) -> None:
    for folder in ("images/ami-1", "records/bake-1", "locks"):
        (tmp_path / folder).mkdir(parents=True)
    assert manage(start=False, stop=False, clean=True) == "removed, with all local records and locks:\nami-1"
    assert list(tmp_path.iterdir()) == []


def test_the_status_names_each_thing_with_its_size() -> None:
    status = Status(
        pid=7,
        endpoint="http://127.0.0.1:5000",
        started=datetime(2026, 11, 23, tzinfo=UTC),
        uptime_seconds=65,
        instances=[
            InstanceStatus(
                instance_id="i-1",
                image_id="ami-0",
                region="eu-central-1",
                state="running",
                address="127.9.8.1",
                pid=8,
                memory_bytes=768 * 2**20,
                age_seconds=30,
                disk_bytes=2**20,
                tags={"BakeId": "bake-1"},
            )
        ],
        images=[
            ImageStatus(
                image_id="ami-1",
                region="eu-central-1",
                name="baked",
                created=datetime(2026, 11, 23, tzinfo=UTC),
                registered=False,
                disk_bytes=121 * 2**20,
            )
        ],
        bases=[],
    )
    assert _local_status(status) == (
        "local cloud: http://127.0.0.1:5000, process 7, up 1 min 05 s, 122 MiB of disk\n"
        "  instance i-1  running  127.9.8.1  process 8  768 MiB  30 s  of ami-0  bake bake-1\n"
        "  image    ami-1  121 MiB  baked  deregistered, still backs another disk"
    )
