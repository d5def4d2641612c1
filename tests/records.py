"""Records to test with: one example of a bake, and the same with something else in it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.base import Base
from pipeline.coverage import Coverage
from pipeline.packer_output import Timing
from pipeline.plan import BakeInputs
from pipeline.prove import Proof
from pipeline.record import EvidenceFile, GuestFacts, MadeBy, Record, Sbom, make_record
from pipeline.target import StandIn

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FINGERPRINT = "747891EF53781334445676" + "0306C906A7093FF49D"

INPUTS = BakeInputs(
    variant="ecs-al2-kernel-5.10",
    flavour="x86_64",
    target="local",
    region="eu-central-1",
    base_id="ami-06524d4ef4a884456",
    base_name="amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260924-x86_64-ebs",
    agent_version="1.17.1",
    agent_fingerprint=FINGERPRINT,
    agent_url="http://169.254.0.10/artifacts",
    settings={"builder_instance_type": "c6i.large", "root_volume_gib": "30"},
    tools={"packer": "1.16.0", "amazon": "1.8.2", "goss": "0.4.9"},
    files={"images/provision/30-install-agent.sh": "a" * 64},
    stand_ins={"base guest": "b" * 64},
    rendered_template="c" * 64,
)

BASE = Base(
    id=INPUTS.base_id,
    name=INPUTS.base_name,
    created=datetime(2026, 9, 24, 8, 0, tzinfo=UTC),
    image_version="2.0.20260924",
    ecs_agent_version="1.107.0",
    architecture="x86_64",
    parameter="/aws/service/ecs/optimized-ami/amazon-linux-2/kernel-5.10/recommended",
    region="eu-central-1",
)

PACKAGES = (
    ("deb", "docker.io", "20.10.5+dfsg1-1+deb11u4", "amd64"),
    ("deb", "openssl", "1.1.1w-0+deb11u3", "amd64"),
    ("rpm", "amazon-guardduty-agent", "1.17.1-1", "x86_64"),
    ("rpm", "ecs-init", "1.106.1-1", "x86_64"),
)

TIMINGS = (
    ("look up the base", "phase", 0.4),
    ("start the builder", "phase", 3.2),
    ("connect to the builder", "phase", 41.0),
    ("10-security-updates.sh", "provisioner", 30.5),
    ("30-install-agent.sh", "provisioner", 9.0),
    ("create the image", "phase", 6.0),
    ("prove", "phase", 95.0),
)

CHECKS = (
    ("agent", "agent-enabled", "the GuardDuty agent starts at boot"),
    ("agent", "agent-memlock", "the agent may lock 32 MB"),
    ("hardening", "CIS-5.2.10", "no login as root over SSH"),
    ("kernel", "kernel-btf", "the kernel has BTF"),
)


def check_report(at: str, failed: tuple[str, ...] = (), checks: tuple[tuple[str, str, str], ...] = CHECKS) -> Any:
    """The JSON of ovenproof-check."""
    return {
        "schema": 1,
        "at": at,
        "passed": not failed,
        "kernel": "5.10.0-36-amd64",
        "release": {"OVENPROOF_BAKE_ID": "20261123-1200-x"},
        "agent": {
            "version": "1.17.1",
            "steady": True,
            "endpoint": "unreachable" if at == "bake" else "reachable",
            "unit": {"enabled": "enabled", "active": "active", "sub": "running", "result": "success"},
        },
        "window": {"seconds": 12.0, "units": {"amazon-guardduty-agent.service": {"steady": True, "restarts": 0}}},
        "summary": {"checks": len(checks), "failed": len(failed), "not_applicable": 1, "seconds": 13.1},
        "failures": [
            {
                "id": id_,
                "topic": topic,
                "title": title,
                "expected": "yes",
                "found": "no | nothing",
                "remedy": "see images/hardening.yaml",
                "cis": None,
            }
            for topic, id_, title in checks
            if id_ in failed
        ],
        "not_applicable": [{"id": "CIS-1.1.2", "title": "/tmp is its own mount", "why": "waived until 2027-01-01"}],
        "checks": [
            {"id": id_, "topic": topic, "title": title, "passed": id_ not in failed} for topic, id_, title in checks
        ],
    }


def facts(**other: Any) -> dict[str, Any]:
    """The JSON of 70-collect-facts.sh."""
    agent = {
        "name": "amazon-guardduty-agent",
        "version": "1.17.1",
        "release": "1",
        "arch": "x86_64",
        "fingerprint": FINGERPRINT,
        "sha256": "d" * 64,
        "size_bytes": 2_345_678,
        "signed_at": "2026-11-23T11:00:00Z",
        "key_created_at": "2026-11-23T10:00:00Z",
        "url": "http://169.254.0.10/artifacts/1.17.1/x86_64/amazon-guardduty-agent-1.17.1.x86_64.rpm",
        "installed": "installed",
        "unit": {"enabled": "enabled", "active": "active", "sub": "running"},
        "memory_max_bytes": 134217728,
        "memlock_bytes": 33554432,
        "cpu_quota_percent": 10,
    }
    return {
        "schema": 1,
        "kernel": "5.10.0-36-amd64",
        "arch": "x86_64",
        "os_release": {"ID": "debian", "VERSION_ID": "11", "PRETTY_NAME": "Debian GNU/Linux 11 (bullseye)"},
        "packages": [dict(zip(("source", "name", "version", "arch"), package, strict=True)) for package in PACKAGES],
        "units_enabled": ["amazon-guardduty-agent.service", "docker.service", "ecs.service"],
        "sysctls": {"kernel.randomize_va_space": "2", "net.ipv4.ip_forward": "1"},
        "agent": agent,
        "ecs": {"init_version": "1.106.1-1"},
        "docker_version": "20.10.5+dfsg1",
        "installed_bytes": 52_428_800,
        "release": {"OVENPROOF_BAKE_ID": "20261123-1200-x"},
        "checks": check_report("bake"),
        **other,
    }


def proof(**other: Any) -> Proof:
    """A proof that held."""
    values: dict[str, Any] = {
        "instance_id": "i-0123456789abcdef0",
        "kernel": "5.10.0-36-amd64",
        "agent_version": "1.17.1",
        "checks": check_report("first-boot"),
        "coverage": Coverage(instance_id="i-0123456789abcdef0", status="HEALTHY", agent_version="1.17.1"),
        "failures": (),
    }
    return Proof(**{**values, **other})


def record(**other: Any) -> Record:
    """A proven bake of the local target, twelve o'clock to four minutes past."""
    bake_id = other.pop("bake_id", "20261123-1200-x")
    values: dict[str, Any] = {
        "bake_id": bake_id,
        "started_at": START,
        "ended_at": START + timedelta(minutes=4, seconds=2),
        "made_by": MadeBy(
            user="ada", host="forge", ci_build="", commit="0123456789abcdef" * 2 + "01234567", dirty=True
        ),
        "inputs": INPUTS,
        "base": BASE,
        "base_waiver": "",
        "images": {"eu-central-1": "ami-0a1b2c3d4e5f60718"},
        "guest": GuestFacts.model_validate(_tuples(facts())),
        "proof": proof(),
        "timings": [Timing(name=name, kind=kind, seconds=seconds) for name, kind, seconds in TIMINGS],  # type: ignore[arg-type]
        "stand_ins": [StandIn(part="base image (Amazon Linux 2)", played_by="Debian 11, kernel 5.10", digest="b" * 64)],
        "sbom": Sbom(file="node.sbom.cdx.json", sha256="e" * 64, spec_version="1.6", components=275),
        "provenance": EvidenceFile(file="node.provenance.json", sha256="f" * 64),
        "warnings": ["ecs-al2-kernel-5.10 is past its end of support since 2026-06-30 (146 days): plan the move"],
        "previous": None,
    }
    return make_record(**{**values, **other})


def guest(**other: Any) -> GuestFacts:
    """The guest's facts with something else in them."""
    return GuestFacts.model_validate(_tuples(facts(**other)))


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
