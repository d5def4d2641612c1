"""Documents as short texts, executed over prepared answers, so that a test shows the rule and nothing else."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from pipeline.clock import VirtualClock
from pipeline.errors import CatalogError, UsageError
from pipeline.runbook.answers import Answers, read_answers
from pipeline.runbook.document import Document, parse_document
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Approval, Seams
from pipeline.runbook.trace import Execution

REGION = "eu-central-1"


def document(steps: str, head: str = "", *, name: str = "doc") -> Document:
    """A document from its steps (the list below `mainSteps`) and whatever else stands at its top."""
    text = "schemaVersion: '0.3'\n" + dedent(head) + "mainSteps:\n" + dedent(steps)
    return parse_document(text, f"{name}.yaml", name=name)


def prepared(answers: Mapping[str, Any] | str = "", *, folder: Path | None = None) -> Answers:
    """Answers as they would be read from a file."""
    import tempfile

    text = answers if isinstance(answers, str) else yaml.safe_dump(dict(answers))
    with tempfile.TemporaryDirectory(dir=folder) as made:
        path = Path(made) / "answers.yaml"
        path.write_text(dedent(text))
        return read_answers(path)


def seams(answers: Mapping[str, Any] | str = "", *documents: Document, **others: Any) -> Seams:
    """Seams over prepared answers, a virtual clock, and nobody who approves."""
    given = prepared(answers)
    by_name = {one.name: one for one in documents}

    def find(name: str) -> Document:
        if name not in by_name:
            raise UsageError(f"there is no document {name}")
        return by_name[name]

    values: dict[str, Any] = {
        "session": given.session(REGION),
        "clock": VirtualClock(),
        "documents": find,
        "approve": given.approval,
        "pause": lambda request: bool(given.resumes(request.step)),
        "command": lambda request: given.command(request.step),
        "invoke": lambda request: given.invocation(request.step),
        "account_id": given.account_id,
    }
    return Seams(**{**values, **others})


def run(
    steps: str,
    head: str = "",
    *,
    answers: Mapping[str, Any] | str = "",
    parameters: Mapping[str, Any] | None = None,
    nested: tuple[Document, ...] = (),
    **others: Any,
) -> Execution:
    """Execute a document of these steps."""
    return execute(document(steps, head), parameters or {}, seams(answers, *nested, **others))


def statuses(execution: Execution) -> list[tuple[str, str]]:
    """What ran and how it ended, in order."""
    return [(step.name, step.status) for step in execution.steps]


def refusal(steps: str, head: str = "") -> str:
    """Why the document is refused."""
    with pytest.raises(CatalogError) as error:
        document(steps, head)
    return str(error.value)


def script(body: str, *, name: str = "script", more: str = "", outputs: str = "") -> str:
    """An aws:executeScript step whose handler is `body` (of `def main(events, context)`)."""
    lines = "\n".join("          " + line for line in dedent(body).strip().splitlines())
    return (
        f"- name: {name}\n  action: aws:executeScript\n{more}  inputs:\n    Runtime: python3.11\n    Handler: main\n"
        f"    Script: |\n      def main(events, context):\n{lines}\n{outputs}"
    )


def step(name: str, action: str, inputs: str = "{}", more: str = "") -> str:
    """One step: `inputs` as a flow mapping, or as lines of a block, `more` as further lines of the step."""
    block = "".join(f"    {line}\n" for line in dedent(inputs).strip().splitlines())
    return f"- name: {name}\n  action: aws:{action}\n{more}  inputs:\n{block}"


def approves(_: Any) -> Approval:
    return Approval(decision="Approve", approver="me")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


Interrupt = Callable[[Any], str]
