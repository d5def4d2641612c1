"""Hosts that are machines: the world goes by their word. Here they are values; `test_roll_on_guests` has real ones."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.clock import VirtualClock
from pipeline.documents import document_text
from pipeline.engine import ModelEngine, model_seams
from pipeline.errors import CloudError, UsageError
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.guests import command_script, with_images
from pipeline.rehearsal.fleet.invariants import Expectations
from pipeline.rehearsal.fleet.machines import Covered, Said, Sight
from pipeline.rehearsal.fleet.spec import example_fleet
from pipeline.rehearsal.fleet.world import World
from tests.rehearsal.fleet.worlds import NEW_IMAGE, OLD_IMAGE

BOOT_SECONDS = 40
NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
HEALTHY = Covered("HEALTHY", "", NOW, "1.17.1")


class Values:
    """Machines that boot by the clock and say what they are told to say."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.launched: dict[str, float] = {}
        self.asked: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = []
        self.images: dict[str, str] = {}
        self.ended: set[str] = set()
        self.room = 100
        self.cluster = "example"
        self.kernel = "5.10.0-46"
        self.covered: Covered | None = HEALTHY
        self.sent: list[tuple[list[str], str, Mapping[str, Any]]] = []

    def launch(self, image: str, instance_type: str, data: Mapping[str, Any], tagged: Mapping[str, str]) -> str:
        if len(self.launched) - len(self.ended) >= self.room:
            raise Refused("InsufficientInstanceCapacity", "this machine is full")
        self.asked.append((instance_type, data, tagged))
        machine = f"i-{len(self.launched) + 0xABC000:017x}"
        self.launched[machine] = self.clock.monotonic()
        self.images[machine] = image
        return machine

    def end(self, machine: str) -> None:
        self.ended.add(machine)

    def see(self, machines: Sequence[str]) -> Mapping[str, Sight]:
        up = {one: self.clock.monotonic() - self.launched[one] >= BOOT_SECONDS for one in machines}
        return {
            one: Sight(
                running=one not in self.ended,
                gone=one in self.ended,
                managed=up[one] and one not in self.ended,
                cluster=self.cluster if up[one] else "",
            )
            for one in machines
        }

    def send(self, machines: Sequence[str], document: str, parameters: Mapping[str, Any]) -> str:
        self.sent.append((list(machines), document, parameters))
        return f"command-{len(self.sent)}"

    def said(self, command: str, machine: str) -> Said:
        assert machine in self.sent[int(command.removeprefix("command-")) - 1][0]
        unit = {"installed": True, "enabled": True, "active": "active", "restarts_in_window": 0, "window_seconds": 10}
        report = {
            "kernel": self.kernel,
            "kernel_supported": True,
            "unit": unit,
            "agent_version": "1.17.1",
            "checks": {"passed": 180, "failed": 0, "failures": []},
            "carried": False,
        }
        return Said(status="Success", code=0, output=json.dumps(report) + "\n", errors="")

    def coverage(self, machine: str) -> Covered | None:
        return self.covered if self.images[machine] == NEW_IMAGE else None


class Pair:
    """The example of two hosts, each a machine."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.machines = Values(self.clock)
        self.world = World(example_fleet("pair"), self.clock, machines=self.machines)
        self.engine = ModelEngine(model_seams(self.world, check_answers=True))
        self.group = self.world.groups.all["example"]

    def roll(self, **parameters: Any) -> Any:
        return self.engine.run("Ovenproof-RollFleet", {"Group": "example", **parameters}, lambda _: None)

    def images(self) -> list[str]:
        """What the group's machines run."""
        return [self.machines.images[host] for host in self.group.hosts if host not in self.machines.ended]


def test_the_world_begins_when_its_old_machines_are_up() -> None:
    pair = Pair()

    assert pair.clock.monotonic() >= BOOT_SECONDS
    assert list(pair.group.hosts) == list(pair.machines.launched)
    assert pair.images() == [OLD_IMAGE, OLD_IMAGE]
    assert pair.world.t == 0


def test_a_machine_is_launched_as_its_template_version_says() -> None:
    pair = Pair()
    kind, data, tags = pair.machines.asked[0]

    assert kind == "c6i.large"
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert tags == {"aws:autoscaling:groupName": "example", "Team": "shop"}


def test_old_machines_in_another_cluster_are_told() -> None:
    clock = VirtualClock()
    machines = Values(clock)
    machines.cluster = "default"

    with pytest.raises(CloudError, match="old hosts do not come up"):
        World(example_fleet("pair"), clock, machines=machines)


def test_a_roll_goes_by_the_machines_own_word() -> None:
    pair = Pair()

    ended = pair.roll(WindowSeconds=10)

    assert ended.status == "Success", ended.failure
    assert pair.images() == [NEW_IMAGE, NEW_IMAGE]
    assert len(pair.machines.ended) == 2
    assert pair.world.broken(Expectations(ends="new")) == ()
    assert [sent[1:] for sent in pair.machines.sent] == [("Ovenproof-ProveInstance", {"WindowSeconds": ["10"]})] * 2
    assert [len(sent[0]) for sent in pair.machines.sent] == [1, 2]


def test_a_canary_that_guardduty_never_hears_of_is_refused() -> None:
    pair = Pair()
    pair.machines.covered = None

    ended = pair.roll(CoverageTimeoutSeconds=60)

    assert ended.status == "Failed"
    assert "coverage ABSENT" in ended.failure
    assert pair.images() == [OLD_IMAGE, OLD_IMAGE]
    assert pair.world.broken(Expectations(ends="old")) == ()


def test_guardduty_s_row_of_a_machine_is_what_it_says() -> None:
    pair = Pair()
    pair.machines.covered = Covered("UNHEALTHY", "Agent disconnected", NOW, "1.16.0")
    pair.roll(CoverageTimeoutSeconds=60)
    pair.clock.sleep(1)
    session = pair.engine.session
    [canary] = [one for one, image in pair.machines.images.items() if image == NEW_IMAGE]
    pair.world.hosts[canary].alive = True  # GuardDuty forgets an ended one; here it is to be asked
    guardduty: Any = session.client("guardduty")
    [detector] = guardduty.list_detectors()["DetectorIds"]

    [row] = guardduty.list_coverage(DetectorId=detector)["Resources"]

    assert (row["CoverageStatus"], row["Issue"], row["UpdatedAt"]) == ("UNHEALTHY", "Agent disconnected", NOW)
    assert row["ResourceDetails"]["Ec2InstanceDetails"]["AgentDetails"] == {"Version": "1.16.0"}


def test_where_no_machine_has_room_the_roll_fails_and_goes_back() -> None:
    pair = Pair()
    pair.machines.room = 2

    ended = pair.roll(HostTimeoutSeconds=600)

    assert ended.status == "Failed"
    assert "this machine is full" in ended.failure
    assert pair.images() == [OLD_IMAGE, OLD_IMAGE]


def test_a_machine_that_ends_by_itself_is_replaced() -> None:
    pair = Pair()
    first = next(iter(pair.group.hosts))
    pair.machines.ended.add(first)

    for _ in range(40):
        pair.clock.sleep(5)
        pair.world.advance_to(pair.clock.now())

    assert first not in pair.group.hosts
    assert [host.state for host in pair.group.hosts.values()] == ["InService", "InService"]
    assert pair.images() == [OLD_IMAGE, OLD_IMAGE]


def test_the_models_faults_are_refused_beside_machines() -> None:
    clock = VirtualClock()

    with pytest.raises(UsageError, match="do not reach machines"):
        World(example_fleet("pair"), clock, machines=Values(clock), faults=[Fault(kind="wrong-kernel")])


def test_a_root_volume_of_a_machine_is_not_swapped() -> None:
    clock = VirtualClock()
    spec = example_fleet("gpu")
    machines = Values(clock)
    machines.cluster = spec.clusters[0].name
    world = World(spec, clock, machines=machines)
    engine = ModelEngine(model_seams(world))

    with pytest.raises(UsageError, match="root volume cannot be replaced here"):
        engine.run("Ovenproof-RollFleet", {"Group": spec.groups[0].name}, lambda _: None)


# -- what the local cloud is asked


def test_a_command_document_runs_as_a_file_with_its_parameters_as_environment() -> None:
    text = (
        "schemaVersion: '2.2'\n"
        "parameters:\n"
        "  Words: {type: String, default: nothing, interpolationType: ENV_VAR}\n"
        "  Other: {type: String, default: by default, interpolationType: ENV_VAR}\n"
        "mainSteps:\n"
        "  - name: Say\n"
        "    action: aws:runShellScript\n"
        "    inputs:\n"
        "      timeoutSeconds: '7'\n"
        "      runCommand:\n"
        "        - |\n"
        "          #!/bin/bash\n"
        '          words=("$SSM_Words" "$SSM_Other" "${BASH_VERSION:+bash}")\n'
        "          printf '%s\\n' \"${words[@]}\"\n"
        "          exit 3\n"
    )

    script, seconds = command_script(text, {"Words": ["it's $HOME"]})
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)

    assert (done.stdout.splitlines(), done.returncode) == (["it's $HOME", "by default", "bash"], 3)
    assert seconds == "7"


def test_our_own_command_documents_have_the_shape_that_is_run() -> None:
    for name in ("Ovenproof-ProveInstance", "Ovenproof-InstallAgent"):
        script, seconds = command_script(document_text(name), {})
        assert "export SSM_" in script
        assert int(seconds) > 0


class _Images:
    """A session whose EC2 knows two images."""

    def client(self, _: str) -> "_Images":
        return self

    def describe_images(self, ImageIds: list[str]) -> dict[str, Any]:
        return {
            "Images": [
                {"ImageId": one, "Name": f"name of {one}", "Tags": [{"Key": "OvenproofState", "Value": "baked"}]}
                for one in ImageIds
            ]
        }


def test_a_fleet_files_images_become_those_of_the_local_cloud() -> None:
    old, new = "ami-11111111111111111", "ami-22222222222222222"

    spec = with_images(example_fleet("pair"), _Images(), old=old, new=new)  # type: ignore[arg-type]

    assert spec.templates[0].versions[0].data["ImageId"] == old
    assert spec.parameters == {"/ovenproof/ecs-al2-kernel-5.10/x86_64": new}
    assert [(one.id, one.name, one.tags) for one in spec.images] == [
        (old, f"name of {old}", {"OvenproofState": "baked"}),
        (new, f"name of {new}", {"OvenproofState": "baked"}),
    ]


def test_a_fleet_file_without_an_image_to_roll_onto_is_refused() -> None:
    spec = example_fleet("pair").model_copy(update={"parameters": {}})

    with pytest.raises(UsageError, match="no image to roll onto"):
        with_images(spec, _Images(), old="ami-11111111", new="ami-22222222")  # type: ignore[arg-type]
