"""Where documents run, by the target's name."""

import os

import pytest

from pipeline.catalog import load_catalog
from pipeline.engine import open_engine
from pipeline.errors import CloudError, UsageError


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no credentials of AWS, and no settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("region", ["", "eu-west-1"])
def test_without_a_region_the_catalogs_own_is_meant(region: str) -> None:
    with pytest.raises(CloudError, match="AWS does not know who is asking") as refused:
        open_engine("aws", region, "")

    assert refused.value.where == f"STS in {region or load_catalog().default_region}"


@pytest.mark.parametrize(("on", "fleet"), [("mars", ""), ("aws", "twenty")])
def test_what_is_no_place_to_run_is_said(on: str, fleet: str) -> None:
    with pytest.raises(UsageError):
        open_engine(on, "", fleet)
