"""AWS as a target: what is asked before anything is made."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws

from pipeline.catalog import load_catalog
from pipeline.errors import CatalogError, CloudError
from pipeline.target import AgentSource, AwsTarget


@pytest.fixture
def account() -> Iterator[None]:
    with mock_aws():
        yield


def test_without_credentials_no_bake_begins() -> None:
    with pytest.raises(CloudError) as error:
        AwsTarget(load_catalog(), "eu-west-1")
    assert str(error.value) == (
        "AWS does not know who is asking\n"
        "  expected: valid credentials in the environment, a profile or the instance\n"
        "  found:    Unable to locate credentials\n"
        "  where:    STS in eu-west-1\n"
        "  do:       sign in (`aws sso login`, AWS_PROFILE, a role) and run the command again"
    )


@pytest.mark.usefixtures("account")
def test_the_agent_comes_from_the_regions_bucket_and_its_key_is_the_catalogs() -> None:
    assert AwsTarget(load_catalog(), "ap-southeast-2").agent_source() == AgentSource(
        url="https://005257825471-ap-southeast-2-guardduty-agent-rpm-artifacts.s3.ap-southeast-2.amazonaws.com",
        fingerprint="747891EF537813344456760306C906A7093FF49D",
    )


@pytest.mark.usefixtures("account")
def test_a_region_without_a_known_bucket_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"publishes the GuardDuty agent's RPM in ap-southeast-5"):
        AwsTarget(load_catalog(), "ap-southeast-5").agent_source()


@pytest.mark.usefixtures("account")
def test_packer_gets_the_settings_of_aws_and_nothing_else_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    target = AwsTarget(load_catalog(), "eu-west-1", Path("/cache/plugin"))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("AWS_PROFILE", "images")
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("TMPDIR", "/large/tmp")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/company/ca.pem")
    environment = target.packer_environment()
    assert environment["AWS_PROFILE"] == "images"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert environment["PATH"] == "/cache/plugin:/usr/bin"
    assert environment["TMPDIR"] == "/large/tmp"
    assert environment["SSL_CERT_FILE"] == "/etc/company/ca.pem"
    assert "GITHUB_TOKEN" not in environment


def test_a_profile_that_is_not_there_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "imagse")
    with pytest.raises(CloudError, match=r"The config profile \(imagse\) could not be found"):
        AwsTarget(load_catalog(), "eu-west-1")
