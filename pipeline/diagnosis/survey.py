"""The whole survey: in, access and a scope; out, a ledger that holds what was found in every account and region.

The work is cut into shards of accounts of one region, which several threads examine at once. What was asked before an
interruption is in the ledger and is not asked again.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.clock import Clock
from pipeline.diagnosis import members, views
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.control_policies import ControlPolicies
from pipeline.diagnosis.examine import Examiner
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.model import Monitoring
from pipeline.diagnosis.scope import Scope
from pipeline.diagnosis.service_roles import ServiceRoles
from pipeline.errors import CloudError, UsageError
from pipeline.progress import duration

ACCOUNTS_A_SHARD = 25
"""Large enough that the last, part-filled page of each listing costs little; GuardDuty takes 50 values a filter."""
WORKERS = 12
STATISTICS = ("COUNT_BY_RESOURCE_TYPE", "COUNT_BY_COVERAGE_STATUS")


@dataclass(frozen=True, slots=True)
class Shard:
    """Some accounts of one region."""

    name: str
    region: str
    accounts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a survey is made with. `workers` threads; 1 keeps the order of calls."""

    access: Access
    clock: Clock
    scope: Scope
    look_inside: str
    """The SSM document to look inside hosts by; nothing: do not."""
    workers: int = WORKERS
    say: Callable[[str], None]

    def run(self, path: Path, *, resume: bool = False) -> Ledger:
        """Examine everything in scope. Raises CloudError and UsageError; the ledger keeps what is done."""
        if resume and path.exists():
            ledger = Ledger.resume(path)
            if ledger.head["scope"] != self.scope.describe():
                raise UsageError(
                    "the file to resume is about something else",
                    expected=self.scope.describe(),
                    found=str(ledger.head["scope"]),
                    where=str(path),
                    remedy="repeat the scope of the first start, or name another file",
                )
        else:
            ledger = Ledger.begin(path, self._plan())
        shards = [Shard(row["name"], row["region"], tuple(row["accounts"])) for row in ledger.head["shards"]]
        left = [shard for shard in shards if shard.name not in ledger.done]
        if ledger.done:
            self.say(f"{len(ledger.done)} of {len(shards)} parts are in {path} already; they are not asked again")
        self._examine(ledger, left, total=len(shards))
        return ledger

    # ---- the plan

    def _plan(self) -> dict[str, Any]:
        """Accounts, settings and counts of each region, cut into shards."""
        own = self.access.own_account
        regions = self.scope.regions or (self.access.region,)
        plan: dict[str, Any] = {
            "scope": self.scope.describe(),
            "own": own,
            "started_at": self.clock.now().isoformat(timespec="seconds"),
            "organization": "",
            "shards": [],
            "settings": {},
            "detectors": {},
            "statistics": {},
        }
        for region in regions:
            detector = members.detector_of(self.access, region)
            plan["detectors"][region] = detector
            known = members.relationships(self.access, region, detector) if detector else None
            accounts = list(self.scope.accounts) or sorted({own, *(known or {})})
            if known is None and any(number != own for number in accounts):
                foreign = next(number for number in accounts if number != own)
                raise CloudError(
                    f"account {own} does not administer GuardDuty for account {foreign} in {region}",
                    expected="credentials of GuardDuty's delegated administrator of that region",
                    found="an account without members" if detector else "no detector",
                    remedy="use the administrator's credentials, or leave --account out",
                )
            if detector:
                plan["statistics"][region] = self._statistics(region, detector)
            if known is not None:
                others = [number for number in accounts if number != own]
                found = members.settings(self.access, region, detector, known, others)
                plan["settings"][region] = {number: _settings_json(item) for number, item in found.items()}
                if not plan["organization"]:
                    plan["organization"] = self._organization()
            if detector and own in accounts:
                item = members.own_settings(self.access, region, detector)
                plan["settings"].setdefault(region, {})[own] = _settings_json(item)
            holders: list[str] = []
            if detector and self.scope.instance and not self.scope.accounts:
                holders = self._holders(region, detector)
            if holders:
                accounts, plan["shards"] = holders, []
            for start in range(0, len(accounts), ACCOUNTS_A_SHARD):
                some = accounts[start : start + ACCOUNTS_A_SHARD]
                plan["shards"].append({"name": f"{region}/{start}", "region": region, "accounts": some})
            if holders:
                break  # an id is in one region only
        return plan

    def _statistics(self, region: str, detector: str) -> dict[str, Any]:
        answer = self.access.call(
            "", region, "guardduty", "get_coverage_statistics", DetectorId=detector, StatisticsType=list(STATISTICS)
        )["CoverageStatistics"]
        return {"types": answer.get("CountByResourceType", {}), "statuses": answer.get("CountByCoverageStatus", {})}

    def _holders(self, region: str, detector: str) -> list[str]:
        """The account that holds the one wanted instance, if GuardDuty lists it: no other needs to be looked into."""
        wanted = (self.scope.instance,)
        return [row["AccountId"] for row in views.coverage_rows(self.access, region, detector, instances=wanted)]

    def _organization(self) -> str:
        try:
            answer = self.access.call("", "us-east-1", "organizations", "describe_organization")
        except CloudError:
            return ""  # only needed to read policies that name the organization; those then stay unclear
        return str(answer["Organization"].get("Id", ""))

    # ---- the work

    def _examine(self, ledger: Ledger, left: Sequence[Shard], *, total: int) -> None:
        settings = {
            region: {number: _settings(number, row) for number, row in rows.items()}
            for region, rows in ledger.head["settings"].items()
        }
        examiner = Examiner(
            self.access,
            self.clock,
            self.scope,
            self.look_inside,
            ledger.head["organization"],
            ControlPolicies(self.access),
            ServiceRoles(self.access),
        )
        stop = threading.Event()

        def one(shard: Shard) -> bool:
            """Whether it was looked at. Written down here, as signals reach the main thread only: nothing is lost."""
            if stop.is_set():
                return False
            result = examiner.examine(
                shard.name,
                shard.region,
                shard.accounts,
                ledger.head["detectors"].get(shard.region, ""),
                settings.get(shard.region, {}),
            )
            ledger.add(result)
            return True

        estimate = _Estimate(self.clock, self.say, done=total - len(left), total=total)
        waiting = iter(left)
        with ThreadPoolExecutor(max_workers=self.workers, thread_name_prefix="coverage") as pool:
            running: set[Future[bool]] = set()
            try:
                while True:
                    while len(running) < self.workers * 2 and (shard := next(waiting, None)):
                        running.add(pool.submit(one, shard))
                    if not running:
                        break
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        if future.result():
                            estimate.step()
            except BaseException:
                stop.set()  # those that are being looked at are waited for and kept, when the pool is left
                raise


class _Estimate:
    """Says how far it is, and how long it may take, ten times at most."""

    def __init__(self, clock: Clock, say: Callable[[str], None], *, done: int, total: int) -> None:
        self._clock, self._say = clock, say
        self._began = clock.monotonic()
        self._first, self._done, self._total = done, done, total
        self._said = done * 10 // max(1, total)

    def step(self) -> None:
        self._done += 1
        tenth = self._done * 10 // self._total
        if tenth > self._said and self._total >= 20:
            self._said = tenth
            spent = self._clock.monotonic() - self._began
            ahead = spent / (self._done - self._first) * (self._total - self._done)
            after = f", about {duration(ahead)} to go" if self._done < self._total else ""
            self._say(f"{self._done} of {self._total} parts looked at{after}")


def _settings_json(item: Monitoring) -> dict[str, Any]:
    return {
        "membership": item.membership,
        "relationship": item.relationship,
        "features": dict(item.features),
        "since": item.since,
        "managed_by": item.managed_by,
    }


def _settings(number: str, row: Mapping[str, Any]) -> Monitoring:
    return Monitoring(number, row["membership"], row["relationship"], row["features"], row["since"], row["managed_by"])
