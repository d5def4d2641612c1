"""The command: what it prints in each format, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.runbook.lint.command import main

ERROR = """\
schemaVersion: "0.3"
mainSteps:
  - name: Look
    action: aws:executeAwsApi
    inputs: {Service: ecs, Api: ListCluster}
"""
WARNING = ERROR.replace("ListCluster}", "ListClusters}").replace("ecs", "ECS")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "a, b" / "Document.yaml"
    path.parent.mkdir()
    path.write_text(ERROR)
    return path


def test_errors_are_shown_with_line_and_caret(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(document)]) == 3
    assert capsys.readouterr().out == (
        f"{document}:5:33: error: ecs has no operation ListCluster; did you mean ListClusters? [unknown-operation]\n"
        "  5 |     inputs: {Service: ecs, Api: ListCluster}\n"
        "    |                                 ^^^^^^^^^^^\n"
        "1 document, 1 error, 0 warnings, 0 notes\n"
    )


def test_warnings_count_only_when_strict(document: Path) -> None:
    document.write_text(WARNING)
    assert main([str(document)]) == 0
    assert main([str(document), "--strict"]) == 3


def test_json_has_findings_counts_and_impact(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(document), "--format", "json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["counts"] == {"error": 1, "warning": 0, "note": 0}
    assert answer["documents"] == [{"name": "Document", "impact": {"Look": "reads"}}]
    (finding,) = answer["findings"]
    assert (finding["rule"], finding["line"], finding["column"], finding["end_column"]) == (
        "unknown-operation",
        5,
        33,
        44,
    )


def test_sarif_has_the_structure_of_its_standard(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(document), "--format", "sarif"])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["version"] == "2.1.0"
    (run,) = answer["runs"]
    (rule,) = run["tool"]["driver"]["rules"]
    assert set(rule) == {"id", "shortDescription", "helpUri", "defaultConfiguration", "properties"}
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "unknown-operation"
    assert result["level"] == "error"
    (place,) = result["locations"]
    assert place["physicalLocation"]["region"] == {"startLine": 5, "startColumn": 33, "endLine": 5, "endColumn": 44}
    assert place["logicalLocations"] == [{"name": "Look", "kind": "member"}]


def test_github_gets_one_command_a_finding(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(document), "--format", "github"])
    file = str(document).replace(",", "%2C")
    assert capsys.readouterr().out == (
        f"::error file={file},line=5,endLine=5,col=33,title=unknown-operation::"
        "ecs has no operation ListCluster; did you mean ListClusters?\n"
    )


def test_a_rule_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--explain", "end-and-next"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("end-and-next (error, creation)\nA step that is the end has no next one.\nhttps://")
    assert "bad:\n  mainSteps:" in shown


def test_a_rule_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--explain", "end-and-nxt"]) == 2
    assert "did you mean end-and-next?" in capsys.readouterr().err


def test_every_rule_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rules"]) == 0
    assert "end-and-next " in capsys.readouterr().out


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_impact_names_each_step(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(document), "--impact"])
    assert "Document:\n  Look  reads\n" in capsys.readouterr().out


def test_the_policy_beside_a_document_is_held_against_it(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document.write_text(ERROR.replace("ListCluster}", "ListClusters}"))
    policy = document.parent / "policies" / "Document.yaml"
    policy.parent.mkdir()
    policy.write_text("Statement:\n  - {Effect: Allow, Action: [ecs:ListTasks], Resource: '*'}\n")
    assert main([str(document)]) == 3
    shown = capsys.readouterr().out
    assert f"{document}:4:13: error: Look needs ecs:ListClusters on *" in shown
    assert f"{policy}:2:30: warning: nothing in the document needs ecs:ListTasks [policy-surplus]" in shown


def test_a_least_policy_is_printed_and_is_enough(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document.write_text(ERROR.replace("ListCluster}", "ListClusters}"))
    assert main([str(document), "--policy"]) == 0
    policy = document.parent / "policies" / "Document.yaml"
    policy.parent.mkdir()
    policy.write_text(capsys.readouterr().out)
    assert main([str(document), "--strict"]) == 0


def test_sarif_names_a_file_by_an_uri(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a document 100%.yaml"
    file.write_text('schemaVersion: "0.3"\nmainSteps: []\n')
    main([str(file), "--format", "sarif"])
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == f"{tmp_path}/a%20document%20100%25.yaml"
