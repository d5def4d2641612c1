"""Which versions of our documents a sweep removes: never the default, never one that somebody refers to or may."""

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import boto3
import pytest

from pipeline import document_versions, flow, sweep
from pipeline.document_versions import ANY_VERSION, DocumentVersion, View, carry_out, decide, view_of
from pipeline.documents import document_names
from pipeline.errors import CloudError, OvenproofError
from pipeline.rehearsal.answered_session import Call, Refused, answered_session, not_modelled
from tests.doubles import START

NAME = document_names()[0]
KEEP = 3
EXECUTION = "11112222-3333-4444-5555-666677778888"


def view(newest: int = 8, default: int = 8, **more: Any) -> View:
    versions = tuple(
        DocumentVersion(number=number, created=START - timedelta(days=100 - number), default=number == default)
        for number in range(1, newest + 1)
    )
    return View(name=NAME, versions=versions, **more)


def going(seen: View) -> list[int]:
    return [one.number for one in decide(seen, KEEP) if one.goes]


def test_the_newest_and_the_default_stay_and_the_rest_goes() -> None:
    assert going(view()) == [5, 4, 3, 2, 1]
    assert going(view(default=2)) == [5, 4, 3, 1]
    assert going(view(newest=3, default=3)) == []


@pytest.mark.parametrize(
    ("version", "kept"),
    [("4", [4]), ("$DEFAULT", []), ("$LATEST", []), (ANY_VERSION, [5, 4, 3, 2, 1])],
)
def test_what_somebody_refers_to_stays(version: str, kept: list[int]) -> None:
    seen = view(uses={version: ("association a-1 applies it",)})
    assert going(seen) == [number for number in (5, 4, 3, 2, 1) if number not in kept]


def test_an_old_default_is_what_an_association_of_the_default_applies() -> None:
    verdicts = decide(view(default=2, uses={"$DEFAULT": ("association a-1 applies it",)}), KEEP)
    assert [str(one) for one in verdicts if one.number == 2] == [
        f"keep version 2 of {NAME}: it is the default version; association a-1 applies it"
    ]


def test_a_question_without_an_answer_keeps_all() -> None:
    seen = view(blind=("executions: AccessDenied",))
    assert going(seen) == []
    assert decide(seen, KEEP)[-1].reason == "who refers to it cannot be seen: executions: AccessDenied"


def test_without_a_default_nothing_goes() -> None:
    assert going(view(default=99)) == []


@pytest.mark.parametrize("seed", range(200))
def test_in_no_world_goes_what_is_default_new_or_referred_to(seed: int) -> None:
    pick = random.Random(seed)  # noqa: S311
    newest = pick.randint(1, 30)
    used = {str(number) for number in range(1, newest + 1) if pick.random() < 0.3}
    seen = view(newest=newest, default=pick.randint(1, newest), uses=dict.fromkeys(used, ("x",)))
    keep = pick.randint(1, 6)
    verdicts = decide(seen, keep)
    for one in verdicts:
        must_stay = (
            str(one.number) in used
            or one.number > newest - keep
            or next(v.default for v in seen.versions if v.number == one.number)
        )
        assert one.goes != must_stay
        assert one.reason


class Documents:
    """An account's SSM with one document of ours, and who refers to it."""

    def __init__(self, newest: int = 8, default: int = 8) -> None:
        self.versions = {number: number == default for number in range(1, newest + 1)}
        self.executions: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []
        self.associations: list[dict[str, Any]] = []
        self.sharing: list[dict[str, Any]] = []
        self.refuses: dict[str, str] = {}
        self.calls: list[str] = []

    def session(self) -> boto3.Session:
        return answered_session(self._answer, region="eu-central-1", check_answers=True)

    def _answer(self, call: Call) -> Mapping[str, Any]:
        self.calls.append(call.operation)
        if code := self.refuses.get(call.operation):
            raise Refused(code, "no")
        if call.parameters.get("Name", NAME) != NAME:
            raise Refused("InvalidDocument", "no such document")
        match call.operation:
            case "DescribeDocument":
                return {"Document": {"Name": NAME}}
            case "ListDocumentVersions":
                return {
                    "DocumentVersions": [
                        {
                            "Name": NAME,
                            "DocumentVersion": str(number),
                            "CreatedDate": START,
                            "IsDefaultVersion": default,
                            "Status": "Active",
                        }
                        for number, default in self.versions.items()
                    ]
                }
            case "DescribeAutomationExecutions":
                return {"AutomationExecutionMetadataList": self.executions}
            case "ListCommands":
                return {"Commands": self.commands}
            case "ListAssociations":
                return {"Associations": self.associations}
            case "DescribeDocumentPermission":
                return {"AccountIds": [], "AccountSharingInfoList": self.sharing}
            case "DeleteDocument":
                number = int(call.parameters["DocumentVersion"])
                if self.versions[number]:
                    raise Refused("InvalidDocumentOperation", "Default version of the document can't be deleted.")
                del self.versions[number]
                return {}
        raise not_modelled(call)


def seen(documents: Documents) -> View:
    found = view_of(documents.session(), NAME)
    assert found
    return found


def execution(version: str, status: str) -> dict[str, Any]:
    return {
        "AutomationExecutionId": EXECUTION,
        "DocumentName": NAME,
        "DocumentVersion": version,
        "AutomationExecutionStatus": status,
    }


def test_who_refers_to_a_version_is_asked_of_ssm() -> None:
    documents = Documents()
    documents.executions = [execution("1", "Waiting"), execution("2", "Success"), execution("5", "SomethingNew")]
    documents.executions.append({**execution("2", "InProgress"), "DocumentName": f"{NAME}-Longer"})
    documents.commands = [{"CommandId": EXECUTION, "DocumentVersion": "3", "Status": "InProgress"}]
    documents.associations = [{"AssociationId": "a-1", "Name": NAME, "DocumentVersion": "4"}]
    assert going(seen(documents)) == [2]
    documents.sharing = [{"AccountId": "111122223333", "SharedDocumentVersion": "2"}]
    assert going(seen(documents)) == []


@pytest.mark.parametrize(
    "operation", ["DescribeAutomationExecutions", "ListCommands", "ListAssociations", "DescribeDocumentPermission"]
)
def test_a_refused_question_keeps_all(operation: str) -> None:
    documents = Documents()
    documents.refuses[operation] = "AccessDeniedException"
    assert going(seen(documents)) == []


@pytest.mark.parametrize("operation", ["DescribeDocument", "ListDocumentVersions"])
def test_a_document_that_cannot_be_listed_is_an_error(operation: str) -> None:
    documents = Documents()
    documents.refuses[operation] = "AccessDeniedException"
    with pytest.raises(CloudError, match="could not be listed, so none was removed"):
        view_of(documents.session(), NAME)


def test_a_document_that_is_not_there_is_nothing() -> None:
    assert view_of(Documents().session(), "Ovenproof-Other") is None


def test_each_is_looked_at_once_more_before_it_goes() -> None:
    documents = Documents()
    verdicts = decide(seen(documents), KEEP)
    documents.executions = [execution("5", "InProgress")]
    documents.versions = {number: number == 4 for number in documents.versions if number != 3}
    said: list[str] = []
    done = carry_out(documents.session(), verdicts, KEEP, say=said.append)
    assert sorted(documents.versions) == [4, 5, 6, 7, 8]
    assert said == [
        f"kept version 5 of {NAME}: execution {EXECUTION} is InProgress",
        f"kept version 4 of {NAME}: it is the default version",
        f"kept version 3 of {NAME}: it is gone already",
        f"removed version 2 of {NAME}: 6 versions are newer, nothing refers to it, made 2026-11-23",
        f"removed version 1 of {NAME}: 7 versions are newer, nothing refers to it, made 2026-11-23",
    ]
    assert not any(one.error for one in done)


def test_the_second_look_refused_keeps_and_one_that_resists_stops_no_other() -> None:
    documents = Documents()
    verdicts = decide(seen(documents), KEEP)
    documents.refuses["ListAssociations"] = "ThrottlingException"
    assert all(one.kept for one in carry_out(documents.session(), verdicts, KEEP, say=print))
    documents.refuses = {"ListDocumentVersions": "AccessDeniedException"}
    assert all(one.kept for one in carry_out(documents.session(), verdicts, KEEP, say=print))
    documents.refuses = {"DeleteDocument": "AccessDeniedException"}
    assert len([one for one in carry_out(documents.session(), verdicts, KEEP, say=print) if one.error]) == 5
    assert len(documents.versions) == 8


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> Documents:
    """The command's own account: nothing in it but one document with many versions."""
    documents = Documents(newest=8)
    monkeypatch.setattr(flow, "open_session", lambda on, region: documents.session())  # noqa: ARG005
    monkeypatch.setattr(sweep, "inventory", lambda session, say: [])  # noqa: ARG005
    return documents


def test_a_dry_sweep_says_what_would_go_and_why_and_removes_nothing(swept: Documents) -> None:
    swept.associations = [{"AssociationId": "a-1", "Name": NAME, "DocumentVersion": "2"}]
    assert flow.sweep(on="aws", region="", dry_run=True).splitlines() == [
        f"would remove version 3 of {NAME}: 5 versions are newer, nothing refers to it, made 2026-11-23",
        f"would keep version 2 of {NAME}: association a-1 applies it",
        f"would remove version 1 of {NAME}: 7 versions are newer, nothing refers to it, made 2026-11-23",
    ]
    assert "DeleteDocument" not in swept.calls
    assert flow.sweep(on="aws", region="", dry_run=False) == "removed 2 leftovers"
    assert flow.sweep(on="aws", region="", dry_run=False) == "nothing has outlived its bake"


def test_a_sweep_that_is_refused_says_so_and_leaves_the_rest(
    swept: Documents, capsys: pytest.CaptureFixture[str]
) -> None:
    swept.refuses = {"DescribeDocument": "AccessDeniedException"}
    assert flow.sweep(on="aws", region="", dry_run=False) == "nothing has outlived its bake"
    assert f"the versions of the document {NAME} could not be listed" in capsys.readouterr().err
    swept.refuses = {"DeleteDocument": "AccessDeniedException"}
    with pytest.raises(OvenproofError, match="3 of 3 leftovers could not be removed"):
        flow.sweep(on="aws", region="", dry_run=False)


def test_the_statuses_that_count_as_ended_are_ssm_s_own() -> None:
    model: Any = boto3.client("ssm", region_name="eu-central-1").meta.service_model
    statuses = {*model.shape_for("AutomationExecutionStatus").enum, *model.shape_for("CommandStatus").enum}
    assert statuses >= document_versions._ENDED
