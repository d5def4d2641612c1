"""Which files are looked at, where findings point, and what comments take back."""

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.runbook.lint.engine import Report, Text, gather, lint

STEP = '  - {name: Look, action: "aws:executeAwsApi", inputs: {Service: ecs, Api: ListCluster}}'
GOOD = 'schemaVersion: "0.3"\nmainSteps:\n' + STEP.replace("ListCluster}", "ListClusters}") + "\n"


def lint_text(text: str, name: str = "Document.yaml") -> Report:
    return lint([Text(name=name, content=text.encode())])


def rules_of(report: Report) -> list[str]:
    return [finding.rule for finding in report.findings]


def test_a_finding_has_file_place_step_and_line() -> None:
    (finding,) = lint_text(f'schemaVersion: "0.3"\nmainSteps:\n{STEP}\n').findings
    assert (finding.file, finding.span.line, finding.step) == ("Document.yaml", 3, "Look")
    assert finding.source_line == STEP
    assert STEP[finding.span.column - 1 : finding.span.end_column - 1] == "ListCluster"
    assert "did you mean ListClusters?" in finding.message


def test_a_finding_in_json_has_its_place() -> None:
    text = '{"schemaVersion": "0.3", "mainSteps": [\n  {"name": "Look", "action": "aws:nothing"}]}'
    (finding,) = lint_text(text).findings
    assert (finding.rule, finding.span.line, finding.span.column) == ("unknown-action", 2, 30)


def test_a_comment_on_the_line_takes_a_finding_back() -> None:
    text = f'schemaVersion: "0.3"\nmainSteps:\n{STEP} # ovenproof: ignore unknown-operation it comes next week\n'
    report = lint_text(text)
    assert (rules_of(report), report.ignored) == ([], 1)


def test_comments_above_the_line_take_findings_back() -> None:
    text = (
        'schemaVersion: "0.3"\nmainSteps:\n'
        "  # ovenproof: ignore unknown-operation it comes next week\n"
        "  # ovenproof: ignore service-spelling as our generator writes it\n"
        f"{STEP.replace('ecs', 'ECS')}\n"
    )
    report = lint_text(text)
    assert (rules_of(report), report.ignored) == ([], 2)


def test_a_comment_of_another_line_takes_nothing_back() -> None:
    text = f'schemaVersion: "0.3" # ovenproof: ignore unknown-operation too far away\nmainSteps:\n{STEP}\n'
    assert rules_of(lint_text(text)) == ["unused-ignore", "unknown-operation"]


@pytest.mark.parametrize("comment", ["", " unknown-operation", " no-such-rule because"])
def test_a_comment_needs_a_rule_and_a_reason(comment: str) -> None:
    text = f'schemaVersion: "0.3"\nmainSteps:\n{STEP} # ovenproof: ignore{comment}\n'
    assert sorted(rules_of(lint_text(text))) == ["bad-ignore", "unknown-operation"]


def test_folders_are_searched_for_documents_only(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "Document.yaml").write_text(GOOD)
    (tmp_path / "other.json").write_text('{"name": "schemaVersion"}')
    (tmp_path / "values.yaml").write_text("a: 1\n")
    (tmp_path / "readme.md").write_text("schemaVersion")
    report = lint(gather([tmp_path]))
    assert [document.name for document in report.documents] == ["Document"]
    assert not report.findings
    assert len(report.skipped) == 2


def test_a_file_that_was_named_has_to_be_a_document(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("a: 1\n")
    assert rules_of(lint(gather([tmp_path / "values.yaml"]))) == ["not-a-document"]


def test_a_broken_document_in_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text('schemaVersion: "0.3"\nmainSteps: [\n')
    assert rules_of(lint(gather([tmp_path]))) == ["unreadable"]


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        lint(gather([tmp_path / "nothing.yaml"]))


@pytest.mark.parametrize(
    "text",
    [
        'schemaVersion: "0.3"\nmainSteps: 5\n',
        'schemaVersion: "0.3"\nmainSteps: {a: b}\n',
        'schemaVersion: "0.3"\nmainSteps: [1, [], null, {}]\n',
        'schemaVersion: "0.3"\nparameters: []\nvariables: 3\nmainSteps: [{name: [], action: {}, inputs: 3}]\n',
        'schemaVersion: "0.3"\nparameters: {a: 1, b: {type: []}}\nmainSteps: [{name: A, action: "aws:branch"}]\n',
        'schemaVersion: "0.3"\nmainSteps: [{name: A, action: "aws:loop", inputs: {Steps: 3, Iterators: {}}}]\n',
        'schemaVersion: "0.3"\nmainSteps: [{name: A, action: "aws:executeScript", inputs: {Script: [], Handler: 3}}]\n',
        'schemaVersion: "0.3"\nmainSteps: [{name: A, action: "aws:executeAwsApi", inputs: {Service: [], Api: {}}}]\n',
        'schemaVersion: "0.3"\nmainSteps: [{name: A, action: "aws:executeAwsApi", outputs: [1, {Name: []}]}]\n',
        "schemaVersion: {}\nmainSteps: []\n",
        "[]",
        "{}",
        "just text",
    ],
)
def test_malformed_documents_are_told_of_not_crashed_on(text: str) -> None:
    assert any(finding.severity == "error" for finding in lint_text(text).findings)


def test_inputs_that_boto3_takes_by_another_name_are_known() -> None:
    inputs = "{Service: ec2, Api: DescribeFlowLogs, Filters: []}"
    text = f'schemaVersion: "0.3"\nmainSteps:\n  - {{name: Look, action: "aws:executeAwsApi", inputs: {inputs}}}\n'
    assert rules_of(lint_text(text)) == []
