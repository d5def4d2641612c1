"""Prove hosts: run Ovenproof-ProveInstance on each, and ask GuardDuty about each, until all is well or time is up.

Changes nothing. A host that does not prove itself is a verdict, so that the document can say which and why.
"""

import json
import time
from typing import Any

import boto3
from botocore.exceptions import ClientError
from fleetview import chunks, error_code, group_named, is_passing, wait_for

DOCUMENT = "Ovenproof-ProveInstance"
UNDER_WAY = ("Pending", "InProgress", "Delayed", "Cancelling")
ABSENT = (
    "GuardDuty has not heard of it: does the VPC have an endpoint com.amazonaws.<region>.guardduty-data that lets 443 "
    "in, and is Runtime Monitoring enabled for this account?"
)


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: InstanceIds, or Group when there are none; Commands (their ids, of an attempt before; a list), Since,
    WindowSeconds, CoverageTimeoutSeconds, Coverage (`yes`, or `no` where GuardDuty is not to be asked).

    Out: State `proven` or `failed`, Reason, Hosts (JSON text: for each host kernel, unit, agent, coverage, problems).
    """
    ids = list(events["InstanceIds"])
    if not ids and events["Group"]:
        group = group_named(events["Group"])
        ids = [i["InstanceId"] for i in (group or {}).get("Instances", []) if i["LifecycleState"] == "InService"]
    if not ids:
        return answer({}, "no host was named, and the group has none in service")
    window = int(events["WindowSeconds"])
    since = float(events["Since"])
    reports = asked(ids, window)
    detectors = boto3.client("guardduty").list_detectors()["DetectorIds"]

    def look() -> dict[str, Any]:
        seen = coverage(detectors[0], ids) if detectors else {}
        hosts = {one: judged(reports.get(one), seen.get(one)) for one in ids}
        bad = {one: host for one, host in hosts.items() if host["problems"]}
        if not bad:
            return answer(hosts, "")
        deaf = all(host["only_coverage"] for host in bad.values())
        names = "; ".join(f"{one}: {'; '.join(host['problems'])}" for one, host in list(bad.items())[:3])
        reason = f"{len(bad)} of {len(hosts)} hosts are not proven: {names}"
        if deaf and time.time() - since <= events["CoverageTimeoutSeconds"]:
            return {"State": "waiting", "Reason": reason}
        return answer(hosts, reason)

    return wait_for(look)


def answer(hosts: dict[str, Any], reason: str) -> dict[str, Any]:
    shown = [{"instance": one, **host} for one, host in hosts.items()]
    for host in shown:
        host.pop("only_coverage", None)
    return {
        "State": "failed" if reason else "proven",
        "Reason": reason[:500] or f"{len(hosts)} hosts proved themselves",
        "Hosts": json.dumps(shown)[:90_000],
        "Count": len(hosts),
    }


def asked(ids: list[str], window: int) -> dict[str, dict[str, Any]]:
    """What each host said of itself: the report of ProveInstance, or `error`."""
    ssm = boto3.client("ssm")
    said: dict[str, dict[str, Any]] = {}
    commands: list[str] = []
    for some in chunks(ids, 50):
        try:
            sent = ssm.send_command(
                InstanceIds=some, DocumentName=DOCUMENT, Parameters={"WindowSeconds": [str(window)]}, TimeoutSeconds=300
            )
        except ClientError as error:
            if is_passing(error):
                raise
            said.update({one: {"error": f"SSM did not take the command: {error_code(error)}"} for one in some})
            continue
        commands.append(sent["Command"]["CommandId"])
    deadline = time.time() + window + 400
    while commands and time.time() < deadline:
        time.sleep(5)
        for command in list(commands):
            ended = invocations(command)
            if any(one["Status"] in UNDER_WAY for one in ended) or not ended:
                continue
            said.update({one["InstanceId"]: reported(one) for one in ended})
            commands.remove(command)
    return said


def invocations(command: str) -> list[dict[str, Any]]:
    ssm = boto3.client("ssm")
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"CommandId": command, "Details": True}
    while True:
        listed = ssm.list_command_invocations(**page)
        found += listed["CommandInvocations"]
        if not listed.get("NextToken"):
            return found
        page["NextToken"] = listed["NextToken"]


def reported(invocation: dict[str, Any]) -> dict[str, Any]:
    """The one line of JSON in what the command printed. Longer outputs are cut there, and read in full by themselves."""
    output = "".join(plugin.get("Output", "") for plugin in invocation.get("CommandPlugins", []))
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                return dict(json.loads(line))
            except ValueError:
                break
    full = boto3.client("ssm").get_command_invocation(
        CommandId=invocation["CommandId"], InstanceId=invocation["InstanceId"]
    )
    for line in full["StandardOutputContent"].splitlines():
        if line.startswith("{"):
            try:
                return dict(json.loads(line))
            except ValueError:
                break
    tail = (full["StandardErrorContent"].strip() or full["StatusDetails"])[-200:]
    return {"error": f"ProveInstance ended {invocation['Status']} without a report: {tail}"}


def coverage(detector: str, ids: list[str]) -> dict[str, dict[str, Any]]:
    """GuardDuty's rows of these hosts; one that it never heard of has none."""
    guardduty = boto3.client("guardduty")
    rows: dict[str, dict[str, Any]] = {}
    for some in chunks(ids, 50):
        page: dict[str, Any] = {
            "DetectorId": detector,
            "FilterCriteria": {
                "FilterCriterion": [
                    {"CriterionKey": "RESOURCE_TYPE", "FilterCondition": {"Equals": ["EC2"]}},
                    {"CriterionKey": "INSTANCE_ID", "FilterCondition": {"Equals": some}},
                ]
            },
        }
        while True:
            listed = guardduty.list_coverage(**page)
            for row in listed["Resources"]:
                rows[row["ResourceDetails"]["Ec2InstanceDetails"]["InstanceId"]] = dict(row)
            if not listed.get("NextToken"):
                break
            page["NextToken"] = listed["NextToken"]
    return rows


def judged(report: dict[str, Any] | None, row: dict[str, Any] | None) -> dict[str, Any]:
    """What one host shows, and every problem of it in a sentence."""
    problems: list[str] = []
    unit: dict[str, Any] = {}
    if report is None:
        problems.append("no answer to the command")
        report = {}
    elif report.get("error"):
        problems.append(report["error"])
    else:
        unit = report["unit"]
        if not report["kernel_supported"]:
            problems.append(f"kernel {report['kernel']} is not supported by the agent: use a kernel-5.10 image")
        if not unit["installed"]:
            problems.append("the GuardDuty agent is not installed: roll the host, or use InstallAgent")
        elif unit["active"] != "active":
            problems.append(
                f"the unit amazon-guardduty-agent is {unit['active']}: journalctl -u amazon-guardduty-agent"
            )
        elif unit["restarts_in_window"]:
            problems.append(f"the agent was restarted {unit['restarts_in_window']} times in {unit['window_seconds']} s")
        if unit["installed"] and not unit["enabled"]:
            problems.append("the unit is not enabled: it would be gone after a reboot")
        if report["checks"]["failed"]:
            problems.append(
                f"{report['checks']['failed']} checks failed: {', '.join(report['checks']['failures'][:3])}"
            )
    before = len(problems)
    status = (row or {}).get("CoverageStatus", "ABSENT")
    issue = (row or {}).get("Issue", "")
    if status != "HEALTHY":
        problems.append(f"coverage {status}: {issue or ABSENT if row is None else issue or 'No Agent Reporting'}")
    return {
        "kernel": report.get("kernel", ""),
        "unit": unit,
        "agent_version": report.get("agent_version", ""),
        "coverage": status,
        "issue": issue,
        "problems": problems,
        "only_coverage": bool(problems) and not before,
    }
