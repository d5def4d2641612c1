"""What the agent runs on, as data: in, versions and names that were seen; out, whether AWS supports them."""

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.yaml_file import StrictModel, load_yaml

Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]
Line = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]


class Memlock(StrictModel):
    kernels_up_to: Line
    kib: int


class VerifiedOs(StrictModel):
    os: str
    kernels: tuple[Line, ...]


class AgentRelease(StrictModel):
    version: Version
    adds: Annotated[tuple[Line, ...], Field(min_length=1)]


class Ecs(StrictModel):
    oldest_agent: Version
    oldest_image: Annotated[str, StringConstraints(pattern=r"^\d{8}$")]
    oldest_guardduty_agent: Version


class Bottlerocket(StrictModel):
    oldest: Version


class Fargate(StrictModel):
    oldest_platform: Version


class Support(StrictModel):
    """The whole of `support.yaml`."""

    oldest_kernel: Line
    memlock: Memlock
    verified: tuple[VerifiedOs, ...]
    agents: tuple[AgentRelease, ...]
    ecs: Ecs
    bottlerocket: Bottlerocket
    link_local_from: Version
    fargate: Fargate


@cache
def support() -> Support:
    """The file. Raises CatalogError when it is wrong."""
    return load_yaml(Path(__file__).with_name("support.yaml"), Support)


def version(text: str) -> tuple[int, ...] | None:
    """The numbers at the start of a version, `None` when there are none: `v1.62.1-x` is (1, 62, 1)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else None


def kernel_line(release: str) -> tuple[int, int] | None:
    """(5, 10) of `5.10.245-245.983.amzn2.x86_64`."""
    numbers = version(release)
    return (numbers[0], numbers[1]) if numbers and len(numbers) >= 2 else None


def kernel_support(release: str, os: str) -> Literal["verified", "below", "above", "unverified"] | None:
    """Whether the agent runs on the kernel, and whether AWS verified it for the operating system; None: unreadable."""
    line = kernel_line(release)
    if line is None:
        return None
    if line < _pair(support().oldest_kernel):
        return "below"
    if line > _newest_kernel():
        return "above"
    lines = _verified_lines(os)
    return "verified" if lines and line in lines else "unverified"


def os_support(os: str) -> Literal["verified", "unverified"] | None:
    """Whether AWS's list has the operating system; None without a name."""
    if not os.strip():
        return None
    return "verified" if _verified_lines(os) is not None else "unverified"


def agent_reason(agent: str, release: str, *, on_ecs: bool) -> str:
    """Why the agent is too old for its host, or nothing."""
    numbers, line = version(agent), kernel_line(release)
    if numbers is None:
        return ""
    oldest = support().ecs.oldest_guardduty_agent
    if on_ecs and numbers < _numbers(oldest):
        return f"ECS images launched after 2024-01-31 need {oldest}"
    for row in support().agents:
        if line in {_pair(kernel) for kernel in row.adds} and numbers < _numbers(row.version):
            return f"kernel {line[0]}.{line[1]} needs {row.version}"
    return ""


def memlock_matters(release: str) -> bool:
    """Whether this kernel charges eBPF to RLIMIT_MEMLOCK."""
    line = kernel_line(release)
    return line is not None and line <= _pair(support().memlock.kernels_up_to)


def at_least(found: str, oldest: str) -> bool | None:
    """Whether a version is new enough; None when it is unreadable."""
    numbers = version(found)
    return None if numbers is None else numbers >= _numbers(oldest)


def image_date(name: str) -> str:
    """The date in an ECS-optimized image's name, as `20230929`; nothing for other images."""
    found = re.search(r"-ecs-.*?(20\d{6})", name)
    return found[1] if found else ""


def _newest_kernel() -> tuple[int, int]:
    return max(_pair(kernel) for row in support().agents for kernel in row.adds)


@cache
def _verified_lines(os: str) -> frozenset[tuple[int, int]] | None:
    lowered = " ".join(os.lower().replace(" gnu/linux", "").split())
    for row in support().verified:
        if re.match(rf"{re.escape(row.os)}(?![0-9])(?:\.|\s|$)", lowered + " "):
            return frozenset(_pair(line) for line in row.kernels)
    return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _pair(line: str) -> tuple[int, int]:
    major, minor = _numbers(line)
    return major, minor
