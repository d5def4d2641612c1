"""What can go wrong in a rehearsal, as values: the world asks them, they do nothing by themselves."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "insufficient-capacity",  # EC2 has no room for the instance type
    "drain-stuck",  # a task on the host never ends, whatever is asked of it
    "task-will-not-start",  # tasks stop right after their start
    "agent-never-connects",  # the host runs, its ECS agent does not register
    "ssm-never-online",  # the host runs, its SSM agent does not report
    "wrong-kernel",  # ovenproof-check finds a kernel below the supported ones
    "unit-failed",  # GuardDuty's unit has failed
    "unit-flapping",  # GuardDuty's unit restarts again and again
    "coverage-unhealthy",  # GuardDuty lists the host with an issue
    "coverage-absent",  # GuardDuty never lists the host
    "coverage-late",  # GuardDuty lists the host `seconds` later than usual
    "throttling",  # calls of `operation` are refused with ThrottlingException
    "api-error",  # calls of `operation` are refused with `code`
    "answer-lost",  # calls of `operation` are carried out, and the caller hears of an error
    "alarm-fires",  # the alarm `name` goes to ALARM
    "spot-interruption",  # `count` hosts are taken away
    "scale-out-mid-way",  # desired capacity grows by `count`
    "deploy-mid-way",  # service `name` (or each of them) gets a new task definition
    "template-edited",  # someone adds a template version and makes it the default
]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    image       hosts of which image are meant
    first       only the first so many hosts of that image, in order of their launch; none: all
    after       seconds from the start of the world; hosts launched or calls made earlier are spared
    until       seconds; from then on it is over
    operation   `service.Operation`, for throttling, api-error and answer-lost; "" means every operation
    on_call     from which call of that operation on, counted from 1
    times       how many calls; none: always
    code        the error code that the call is refused with
    name        alarm or service; "" means the first alarm, or every service
    group       the Auto Scaling group; "" means the first
    count       hosts
    seconds     delay of coverage-late
    """

    kind: Kind
    image: Literal["new", "old", "any"] = "new"
    first: int | None = None
    after: float = 0
    until: float | None = None
    operation: str = ""
    on_call: int = 1
    times: int | None = 1
    code: str = "InternalFailure"
    name: str = ""
    group: str = ""
    count: int = 1
    seconds: float = 1800

    def __str__(self) -> str:
        parts: list[str] = [self.kind]
        if self.kind in ("throttling", "api-error", "answer-lost"):
            parts.append(self.operation or "every operation")
            if self.on_call > 1:
                parts.append(f"from call {self.on_call}")
            parts.append("always" if self.times is None else f"{self.times}x")
            if self.kind == "api-error":
                parts.append(self.code)
        elif self.first is not None:
            parts.append(f"first {self.first} {self.image}")
        if self.after:
            parts.append(f"after {self.after:g} s")
        return " ".join(parts)

    def covers_time(self, now: float) -> bool:
        return now >= self.after and (self.until is None or now < self.until)

    def covers_host(self, *, is_new: bool, ordinal: int, now: float) -> bool:
        """Whether it strikes a host: of the new image or not, the `ordinal`-th of its kind, from 1."""
        if self.image != "any" and (self.image == "new") != is_new:
            return False
        return self.covers_time(now) and (self.first is None or ordinal <= self.first)
