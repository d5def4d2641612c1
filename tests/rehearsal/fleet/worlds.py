"""What the tests of the fleet model share: a clock that jumps, and a world with the clients of its session."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import FLEETS, FleetSpec, example_fleet
from pipeline.rehearsal.fleet.switches import Switches
from pipeline.rehearsal.fleet.world import World

NEW_IMAGE = "ami-00000000000000b2e"
OLD_IMAGE = "ami-00000000000000a1d"
TEMPLATE = "lt-00000000000000001"
HOOK = "ovenproof-drain"


class Jumping:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 23, 12, 0, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Fleet:
    """A world of an example fleet; every answer is held against botocore's output shapes."""

    def __init__(
        self,
        spec: FleetSpec | str = "twenty",
        *,
        seed: int = 0,
        switches: Switches | None = None,
        faults: Sequence[Fault] = (),
        check_answers: bool = True,
        **changes: Any,
    ) -> None:
        self.spec = example_fleet(spec) if isinstance(spec, str) else spec
        if changes:
            self.spec = self.spec.model_copy(update=changes)
        self.clock = Jumping()
        self.world = World(self.spec, self.clock, seed=seed, switches=switches or Switches(), faults=faults)
        self.session = fleet_session(self.world, check_answers=check_answers)
        self.name = self.spec.groups[0].name

    def __getattr__(self, service: str) -> Any:
        return self.session.client(service.replace("_", "-"))  # type: ignore[call-overload]

    # -- what tests do over and over ------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.world.advance_to(self.clock.now())

    def new_version(self, **data: Any) -> str:
        """A template version with the new image; its number."""
        answer = self.ec2.create_launch_template_version(
            LaunchTemplateId=TEMPLATE, SourceVersion="1", LaunchTemplateData={"ImageId": NEW_IMAGE, **data}
        )
        return str(answer["LaunchTemplateVersion"]["VersionNumber"])

    def refresh(self, version: str = "2", **preferences: Any) -> str:
        """Start a refresh to a template version."""
        answer = self.autoscaling.start_instance_refresh(
            AutoScalingGroupName=self.name,
            DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateId": TEMPLATE, "Version": version}},
            Preferences=preferences,
        )
        return str(answer["InstanceRefreshId"])

    def surge(self, **preferences: Any) -> str:
        """A new version and a refresh to it that launches before it ends."""
        return self.refresh(
            self.new_version(),
            **{"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200, "SkipMatching": True, **preferences},
        )

    def last_refresh(self) -> dict[str, Any]:
        found: dict[str, Any] = self.autoscaling.describe_instance_refreshes(AutoScalingGroupName=self.name)[
            "InstanceRefreshes"
        ][0]
        return found

    def status(self) -> str:
        return str(self.last_refresh()["Status"])

    def until(self, *statuses: str, within: float = 7200, step: float = 5) -> float:
        """Let time pass until the last refresh has one of some statuses; how long that took."""
        start = self.clock.seconds
        while self.status() not in statuses:
            if self.clock.seconds - start > within:
                raise AssertionError(f"still {self.last_refresh()} after {within} s")
            self.wait(step)
        return self.clock.seconds - start

    def group(self) -> dict[str, Any]:
        found: dict[str, Any] = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])[
            "AutoScalingGroups"
        ][0]
        return found

    def states(self) -> dict[str, int]:
        """How many hosts of the group are in which life-cycle state."""
        counts: dict[str, int] = {}
        for instance in self.group()["Instances"]:
            counts[instance["LifecycleState"]] = counts.get(instance["LifecycleState"], 0) + 1
        return counts

    def images(self) -> set[str]:
        return {host.image for host in self.world.groups.all[self.name].hosts.values()}

    def hook(self, transition: str = "TERMINATING", **given: Any) -> None:
        self.autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=self.name,
            LifecycleHookName=HOOK,
            LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}",
            **{"HeartbeatTimeout": 7200, "DefaultResult": "CONTINUE", **given},
        )

    def complete(self, host: str, result: str = "CONTINUE") -> None:
        self.autoscaling.complete_lifecycle_action(
            AutoScalingGroupName=self.name, LifecycleHookName=HOOK, InstanceId=host, LifecycleActionResult=result
        )

    def held(self) -> list[str]:
        return [one["InstanceId"] for one in self.group()["Instances"] if one["LifecycleState"].endswith(":Wait")]

    def containers(self, *hosts: str) -> list[str]:
        """ARNs of the container instances of some hosts."""
        return [self.world.hosts[host].container.arn for host in hosts]  # type: ignore[union-attr]

    def drain(self, *hosts: str, status: str = "DRAINING") -> None:
        arns = self.containers(*hosts)
        for start in range(0, len(arns), 10):
            self.ecs.update_container_instances_state(
                cluster="example", containerInstances=arns[start : start + 10], status=status
            )

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ecs.describe_services(cluster="example", services=[name])["services"][0]
        return found


GPU_TASKS = "desired: 2\n    minimum_healthy_percent: 50"
GPU_HOSTS = ("min_size: 3\n    max_size: 3\n    desired: 3", "min_size: 16\n    max_size: 16\n    desired: 16")
GPU_QUOTA = ("vcpu_quota: 12", "vcpu_quota: 64")
GPU_CAUTIOUS = ("minimum_healthy_percent: 50", "minimum_healthy_percent: 100")


def like_gpu(folder: Path, *changes: tuple[str, str]) -> str:
    """A fleet file: the example `gpu` with some of its text changed."""
    text = (FLEETS / "gpu.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    file = folder / "own.yaml"
    file.write_text(text, encoding="utf-8")
    return str(file)
