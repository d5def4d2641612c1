"""A script of `ssm-documents/scripts/` in, the text that an aws:executeScript step holds out; and for each place of
that text the place in the file that it was written in.

Such a script is ordinary Python. Where it imports from its neighbours, the text holds those of the neighbour's
definitions that it uses, since a step of SSM has nothing to import from.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import CatalogError


class Place(NamedTuple):
    """Where something is written: line and column from 1."""

    file: Path
    line: int
    column: int


class Start(NamedTuple):
    """A column of a line, from 1, and what begins there."""

    column: int
    place: Place


class Bundle(NamedTuple):
    """A script that stands by itself, and for each of its lines what begins on it, by column."""

    text: str
    lines: Sequence[Sequence[Start]]


class _Parts(NamedTuple):
    """What a bundle is made of; `files` has the file of each statement."""

    docstring: str
    docstring_line: int
    imports: list[ast.stmt]
    body: list[ast.stmt]
    files: dict[ast.stmt, Path]


def bundled(file: Path) -> str:
    """A script that stands by itself: what it imports from its neighbours comes with it.

    Only `from neighbour import name` is understood; anything else a script imports has to be there in SSM. Docstrings
    but for the first paragraph, comments and type hints are for readers of the file: without them, scripts fit a
    document.
    Raises CatalogError, with file and line, for what does not parse, what SSM would change, or what a neighbour does
    not define.
    """
    return _text(_parts(file))


def bundled_with_places(file: Path) -> Bundle:
    """The same with the place of everything in it. Raises what `bundled` raises."""
    parts = _parts(file)
    text = _text(parts)
    lines: list[list[Start]] = [[] for _ in text.split("\n")]
    first, *rest = ast.parse(text).body
    for number in range(first.end_lineno or 1):
        lines[number].append(Start(1, Place(file, parts.docstring_line + number, 1)))
    for made, written in zip(rest, [*parts.imports, *parts.body], strict=True):
        for start, place in _pairs(made, written, parts.files[written]):
            lines[start[0] - 1].append(Start(start[1], place))
    for number, starts in enumerate(lines):
        starts.sort(key=lambda one: one.column)
        if not starts:  # nothing begins there: an empty line, or `else:`
            lines[number] = lines[number - 1][:1]
    return Bundle(text, lines)


def _pairs(made: ast.AST, written: ast.AST, file: Path) -> Iterator[tuple[tuple[int, int], Place]]:
    """Places of a statement as it is bundled, each with the place that it was written at.

    Both trees are alike but for what a reader needs, which `_Slim` has taken from the second one already.
    """
    if type(made) is not type(written):
        return
    if isinstance(made, ast.stmt | ast.expr | ast.ExceptHandler | ast.keyword | ast.arg) and hasattr(written, "lineno"):
        assert isinstance(written, ast.stmt | ast.expr | ast.ExceptHandler | ast.keyword | ast.arg)  # noqa: S101
        yield (made.lineno, made.col_offset + 1), Place(file, written.lineno, written.col_offset + 1)
    ours, theirs = list(ast.iter_child_nodes(made)), list(ast.iter_child_nodes(written))
    if len(ours) == len(theirs):  # Python may cut an f-string in other parts
        for one, other in zip(ours, theirs, strict=True):
            yield from _pairs(one, other, file)


def checked(file: Path) -> str:
    """A file's text. Raises CatalogError, with the line, where SSM would take a part of it for one of its variables."""
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


def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(checked(file))
    except SyntaxError as error:
        raise CatalogError(
            "this script does not parse",
            expected="Python",
            found=f"{error.msg}: {(error.text or '').strip()}",
            where=f"{file}:{error.lineno}",
            remedy="correct it",
        ) from error


def _text(parts: _Parts) -> str:
    imports = "\n".join(map(ast.unparse, parts.imports))
    body = ast.unparse(ast.Module(body=parts.body, type_ignores=[]))
    # A quarter as deep as usual: a tenth of a document is indentation. No text goes over lines, docstrings are gone.
    body = re.sub(r"^(?: {4})+", lambda deep: deep[0][::4], body, flags=re.MULTILINE)
    return f'''"""{parts.docstring}"""\n\n{imports}\n\n{body}\n'''


def _parts(file: Path) -> _Parts:
    tree = _tree(file)
    wanted: dict[str, set[str]] = {}
    imports: list[ast.stmt] = []
    own: list[ast.stmt] = []
    files: dict[ast.stmt, Path] = {}
    docstring = (ast.get_docstring(tree) or "").partition("\n\n")[0] or None
    for node in tree.body if docstring is None else tree.body[1:]:
        if isinstance(node, ast.ImportFrom) and node.module and (file.parent / f"{node.module}.py").exists():
            wanted.setdefault(node.module, set()).update(alias.name for alias in node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
            files[node] = file
        else:
            own.append(node)
    from_neighbours: dict[str, tuple[ast.stmt, Path]] = {}
    while wanted:
        module, names = wanted.popitem()
        neighbour = file.parent / f"{module}.py"
        needed, theirs, others = _definitions(neighbour, names)
        imports += theirs
        files |= dict.fromkeys(theirs, neighbour)
        from_neighbours |= {name: (node, neighbour) for name, node in needed.items() if name not in from_neighbours}
        for other, more in others.items():
            wanted.setdefault(other, set()).update(more)
    body: list[ast.stmt] = []
    for node, place in [*from_neighbours.values(), *((node, file) for node in own)]:
        slim = _Slim().visit(node)
        body.append(slim)
        files[slim] = place
    used = {node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    by_text = {ast.unparse(node): node for node in reversed(imports) if set(_bound(node)) & used}
    first = [by_text[one] for one in sorted(by_text)]
    line = tree.body[0].lineno if docstring is not None else 1
    return _Parts(docstring or "", line, first, body, files)


class _Slim(ast.NodeTransformer):
    """Takes away what only a reader needs."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node.body[0])]
        node.returns = None
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            argument.annotation = None
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.copy_location(ast.Pass(), node.body[0])]
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
    nodes: dict[str, ast.stmt] = {}
    imports: list[ast.stmt] = []
    neighbours: dict[str, tuple[str, str]] = {}
    for node in _tree(file).body:
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
