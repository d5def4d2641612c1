"""What every test may rely on: nothing of the user's own cache, settings or cloud is in reach."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.rehearsal.cloud import LocalCloud
from tests.end_to_end import OwnCloud, Proven


@pytest.fixture(autouse=True)
def _no_cloud_in_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test that forgets to hand in a session must fail at once, not talk to somebody's account."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def own_cloud() -> Iterator[OwnCloud]:
    """The local cloud of all end-to-end tests; nothing of it is left afterwards."""
    cloud = OwnCloud.open()
    yield cloud
    cloud.close()


@pytest.fixture(scope="session")
def proven(own_cloud: OwnCloud) -> Proven:
    """The one real bake of the run, started as a user starts it. Minutes."""
    earlier = found.calls().so_far if (found := LocalCloud.find(own_cloud.root)) else 0
    said = own_cloud.run("build-image")
    assert said.exit_code == 0, said.output
    calls = own_cloud.cloud.calls(earlier).calls
    record = re.search(r"record: +(/\S+)", said.output)
    assert record, said.output
    return Proven(said, Path(record[1]).parent, calls)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes seconds comes before what takes minutes, so that a typing error is told first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
