"""From the name of a target to the target, or to why there is none."""

from pathlib import Path

import pytest

from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.errors import CloudError, UsageError
from pipeline.progress import Progress
from pipeline.targets import open_session, open_target
from tests.doubles import START


def test_a_target_that_is_none_is_refused(tmp_path: Path) -> None:
    catalog = load_catalog()
    selection = catalog.select("ecs-al2023", "arm64")
    with pytest.raises(UsageError) as error:
        open_target("azure", catalog, selection, "", today=START.date(), cache=Cache(tmp_path), progress=Progress())
    assert str(error.value) == "there is no target azure\n  expected: local or aws\n  where:    --on"


def test_a_flavour_without_a_stand_in_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    catalog = load_catalog()
    selection = catalog.select("ecs-al2-kernel-5.10", "gpu")
    with pytest.raises(UsageError) as error:
        open_target("local", catalog, selection, "", today=START.date(), cache=Cache(tmp_path), progress=Progress())
    assert str(error.value) == (
        "ecs-al2-kernel-5.10/gpu cannot be baked on this machine\n"
        "  expected: the flavour x86_64: the only one that has a stand-in for its base\n"
        "  found:    gpu\n"
        "  do:       bake it in AWS with `--on aws`; its template is rendered and validated here by `./run test`"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_session_of_no_target_is_refused_in_the_same_words() -> None:
    with pytest.raises(UsageError) as error:
        open_session("azure", "eu-central-1")
    assert str(error.value) == "there is no target azure\n  expected: local or aws\n  where:    --on"


def test_a_sweep_in_aws_without_credentials_is_told_as_a_bake_is() -> None:
    with pytest.raises(CloudError, match="AWS does not know who is asking"):
        open_session("aws", "eu-central-1")


def test_a_local_cloud_that_does_not_run_has_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVENPROOF_LOCAL", str(tmp_path))
    assert open_session("local", "eu-central-1") is None
