"""When an image counts as proven. The instance itself is real in tests/test_bake_end_to_end.py."""

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from pipeline import prove
from pipeline.coverage import Coverage
from pipeline.proof_host import ProofRequest
from pipeline.prove import verdict
from pipeline.target import ProofSeconds
from tests.doubles import START, FakeClock, OneClientSession

REQUEST = ProofRequest(
    bake_id="bake-1",
    image_id="ami-1",
    owner="sre",
    expires_at=START + timedelta(hours=1),
    instance_type="c6i.large",
    kernel_line="5.10",
    agent_version="1.17.1",
    patience=ProofSeconds(boot=60, coverage=60, every=5),
    associate_public_ip=True,
)
HEALTHY = Coverage(instance_id="i-1", status="HEALTHY", agent_version="1.17.1")


def checks(**changes: Any) -> dict[str, Any]:
    return {"kernel": "5.10.0-32-amd64", "agent": {"version": "1.17.1"}, "failures": [], **changes}


def test_a_good_image_has_no_failures() -> None:
    assert verdict(REQUEST, checks(), HEALTHY) == ()


@pytest.mark.parametrize(
    ("found", "coverage", "failure"),
    [
        (checks(kernel="5.15.0-1-amd64"), HEALTHY, "kernel: expected the 5.10 line, found 5.15.0-1-amd64"),
        (checks(kernel="5.100.1"), HEALTHY, "kernel: expected the 5.10 line, found 5.100.1"),
        (checks(agent={"version": ""}), HEALTHY, "GuardDuty agent: expected 1.17.1, found none"),
        (
            checks(failures=[{"title": "umask", "expected": "027", "found": "022", "remedy": "see hardening.yaml"}]),
            HEALTHY,
            "umask: expected 027, found 022; see hardening.yaml",
        ),
        (
            checks(),
            Coverage(instance_id="i-1", status="UNHEALTHY", issue="Agent disconnected", remedy="look at the unit"),
            "GuardDuty coverage: expected HEALTHY, found UNHEALTHY (Agent disconnected); look at the unit",
        ),
        (
            checks(),
            Coverage(instance_id="i-1", status="HEALTHY", agent_version="1.18.0"),
            "GuardDuty hears agent 1.18.0, expected 1.17.1; is automated agent configuration updating it?",
        ),
    ],
)
def test_each_reason_not_to_be_proven(found: dict[str, Any], coverage: Coverage, failure: str) -> None:
    assert verdict(REQUEST, found, coverage) == (failure,)


def test_a_console_that_may_not_be_read_does_not_hide_why_the_image_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    unhealthy = Coverage(instance_id="i-1", status="ABSENT", remedy="look at the unit")
    monkeypatch.setattr(prove, "runtime_monitoring_detector", lambda *_: "detector")
    monkeypatch.setattr(prove, "proof_host", lambda *_, **__: nullcontext("i-1"))
    monkeypatch.setattr(prove, "wait_until_managed", lambda *_, **__: None)
    monkeypatch.setattr(prove, "_checks", lambda *_: checks())
    monkeypatch.setattr(prove, "wait_until_healthy", lambda *_, **__: unhealthy)
    client = boto3.client("ec2", region_name="eu-central-1")
    with Stubber(client) as stub:
        stub.add_client_error("get_console_output", "UnauthorizedOperation", "not you")
        proof = prove.prove(OneClientSession(client), REQUEST, clock=FakeClock(), say=print, warn=print)
    assert proof.failures == ("GuardDuty coverage: expected HEALTHY, found ABSENT; look at the unit",)
    assert proof.console.startswith("the console could not be read: An error occurred (UnauthorizedOperation)")
