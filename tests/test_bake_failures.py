"""What must stop a bake, and what must be left of it then: nothing. Real Packer, real guests, broken parts."""

import json
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline import paths
from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.commands import CommandResult
from pipeline.coverage import coverage_of, runtime_monitoring_detector
from pipeline.progress import Progress
from pipeline.rehearsal.packages import ArtifactStore, Tampering, ensure_artifacts, tampered
from pipeline.rehearsal.target import FILES_URL
from pipeline.sweep import PROOF_NAME
from tests.end_to_end import Command, Ended, Instance, Instead, OwnCloud, Proven, quick_images, wait_for

pytestmark = pytest.mark.slow

INSTALL_AGENT = "30-install-agent.sh"


@pytest.fixture
def before(own_cloud: OwnCloud, proven: Proven) -> set[str]:
    """What stands before a bake begins; the proven image is among it."""
    assert proven.image_id
    return own_cloud.standing()


@pytest.fixture(scope="module")
def store() -> ArtifactStore:
    """The agent's packages as they should be."""
    progress = Progress()
    return ensure_artifacts(load_catalog().agent.version, Cache(paths.cache_root(), progress.say), progress)


def locks(own_cloud: OwnCloud) -> dict[str, str]:
    return {path.name: path.read_text() for path in (own_cloud.root / "locks").iterdir()}


def script(name: str) -> str:
    return (paths.IMAGES / "provision" / name).read_text()


# -- signatures

CODES: dict[Tampering, str] = {
    "flipped-byte": "signature-bad",
    "other-key": "key-mismatch",
    "missing-signature": "signature-missing",
    "expired-key": "key-expired",
    "truncated": "package-truncated",
    "wrong-arch": "arch-mismatch",
}


def test_every_way_to_tamper_has_a_code_of_its_own() -> None:
    assert set(CODES) == set(get_args(Tampering))
    assert len(set(CODES.values())) == len(CODES)


@dataclass(frozen=True)
class Refusal:
    """How the provisioning script ended, and what rpm said of the agent afterwards."""

    done: CommandResult
    afterwards: str


@pytest.fixture(scope="module")
def refusals(
    own_cloud: OwnCloud, proven: Proven, store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory
) -> dict[Tampering, Refusal]:
    """The provisioning script against each broken store, on one instance of the base that never gets the agent."""
    folder, found = tmp_path_factory.mktemp("stores"), {}
    with own_cloud.instance_of(proven.record.base.id) as builder:
        for how in CODES:
            done = install_agent(own_cloud, builder, tampered(store, how, folder / f"agent-{how}"))
            found[how] = Refusal(done, builder.run("rpm -q amazon-guardduty-agent").stdout)
    return found


def install_agent(own_cloud: OwnCloud, builder: Instance, store: ArtifactStore) -> CommandResult:
    own_cloud.cloud.serve(store.root.name, store.root)
    return builder.run(
        f"export OVENPROOF_ARCH=x86_64 OVENPROOF_AGENT_VERSION={store.version}\n"
        f"export OVENPROOF_AGENT_FINGERPRINT={store.fingerprint} OVENPROOF_AGENT_URL={FILES_URL}/{store.root.name}\n"
        f"exec bash <<'SCRIPT'\n{script(INSTALL_AGENT)}\nSCRIPT\n"
    )


@pytest.mark.parametrize("how", CODES)
def test_no_agent_comes_from_a_tampered_store(refusals: dict[Tampering, Refusal], how: Tampering) -> None:
    done = refusals[how].done

    assert done.exit_code == 1
    assert re.findall(r"^ovenproof-error: (\S+):", done.stderr, re.MULTILINE) == [CODES[how]]
    assert refusals[how].afterwards == "package amazon-guardduty-agent is not installed\n"


# -- bakes that have to fail


FAILING = "echo the disk of the builder is upside down >&2\nexit 3\n"
FORGOTTEN = "echo secret >/etc/ssh/ssh_host_ed25519_key\necho ls >/root/.bash_history\n"
LIST_INSTALLED = "install -D -m 0644 /var/tmp/ovenproof/checks/leftovers.txt /usr/share/ovenproof/leftovers.txt\n"


@pytest.fixture(scope="module")
def failed(
    own_cloud: OwnCloud, proven: Proven, store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ended]:
    """Three bakes at once in one cloud, each with something else broken."""
    broken = tampered(store, "flipped-byte", tmp_path_factory.mktemp("store") / "agent-of-a-whole-bake")
    scripts = {
        "flipped byte": {INSTALL_AGENT: script(INSTALL_AGENT)},
        "failing script": {"10-security-updates.sh": FAILING},
        "leftovers": {
            "50-install-checks.sh": LIST_INSTALLED,
            "80-clean-up.sh": script("80-clean-up.sh"),
            "85-forget.sh": FORGOTTEN,
            "90-last-look.sh": script("90-last-look.sh"),
        },
    }
    before, locked = own_cloud.standing(), locks(own_cloud)
    bakes = {}
    for what, provision in scripts.items():
        instead = Instead(images=quick_images(tmp_path_factory.mktemp("images"), proven, provision))
        if what == "flipped byte":
            instead = instead.model_copy(update={"store": broken.root, "fingerprint": broken.fingerprint})
        bakes[what] = own_cloud.start_bake(instead)
    ended = {what: bake.end() for what, bake in bakes.items()}
    assert own_cloud.standing() == before, ended
    assert own_cloud.packer_processes() == [], ended
    assert locks(own_cloud) == locked, ended
    return ended


def test_a_flipped_byte_stops_the_whole_bake(failed: dict[str, Ended]) -> None:
    ended = failed["flipped byte"]

    assert ended.exit_code == 5, ended.output
    assert f"the bake stopped in {INSTALL_AGENT}: the agent's package is not what the pinned key signed" in ended.output
    assert "ovenproof-error: signature-bad: BADSIG: " in ended.output


def test_a_failing_script_is_named_with_its_last_lines(failed: dict[str, Ended]) -> None:
    ended = failed["failing script"]
    message = ended.output.partition("the bake stopped in ")[2]
    [log] = re.findall(r"where: +(/\S+)", message)

    assert ended.exit_code == 5, ended.output
    assert message.startswith("10-security-updates.sh\n")
    assert "the disk of the builder is upside down" in message
    assert "the disk of the builder is upside down" in Path(log).read_text()
    assert "exit status: 3" in message
    assert "image id" not in message


def test_what_is_left_after_clean_up_stops_the_bake(failed: dict[str, Ended]) -> None:
    ended = failed["leftovers"]

    assert ended.exit_code == 5, ended.output
    assert "the bake stopped in 90-last-look.sh" in ended.output
    assert "ovenproof-error: leftovers: 2 things are left on the disk that no image may carry" in ended.output
    assert "/etc/ssh/ssh_host_ed25519_key  (SSH host key of the builder)" in ended.output
    assert "/root/.bash_history  (what root typed)" in ended.output


# -- interrupts


def interrupted(own_cloud: OwnCloud, bake: Command, before: set[str]) -> None:
    """Press Ctrl-C and see that nothing is left."""
    during = own_cloud.standing()
    bake.signal(signal.SIGINT)
    ended = bake.end()

    assert during > before
    assert ended.exit_code == 130, ended.output
    assert "stopped by SIGINT" in ended.output
    assert own_cloud.standing() == before
    assert own_cloud.packer_processes() == []


@pytest.mark.parametrize("phase", ["start the builder", "connect to the builder", "00-wait-for-boot.sh"])
def test_an_interrupt_leaves_nothing(own_cloud: OwnCloud, before: set[str], phase: str) -> None:
    bake = own_cloud.start("build-image", "--force")
    bake.until(f"bake: {phase} ...")
    interrupted(own_cloud, bake, before)


def test_an_interrupt_while_the_image_is_made_leaves_nothing(
    own_cloud: OwnCloud, proven: Proven, before: set[str], tmp_path: Path
) -> None:
    bake = own_cloud.start_bake(Instead(images=quick_images(tmp_path, proven, {})))
    bake.until("bake: stop the builder ...")
    interrupted(own_cloud, bake, before)


def test_an_interrupt_in_the_proof_leaves_nothing(
    own_cloud: OwnCloud, proven: Proven, before: set[str], tmp_path: Path
) -> None:
    bake = own_cloud.start_bake(Instead(images=quick_images(tmp_path, proven, {})))
    bake.until("proof ...")
    wait_for(lambda: proof_runs(own_cloud), "the proof's instance runs")
    interrupted(own_cloud, bake, before)


def proof_runs(own_cloud: OwnCloud) -> bool:
    ec2: Any = own_cloud.session.client("ec2")
    filters = [
        {"Name": "tag:Name", "Values": [PROOF_NAME]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    return bool(ec2.describe_instances(Filters=filters)["Reservations"])


def test_a_killed_bake_is_swept_once_it_has_expired(own_cloud: OwnCloud, proven: Proven, before: set[str]) -> None:
    assert proven.image_id
    bake = own_cloud.start_bake(Instead(hours_ago=24))
    bake.until("bake: 00-wait-for-boot.sh ...")
    bake.signal(signal.SIGKILL)
    bake.end()
    wait_for(lambda: not own_cloud.packer_processes(), "Packer ends, with nobody to tell")
    abandoned = own_cloud.standing() - before
    bake_id = own_cloud.bakes()[0].name  # of yesterday

    said = own_cloud.run("sweep")

    assert {name.split()[0] for name in abandoned} >= {"instance", "group", "profile", "role", "guest"}
    assert said.exit_code == 0, said.output
    for kind in ("instance", "security group", "key pair", "instance profile", "role"):
        assert re.search(
            rf"^removed {kind} \S+: bake {bake_id} expired at \S+, \d+ min ago$", said.output, re.MULTILINE
        )
    assert own_cloud.standing() == before
    assert own_cloud.run("sweep").output == "nothing has outlived its bake\n"


# -- the checks on an instance of the proven image


@dataclass(frozen=True)
class Report:
    """What ovenproof-check said about an instance, and GuardDuty at the same time."""

    exit_code: int
    checks: dict[str, Any]
    coverage: str

    def failure(self, check: str) -> dict[str, Any]:
        [found] = [one for one in self.checks["failures"] if one["id"] == check]
        return dict(found)


@pytest.fixture(scope="module")
def broken_instance(own_cloud: OwnCloud, proven: Proven) -> Report:
    """An instance of the proven image where GuardDuty has no endpoint and somebody loosened a file's mode."""
    with own_cloud.without_data_endpoint(), own_cloud.instance_of(proven.image_id) as instance:
        done = instance.run(
            "cloud-init status --wait >/dev/null\n"
            "chmod 0666 /etc/crontab\n"
            "ovenproof-check --format json --at running >/run/report.json; code=$?\n"
            'python3 -c \'import json; report = json.load(open("/run/report.json")); report.pop("checks"); '
            "print(json.dumps(report))'\n"
            "exit $code\n"
        )
        assert done.stdout, done.stderr
        detector = runtime_monitoring_detector(own_cloud.session)
        coverage = coverage_of(own_cloud.session, detector, instance.id)
        return Report(done.exit_code, json.loads(done.stdout), coverage.status)


def test_a_broken_hardening_rule_is_named_with_its_remedy(broken_instance: Report) -> None:
    assert broken_instance.exit_code == 1
    assert broken_instance.checks["passed"] is False
    crontab = [one for one in broken_instance.checks["failures"] if "/etc/crontab" in json.dumps(one)]
    assert [one["found"] for one in crontab] == ["/etc/crontab 0666"]
    assert crontab[0]["remedy"] == "find out what changed it after the bake; a new instance has it right"


def test_an_agent_without_endpoint_is_not_steady_and_not_covered(broken_instance: Report) -> None:
    failure = broken_instance.failure("agent-steady")

    assert broken_instance.checks["agent"]["endpoint"] == "unreachable"
    assert broken_instance.checks["agent"]["steady"] is False
    assert failure["expected"] == "steady"
    assert "check the VPC endpoint com.amazonaws.<region>.guardduty-data" in failure["remedy"]
    assert broken_instance.coverage == "ABSENT"


def test_nothing_else_is_wrong_with_that_instance(broken_instance: Report) -> None:
    assert len(broken_instance.checks["failures"]) == 2, broken_instance.checks["failures"]
