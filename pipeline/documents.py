"""Our SSM documents: in, the templates, scripts and policies of `ssm-documents/`; out, their finished text.

A script of `ssm-documents/scripts/` is ordinary Python. Where it imports from its neighbours, the finished document
holds those of the neighbour's definitions that it uses, since a step of SSM has nothing to import from.
"""

import ast
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import jinja2
import yaml

from pipeline import paths
from pipeline.catalog import load_catalog
from pipeline.errors import CatalogError, UsageError
from pipeline.runbook.document import Document, parse_document
from pipeline.runbook.language import LIMITS
from pipeline.templating import environment, line_of

FOLDER: Final = paths.CHECKOUT / "ssm-documents"
PREFIX: Final = "Ovenproof-"
SUFFIX: Final = ".yaml.j2"


def document_names(folder: Path = FOLDER) -> tuple[str, ...]:
    """The names of our documents as AWS knows them, in order."""
    return tuple(sorted(PREFIX + file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}")))


@cache
def rendered_documents(folder: Path = FOLDER) -> Mapping[str, str]:
    """Every document's text by its name in AWS.

    Raises CatalogError, with file and line, for a template that cannot be rendered, for a script that SSM would
    change, and for a document that is larger than SSM takes.
    """
    return MappingProxyType({name: _rendered(name, folder) for name in document_names(folder)})


def policy_of(name: str, folder: Path = FOLDER) -> Mapping[str, Any] | None:
    """What the role that a document assumes may do; None for a Command document, which assumes none."""
    file = folder / "policies" / f"{name.removeprefix(PREFIX)}.yaml"
    if not file.exists():
        return None
    policy: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return policy


def document_text(name: str, folder: Path = FOLDER) -> str:
    """One document's text. Raises UsageError for a name that is none of ours."""
    documents = rendered_documents(folder)
    if name not in documents:
        raise UsageError(
            f"Ovenproof has no document called {name}",
            expected=", ".join(documents),
            found=name,
            where="ssm-documents",
            remedy="name one of these",
        )
    return documents[name]


@cache
def document_named(name: str) -> Document:
    """One of our documents, parsed. Raises UsageError for a name that is none of ours."""
    return parse_document(document_text(name), name)


def document_kind(text: str) -> str:
    """`Automation` or `Command`, by the document's schema version."""
    return "Automation" if yaml.safe_load(text)["schemaVersion"] == "0.3" else "Command"


def _rendered(name: str, folder: Path) -> str:
    template = folder / (name.removeprefix(PREFIX) + SUFFIX)
    templates = environment(folder, paths.IMAGES)
    templates.globals["script"] = lambda file, spaces: indented(bundled(folder / "scripts" / file), spaces)
    templates.globals["script_text"] = lambda file, spaces: indented(_checked(folder / "scripts" / file), spaces)
    templates.globals["file"] = lambda file, spaces: indented(_checked(paths.IMAGES / file), spaces)
    templates.globals["agent"] = load_catalog().agent
    templates.filters["json"] = json.dumps
    try:
        text = templates.get_template(template.name).render()
    except (jinja2.TemplateSyntaxError, jinja2.UndefinedError) as error:
        raise CatalogError(
            "a document's template cannot be rendered",
            expected="only `script`, `script_text`, `file`, `agent` (the catalog's), and names that the template sets",
            found=str(error),
            where=f"{template}:{line_of(error, template)}",
            remedy="correct the template",
        ) from error
    if (size := len(text.encode())) > LIMITS.document_bytes:
        raise CatalogError(
            f"{name} is too large for SSM",
            expected=f"at most {LIMITS.document_bytes} bytes",
            found=f"{size} bytes",
            where=str(template),
            remedy="shorten its scripts, or give a part of it a document of its own",
        )
    return text


def indented(text: str, spaces: int) -> str:
    """The text with each line that has something on it moved to the right."""
    return "\n".join(" " * spaces + line if line else "" for line in text.rstrip("\n").split("\n"))


def _checked(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        if "{{" in line:
            raise CatalogError(
                "SSM would read a part of this file as one of its variables",
                expected="no `{{`",
                found=line.strip(),
                where=f"{file}:{number}",
                remedy="write it in another way",
            )
    return text


def bundled(file: Path) -> str:
    """A script that stands by itself: what it imports from its neighbours comes with it.

    Only `from neighbour import name` is understood; anything else a script imports has to be there in SSM.
    """
    text = _checked(file)
    lines = text.splitlines(keepends=True)
    wanted: dict[str, set[str]] = {}
    removed: set[int] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and node.module and (file.parent / f"{node.module}.py").exists():
            wanted.setdefault(node.module, set()).update(alias.name for alias in node.names)
            removed.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    if not wanted:
        return text
    own = "".join(line for number, line in enumerate(lines, start=1) if number not in removed)
    imports, definitions = _imports(own), []
    for module, names in sorted(wanted.items()):
        neighbour = file.parent / f"{module}.py"
        definitions += _definitions(neighbour, names)
        imports += [line for line in _imports(_checked(neighbour)) if line not in imports]
    body = ast.parse(own).body
    start = next((node.lineno for node in body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)), 1)
    rest = "".join(own.splitlines(keepends=True)[start - 1 :])
    everything = "\n\n\n".join([*definitions, rest.strip("\n")])
    used = {node.id for node in ast.walk(ast.parse(everything)) if isinstance(node, ast.Name)}
    needed = sorted(line for line in set(imports) if set(_bound(line)) & used)
    docstring = ast.get_source_segment(own, body[0])
    return f"{docstring}\n\n" + "\n".join(needed) + "\n\n\n" + everything + "\n"


def _imports(text: str) -> list[str]:
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(ast.unparse(node))
    return found


def _bound(line: str) -> list[str]:
    (node,) = ast.parse(line).body
    assert isinstance(node, ast.Import | ast.ImportFrom)  # noqa: S101 - `_imports` made the line
    return [alias.asname or alias.name for alias in node.names]


def _definitions(file: Path, names: set[str]) -> list[str]:
    """Source of the top-level definitions called `names`, and of whatever those use, in the file's order."""
    text = _checked(file)
    nodes: dict[str, ast.stmt] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            nodes[node.targets[0].id] = node
    if unknown := sorted(names - set(nodes)):
        raise CatalogError(
            f"{file.name} defines no {unknown[0]}",
            expected=", ".join(nodes),
            where=str(file),
            remedy="import what is there",
        )
    needed: set[str] = set()
    queue = sorted(names)
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            used = {node.id for node in ast.walk(nodes[name]) if isinstance(node, ast.Name)}
            queue += sorted(used & set(nodes))
    # A definition's own source, without what stands between definitions: comments there are for readers of the file.
    return [str(ast.get_source_segment(text, node)) for name, node in nodes.items() if name in needed]
