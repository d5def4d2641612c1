"""Our SSM documents: in, the templates, scripts and policies of `ssm-documents/`; out, their finished text.

`traced` says of each place of such a text where it is written, so that a finding points to what can be mended.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import jinja2
import yaml
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from pipeline import paths
from pipeline.bundling import Bundle, Place, Start, bundled, bundled_with_places, checked
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


def traced(name: str, folder: Path = FOLDER) -> Bundle:
    """One document's text with the places of the templates and scripts that it is made of.

    Raises what `rendered_documents` raises.
    """
    trace = _Trace()
    return trace.read(_jinja(name, folder, trace))


def _rendered(name: str, folder: Path) -> str:
    text = _jinja(name, folder, None)
    if (size := len(text.encode())) > LIMITS.document_bytes:
        raise CatalogError(
            f"{name} is too large for SSM",
            expected=f"at most {LIMITS.document_bytes} bytes",
            found=f"{size} bytes",
            where=str(_template(name, folder)),
            remedy="shorten its scripts, or give a part of it a document of its own",
        )
    return text


def _template(name: str, folder: Path) -> Path:
    return folder / (name.removeprefix(PREFIX) + SUFFIX)


def _jinja(name: str, folder: Path, trace: "_Trace | None") -> str:
    """What Jinja makes of a template; with the trace's marks in it, where there is one."""
    template = _template(name, folder)
    templates = environment(folder, paths.IMAGES)

    def script(file: str, spaces: int) -> str:
        path = folder / "scripts" / file
        return indented(bundled(path), spaces) if trace is None else trace.marked(bundled_with_places(path), spaces)

    def plain(path: Path, spaces: int) -> str:
        text = checked(path)
        return indented(text, spaces) if trace is None else trace.marked(_as_written(text, path), spaces)

    templates.globals["script"] = script
    templates.globals["script_text"] = lambda file, spaces: plain(folder / "scripts" / file, spaces)
    templates.globals["file"] = lambda file, spaces: plain(paths.IMAGES / file, spaces)
    templates.globals["agent"] = load_catalog().agent
    templates.filters["json"] = json.dumps
    if trace is not None:
        templates.extend(trace=trace)
        templates.add_extension(_Marks)
    try:
        return templates.get_template(template.name).render()
    except (jinja2.TemplateSyntaxError, jinja2.UndefinedError) as error:
        raise CatalogError(
            "a document's template cannot be rendered",
            expected="only `script`, `script_text`, `file`, `agent` (the catalog's), and names that the template sets",
            found=str(error),
            where=f"{template}:{line_of(error, template)}",
            remedy="correct the template",
        ) from error


def indented(text: str, spaces: int) -> str:
    """The text with each line that has something on it moved to the right."""
    return "\n".join(" " * spaces + line if line else "" for line in text.rstrip("\n").split("\n"))


# -- where each place of a document is written ------------------------------------------------------------------------


_MARK: Final = re.compile("\0(\\d+)\0")


class _Trace:
    """Puts marks at the beginnings of lines while a text is made, and takes them out of the finished one."""

    def __init__(self) -> None:
        self._known: list[Sequence[Start]] = []

    def mark(self, starts: Sequence[Start]) -> str:
        """A mark for the line that it stands at the beginning of."""
        self._known.append(starts)
        return f"\0{len(self._known) - 1}\0"

    def marked(self, bundle: Bundle, spaces: int) -> str:
        """What `indented` makes of a text, with marks."""
        lines = indented(bundle.text, spaces).split("\n")
        moved = ([Start(column + spaces, place) for column, place in starts] for starts in bundle.lines)
        return "\n".join(self.mark(starts) + line for line, starts in zip(lines, moved, strict=False))

    def read(self, text: str) -> Bundle:
        """The text without its marks. A line without one of its own belongs to what the line before it does."""
        lines: list[Sequence[Start]] = []
        starts: Sequence[Start] = ()
        for line in text.split("\n"):
            at = 0
            while found := _MARK.match(line, at):  # the last of them is the innermost
                starts, at = self._known[int(found[1])], found.end()
            lines.append(starts)
        return Bundle(_MARK.sub("", text), lines)


class _Marks(Extension):
    """Has Jinja put a mark at the beginning of each line of a template, and before what an expression puts in."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        trace: _Trace = self.environment.trace  # type: ignore[attr-defined]
        file = Path(stream.filename or "")

        def mark(line: int) -> str:
            return trace.mark([Start(1, Place(file, line, 1))])

        for token in stream:
            if token.type == "data":
                pieces = token.value.split("\n")
                value = "\n".join(mark(token.lineno + number) + piece for number, piece in enumerate(pieces))
                yield Token(token.lineno, "data", value)
            elif token.type == "variable_begin":
                yield Token(token.lineno, "data", mark(token.lineno))
                yield token
            else:
                yield token


def _as_written(text: str, file: Path) -> Bundle:
    return Bundle(text, [[Start(1, Place(file, number, 1))] for number in range(1, text.count("\n") + 2)])
