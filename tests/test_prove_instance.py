"""Ovenproof-ProveInstance: the very text that SSM would run, under each shell, with programs that play the host."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.documents import document_text
from pipeline.paths import IMAGES

CONTENT = yaml.safe_load(document_text("Ovenproof-ProveInstance"))
STEP = CONTENT["mainSteps"][0]
SCRIPT = STEP["inputs"]["runCommand"][0]
UNIT = "amazon-guardduty-agent.service"
# `systemctl show UNIT --property=NAME` answers from $STATE/NAME; is-system-running from one line after the other.
SYSTEMCTL = """\
case $1 in
is-system-running)
    head -n 1 "$STATE/running"
    sed -i 1d "$STATE/running"
    ;;
show) name=${3#--property=}; [ ! -e "$STATE/$name" ] || echo "$name=$(cat "$STATE/$name")" ;;
esac
"""
WELL = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "MainPID": "700",
    "NRestarts": "0",
    "ExecMainStartTimestampMonotonic": "1000",
}


def report_of_the_image() -> dict[str, Any]:
    """What ovenproof-check itself would print of a host that is well."""
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader = SourceFileLoader("ovenproof_check", str(IMAGES / "rootfs" / "usr" / "bin" / "ovenproof-check"))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    program = module_from_spec(spec)
    loader.exec_module(program)
    sys.dont_write_bytecode = keep
    facts = {
        "agent": {"version": "1.17.1", "steady": True, "endpoint": "reachable"},
        "units": {UNIT: {"end": WELL | {"SubState": "running", "Result": "success"}, "restarts": 0, "steady": True}},
        "kernel": "5.10.245-241.976.amzn2.x86_64",
        "release": {},
    }
    results = [{"id": str(number), "topic": "agent", "title": "well", "passed": True} for number in range(177)]
    report: dict[str, Any] = program.report_of("running", facts, results, [], window=20.04, seconds=31.5)
    return report


REPORT = report_of_the_image()


@dataclass
class Host:
    """A folder of programs that comes first on PATH."""

    folder: Path
    shell: str
    state: dict[str, str] = field(default_factory=lambda: dict(WELL))

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir(parents=True)
        (self.folder / "state").mkdir()
        (self.folder / "bin" / "python3").symlink_to(sys.executable)
        self.program("systemctl", SYSTEMCTL)
        self.program("sleep", 'echo "$1" >>"$STATE/slept"\n')
        self.program("uname", "echo 5.10.245-241.976.amzn2.x86_64\n")
        self.program("rpm", "echo 1.17.1\n")
        self.says("running", "running")
        for name, value in self.state.items():
            self.says(name, value)

    def program(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(0o755)

    def says(self, name: str, value: str) -> None:
        (self.folder / "state" / name).write_text(value + "\n")

    def checks(self, report: object, code: int) -> None:
        """The image has an ovenproof-check that prints this and ends so."""
        (self.folder / "report").write_text(report if isinstance(report, str) else json.dumps(report))
        self.program("ovenproof-check", f'echo "$*" >"$STATE/asked"\ncat "{self.folder / "report"}"\nexit {code}\n')

    def read(self, name: str) -> str:
        return (self.folder / "state" / name).read_text()

    def run(self, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.shell, "-c", SCRIPT],
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "STATE": str(self.folder / "state"),
                "SSM_WindowSeconds": "20",
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def prove(self, **env: str) -> tuple[dict[str, Any], int]:
        """The report, which is one line and nothing else, and the exit code."""
        done = self.run(**env)
        (line,) = done.stdout.splitlines()
        assert len(done.stdout) < 24_000  # what SSM keeps of a command's output
        return json.loads(line), done.returncode


@pytest.fixture(params=["dash", "bash"])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Host:
    return Host(tmp_path / "host", request.param)


def test_parameters_come_as_environment_and_never_as_a_part_of_the_text() -> None:
    assert "{{" not in SCRIPT
    assert {rule["interpolationType"] for rule in CONTENT["parameters"].values()} == {"ENV_VAR"}
    assert [step["action"] for step in CONTENT["mainSteps"]] == ["aws:runShellScript"]


# -- an image of ours -------------------------------------------------------------------------------------------------


def test_an_image_of_ours_is_proven_by_its_own_checks(host: Host) -> None:
    host.checks(REPORT, 0)

    report, code = host.prove(SSM_WindowSeconds="35")

    assert code == 0
    assert report == {
        "kernel": "5.10.245-241.976.amzn2.x86_64",
        "kernel_supported": True,
        "unit": {
            "installed": True,
            "enabled": True,
            "active": "active",
            "restarts_in_window": 0,
            "window_seconds": 20,
        },
        "agent_version": "1.17.1",
        "checks": {"passed": 177, "failed": 0, "failures": []},
        "carried": False,
    }
    assert host.read("asked") == "--format json --window 35\n"


def test_failed_checks_are_named_the_first_twenty_of_them(host: Host) -> None:
    failures = [{"title": f'check "{number}" \\ \n{{' + "ü" * 300} for number in range(30)]
    host.checks({**REPORT, "failures": failures, "summary": {"checks": 177, "failed": 30}}, 1)

    report, code = host.prove()

    assert code == 1
    assert (report["checks"]["passed"], report["checks"]["failed"]) == (147, 30)
    assert 10 < len(report["checks"]["failures"]) <= 20
    assert report["checks"]["failures"][1].startswith('check "1" \\ \n{ü')


def test_titles_that_json_writes_long_are_cut_until_ssm_keeps_the_line(host: Host) -> None:
    failures = [{"title": "🍞" * 300} for _ in range(30)]
    host.checks({**REPORT, "failures": failures}, 1)

    assert 5 < len(host.prove()[0]["checks"]["failures"]) < 10


def test_short_titles_all_fit(host: Host) -> None:
    failures = [{"title": f"check {number}"} for number in range(30)]
    host.checks({**REPORT, "failures": failures}, 1)

    assert host.prove()[0]["checks"]["failures"] == [f"check {number}" for number in range(20)]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"kernel": "4.14.355"}, {"kernel_supported": False}),
        ({"kernel": "5.3.9"}, {"kernel_supported": False}),
        ({"agent": REPORT["agent"] | {"unit": {"enabled": "disabled", "active": "active"}}}, {}),
        ({"agent": REPORT["agent"] | {"unit": {"enabled": "enabled", "active": "activating"}}}, {}),
        ({"window": {"seconds": 20.0, "units": {UNIT: {"end": WELL, "restarts": 3}}}}, {}),
    ],
)
def test_a_report_without_a_failed_check_is_not_believed_against_its_own_facts(
    host: Host, change: dict[str, Any], shown: dict[str, Any]
) -> None:
    host.checks({**REPORT, **change}, 0)

    report, code = host.prove()

    assert code == 1
    assert shown.items() <= report.items()


def test_restarts_are_those_of_the_window_and_not_of_the_boot_before_it(host: Host) -> None:
    """ovenproof-check waits for the boot to end; a unit that starts meanwhile did not restart."""
    host.checks(REPORT, 0)
    host.program("ovenproof-check", f'echo 4711 >"$STATE/MainPID"\ncat "{host.folder / "report"}"\n')

    report, code = host.prove()

    assert (report["unit"]["restarts_in_window"], code) == (0, 0)


@pytest.mark.parametrize(
    ("output", "code", "why"),
    [
        ("ovenproof-error: incomplete: /usr/libexec/ovenproof/goss is missing\n", 3, "incomplete: /usr/libexec/"),
        ("Traceback (most recent call last):\n", 1, "it ended with code 1 and without a report"),
        ('{"kernel": "5.10.1"', 0, "it ended with code 0 and without a report"),
        ('{"kernel": "5.10.1"}', 0, "it ended with code 0 and without a report"),
        ("[1]", 0, "it ended with code 0 and without a report"),
    ],
)
def test_checks_that_cannot_run_are_a_failure_and_the_carried_ones_take_their_place(
    host: Host, output: str, code: int, why: str
) -> None:
    host.checks(output, code)

    report, ended = host.prove()

    assert ended == 1
    assert report["carried"] is True
    (failure,) = report["checks"]["failures"]
    assert failure.startswith(f"ovenproof-check could not run: {why}")
    assert (report["checks"]["passed"], report["checks"]["failed"]) == (4, 1)


def test_checks_that_hang_are_ended_and_there_is_a_report_all_the_same(host: Host) -> None:
    host.checks(REPORT, 0)
    host.program("timeout", 'echo "$*" >"$STATE/limit"\nexit 124\n')

    report, code = host.prove()

    assert code == 1
    assert report["checks"]["failures"] == [
        "ovenproof-check could not run: it ended with code 124 and without a report"
    ]
    assert host.read("limit") == "320 ovenproof-check --format json --window 20\n"


# -- any other host ---------------------------------------------------------------------------------------------------


def test_a_host_without_our_checks_is_asked_by_the_carried_ones(host: Host) -> None:
    report, code = host.prove()

    assert code == 0
    assert report == {
        "kernel": "5.10.245-241.976.amzn2.x86_64",
        "kernel_supported": True,
        "unit": {
            "installed": True,
            "enabled": True,
            "active": "active",
            "restarts_in_window": 0,
            "window_seconds": 20,
        },
        "agent_version": "1.17.1",
        "checks": {"passed": 4, "failed": 0, "failures": []},
        "carried": True,
    }
    assert host.read("slept") == "20\n"


@pytest.mark.parametrize(
    ("kernel", "supported"),
    [
        ("4.14.355-280.672.amzn2.x86_64", False),
        ("5.3.18-default", False),
        ("5.4.0-1-aws", True),
        ("5.10", True),
        ("6", True),
        ("6.1-rc1", True),
        ("10.0.1", True),
        ("5", False),
        ("custom", False),
        ("6a.1", False),
    ],
)
def test_a_kernel_is_supported_from_5_4_on(host: Host, kernel: str, supported: bool) -> None:
    host.program("uname", f"echo {kernel}\n")

    report, code = host.prove()

    assert (report["kernel"], report["kernel_supported"], code) == (kernel, supported, 0 if supported else 1)


def test_a_host_that_has_nothing_still_answers_in_json(host: Host) -> None:
    host.program("systemctl", "exit 1\n")
    host.program("rpm", 'echo "package amazon-guardduty-agent is not installed"\nexit 1\n')
    host.program("dpkg-query", "exit 1\n")

    report, code = host.prove()

    assert code == 1
    assert report["unit"] == {
        "installed": False,
        "enabled": False,
        "active": "unknown",
        "restarts_in_window": 0,
        "window_seconds": 20,
    }
    assert report["agent_version"] == ""
    assert report["checks"]["failures"] == [
        "GuardDuty's agent is installed",
        "the agent's unit is enabled",
        "the agent's unit runs and is not restarted",
    ]


@pytest.mark.parametrize(
    ("load", "installed"), [("not-found", False), ("masked", True), ("error", True), ("loaded", True)]
)
def test_a_unit_that_is_masked_or_broken_is_there(host: Host, load: str, installed: bool) -> None:
    host.says("LoadState", load)

    assert host.prove()[0]["unit"]["installed"] is installed


@pytest.mark.parametrize(
    ("change", "restarts"),
    [
        ('echo 3 >"$STATE/NRestarts"', 3),
        ('echo 701 >"$STATE/MainPID"', 1),  # systemd before 235 does not count
        ('echo 2000 >"$STATE/ExecMainStartTimestampMonotonic"', 1),
        (":", 0),
    ],
)
def test_restarts_within_the_window_are_seen(host: Host, change: str, restarts: int) -> None:
    host.program("sleep", f"{change}\n")

    report, code = host.prove()

    assert (report["unit"]["restarts_in_window"], code) == (restarts, 1 if restarts else 0)


def test_systemd_that_counts_no_restarts_is_no_fault(host: Host) -> None:
    (host.folder / "state" / "NRestarts").unlink()

    assert host.prove()[1] == 0


def test_the_window_begins_when_the_boot_has_ended(host: Host) -> None:
    """The unit's first start, late in a boot, would look like a restart."""
    host.says("MainPID", "0")
    (host.folder / "state" / "running").write_text("initializing\nstarting\ndegraded\n")
    host.program("sleep", 'echo "$1" >>"$STATE/slept"; echo 700 >"$STATE/MainPID"\n')

    report, code = host.prove()

    assert (report["unit"]["restarts_in_window"], code) == (0, 0)
    assert host.read("slept") == "2\n2\n20\n"


def test_a_boot_that_never_ends_is_not_waited_for_without_end(host: Host) -> None:
    host.program("systemctl", f'if [ "$1" = is-system-running ]; then echo starting; exit 1; fi\n{SYSTEMCTL}')

    host.prove()

    assert len(host.read("slept").splitlines()) == 91  # 180 s, two at a time, and the window


def test_of_two_installed_packages_the_last_is_told(host: Host) -> None:
    host.program("rpm", "echo 1.16.0\necho 1.17.1\n")

    assert host.prove()[0]["agent_version"] == "1.17.1"


@pytest.mark.parametrize(
    ("status", "version"),
    [
        ("install ok installed 1.17.1-1", "1.17.1-1"),
        ("deinstall ok config-files 1.17.1-1", ""),
        ("install ok half-configured 1.17.1-1", ""),
    ],
)
def test_dpkgs_version_counts_only_when_the_package_is_installed(host: Host, status: str, version: str) -> None:
    host.program("rpm", "exit 1\n")
    host.program("dpkg-query", f"echo '{status}'\n")

    assert host.prove()[0]["agent_version"] == version


@pytest.mark.parametrize("given", ["", "0", "-5", "5 s", "$(reboot)", "0x10", "12345", "{{ WindowSeconds }}"])
def test_a_window_that_is_no_number_of_seconds_counts_as_the_default(host: Host, given: str) -> None:
    report, _ = host.prove(SSM_WindowSeconds=given)

    assert report["unit"]["window_seconds"] == 20
    assert host.read("slept") == "20\n"


def test_signs_that_json_cannot_hold_do_not_break_the_line(host: Host) -> None:
    host.program("uname", "printf '5.10\"\\\\\\t\\033\\377x'\n")

    assert host.prove()[0]["kernel"] == '5.10"\\x'


def test_ssm_gives_the_step_more_time_than_it_can_take() -> None:
    longest = 599  # seconds, by the parameter's pattern
    assert int(STEP["inputs"]["timeoutSeconds"]) >= (longest + 300) + 180 + longest
