"""Findings in rendered documents point to the template, or to the script that it puts in."""

from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.runbook.lint.engine import Text, lint
from pipeline.runbook.lint.ours import origins, our_documents

TEMPLATE = """\
schemaVersion: "0.3"
<% set limit = 5 %>
mainSteps:
  - name: Look
    action: aws:executeScript
    inputs:
      Runtime: python3.11
      Handler: main
      Script: |
<< script("look.py", 8) >>
  - name: End
    action: aws:executeAwsApi
    inputs: {Service: ecs, Api: ListCluster}
"""
SCRIPT = """\
import math


def main(events, context):
    print(math.pi, events["name"])
"""
RENDERED = TEMPLATE.replace("<% set limit = 5 %>\n", "").replace(
    '<< script("look.py", 8) >>', "\n".join(f"        {line}" if line else "" for line in SCRIPT.rstrip().split("\n"))
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "Look.yaml.j2").write_text(TEMPLATE)
    (tmp_path / "scripts" / "look.py").write_text(SCRIPT)
    return tmp_path


def test_findings_point_to_the_line_of_the_template_or_of_the_script(folder: Path) -> None:
    template, script = folder / "Look.yaml.j2", folder / "scripts" / "look.py"
    text = Text(name=str(template), content=RENDERED.encode(), origin=origins(RENDERED, template, [script]))
    found = {
        finding.rule: (Path(finding.file).name, finding.span.line, finding.source_line.strip())
        for finding in lint([text]).findings
    }
    assert found == {
        "script-event": ("look.py", 5, 'print(math.pi, events["name"])'),
        "unknown-operation": ("Look.yaml.j2", 13, "inputs: {Service: ecs, Api: ListCluster}"),
    }


def test_every_line_of_a_template_is_itself(folder: Path) -> None:
    template = folder / "Look.yaml.j2"
    plain = TEMPLATE.replace("<% set limit = 5 %>\n", "").replace('<< script("look.py", 8) >>\n', "")
    template.write_text(plain)
    assert [line for _, line in origins(plain.rstrip("\n"), template, [])] == list(range(1, plain.count("\n") + 1))


def test_our_documents_are_clean() -> None:
    found = [finding for finding in lint(our_documents()).findings if finding.severity != "note"]
    assert [f"{one.file}:{one.span.line}: {one.message} [{one.rule}]" for one in found] == []


def test_without_documents_a_path_is_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipeline.paths.CHECKOUT", tmp_path)
    with pytest.raises(UsageError, match="no document"):
        list(our_documents())
