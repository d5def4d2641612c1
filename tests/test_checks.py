"""ovenproof-check: what it makes of what it found, and that its specs say what they mean to a real goss."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.hardening import goss_spec, load_hardening
from pipeline.paths import CHECKOUT, IMAGES, cache_root
from pipeline.progress import Progress
from pipeline.tools import ensure_tools
from tests.test_hardening import TODAY

PROGRAM = IMAGES / "rootfs" / "usr" / "bin" / "ovenproof-check"
CHECKS = IMAGES / "checks"
TOPICS = ("agent", "docker", "ecs", "hygiene", "kernel", "neuron", "nvidia")


@pytest.fixture(scope="module")
def program() -> Any:
    """The program as a module, without leaving a compiled copy beside it."""
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader = SourceFileLoader("ovenproof_check", str(PROGRAM))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    sys.dont_write_bytecode = keep
    return module


# -- the program itself ------------------------------------------------------------------------------------------------


def test_it_is_python_3_7_the_newest_that_amazon_linux_2_has() -> None:
    ast.parse(PROGRAM.read_text(), feature_version=(3, 7))
    imported = set(re.findall(r"^(?:import|from) (\w+)", PROGRAM.read_text(), re.MULTILINE))
    assert imported <= sys.stdlib_module_names | {"__future__"}


@pytest.mark.parametrize(
    "argv",
    [
        ("ruff", "check", "--target-version", "py37", "--ignore", "PTH,S108,S310", PROGRAM),
        ("ruff", "format", "--target-version", "py37", "--check", PROGRAM),
        ("mypy", "--strict", PROGRAM),
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_linters_find_nothing_although_it_has_no_suffix(argv: tuple[str | Path, ...]) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / argv[0], *argv[1:]], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [["--at", "noon"], ["--window", "0"], ["--window", "601"], ["--format", "xml"], ["x"]]
)
def test_wrong_use_ends_with_code_2(program: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)

    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ovenproof-check ")


REPORT = {"passed": True, "kernel": "5.10.1-a"}


@pytest.mark.parametrize(
    ("outcome", "code", "out", "err"),
    [
        (lambda *_: REPORT, 0, '{"kernel": "5.10.1-a", "passed": true}\n', ""),
        (lambda *_: REPORT | {"passed": False}, 1, '{"kernel": "5.10.1-a", "passed": false}\n', ""),
        (
            lambda *_: json.loads("no report"),
            3,
            "",
            "ovenproof-error: check-crashed: ovenproof-check itself went wrong\nTraceback ",
        ),
    ],
)
def test_the_exit_code_tells_passed_failed_and_could_not_run_apart(
    program: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Callable[..., object],
    code: int,
    out: str,
    err: str,
) -> None:
    monkeypatch.setattr(program, "check", outcome)
    monkeypatch.setattr(program.os, "geteuid", lambda: 0)

    assert program.main(["--format", "json"]) == code
    said = capsys.readouterr()
    assert said.out == out
    assert said.err.startswith(err) and bool(said.err) is bool(err)


def test_without_root_it_says_so(
    program: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program.os, "geteuid", lambda: 1000)

    assert program.main([]) == 3
    assert capsys.readouterr().err == (
        "ovenproof-error: not-root: ovenproof-check reads what only root may read: run it with sudo\n"
    )


# -- units over a window -----------------------------------------------------------------------------------------------

RUNNING = {
    "ActiveState": "active",
    "SubState": "running",
    "MainPID": "700",
    "NRestarts": "0",
    "ExecMainStartTimestampMonotonic": "1",
    "Result": "success",
    "ExecMainCode": "0",
    "ExecMainStatus": "0",
    "UnitFileState": "enabled",
    "LimitMEMLOCK": "67108864",
    "MemoryMax": "134217728",
    "MemoryLimit": "134217728",
    "CPUQuotaPerSecUSec": "200ms",
}
WAITING = RUNNING | {
    "ActiveState": "activating",
    "SubState": "auto-restart",
    "MainPID": "0",
    "Result": "exit-code",
    "ExecMainCode": "1",
    "ExecMainStatus": "1",
}


def old(state: dict[str, str]) -> dict[str, str]:
    """As systemd before 235 tells it: restarts are not counted."""
    return {key: value for key, value in state.items() if key != "NRestarts"}


@pytest.mark.parametrize(
    ("begin", "end", "restarts", "steady"),
    [
        (RUNNING, RUNNING, 0, True),
        (RUNNING, RUNNING | {"MainPID": "712", "NRestarts": "2", "ExecMainStartTimestampMonotonic": "9"}, 2, False),
        (old(RUNNING), old(RUNNING), 0, True),
        (old(RUNNING), old(RUNNING) | {"MainPID": "712", "ExecMainStartTimestampMonotonic": "9"}, 1, False),
        (RUNNING, WAITING, 1, False),
        (WAITING, WAITING, 0, False),
        (RUNNING | {"SubState": "exited"}, RUNNING | {"SubState": "exited"}, 0, False),
    ],
    ids=["steady", "restarted", "steady, old", "restarted, old", "died", "waiting", "exited"],
)
def test_one_sample_is_not_enough_to_call_a_unit_steady(
    program: Any, begin: dict[str, str], end: dict[str, str], restarts: int, steady: bool
) -> None:
    units = program.watched(dict.fromkeys(program.UNITS, begin), dict.fromkeys(program.UNITS, end))

    unit = units["ecs.service"]
    assert (unit["restarts"], unit["steady"]) == (restarts, steady)


@pytest.mark.parametrize(
    ("end", "at", "endpoint", "verdict"),
    [
        (RUNNING, "bake", "reachable", "steady"),
        (WAITING, "bake", "unreachable", "waits for an endpoint"),
        (WAITING, "bake", "unknown", "waits for an endpoint"),
        (
            WAITING,
            "bake",
            "reachable",
            "activating (auto-restart), 0 restarts in the window, result exit-code, last exit status 1",
        ),
        (
            WAITING,
            "first-boot",
            "unreachable",
            "activating (auto-restart), 0 restarts in the window, result exit-code, last exit status 1",
        ),
        (
            WAITING | {"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "11"},
            "bake",
            "unreachable",
            "activating (auto-restart), 0 restarts in the window, result signal, last exit status 11",
        ),
        (
            WAITING | {"Result": "oom-kill", "ExecMainCode": "2", "ExecMainStatus": "9"},
            "bake",
            "unreachable",
            "activating (auto-restart), 0 restarts in the window, result oom-kill, last exit status 9",
        ),
        (
            WAITING | {"ExecMainStatus": "203"},
            "bake",
            "unreachable",
            "activating (auto-restart), 0 restarts in the window, result exit-code, last exit status 203",
        ),
    ],
)
def test_only_a_builder_without_an_endpoint_is_excused_and_only_for_an_exit_of_its_own(
    program: Any, end: dict[str, str], at: str, endpoint: str, verdict: str
) -> None:
    unit = {"begin": end, "end": end, "restarts": 0, "steady": end is RUNNING}

    assert program.judge_agent(unit, at, {"state": endpoint})["verdict"] == verdict


@pytest.mark.parametrize(
    ("quota", "percent"),
    [("200ms", 20), ("1s", 100), ("1s 600ms", 160), ("9.600s", 960), ("infinity", None), ("", None)],
)
def test_a_cpu_quota_is_read_as_systemctl_prints_it(program: Any, quota: str, percent: int | None) -> None:
    assert program.cpu_percent(quota) == (program.UNLIMITED if percent is None else percent)


# -- results -----------------------------------------------------------------------------------------------------------


def result(**more: Any) -> dict[str, Any]:
    """One result as goss 0.4.9 gives it."""
    match = {"actual": True, "expected": True, "message": "matches expectation", "missing-elements": None}
    return {
        "resource-type": "File",
        "resource-id": "some-rule /etc/x: /etc/x",
        "property": "exists",
        "title": "x is there",
        "meta": {"id": "some-rule", "topic": "hardening", "remedy": "put it there", "cis": {"al2": "1.1"}},
        "result": 0,
        "skipped": False,
        "err": None,
        "matcher-result": match | more.pop("match", {}),
    } | more


@pytest.mark.parametrize(
    ("one", "passed", "expected", "found"),
    [
        (result(), True, "true", "true"),
        (result(result=1, match={"actual": False, "message": "to equal"}), False, "true", "false"),
        (
            result(result=1, property="mode", match={"actual": "0644", "expected": "0600", "message": "to equal"}),
            False,
            "0600",
            "0644",
        ),
        (
            result(
                result=1,
                match={
                    "actual": "object: *os.File",
                    "expected": ["/^a$/", "b"],
                    "message": "to have patterns",
                    "missing-elements": ["b"],
                },
            ),
            False,
            "/^a$/, b",
            "not as wanted: b",
        ),
        (
            result(result=1, match={"actual": 5, "expected": 32, "message": "to be numerically ge"}),
            False,
            "to be numerically ge 32",
            "5",
        ),
        (
            result(result=1, match={"actual": ["a (log)", "b"], "expected": [], "message": "to equal"}),
            False,
            "none",
            "a (log), b",
        ),
        (result(result=1, match={"actual": "", "expected": "no", "message": "to equal"}), False, "no", "nothing"),
        (
            result(
                result=1, err="could not find the given key", match={"actual": None, "expected": None, "message": ""}
            ),
            False,
            "an answer",
            "could not find the given key",
        ),
        (
            result(result=2, skipped=True, match={"actual": None, "expected": None, "message": ""}),
            False,
            "an answer",
            "the check was skipped",
        ),
        (result(result=3), False, "true", "true"),
    ],
)
def test_a_result_says_what_was_expected_and_found(
    program: Any, one: dict[str, Any], passed: bool, expected: str, found: str
) -> None:
    made = program.result_of(one)

    assert (made["passed"], made["expected"], made["found"]) == (passed, expected, found)
    assert (made["id"], made["topic"], made["remedy"], made["cis"]) == (
        "some-rule",
        "hardening",
        "put it there",
        {"al2": "1.1"},
    )


def test_a_skipped_check_passes_for_nothing_but_a_consequence_of_a_failed_one(program: Any) -> None:
    absent = result(result=1, match={"actual": False, "message": "to equal"})
    consequence = result(result=2, skipped=True, property="mode")
    silent = result(result=2, skipped=True, property="mode", **{"resource-id": "other"})

    judged = program.judge([absent, consequence, silent])

    assert [(one["title"], one["passed"]) for one in judged] == [("x is there", False), ("x is there (mode)", False)]


@pytest.mark.parametrize(
    ("content", "filled"),
    [
        ("fact:sshd.permitrootlogin", "no"),
        ("fact:modules", ["ext4"]),
        ("fact:sshd.nothing.such", ""),
        ("plain", "plain"),
    ],
)
def test_facts_take_the_place_of_their_names(program: Any, content: str, filled: object) -> None:
    facts = {"sshd": {"permitrootlogin": "no"}, "modules": ["ext4"]}

    assert program.with_facts({"content": content, "matches": "x"}, facts) == {"content": filled, "matches": "x"}


def test_the_report_for_people_and_for_machines(program: Any) -> None:
    bad = program.result_of(result(result=1, match={"actual": False, "message": "to equal"}))
    facts = {
        "kernel": "5.10.1-a",
        "release": {"OVENPROOF_BAKE_ID": "b1"},
        "agent": {"version": "1.17.1", "steady": True, "endpoint": "reachable"},
        "units": {"amazon-guardduty-agent.service": {"begin": RUNNING, "end": RUNNING, "restarts": 0, "steady": True}},
    }
    skipped = [{"id": "clock", "title": "the clock is right", "why": "none of /usr/sbin/chronyd"}]

    report = program.report_of(
        "running", facts, [bad, program.result_of(result())], skipped, window=15.04, seconds=21.07
    )

    assert program.as_text(report) == (
        "kernel 5.10.1-a, GuardDuty agent 1.17.1 (active, enabled; data endpoint reachable)\n"
        "FAILED hardening: x is there [some-rule]\n"
        "  expected: true\n"
        "  found:    false\n"
        "  do:       put it there\n"
        "not applicable: the clock is right (none of /usr/sbin/chronyd)\n"
        "2 checks, 1 failed, 1 not applicable, in 21.1 s"
    )
    assert report["passed"] is False
    assert report["summary"] == {"checks": 2, "failed": 1, "not_applicable": 1, "seconds": 21.1}
    assert report["agent"] == {
        "version": "1.17.1",
        "steady": True,
        "endpoint": "reachable",
        "unit": {"enabled": "enabled", "active": "active", "sub": "running", "result": "success"},
    }
    assert [one["id"] for one in report["failures"]] == ["some-rule"]


def test_what_a_new_instance_may_not_have_is_wider_than_what_a_used_one_may_not(program: Any, tmp_path: Path) -> None:
    (tmp_path / "var/tmp/ovenproof").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/.bash_history").write_text("ls\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0" * 32)
    text = (CHECKS / "leftovers.txt").read_text()

    assert program.leftovers(text, first_boot=False, root=str(tmp_path)) == [
        "/var/tmp/ovenproof (staging folder of the bake)"
    ]
    assert program.leftovers(text, first_boot=True, root=str(tmp_path)) == [
        "/var/tmp/ovenproof (staging folder of the bake)",
        "/root/.bash_history (what root typed)",
    ]


# -- the specs ---------------------------------------------------------------------------------------------------------


def test_every_line_of_the_list_of_leftovers_is_well_formed() -> None:
    for line in (CHECKS / "leftovers.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        action, where, pattern, what = line.split(None, 3)
        assert action in ("keep", "remove", "empty"), line
        assert where in ("comes-back", "gone-at-first-boot", "stays-away"), line
        assert pattern.startswith("/") and what, line
        assert "**" not in pattern or where == "comes-back", f"the program's globs do not know **: {line}"


def test_every_topic_is_included() -> None:
    included = yaml.safe_load(re.sub(r"\{\{.*?\}\}", "", (CHECKS / "goss.yaml").read_text()))["gossfile"]

    assert sorted(included) == [f"{topic}.yaml" for topic in TOPICS]
    assert sorted(path.name for path in CHECKS.glob("*.yaml")) == sorted(["goss.yaml", *included])


def test_every_flavour_with_an_accelerator_has_checks_of_its_own() -> None:
    """A flavour is named after its architecture or after its accelerator."""
    variants = load_catalog().variants.values()
    accelerated = {
        name for variant in variants for name, flavour in variant.flavours.items() if name != flavour.architecture
    }

    assert set(re.findall(r'eq \.Vars\.flavour "(\w+)"', (CHECKS / "goss.yaml").read_text())) == accelerated


def test_an_accelerator_is_what_its_driver_shows(program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = "GPU 0: Tesla T4 (UUID: GPU-1)\nGPU 1: Tesla T4 (UUID: GPU-2)\n"
    monkeypatch.setattr(program, "output_of", lambda *argv: listed if argv == ("nvidia-smi", "-L") else None)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").symlink_to("/dev/null")
    (tmp_path / "dev" / "nvidia1").touch()  # a plain file is no device
    (tmp_path / "dev" / "neuron0").symlink_to("/dev/null")

    assert program.accelerator(str(tmp_path)) == {
        "nvidia_gpus": 2,
        "nvidia_devices": [f"{tmp_path}/dev/nvidia0"],
        "neuron_devices": [f"{tmp_path}/dev/neuron0"],
    }


def test_a_driver_that_gives_no_answer_shows_no_accelerator(
    program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(program, "output_of", lambda *_: None)

    assert program.accelerator(str(tmp_path)) == {"nvidia_gpus": 0, "nvidia_devices": [], "neuron_devices": []}


HEALTHY: dict[str, Any] = {
    "at": "first-boot",
    "flavour": "x86_64",
    "accelerator": {"nvidia_gpus": 0, "nvidia_devices": [], "neuron_devices": []},
    "release": {"OVENPROOF_KERNEL_LINE": "5.10", "OVENPROOF_AGENT_VERSION": "1.17.1"},
    "kernel": "5.10.1-a",
    "kernel_line": "5.10",
    "charges_memlock": True,
    "btf": True,
    "agent": {
        "version": "1.17.1",
        "endpoint": "reachable",
        "verdict": "steady",
        "excused": False,
        "memlock": 67108864,
        "process_memlock": 67108864,
        "memory_max": 134217728,
        "cpu_percent": 20,
    },
    "expected_memory": 134217728,
    "expected_cpu_percent": 20,
    "units": {
        unit: {"begin": RUNNING, "end": RUNNING, "restarts": 0, "steady": True}
        for unit in ("amazon-guardduty-agent.service", "ecs.service", "docker.service")
    },
    "sshd": {
        "permitrootlogin": "no",
        "passwordauthentication": "no",
        "permitemptypasswords": "no",
        "usepam": "yes",
        "hostbasedauthentication": "no",
        "ignorerhosts": "yes",
        "permituserenvironment": "no",
        "allowtcpforwarding": "no",
        "allowagentforwarding": "no",
        "x11forwarding": "no",
        "maxauthtries": "4",
        "maxsessions": "10",
        "maxstartups": "10:30:60",
        "logingracetime": "60",
        "clientaliveinterval": "300",
        "loglevel": "VERBOSE",
        "ciphers": "aes256-gcm@openssh.com,aes128-ctr",
        "macs": "hmac-sha2-512",
    },
    "accounts": {"uid_0": ["root"], "system_with_shell": [], "without_password": [], "with_password": []},
    "services": ["docker.service", "ecs.service"],
    "audit_rules": [
        "-w /etc/sudoers -p wa -k scope",
        "-w /etc/passwd -p wa -k identity",
        "-w /etc/shadow -p wa -k identity",
        "-w /etc/localtime -p wa -k time-change",
        "-w /etc/ecs -p wa -k container-engine",
        "-a always,exit -F arch=b64 -S init_module,delete_module,finit_module -F auid!=-1 -F key=kernel_modules",
    ],
    "modules": ["ext4", "overlay"],
    "imds_rule": True,
    "input_policy": "ACCEPT",
    "forward_policy": "DROP",
    "tmp": {"place": "disk", "options": ["rw", "noatime"]},
    "ssh_keys_open_to_others": [],
    "boot_open_to_others": [],
    "cron_open_to_others": [],
    "logs_open_to_others": [],
    "hygiene": {
        "left": [],
        "machine_id_is_valid": True,
        "machine_id_is_builders": False,
        "host_keys": 2,
        "host_keys_of_builder": 0,
        "instance_is_builder": False,
        "foreign_authorized_keys": [],
    },
}


@pytest.fixture(scope="module")
def judged(program: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], dict[str, bool]]:
    """Asks the pinned goss which checks of facts pass; what looks at files of the machine is left aside."""
    tools = ensure_tools(Cache(cache_root()), Progress(stream=StringIO()))
    folder = tmp_path_factory.mktemp("specs")
    for file in CHECKS.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    rules = goss_spec(load_hardening(TODAY), TODAY)["matching"]

    def ask(facts: dict[str, Any]) -> dict[str, bool]:
        filled = {name: program.with_facts(rule, facts) for name, rule in rules.items()}
        (folder / "hardening.yaml").write_text(json.dumps({"matching": filled}))
        (folder / "facts.json").write_text(json.dumps(facts))
        (folder / "all.yaml").write_text('gossfile: {"goss.yaml": {}, "hardening.yaml": {}}')
        argv = [str(tools.goss["x86_64"]), "--gossfile", str(folder / "all.yaml"), "--vars", str(folder / "facts.json")]
        done = subprocess.run([*argv, "validate", "--format", "json"], capture_output=True, text=True, check=False)
        results = json.loads(done.stdout)["results"]
        ours = [one for one in results if one["resource-type"] == "Matching"]
        assert len(ours) > 40
        passed: dict[str, bool] = {}
        for one in ours:
            identity = one["meta"]["id"]
            passed[identity] = passed.get(identity, True) and one["result"] == 0
        return passed

    return ask


@pytest.fixture(scope="module")
def failing(judged: Callable[[dict[str, Any]], dict[str, bool]]) -> Callable[[dict[str, Any]], set[str]]:
    """The checks that fail for these facts, by id."""
    return lambda facts: {identity for identity, passed in judged(facts).items() if not passed}


@pytest.mark.slow
@pytest.mark.parametrize("at", ["bake", "first-boot", "running"])
def test_a_healthy_instance_passes(failing: Callable[[dict[str, Any]], set[str]], at: str) -> None:
    assert failing(HEALTHY | {"at": at}) == set()


@pytest.mark.slow
def test_an_agent_without_an_endpoint_passes_on_the_builder_only(failing: Callable[[dict[str, Any]], set[str]]) -> None:
    waiting = HEALTHY["agent"] | {"verdict": "waits for an endpoint", "endpoint": "unreachable"}

    assert failing(HEALTHY | {"at": "bake", "agent": waiting | {"excused": True}}) == set()
    assert failing(HEALTHY | {"agent": waiting}) == {"agent-steady"}


@pytest.mark.slow
def test_newer_kernels_do_not_charge_locked_memory(failing: Callable[[dict[str, Any]], set[str]]) -> None:
    little = HEALTHY["agent"] | {"memlock": 8388608, "process_memlock": 8388608}

    assert failing(HEALTHY | {"agent": little, "charges_memlock": False}) == set()
    assert failing(HEALTHY | {"agent": little}) == {"agent-memlock", "agent-process-memlock"}


GPUS = {"nvidia_gpus": 1, "nvidia_devices": ["/dev/nvidia0"], "neuron_devices": []}
NEURONS = {"nvidia_gpus": 0, "nvidia_devices": [], "neuron_devices": ["/dev/neuron0", "/dev/neuron1"]}


@pytest.mark.slow
@pytest.mark.parametrize("at", ["bake", "first-boot", "running"])
@pytest.mark.parametrize(
    ("flavour", "healthy", "checks"),
    [
        ("x86_64", GPUS, set()),
        ("arm64", GPUS, set()),
        ("gpu", GPUS, {"nvidia-driver", "nvidia-device"}),
        ("inf", NEURONS, {"neuron-device"}),
        ("neuron", NEURONS, {"neuron-device"}),
    ],
)
def test_a_flavour_with_an_accelerator_is_asked_for_it_and_no_other_is(
    judged: Callable[[dict[str, Any]], dict[str, bool]],
    at: str,
    flavour: str,
    healthy: dict[str, Any],
    checks: set[str],
) -> None:
    about = {"nvidia-driver", "nvidia-device", "neuron-device"}
    facts = HEALTHY | {"at": at, "flavour": flavour}

    present, absent = judged(facts | {"accelerator": healthy}), judged(facts)

    assert {identity for identity in present if identity in about} == checks
    assert {identity for identity, passed in present.items() if not passed} == set()
    assert {identity for identity, passed in absent.items() if not passed} == checks


BROKEN: list[tuple[str, object, str]] = [
    ("kernel_line", "4.14", "kernel-line"),
    ("btf", False, "btf"),
    ("agent.version", "1.9.0", "agent-version"),
    ("agent.verdict", "active (running), 3 restarts in the window", "agent-steady"),
    ("agent.memlock", 65536, "agent-memlock"),
    ("agent.process_memlock", 65536, "agent-process-memlock"),
    ("agent.memory_max", 1073741824, "agent-memory"),
    ("agent.cpu_percent", 1 << 62, "agent-cpu"),
    ("hygiene.left", ["/root/.bash_history (what root typed)"], "nothing-left"),
    ("hygiene.machine_id_is_valid", False, "machine-id-valid"),
    ("hygiene.machine_id_is_builders", True, "machine-id-fresh"),
    ("hygiene.host_keys_of_builder", 1, "host-keys-fresh"),
    ("hygiene.host_keys", 0, "host-keys-made"),
    ("hygiene.instance_is_builder", True, "cloud-init-fresh"),
    ("hygiene.foreign_authorized_keys", ["/root/.ssh/authorized_keys: x"], "authorized-keys-own"),
    ("sshd", {}, "sshd-root-login"),
    ("sshd.ciphers", "aes256-ctr,3des-cbc", "sshd-strong-ciphers"),
    ("sshd.macs", "hmac-sha1", "sshd-strong-ciphers"),
    ("sshd.logingracetime", "0", "sshd-few-tries"),
    ("accounts.uid_0", ["root", "toor"], "accounts-one-root"),
    ("accounts.with_password", ["ec2-user"], "accounts-no-passwords"),
    ("services", ["docker.service", "rpcbind.socket"], "services-unused"),
    ("audit_rules", [], "audit-rules"),
    ("audit_rules", [*HEALTHY["audit_rules"], "-a never,task"], "audit-rules"),
    ("modules", ["ext4", "sctp"], "modules-protocols"),
    ("modules", ["ext4", "udf"], "modules-file-systems"),
    ("modules", ["usb-storage"], "modules-usb-storage"),
    ("imds_rule", False, "imds-not-from-containers"),
    ("input_policy", "DROP", "ecs-ports"),
    ("forward_policy", "ACCEPT", "net-forward-for-containers"),
    ("tmp.place", "memory", "ecs-tmp"),
    ("tmp.options", ["rw", "noexec"], "ecs-tmp"),
    ("ssh_keys_open_to_others", ["/etc/ssh/ssh_host_rsa_key 0644"], "sshd-file-modes"),
    ("boot_open_to_others", ["/boot/grub2/grub.cfg 0644"], "file-modes-boot"),
    ("cron_open_to_others", ["/etc/crontab 0644"], "cron-access"),
    ("logs_open_to_others", ["/var/log/messages 0644"], "log-modes"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fact", "value", "identity"), BROKEN)
def test_each_thing_that_is_wrong_fails_its_own_check(
    failing: Callable[[dict[str, Any]], set[str]], fact: str, value: object, identity: str
) -> None:
    facts = json.loads(json.dumps(HEALTHY))
    *path, last = fact.split(".")
    place = facts
    for step in path:
        place = place[step]
    place[last] = value

    assert identity in failing(facts)
