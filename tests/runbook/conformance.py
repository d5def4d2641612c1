"""The table of rules in `pipeline/runbook/CONFORMANCE.md`, made from the suite itself.

`python -m tests.runbook.conformance` writes it anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from pipeline import paths

TABLE: Final = paths.CHECKOUT / "pipeline" / "runbook" / "CONFORMANCE.md"
Standing = Literal["documented", "open"]

HEAD: Final = """\
# What the executor does, and where it is written

Made from `tests/runbook/test_conformance.py` by `python -m tests.runbook.conformance`; a test keeps it so. Nothing
of it was run against AWS.

Sources: `UG page` is a page of the Systems Manager User Guide, `MODEL shape` a constraint in botocore's service model
of ssm, `cdk-preflight` a published rule set that quotes the service's refusals.
"""
OPEN: Final = """
## Left open by AWS's documentation, decided here

The executor takes the reading that is harder on a document where there is one.
"""
NOT_COVERED: Final = """
## Not covered

| what | instead |
| --- | --- |
| createStack, deleteStack, executeStateMachine, invokeWebhook | known; reaching one is an error that names it |
| PowerShell scripts, zipped attachments | the same |
| IAM: the assume role and its permissions | every call is made with the session's own rights |
| the account's retry of throttled calls | off, as it is by default |
| AlarmConfiguration | an alarm cancels an execution: the seam `interrupt` plays it |
| concurrency of executions, queues, quotas, prices | children of a batch run one after the other on one clock |
| allowedPattern in Java's dialect | read by Python's `re`; common Java classes are translated, others refused |
| memory and packages of the scripts' runtime | this machine's Python with what is installed here |
| change calendars, CloudWatch output, S3 output | inputs are accepted and have no effect |
"""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One line of the table."""

    area: str
    text: str
    source: str
    standing: Standing
    test: str


RULES: list[Rule] = []
Body = TypeVar("Body", bound=Callable[..., Any])


def rule(area: str, text: str, source: str) -> Callable[[Body], Body]:
    """The test shows a rule that AWS documents."""
    return _register(area, text, source, "documented")


def decided(area: str, text: str, why: str) -> Callable[[Body], Body]:
    """The test shows what is done where AWS documents nothing, and why."""
    return _register(area, text, why, "open")


def _register(area: str, text: str, source: str, standing: Standing) -> Callable[[Body], Body]:
    def register(body: Body) -> Body:
        RULES.append(Rule(area=area, text=text, source=source, standing=standing, test=body.__name__))
        return body

    return register


def rendered() -> str:
    """The whole file."""
    documented = [one for one in RULES if one.standing == "documented"]
    left_open = [one for one in RULES if one.standing == "open"]
    parts = [HEAD, f"\n## Documented: {len(documented)} rules\n"]
    for area in dict.fromkeys(one.area for one in documented):
        parts.append(f"\n### {area}\n\n| rule | source | test |\n| --- | --- | --- |\n")
        parts += [_row(one) for one in documented if one.area == area]
    parts.append(OPEN + "\n| area | reading | why | test |\n| --- | --- | --- | --- |\n")
    parts += [f"| {one.area} {_row(one)}" for one in left_open]
    return "".join(parts) + NOT_COVERED


def _row(one: Rule) -> str:
    return f"| {one.text} | {one.source} | `{one.test}` |\n"


if __name__ == "__main__":
    from tests.runbook import test_conformance  # noqa: F401 - registers the rules
    from tests.runbook.conformance import rendered as complete

    TABLE.write_text(complete(), encoding="utf-8")
