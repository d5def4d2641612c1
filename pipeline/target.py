"""The two places a bake can happen, behind one set of questions: `aws`, and `local`, this machine as the cloud.

In: the target's name, a region, what is to be baked. Out: the session that every AWS call goes through, the
environment Packer gets, the source of the agent, and what on this target is not the real thing.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import boto3

from pipeline import paths
from pipeline.aws_errors import aws_errors
from pipeline.catalog import Catalog, TargetName
from pipeline.provenance import signing
from pipeline.render import Signing


@dataclass(frozen=True, kw_only=True)
class AgentSource:
    """Where the builder fetches the agent (`<url>/<version>/…`), and whose signature alone is accepted."""

    url: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """Something on this target that plays a real part, said aloud in output and record."""

    part: str
    played_by: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class ProofSeconds:
    """Seconds: until SSM manages a new instance, until GuardDuty hears its agent, and between two looks."""

    boot: float
    coverage: float
    every: float


class Target(Protocol):
    """What a bake needs to know of the place it happens in."""

    @property
    def name(self) -> TargetName:
        """`local` or `aws`."""

    @property
    def region(self) -> str:
        """The one region of this bake."""

    @property
    def session(self) -> boto3.Session:
        """The session for every call of ours; its region is the target's."""

    @property
    def stand_ins(self) -> tuple[StandIn, ...]:
        """Empty in AWS."""

    @property
    def proof_seconds(self) -> ProofSeconds:
        """How patient a proof is here."""

    @property
    def records(self) -> Path:
        """The folder that holds a folder for each bake."""

    @property
    def locks(self) -> Path:
        """The folder of locks, a file for each variant and flavour."""

    def agent_source(self) -> AgentSource:
        """Where the agent comes from in this region."""

    def signing(self) -> Signing:
        """Who signs provenance and SBOM."""

    def packer_environment(self) -> Mapping[str, str]:
        """Endpoint, region and credentials as Packer's plugin reads them; not the whole environment."""


def machine_environment() -> Mapping[str, str]:
    """What Packer has to know of this machine on any target: where to put large files, and whose certificates count."""
    names = ("TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return {name: os.environ[name] for name in names if name in os.environ}


def aws_session(region: str) -> boto3.Session:
    """A session with the credentials of the environment, known to be valid. Raises CloudError when there are none."""
    with aws_errors(
        "AWS does not know who is asking",
        expected="valid credentials in the environment, a profile or the instance",
        where=f"STS in {region}",
        remedy="sign in (`aws sso login`, AWS_PROFILE, a role) and run the command again",
    ):
        session = boto3.Session(region_name=region)
        session.client("sts").get_caller_identity()
    return session


class AwsTarget:
    """AWS itself, with the credentials of the environment."""

    name: TargetName = "aws"
    stand_ins: tuple[StandIn, ...] = ()
    proof_seconds = ProofSeconds(boot=600, coverage=1200, every=15)
    records = paths.CHECKOUT / "records"
    locks = paths.CHECKOUT / "records" / "locks"

    def __init__(self, catalog: Catalog, region: str, programs: Path | None = None) -> None:
        """`programs` is a folder that Packer finds programs in, before PATH. Raises CloudError without credentials."""
        self.region = region
        self._catalog = catalog
        self._programs = programs
        self.session = aws_session(region)

    def signing(self) -> Signing:
        return signing(self._catalog.provenance.signer)

    def agent_source(self) -> AgentSource:
        agent = self._catalog.agent
        return AgentSource(url=agent.artifact_url(self.region), fingerprint=agent.key_fingerprint)

    def packer_environment(self) -> Mapping[str, str]:
        passed = ("AWS_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "HOME", "PATH")
        own = {key: value for key, value in os.environ.items() if key.upper().startswith(passed)}
        if self._programs:
            own["PATH"] = os.pathsep.join(filter(None, (str(self._programs), own.get("PATH"))))
        return {**own, **machine_environment(), "AWS_REGION": self.region}
