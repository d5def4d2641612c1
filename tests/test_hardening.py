"""The hardening rules: what a file may say, what becomes of it, and that rules and rootfs agree."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import CatalogError
from pipeline.hardening import Hardening, goss_spec, load_hardening
from pipeline.paths import IMAGES

TODAY = date(2026, 11, 24)
ROOTFS = IMAGES / "rootfs"

RULE = """\
rules:
  - id: net-quiet
    title: nobody redirects this host
    cis: {al2: 3.3.2, al2023: 3.2.2}
    why: Redirects lie.
    applied: rootfs/etc/sysctl.d/90.conf
    risk: None.
    check:
      kernel-param: {net.ipv4.conf.all.send_redirects: {value: "0"}}
      file: {/etc/sysctl.d/90.conf: {exists: true, contents: [redirects]}}
"""
WAIVED = """\
  - id: firewall
    title: the firewall drops
    why: A second fence.
    applied: rootfs
    risk: Cuts tasks off.
    waiver: {reason: security groups do it, until: 2026-12-31}
"""


def write(folder: Path, text: str) -> Path:
    """A file of rules beside a rootfs that has what RULE applies."""
    applied = folder / "rootfs" / "etc" / "sysctl.d" / "90.conf"
    applied.parent.mkdir(parents=True, exist_ok=True)
    applied.touch()
    file = folder / "hardening.yaml"
    file.write_text(text)
    return file


def load(folder: Path, text: str, today: date = TODAY) -> Hardening:
    return load_hardening(today, write(folder, text))


@pytest.fixture(scope="module")
def shipped() -> Hardening:
    return load_hardening(TODAY)


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            RULE.replace("    risk: None.\n", ""),
            "NAME:2:5 rules > item 1: the key 'risk' is missing",
        ),
        (
            RULE.replace("why:", "reason:"),
            "NAME:2:5 rules > item 1: the key 'why' is missing\n"
            "NAME:5:5 rules > item 1 > reason: unknown key 'reason'; allowed: applied, check, cis, id, needs, remedy, "
            "risk, title, waiver, why",
        ),
        (
            RULE.replace("kernel-param", "sysctl"),
            "NAME:9:7 rules > item 1 > check > sysctl: found 'sysctl'; allowed: command, file, kernel-param, "
            "matching, mount, service",
        ),
        (
            RULE + WAIVED.replace("    waiver: {reason: security groups do it, until: 2026-12-31}\n", ""),
            "NAME:11:5 rules > item 2: the rule 'firewall' has neither a check nor a waiver",
        ),
        (RULE + RULE.removeprefix("rules:\n"), "NAME:1:1 the document: the id 'net-quiet' is given twice"),
    ],
)
def test_a_faulty_file_is_told_with_the_place_of_each_fault(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, text)

    assert caught.value.found == found.replace("NAME", str(tmp_path / "hardening.yaml"))


def test_a_waiver_past_its_day_and_a_file_that_is_not_there_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, RULE.replace("90.conf\n    risk", "99.conf\n    risk") + WAIVED, today=date(2027, 1, 1))

    assert str(caught.value) == (
        "hardening.yaml has 2 rules that cannot hold\n"
        "  expected: every waiver still open, every rule applied by a file under images/\n"
        "  found:    net-quiet: applied by rootfs/etc/sysctl.d/99.conf, which is not there\n"
        "            firewall: its waiver ended on 2026-12-31 (security groups do it)\n"
        f"  where:    {tmp_path / 'hardening.yaml'}\n"
        "  do:       apply the rule, or give its waiver a later day and a reason that is still true"
    )


def test_a_waiver_holds_on_its_last_day(tmp_path: Path) -> None:
    rules = load(tmp_path, RULE + WAIVED, today=date(2026, 12, 31))

    assert [rule.id for rule in rules.rules] == ["net-quiet", "firewall"]


# -- what becomes of the rules ----------------------------------------------------------------------------------------


def test_the_spec_holds_every_rule_that_is_not_waived_under_the_rules_own_name(tmp_path: Path) -> None:
    rules = load(tmp_path, RULE.replace("    risk", "    needs: [/proc/sys/net]\n    risk") + WAIVED)

    about = {
        "id": "net-quiet",
        "topic": "hardening",
        "remedy": "find out what overrides /etc/sysctl.d/90.conf; a new instance has it right",
        "cis": {"al2": "3.3.2", "al2023": "3.2.2"},
        "needs": ["/proc/sys/net"],
    }
    assert goss_spec(rules, TODAY) == {
        "kernel-param": {
            "net-quiet net.ipv4.conf.all.send_redirects": {
                "name": "net.ipv4.conf.all.send_redirects",
                "value": "0",
                "title": "nobody redirects this host: net.ipv4.conf.all.send_redirects",
                "meta": about,
            }
        },
        "file": {
            "net-quiet /etc/sysctl.d/90.conf": {
                "path": "/etc/sysctl.d/90.conf",
                "exists": True,
                "contents": ["redirects"],
                "title": "nobody redirects this host: /etc/sysctl.d/90.conf",
                "meta": about,
            }
        },
    }


def test_a_rule_with_a_waiver_and_a_check_is_checked_once_the_waiver_is_over(tmp_path: Path) -> None:
    text = RULE + "    waiver: {reason: not yet, until: 2026-12-31}\n"

    assert goss_spec(load(tmp_path, text), TODAY) == {}
    assert list(goss_spec(load(tmp_path, text), date(2027, 1, 1))) == ["kernel-param", "file"]


# -- the rules we ship ------------------------------------------------------------------------------------------------


def values_checked(hardening: Hardening, kind: str) -> dict[str, Any]:
    return {
        name: attributes
        for rule in hardening.rules
        for name, attributes in rule.check.get(kind, {}).items()  # type: ignore[call-overload]
    }


def test_every_file_laid_on_the_image_is_some_rules_or_the_checks_own(shipped: Hardening) -> None:
    applied = {rule.applied.removeprefix("rootfs") for rule in shipped.rules}
    checked = set(values_checked(shipped, "file"))
    own = {
        "/usr/bin/ovenproof-check",
        "/lib/systemd/system-generators/ovenproof-agent-limits",
        "/etc/systemd/system/ovenproof-container-network.service",
    }
    laid = {f"/{path.relative_to(ROOTFS)}" for path in ROOTFS.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    assert laid - applied - checked - own == set()


def test_every_kernel_setting_laid_is_checked_with_the_value_laid(shipped: Hardening) -> None:
    text = (ROOTFS / "etc/sysctl.d/90-ovenproof.conf").read_text()
    laid = {
        key.strip(): value.strip()
        for key, _, value in (line.partition("=") for line in text.splitlines() if line and line[0] != "#")
    }
    checked = values_checked(shipped, "kernel-param")

    assert set(laid) - set(checked) == set()
    assert {
        key: (value, checked[key]["value"])
        for key, value in laid.items()
        if checked[key]["value"] not in (value, {"ge": int(value)})
    } == {}


def test_every_module_kept_out_is_checked(shipped: Hardening) -> None:
    lines = (ROOTFS / "etc/modprobe.d/ovenproof.conf").read_text().splitlines()
    checked = [
        line
        for rule in shipped.rules
        for line in rule.check.get("file", {}).get("/etc/modprobe.d/ovenproof.conf", {}).get("contents", ())
    ]

    assert sorted(checked) == sorted(line for line in lines if line.startswith("install "))


def test_what_breaks_ecs_hosts_elsewhere_is_a_rule_here(shipped: Hardening) -> None:
    holding = {rule.id for rule in shipped.rules if not rule.waiver}

    assert holding >= {
        "ecs-ip-forward",
        "ecs-ports",
        "ecs-tmp",
        "imds-not-from-containers",
        "imds-not-from-awsvpc-tasks",
        "shell-defaults",
    }


def test_no_rule_is_without_a_reason_or_a_risk(shipped: Hardening) -> None:
    assert [rule.id for rule in shipped.rules if not (rule.why.strip() and rule.risk.strip())] == []
    assert 40 <= len(shipped.rules) <= 60
