"""Prove hosts: run Ovenproof-ProveInstance on each and ask GuardDuty about each, until all is well or time is up.

Changes nothing. A host that does not prove itself is a verdict, so that the document can say which and why. An attempt
that ran out of time is followed by one that asks anew: what a host said ten minutes ago proves little.
"""

import json
import time
from typing import Any

import boto3
from botocore.exceptions import ClientError
from fleetview import chunks, error_code, group_named, wait_for
from issues import ABSENT, remedy_for

DOCUMENT = "Ovenproof-ProveInstance"
UNDER_WAY = ("Pending", "InProgress", "Delayed", "Cancelling")
LONGEST_WINDOW = 120  # with ANSWER_SECONDS it has to fit into the time of one script
ANSWER_SECONDS = 400  # beside the window: the end of a boot, a container that looks around, the checks
MANAGED_SECONDS = 600  # a new host's SSM Agent may come later than its ECS agent
HOSTS_CHARACTERS = 60_000  # as JSON inside of JSON this stays below the 100 KB of a script's output
NO_SSM = (
    "SSM does not manage it, so nothing can be asked: does it run SSM Agent, does its instance profile hold "
    "AmazonSSMManagedInstanceCore, and is there a way to SSM's endpoints?"
)
STALE = (
    "as it was before its root volume was replaced, and nothing since: see that amazon-guardduty-agent runs and"
    " reaches the guardduty-data endpoint"
)
NO_GUARDDUTY = "GuardDuty is not enabled in this account and region: enable it, and its Runtime Monitoring"
NO_ISSUE = "No Agent Reporting"  # the user guide's row for an empty issue


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: InstanceIds, or Group when there are none; WindowSeconds (1 to 120, more counts as 120), Since (seconds since
    1970), CoverageTimeoutSeconds.

    Out: State `proven` or `failed`, Reason, Hosts (JSON text: for each host kernel, unit, agent, checks, coverage,
    problems; the bad ones first), Count.
    """
    named = list(events["InstanceIds"])
    window = min(max(int(events["WindowSeconds"]), 1), LONGEST_WINDOW)
    since, patience = float(events["Since"]), float(events["CoverageTimeoutSeconds"])
    known: dict[str, dict[str, Any]] = {}  # by host: since, command, sent, report, row

    def look() -> dict[str, Any]:
        ids, fault = wanted(named, events["Group"])
        if fault:
            return answer({}, fault)
        for one, started in begun([one for one in ids if one not in known]).items():
            # A host that joins the group meanwhile has its own time.
            known[one] = {"since": max(started["running"], since), "root": started["root"]}
        hosts = {one: known[one] for one in ids}
        ask(hosts, window)
        hear(hosts, window)
        detectors = boto3.client("guardduty").list_detectors()["DetectorIds"]
        if detectors:
            cover(detectors[0], hosts)
        shown = {one: judged(host, bool(detectors), patience) for one, host in hosts.items()}
        bad = {one: host for one, host in shown.items() if host["problems"]}
        if not bad:
            return answer(shown, "")
        reason = f"{len(bad)} of {len(shown)} hosts are not proven: {summed(bad)}"
        under_way = any("command" in host and "report" not in host for host in hosts.values())
        if under_way or all(host["may_pass"] for host in bad.values()):
            return {"State": "waiting", "Reason": reason}
        return answer(shown, reason)

    try:
        return wait_for(look)
    except ClientError as error:  # a refusal: another attempt would only ask every host again
        return answer({}, f"AWS refuses: {error}")


def wanted(named: list[str], group: str) -> tuple[list[str], str]:
    """The hosts to prove; or else what is wrong with the question."""
    if named:
        return named, ""
    if not group:
        return [], "no host and no group was named: give InstanceIds or Group"
    found = group_named(group)
    if found is None:
        return [], f"there is no Auto Scaling group {group} in this account and region"
    ids = [one["InstanceId"] for one in found["Instances"] if one["LifecycleState"] == "InService"]
    return ids, "" if ids else f"the group {group} has no host in service"


def begun(ids: list[str]) -> dict[str, dict[str, float]]:
    """Since when each host runs what it runs, and when its root volume was attached (EC2 API reference,
    EbsInstanceBlockDevice.AttachTime), in seconds since 1970; 0 for one that EC2 does not show (yet)."""
    ec2 = boto3.client("ec2")
    found = {one: {"running": 0.0, "root": 0.0} for one in ids}
    for some in chunks(ids, 100):
        page: dict[str, Any] = {"Filters": [{"Name": "instance-id", "Values": some}]}
        while True:
            listed = ec2.describe_instances(**page)
            for reservation in listed["Reservations"]:
                for instance in reservation["Instances"]:
                    root = 0.0
                    for mapped in instance.get("BlockDeviceMappings", []):
                        if mapped["DeviceName"] == instance.get("RootDeviceName") and "AttachTime" in mapped["Ebs"]:
                            root = mapped["Ebs"]["AttachTime"].timestamp()
                    started = instance["LaunchTime"].timestamp()
                    found[instance["InstanceId"]] = {"running": max(started, root), "root": root}
            if not listed.get("NextToken"):
                break
            page["NextToken"] = listed["NextToken"]
    return found


def answer(hosts: dict[str, Any], reason: str) -> dict[str, Any]:
    entries = [{"instance": one, **host} for one, host in hosts.items()]
    shown: list[dict[str, Any]] = []
    room = HOSTS_CHARACTERS
    for entry in sorted(entries, key=lambda one: not one["problems"]):
        entry.pop("may_pass")
        room -= len(json.dumps(entry)) + 2
        if room < 0:
            shown.append({"left_out": len(entries) - len(shown)})
            break
        shown.append(entry)
    return {
        "State": "failed" if reason else "proven",
        "Reason": reason[:500] or f"{len(hosts)} hosts proved themselves",
        "Hosts": json.dumps(shown),
        "Count": len(hosts),
    }


def summed(bad: dict[str, dict[str, Any]]) -> str:
    """Each problem once, with the hosts that have it; the most common first."""
    having: dict[str, list[str]] = {}
    for one, host in bad.items():
        for problem in host["problems"]:
            having.setdefault(problem, []).append(one)
    told = []
    for problem, ids in sorted(having.items(), key=lambda pair: -len(pair[1])):
        others = f" and {len(ids) - 2} more" if len(ids) > 2 else ""
        told.append(f"{problem} ({', '.join(ids[:2])}{others})")
    return "; ".join(told)


def ask(hosts: dict[str, dict[str, Any]], window: int) -> None:
    """Send the command to every host that SSM can reach and that was not asked yet."""
    ssm = boto3.client("ssm")
    unasked = [one for one, host in hosts.items() if "command" not in host and "report" not in host]
    reachable: list[str] = []
    for some in chunks(unasked, 50):
        page: dict[str, Any] = {"Filters": [{"Key": "InstanceIds", "Values": some}], "MaxResults": 50}
        while True:
            listed = ssm.describe_instance_information(**page)
            reachable += [
                one["InstanceId"] for one in listed["InstanceInformationList"] if one["PingStatus"] == "Online"
            ]
            if not listed.get("NextToken"):
                break
            page["NextToken"] = listed["NextToken"]
    for some in chunks([one for one in unasked if one in set(reachable)], 50):
        try:
            sent = ssm.send_command(
                InstanceIds=some, DocumentName=DOCUMENT, Parameters={"WindowSeconds": [str(window)]}, TimeoutSeconds=300
            )
        except ClientError as error:
            if error_code(error) == "InvalidInstanceId":  # one of them went away just now: the next look tells which
                continue
            raise
        for one in some:
            hosts[one].update(command=sent["Command"]["CommandId"], sent=time.time())


def hear(hosts: dict[str, dict[str, Any]], window: int) -> None:
    """Fetch the reports of the hosts whose command has ended."""
    silent = {one: host for one, host in hosts.items() if "command" in host and "report" not in host}
    for command in dict.fromkeys(host["command"] for host in silent.values()):
        for invocation in invocations(command):
            host = silent.get(invocation["InstanceId"])
            if host is not None and invocation["Status"] not in UNDER_WAY:
                host["report"] = reported(invocation)
    for host in silent.values():
        if "report" not in host and time.time() - host["sent"] > window + ANSWER_SECONDS:
            host["report"] = {"error": f"no answer to ProveInstance within {window + ANSWER_SECONDS} s"}


def invocations(command: str) -> list[dict[str, Any]]:
    ssm = boto3.client("ssm")
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"CommandId": command, "Details": True}
    while True:
        listed = ssm.list_command_invocations(**page)
        found += [dict(one) for one in listed["CommandInvocations"]]
        if not listed.get("NextToken"):
            return found
        page["NextToken"] = listed["NextToken"]


def reported(invocation: dict[str, Any]) -> dict[str, Any]:
    """The one line of JSON that the command printed. SSM cuts outputs in a list short: then the host's own is read."""
    output = "".join(plugin.get("Output", "") for plugin in invocation.get("CommandPlugins", []))
    if report := report_in(output):
        return report
    full = boto3.client("ssm").get_command_invocation(
        CommandId=invocation["CommandId"], InstanceId=invocation["InstanceId"]
    )
    if report := report_in(full["StandardOutputContent"]):
        return report
    tail = (full["StandardErrorContent"].strip() or full["StatusDetails"])[-200:]
    return {"error": f"ProveInstance ended {invocation['Status']} without a report: {tail}"}


def report_in(output: str) -> dict[str, Any] | None:
    """The report in what was printed; None when there is none, or not a whole one."""
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                report = json.loads(line)
            except ValueError:
                continue
            if {"kernel", "kernel_supported", "unit", "agent_version", "checks"} <= set(report):
                return dict(report)
    return None


def cover(detector: str, hosts: dict[str, dict[str, Any]]) -> None:
    """Fetch GuardDuty's rows of the hosts that it did not call HEALTHY yet; one that it never heard of has none."""
    guardduty = boto3.client("guardduty")
    unwell = [one for one, host in hosts.items() if not is_covered(host)]
    for some in chunks(unwell, 50):
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
                one = row["ResourceDetails"]["Ec2InstanceDetails"]["InstanceId"]
                if one in hosts:
                    hosts[one]["row"] = dict(row)
            if not listed.get("NextToken"):
                break
            page["NextToken"] = listed["NextToken"]


def is_stale(host: dict[str, Any]) -> bool:
    """Whether GuardDuty's row of the host is older than the root volume that it runs from.

    Replacing it changes neither the instance nor its row. Where a row has no time there is nothing to hold against it.
    """
    updated = host.get("row", {}).get("UpdatedAt")
    return updated is not None and updated.timestamp() < host["root"]


def is_covered(host: dict[str, Any]) -> bool:
    return host.get("row", {}).get("CoverageStatus") == "HEALTHY" and not is_stale(host)


def judged(host: dict[str, Any], guarded: bool, patience: float) -> dict[str, Any]:
    """What one host shows, every problem of it in a sentence, and whether all of them may pass by waiting."""
    report, row = host.get("report", {}), host.get("row", {})
    lasting, passing = said_by(report), []
    if not report:
        if "command" in host:
            passing.append("no answer to ProveInstance yet")
        elif time.time() - host["since"] <= MANAGED_SECONDS:
            passing.append(NO_SSM)
        else:
            lasting.append(NO_SSM)
    if not guarded:
        lasting.append(NO_GUARDDUTY)
    elif not is_covered(host):
        in_time = time.time() - host["since"] <= patience
        why = f"coverage {row['CoverageStatus']} {STALE}" if is_stale(host) else uncovered(row)
        (passing if in_time else lasting).append(why)
    return {
        "kernel": report.get("kernel", ""),
        "unit": report.get("unit", {}),
        "agent_version": report.get("agent_version", ""),
        "checks": report.get("checks", {}),
        "carried": report.get("carried", False),
        "coverage": row.get("CoverageStatus", "ABSENT"),
        "issue": row.get("Issue", ""),
        "problems": lasting + passing,
        "may_pass": not lasting,
    }


def said_by(report: dict[str, Any]) -> list[str]:
    """What is wrong with a host by its own report."""
    if not report:
        return []
    if report.get("error"):
        return [report["error"]]
    unit, checks = report["unit"], report["checks"]
    problems: list[str] = []
    if not report["kernel_supported"]:
        problems.append(f"kernel {report['kernel']} is not supported by the agent: roll onto a kernel-5.10 image")
    if not unit["installed"]:
        problems.append("the GuardDuty agent is not installed: roll the host, or use InstallAgentOnInstances")
    elif unit["active"] != "active":
        problems.append(f"the unit amazon-guardduty-agent is {unit['active']}: journalctl -u amazon-guardduty-agent")
    elif unit["restarts_in_window"]:
        problems.append(
            f"the agent was restarted {unit['restarts_in_window']} times in {unit['window_seconds']} s: "
            "journalctl -u amazon-guardduty-agent"
        )
    if unit["installed"] and not unit["enabled"]:
        problems.append("the unit amazon-guardduty-agent is not enabled, so it would be gone after a reboot")
    if checks["failed"]:
        titles = ", ".join(checks["failures"][:3]) + (", ..." if checks["failed"] > 3 else "")
        problems.append(f"{checks['failed']} checks failed: {titles}")
    return problems


def uncovered(row: dict[str, Any]) -> str:
    """Why GuardDuty does not call the host HEALTHY, in its own words, and what to do."""
    if not row:
        return f"coverage ABSENT: {ABSENT}"
    issue = row.get("Issue", "")
    remedy = remedy_for(issue or NO_ISSUE)
    return f"coverage {row.get('CoverageStatus', '')}: {issue or 'no issue is named'}" + (remedy and f": {remedy}")
