"""Machines of the local cloud for a fleet's hosts: in, images of it; out, guests with a real kernel and real agents.

Each is launched by RunInstances, runs the real Command documents through SSM, and is covered when its own agent's
heartbeats say so. Of a launch template its image, instance type, user data, metadata options and tags count; groups,
profiles and volumes are the model's, which has them and the local cloud does not. Everything goes through AWS's API.
"""

import base64
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, Self

import boto3
import yaml
from botocore.exceptions import ClientError

from pipeline import tags
from pipeline.aws_errors import aws_errors
from pipeline.clock import Clock
from pipeline.coverage import runtime_monitoring_detector
from pipeline.errors import CloudError, UsageError
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.machines import Covered, Said, Sight
from pipeline.rehearsal.fleet.spec import FleetSpec
from pipeline.wait import poll

SHELL: Final = "AWS-RunShellScript"
ENDED: Final = ("Success", "Failed", "TimedOut", "Cancelled")
INTROSPECTION: Final = "http://127.0.0.1:51678/v1/metadata"  # ECS developer guide, container agent introspection
ASK_SECONDS: Final = 240
END_SECONDS: Final = 60
LIVES: Final = timedelta(hours=4)
PASSED_ON: Final = ("UserData", "MetadataOptions")


class Guests:
    """The guests that one world launches. Leave it (`with`) and every one of them is gone.

    `text_of` gives a Command document's text by its name.
    """

    def __init__(self, session: boto3.Session, clock: Clock, text_of: Callable[[str], str]) -> None:
        self._ec2: Any = session.client("ec2")
        self._ssm: Any = session.client("ssm")
        self._guardduty: Any = session.client("guardduty")
        self._detector = runtime_monitoring_detector(session)
        self._clock = clock
        self._text_of = text_of
        self._tags = {  # by which `./run sweep` knows what a killed rehearsal left
            tags.BAKE_ID: tags.new_bake_id(clock.now()),
            tags.EXPIRES_AT: tags.format_time(clock.now() + LIVES),
        }
        self._launched: list[str] = []
        self._asked: dict[str, str] = {}  # machine to the command that waits for its ECS agent
        self._cluster: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Raises CloudError when one does not end in time."""
        if not self._launched:
            return
        self._ec2.terminate_instances(InstanceIds=self._launched)
        left = poll(
            lambda: [machine for machine, state in self._states(self._launched).items() if state != "terminated"],
            lambda machines: not machines,
            clock=self._clock,
            timeout_seconds=END_SECONDS,
            every_seconds=0.5,
        )
        if left:
            raise CloudError(
                "guests of a rehearsal do not end",
                expected=f"the state terminated within {END_SECONDS} s",
                found=", ".join(left),
                where="the local cloud",
                remedy="`./run local --stop` ends every guest",
            )

    # -- what a world asks ----------------------------------------------------------------------------------------

    def launch(self, image: str, instance_type: str, data: Mapping[str, Any], tagged: Mapping[str, str]) -> str:
        own = {key: value for key, value in tagged.items() if not key.startswith("aws:")}
        more = {name: data[name] for name in PASSED_ON if name in data}
        if "UserData" in more:
            more["UserData"] = base64.b64decode(more["UserData"]).decode()  # RunInstances encodes it again
        with _refusing():
            launched = self._ec2.run_instances(
                ImageId=image,
                InstanceType=instance_type,
                MinCount=1,
                MaxCount=1,
                InstanceInitiatedShutdownBehavior="terminate",
                TagSpecifications=tags.specifications(["instance"], {**own, **self._tags}),
                **more,
            )
        machine: str = launched["Instances"][0]["InstanceId"]
        self._launched.append(machine)
        return machine

    def end(self, machine: str) -> None:
        self._ec2.terminate_instances(InstanceIds=[machine])

    def see(self, machines: Sequence[str]) -> Mapping[str, Sight]:
        if not machines:
            return {}
        states = self._states(machines)
        managed = self._managed(machines)
        return {
            machine: Sight(
                running=state == "running",
                gone=state == "terminated",
                managed=machine in managed,
                cluster=self._cluster_of(machine, managed),
            )
            for machine, state in states.items()
        }

    def send(self, machines: Sequence[str], document: str, parameters: Mapping[str, Any]) -> str:
        if document == SHELL:
            given = dict(parameters)
        else:
            script, seconds = command_script(self._text_of(document), parameters)
            given = {"commands": [script], "executionTimeout": [seconds]}
        return self._send(machines, given)

    def said(self, command: str, machine: str) -> Said | None:
        found = self._ssm.get_command_invocation(CommandId=command, InstanceId=machine)
        if found["Status"] not in ENDED:
            return None
        return Said(
            status=found["Status"],
            code=found["ResponseCode"],
            output=found["StandardOutputContent"],
            errors=found["StandardErrorContent"],
        )

    def coverage(self, machine: str) -> Covered | None:
        one = {"CriterionKey": "INSTANCE_ID", "FilterCondition": {"Equals": [machine]}}
        rows = self._guardduty.list_coverage(DetectorId=self._detector, FilterCriteria={"FilterCriterion": [one]})[
            "Resources"
        ]
        if not rows:
            return None
        row = rows[0]
        agent = row["ResourceDetails"]["Ec2InstanceDetails"].get("AgentDetails", {})
        return Covered(row["CoverageStatus"], row.get("Issue", ""), row["UpdatedAt"], agent.get("Version", ""))

    # -- what the local cloud is asked ----------------------------------------------------------------------------

    def _states(self, machines: Sequence[str]) -> dict[str, str]:
        pages = self._ec2.get_paginator("describe_instances").paginate(InstanceIds=list(machines))
        return {
            one["InstanceId"]: one["State"]["Name"]
            for page in pages
            for reservation in page["Reservations"]
            for one in reservation["Instances"]
        }

    def _managed(self, machines: Sequence[str]) -> set[str]:
        filters = [{"Key": "InstanceIds", "Values": list(machines)}]
        found = self._ssm.describe_instance_information(Filters=filters)["InstanceInformationList"]
        return {one["InstanceId"] for one in found if one["PingStatus"] == "Online"}

    def _send(self, machines: Sequence[str], parameters: Mapping[str, Any]) -> str:
        with _refusing():
            sent = self._ssm.send_command(InstanceIds=list(machines), DocumentName=SHELL, Parameters=dict(parameters))
        return str(sent["Command"]["CommandId"])

    def _cluster_of(self, machine: str, managed: set[str]) -> str:
        """The cluster by the machine's own ECS agent, asked by one command that waits for it; "" until it has said."""
        if machine in self._cluster or machine not in managed:
            return self._cluster.get(machine, "")
        if machine in self._asked and (said := self.said(self._asked[machine], machine)) is not None:
            del self._asked[machine]
            if said.code == 0:
                self._cluster[machine] = str(json.loads(said.output)["Cluster"])
                return self._cluster[machine]
        if machine not in self._asked:
            ask = f"curl --silent --fail --retry {ASK_SECONDS} --retry-delay 1 --retry-connrefused {INTROSPECTION}"
            self._asked[machine] = self._send([machine], {"commands": [ask], "executionTimeout": [str(ASK_SECONDS)]})
        return ""


def with_images(spec: FleetSpec, session: boto3.Session, *, old: str, new: str) -> FleetSpec:
    """The fleet with images of the local cloud: `old` where its first group's hosts begin, `new` where parameters lead.

    Raises UsageError when the file's parameters lead nowhere, or to the image that runs already, and CloudError for an
    image that the local cloud does not have.
    """
    group = spec.groups[0]
    template = next(one for one in spec.templates if one.name == group.template)
    number = int(group.template_version) if group.template_version.isdecimal() else template.default_version
    begins = str(template.versions[number - 1].data.get("ImageId", ""))
    leads = next((value for value in spec.parameters.values() if value.startswith("ami-")), begins)
    if leads == begins:
        raise UsageError(
            "this fleet file names no image to roll onto",
            expected="under `parameters` an image other than the group's own",
            found=begins,
            where="the fleet file",
            remedy="add it, or use the example `pair`",
        )
    real = {begins: old, leads: new}
    with aws_errors(
        "the images of this rehearsal are not there",
        where="the local cloud",
        remedy="bake one: ./run build-image",
    ):
        ec2: Any = session.client("ec2")
        described = ec2.describe_images(ImageIds=[old, new])["Images"]
    found = {one["ImageId"]: one for one in described}
    text = spec.model_dump_json()
    for theirs, ours in real.items():
        text = text.replace(theirs, ours)
    renamed = FleetSpec.model_validate_json(text)
    images = [
        one.model_copy(
            update={"name": found[one.id].get("Name", one.name), "tags": tags.as_mapping(found[one.id].get("Tags", []))}
        )
        if one.id in found
        else one
        for one in renamed.images
    ]
    return renamed.model_copy(update={"images": tuple(images)})


def command_script(text: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
    """What SSM Agent runs for a Command document of one aws:runShellScript step, and its time limit in seconds.

    Parameters come as environment variables SSM_NAME, as `interpolationType: ENV_VAR` has them (Systems Manager user
    guide, "Data elements and parameters"); the script is a file, so that its first line says what runs it.
    """
    content = yaml.safe_load(text)
    [step] = content["mainSteps"]
    lines = []
    for name, rule in content.get("parameters", {}).items():
        given = parameters.get(name, rule.get("default", ""))
        value = given[0] if isinstance(given, list | tuple) else given
        lines.append(f"export SSM_{name}={shlex.quote(str(value))}")
    script = "\n".join(step["inputs"]["runCommand"])
    encoded = base64.b64encode(script.encode()).decode()
    lines += [
        "file=$(mktemp) || exit 1",
        "trap 'rm -f \"$file\"' EXIT",
        f'printf %s {encoded} | base64 --decode >"$file" && chmod 0700 "$file" || exit 1',
        '"$file"',
    ]
    return "\n".join(lines), str(step["inputs"].get("timeoutSeconds", 3600))


@contextmanager
def _refusing() -> Iterator[None]:
    """What the local cloud refuses, the world refuses in the same words."""
    try:
        yield
    except ClientError as error:
        said = error.response["Error"]
        raise Refused(said["Code"], said["Message"]) from error
