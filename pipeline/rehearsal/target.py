"""The local target: in, what the catalog wants baked; out, a running local cloud that can bake it.

Preparing it means, the first time, apt packages, a base guest, the stand-in packages and a signing key. All of it is
cached, so later starts only look.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import boto3

from pipeline import paths
from pipeline.cache import Cache
from pipeline.catalog import Catalog, TargetName, VariantSelection
from pipeline.errors import UsageError
from pipeline.progress import Progress
from pipeline.provenance import OWN_KEY, signing
from pipeline.rehearsal.cloud import LocalCloud
from pipeline.rehearsal.guest_image import ensure_base_guest
from pipeline.rehearsal.guest_root import APT_PACKAGES
from pipeline.rehearsal.packages import ensure_artifacts, ensure_repository
from pipeline.rehearsal.store import BaseRecord, disks_stood_on, remember_local_root
from pipeline.render import Signing
from pipeline.target import AgentSource, ProofSeconds, StandIn, machine_environment
from pipeline.tools import ensure_apt_packages, require_platform, require_space

GUEST_BYTES: Final = 6_000_000_000
FILES_URL: Final = "http://169.254.0.10"
"""Where guests reach the files that the local cloud serves."""


@dataclass(frozen=True, kw_only=True)
class LocalTarget:
    """This machine as the cloud, ready to bake."""

    region: str
    cloud: LocalCloud
    agent: AgentSource
    stand_ins: tuple[StandIn, ...]
    name: TargetName = "local"

    @property
    def proof_seconds(self) -> ProofSeconds:
        return ProofSeconds(boot=300, coverage=90, every=1)

    @property
    def session(self) -> boto3.Session:
        return self.cloud.session(self.region)

    @property
    def records(self) -> Path:
        return paths.local_root() / "records"

    @property
    def locks(self) -> Path:
        return paths.local_root() / "locks"

    def agent_source(self) -> AgentSource:
        return self.agent

    def signing(self) -> Signing:
        return signing(OWN_KEY)

    def packer_environment(self) -> Mapping[str, str]:
        return {**machine_environment(), **self.cloud.environment(self.region)}


def require_stand_in(selection: VariantSelection) -> None:
    """Raise UsageError for what this machine cannot boot: other architectures, accelerators."""
    if selection.flavour_name != "x86_64":
        raise UsageError(
            f"{selection.id} cannot be baked on this machine",
            expected="the flavour x86_64: the only one that has a stand-in for its base",
            found=selection.flavour_name,
            remedy="bake it in AWS with `--on aws`; its template is rendered and validated here by `./run test`",
        )


def monthly_release(day: date) -> str:
    """The base's release on a day: a new one each month, or the policy on the base's age would end all local bakes."""
    return f"{day:%Y-%m}"


def open_local_target(
    catalog: Catalog, selection: VariantSelection, region: str, *, today: date, cache: Cache, progress: Progress
) -> LocalTarget:
    """Make ready what a bake of `selection` needs on this machine, and the local cloud with it.

    Raises UsageError for a flavour without a stand-in and MachineError for what the machine lacks.
    """
    require_stand_in(selection)
    require_platform()
    ensure_apt_packages(APT_PACKAGES, progress)
    line = selection.variant.os
    version = catalog.agent.version
    if not any(cache.root.glob(f"guest-{line}-*")):
        require_space(cache.root, GUEST_BYTES, f"the {line} base guest and an image of it")
    guest = ensure_base_guest(line, monthly_release(today), cache, progress)
    artifacts = ensure_artifacts(version, cache, progress)
    repository = ensure_repository(line, cache, progress)
    base = BaseRecord(
        line=line,
        disk=guest.disk,
        digest=guest.digest,
        made=datetime.fromtimestamp(guest.disk.stat().st_mtime, UTC),
    )
    # Served under their digests: two checkouts with other packages can share the cloud.
    served = {f"repo-{line}": repository, artifacts.root.name: artifacts.root}
    remember_local_root(cache.root, paths.local_root())
    cloud = LocalCloud.ensure(paths.local_root(), bases=[base], roots=served)
    prune_cache(cache, progress, datetime.now(UTC))
    return LocalTarget(
        region=region,
        cloud=cloud,
        agent=AgentSource(url=f"{FILES_URL}/{artifacts.root.name}", fingerprint=artifacts.fingerprint),
        stand_ins=(
            StandIn(part="base image", played_by=f"{guest.stands_for}, kernel {guest.kernel}", digest=guest.digest),
            StandIn(
                part="GuardDuty agent",
                played_by=f"Ovenproof's own package {version}, signed by a test key",
                digest=artifacts.root.name.rpartition("-")[2],
            ),
            StandIn(
                part="package repository",
                played_by=f"an update of the kernel and the ECS agent for the {line} guest",
                digest=repository.name.rpartition("-")[2],
            ),
            StandIn(
                part="AWS API", played_by="moto, extended: QEMU guests, SSM commands, GuardDuty coverage", digest=""
            ),
        ),
    )


def prune_cache(cache: Cache, progress: Progress, now: datetime) -> None:
    """Remove what newer guests, tools and packages have replaced, but for what local images stand on. Says what."""
    for name, occupied in cache.prune(disks_stood_on(cache.root), now):
        progress.say(f"removed {name} from the cache ({occupied / 1e9:.1f} GB): replaced, and no longer asked for")
