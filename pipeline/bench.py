"""What a bake costs over bare Packer: in, the default variant; out, two ratios with the figures behind them.

Ours and bare `packer build` of the very template that ours rendered run one after the other, on the same target, in
one go, round after round. The proof is not counted: bare Packer has none.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import flow, paths, tags
from pipeline import sweep as sweeping
from pipeline.bake import TEMPLATE, VARIABLES, Workplace, stage
from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.clock import SystemClock
from pipeline.diagnosis.bench import bench_coverage
from pipeline.errors import BakeError, UsageError
from pipeline.hardening import load_hardening
from pipeline.packer import run_packer
from pipeline.progress import Progress, duration
from pipeline.record import Record
from pipeline.rehearsal.fleet.bench import bench_roll
from pipeline.rehearsal.store import disk_bytes
from pipeline.runbook.lint.bench import bench_lint
from pipeline.signals import as_interrupted
from pipeline.targets import open_target
from pipeline.tools import Tools, tools_alongside

VARIANT, FLAVOUR = "ecs-al2-kernel-5.10", "x86_64"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One round: seconds of our bake without its proof, and of bare Packer."""

    ours: float
    bare: float

    @property
    def ratio(self) -> float:
        return self.ours / self.bare


def bench(what: str) -> str:
    """Measure one of Ovenproof's own costs. Raises UsageError for a name that is none."""
    benches: Mapping[str, Callable[[], str]] = {
        "bake": bench_bake,
        "coverage": bench_coverage,
        "lint": bench_lint,
        "roll": bench_roll,
    }
    if what not in benches:
        raise UsageError(f"there is no bench {what}", expected=", ".join(benches), where="./run bench")
    return benches[what]()


def bench_bake(rounds: int = 2) -> str:
    """Bake `rounds` times each way on the local target and compare. Raises what a bake raises."""
    clock, progress = SystemClock(), Progress()
    with as_interrupted():
        catalog = load_catalog()
        selection = catalog.select(VARIANT, FLAVOUR)
        today = clock.now().date()
        cache = Cache(paths.cache_root(), progress.say)
        with tools_alongside(cache, progress) as tools_made:
            target = open_target(
                "local", catalog, selection, catalog.default_region, today=today, cache=cache, progress=progress
            )
            tools = tools_made()
        planned = flow.plan_one(catalog, selection, target, today=today, force=True)
        pairs: list[Pair] = []
        record: Record | None = None
        for number in range(rounds):
            record, path = flow.bake_and_prove(planned, tools=tools, clock=clock, progress=progress)
            with progress.phase(f"bare packer build, round {number + 1}") as phase:
                _bare_build(path.parent, planned, tools, target.packer_environment(), progress)
            pairs.append(Pair(ours=_without_proof(record), bare=phase.seconds))
        assert record is not None  # noqa: S101 - there is at least one round
        written = disk_bytes(paths.local_root() / "images" / record.images[target.region] / "disk.qcow2")
    return report(pairs, written=written, installed=record.guest.installed_bytes)


def _without_proof(record: Record) -> float:
    whole = (record.ended_at - record.started_at).total_seconds()
    return whole - sum(timing.seconds for timing in record.timings if timing.name == flow.PROOF_PHASE)


def _bare_build(
    folder: Path, planned: flow.Planned, tools: Tools, environment: Mapping[str, str], progress: Progress
) -> None:
    """`packer build` of what our bake rendered, under another bake id, with nothing of ours around it."""
    bare = Workplace(folder=folder / "bare")
    bare.folder.mkdir()
    today = SystemClock().now().date()
    architecture = planned.selection.flavour.architecture
    stage(bare, hardening=load_hardening(today), architecture=architecture, tools=tools, today=today)
    variables = json.loads((folder / VARIABLES).read_text(encoding="utf-8"))
    bake_id = tags.bare(variables["bake_id"])
    variables |= {
        "bake_id": bake_id,
        "image_name": f"{variables['image_name']}-bare",
        "stage_dir": str(bare.stage),
        "work_dir": str(bare.folder),
    }
    (bare.folder / VARIABLES).write_text(json.dumps(variables), encoding="utf-8")
    argv = [str(tools.packer), "build", f"-var-file={bare.folder / VARIABLES}", str(folder / TEMPLATE)]
    try:
        code = run_packer(  # as our bake does, so that an interrupt lets Packer undo this one too
            argv,
            cwd=paths.CHECKOUT,
            env={**environment, **tools.environment()},
            log=bare.log,
            on_line=lambda _: None,
            clock=SystemClock(),
        )
    finally:
        session = planned.target.session
        leftovers = sweeping.of_bake(sweeping.inventory(session, say=progress.say), bake_id)
        sweeping.remove(session, leftovers, say=progress.say)
    if code != 0:
        raise BakeError("bare Packer failed", found=f"exit code {code}", where=str(bare.log))


def report(pairs: list[Pair], *, written: int, installed: int) -> str:
    """The figures as lines: each round, the ratio over all, bytes on the disk of the image over bytes installed."""
    lines = [
        f"round {number}: ours {duration(pair.ours)}, bare packer build {duration(pair.bare)}, ratio {pair.ratio:.2f}"
        for number, pair in enumerate(pairs, 1)
    ]
    ours, bare = sum(pair.ours for pair in pairs), sum(pair.bare for pair in pairs)
    lines.append(f"bake (without its proof) over bare packer build: {ours / bare:.2f}")
    lines.append(
        f"image's disk {written / 2**20:.0f} MiB over {installed / 2**20:.0f} MiB installed: {written / installed:.2f}"
    )
    return "\n".join(lines)
