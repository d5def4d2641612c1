"""What a survey of a large organization costs: in, how large; out, API calls against the fewest possible, memory, time.

The organization is rehearsed. The survey is interrupted at half by a real SIGINT and resumed. The fewest calls are
counted from what was planted and from page sizes, not from what was called. Time is set against the same kinds of calls
made by as many threads whose answers nobody reads.
"""

import os
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from pipeline.cache import say_on_stderr
from pipeline.clock import SystemClock
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.command import RehearsalClock
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.members import detector_of
from pipeline.diagnosis.scope import Scope
from pipeline.diagnosis.summary import Summary, summarise
from pipeline.diagnosis.survey import ACCOUNTS_A_SHARD, WORKERS, Survey
from pipeline.diagnosis.views import OWN_DOCUMENT, coverage_rows
from pipeline.errors import Interrupted, ProofError
from pipeline.progress import duration
from pipeline.rehearsal.answered_session import Call
from pipeline.rehearsal.organization.session import Organization
from pipeline.rehearsal.organization.spec import BulkSpec, OrganizationSpec
from pipeline.rehearsal.organization.world import World, bulk_account
from pipeline.signals import as_interrupted

REGIONS = ("eu-central-1", "eu-west-1", "us-east-1", "us-west-2")
ADMINISTRATOR = "111111111111"
CALLS_LIMIT, MEMORY_LIMIT_MB = 1.1, 300
OUTSIDE_SSM = ("no-instance-profile",)
"""Problems of bulk accounts whose hosts nobody can look into."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The figures. Seconds and MB."""

    accounts: int
    hosts: int
    calls: int
    fewest: int
    asked_twice: int
    seconds: float
    bare_seconds: float
    bare_calls: int
    peak_mb: float
    summary: Summary

    @property
    def ratio(self) -> float:
        return self.calls / self.fewest


def bench_coverage(accounts: int = 2000, hosts: int = 50, *, say: Callable[[str], None] = say_on_stderr) -> str:
    """Measure, and say so in lines. Raises ProofError when calls or memory are over their limits."""
    result = measure(accounts, hosts, say=say)
    text = report(result)
    if result.ratio > CALLS_LIMIT or result.peak_mb > MEMORY_LIMIT_MB or result.asked_twice:
        raise ProofError(
            f"{text}\n\nthe survey costs more than it may",
            expected=f"at most {CALLS_LIMIT} times the fewest calls, {MEMORY_LIMIT_MB} MB, nothing asked twice",
        )
    return text


class _Watch:
    """Counts how often each account is asked for its instances, and interrupts this process once."""

    def __init__(self, interrupt_at: int) -> None:
        self._left = interrupt_at
        self.asked: Counter[tuple[str, str]] = Counter()

    def __call__(self, call: Call, account: str) -> None:
        if call.operation == "DescribeInstances":
            self.asked[account, call.region] += 1
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def measure(accounts: int, hosts: int, *, say: Callable[[str], None]) -> Result:
    """Survey the rehearsed organization, interrupted at half and resumed."""
    spec = OrganizationSpec(
        name="bench",
        organization="o-benchbench",
        administrator=ADMINISTRATOR,
        regions=REGIONS,
        bulk=BulkSpec(accounts=accounts, hosts=hosts),
    )
    clock = SystemClock()
    organization = Organization(World(spec, RehearsalClock()))
    watch = organization.deny = _Watch(accounts * len(REGIONS) * 2)
    with tempfile.TemporaryDirectory(prefix="ovenproof-bench-") as folder:
        path = Path(folder) / "ledger.jsonl"
        began = clock.monotonic()
        try:
            with as_interrupted():
                _survey(organization, path, say, resume=False)
        except Interrupted:
            say("interrupted at half; resuming")
        ledger = _survey(organization, path, say, resume=True)
        seconds = clock.monotonic() - began
        summary = summarise(ledger)
        peak_mb = _peak_mb()
        rows = {region: sum(found["statuses"].values()) for region, found in ledger.head["statistics"].items()}
    say("the same calls with no work ...")
    bare = Organization(World(spec, RehearsalClock()))
    began = clock.monotonic()
    _bare(bare, accounts)
    return Result(
        accounts=accounts,
        hosts=accounts * hosts * len(REGIONS),
        calls=sum(organization.calls.values()),
        fewest=fewest_calls(spec, rows),
        asked_twice=sum(number > 1 for number in watch.asked.values()),
        seconds=seconds,
        bare_seconds=clock.monotonic() - began,
        bare_calls=sum(bare.calls.values()),
        peak_mb=peak_mb,
        summary=summary,
    )


def _survey(organization: Organization, path: Path, say: Callable[[str], None], *, resume: bool) -> Ledger:
    clock = RehearsalClock()
    access = Access(organization.session(), clock)
    scope = Scope(regions=REGIONS)
    return Survey(access=access, clock=clock, scope=scope, look_inside=OWN_DOCUMENT, say=say).run(path, resume=resume)


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def fewest_calls(spec: OrganizationSpec, rows: Mapping[str, int]) -> int:
    """The fewest calls that can tell what a survey tells; `rows` is the length of each region's coverage list.

    For each region: detector, its settings, statistics, members and their settings (50 a call), coverage (50 a page).
    For each account: a role; for each account and region: instances, clusters, clusters in detail. Where something is
    wrong: container instances (two calls), SSM, endpoints with their interfaces and ACLs, VPC, two attributes, security
    groups, images, and a command with its answer on hosts that SSM reaches.
    """
    assert spec.bulk is not None  # noqa: S101 - the bench's own spec
    bulk, regions = spec.bulk, len(spec.regions)
    fewest = 2  # who is asking, and which organization
    for region in spec.regions:
        fewest += 3 + 2 * ceil(bulk.accounts / 50) + ceil(rows[region] / 50)
    fewest += bulk.accounts + bulk.accounts * regions * (ceil(bulk.hosts / 1000) + 2) + regions * 2
    troubled = 0
    for number in range(bulk.accounts):
        account = bulk_account(number, spec.administrator, bulk, spec.seed)
        found = [problem for hosts in account.clusters[0].hosts for problem in hosts.problems]
        if found:
            troubled += 1
            fewest += regions * (11 + (0 if found[0] in OUTSIDE_SSM else 2))
    return fewest + (1 if troubled else 0)  # the service control policies


def _bare(organization: Organization, accounts: int) -> None:
    """Ask for members, coverage, instances and clusters in as many threads, and read nothing of it."""
    access = Access(organization.session(), RehearsalClock())
    own = access.own_account
    numbers = sorted([own, *organization.world.account_ids()])

    def region_part(job: tuple[str, str, int]) -> None:
        region, detector, start = job
        some = numbers[start : start + ACCOUNTS_A_SHARD]
        for _ in coverage_rows(access, region, detector, accounts=some):
            pass
        for number in some:
            access.call(number, region, "ec2", "describe_instances", MaxResults=1000)
            arns = access.call(number, region, "ecs", "list_clusters", maxResults=100)["clusterArns"]
            if arns:
                access.call(number, region, "ecs", "describe_clusters", clusters=arns, include=["STATISTICS", "TAGS"])

    jobs = []
    for region in REGIONS:
        detector = detector_of(access, region)
        types = ["COUNT_BY_COVERAGE_STATUS"]
        access.call("", region, "guardduty", "get_coverage_statistics", DetectorId=detector, StatisticsType=types)
        jobs += [(region, detector, start) for start in range(0, accounts + 1, ACCOUNTS_A_SHARD)]
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        for _ in pool.map(region_part, jobs):
            pass


def report(result: Result) -> str:
    """The figures as lines."""
    hosts = result.summary.hosts
    return "\n".join(
        [
            f"{result.accounts:,} accounts, {len(REGIONS)} regions, {result.hosts:,} instances: "
            f"{hosts['healthy']:,} healthy, {hosts['unhealthy']:,} unhealthy, {hosts['absent']:,} absent, "
            f"{len(result.summary.by_cause)} causes",
            f"API calls: {result.calls:,}, fewest {result.fewest:,}: ratio {result.ratio:.3f} (limit {CALLS_LIMIT})",
            f"interrupted at half and resumed: {result.asked_twice} accounts asked twice",
            f"peak memory, the rehearsed organization included: {result.peak_mb:.0f} MB (limit {MEMORY_LIMIT_MB})",
            f"time: {duration(result.seconds)}; {result.bare_calls:,} calls of the same kinds with no work "
            f"{duration(result.bare_seconds)}: ratio {result.seconds / result.bare_seconds:.2f}",
        ]
    )
