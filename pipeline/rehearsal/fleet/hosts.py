"""What a simulated host says of itself, and what GuardDuty says of it: pure functions of its image and its faults."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.rehearsal.fleet.machines import Covered
from pipeline.rehearsal.fleet.state import Host

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

OLD_KERNEL = "4.14.355-280.672.amzn2"
LOWEST_KERNEL = (5, 4)  # GuardDuty user guide, validated kernels; Amazon Linux 2 begins with 5.4
CARRIED_CHECKS = 177  # how many checks come along when the image has none of its own

# Type and message as GuardDuty's page on EC2 coverage lists them; how the API joins both is not documented.
NO_AGENT = "No Agent Reporting"
DISCONNECTED = "No Agent Reporting: Agent disconnected"
LOW_KERNEL = "Agent Not Provisioned: Kernel version is lower than the supported version."


@dataclass(frozen=True, slots=True)
class Unit:
    """GuardDuty's unit on a host: as systemd would tell it."""

    installed: bool
    enabled: bool
    active: str
    restarts: int


def kernel_of(world: "World", host: Host) -> str:
    return OLD_KERNEL if world.struck("wrong-kernel", host) else world.images[host.image].kernel


def supported(kernel: str) -> bool:
    """Whether GuardDuty supports a kernel version such as 5.10.245-1."""
    numbers = re.match(r"(\d+)\.(\d+)", kernel)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= LOWEST_KERNEL


def agent_of(world: "World", host: Host) -> str | None:
    return host.installed_agent or world.images[host.image].agent_version


def unit_of(world: "World", host: Host) -> Unit:
    if agent_of(world, host) is None:
        return Unit(False, False, "inactive", 0)
    if not supported(kernel_of(world, host)) or world.struck_now("unit-failed", host):
        return Unit(True, True, "failed", 0)
    if world.struck_now("unit-flapping", host):
        return Unit(True, True, "active", 4)
    return Unit(True, True, "active", 0)


def proof_of(world: "World", host: Host, window: int) -> tuple[str, int]:
    """ProveInstance on a host: one line of JSON, and the exit code."""
    kernel, unit = kernel_of(world, host), unit_of(world, host)
    good_kernel = supported(kernel)
    checks = world.images[host.image].checks
    failures = []
    if not good_kernel:
        failures.append("kernel is supported by GuardDuty's agent")
    if not unit.installed or unit.active != "active":
        failures.append("amazon-guardduty-agent is active")
    report = {
        "kernel": kernel,
        "kernel_supported": good_kernel,
        "unit": {
            "installed": unit.installed,
            "enabled": unit.enabled,
            "active": unit.active,
            "restarts_in_window": unit.restarts,
            "window_seconds": window,
        },
        "agent_version": agent_of(world, host) or "",
        "checks": {
            "passed": (checks or CARRIED_CHECKS) - len(failures),
            "failed": len(failures),
            "failures": failures,
        },
        "carried": checks == 0,
    }
    well = good_kernel and unit.active == "active" and not unit.restarts and not failures
    return json.dumps(report), 0 if well else 1


def coverage_of(world: "World", host: Host) -> Covered | None:
    """GuardDuty's row of a host as ListCoverage gives it; none when GuardDuty has not heard of the host.

    The row of a host stays as it is until GuardDuty hears otherwise, so that of a host with a new root volume speaks of
    the old one for a while, or for ever. How long AWS keeps it is not documented: the worst is assumed.
    """
    if not host.alive or not world.spec.guardduty:
        return None
    if world.machines is not None:
        return world.machines.coverage(host.id)
    if world.struck_now("coverage-absent", host):
        return host.row_before
    agent = agent_of(world, host)
    updated = world.when(min(max(host.coverage_at, host.launched), world.t))
    if not supported(kernel_of(world, host)):
        return Covered("UNHEALTHY", LOW_KERNEL, updated, agent or "")
    if agent is None:
        return Covered("UNHEALTHY", NO_AGENT, updated, "")
    if world.t < host.coverage_at:
        return host.row_before
    unit = unit_of(world, host)
    if unit.active != "active" or unit.restarts or world.struck_now("coverage-unhealthy", host):
        return Covered("UNHEALTHY", DISCONNECTED, updated, agent)
    return Covered("HEALTHY", "", updated, agent)


def shell_of(world: "World", host: Host, commands: list[str]) -> tuple[str, str, int]:
    """Output, errors and exit code of a few plain commands; whatever else is asked fails as an unknown command."""
    lines = []
    unit = unit_of(world, host)
    for command in commands:
        match command.split():
            case ["uname", "-r"]:
                lines.append(kernel_of(world, host))
            case ["systemctl", "is-active", "amazon-guardduty-agent" | "amazon-guardduty-agent.service"]:
                lines.append(unit.active)
                if unit.active != "active":
                    return "\n".join(lines) + "\n", "", 3
            case ["true"] | []:
                pass
            case ["echo", *words]:
                lines.append(" ".join(words))
            case _:
                return "\n".join(lines), f"the fleet model cannot run: {command}\n", 127
    return "".join(f"{line}\n" for line in lines), "", 0
