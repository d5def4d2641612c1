"""The command lines of `enable-monitoring`: in, words; out, a plan, or what became of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.cache import say_on_stderr
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.command import Place, open_place
from pipeline.diagnosis.scope import read_scope
from pipeline.errors import CloudError, UsageError
from pipeline.monitoring.enable import Enablement, Outcome, read_undo, write_undo
from pipeline.monitoring.features import AGENTS, MONITORING, Change, Left, Plan, Status, Target
from pipeline.monitoring.select import select
from pipeline.signals import as_interrupted

SHOWN = 20


def enable_monitoring(
    *,
    on: str = "local",
    account: str = "",
    unit: str = "",
    tag: str = "",
    region: str = "",
    agents: str = "",
    new_accounts: str = "",
    yes: bool = False,
    undo: str = "",
    undo_file: str = "",
    organization: str = "",
    show: Callable[[str], object],
    say: Callable[[str], None] = say_on_stderr,
) -> None:
    """Show the plan, and with `yes` carry it out. Raises UsageError, and CloudError when something was not changed."""
    wanted = read_scope(accounts=[account], regions=[region])
    if new_accounts not in ("", "NEW", "ALL", "NONE"):
        raise UsageError(
            f"--new-accounts {new_accounts} is unknown",
            expected="NEW (those that join later), ALL (also those there are) or NONE",
            where="--new-accounts",
        )
    features = _features(agents)
    place = open_place(on, wanted.regions, organization)
    with as_interrupted():
        enablement = Enablement(Access(place.session, place.clock), place.clock, say)
        defaults: dict[str, dict[str, str]] = {}
        if undo:
            if account or unit or tag or new_accounts or agents:
                raise UsageError("--undo takes accounts and features from its file", remedy="leave the others out")
            targets, defaults = read_undo(Path(undo))
        else:
            chosen = (
                ()
                if new_accounts and not (wanted.accounts or unit or tag)
                else select(enablement.access, accounts=wanted.accounts, unit=unit, tag=tag)
            )
            targets = [Target(number, name, features) for name in place.regions for number in chosen]
            if new_accounts:
                default = {name: (new_accounts if status == "ENABLED" else "NONE") for name, status in features.items()}
                defaults = dict.fromkeys(place.regions, default)
        planned = enablement.plan(targets)
        before = {name: enablement.default(name) for name in defaults}
        wanted_defaults = {
            name: {**before[name], **found}
            for name, found in defaults.items()
            if {**before[name], **found} != before[name]
        }
        show(render_plan(planned, wanted_defaults, before))
        if not (planned.changes or wanted_defaults):
            return
        if not yes:
            show("\nnothing is changed yet: --yes carries it out")
            return
        _carry_out(place, enablement, planned, wanted_defaults, before, undo_file, show)


def _features(agents: str) -> dict[str, Status]:
    """RUNTIME_MONITORING, and the agent configurations that are named."""
    features: dict[str, Status] = {MONITORING: "ENABLED"}
    for name in agents.replace(",", " ").split():
        if name not in AGENTS:
            raise UsageError(
                f"there is no agent configuration {name}",
                expected=", ".join(AGENTS),
                where="--agents",
                remedy="leave it out where images have the agent inside; EKS is another feature and not ours",
            )
        features[AGENTS[name]] = "ENABLED"
    return features


def _carry_out(
    place: Place,
    enablement: Enablement,
    planned: Plan,
    defaults: Mapping[str, Mapping[str, str]],
    before: Mapping[str, Mapping[str, str]],
    undo_file: str,
    show: Callable[[str], object],
) -> None:
    now = place.clock.now()
    path = Path(undo_file or f"monitoring-undo-{now:%Y%m%dT%H%M%SZ}.json")
    write_undo(path, planned.changes, {name: before[name] for name in defaults}, now.isoformat(timespec="seconds"))
    show(f"\nhow it was is kept in {path}; --undo {path} brings it back")
    outcome = enablement.apply(planned)
    for name, found in defaults.items():
        enablement.set_default(name, found)
    show("\n" + render_outcome(outcome, defaults))
    if outcome.failed or outcome.unverified:
        bad = [*outcome.failed, *outcome.unverified]
        raise CloudError(
            f"{len(bad)} of {len(planned.changes)} changes were not made, or cannot be seen",
            expected="every account of the plan changed",
            found="\n".join(f"{item.account}, {item.region}: {item.why}" for item in bad[:SHOWN]),
            remedy="run the same again: what is done stays done",
        )


def render_plan(
    planned: Plan, defaults: Mapping[str, Mapping[str, str]], before: Mapping[str, Mapping[str, str]]
) -> str:
    """The plan in words: every change, every account left alone with its reason."""
    lines = []
    for change in planned.changes[: SHOWN * 5]:
        steps = [f"{name} {change.before[name].lower()} -> {change.after[name].lower()}" for name in _order(change)]
        lines.append(f"{change.account}  {change.region}  {', then '.join(steps)}")
    if len(planned.changes) > SHOWN * 5:
        lines.append(f"... and {len(planned.changes) - SHOWN * 5} more")
    for name, found in defaults.items():
        steps = [
            f"{key} {before[name].get(key, 'NONE')} -> {value}"
            for key, value in found.items()
            if before[name].get(key) != value
        ]
        lines.append(f"accounts that join later  {name}  {', '.join(steps)}")
    if defaults and any(found.get("members") == "NONE" for found in before.values()):
        lines.append(
            "  note: new accounts do not get GuardDuty itself (AutoEnableOrganizationMembers NONE), which stays so"
        )
    for left in planned.left:
        lines.append(f"{left.account}  {left.region}  left alone: {left.why}")
        if left.remedy:
            lines.append(f"  do: {left.remedy}")
    if planned.already:
        lines.append(f"{len(planned.already)} are as wanted already")
    if not (planned.changes or defaults):
        lines.append("nothing to change")
    return "\n".join(lines)


def _order(change: Change) -> Sequence[str]:
    off = change.after.get(MONITORING) == "DISABLED"
    return sorted(change.after, key=lambda name: (name == MONITORING) == off)


def render_outcome(outcome: Outcome, defaults: Mapping[str, Mapping[str, str]]) -> str:
    """What became of the plan."""
    unseen = {(left.account, left.region) for left in outcome.unverified}
    seen = [change for change in outcome.changed if (change.account, change.region) not in unseen]
    lines = [f"{len(seen)} changed, and seen so"]
    lines += [f"default for new accounts set in {name}" for name in defaults]
    both: tuple[Left, ...] = (*outcome.failed, *outcome.unverified)
    lines += [f"{left.account}  {left.region}  {left.why}" for left in both]
    return "\n".join(lines)
