"""The bench of the linter: the same documents for both tools, and its figures as a person reads them."""

import json
from pathlib import Path

import yaml

from pipeline.runbook.lint.bench import report, write


def test_both_tools_get_the_same_documents(tmp_path: Path) -> None:
    write(tmp_path / "plain", tmp_path / "wrapped", 100)
    plain = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "plain").iterdir()}
    wrapped = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "wrapped").iterdir()}
    assert len(plain) == 100
    assert plain == {name: text["Resources"]["Document"]["Properties"]["Content"] for name, text in wrapped.items()}


def test_the_report_names_each_round_and_the_ratio() -> None:
    assert report(100, [1.0, 2.0], [10.0, 20.0]) == (
        "round 1: 100 documents, lint 1.00 s, cfn-lint 10.00 s, ratio 0.10\n"
        "round 2: 100 documents, lint 2.00 s, cfn-lint 20.00 s, ratio 0.10\n"
        "lint over cfn-lint: 0.10"
    )
