"""Every document of ours: rendered, parsed, small enough, taken by cfn-lint; and what the renderer refuses."""

import ast
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.bundling import bundled
from pipeline.documents import (
    FOLDER,
    document_kind,
    document_named,
    document_names,
    document_text,
    policy_of,
    rendered_documents,
    traced,
)
from pipeline.errors import CatalogError, UsageError
from tests.test_lint import PROGRAMS

NAMES = document_names()
AUTOMATIONS = [name for name in NAMES if document_kind(document_text(name)) == "Automation"]


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_every_automation_is_read_without_a_fault(name: str) -> None:
    assert document_named(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_document_is_within_ssms_size(name: str) -> None:
    assert len(document_text(name).encode()) <= 64 * 1024


def test_all_documents_pass_cfn_lint_inside_a_template(tmp_path: Path) -> None:
    resources = {
        f"Document{number}": {
            "Type": "AWS::SSM::Document",
            "Properties": {
                "Name": name,
                "Content": yaml.safe_load(text),
                "DocumentFormat": "YAML",
                "DocumentType": document_kind(text),
                "UpdateMethod": "NewVersion",
            },
        }
        for number, (name, text) in enumerate(rendered_documents().items())
    }
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}))

    done = subprocess.run(
        [PROGRAMS / "cfn-lint", "--region", "eu-central-1", "--template", template],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_every_automation_says_what_it_changes_and_how_to_undo_it(name: str) -> None:
    description = yaml.safe_load(document_text(name))["description"]

    assert "Changes" in description or "changes nothing" in description.lower()


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_is_critical_is_always_written(name: str) -> None:
    silent = [step["name"] for step in yaml.safe_load(document_text(name))["mainSteps"] if "isCritical" not in step]

    assert silent == []


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_every_string_parameter_has_a_strict_pattern_or_a_list(name: str) -> None:
    loose = [
        parameter
        for parameter, rule in yaml.safe_load(document_text(name))["parameters"].items()
        if rule["type"] == "String" and not (rule.get("allowedValues") or rule.get("allowedPattern", "")[:1] == "^")
    ]

    assert loose == []


@pytest.mark.parametrize("name", AUTOMATIONS)
def test_every_automation_has_a_policy_for_its_role(name: str) -> None:
    policy = policy_of(name)

    assert policy is not None
    assert all(statement["Effect"] == "Allow" for statement in policy["Statement"])


def test_wide_resources_have_their_reason_on_the_line() -> None:
    bare = [
        f"{file.name}:{number}"
        for file in sorted((FOLDER / "policies").glob("*.yaml"))
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if line.strip().removeprefix("- ").startswith("Resource:") and '"*"' in line and "#" not in line
    ]

    assert bare == []


def test_an_unknown_document_is_named() -> None:
    with pytest.raises(UsageError, match="no document called Ovenproof-Nothing"):
        document_text("Ovenproof-Nothing")


def folder(tmp_path: Path, template: str, **scripts: str) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "Sample.yaml.j2").write_text(template)
    for name, text in scripts.items():
        (tmp_path / "scripts" / f"{name}.py").write_text(text)
    return tmp_path


def test_a_template_that_asks_for_what_is_not_there_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as refused:
        rendered_documents(folder(tmp_path, "schemaVersion: '0.3'\ndescription: << nothing >>\n"))

    assert refused.value.where.endswith("Sample.yaml.j2:2")


def test_ssm_keeps_its_own_braces(tmp_path: Path) -> None:
    texts = rendered_documents(folder(tmp_path, "schemaVersion: '0.3'\nassumeRole: '{{ Role }}'\n"))

    assert texts["Ovenproof-Sample"] == "schemaVersion: '0.3'\nassumeRole: '{{ Role }}'\n"


def test_a_script_that_ssm_would_change_is_refused_with_its_line(tmp_path: Path) -> None:
    text = "def handler(events, context):\n    return f'{{{events}}}'\n"
    with pytest.raises(CatalogError) as refused:
        rendered_documents(folder(tmp_path, "s: |\n<< script('one.py', 2) >>\n", one=text))

    assert refused.value.where.endswith("one.py:2")


def test_a_script_that_does_not_parse_is_refused_with_its_line(tmp_path: Path) -> None:
    text = "import boto3\n\ndef handler(events, context)\n    return {}\n"
    with pytest.raises(CatalogError, match="does not parse") as refused:
        rendered_documents(folder(tmp_path, "s: |\n<< script('one.py', 2) >>\n", one=text))

    assert refused.value.where.endswith("one.py:3")


def test_a_document_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="too large for SSM"):
        rendered_documents(folder(tmp_path, "schemaVersion: '0.3'\ndescription: " + "x" * 65536 + "\n"))


SHARED = '''"""Shared."""

import json
import time

LIMIT = 3


def used():
    return helper() + LIMIT


def helper():
    return time.time()


def unused():
    return json.dumps({})
'''


def test_a_script_brings_what_it_imports_and_nothing_else(tmp_path: Path) -> None:
    own = '"""One."""\n\nimport boto3\nfrom shared import used\n\n\ndef handler(events, _):\n    return used(), boto3\n'
    place = folder(tmp_path, "s: x\n", one=own, shared=SHARED)

    text = bundled(place / "scripts" / "one.py")

    assert ast.get_docstring(ast.parse(text)) == "One."
    assert "from shared" not in text
    assert "import json" not in text
    assert "unused" not in text
    scope: dict[str, object] = {}
    exec(compile(text.replace("import boto3\n", "boto3 = 0\n"), "one", "exec"), scope)  # noqa: S102
    handler = scope["handler"]
    assert callable(handler)
    assert handler({}, None)[0] > 3


def test_a_script_that_imports_what_its_neighbour_has_not_is_refused(tmp_path: Path) -> None:
    own = '"""One."""\n\nfrom shared import nothing\n\n\ndef handler(events, _):\n    return nothing\n'
    place = folder(tmp_path, "s: x\n", one=own, shared=SHARED)

    with pytest.raises(CatalogError, match=r"shared\.py defines no nothing"):
        bundled(place / "scripts" / "one.py")


@pytest.mark.parametrize("name", NAMES)
def test_a_traced_document_is_the_same_and_each_of_its_lines_is_known(name: str) -> None:
    text, lines = traced(name)

    assert text == document_text(name)
    assert len(lines) == len(text.split("\n"))
    for line, starts in zip(text.split("\n"), lines, strict=True):
        (file, number, column), first = starts[0].place, starts[0].column
        written = file.read_text().split("\n")[number - 1]
        if file.suffix == ".py":
            assert line[first - 1 :].split() == [] or written[column - 1 :].strip(), line
        elif "<<" not in written:
            assert line[first - 1 :] == written[column - 1 :]
