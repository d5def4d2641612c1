"""AWS as a target: what is asked before anything is made."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws

from pipeline.catalog import load_catalog
from pipeline.errors import CatalogError, CloudError, MachineError
from pipeline.target import AgentSource, AwsTarget


@pytest.fixture
def plugin_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "session-manager-plugin"
    plugin.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def account() -> Iterator[None]:
    with mock_aws():
        yield


def test_without_session_manager_plugin_no_bake_begins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError) as error:
        AwsTarget(load_catalog(), "eu-west-1")
    assert str(error.value) == (
        "session-manager-plugin is not on this machine\n"
        "  expected: the program on PATH: Packer reaches the builder through it, with no port open\n"
        "  where:    images/catalog.yaml, targets > aws > ssh_interface\n"
        "  do:       install AWS's session-manager-plugin, or set ssh_interface to public_ip (own address only)"
    )


@pytest.mark.usefixtures("plugin_on_path")
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


@pytest.mark.usefixtures("plugin_on_path", "account")
def test_the_agent_comes_from_the_regions_bucket_and_its_key_is_the_catalogs() -> None:
    assert AwsTarget(load_catalog(), "ap-southeast-2").agent_source() == AgentSource(
        url="https://005257825471-ap-southeast-2-guardduty-agent-rpm-artifacts.s3.ap-southeast-2.amazonaws.com",
        fingerprint="747891EF537813344456760306C906A7093FF49D",
    )


@pytest.mark.usefixtures("plugin_on_path", "account")
def test_a_region_without_a_known_bucket_is_refused() -> None:
    with pytest.raises(CatalogError, match=r"publishes the GuardDuty agent's RPM in ap-southeast-5"):
        AwsTarget(load_catalog(), "ap-southeast-5").agent_source()


@pytest.mark.usefixtures("plugin_on_path", "account")
def test_packer_gets_the_settings_of_aws_and_nothing_else_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    target = AwsTarget(load_catalog(), "eu-west-1")
    monkeypatch.setenv("AWS_PROFILE", "images")
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("TMPDIR", "/large/tmp")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/company/ca.pem")
    environment = target.packer_environment()
    assert environment["AWS_PROFILE"] == "images"
    assert environment["AWS_REGION"] == "eu-west-1"
    assert environment["TMPDIR"] == "/large/tmp"
    assert environment["SSL_CERT_FILE"] == "/etc/company/ca.pem"
    assert "GITHUB_TOKEN" not in environment


@pytest.mark.usefixtures("plugin_on_path")
def test_a_profile_that_is_not_there_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "imagse")
    with pytest.raises(CloudError, match=r"The config profile \(imagse\) could not be found"):
        AwsTarget(load_catalog(), "eu-west-1")
