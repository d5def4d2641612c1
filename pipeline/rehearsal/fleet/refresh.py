"""Instance refresh: from the state of a group to what is launched and ended next.

In: a refresh and the hosts of its group. Out: the next step of both. It looks at states, not at a plan made at the
start, so that a scale-out, a lost host or a second refresh in the middle need no case of their own.

Sources: Auto Scaling API reference (RefreshPreferences, InstanceRefresh, CancelInstanceRefresh,
RollbackInstanceRefresh), user guide on instance refresh. Undocumented behaviour is read from the world's switches.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.hosts import coverage_of
from pipeline.rehearsal.fleet.state import NEVER, Configuration, GroupState, Host, Refresh

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.groups import Groups
    from pipeline.rehearsal.fleet.world import World

STUCK = 3600.0  # user guide, instance refresh: it fails after an hour without progress
DEFAULT_CHECKPOINT_DELAY = 3600  # RefreshPreferences.CheckpointDelay
DEFAULT_MIN_HEALTHY = 90  # RefreshPreferences.MinHealthyPercentage
ALARMING = "ALARM"
PENDING = ("Pending", "Pending:Wait", "Pending:Proceed")
SWAPPING = ("ReplacingRootVolume", "ReplacingRootVolume:Wait", "ReplacingRootVolume:Proceed", "RootVolumeReplaced")


@dataclass(slots=True)
class _Count:
    """The hosts of a group as a refresh sees them."""

    old: list[Host] = field(default_factory=list)  # in service, to be replaced
    held_back: int = 0  # to be replaced, but protected or in standby and waited for
    standby: list[Host] = field(default_factory=list)  # in standby, to be ended
    left_alone: int = 0  # ignored by preference
    fresh_active: int = 0  # of the target, launched since the start, pending or in service
    fresh_ready: int = 0  # of those, in service and warm
    new_active: int = 0  # of the target configuration, pending or in service
    new_ready: int = 0
    unready: Host | None = None
    ready: int = 0  # in service and warm, of any configuration
    active: int = 0  # pending or in service
    pending: int = 0
    leaving: int = 0  # on their way out, by this refresh
    leaving_free: int = 0  # of those, not held by a hook
    swapping: int = 0


class Refreshes:
    """Every refresh of a world."""

    def __init__(self, world: "World", groups: "Groups") -> None:
        self.world = world
        self.groups = groups

    # -- requests -------------------------------------------------------------------------------------------------

    def start(self, group: GroupState, request: Mapping[str, Any], target: Configuration | None) -> Refresh:
        """StartInstanceRefresh, parameters already parsed. Refused when one is active or a preference is impossible."""
        world = self.world
        if group.refresh is not None:
            raise Refused(
                "InstanceRefreshInProgress",
                "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.",
            )
        strategy = request.get("Strategy", "Rolling")
        preferences, max_given = self._preferences(group, request.get("Preferences", {}))
        target = target or group.configuration
        if strategy == "ReplaceRootVolume":
            self._check_root_swap(target)
        if preferences["AutoRollback"]:
            reason = self._irreversible(group, request.get("DesiredConfiguration"), target)
            if reason:
                raise Refused("ValidationError", f"AutoRollback cannot be enabled: {reason}")
        refresh = Refresh(
            id=world.token(),
            group=group,
            preferences=preferences,
            target=target,
            desired_configuration=dict(request["DesiredConfiguration"]) if "DesiredConfiguration" in request else None,
            saved=group.configuration,
            strategy=strategy,
            started=world.t,
            max_given=max_given,
            progress=world.t,
        )
        refresh.remaining = refresh.total = sum(1 for host in group.hosts.values() if self._to_update(refresh, host))
        group.refreshes.append(refresh)
        group.keep_excess = False
        world.note(f"refresh of {group.spec.name} started: {refresh.total} to update")
        world.timeline.mark("refresh")
        world.at(world.t + 5, self._begin, refresh)
        return refresh

    def cancel(self, group: GroupState, *, wait: bool) -> Refresh:
        """CancelInstanceRefresh: it stops, and undoes nothing. Refused when none is active."""
        refresh = self._active(group)
        self._status(refresh, "Cancelling")
        refresh.cancel_waits = wait
        self.world.note(f"refresh of {group.spec.name} is being cancelled")
        self.world.timeline.mark("cancel")
        self.groups.touch(group)
        return refresh

    def roll_back(self, group: GroupState) -> Refresh:
        """RollbackInstanceRefresh. Refused when none is active or there is nothing to go back to."""
        refresh = self._active(group)
        if refresh.status == "RollbackInProgress":
            raise Refused("IrreversibleInstanceRefresh", "The instance refresh is already being rolled back.")
        reason = self._irreversible(group, refresh.desired_configuration, refresh.target)
        if reason:
            raise Refused("IrreversibleInstanceRefresh", reason)
        self._begin_rollback(refresh, "Manual rollback was initiated.")
        return refresh

    def _active(self, group: GroupState) -> Refresh:
        if group.refresh is None or group.refresh.status == "Cancelling":
            raise Refused(
                "ActiveInstanceRefreshNotFound",
                f"No in progress or pending Instance Refresh found for Auto Scaling group {group.spec.name}",
            )
        return group.refresh

    def _preferences(self, group: GroupState, given: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Preferences with their defaults, and whether MaxHealthyPercentage was said."""
        preferences = dict(given)
        if "MaxHealthyPercentage" in given and "MinHealthyPercentage" not in given:
            raise Refused("ValidationError", "MinHealthyPercentage must be specified with MaxHealthyPercentage.")
        maintenance = group.maintenance
        if "MinHealthyPercentage" not in given:
            preferences["MinHealthyPercentage"] = maintenance[0] if maintenance else DEFAULT_MIN_HEALTHY
            if maintenance:
                preferences["MaxHealthyPercentage"] = maintenance[1]
        low, high = preferences["MinHealthyPercentage"], preferences.get("MaxHealthyPercentage")
        if not 0 <= low <= 100 or (high is not None and not 100 <= high <= 200):
            raise Refused("ValidationError", "MinHealthyPercentage is 0 to 100, MaxHealthyPercentage 100 to 200.")
        if high is not None and high - low > 100:
            raise Refused(
                "ValidationError",
                "The difference between MinHealthyPercentage and MaxHealthyPercentage cannot be greater than 100.",
            )
        checkpoints = preferences.get("CheckpointPercentages")
        if checkpoints:
            if sorted(set(checkpoints)) != list(checkpoints) or not 1 <= checkpoints[0] <= checkpoints[-1] <= 100:
                raise Refused("ValidationError", "CheckpointPercentages must be unique, ascending and 1 to 100.")
            preferences.setdefault("CheckpointDelay", DEFAULT_CHECKPOINT_DELAY)
        elif "CheckpointDelay" in preferences:
            raise Refused("ValidationError", "CheckpointDelay needs CheckpointPercentages.")
        for name, most in (("CheckpointDelay", 172800), ("BakeTime", 172800)):
            if not 0 <= preferences.get(name, 0) <= most:
                raise Refused("ValidationError", f"{name} is 0 to {most} seconds.")
        preferences.setdefault("SkipMatching", False)
        preferences.setdefault("AutoRollback", False)
        preferences.setdefault("ScaleInProtectedInstances", "Wait")
        preferences.setdefault("StandbyInstances", "Wait")
        alarms = preferences.get("AlarmSpecification", {}).get("Alarms", [])
        for name in alarms:
            if name not in self.world.alarms:
                raise Refused("ValidationError", f"CloudWatch alarm {name} not found.")
        return preferences, "MaxHealthyPercentage" in preferences

    def _check_root_swap(self, target: Configuration) -> None:
        overrides = target.overrides
        if not overrides or any("ImageId" not in override for override in overrides):
            raise Refused(
                "ValidationError",
                "ReplaceRootVolume needs a MixedInstancesPolicy whose every override has an ImageId.",
            )

    def _irreversible(self, group: GroupState, desired: Mapping[str, Any] | None, target: Configuration) -> str | None:
        """Why there is no way back, as RollbackInstanceRefresh's page lists it."""
        if not desired:
            return "There is no desired configuration specified for the instance refresh."
        saved = group.configuration
        if saved.version in ("$Latest", "$Default"):
            return "The Auto Scaling group uses the launch template's $Latest or $Default version."
        for one in (saved, target):
            template = self.world.templates[one.template_id]
            number = self.world.version_number(template, one.version)
            if template.versions[number].get("ImageId", "").startswith("resolve:ssm:"):
                return "The launch template uses an AWS Systems Manager parameter instead of an AMI ID for ImageId."
        return None

    # -- the course of a refresh ----------------------------------------------------------------------------------

    def _begin(self, refresh: Refresh) -> None:
        if refresh.status == "Pending" and "InstanceRefresh" not in refresh.group.suspended:
            self._status(refresh, "InProgress")
            refresh.progress = self.world.t
            self._watch_for_stuck(refresh)
            self.groups.touch(refresh.group)

    def _watch_for_stuck(self, refresh: Refresh) -> None:
        self.world.at(refresh.progress + STUCK, self._stuck, refresh)

    def _stuck(self, refresh: Refresh) -> None:
        if not refresh.active or refresh.status in ("Baking", "Cancelling"):
            return
        world = self.world
        held = any(host.state.endswith(":Wait") for host in refresh.group.hosts.values())
        waits = (held and world.switches.held_is_stuck == "no") or world.t < refresh.paused_until
        if waits:
            refresh.progress = world.t
        if world.t - refresh.progress >= STUCK:
            self._fail(refresh, refresh.reason or "The instance refresh made no progress for one hour.")
        elif waits and refresh.paused_until > world.t:
            world.at(refresh.paused_until + STUCK, self._stuck, refresh)
        else:
            self._watch_for_stuck(refresh)

    def step(self, refresh: Refresh) -> None:
        """Do what can be done now."""
        world, group = self.world, refresh.group
        if refresh.status == "Pending":
            return
        if refresh.status == "Cancelling":
            self._cancelling(refresh)
            return
        if refresh.status in ("InProgress", "Baking") and self._alarmed(refresh):
            return
        if refresh.status == "Baking":
            if world.t >= refresh.baked_at:
                self._succeed(refresh)
            return
        if refresh.strategy == "ReplaceRootVolume":
            self._step_root_swap(refresh)
            return
        count = self._count(refresh)
        # Never backwards but in a rollback: a new host that is lost does not undo what was said.
        progress = min(count.fresh_ready, refresh.total)
        if world.switches.checkpoint_counts == "gone":
            progress = min(progress, max(0, len(refresh.leaving) - count.leaving))
        self._report(refresh, progress, count)
        if world.t < refresh.paused_until:
            self._fill(refresh, count)
            return
        limit, last = self._limit(refresh)
        if not last and progress >= limit:
            if world.switches.checkpoint_ends == "replaced":
                self._replace(refresh, count, limit, last)
            self._pause(refresh)
            return
        replaced_all = not count.old and not count.standby and not count.pending
        enough = count.new_ready + count.left_alone + count.held_back >= group.desired
        gone = world.switches.success_waits == "leaving" or not count.leaving
        if last and replaced_all and enough and gone and not count.held_back:
            self._complete(refresh)
            return
        self._replace(refresh, count, limit, last)

    def _count(self, refresh: Refresh) -> _Count:
        world, group = self.world, refresh.group
        now = world.t
        protected, standby = (
            refresh.preferences["ScaleInProtectedInstances"],
            refresh.preferences["StandbyInstances"],
        )
        count = _Count()
        for host in group.hosts.values():
            state = host.state
            if state.startswith("Terminat"):
                if host.id in refresh.leaving:
                    count.leaving += 1
                    count.leaving_free += not host.actions
                continue
            old = self._to_update(refresh, host)
            if state == "Standby":
                if old and standby == "Terminate":
                    count.standby.append(host)
                elif old and standby == "Wait":
                    count.held_back += 1
                continue
            if state in SWAPPING:
                count.swapping += 1
                continue
            ready = state == "InService" and host.warm <= now and host.alive
            count.active += 1
            count.ready += ready
            if not old:
                count.new_active += 1
                count.new_ready += ready
                if host.launched >= refresh.started or host.id in refresh.done:
                    count.fresh_active += 1
                    count.fresh_ready += ready
                if not ready and count.unready is None:
                    count.unready = host
            if state in PENDING:
                count.pending += 1
            elif old and host.protected and protected == "Wait":
                count.held_back += 1
            elif old and host.protected and protected == "Ignore":
                count.left_alone += 1
            elif old:
                count.old.append(host)
        return count

    def _to_update(self, refresh: Refresh, host: Host) -> bool:
        """Whether a host is one that the refresh replaces."""
        if host.state.startswith("Terminat"):
            return False
        if host.id in refresh.done:
            return False
        if not self.matches(refresh.target, host):
            return True
        if refresh.preferences["SkipMatching"] or refresh.rollback is not None:
            return False
        return host.launched < refresh.started

    def matches(self, configuration: Configuration, host: Host) -> bool:
        """Whether a host runs what a configuration would launch now."""
        template = self.world.templates[configuration.template_id]
        number = self.world.version_number(template, configuration.version)
        if host.template_id != template.id:
            return False
        if not configuration.overrides:
            return host.version == number
        for override in configuration.overrides:
            if override.get("InstanceType") == host.instance_type:
                image = override.get("ImageId")
                return host.image == image if image else host.version == number
        return False

    def _limit(self, refresh: Refresh) -> tuple[int, bool]:
        """How many hosts to replace before the next checkpoint, and whether that is all of them."""
        checkpoints = refresh.preferences.get("CheckpointPercentages", [])
        if refresh.rollback is not None or refresh.checkpoint >= len(checkpoints):
            return refresh.total, True
        percent = checkpoints[refresh.checkpoint]
        if percent == 100:
            return refresh.total, True
        exact = refresh.total * percent / 100
        rounded = math.ceil(exact) if self.world.switches.checkpoint_rounds == "up" else max(1, math.floor(exact))
        return min(rounded, refresh.total), False

    def _pause(self, refresh: Refresh) -> None:
        world = self.world
        delay = refresh.preferences["CheckpointDelay"]
        refresh.checkpoint += 1
        refresh.paused_until = world.t + delay
        refresh.reason = ""
        world.note(f"refresh of {refresh.group.spec.name} is at its checkpoint")
        world.timeline.mark("checkpoint")
        world.at(refresh.paused_until, self._resume, refresh)

    def _resume(self, refresh: Refresh) -> None:
        if refresh.active:
            if refresh.checkpoint >= len(refresh.preferences.get("CheckpointPercentages", [])):
                refresh.reason = "The last checkpoint was reached."
            refresh.progress = self.world.t
            self.groups.touch(refresh.group)

    def _replace(self, refresh: Refresh, count: _Count, limit: int, last: bool) -> None:
        """Launch and end as many hosts as the preferences allow."""
        world, group = self.world, refresh.group
        desired = group.desired
        low = math.ceil(desired * refresh.preferences["MinHealthyPercentage"] / 100)
        high = math.floor(desired * refresh.preferences.get("MaxHealthyPercentage", 100) / 100)
        if world.switches.refresh_above_max == "no":
            high = min(high, max(group.max_size, desired))
        sent_away = len(refresh.leaving)
        if last:
            want_new = max(0, desired - count.left_alone - count.held_back - count.new_active)
            may_end = len(count.old)
        else:
            want_new = max(0, limit - count.fresh_active)
            may_end = max(0, min(len(count.old), limit - sent_away))
            if high > desired and world.switches.checkpoint_ends == "nothing":
                may_end = 0
        # RefreshPreferences.MaxHealthyPercentage: when both bounds cannot be honoured, a given maximum means launch
        # first, a maximum that was left out means end one and launch its replacement at the same time.
        impossible = low >= desired and high <= desired
        spare = count.ready - low
        end = min(may_end, max(0, spare))
        if impossible and end == 0 and count.pending == 0 and count.leaving_free == 0 and may_end:
            warming = count.unready is not None
            if refresh.max_given:
                if count.active <= desired and not warming:
                    high = desired + 1
            elif count.ready >= desired and not warming:
                end = 1
        if "Terminate" in group.suspended:
            end = 0
        for host in self._order(count.old)[:end]:
            refresh.leaving.add(host.id)
            refresh.progress = world.t
            self.groups.terminate(host, "an instance refresh replaced the instance")
        room = high - (count.active - end) - count.swapping
        if world.switches.surge_launch == "by-what-is-gone" and high > desired:
            batch = max(1, math.ceil(desired / 4))
            room = min(room, batch - (count.new_active - count.new_ready), batch - count.leaving - end)
        launch = min(want_new, max(0, room))
        for _ in self.groups.launch(group, launch, refresh.target, "an instance refresh launched a replacement"):
            refresh.progress = world.t
        if last:
            for host in count.standby:
                refresh.leaving.add(host.id)
                self.groups.terminate(host, "an instance refresh ended an instance in standby")
        if not last and launch == 0:
            self._fill(refresh, count)
        if count.held_back and not count.old and not count.pending:
            refresh.reason = "Waiting for instances that are protected from scale in or in Standby."

    def _fill(self, refresh: Refresh, count: _Count) -> None:
        """A scale-out, or a lost host, while the refresh itself launches nothing."""
        group = refresh.group
        missing = group.desired - count.active - count.swapping
        if missing > 0:
            self.groups.launch(
                group, missing, self.scale_out_configuration(group), "the group has fewer instances than desired"
            )

    def scale_out_configuration(self, group: GroupState) -> Configuration:
        refresh = group.refresh
        if refresh is not None and self.world.switches.scale_out_launches == "desired":
            return refresh.target
        return group.configuration

    def _order(self, hosts: list[Host]) -> list[Host]:
        order = self.world.switches.refresh_order
        if order == "oldest-first":
            return sorted(hosts, key=lambda host: host.launched)
        if order == "newest-first":
            return sorted(hosts, key=lambda host: -host.launched)
        return sorted(hosts, key=lambda host: (host.zone, host.launched))

    def _report(self, refresh: Refresh, progress: int, count: _Count) -> None:
        """InstanceRefresh.PercentageComplete counts what is warm, and goes back to zero during a rollback."""
        if refresh.rollback is not None:
            undone = min(count.new_ready, refresh.rolled_back_total)
            start = refresh.rollback["PercentageCompleteOnRollback"]
            share = undone / refresh.rolled_back_total if refresh.rolled_back_total else 1
            refresh.percent = int(start * (1 - share))
        else:
            percent = 100 * progress // refresh.total if refresh.total else 100
            if percent != refresh.percent:
                refresh.percent = percent
            refresh.remaining = refresh.total - progress
        if count.unready is not None:
            refresh.reason = (
                f"Waiting for instances to warm up before continuing. For example: {count.unready.id} is warming up."
            )
        elif refresh.reason.startswith("Waiting for instances to warm up"):
            refresh.reason = ""

    # -- endings --------------------------------------------------------------------------------------------------

    def _status(self, refresh: Refresh, status: str) -> None:
        refresh.before = (self.world.t, refresh.status)
        refresh.status = status
        if not refresh.active:
            refresh.ended = self.world.t
            self.world.note(f"refresh of {refresh.group.spec.name}: {status} {refresh.reason}".rstrip())
            self.world.timeline.mark(status.lower())

    def _complete(self, refresh: Refresh) -> None:
        if refresh.rollback is not None:
            refresh.percent = 0
            self._status(refresh, "RollbackSuccessful")
            self.groups.touch(refresh.group)
            return
        refresh.percent, refresh.remaining = 100, 0
        bake = refresh.preferences.get("BakeTime", 0)
        if bake:
            refresh.baked_at = self.world.t + bake
            self._status(refresh, "Baking")
            self.world.at(refresh.baked_at, self.groups.touch, refresh.group)
        else:
            self._succeed(refresh)

    def _succeed(self, refresh: Refresh) -> None:
        # StartInstanceRefresh.DesiredConfiguration: the group's settings follow once the refresh succeeds.
        refresh.group.configuration = refresh.target
        self._status(refresh, "Successful")
        self.groups.touch(refresh.group)

    def _cancelling(self, refresh: Refresh) -> None:
        if refresh.cancel_waits:
            for host in refresh.group.hosts.values():
                if host.state.startswith("Pending"):
                    return
                if host.state in SWAPPING:
                    return
                if host.state.startswith("Terminat") and (
                    host.state != "Terminating:Wait" or self.world.switches.cancel_waits_for_held == "yes"
                ):
                    return
        refresh.group.keep_excess = self.world.switches.cancelled_excess == "kept"
        self._status(refresh, "Cancelled")
        self.groups.touch(refresh.group)

    def _fail(self, refresh: Refresh, reason: str) -> None:
        refresh.reason = reason
        if refresh.rollback is not None:
            self._status(refresh, "RollbackFailed")
        elif refresh.preferences["AutoRollback"] and not self._irreversible(
            refresh.group, refresh.desired_configuration, refresh.target
        ):
            self._begin_rollback(refresh, f"Automatic rollback was initiated: {reason}")
            return
        else:
            self._status(refresh, "Failed")
        refresh.group.keep_excess = self.world.switches.cancelled_excess == "kept"
        self.groups.touch(refresh.group)

    def _alarmed(self, refresh: Refresh) -> bool:
        for name in refresh.preferences.get("AlarmSpecification", {}).get("Alarms", []):
            if self.world.alarms.get(name) == ALARMING:
                self._fail(refresh, f"CloudWatch alarm {name} is in ALARM state.")
                return True
        return False

    def _begin_rollback(self, refresh: Refresh, reason: str) -> None:
        world = self.world
        refresh.rollback = {
            "RollbackReason": reason,
            "RollbackStartTime": world.when(world.t),
            "PercentageCompleteOnRollback": refresh.percent,
            "InstancesToUpdateOnRollback": refresh.remaining,
        }
        refresh.target = refresh.saved
        refresh.paused_until = 0
        refresh.progress = world.t
        refresh.leaving, refresh.done = set(), set()
        refresh.reason = ""
        refresh.rolled_back_total = sum(1 for host in refresh.group.hosts.values() if self._to_update(refresh, host))
        world.note(f"rollback of {refresh.group.spec.name}: {reason}")
        world.timeline.mark("rollback")
        self._status(refresh, "RollbackInProgress")
        self._watch_for_stuck(refresh)
        self.groups.touch(refresh.group)

    # -- ReplaceRootVolume ----------------------------------------------------------------------------------------

    def _step_root_swap(self, refresh: Refresh) -> None:
        """Swap root volumes in place, as many at a time as the minimum allows, one at least."""
        world, group = self.world, refresh.group
        count = self._count(refresh)
        self._report(refresh, min(count.fresh_ready, refresh.total), count)
        self._fill(refresh, count)
        if world.t < refresh.paused_until:
            return
        limit, last = self._limit(refresh)
        if not last and count.fresh_ready >= limit:
            self._pause(refresh)
            return
        if (
            last
            and not count.old
            and not count.swapping
            and not count.held_back
            and count.new_ready >= min(group.desired, count.active)
        ):
            self._complete(refresh)
            return
        low = math.ceil(group.desired * refresh.preferences["MinHealthyPercentage"] / 100)
        spare = count.ready - low
        if spare <= 0 and count.swapping == 0 and count.unready is None:
            spare = 1
        allowed = spare if last else min(spare, limit - len(refresh.done) - count.swapping)
        for host in self._order(count.old)[: max(0, allowed)]:
            host.swap_to = refresh.target
            refresh.progress = world.t
            host.warm = NEVER
            if self.groups._hold(host, "autoscaling:EC2_INSTANCE_TERMINATING"):
                self.groups.set_state(host, "ReplacingRootVolume:Wait")
            else:
                self.groups.set_state(host, "ReplacingRootVolume")
                self.swap(host)

    def swap(self, host: Host) -> None:
        """The old root volume goes: whatever still runs is killed, then the host boots from the new one."""
        world = self.world
        if world.machines is not None:
            raise UsageError(
                "a machine's root volume cannot be replaced here",
                expected="the lane surge or rolling",
                found=f"the host {host.id} is to get a new root volume",
                remedy="roll this group in the model, without machines",
            )
        self.groups.set_state(host, "ReplacingRootVolume:Proceed")
        host.row_before = coverage_of(world, host)
        host.swapping = True
        world.scheduler.lose(host, rebooting=True)
        host.ssm_online = NEVER
        world.after(world.jittered(world.spec.timing.root_swap), self._swapped, host)

    def _swapped(self, host: Host) -> None:
        world, group = self.world, host.group
        if group is None or host.swap_to is None:
            return
        index = next(
            (
                number
                for number, override in enumerate(host.swap_to.overrides)
                if override.get("InstanceType") == host.instance_type
            ),
            0,
        )
        swapped_to = host.swap_to
        host.version, host.image, _ = world.launch_of(swapped_to, index)
        new = host.image not in world.old_images
        if new != host.new:
            host.new = new
            world.new_count += new
            world.old_count += not new
            host.ordinal = world.new_count if new else world.old_count
        host.swapping = False
        host.swap_to = None
        host.root_since = world.t
        # A swap that was under way when a rollback or another refresh began brings what it was begun for.
        if group.refresh is not None and group.refresh.target == swapped_to:
            group.refresh.done.add(host.id)
        self.groups.set_state(host, "RootVolumeReplaced")
        self.groups.boot(host)
        world.after(world.spec.timing.pending, self._back, host)

    def _back(self, host: Host) -> None:
        if host.state == "RootVolumeReplaced":
            self.groups._serve(host)
