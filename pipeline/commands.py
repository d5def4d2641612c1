"""Commands on an instance through SSM Run Command: in, an instance id and lines of shell; out, how they ended.

Source: Systems Manager API reference, SendCommand and GetCommandInvocation (standard output is cut after
24,000 characters there, so callers that want more compress).
"""

from dataclasses import dataclass
from typing import Final

import boto3

from pipeline.aws_errors import aws_errors
from pipeline.clock import Clock
from pipeline.errors import CloudError
from pipeline.wait import poll

UNDER_WAY: Final = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})
COMMAND_GRACE_SECONDS: Final = 30
"""After the time that SSM gives a command, until we stop asking for its end."""


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """An ended command: `status` in SSM's words, the code of its last line, and what it printed."""

    status: str
    exit_code: int
    stdout: str
    stderr: str


def wait_until_managed(
    session: boto3.Session, instance_id: str, *, clock: Clock, timeout_seconds: float, every_seconds: float
) -> None:
    """Wait until SSM calls the instance Online. Raises CloudError when it does not in time, or does not answer."""
    ssm = session.client("ssm")
    where = f"SSM in {session.region_name}, instance {instance_id}"

    def ping_status() -> str:
        answer = ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [instance_id]}])
        found = answer["InstanceInformationList"]
        return found[0]["PingStatus"] if found else "not registered"

    with aws_errors(
        "SSM did not say whether it manages the instance",
        where=where,
        remedy="the caller needs ssm:DescribeInstanceInformation",
    ):
        status = poll(
            ping_status,
            lambda status: status == "Online",
            clock=clock,
            timeout_seconds=timeout_seconds,
            every_seconds=every_seconds,
        )
    if status != "Online":
        raise CloudError(
            f"SSM does not manage the instance {instance_id}",
            expected=f"PingStatus Online within {timeout_seconds:.0f} s",
            found=status,
            where=where,
            remedy="check that amazon-ssm-agent runs in the image, that the subnet has a route to SSM (endpoints or "
            "NAT), and that no permissions boundary cuts the instance profile",
        )


def run_on_instance(
    session: boto3.Session,
    instance_id: str,
    lines: list[str],
    *,
    clock: Clock,
    timeout_seconds: int,
    every_seconds: float,
) -> CommandResult:
    """Run lines of shell as root by AWS-RunShellScript and wait for their end, good or bad.

    Raises CloudError when SSM refuses the command or it is still under way after `timeout_seconds`.
    """
    ssm = session.client("ssm")
    where = f"SSM in {session.region_name}, instance {instance_id}"
    with aws_errors(
        "SSM did not take the command",
        expected="SendCommand of AWS-RunShellScript accepted",
        where=where,
        remedy="the caller needs ssm:SendCommand on the instance and the document",
    ):
        sent = ssm.send_command(
            InstanceIds=[instance_id],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": lines, "executionTimeout": [str(timeout_seconds)]},
        )
    command_id = sent["Command"]["CommandId"]

    def look() -> CommandResult | None:
        try:
            answer = ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id)
        except ssm.exceptions.InvocationDoesNotExist:
            return None  # SSM needs a moment before an invocation it has just taken can be read
        if answer["Status"] in UNDER_WAY:
            return None
        return CommandResult(
            status=answer["Status"],
            exit_code=answer["ResponseCode"],
            stdout=answer["StandardOutputContent"],
            stderr=answer["StandardErrorContent"],
        )

    with aws_errors(
        "SSM did not say how the command ended",
        where=f"{where}, command {command_id}",
        remedy="the caller needs ssm:GetCommandInvocation",
    ):
        result = poll(
            look,
            lambda result: result is not None,
            clock=clock,
            timeout_seconds=timeout_seconds + COMMAND_GRACE_SECONDS,
            every_seconds=every_seconds,
        )
    if result is None:
        raise CloudError(
            "a command on the instance did not end in time",
            expected=f"an end within {timeout_seconds} s",
            found="still under way",
            where=f"{where}, command {command_id}",
            remedy="look at the instance's load and at amazon-ssm-agent's log",
        )
    return result
