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

    Only `from neighbour import name` is understood; anything else a script imports has to be there in SSM. Docstrings
    below the first, comments and type hints are for readers of the file: without them five scripts fit a document.
    """
    text = _checked(file)
    body = ast.parse(text).body
    wanted: dict[str, set[str]] = {}
    imports: list[ast.stmt] = []
    own: list[ast.stmt] = []
    for node in body[1:]:
        if isinstance(node, ast.ImportFrom) and node.module and (file.parent / f"{node.module}.py").exists():
            wanted.setdefault(node.module, set()).update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        else:
            own.append(node)
    from_neighbours: dict[str, ast.stmt] = {}
    while wanted:
        module, names = wanted.popitem()
        neighbour = file.parent / f"{module}.py"
        needed, theirs, others = _definitions(neighbour, names)
        imports += theirs
        from_neighbours |= {name: node for name, node in needed.items() if name not in from_neighbours}
        for other, more in others.items():
            wanted.setdefault(other, set()).update(more)
    slim = _Slim().visit(ast.Module(body=[*from_neighbours.values(), *own], type_ignores=[]))
    used = {node.id for node in ast.walk(slim) if isinstance(node, ast.Name)}
    needed_imports = sorted({ast.unparse(node) for node in imports if set(_bound(node)) & used})
    docstring = ast.get_docstring(ast.parse(text)) or ""
    return f'''"""{docstring}"""\n\n''' + "\n".join(needed_imports) + "\n\n" + ast.unparse(slim) + "\n"


class _Slim(ast.NodeTransformer):
    """Takes away what only a reader needs."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        node.returns = None
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            argument.annotation = None
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return node
        return self.generic_visit(ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node))


def _bound(node: ast.stmt) -> list[str]:
    assert isinstance(node, ast.Import | ast.ImportFrom)  # noqa: S101 - only those are gathered
    return [alias.asname or alias.name for alias in node.names]


def _definitions(file: Path, names: set[str]) -> tuple[dict[str, ast.stmt], list[ast.stmt], dict[str, set[str]]]:
    """The definitions called `names` with whatever those use, in the file's order; the file's imports; and what it
    takes from neighbours of its own."""
    text = _checked(file)
    nodes: dict[str, ast.stmt] = {}
    imports: list[ast.stmt] = []
    neighbours: dict[str, tuple[str, str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            nodes[node.targets[0].id] = node
        elif isinstance(node, ast.ImportFrom) and node.module and (file.parent / f"{node.module}.py").exists():
            neighbours |= {alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
    if unknown := sorted(names - set(nodes)):
        raise CatalogError(
            f"{file.name} defines no {unknown[0]}",
            expected=", ".join(nodes),
            where=str(file),
            remedy="import what is there",
        )
    needed: set[str] = set()
    others: dict[str, set[str]] = {}
    queue = sorted(names)
    while queue:
        name = queue.pop()
        if name in needed:
            continue
        needed.add(name)
        used = {node.id for node in ast.walk(nodes[name]) if isinstance(node, ast.Name)}
        queue += sorted(used & set(nodes))
        for module, theirs in (neighbours[one] for one in used & set(neighbours)):
            others.setdefault(module, set()).add(theirs)
    return {name: node for name, node in nodes.items() if name in needed}, imports, others
