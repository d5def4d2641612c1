"""Our documents are clean; findings in rendered ones point to where the mistake is written."""

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.runbook.lint.engine import lint
from pipeline.runbook.lint.ours import our_documents

TEMPLATE = """\
schemaVersion: "0.3"
<% set limit = 5 %>
assumeRole: "arn:aws:iam::111122223333:role/example"
mainSteps:
  - name: Look
    action: aws:executeScript
    isCritical: true
    inputs:
      Runtime: python3.11
      Handler: handler
      InputPayload: {Wait: 1}
      Script: |
<< script("look.py", 8) >>
<% for name in ["First", "Second"] %>
  - name: << name >>
    action: aws:executeAwsApi
    inputs: {Service: ecs, Api: ListClusters}
<% endfor %>
  - {name: End, action: "aws:executeAwsApi", inputs: {Service: "<< "ecs" >>", Api: "ListClusters"}}
"""
SCRIPT = """\
# Copyright of nobody.
\"\"\"Look at hosts.

Then look again.
\"\"\"

from typing import Any

import boto3
from shared import names


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    \"\"\"In: nothing. Out: hosts.\"\"\"
    ecs = boto3.client("ecs")
    waits = events["Wait"]  # not read before
    found: dict[str, Any] = {
        "names": names(),
        "clusters": ecs.list_clusters(maxResults=10),
        "hosts": f"of {len(names())}"
        f" and {ecs.list_container_instances(cluster='example')}",
    }
    found["waits"] = waits
    return found
"""
SHARED = """\
\"\"\"Shared.\"\"\"

import boto3


def unused() -> None:
    \"\"\"Nobody asks.\"\"\"


def names() -> list[str]:
    \"\"\"Of all groups.\"\"\"
    if True:
        pass
    else:
        pass
    answer = boto3.client("autoscaling").describe_auto_scaling_groups()
    return [one["AutoScalingGroupName"] for one in answer["AutoScalingGroups"]]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "Look.yaml.j2").write_text(TEMPLATE)
    (tmp_path / "scripts" / "look.py").write_text(SCRIPT)
    (tmp_path / "scripts" / "shared.py").write_text(SHARED)
    return tmp_path


def findings(folder: Path) -> list[tuple[str, str, int, str]]:
    """Each finding: its rule, file, line, and the text that is marked there."""
    return [
        (one.rule, Path(one.file).name, one.span.line, one.source_line[one.span.column - 1 : one.span.end_column - 1])
        for one in lint(our_documents(folder)).findings
    ]


def change(file: Path, old: str, new: str) -> int:
    """Put a mistake in where a text is, once, and say on which line."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    return text[: text.index(old)].count("\n") + 1


def test_our_documents_are_clean() -> None:
    found = [finding for finding in lint(our_documents()).findings if finding.severity != "note"]
    assert [f"{one.file}:{one.span.line}: {one.message} [{one.rule}]" for one in found] == []


def test_the_sample_is_clean(folder: Path) -> None:
    assert findings(folder) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "rule", "marked"),
    [
        ("Look.yaml.j2", "isCritical: true", "isCritcal: true", "unknown-key", "isCritcal"),
        ("Look.yaml.j2", "{Wait: 1}", "{Wait: 1, For: 2}", "script-unused-input", "For"),
        # after the script, and twice by a loop: shown once
        ("Look.yaml.j2", "Api: ListClusters}", "Api: ListCluster}", "unknown-operation", "ListCluster"),
        # after something that Jinja put into the line
        ("Look.yaml.j2", 'Api: "ListClusters"', 'Api: "ListCluster"', "unknown-operation", "the whole line"),
        ("scripts/look.py", "maxResults=10", "maxResult=10", "script-argument", "maxResult"),
        ("scripts/look.py", "ecs.list_clusters(", "ecs.list_cluster(", "script-operation", "list_cluster"),
        (
            "scripts/look.py",
            "list_container_instances(",
            "list_container_instance(",
            "script-operation",
            "list_container_instance",
        ),
        ("scripts/look.py", 'events["Wait"]', 'events["Wait"] or events["For"]', "script-event", "e"),
        (
            "scripts/shared.py",
            "describe_auto_scaling_groups()",
            "describe_groups()",
            "script-operation",
            "describe_groups",
        ),
        ("scripts/shared.py", '["AutoScalingGroups"]', '["Groups"]', "script-answer-key", 'answer["Groups"]'),
    ],
)
def test_a_mistake_is_shown_where_it_is_written(
    folder: Path, file: str, old: str, new: str, rule: str, marked: str
) -> None:
    line = change(folder / file, old, new)

    found = findings(folder)

    if marked == "the whole line":
        marked = (folder / file).read_text().split("\n")[line - 1].strip()
    assert [one[:3] for one in found] == [(rule, Path(file).name, line)]
    assert found[0][3] == marked


def test_a_comment_in_a_script_takes_a_finding_back(folder: Path) -> None:
    change(
        folder / "scripts" / "look.py",
        "maxResults=10),",
        "maxResult=10),  # ovenproof: ignore script-argument it comes",
    )
    assert findings(folder) == []


def test_a_comment_in_a_script_that_takes_nothing_back_is_told_once(folder: Path) -> None:
    line = change(folder / "scripts" / "look.py", "# not read before", "# ovenproof: ignore script-argument it comes")
    (folder / "Other.yaml.j2").write_text(TEMPLATE)
    assert [one[:3] for one in findings(folder)] == [("unused-ignore", "look.py", line)]


def test_files_are_told_from_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(folder / "scripts" / "look.py", "maxResults=10", "maxResult=10")
    change(folder / "Look.yaml.j2", "isCritical: true", "isCritcal: true")
    monkeypatch.chdir(folder)
    assert [one.file for one in lint(our_documents(folder)).findings] == ["Look.yaml.j2", "scripts/look.py"]


def test_without_documents_a_path_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no document"):
        list(our_documents(tmp_path))
