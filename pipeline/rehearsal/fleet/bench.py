"""What a surge costs in the model: in, a number of hosts; out, its time over the floor and under AWS's own refresh.

All rolls are of the example fleet `twenty`, made larger or not, with the spread of its times taken away, so that the
floor is one number. Floor: canary up and proven, the rest up, the slowest task's move, the old hosts gone, the last
look; each is a parameter of the fleet file, nothing is measured. Times are the model's, so they are the same anywhere.

Native is an instance refresh of which nothing is said but the template version. What it then waits after a launch is
the group's health check grace period: 300 s where the console made the group, 0 s where the API did (Auto Scaling user
guide, health check grace period). ECS drains for it (`managedDraining`), or else it would kill every task. Whether a
refresh goes on while a hook still holds hosts that it replaced is not documented; here it does, the faster of both.

How many rolls are rehearsed in a minute is this process's own time, since a machine has others at work.
"""

import cProfile
import io
import pstats
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from pipeline.cache import say_on_stderr
from pipeline.clock import VirtualClock
from pipeline.engine import ModelEngine, model_seams
from pipeline.errors import ProofError
from pipeline.progress import duration
from pipeline.rehearsal.fleet.answers.ssm import OVERHEAD
from pipeline.rehearsal.fleet.cases import Case
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import FleetSpec, example_fleet
from pipeline.rehearsal.fleet.world import World
from pipeline.rehearse import all_cases, judge, rehearse_case
from pipeline.roll import WINDOW_SECONDS, RollRequest, roll_with
from pipeline.roll_time import GroupTimes, ServiceTimes, floor_of

SIZES: Final = (20, 200, 2000)
FLOOR_LIMIT: Final = 1.1
NATIVE_LIMIT: Final = 5.0
SPEED_LIMIT: Final = 1000
CONSOLE_GRACE: Final = 300
API_GRACE: Final = 0
ROLLS: Final = 100
POLL_SECONDS: Final = 5
SPREAD: Final = 0.1
GROUP: Final = "example"


@dataclass(frozen=True, kw_only=True)
class Roll:
    """One roll: how it was done, seconds, the floor, the least share of hosts that ECS could use, how tasks moved."""

    hosts: int
    how: str
    seconds: float
    floor: float
    ready: float
    moves: Mapping[int, int]

    @property
    def once(self) -> int:
        return self.moves.get(1, 0)

    @property
    def more(self) -> int:
        return sum(number for times, number in self.moves.items() if times > 1)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Rolls rehearsed in a minute of one core: undisturbed ones, and the mix of faults, cancels and deaths."""

    calm: float
    mixed: float


def bench_roll(sizes: Sequence[int] = SIZES, *, say: Callable[[str], None] = say_on_stderr) -> str:
    """Measure, and say so in a table. Raises ProofError, with the table, when a bound is broken."""
    rolls: list[Roll] = []
    for hosts in sizes:
        say(f"{hosts} hosts ...")
        rolls += rolls_of(hosts)
    say("rehearsals ...")
    speed = speed_of_rehearsals()
    text = report(rolls, speed)
    if broken := bounds_broken(rolls, speed):
        if speed.calm < SPEED_LIMIT:
            text += "\n\nwhere the time of a rehearsal goes:\n" + profile()
        raise ProofError(
            f"{text}\n\na bound is broken",
            expected=f"a surge within {FLOOR_LIMIT} of the floor and {NATIVE_LIMIT:g} times shorter than the native "
            f"refresh, each task moved once, {SPEED_LIMIT:,} rehearsals a minute",
            found="; ".join(broken),
        )
    return text


def rolls_of(hosts: int) -> list[Roll]:
    """The fleet of that size, rolled in each way."""
    return [
        surge(fleet(hosts), "surge"),
        surge(fleet(hosts, spread=SPREAD), f"surge, times spread by {SPREAD:.0%}"),
        surge(fleet(hosts, managed=True), "surge, ECS drains"),
        native(fleet(hosts, managed=True), "native, group of the console"),
        native(fleet(hosts, managed=True, grace=API_GRACE), "native, group of the API"),
    ]


def fleet(hosts: int, *, managed: bool = False, grace: int = CONSOLE_GRACE, spread: float = 0) -> FleetSpec:
    """The example fleet with so many hosts and as many tasks on each; `managed`: a capacity provider drains hosts."""
    given: dict[str, Any] = example_fleet("twenty").model_dump()
    [group] = given["groups"]
    more = hosts / group["desired"]
    group.update(min_size=hosts, desired=hosts, max_size=2 * hosts, health_check_grace=grace, default_warmup=None)
    for service in given["services"]:
        service["desired"] = round(service["desired"] * more)
    given["clusters"][0]["managed_draining"] = managed
    given["timing"]["jitter"] = spread
    given["vcpu_quota"] = 2 * hosts * max(kind["vcpus"] for kind in given["instance_types"].values())
    return FleetSpec.model_validate(given)


def floor_in_model(spec: FleetSpec) -> float:
    """What no roll of the fleet that has a canary can be faster than, from the fleet file alone."""
    timing = spec.timing
    return floor_of(
        GroupTimes(
            hosts=spec.groups[0].desired,
            canary=1,
            boot=timing.registering,
            check=WINDOW_SECONDS + OVERHEAD,
            covered=timing.pending + timing.coverage,
            gone=timing.terminate,
        ),
        [
            ServiceTimes(
                name=service.name,
                start=service.task.start,
                health=balancer.health_interval * balancer.healthy_threshold if balancer else 0,
                deregistration=balancer.deregistration_delay if balancer else 0,
                stop=min(service.task.stop_timeout, service.task.stop or service.task.stop_timeout),
            )
            for service in spec.services
            for balancer in [service.load_balancer]
        ],
    )


def surge(spec: FleetSpec, how: str) -> Roll:
    """Roll the fleet with our documents. Raises what `roll_with` raises."""
    world = World(spec, VirtualClock())
    _, ended = roll_with(ModelEngine(model_seams(world)), RollRequest(group=GROUP), dry_run=False, say=lambda _: None)
    assert ended is not None  # noqa: S101 - there is something to roll
    return _roll(world, how, ended.seconds)


def native(spec: FleetSpec, how: str) -> Roll:
    """Refresh the group as AWS does it by itself. Raises ProofError when the refresh does not succeed."""
    clock = VirtualClock()
    world = World(spec, clock)
    session = fleet_session(world)
    scaling = session.client("autoscaling")
    [image] = world.parameters.values()
    template = spec.templates[0].id
    made = session.client("ec2").create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": image}
    )
    version = str(made["LaunchTemplateVersion"]["VersionNumber"])
    scaling.start_instance_refresh(
        AutoScalingGroupName=GROUP,
        DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateId": template, "Version": version}},
    )
    while True:
        [refresh] = scaling.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"]
        if refresh["Status"] not in ("Pending", "InProgress"):
            break
        clock.sleep(POLL_SECONDS)
    if refresh["Status"] != "Successful":
        raise ProofError(f"the native refresh of {len(world.hosts)} hosts is {refresh['Status']}")
    return _roll(world, how, (clock.now() - world.began).total_seconds())


def _roll(world: World, how: str, seconds: float) -> Roll:
    group = world.groups.all[GROUP]
    return Roll(
        hosts=world.spec.groups[0].desired,
        how=how,
        seconds=seconds,
        floor=floor_in_model(world.spec),
        ready=min(group.lowest_ready[0], 1),
        moves=world.watch.moves(),
    )


def speed_of_rehearsals() -> Speed:
    """Rehearse the example fleet again and again, what is made once made before."""
    calm = Case(fleet="twenty")
    cases = [str(case) for case in all_cases("twenty", thorough=True)]
    spread = cases[:: max(1, len(cases) // ROLLS)]
    return Speed(
        calm=_a_minute(lambda: rehearse_case(calm), ROLLS),
        mixed=_a_minute(lambda: [judge(case) for case in spread], 1) * len(spread),
    )


def _a_minute(what: Callable[[], Any], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        what()
    return times / (time.process_time() - began) * 60


def profile() -> str:
    """The functions in which an undisturbed rehearsal spends its time."""
    profiler = cProfile.Profile()
    for _ in range(ROLLS // 5):
        profiler.runcall(rehearse_case, Case(fleet="twenty"))
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(12)
    return text.getvalue().strip()


def bounds_broken(rolls: Sequence[Roll], speed: Speed) -> list[str]:
    """Each bound that does not hold, in words."""
    broken = []
    for hosts, ways in _by_size(rolls).items():
        ours, theirs = ways["surge"], ways["native, group of the console"]
        if ours.seconds > FLOOR_LIMIT * ours.floor:
            broken.append(f"{hosts} hosts: {ours.seconds / ours.floor:.2f} times the floor")
        if theirs.seconds < NATIVE_LIMIT * ours.seconds:
            broken.append(f"{hosts} hosts: the native refresh takes {theirs.seconds / ours.seconds:.1f} times as long")
        if ours.more:
            broken.append(f"{hosts} hosts: {ours.more} tasks moved more than once")
    if speed.calm < SPEED_LIMIT:
        broken.append(f"{speed.calm:,.0f} rehearsals a minute")
    return broken


def report(rolls: Sequence[Roll], speed: Speed) -> str:
    """The figures as a table, a line for each roll."""
    table = Table(box=None, pad_edge=False)
    for title in ("hosts", "how", "time", "over floor", "over surge", "ready", "moved once", "more"):
        table.add_column(title, justify="left" if title == "how" else "right")
    for hosts, ways in _by_size(rolls).items():
        ours = ways["surge"]
        for roll in ways.values():
            table.add_row(
                f"{hosts:,}",
                roll.how,
                duration(roll.seconds),
                f"{roll.seconds / roll.floor:.2f}",
                f"{roll.seconds / ours.seconds:.2f}",
                f"{roll.ready:.0%}",
                f"{roll.once:,}",
                f"{roll.more:,}",
            )
    console = Console(width=118, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(
        [
            capture.get().rstrip(),
            f"floor {duration(rolls[0].floor)}, from the fleet file; bounds: surge at most {FLOOR_LIMIT} of the floor, "
            f"the console's native refresh at least {NATIVE_LIMIT:g} of the surge, no task moved more than once",
            "ready: the least share of hosts that ECS could place tasks on; the refresh of a group of the API does not "
            "wait for that",
            f"rehearsals of 20 hosts in a minute of one core: {speed.calm:,.0f} undisturbed (at least {SPEED_LIMIT:,}),"
            f" {speed.mixed:,.0f} with faults, cancels and deaths",
        ]
    )


def _by_size(rolls: Sequence[Roll]) -> dict[int, dict[str, Roll]]:
    sizes: dict[int, dict[str, Roll]] = {}
    for roll in rolls:
        sizes.setdefault(roll.hosts, {})[roll.how] = roll
    return sizes
