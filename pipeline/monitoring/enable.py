"""`./run enable-monitoring`: plan, apply, verify, undo, region by region.

In: the delegated administrator's access and targets. Out: what was changed, what was not and why, and an undo file that
is on the disk before the first change.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.clock import Clock
from pipeline.diagnosis import members
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.model import Monitoring
from pipeline.errors import CloudError, UsageError
from pipeline.monitoring.features import OURS, PHASES, Call, Change, Left, Plan, Status, Target, calls, plan

FORMAT = 1
TRIES = 3
PAUSE_SECONDS = 10
SETTLE_SECONDS, LOOK_EVERY_SECONDS = 120, 10


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    changed: tuple[Change, ...]
    failed: tuple[Left, ...]
    unverified: tuple[Left, ...]


@dataclass(frozen=True)
class Enablement:
    """The steps; `say` gets a line for each call."""

    access: Access
    clock: Clock
    say: Callable[[str], None]

    # ---- look

    def read(self, regions: Iterable[str], accounts: Sequence[str]) -> dict[tuple[str, str], Monitoring]:
        """Settings by account and region. Raises CloudError where the caller administers nothing."""
        found: dict[tuple[str, str], Monitoring] = {}
        own = self.access.own_account
        for region in regions:
            detector = self._detector(region)
            others = [number for number in accounts if number != own]
            if others:
                known = members.relationships(self.access, region, detector)
                if known is None:
                    raise CloudError(
                        f"account {own} does not administer GuardDuty in {region}",
                        expected="credentials of the delegated administrator, which is designated for each region",
                        where=f"guardduty:ListMembers, {region}",
                    )
                for number, item in members.settings(self.access, region, detector, known, others).items():
                    found[number, region] = item
            if own in accounts:
                found[own, region] = members.own_settings(self.access, region, detector)
        return found

    def plan(self, targets: Sequence[Target]) -> Plan:
        """Compare the targets with what is there."""
        regions = list(dict.fromkeys(target.region for target in targets))
        accounts = list(dict.fromkeys(target.account for target in targets))
        return plan(targets, self.read(regions, accounts))

    def _detector(self, region: str) -> str:
        detector = members.detector_of(self.access, region)
        if not detector:
            raise CloudError(
                f"GuardDuty is off in {region}",
                expected="a detector of the delegated administrator",
                found="none",
                where=f"account {self.access.own_account}",
                remedy="enable GuardDuty there first, or leave the region out",
            )
        return detector

    # ---- change

    def apply(self, wanted: Plan) -> Outcome:
        """Make the changes, RUNTIME_MONITORING first, retry what GuardDuty did not process, and look again."""
        failed: dict[tuple[str, str], Left] = {}
        for phase in PHASES:
            for call in calls(wanted.changes, phase):
                going = tuple(number for number in call.accounts if (number, call.region) not in failed)
                if going:
                    for item in self._make(Call(call.region, going, call.features, call.phase)):
                        failed[item.account, item.region] = item
        done = tuple(change for change in wanted.changes if (change.account, change.region) not in failed)
        return Outcome(done, tuple(failed.values()), self._verify(done))

    def _make(self, call: Call) -> tuple[Left, ...]:
        """One call; accounts that are not processed are tried again, a few times. Returns those that never were."""
        own = self.access.own_account
        names = _words(call)
        waiting, reasons = list(call.accounts), dict[str, str]()
        if own in waiting:
            waiting.remove(own)
            detector = self._detector(call.region)
            self.say(f"{call.region}: {names} for the administrator {own}")
            self.access.call(
                "", call.region, "guardduty", "update_detector", DetectorId=detector, Features=list(call.features)
            )
        for attempt in range(TRIES):
            if not waiting:
                return ()
            if attempt:
                self.clock.sleep(PAUSE_SECONDS)
            self.say(f"{call.region}: {names} for {len(waiting)} account{'s' if len(waiting) > 1 else ''}")
            answer = self.access.call(
                "",
                call.region,
                "guardduty",
                "update_member_detectors",
                DetectorId=self._detector(call.region),
                AccountIds=waiting,
                Features=list(call.features),
            )
            # HTTP 200 hides failures: what is named here was not changed
            reasons = {row["AccountId"]: row.get("Result", "") for row in answer.get("UnprocessedAccounts", ())}
            waiting = [number for number in waiting if number in reasons]
        return tuple(
            Left(number, call.region, f"GuardDuty did not process it: {reasons[number]}", "") for number in waiting
        )

    def _verify(self, done: Sequence[Change]) -> tuple[Left, ...]:
        """Read the settings again until they are as wanted, or patience ends."""
        until = self.clock.monotonic() + SETTLE_SECONDS
        left = list(done)
        while left:
            found = self.read(
                dict.fromkeys(change.region for change in left), list(dict.fromkeys(change.account for change in left))
            )
            left = [change for change in left if not _is_so(change, found[change.account, change.region])]
            if not left or self.clock.monotonic() >= until:
                break
            self.clock.sleep(LOOK_EVERY_SECONDS)
        return tuple(
            Left(
                change.account, change.region, "GuardDuty took the change, and does not show it yet", "look again later"
            )
            for change in left
        )

    # ---- new accounts

    def default(self, region: str) -> dict[str, str]:
        """What accounts get that join later: `members` and each feature of ours, NEW, ALL or NONE."""
        answer = self.access.call(
            "",
            region,
            "guardduty",
            "describe_organization_configuration",
            DetectorId=self._detector(region),
        )
        found = {"members": str(answer.get("AutoEnableOrganizationMembers", "NONE"))}
        for feature in answer.get("Features", ()):
            if feature.get("Name") == OURS[0]:
                found[OURS[0]] = feature.get("AutoEnable", "NONE")
                for extra in feature.get("AdditionalConfiguration", ()):
                    if extra.get("Name") in OURS:
                        found[extra["Name"]] = extra.get("AutoEnable", "NONE")
        return found

    def set_default(self, region: str, wanted: Mapping[str, str]) -> None:
        """Set what accounts get that join later; whether they get GuardDuty at all stays as it is."""
        agents = [{"Name": name, "AutoEnable": wanted[name]} for name in OURS[1:] if name in wanted]
        self.say(
            f"{region}: accounts that join later get {', '.join(f'{k} {v}' for k, v in wanted.items() if k in OURS)}"
        )
        self.access.call(
            "",
            region,
            "guardduty",
            "update_organization_configuration",
            DetectorId=self._detector(region),
            AutoEnableOrganizationMembers=wanted.get("members") or self.default(region)["members"],
            Features=[
                {
                    "Name": OURS[0],
                    "AutoEnable": wanted[OURS[0]],
                    **({"AdditionalConfiguration": agents} if agents else {}),
                }
            ],
        )


def _words(call: Call) -> str:
    feature = call.features[0]
    agents = [f"{item['Name']} {item['Status'].lower()}" for item in feature.get("AdditionalConfiguration", ())]
    return ", ".join(agents) or f"{feature['Name']} {feature['Status'].lower()}"


def _is_so(change: Change, found: Monitoring) -> bool:
    return all((found.features.get(name) or "DISABLED") == status for name, status in change.after.items())


# ---- undo


def write_undo(path: Path, changes: Sequence[Change], defaults: Mapping[str, Mapping[str, str]], when: str) -> None:
    """Keep how everything was. Raises UsageError rather than replace a file: it may be the only way back."""
    document = {
        "format": FORMAT,
        "written_at": when,
        "accounts": [{"account": c.account, "region": c.region, "features": dict(c.before)} for c in changes],
        "defaults": {region: dict(found) for region, found in defaults.items()},
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            json.dump(document, stream, indent=2)
            stream.write("\n")
    except FileExistsError as error:
        raise UsageError(
            "there is an undo file of that name", where=str(path), remedy="name another: --undo-file"
        ) from error
    except OSError as error:
        raise UsageError(
            "the undo file cannot be written, so nothing is changed", found=str(error), where=str(path)
        ) from error


def read_undo(path: Path) -> tuple[list[Target], dict[str, dict[str, str]]]:
    """Targets and defaults of an undo file. Raises UsageError when it is none."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}")
        targets = [
            Target(row["account"], row["region"], {name: _status(state) for name, state in row["features"].items()})
            for row in document["accounts"]
        ]
        return targets, {str(region): dict(found) for region, found in document["defaults"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "this is no undo file",
            expected="a file that ./run enable-monitoring --yes wrote",
            found=f"{type(error).__name__}: {error}",
            where=str(path),
        ) from error


def _status(text: object) -> Status:
    if text not in ("ENABLED", "DISABLED"):
        raise ValueError(f"the status {text!r}")
    return text
