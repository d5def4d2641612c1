"""What `ovenproof-lint` needs when it is installed by itself is in the package, and is all that it imports."""

import subprocess
import sys
import tomllib
from pathlib import Path

from pipeline.paths import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def test_the_entry_point_is_a_function() -> None:
    module, _, name = PROJECT["project"]["scripts"]["ovenproof-lint"].partition(":")
    code = f"import importlib, sys; sys.exit(getattr(importlib.import_module({module!r}), {name!r})(['--rules']))"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, check=False).returncode == 0


def test_every_file_that_it_reads_is_shipped() -> None:
    tool = PROJECT["tool"]["setuptools"]
    shipped = {
        file
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
        for file in (CHECKOUT / package.replace(".", "/")).glob(pattern)
    }
    folder = CHECKOUT / "pipeline" / "runbook"
    assert shipped == {folder / "permissions.yaml", *(folder / "lint").rglob("*.yaml")}
    packages = {CHECKOUT / package.replace(".", "/") for package in tool["packages"]}
    assert {file.parent for file in (folder / "lint").rglob("*.py")} <= packages


def test_a_document_is_linted_with_nothing_but_its_own_dependencies(tmp_path: Path) -> None:
    document = tmp_path / "Document.yaml"
    document.write_text(
        'schemaVersion: "0.3"\nmainSteps:\n  - {name: A, action: "aws:sleep", inputs: {Duration: PT1S}}\n'
    )
    code = (
        "import sys\n"
        "for name in ('boto3', 'jinja2', 'pydantic', 'ruamel', 'moto', 'cfnlint'):\n    sys.modules[name] = None\n"
        "from pipeline.runbook.lint.command import main\n"
        f"sys.exit(main([{str(document)!r}, '--strict']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
