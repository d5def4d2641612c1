"""Systems Manager's operations: parameters, managed hosts, commands, calendars."""

import json
from typing import TYPE_CHECKING, Any

from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet import hosts as tell
from pipeline.rehearsal.fleet.answers.registry import Answer, Parameters, matches, operation, page
from pipeline.rehearsal.fleet.state import Command, Host, Invocation
from pipeline.rehearsal.fleet.unknown import names_of, only_known

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

PROVE, INSTALL, SHELL = "Ovenproof-ProveInstance", "Ovenproof-InstallAgent", "AWS-RunShellScript"
COMMANDS = (PROVE, INSTALL, SHELL)
OVERHEAD = 5.0  # seconds that a command takes beside what it waits for; an assumption
DEFAULT_TIMEOUT = 3600  # SendCommand.TimeoutSeconds


def _online(world: "World", host: Host) -> bool:
    return host.alive and world.t >= host.ssm_online and not host.swapping


# -- parameters -------------------------------------------------------------------------------------------------------


def _parameter(world: "World", name: str) -> dict[str, Any]:
    plain = name.split(":")[0]
    return {
        "Name": plain,
        "Type": "String",
        "Value": world.parameters[plain],
        "Version": 1,
        "LastModifiedDate": world.when(-86400),
        "ARN": world.arn("ssm", f"parameter{plain if plain.startswith('/') else '/' + plain}"),
        "DataType": "aws:ec2:image" if world.parameters[plain].startswith("ami-") else "text",
    }


@operation("ssm.GetParameter", "Name WithDecryption")
def get_parameter(world: "World", given: Parameters) -> Answer:
    if given["Name"].split(":")[0] not in world.parameters:
        raise Refused("ParameterNotFound", "")
    return {"Parameter": _parameter(world, given["Name"])}


@operation("ssm.GetParameters", "Names WithDecryption")
def get_parameters(world: "World", given: Parameters) -> Answer:
    known = [name for name in given["Names"] if name.split(":")[0] in world.parameters]
    return {
        "Parameters": [_parameter(world, name) for name in known],
        "InvalidParameters": [name for name in given["Names"] if name not in known],
    }


@operation("ssm.GetCalendarState", "CalendarNames AtTime")
def calendar_state(world: "World", given: Parameters) -> Answer:
    states = []
    for name in given["CalendarNames"]:
        plain = name.rsplit("/", 1)[-1]
        if plain not in world.spec.calendars:
            raise Refused("InvalidDocument", f"Document with name {name} does not exist.")
        states.append(world.spec.calendars[plain])
    return {
        "State": "OPEN" if all(state == "OPEN" for state in states) else "CLOSED",
        "AtTime": given.get("AtTime", f"{world.when(world.t):%Y-%m-%dT%H:%M:%SZ}"),
    }


# -- documents --------------------------------------------------------------------------------------------------------


def _document(name: str) -> None:
    if name not in COMMANDS:
        raise Refused("InvalidDocument", f"Document with name {name} does not exist.")


@operation("ssm.DescribeDocument", "Name DocumentVersion VersionName")
def describe_document(world: "World", given: Parameters) -> Answer:
    _document(given["Name"])
    return {
        "Document": {
            "Name": given["Name"],
            "Status": "Active",
            "DocumentVersion": "1",
            "DefaultVersion": "1",
            "LatestVersion": "1",
            "DocumentType": "Command",
            "DocumentFormat": "YAML",
            "SchemaVersion": "2.2",
            "Owner": world.spec.account if given["Name"] != SHELL else "Amazon",
            "CreatedDate": world.when(-86400),
        }
    }


@operation("ssm.GetDocument", "Name DocumentVersion VersionName DocumentFormat")
def get_document(world: "World", given: Parameters) -> Answer:
    _document(given["Name"])
    return {
        "Name": given["Name"],
        "Status": "Active",
        "DocumentVersion": "1",
        "DocumentType": "Command",
        "DocumentFormat": "JSON",
        "CreatedDate": world.when(-86400),
        "Content": json.dumps({"schemaVersion": "2.2", "description": given["Name"], "mainSteps": []}),
    }


# -- managed hosts ----------------------------------------------------------------------------------------------------

INFORMATION_FILTERS = ("InstanceIds", "PingStatus", "PlatformTypes", "tag:KEY")


def _information_values(world: "World", host: Host, name: str) -> list[str]:
    if name.startswith("tag:"):
        return [host.tags[name[4:]]] if name[4:] in host.tags else []
    if name == "InstanceIds":
        return [host.id]
    if name == "PlatformTypes":
        return ["Linux"]
    return ["Online" if _online(world, host) else "ConnectionLost"]


@operation("ssm.DescribeInstanceInformation", "InstanceInformationFilterList Filters MaxResults NextToken")
def describe_information(world: "World", given: Parameters) -> Answer:
    filters = [{"Name": one["Key"], "Values": one["Values"]} for one in given.get("Filters", [])]
    filters += [
        {"Name": one["key"], "Values": one["valueSet"]} for one in given.get("InstanceInformationFilterList", [])
    ]
    only_known(names_of(filters), INFORMATION_FILTERS, "filter of managed instances")
    managed = [host for host in world.hosts.values() if world.t >= host.ssm_online and host.state != "Terminated"]
    managed = [
        host
        for host in managed
        if matches(filters, lambda name, host=host: _information_values(world, host, name))  # type: ignore[misc]
    ]
    found, more = page(managed, given, most=50, size="MaxResults")
    return {
        "InstanceInformationList": [
            {
                "InstanceId": host.id,
                "PingStatus": "Online" if _online(world, host) else "ConnectionLost",
                "LastPingDateTime": world.when(world.t),
                "AgentVersion": "3.3.2299.0",
                "IsLatestVersion": True,
                "PlatformType": "Linux",
                "PlatformName": "Amazon Linux",
                "PlatformVersion": "2",
                "ResourceType": "EC2Instance",
                "IPAddress": host.ip,
                "ComputerName": f"ip-{host.ip.replace('.', '-')}",
            }
            for host in found
        ],
        **more,
    }


# -- commands ---------------------------------------------------------------------------------------------------------


def _addressed(world: "World", given: Parameters) -> list[Host]:
    """The hosts that InstanceIds or Targets name. Refused for ids that SSM does not manage."""
    if given.get("InstanceIds"):
        if len(given["InstanceIds"]) > 50:
            raise Refused("ValidationException", "InstanceIds can have at most 50 items.")
        named = []
        for name in given["InstanceIds"]:
            host = world.hosts.get(name)
            if host is None or not _online(world, host):
                raise Refused(
                    "InvalidInstanceId", f"Instances [[{name}]] not in a valid state for account {world.spec.account}"
                )
            named.append(host)
        return named
    targets = given.get("Targets", [])
    if not targets:
        raise Refused("ValidationException", "InstanceIds or Targets must be given.")
    for target in targets:
        if len(target["Values"]) > 50:
            raise Refused("ValidationException", "A target can have at most 50 values.")
    only_known(names_of(targets, "Key"), ["InstanceIds", "tag:KEY"], "target")
    filters = [{"Name": one["Key"], "Values": one["Values"]} for one in targets]
    return [
        host
        for host in world.hosts.values()
        if _online(world, host) and matches(filters, lambda name, host=host: _information_values(world, host, name))  # type: ignore[misc]
    ]


@operation(
    "ssm.SendCommand",
    "InstanceIds Targets DocumentName DocumentVersion DocumentHash DocumentHashType TimeoutSeconds Comment Parameters "
    "MaxConcurrency MaxErrors CloudWatchOutputConfig OutputS3BucketName OutputS3KeyPrefix OutputS3Region",
    changes=True,
)
def send_command(world: "World", given: Parameters) -> Answer:
    _document(given["DocumentName"])
    hosts = _addressed(world, given)
    timeout = given.get("TimeoutSeconds", DEFAULT_TIMEOUT)
    command = Command(
        id=world.token(),
        document=given["DocumentName"],
        parameters=given.get("Parameters", {}),
        comment=given.get("Comment", ""),
        requested=world.t,
        expires=world.t + timeout,
    )
    world.commands[command.id] = command
    seconds = OVERHEAD
    if command.document == PROVE:
        seconds += _window(command)
    elif command.document == INSTALL:
        seconds += 20
    if world.machines is not None and hosts:
        command.sent = world.machines.send([host.id for host in hosts], command.document, command.parameters)
    for host in hosts:
        command.invocations[host.id] = Invocation(host.id, started=world.t)
        if world.machines is None:
            world.after(world.jittered(seconds), _finish, world, command, host)
    if command.document == PROVE:
        world.timeline.mark("proof")
    return {"Command": _command(world, command, given)}


def _window(command: Command) -> int:
    given = command.parameters.get("WindowSeconds", ["20"])
    return int(given[0]) if given and str(given[0]).isdecimal() else 20


def _finish(world: "World", command: Command, host: Host) -> None:
    invocation = command.invocations[host.id]
    if invocation.status != "InProgress":
        return
    if not _online(world, host):
        if world.t < command.expires:
            world.at(command.expires, _finish, world, command, host)
            return
        invocation.status, invocation.ended = "TimedOut", world.t
        return
    if command.document == PROVE:
        invocation.output, invocation.code = tell.proof_of(world, host, _window(command))
        invocation.output += "\n"
    elif command.document == INSTALL:
        invocation.output, invocation.errors, invocation.code = _install(world, command, host)
    else:
        invocation.output, invocation.errors, invocation.code = tell.shell_of(
            world, host, [line for text in command.parameters.get("commands", []) for line in text.splitlines()]
        )
    invocation.status = "Success" if invocation.code == 0 else "Failed"
    invocation.ended = world.t


def _install(world: "World", command: Command, host: Host) -> tuple[str, str, int]:
    kernel = tell.kernel_of(world, host)
    if not tell.supported(kernel):
        return "", f"kernel {kernel} is older than GuardDuty's agent supports: roll the host onto a newer image\n", 1
    version = next(
        (str(values[0]) for name, values in command.parameters.items() if "version" in name.lower() and values),
        "1.17.1",
    )
    changed = tell.agent_of(world, host) != version
    if changed:
        host.installed_agent = version
        host.coverage_at = world.t + world.jittered(world.spec.timing.coverage)
    return json.dumps({"agent_version": version, "changed": changed}) + "\n", "", 0


def _command(world: "World", command: Command, given: Parameters) -> dict[str, Any]:
    return {
        "CommandId": command.id,
        "DocumentName": command.document,
        "DocumentVersion": given.get("DocumentVersion", "$DEFAULT"),
        "Comment": command.comment,
        "Parameters": dict(command.parameters),
        "InstanceIds": list(given.get("InstanceIds", [])),
        "Targets": list(given.get("Targets", [])),
        "RequestedDateTime": world.when(command.requested),
        "ExpiresAfter": world.when(command.expires),
        "Status": "Pending",
        "StatusDetails": "Pending",
        "TargetCount": len(command.invocations),
        "CompletedCount": 0,
        "ErrorCount": 0,
        "DeliveryTimedOutCount": 0,
    }


def _found(world: "World", name: str) -> Command:
    command = world.commands.get(name)
    if command is None:
        raise Refused("InvalidCommandId", "")
    return command


@operation("ssm.GetCommandInvocation", "CommandId InstanceId PluginName")
def get_invocation(world: "World", given: Parameters) -> Answer:
    command = world.commands.get(given["CommandId"])
    invocation = command.invocations.get(given["InstanceId"]) if command else None
    if command is None or invocation is None or (world.lag and world.t - invocation.started < world.lag):
        raise Refused("InvocationDoesNotExist", "")
    answer: dict[str, Any] = {
        "CommandId": command.id,
        "InstanceId": invocation.host,
        "Comment": command.comment,
        "DocumentName": command.document,
        "DocumentVersion": "1",
        "PluginName": given.get("PluginName", "aws:runShellScript"),
        "ResponseCode": invocation.code,
        "ExecutionStartDateTime": f"{world.when(invocation.started):%Y-%m-%dT%H:%M:%S.000Z}",
        "Status": invocation.status,
        "StatusDetails": invocation.status,
        "StandardOutputContent": invocation.output[:24000],
        "StandardErrorContent": invocation.errors[:8000],
    }
    if invocation.ended < 1e18:
        answer["ExecutionEndDateTime"] = f"{world.when(invocation.ended):%Y-%m-%dT%H:%M:%S.000Z}"
    return answer


@operation("ssm.ListCommandInvocations", "CommandId InstanceId Details MaxResults NextToken")
def list_invocations(world: "World", given: Parameters) -> Answer:
    commands = [_found(world, given["CommandId"])] if "CommandId" in given else list(world.commands.values())
    pairs = [
        (command, invocation)
        for command in commands
        for invocation in command.invocations.values()
        if given.get("InstanceId", invocation.host) == invocation.host
    ]
    if world.lag:
        pairs = [pair for pair in pairs if world.t - pair[1].started >= world.lag]
    found, more = page(pairs, given, most=50, size="MaxResults")
    answer = []
    for command, invocation in found:
        one: dict[str, Any] = {
            "CommandId": command.id,
            "InstanceId": invocation.host,
            "Comment": command.comment,
            "DocumentName": command.document,
            "DocumentVersion": "1",
            "RequestedDateTime": world.when(command.requested),
            "Status": invocation.status,
            "StatusDetails": invocation.status,
            "CommandPlugins": [],
        }
        if given.get("Details"):
            plugin: dict[str, Any] = {
                "Name": "aws:runShellScript",
                "Status": invocation.status,
                "StatusDetails": invocation.status,
                "ResponseCode": invocation.code,
                "ResponseStartDateTime": world.when(invocation.started),
                "Output": (
                    invocation.output + (f"\n----------ERROR-------\n{invocation.errors}" if invocation.errors else "")
                )[:2500],
            }
            if invocation.ended < 1e18:
                plugin["ResponseFinishDateTime"] = world.when(invocation.ended)
            one["CommandPlugins"] = [plugin]
        answer.append(one)
    return {"CommandInvocations": answer, **more}
