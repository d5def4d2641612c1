"""SSM of the local cloud: in, Run Command calls; out, what the guest's agent did, and the parameters of base guests.

The QEMU guest agent plays the SSM agent: an instance is Online while it answers, and AWS-RunShellScript runs the
script in the guest as root. Statuses and limits: Systems Manager API reference, GetCommandInvocation (output is cut
after 24,000 characters) and the AWS-RunShellScript document.
"""

import json
import shlex
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, ClassVar, cast

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ssm import urls as moto_urls
from moto.ssm.models import Parameter, SimpleSystemManagerBackend, ssm_backends
from moto.ssm.responses import SimpleSystemManagerResponse

from pipeline.rehearsal import stand_in
from pipeline.rehearsal.guest import Guest
from pipeline.rehearsal.machine import ExecResult, GuestAgent, run_in_guest
from pipeline.rehearsal.store import ParameterVersion
from pipeline.rehearsal.world import World

DOCUMENT = "AWS-RunShellScript"
PLUGIN = "aws:runShellScript"
IMAGE_TYPE = "aws:ec2:image"
OUTPUT_CHARACTERS = 24_000
DEFAULT_EXECUTION_SECONDS = 3600
MAX_EXECUTION_SECONDS = 172_800
POLL_SECONDS = 0.25
TIMEOUT_EXIT_CODE = 124  # of timeout(1)
SEND_PARAMETERS = frozenset(
    ("Comment", "DocumentName", "DocumentVersion", "InstanceIds", "Parameters", "Targets", "TimeoutSeconds")
)


class SSMError(ServiceException):
    pass


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One command on one instance, in SSM's words."""

    command_id: str
    instance_id: str
    comment: str
    requested: datetime
    status: str = "Pending"
    details: str = "Pending"
    exit_code: int = -1
    stdout: str = ""
    stderr: str = ""
    started: datetime | None = None
    ended: datetime | None = None

    def plugin(self) -> dict[str, Any]:
        return {
            "Name": PLUGIN,
            "Status": self.status,
            "StatusDetails": self.details,
            "ResponseCode": self.exit_code,
            "ResponseStartDateTime": self.started,
            "ResponseFinishDateTime": self.ended,
            "Output": self.stdout,
            "OutputS3BucketName": "",
            "OutputS3KeyPrefix": "",
        }

    def summary(self, *, with_plugins: bool) -> dict[str, Any]:
        """As ListCommandInvocations shows it."""
        return {
            "CommandId": self.command_id,
            "InstanceId": self.instance_id,
            "Comment": self.comment,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "1",
            "RequestedDateTime": self.requested,
            "Status": self.status,
            "StatusDetails": self.details,
            "CommandPlugins": [self.plugin()] if with_plugins else [],
        }

    def full(self) -> dict[str, Any]:
        """As GetCommandInvocation shows it."""
        return {
            "CommandId": self.command_id,
            "InstanceId": self.instance_id,
            "Comment": self.comment,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "1",
            "PluginName": PLUGIN,
            "ResponseCode": self.exit_code,
            "ExecutionStartDateTime": _iso(self.started),
            "ExecutionEndDateTime": _iso(self.ended),
            "ExecutionElapsedTime": _elapsed(self.started, self.ended),
            "Status": self.status,
            "StatusDetails": self.details,
            "StandardOutputContent": self.stdout,
            "StandardErrorContent": self.stderr,
            "StandardOutputUrl": "",
            "StandardErrorUrl": "",
        }


def _iso(when: datetime | None) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if when else ""


def _elapsed(started: datetime | None, ended: datetime | None) -> str:
    return f"PT{(ended - started).total_seconds():.3f}S" if started and ended else ""


def _cut(text: str) -> str:
    if len(text) <= OUTPUT_CHARACTERS:
        return text
    mark = "\n---Output truncated---"
    return text[: OUTPUT_CHARACTERS - len(mark)] + mark


def ended(invocation: Invocation, result: ExecResult, *, now: datetime, limit_seconds: int) -> Invocation:
    """The invocation after its script ended: the exit code decides, a time limit reached decides first."""
    ran = (now - (invocation.started or now)).total_seconds()
    if result.exit_code == TIMEOUT_EXIT_CODE and ran >= limit_seconds:
        status, details, code = "TimedOut", "Execution Timed Out", -1
    elif result.exit_code == 0:
        status, details, code = "Success", "Success", 0
    else:
        status, details, code = "Failed", "Failed", result.exit_code
    return replace(
        invocation,
        status=status,
        details=details,
        exit_code=code,
        stdout=_cut(result.stdout),
        stderr=_cut(result.stderr),
        ended=now,
    )


class LocalSSMBackend(SimpleSystemManagerBackend):
    world: ClassVar[World]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.invocations: dict[tuple[str, str], Invocation] = {}
        self.put_here: set[str] = set()
        self.show_kept_parameters()

    @property
    def _url_module(self) -> Any:
        return SimpleNamespace(url_bases=moto_urls.url_bases, url_paths={"{0}/$": LocalSSMResponse.dispatch})

    # Parameters

    def show_kept_parameters(self) -> None:
        """What users put outlives the daemon, as their images do."""
        for one in self.world.hosting.store.known_parameters(self.region_name):
            self._parameters[one.name].append(
                Parameter(  # type: ignore[abstract]  # as moto itself does
                    account_id=self.account_id,
                    name=one.name,
                    value=one.value,
                    parameter_type=one.type,
                    description=one.description,
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=one.modified,
                    version=one.version,
                    data_type=one.data_type,
                )
            )
            self.put_here.add(one.name)

    def keep_parameters(self) -> None:
        """Write down every parameter that a user put."""
        versions = [
            ParameterVersion(
                name=one.name,
                value=one.value,
                type=one.parameter_type,
                data_type=one.data_type,
                description=one.description,
                version=one.version,
                modified=one.last_modified_date,
            )
            for name in sorted(self.put_here)
            if name in self._parameters
            for one in self._parameters[name]
        ]
        self.world.hosting.store.save_parameters(self.region_name, versions)

    def put_parameter(self, name: str, *rest: Any, **more: Any) -> Parameter:
        found = super().put_parameter(name, *rest, **more)
        found.last_modified_date = self.world.clock.now()
        if found.data_type == IMAGE_TYPE and not self._is_image(found.value):
            # SSM answers first and looks afterwards; a value that is no image never becomes the parameter's
            # (Systems Manager user guide, "Native parameter support for Amazon Machine Image IDs").
            self._parameters[name].pop()
            if not self._parameters[name]:
                del self._parameters[name]
            return found
        self.put_here.add(name)
        self.keep_parameters()
        return found

    def delete_parameter(self, name: str) -> None:
        super().delete_parameter(name)
        self.keep_parameters()

    def delete_parameters(self, names: list[str]) -> list[str]:
        found = super().delete_parameters(names)
        self.keep_parameters()
        return found

    def _is_image(self, value: str) -> bool:
        backend: Any = ec2_backends[self.account_id][self.region_name]
        image = backend.amis.get(value)
        return image is not None and image.state == "available"

    def lead_to_bases(self) -> None:
        """Let the public parameters of every base guest that was made lead to its image."""
        for base in self.world.bases.values():
            for name, value in stand_in.parameters(base, self.region_name).items():
                if name in self._parameters and self._parameters[name][-1].value == value:
                    continue
                self._parameters[name] = [
                    Parameter(  # type: ignore[abstract]  # as moto itself does
                        account_id=self.account_id,
                        name=name,
                        value=value,
                        parameter_type="String",
                        description=None,
                        allowed_pattern=None,
                        keyid=None,
                        last_modified_date=base.made,
                        version=1,
                        data_type="text",
                    )
                ]

    # Instances and commands

    def guests(self) -> list[Guest]:
        guests = self.world.hosting.guests.values()
        return [g for g in guests if g.launch.region == self.region_name and g.state != "terminated"]

    def run_script(self, instance_ids: list[str], script: str, *, comment: str, limit_seconds: int) -> str:
        """Start the script on each instance and return the command's id."""
        managed = {guest.id: guest for guest in self.guests() if guest.managed}
        for instance_id in instance_ids:
            if instance_id not in managed:
                said = f"Instances [[{instance_id}]] not in a valid state for account {self.account_id}"
                raise SSMError("InvalidInstanceId", said)
        command_id = str(uuid.uuid4())
        for instance_id in instance_ids:
            key = (command_id, instance_id)
            self.invocations[key] = Invocation(
                command_id=command_id, instance_id=instance_id, comment=comment, requested=self.world.clock.now()
            )
            if machine := managed[instance_id].machine:
                self.world.hosting.workers.submit(self._run, key, machine.agent, script, limit_seconds)
        return command_id

    def _run(self, key: tuple[str, str], agent: GuestAgent, script: str, limit_seconds: int) -> None:
        clock = self.world.clock
        self._note(key, status="InProgress", details="InProgress", started=clock.now())
        argv = ["/usr/bin/timeout", "--kill-after=5", str(limit_seconds), "/bin/sh", "-c", script]
        try:
            result = run_in_guest(agent, argv, poll_seconds=POLL_SECONDS, sleep=clock.sleep)
        except (OSError, KeyError, ValueError) as error:
            said = f"the guest's agent went away: {error}"
            self._note(key, status="Failed", details="Terminated", stderr=said, ended=clock.now())
            return
        with self.world.hosting.lock:
            now = clock.now()
            self.invocations[key] = ended(self.invocations[key], result, now=now, limit_seconds=limit_seconds)

    def _note(self, key: tuple[str, str], **changes: Any) -> None:
        with self.world.hosting.lock:
            self.invocations[key] = replace(self.invocations[key], **changes)


class LocalSSMResponse(SimpleSystemManagerResponse):
    @property
    def local(self) -> LocalSSMBackend:
        return cast(LocalSSMBackend, self.ssm_backend)

    def call_action(self) -> Any:
        self.local.lead_to_bases()
        return super().call_action()

    def describe_instance_information(self) -> ActionResult:
        guests = [guest for guest in self.local.guests() if guest.agent_seen]
        for one in self._get_param("Filters", []):
            guests = self._filtered(guests, one["Key"], one["Values"])
        for one in self._get_param("InstanceInformationFilterList", []):
            guests = self._filtered(guests, one["key"], one["valueSet"])
        information = [
            {
                "InstanceId": guest.id,
                "PingStatus": "Online" if guest.managed else "ConnectionLost",
                "LastPingDateTime": guest.agent_seen,
                "PlatformType": "Linux",
                "ResourceType": "EC2Instance",
                "IPAddress": guest.address or "",
                "IsLatestVersion": False,
            }
            for guest in guests
        ]
        return ActionResult({"InstanceInformationList": information})

    @staticmethod
    def _filtered(guests: list[Guest], key: str, values: list[str]) -> list[Guest]:
        if key == "InstanceIds":
            return [guest for guest in guests if guest.id in values]
        if key == "PingStatus":
            return [guest for guest in guests if ("Online" if guest.managed else "ConnectionLost") in values]
        if key.startswith("tag:"):
            return [guest for guest in guests if guest.launch.tags().get(key.removeprefix("tag:")) in values]
        raise SSMError("InvalidFilterKey", f"The local cloud does not support the filter {key}.")

    def send_command(self) -> ActionResult:
        asked = self._asked()
        if others := sorted(set(asked) - SEND_PARAMETERS):
            said = f"The local cloud does not support {', '.join(others)} in SendCommand."
            raise SSMError("UnsupportedOperation", said)
        if asked.get("DocumentName") != DOCUMENT:
            raise SSMError("InvalidDocument", f"The local cloud runs {DOCUMENT} only, not {asked.get('DocumentName')}.")
        parameters = asked.get("Parameters") or {}
        if others := sorted(set(parameters) - {"commands", "executionTimeout", "workingDirectory"}):
            raise SSMError("InvalidParameters", f"{DOCUMENT} has no parameter {others[0]}.")
        if not parameters.get("commands"):
            raise SSMError("InvalidParameters", f"{DOCUMENT} needs the parameter commands.")
        limit = (parameters.get("executionTimeout") or [str(DEFAULT_EXECUTION_SECONDS)])[0]
        if not limit.isdigit() or not 1 <= int(limit) <= MAX_EXECUTION_SECONDS:
            said = f"executionTimeout is 1 to {MAX_EXECUTION_SECONDS} seconds, not {limit}."
            raise SSMError("InvalidParameters", said)
        lines = list(parameters["commands"])
        if folder := (parameters.get("workingDirectory") or [""])[0]:
            lines.insert(0, f"cd -- {shlex.quote(folder)} || exit 1")
        comment = asked.get("Comment", "")
        ids = self._targets(asked)
        command_id = self.local.run_script(ids, "\n".join(lines), comment=comment, limit_seconds=int(limit))
        command = {
            "CommandId": command_id,
            "DocumentName": DOCUMENT,
            "DocumentVersion": "$DEFAULT",
            "Comment": comment,
            "Parameters": parameters,
            "InstanceIds": ids,
            "RequestedDateTime": self.local.world.clock.now(),
            "Status": "Pending",
            "StatusDetails": "Pending",
            "TargetCount": len(ids),
        }
        return ActionResult({"Command": command})

    def _asked(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def _targets(self, asked: dict[str, Any]) -> list[str]:
        guests = [guest for guest in self.local.guests() if guest.managed]
        for target in asked.get("Targets") or []:
            guests = self._filtered(guests, target["Key"], target["Values"])
        return list(asked.get("InstanceIds") or ([guest.id for guest in guests] if asked.get("Targets") else []))

    def get_command_invocation(self) -> ActionResult:
        found = self.local.invocations.get((self._get_param("CommandId"), self._get_param("InstanceId")))
        if found is None:
            raise SSMError("InvocationDoesNotExist", "No such invocation.")
        if (plugin := self._get_param("PluginName")) not in {None, PLUGIN}:
            raise SSMError("InvalidPluginName", f"{DOCUMENT} has no plugin {plugin}.")
        return ActionResult(found.full())

    def list_command_invocations(self) -> ActionResult:
        command_id, instance_id = self._get_param("CommandId"), self._get_param("InstanceId")
        found = [
            one.summary(with_plugins=bool(self._get_param("Details")))
            for one in self.local.invocations.values()
            if command_id in {None, one.command_id} and instance_id in {None, one.instance_id}
        ]
        return ActionResult({"CommandInvocations": found})


def install(world: World) -> None:
    """Make moto's SSM ours. Call it before the first request."""
    ssm_backends.backend = type("SSMBackend", (LocalSSMBackend,), {"world": world})
