"""Which features an account should have, and the calls that get it there: pure.

RUNTIME_MONITORING comes before agent configuration when something is switched on, and after it when something is
switched off, as GuardDuty demands. EKS features are never named in a call, so they stay as they are.
Source: GuardDuty user guide, manage-agent-ec2-multi-account-env; API reference, UpdateMemberDetectors.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.chunks import chunks
from pipeline.diagnosis.model import Monitoring

MONITORING = "RUNTIME_MONITORING"
AGENTS = {"ec2": "EC2_AGENT_MANAGEMENT", "fargate": "ECS_FARGATE_AGENT_MANAGEMENT"}
OURS = (MONITORING, *AGENTS.values())
ACCOUNTS_A_CALL = 50
Status = Literal["ENABLED", "DISABLED"]


@dataclass(frozen=True, slots=True)
class Target:
    """The features an account should have in a region; those it does not name stay as they are."""

    account: str
    region: str
    features: Mapping[str, Status]


@dataclass(frozen=True, slots=True)
class Left:
    """An account that is not touched, and why."""

    account: str
    region: str
    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Features of one account that differ from what they should be."""

    account: str
    region: str
    before: Mapping[str, str]
    after: Mapping[str, Status]


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the accounts that need the same, and the features as the API takes them."""

    region: str
    accounts: tuple[str, ...]
    features: tuple[Mapping[str, Any], ...]
    phase: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be changed, what is left alone, and what is so already."""

    changes: tuple[Change, ...]
    left: tuple[Left, ...]
    already: tuple[Target, ...]


def plan(targets: Iterable[Target], found: Mapping[tuple[str, str], Monitoring]) -> Plan:
    """Compare what should be with what is."""
    changes, left, already = [], [], []
    for target in targets:
        monitoring = found.get((target.account, target.region))
        if monitoring is None or monitoring.membership == "none":
            left.append(
                Left(
                    target.account,
                    target.region,
                    "it is no member of this GuardDuty organization",
                    "associate it first (CreateMembers, or auto-enable for the organization)",
                )
            )
            continue
        if monitoring.membership == "suspended":
            left.append(
                Left(
                    target.account,
                    target.region,
                    f"GuardDuty is suspended there (relationship status {monitoring.relationship})",
                    "resume it first (StartMonitoringMembers)",
                )
            )
            continue
        after = {
            name: status
            for name, status in target.features.items()
            if (monitoring.features.get(name) or "DISABLED") != status
        }
        if not after:
            already.append(target)
        elif monitoring.managed_by:
            left.append(
                Left(
                    target.account,
                    target.region,
                    f"an AWS Organizations policy manages its features ({monitoring.managed_by})",
                    "change the policy: guardduty.enablement.<region>.runtime_monitoring",
                )
            )
        else:
            before = {name: monitoring.features.get(name) or "DISABLED" for name in OURS}
            changes.append(Change(target.account, target.region, before, after))
    return Plan(tuple(changes), tuple(left), tuple(already))


PHASES = ("monitoring on", "agent configuration", "monitoring off")


def calls(changes: Sequence[Change], phase: str) -> tuple[Call, ...]:
    """The calls of one phase: accounts with the same need together, fifty at most in one."""
    needs: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for change in changes:
        if wanted := _wanted(change, phase):
            needs.setdefault((change.region, wanted), []).append(change.account)
    return tuple(
        Call(region, tuple(some), (_feature(wanted),), phase)
        for (region, wanted), accounts in needs.items()
        for some in chunks(accounts, ACCOUNTS_A_CALL)
    )


def _wanted(change: Change, phase: str) -> tuple[tuple[str, str], ...]:
    monitoring = change.after.get(MONITORING)
    if phase == "monitoring on":
        return ((MONITORING, "ENABLED"),) if monitoring == "ENABLED" else ()
    if phase == "monitoring off":
        return ((MONITORING, "DISABLED"),) if monitoring == "DISABLED" else ()
    agents = tuple(sorted((name, status) for name, status in change.after.items() if name != MONITORING))
    return ((MONITORING, "ENABLED"), *agents) if agents else ()


def _feature(wanted: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    (name, status), *agents = wanted
    feature: dict[str, Any] = {"Name": name, "Status": status}
    if agents:
        feature["AdditionalConfiguration"] = [{"Name": agent, "Status": state} for agent, state in agents]
    return feature
