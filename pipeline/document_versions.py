"""Old versions of our SSM documents: in, the versions of each and who refers to them; out, which go, and why.

Each publishing makes a version, and SSM stops taking new ones at a thousand. The decision is pure. Kept are the
default version, the newest, and any that something refers to: an execution or a command that has not ended, a State
Manager association, an account that the version is shared with. A question that is not answered keeps them all.

Sources: Systems Manager API reference (ListDocumentVersions, DescribeDocumentPermission, DescribeAutomationExecutions,
ListCommands, ListAssociations, DeleteDocument) and "AWS Systems Manager endpoints and quotas" for the thousand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import boto3

from pipeline.aws_errors import AWS_FAILURES, aws_errors
from pipeline.errors import CloudError

_ENDED: Final = frozenset(
    {
        *("Success", "TimedOut", "Cancelled", "Failed", "Rejected", "Exited"),
        *("CompletedWithSuccess", "CompletedWithFailure", "ChangeCalendarOverrideRejected"),
    }
)
"""A status that is none of these counts as under way, also one that SSM has yet to invent."""

ANY_VERSION: Final = "all"
"""How SSM writes that an account may use every version."""

Use = tuple[str, str]
"""A version as SSM writes it (a number, `$DEFAULT`, `$LATEST`, or `all`), and in words who refers to it."""


@dataclass(frozen=True, kw_only=True)
class DocumentVersion:
    """One version of a document. `default` is the one that an execution without a version gets."""

    number: int
    created: datetime
    default: bool = False


@dataclass(frozen=True, kw_only=True)
class View:
    """One document as it was seen. `uses` are reasons by version, `blind` the questions that were not answered."""

    name: str
    versions: tuple[DocumentVersion, ...]
    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blind: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of one version, and why. `beyond` means: not among the newest that are kept in any case."""

    name: str
    number: int
    goes: bool
    beyond: bool
    reason: str

    def __str__(self) -> str:
        return f"{'remove' if self.goes else 'keep'} version {self.number} of {self.name}: {self.reason}"


def decide(view: View, keep_newest: int) -> tuple[Verdict, ...]:
    """A verdict for each version, the newest first."""
    ordered = sorted(view.versions, key=lambda one: one.number, reverse=True)
    return tuple(_verdict(view, one, rank, ordered, keep_newest) for rank, one in enumerate(ordered))


def _verdict(
    view: View, one: DocumentVersion, rank: int, ordered: Sequence[DocumentVersion], keep_newest: int
) -> Verdict:
    reasons = [f"who refers to it cannot be seen: {question}" for question in view.blind]
    if one.default:
        reasons.append("it is the default version")
    if rank < keep_newest:
        reasons.append(f"one of the newest {keep_newest}")
    aliases = [str(one.number), ANY_VERSION]
    aliases += ["$DEFAULT"] if one.default else []
    aliases += ["$LATEST"] if rank == 0 else []
    reasons += [use for alias in aliases for use in view.uses.get(alias, ())]
    if not any(other.default for other in ordered):
        reasons.append("which version is the default one was not said")
    if reasons:
        return Verdict(
            name=view.name, number=one.number, goes=False, beyond=rank >= keep_newest, reason="; ".join(reasons)
        )
    return Verdict(
        name=view.name,
        number=one.number,
        goes=True,
        beyond=True,
        reason=f"{rank} versions are newer, nothing refers to it, made {one.created:%Y-%m-%d}",
    )


def view_of(session: boto3.Session, name: str) -> View | None:
    """A document in the session's region, None where there is none. Raises CloudError when that cannot be told."""
    ssm: Any = session.client("ssm")
    with aws_errors(
        f"the versions of the document {name} could not be listed, so none was removed",
        where=f"SSM in {session.region_name}",
        remedy="allow ssm:DescribeDocument and ssm:ListDocumentVersions on document/Ovenproof-*",
    ):
        try:
            ssm.describe_document(Name=name)
        except ssm.exceptions.InvalidDocument:
            return None
        pages = ssm.get_paginator("list_document_versions").paginate(Name=name)
        versions = tuple(
            DocumentVersion(
                number=int(one["DocumentVersion"]), created=one["CreatedDate"], default=one["IsDefaultVersion"]
            )
            for one in pages.search("DocumentVersions[]")
            if one["Status"] != "Deleting"
        )
    uses: dict[str, list[str]] = {}
    blind: list[str] = []
    for what, ask in _QUESTIONS.items():
        try:
            for version, use in ask(ssm, name):
                uses.setdefault(version, []).append(use)
        except AWS_FAILURES as error:
            blind.append(f"{what}: {error}")
    return View(
        name=name, versions=versions, uses={key: tuple(found) for key, found in uses.items()}, blind=tuple(blind)
    )


def _executions(ssm: Any, name: str) -> Iterator[Use]:
    filters = [{"Key": "DocumentNamePrefix", "Values": [name]}]
    pages = ssm.get_paginator("describe_automation_executions").paginate(Filters=filters)
    for one in pages.search("AutomationExecutionMetadataList[]"):
        if one and one["DocumentName"] == name and one["AutomationExecutionStatus"] not in _ENDED:
            words = f"execution {one['AutomationExecutionId']} is {one['AutomationExecutionStatus']}"
            yield one.get("DocumentVersion", ANY_VERSION), words


def _commands(ssm: Any, name: str) -> Iterator[Use]:
    pages = ssm.get_paginator("list_commands").paginate(Filters=[{"key": "DocumentName", "value": name}])
    for one in pages.search("Commands[]"):
        if one and one["Status"] not in _ENDED:
            yield one.get("DocumentVersion", ANY_VERSION), f"command {one['CommandId']} is {one['Status']}"


def _associations(ssm: Any, name: str) -> Iterator[Use]:
    filters = [{"key": "Name", "value": name}]
    for one in ssm.get_paginator("list_associations").paginate(AssociationFilterList=filters).search("Associations[]"):
        if one:
            yield one.get("DocumentVersion", "$DEFAULT"), f"association {one['AssociationId']} applies it"


def _shares(ssm: Any, name: str) -> Iterator[Use]:
    shared = ssm.describe_document_permission(Name=name, PermissionType="Share")
    accounts = dict.fromkeys(shared.get("AccountIds", []), ANY_VERSION)
    accounts |= {
        one["AccountId"]: one.get("SharedDocumentVersion", ANY_VERSION)
        for one in shared.get("AccountSharingInfoList", [])
    }
    for account, version in accounts.items():
        yield version, f"shared with {account}, whose use cannot be seen from here"


_QUESTIONS: Final[Mapping[str, Callable[[Any, str], Iterator[Use]]]] = {
    "executions": _executions,
    "commands": _commands,
    "associations": _associations,
    "shares": _shares,
}


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What came of a version that was to go: `kept` is why it was let be after all, `error` why it resists."""

    verdict: Verdict
    kept: str = ""
    error: str = ""


def carry_out(
    session: boto3.Session, verdicts: Sequence[Verdict], keep_newest: int, *, say: Callable[[str], None]
) -> list[Removed]:
    """Remove the versions that go; each document is looked at once more first. One that resists stops no other."""
    done = []
    for name in dict.fromkeys(verdict.name for verdict in verdicts if verdict.goes):
        mine = [verdict for verdict in verdicts if verdict.name == name and verdict.goes]
        try:
            view = view_of(session, name)
        except CloudError as error:
            done += [Removed(verdict=verdict, kept=f"it cannot be seen any more: {error.found}") for verdict in mine]
            continue
        now = {one.number: one for one in decide(view, keep_newest)} if view else {}
        for verdict in mine:
            done.append(_removed(session, verdict, now.get(verdict.number)))
    for one in done:
        say(_told(one))
    return done


def _removed(session: boto3.Session, verdict: Verdict, now: Verdict | None) -> Removed:
    if now is None:
        return Removed(verdict=verdict, kept="it is gone already")
    if not now.goes:
        return Removed(verdict=verdict, kept=now.reason)
    try:
        session.client("ssm").delete_document(Name=verdict.name, DocumentVersion=str(verdict.number))
    except AWS_FAILURES as error:
        return Removed(verdict=verdict, error=str(error))
    return Removed(verdict=verdict)


def _told(removed: Removed) -> str:
    what = f"version {removed.verdict.number} of {removed.verdict.name}"
    if removed.error:
        return f"could not remove {what}: {removed.error}"
    return f"kept {what}: {removed.kept}" if removed.kept else f"removed {what}: {removed.verdict.reason}"
