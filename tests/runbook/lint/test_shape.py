"""The shape of a document, where a rule's own two examples do not say enough."""

import pytest

from pipeline.runbook.lint.engine import Text, lint


@pytest.mark.parametrize(
    "output", ["{Name: No, Selector: $.clusterArns, Type: StringList}", "{Name: All, Selector: 1}"]
)
def test_yamls_own_words_are_no_names(output: str) -> None:
    call = "action: 'aws:executeAwsApi', inputs: {Service: ecs, Api: ListClusters}"
    step = f"{{name: Look, {call}, outputs: [{output}]}}"
    text = f'schemaVersion: "0.3"\nmainSteps:\n  - {step}\n'
    found = lint([Text(name="Document.yaml", content=text.encode())]).findings
    assert [finding.rule for finding in found] == ["wrong-type"]
