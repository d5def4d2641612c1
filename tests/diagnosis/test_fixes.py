"""Every command that is printed is one that `./run` takes: parsed by invoke with the signatures of `tasks.py`."""

import re
import shlex
from typing import Any

import pytest
from invoke import Collection
from invoke.parser import Parser

import tasks
from pipeline.diagnosis.causes import Hit, causes
from pipeline.diagnosis.fixes import command
from pipeline.diagnosis.model import Finding
from pipeline.install_agent import InstallRequest
from pipeline.monitoring.features import AGENTS
from pipeline.monitoring.fix import render_commands
from pipeline.roll import RollRequest

ACCOUNT, OWNER, REGION = "200000000001", "200000000002", "eu-central-1"
WITH_FIX = [name for name, cause in causes().items() if cause.fix]


def finding(cause: str, **given: Any) -> Finding:
    kind = {"service": "service", "cluster": "cluster"}.get(causes()[cause].level, "host")
    whole: dict[str, Any] = {
        "kind": kind,
        "account": ACCOUNT,
        "region": REGION,
        "id": "i-0123456789abcdef0" if kind == "host" else "web",
        "status": "unhealthy",
        "hits": (Hit(cause, ("seen",), "do"),),
        "cluster": "main",
        "vpc": "vpc-1",
        "group": "main-group",
        "system": "ec2",
        "vpc_owner": OWNER if cause == "shared-vpc-owner-off" else "",
    }
    return Finding(**{**whole, **given})


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The task and what it is given. invoke raises ParseError for a task or option that there is not."""
    words = shlex.split(line, comments=True)
    assert words[0] == "./run", line
    (found,) = Parser(contexts=Collection.from_module(tasks).to_contexts()).parse_argv(words[1:])
    assert found.name
    given = {argument.name: argument.value for argument in found.args.values() if argument.got_value}
    return found.name, given


@pytest.mark.parametrize("cause", WITH_FIX)
def test_the_command_of_each_cause_is_one_that_run_takes(cause: str) -> None:
    line = command(finding(cause), cause)
    task, given = parsed(line)
    fix = causes()[cause].fix
    assert task == {"endpoint": "fix", "redeploy": "fix"}.get(fix or "", fix)
    assert given["on"] == "aws" and given["region"] == REGION
    if task == "enable-monitoring":
        assert set(given.get("agents", "").replace(",", " ").split()) <= set(AGENTS)
    if task == "roll":
        RollRequest(group=given["group"])
    if task == "install-agent":
        assert InstallRequest(instances=given["instance"]).parameters() == {"InstanceIds": ["i-0123456789abcdef0"]}
    for unfilled in ("{", "}", "GROUP", "unknown", "None", "  "):
        assert unfilled not in line


@pytest.mark.parametrize("cause", WITH_FIX)
def test_what_is_not_known_leaves_no_hole_in_a_command(cause: str) -> None:
    line = command(finding(cause, group="", vpc="", vpc_owner="", system="bottlerocket"), cause)
    if line:
        parsed(line)
        assert not re.search(r"--[a-z-]+ +(--|$)", re.sub(r"--(endpoint|redeploy)\b", "", line)), line


def test_the_hole_would_be_seen() -> None:
    with pytest.raises(Exception, match="needed value"):
        parsed("./run roll --on aws --region eu-central-1 --group")
    with pytest.raises(Exception, match="No idea what"):
        parsed("./run fix --on aws --endpoints")


def test_the_whole_list_of_fix_is_taken() -> None:
    found = [finding(cause, id=f"i-{number:017x}") for number, cause in enumerate(WITH_FIX)]
    lines = [line.strip() for line in render_commands(found).splitlines() if "./run" in line]
    assert {parsed(line)[0] for line in lines} == {"enable-monitoring", "fix", "install-agent", "roll"}


def test_remedies_leave_commands_of_ours_to_the_command() -> None:
    assert [name for name, cause in causes().items() if "./run" in cause.remedy] == []


@pytest.mark.parametrize(
    ("cause", "given", "wanted"),
    [
        ("kernel-below", {"group": ""}, ""),  # no group, so nothing that could be rolled
        ("kernel-below", {"system": "bottlerocket"}, ""),
        ("agent-silent", {"system": "bottlerocket"}, ""),  # there is no package for it
        ("endpoint-missing", {"vpc_owner": OWNER}, ""),  # only its owner can
        (
            "shared-vpc-owner-off",
            {},
            f"./run enable-monitoring --on aws --account {OWNER} --region {REGION} --agents ec2,fargate",
        ),
        (
            "agent-management-off",
            {},
            f"./run enable-monitoring --on aws --account {ACCOUNT} --region {REGION} --agents ec2",
        ),
        (
            "fargate-agent-management-off",
            {},
            f"./run enable-monitoring --on aws --account {ACCOUNT} --region {REGION} --agents fargate",
        ),
        (
            "runtime-monitoring-off",
            {"vpc_owner": OWNER},
            f"./run enable-monitoring --on aws --account {ACCOUNT} --region {REGION}",
        ),
    ],
)
def test_a_command_is_for_whom_it_helps(cause: str, given: dict[str, Any], wanted: str) -> None:
    assert command(finding(cause, **given), cause) == wanted
