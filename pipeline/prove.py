"""Proof: in, a finished image and what it should be; out, what an instance launched from it showed.

The instance is a new one, never the builder. Everything made for the proof is unmade at its end, good or bad;
each thing's removal is armed the moment the thing exists. The same calls serve AWS and the local target.
"""

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import boto3

from pipeline.aws_errors import AWS_FAILURES
from pipeline.clock import Clock
from pipeline.commands import run_on_instance, wait_until_managed
from pipeline.coverage import Coverage, runtime_monitoring_detector, wait_until_healthy
from pipeline.errors import ProofError
from pipeline.lifetime import CHECK_SECONDS, ECS_AGENT_SECONDS
from pipeline.proof_host import ProofRequest, proof_host

REPORT: Final = "/run/ovenproof-proof.json"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the instance showed. `failures` is empty exactly when the image is proven."""

    instance_id: str
    kernel: str
    agent_version: str
    checks: dict[str, Any]
    coverage: Coverage
    failures: tuple[str, ...]
    console: str = ""

    @property
    def proven(self) -> bool:
        return not self.failures


def verdict(request: ProofRequest, checks: dict[str, Any], coverage: Coverage) -> tuple[str, ...]:
    """Why the image is not proven, a sentence each; nothing when it is."""
    failures = []
    kernel = checks["kernel"]
    if not (kernel == request.kernel_line or kernel.startswith(request.kernel_line + ".")):
        failures.append(f"kernel: expected the {request.kernel_line} line, found {kernel}")
    if checks["agent"]["version"] != request.agent_version:
        failures.append(
            f"GuardDuty agent: expected {request.agent_version}, found {checks['agent']['version'] or 'none'}"
        )
    for failure in checks["failures"]:
        failures.append(
            f"{failure['title']}: expected {failure['expected']}, found {failure['found']}"
            + (f"; {failure['remedy']}" if failure.get("remedy") else "")
        )
    if not coverage.healthy:
        failures.append(
            f"GuardDuty coverage: expected HEALTHY, found {coverage.status}"
            + (f" ({coverage.issue})" if coverage.issue else "")
            + f"; {coverage.remedy}"
        )
    elif coverage.agent_version and coverage.agent_version != request.agent_version:
        failures.append(
            f"GuardDuty hears agent {coverage.agent_version}, expected {request.agent_version}; "
            "is automated agent configuration updating it?"
        )
    return tuple(failures)


def prove(
    session: boto3.Session,
    request: ProofRequest,
    *,
    clock: Clock,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> Proof:
    """Launch, check, remove. A proof that fails is returned; only a proof that could not be held raises.

    `say` gets each step, `warn` whatever could not be removed afterwards: that is told, and changes no proof.
    Raises CloudError when GuardDuty is not enabled, the instance does not start or does not answer, and ProofError
    when it answers but has no readable checks.
    """
    detector = runtime_monitoring_detector(session)
    say("launching an instance from the finished image")
    with proof_host(session, request, clock=clock, warn=warn) as instance_id:
        say(f"{instance_id} is starting; waiting for SSM to manage it")
        wait_until_managed(
            session,
            instance_id,
            clock=clock,
            timeout_seconds=request.patience.boot,
            every_seconds=request.patience.every,
        )
        say(f"{instance_id} answers; waiting for the ECS agent, then running ovenproof-check")
        checks = _checks(session, request, instance_id, clock)
        say(f"{instance_id}: waiting for GuardDuty coverage")
        coverage = wait_until_healthy(
            session,
            detector,
            instance_id,
            clock=clock,
            timeout_seconds=request.patience.coverage,
            every_seconds=request.patience.every,
        )
        failures = verdict(request, checks, coverage)
        console = _console(session, instance_id) if failures else ""
    return Proof(
        instance_id=instance_id,
        kernel=checks["kernel"],
        agent_version=checks["agent"]["version"],
        checks=checks,
        coverage=coverage,
        failures=failures,
        console=console,
    )


def _checks(session: boto3.Session, request: ProofRequest, instance_id: str, clock: Clock) -> dict[str, Any]:
    """The JSON of ovenproof-check on the instance, once the ECS agent answers on its introspection port."""
    metadata = "http://127.0.0.1:51678/v1/metadata"
    waited = run_on_instance(
        session,
        instance_id,
        [f"curl --silent --show-error --fail --retry 60 --retry-delay 5 --retry-connrefused {metadata}"],
        clock=clock,
        timeout_seconds=ECS_AGENT_SECONDS,
        every_seconds=request.patience.every,
    )
    if waited.exit_code != 0:
        raise ProofError(
            "the ECS agent did not come up on the new instance",
            expected=f"an answer on {metadata} within 300 s",
            found=waited.stderr.strip() or waited.status,
            where=f"instance {instance_id} of image {request.image_id}",
            remedy="look at /var/log/ecs/ecs-agent.log of an instance of this image; is docker running?",
        )
    done = run_on_instance(
        session,
        instance_id,
        [f"ovenproof-check --format json --at first-boot > {REPORT}; gzip -c {REPORT} | base64 -w0"],
        clock=clock,
        timeout_seconds=CHECK_SECONDS,
        every_seconds=request.patience.every,
    )
    try:
        report: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(done.stdout.strip(), validate=True)))
    except (ValueError, OSError, EOFError) as error:
        raise ProofError(
            "ovenproof-check gave no readable report on the new instance",
            expected="its JSON report",
            found=(done.stderr.strip() or done.stdout[:200] or "nothing") + f" ({done.status})",
            where=f"instance {instance_id} of image {request.image_id}",
            remedy="run `ovenproof-check` on an instance of this image by hand",
        ) from error
    return report


def _console(session: boto3.Session, instance_id: str) -> str:
    """The instance's serial console, for the record of a proof that failed, or why it cannot be had."""
    try:
        return session.client("ec2").get_console_output(InstanceId=instance_id).get("Output", "")
    except AWS_FAILURES as error:
        return f"the console could not be read: {error}"
