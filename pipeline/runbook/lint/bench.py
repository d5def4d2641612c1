"""What the linter costs beside cfn-lint: in, a number of documents; out, seconds of each and their ratio.

The same documents, ours and the rules' good examples, lie in one folder as they are and in another wrapped as
AWS::SSM::Document, which is how cfn-lint sees documents. Each tool is one process for all of them, turn by turn.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline import paths
from pipeline.errors import MachineError
from pipeline.runbook.lint.ours import our_documents
from pipeline.runbook.lint.rules import rules

DOCUMENTS: Final = 100
ROUNDS: Final = 3
_FINE: Final = {"lint": (0, 3), "cfn-lint": (0, 2, 4, 6, 8, 10, 12, 14)}
"""Exit codes of a run that looked at everything: cfn-lint's are a mask of the severities that it found."""


def bench_lint(documents: int = DOCUMENTS, rounds: int = ROUNDS) -> str:
    """Lint `documents` documents by each tool, `rounds` times. Raises MachineError when a tool does not run."""
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        plain, wrapped = Path(name) / "plain", Path(name) / "wrapped"
        write(plain, wrapped, documents)
        templates = [str(path) for path in sorted(wrapped.iterdir())]
        cfn_lint = str(Path(sys.executable).parent / "cfn-lint")
        for _ in range(rounds):
            ours.append(_seconds("lint", [sys.executable, "-m", "pipeline.runbook.lint", str(plain)]))
            theirs.append(_seconds("cfn-lint", [cfn_lint, "--regions", "eu-central-1", "--template", *templates]))
    return report(documents, ours, theirs)


def write(plain: Path, wrapped: Path, number: int) -> None:
    """Write the documents, and the templates that hold them."""
    for folder in (plain, wrapped):
        folder.mkdir(parents=True)
    for index, (name, text) in enumerate(itertools.islice(itertools.cycle(_texts().items()), number)):
        (plain / f"{name}{index}.yaml").write_text(text, encoding="utf-8")
        content: Any = yaml.safe_load(text)
        kind = "Automation" if content["schemaVersion"] == "0.3" else "Command"
        properties = {"DocumentType": kind, "Content": content}
        template = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Resources": {"Document": {"Type": "AWS::SSM::Document", "Properties": properties}},
        }
        (wrapped / f"{name}{index}.json").write_text(json.dumps(template, default=str), encoding="utf-8")


def _texts() -> Mapping[str, str]:
    found: dict[str, str] = {}
    if any(paths.CHECKOUT.glob("ssm-documents/*.j2")):
        found = {Path(text.name).name.split(".")[0]: text.content.decode() for text in our_documents()}
    for rule in rules().values():
        if rule.suffix == ".yaml":
            found[rule.id] = rule.example(rule.good)
    return found


def _seconds(what: str, argv: Sequence[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(argv, cwd=paths.CHECKOUT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode not in _FINE[what]:
        raise MachineError(
            f"{what} did not run",
            expected=f"exit code {_FINE[what][0]}",
            found=f"{done.returncode}: {done.stderr[-400:]}",
        )
    return seconds


def report(documents: int, ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The rounds side by side, and the ratio over all of them."""
    lines = [
        f"round {number}: {documents} documents, lint {mine:.2f} s, cfn-lint {other:.2f} s, ratio {mine / other:.2f}"
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), 1)
    ]
    lines.append(f"lint over cfn-lint: {sum(ours) / sum(theirs):.2f}")
    return "\n".join(lines)
