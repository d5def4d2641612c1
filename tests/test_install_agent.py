"""InstallAgent as SSM would run it: its script on this machine, with programs that play what it would change."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.catalog import load_catalog
from pipeline.documents import document_text
from tests.test_lint import PROGRAMS
from tests.test_provision import (
    GENERATOR,
    VERSION,
    Guest,
    Signer,
    Store,
    aws,
    flip_a_byte,
    guest,
    installed,
    installing,
    keys,
    store,
)

__all__ = ["aws", "guest", "installing", "keys", "store"]  # fixtures

PINNED = load_catalog().agent.key_fingerprint
AWS_HOST = "https://323658145986-eu-central-1-guardduty-agent-rpm-artifacts.s3.eu-central-1.amazonaws.com"


def script_text() -> str:
    (step,) = yaml.safe_load(document_text("Ovenproof-InstallAgent"))["mainSteps"]
    return str(step["inputs"]["runCommand"][0])


@pytest.fixture
def host(installing: Guest, aws: Signer) -> Iterator[Guest]:
    """A running host: nothing of a bake on its disk, and our test key in the place of AWS's."""
    subprocess.run(["rm", "-r", str(installing.state)], check=True)
    source = installing.env.pop("OVENPROOF_AGENT_URL")
    for name in ("OVENPROOF_ARCH", "OVENPROOF_AGENT_VERSION", "OVENPROOF_AGENT_FINGERPRINT", "OVENPROOF_KERNEL_LINE"):
        del installing.env[name]
    installing.env |= {"SSM_Version": VERSION, "SSM_Source": source}
    (installing.folder / "script").write_text(script_text().replace(PINNED, aws.fingerprint))
    running(installing, "5.10.245-241.976.amzn2.x86_64", "x86_64")
    yield installing


def running(guest: Guest, kernel: str, machine: str) -> None:
    guest.program("uname", f'case "$1" in -m) echo {machine} ;; *) echo {kernel} ;; esac\n')


def run(guest: Guest, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", guest.folder / "script"],
        env=guest.env | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_package_by_the_pinned_key_is_installed_and_told_in_one_line(host: Guest) -> None:
    done = run(host)

    assert done.stderr == ""
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1]) == {"agent_version": VERSION, "changed": True}
    assert installed(host)
    assert "systemctl enable amazon-guardduty-agent.service" in host.calls()
    generator = host.disk / "lib/systemd/system-generators/ovenproof-agent-limits"
    assert generator.read_text() == GENERATOR.read_text()
    assert not host.state.exists()


def test_the_same_version_again_changes_nothing(host: Guest) -> None:
    run(host)
    (host.folder / "calls").unlink()

    done = run(host)

    assert json.loads(done.stdout.splitlines()[-1]) == {"agent_version": VERSION, "changed": False}
    assert not installed(host)


@pytest.mark.parametrize("kernel", ["4.14.355-280.672.amzn2.x86_64", "5.3.18-1", "3.10.0-1160.el7.x86_64"])
def test_a_kernel_that_the_agent_does_not_support_is_refused_before_anything(host: Guest, kernel: str) -> None:
    running(host, kernel, "x86_64")

    done = run(host)

    assert done.returncode == 1
    assert done.stderr.startswith(f"ovenproof-error: kernel-unsupported: kernel {kernel} is older than")
    assert "Ovenproof-RollFleet" in done.stderr
    assert not installed(host)
    assert not host.state.exists()


@pytest.mark.parametrize("kernel", ["5.4.0-1", "5.10.245-241.976.amzn2.x86_64", "6.1.158-178.288.amzn2023.x86_64"])
def test_supported_kernels_are_let_through(host: Guest, kernel: str) -> None:
    running(host, kernel, "x86_64")

    assert run(host).returncode == 0


def test_the_signature_counts_as_in_a_bake(host: Guest, store: Store) -> None:
    flip_a_byte(store)

    done = run(host)

    assert done.returncode == 1
    assert "ovenproof-error: signature-bad: BADSIG" in done.stderr
    assert not installed(host)
    assert not host.state.exists()


def test_only_the_key_of_the_catalog_counts(host: Guest) -> None:
    (host.folder / "script").write_text(script_text())

    done = run(host)

    assert "ovenproof-error: key-mismatch" in done.stderr
    assert PINNED in done.stderr
    assert not installed(host)


def test_parameters_that_came_in_another_way_are_refused(host: Guest) -> None:
    del host.env["SSM_Source"]

    done = run(host)

    assert done.stderr.startswith("ovenproof-error: ssm-agent-old: ")
    assert "3.3.2746.0" in done.stderr


def metadata(host: Guest, region: str) -> None:
    """curl that plays the metadata service, and writes down what else it is asked for."""
    host.program(
        "curl",
        f'case "$*" in *api/token*) echo token ;; *placement/region*) echo {region} ;; '
        '*) echo "no route" >&2; exit 7 ;; esac\n',
    )


def test_without_a_source_the_hosts_own_region_decides(host: Guest) -> None:
    metadata(host, "eu-central-1")

    done = run(host, SSM_Source="")

    assert "ovenproof-error: fetch-failed" in done.stderr
    assert any(f"{AWS_HOST}/{VERSION}/publickey.pem" in call for call in host.calls())


def test_every_region_of_the_catalog_leads_to_its_bucket() -> None:
    agent = load_catalog().agent
    for region, account in agent.accounts.items():
        assert f"{region}) account={account} ;;" in script_text()
        bucket = f"https://{account}-{region}-guardduty-agent-rpm-artifacts.s3.{region}.amazonaws.com"
        assert agent.artifact_url(region) == bucket
    assert "https://$account-$region-guardduty-agent-rpm-artifacts.s3.$region.amazonaws.com" in script_text()


def test_a_region_without_a_known_account_is_refused(host: Guest) -> None:
    metadata(host, "ap-southeast-5")

    done = run(host, SSM_Source="")

    assert done.stderr.startswith("ovenproof-error: region-unknown: ")


def test_a_machine_without_an_agent_is_refused(host: Guest) -> None:
    running(host, "5.10.0-1", "riscv64")

    assert run(host).stderr.startswith("ovenproof-error: arch-unsupported: ")


def test_a_folder_that_leads_elsewhere_is_not_used(host: Guest, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    host.state.symlink_to(tmp_path / "elsewhere")

    done = run(host)

    assert done.stderr.startswith("ovenproof-error: state-foreign: ")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not installed(host)


def test_two_at_once_do_not_meet(host: Guest) -> None:
    lock = host.disk / "run" / "ovenproof-install.lock"
    lock.parent.mkdir()
    with subprocess.Popen(
        ["flock", lock, "sh", "-c", "echo held; read _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdin
        assert holder.stdout.readline() == b"held\n"

        done = run(host)

        holder.stdin.close()
    assert done.stderr.startswith("ovenproof-error: busy: ")
    assert not installed(host)


def test_the_script_passes_shellcheck(tmp_path: Path) -> None:
    (tmp_path / "install.sh").write_text(script_text())

    said = subprocess.run(
        [PROGRAMS / "shellcheck", tmp_path / "install.sh"], capture_output=True, text=True, check=False
    )

    assert said.stdout == ""
    assert said.returncode == 0


def test_parameters_come_by_environment_and_never_as_text() -> None:
    document = yaml.safe_load(document_text("Ovenproof-InstallAgent"))

    assert {one["interpolationType"] for one in document["parameters"].values()} == {"ENV_VAR"}
    assert "{{" not in yaml.safe_dump(document["mainSteps"])
