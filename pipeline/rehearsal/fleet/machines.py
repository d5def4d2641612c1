"""Hosts that are machines: what a world asks of them, where it otherwise goes by the fleet file's times and its faults.

The world keeps deciding what Auto Scaling and ECS decide: which host is launched, drained and ended, and when. Whether
a host is up, what it says of itself and whether GuardDuty hears it is the machine's own word then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol


class Covered(NamedTuple):
    """What GuardDuty says of a host: ListCoverage's status, issue and time of the update, and the agent's version."""

    status: str
    issue: str
    updated: datetime
    agent_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """How a machine is at this moment.

    running   EC2 calls it running
    gone      it has ended, whether it was asked to or not
    managed   SSM calls it Online
    cluster   the cluster that its ECS agent says it is in; "" until the agent answers
    """

    running: bool
    gone: bool
    managed: bool
    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a command ended, in GetCommandInvocation's words."""

    status: str
    code: int
    output: str
    errors: str


class Machines(Protocol):
    """Where machines come from. Ids are the machines' own."""

    def launch(self, image: str, instance_type: str, data: Mapping[str, Any], tagged: Mapping[str, str]) -> str:
        """Begin to boot one by a template version's `data`; its id. Raises Refused where EC2 would refuse."""

    def end(self, machine: str) -> None:
        """Take one away; it is gone some time later."""

    def see(self, machines: Sequence[str]) -> Mapping[str, Sight]:
        """How each of these is."""

    def send(self, machines: Sequence[str], document: str, parameters: Mapping[str, Any]) -> str:
        """Run a Command document on each; the command's id. Raises Refused where SSM would refuse."""

    def said(self, command: str, machine: str) -> Said | None:
        """How a command ended there; none while it runs."""

    def coverage(self, machine: str) -> Covered | None:
        """What GuardDuty says of it; none when it never heard of it."""
