"""Files in, findings out: which files are documents, what is found in them, what their comments take back."""

import bisect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pipeline.errors import UsageError
from pipeline.runbook.lint import checks, source
from pipeline.runbook.lint.aws import near
from pipeline.runbook.lint.finding import Finding, Found
from pipeline.runbook.lint.node import Span
from pipeline.runbook.lint.rules import rules
from pipeline.runbook.lint.view import AUTOMATION, COMMAND, OLDER, Document, is_document, view

SUFFIXES: Final = (".yaml", ".yml", ".json")
_SKIPPED: Final = frozenset({".git", "node_modules", "__pycache__"})
_IGNORE: Final = re.compile(r"#\s*ovenproof:\s*ignore\b[ \t]*(\S*)[ \t]*(.*?)\s*$")


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text to be looked at, and the place of its lines in the files that it was made of."""

    name: str
    content: bytes
    explicit: bool = True
    policy: bytes | None = None
    policy_name: str = ""
    origin: "Sequence[tuple[str, int]] | None" = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was found, in order of files and lines; how much was looked at, and what was left out."""

    findings: tuple[Finding, ...]
    documents: tuple[Document, ...] = ()
    ignored: int = 0
    skipped: tuple[str, ...] = field(default=())

    def count(self, severity: str) -> int:
        """How many findings have that severity."""
        return sum(finding.severity == severity for finding in self.findings)


def gather(paths: Iterable[Path]) -> Iterator[Text]:
    """The texts of files, and of every file in folders that may be a document. Raises UsageError."""
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.suffix in SUFFIXES and file.is_file() and not _SKIPPED & set(file.parts):
                    yield _text(file, explicit=False)
        else:
            yield _text(path, explicit=True)


def _text(file: Path, *, explicit: bool) -> Text:
    """A file with the policy that lies beside it: `policies/NAME.yaml`."""
    policy = file.parent / "policies" / f"{file.name.split('.')[0]}.yaml"
    if policy.is_file():
        content = _read(policy)
        return Text(name=str(file), content=_read(file), explicit=explicit, policy=content, policy_name=str(policy))
    return Text(name=str(file), content=_read(file), explicit=explicit)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(source.MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read",
            expected="a document, or a folder of documents",
            found=error.strerror or str(error),
            where=str(path),
            remedy="correct the path",
        ) from error


def lint(texts: Iterable[Text]) -> Report:
    """Look at every text. Documents that name each other are looked at together."""
    findings: list[Finding] = []
    skipped: list[str] = []
    read: list[tuple[Text, str, Document | None, list[Found]]] = []
    for text in texts:
        content, document, found = _document(text)
        if document is None and not text.explicit and not any(item.rule != "not-a-document" for item in found):
            skipped.append(text.name)
            continue
        read.append((text, content, document, found))
    names = Counter(document.name for _, _, document, _ in read if document is not None)
    others = {
        document.name: document for _, _, document, _ in read if document is not None and names[document.name] == 1
    }
    ignored = 0
    for text, content, document, found in read:
        if document is not None:
            document.others = others
            found.extend(_checked(document))
        kept, taken_back = _keep(content, found)
        ignored += taken_back
        findings.extend(_placed(text, content, document, kept))
    findings.sort(key=lambda finding: (finding.file, finding.span, finding.rule))
    documents = tuple(document for _, _, document, _ in read if document is not None)
    return Report(findings=tuple(findings), documents=documents, ignored=ignored, skipped=tuple(skipped))


def _document(text: Text) -> tuple[str, Document | None, list[Found]]:
    """Read one text as a document; None when it is none, or cannot be read."""
    content = text.content.decode("utf-8", errors="replace")
    if not text.explicit and "schemaVersion" not in content:
        return content, None, []
    try:
        content = source.decode(text.content)
        root, found = source.read(content)
    except source.Unreadable as unreadable:
        return content, None, [unreadable.found]
    if root.kind != "map" or not ("schemaVersion" in root.items or is_document(root)):
        message = "this is no document of Systems Manager: it has no schemaVersion"
        return content, None, [Found("not-a-document", root.span._replace(end_line=root.span.line), message)]
    if not text.explicit and not is_document(root):
        return content, None, []
    document = view(root, content, json=source.is_json(content), name=Path(text.name).name.split(".")[0])
    if text.policy is not None:
        document.policy_file = text.policy_name
        try:
            document.policy, of_policy = source.read(source.decode(text.policy))
        except source.Unreadable as unreadable:
            of_policy = [unreadable.found]
        found.extend(item._replace(part="policy") for item in of_policy)
    return content, document, found


def _checked(document: Document) -> Iterator[Found]:
    version = document.root.get("schemaVersion")
    span = version.span if version is not None else document.root.span
    if document.kind == "other":
        if document.version in OLDER:
            yield Found("old-schema", span, f"version {document.version} is looked at no further; it still works")
        else:
            known = f"{AUTOMATION} (Automation) and {COMMAND} (Command)"
            yield Found("unknown-schema", span, f"there is no schemaVersion {document.version!r}: there are {known}")
        return
    for check in checks.AUTOMATION if document.kind == "Automation" else checks.COMMAND:
        yield from check(document)


# --- suppressions ---


@dataclass
class _Ignore:
    rule: str
    line: int
    own_line: bool
    span: Span
    used: bool = False

    def covers(self, line: int) -> bool:
        """Its own line; alone on a line it speaks of the next one."""
        return line == (self.line + 1 if self.own_line else self.line)


def _keep(content: str, found: Iterable[Found]) -> tuple[list[Found], int]:
    """What is left after the comments of a document, and how many findings they took back."""
    ignores: list[_Ignore] = []
    kept: list[Found] = []
    lines = content.split("\n")
    for number, line in enumerate(lines, 1):
        match = _IGNORE.search(line) if "ovenproof" in line else None
        if match is None:
            continue
        span = Span(number, match.start() + 1, number, match.end() + 1)
        rule, reason = match[1], match[2]
        if rule not in rules():
            named = f"there is no rule {rule!r}{near(rule, rules())}" if rule else "an ignore names a rule"
            kept.append(Found("bad-ignore", span, named))
        elif not reason:
            kept.append(Found("bad-ignore", span, f"say why {rule} is ignored: # ovenproof: ignore {rule} REASON"))
        else:
            # several of them may stand above one line
            own = not line[: match.start()].strip()
            ignores.append(_Ignore(rule, number, own, span))
    own_lines = {ignore.line for ignore in ignores if ignore.own_line}
    for ignore in ignores:
        while ignore.own_line and ignore.line + 1 in own_lines:
            ignore.line += 1
    taken_back = 0
    for item in dict.fromkeys(found):
        covering = next(
            (one for one in ignores if not item.part and one.rule == item.rule and one.covers(item.span.line)), None
        )
        if covering is not None:
            covering.used = True
            taken_back += 1
        else:
            kept.append(item)
    for ignore in ignores:
        if not ignore.used:
            kept.append(Found("unused-ignore", ignore.span, f"nothing here breaks {ignore.rule}"))
    return kept, taken_back


# --- places ---


def _placed(text: Text, content: str, document: Document | None, found: Iterable[Found]) -> Iterator[Finding]:
    lines = content.split("\n")
    policy = (text.policy or b"").decode("utf-8", errors="replace").split("\n")
    steps = _step_starts(document)
    sources: dict[str, list[str]] = {}
    for item in found:
        of = policy if item.part else lines
        line = of[item.span.line - 1] if 0 < item.span.line <= len(of) else ""
        finding = Finding(
            rule=item.rule,
            severity=rules()[item.rule].severity,
            message=item.message,
            file=text.policy_name if item.part else text.name,
            span=item.span,
            step="" if item.part else _step_at(steps, item.span.line),
            source_line=line,
        )
        if text.origin is not None and not item.part and 0 < item.span.line <= len(text.origin):
            file, number = text.origin[item.span.line - 1]
            original = sources.setdefault(file, Path(file).read_text(encoding="utf-8").split("\n"))
            there = original[number - 1] if 0 < number <= len(original) else ""
            if there == line:
                finding = replace(finding, file=file, span=_on_line(item.span, number))
            else:
                finding = finding.moved(file, number, there)
        yield finding


def _on_line(span: Span, line: int) -> Span:
    return Span(line, span.column, line + span.end_line - span.line, span.end_column)


def _step_starts(document: Document | None) -> list[tuple[int, int, str]]:
    if document is None:
        return []
    return sorted((step.node.span.line, step.node.span.end_line, step.name) for step in document.all_steps())


def _step_at(steps: list[tuple[int, int, str]], line: int) -> str:
    """The innermost step that holds a line."""
    for start, end, name in reversed(steps[: bisect.bisect_right(steps, (line, 1 << 30, ""))]):
        if start <= line <= end:
            return name
    return ""
