"""Mistakes made on purpose in documents, hundreds of them, seeded: at least 95 of 100 are found.

The list of those that are not found is printed (`pytest -s`), and is part of the failure when there are too many.
"""

from collections import Counter
from pathlib import Path

from pipeline.paths import CHECKOUT
from pipeline.runbook.lint.engine import Text, lint
from pipeline.runbook.lint.ours import our_documents
from tests.runbook.lint.mutations import Mutator, chosen

SEED = 5
AT_LEAST = 200
SAMPLES = CHECKOUT / "tests" / "runbook" / "documents"


def documents() -> dict[str, str]:
    """Our own documents, and well-known runbooks' shapes beside them."""
    found = {
        path.stem: path.read_text() for path in sorted(SAMPLES.glob("*.yaml")) if not path.stem.endswith(".answers")
    }
    if any(CHECKOUT.glob("ssm-documents/*.yaml.j2")):
        for text in our_documents():
            content = text.content.decode()
            if 'schemaVersion: "2.2"' not in content:
                found[Path(text.name).name.split(".")[0]] = content
    return found


def findings(name: str, texts: dict[str, str]) -> Counter[tuple[str, str]]:
    report = lint([Text(name=f"{one}.yaml", content=text.encode()) for one, text in texts.items()])
    return Counter((finding.rule, finding.message) for finding in report.findings if finding.file == f"{name}.yaml")


def test_mistakes_are_found() -> None:
    texts = documents()
    each = -(-(AT_LEAST + 40) // len(texts))
    tried, missed = 0, []
    for name, text in texts.items():
        before = findings(name, texts)
        for mutation in chosen(name, text, each, SEED):
            tried += 1
            if not findings(name, {**texts, name: mutation.text}) - before:
                missed.append(f"{name}: {mutation.kind}: {mutation.what}")
    told = "\n".join([f"{tried} mistakes, {len(missed)} not found:", *missed])
    print(told)  # noqa: T201 - the list is asked for
    assert tried >= AT_LEAST
    assert len(missed) <= 0.05 * tried, told


def test_no_mistake_crashes_the_linter() -> None:
    for name, text in documents().items():
        for mutation in Mutator(text).mutations():
            lint([Text(name=f"{name}.yaml", content=mutation.text.encode())])
