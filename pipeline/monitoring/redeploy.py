"""Fargate services that need a new deployment: listed, then deployed one by one, each watched until it is steady."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.clock import Clock
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.causes import causes
from pipeline.diagnosis.model import Finding
from pipeline.errors import CloudError
from pipeline.wait import poll

TIMEOUT_SECONDS, EVERY_SECONDS = 1800, 15


@dataclass(frozen=True, slots=True)
class Service:
    """A service to deploy anew, and why."""

    account: str
    region: str
    cluster: str
    name: str
    why: str


def services(findings: Iterable[Finding]) -> tuple[tuple[Service, ...], tuple[Finding, ...]]:
    """Services for which a deployment helps, and clusters that are tagged out, where none would."""
    found = list(findings)
    tagged_out = tuple(item for item in found if _has(item, "cluster-exclusion-tag"))
    closed = {(item.account, item.region, item.id) for item in tagged_out}
    wanted = []
    for item in found:
        reasons = [hit for hit in item.hits if causes()[hit.cause].fix == "redeploy"]
        if item.kind == "service" and reasons and (item.account, item.region, item.cluster) not in closed:
            wanted.append(Service(item.account, item.region, item.cluster, item.id, causes()[reasons[0].cause].title))
    return tuple(sorted(wanted, key=lambda s: (s.account, s.region, s.cluster, s.name))), tagged_out


def _has(finding: Finding, cause: str) -> bool:
    return any(hit.cause == cause for hit in finding.hits)


def redeploy(access: Access, clock: Clock, service: Service, say: Callable[[str], None]) -> None:
    """Start a deployment and wait until it is the only one and complete. Raises CloudError when it fails or takes long.

    A deployment that ECS's circuit breaker rolls back ends the run: the next service would fare no better.
    """
    say(f"deploying {service.name} of {service.cluster} anew ({service.account}, {service.region})")
    where = f"service {service.name}, cluster {service.cluster}, account {service.account}, {service.region}"
    access.call(
        service.account,
        service.region,
        "ecs",
        "update_service",
        cluster=service.cluster,
        service=service.name,
        forceNewDeployment=True,
    )

    def look() -> dict[str, Any]:
        answer = access.call(
            service.account,
            service.region,
            "ecs",
            "describe_services",
            cluster=service.cluster,
            services=[service.name],
        )
        if not answer.get("services"):
            raise CloudError("the service is gone", found=str(answer.get("failures", "")), where=where)
        return dict(answer["services"][0])

    row = poll(look, _is_over, clock=clock, timeout_seconds=TIMEOUT_SECONDS, every_seconds=EVERY_SECONDS)
    primary: dict[str, Any] = next((item for item in row.get("deployments", ()) if item.get("status") == "PRIMARY"), {})
    if primary.get("rolloutState") == "FAILED" or not _is_over(row):
        raise CloudError(
            f"the new deployment of {service.name} did not become steady",
            expected=f"one deployment, {row.get('desiredCount')} tasks running",
            found=f"rollout {primary.get('rolloutState', 'unknown')}: {primary.get('rolloutStateReason', '')}, "
            f"{row.get('runningCount')} running",
            where=where,
            remedy="look at the service's events; services after this one were not touched",
        )


def _is_over(row: dict[str, Any]) -> bool:
    deployments = row.get("deployments", ())
    primary: dict[str, Any] = next((item for item in deployments if item.get("status") == "PRIMARY"), {})
    if primary.get("rolloutState") == "FAILED":
        return True
    steady = row.get("runningCount") == row.get("desiredCount") and not row.get("pendingCount")
    return len(deployments) == 1 and primary.get("rolloutState", "COMPLETED") == "COMPLETED" and steady
