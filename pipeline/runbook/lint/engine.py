"""Files in, findings out: which files are documents, what is found in them, what their comments take back."""

import bisect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.errors import UsageError
from pipeline.runbook.lint import checks, source
from pipeline.runbook.lint.aws import near
from pipeline.runbook.lint.finding import Finding, Found
from pipeline.runbook.lint.node import Span
from pipeline.runbook.lint.rules import rules
from pipeline.runbook.lint.view import AUTOMATION, COMMAND, OLDER, Document, is_document, view

if TYPE_CHECKING:
    from pipeline.bundling import Start

SUFFIXES: Final = (".yaml", ".yml", ".json")
_SKIPPED: Final = frozenset({".git", "node_modules", "__pycache__"})
_IGNORE: Final = re.compile(r"#\s*ovenproof:\s*ignore\b[ \t]*(\S*)[ \t]*(.*?)\s*$")


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text to be looked at; for one that was made of files, what begins where on each line, and its place there."""

    name: str
    content: bytes
    explicit: bool = True
    policy: bytes | None = None
    policy_name: str = ""
    origin: "Sequence[Sequence[Start]] | None" = None


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


def shown(path: Path) -> str:
    """A path as findings have it: from the current folder where it is in there, as code hosts want it of CI."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


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
    for text, content, document, found in read:
        if document is not None:
            document.others = others
            found.extend(_checked(document))
        findings.extend(_placed(text, content, document, dict.fromkeys(found)))
    kept, ignored = _keep(_commented(read), _each_once(findings))
    kept.sort(key=lambda finding: (finding.file, finding.span, finding.rule))
    documents = tuple(document for _, _, document, _ in read if document is not None)
    return Report(findings=tuple(kept), documents=documents, ignored=ignored, skipped=tuple(skipped))


def _each_once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """A script may be in several documents, and a file may be named twice."""
    seen: set[tuple[str, Span, str, str]] = set()
    for finding in findings:
        key = finding.file, finding.span, finding.rule, finding.message
        if key not in seen:
            seen.add(key)
            yield finding


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


def _commented(read: Iterable[tuple[Text, str, Document | None, list[Found]]]) -> dict[str, str]:
    """The files whose comments count, with their text: documents, and what rendered ones are made of."""
    texts: dict[str, str] = {}
    for text, content, _, _ in read:
        if text.origin is None:
            texts[text.name] = content
        else:
            for file in {start.place.file for starts in text.origin for start in starts}:
                if shown(file) not in texts:
                    texts[shown(file)] = file.read_text(encoding="utf-8")
    return texts


def _keep(texts: Mapping[str, str], findings: Iterable[Finding]) -> tuple[list[Finding], int]:
    """What is left after the comments of the files, and how many findings they took back."""
    kept: list[Finding] = []
    ignores: dict[tuple[str, str], list[_Ignore]] = {}
    for file, content in texts.items():
        if "ovenproof:" in content:
            for ignore in _ignores(file, content, kept):
                ignores.setdefault((file, ignore.rule), []).append(ignore)
    taken_back = 0
    for finding in findings:
        of_rule = ignores.get((finding.file, finding.rule), ())
        covering = next((one for one in of_rule if one.covers(finding.span.line)), None)
        if covering is not None:
            covering.used = True
            taken_back += 1
        else:
            kept.append(finding)
    for (file, rule), of_rule in ignores.items():
        for ignore in of_rule:
            if not ignore.used:
                kept.append(_of_comment("unused-ignore", file, ignore.span, texts[file], f"nothing here breaks {rule}"))
    return kept, taken_back


def _ignores(file: str, content: str, kept: list[Finding]) -> list[_Ignore]:
    """The comments of a file that take findings back; what is wrong with one is added to `kept`."""
    ignores: list[_Ignore] = []
    for number, line in enumerate(content.split("\n"), 1):
        match = _IGNORE.search(line) if "ovenproof" in line else None
        if match is None:
            continue
        span = Span(number, match.start() + 1, number, match.end() + 1)
        rule, reason = match[1], match[2]
        if rule not in rules():
            named = f"there is no rule {rule!r}{near(rule, rules())}" if rule else "an ignore names a rule"
            kept.append(_of_comment("bad-ignore", file, span, content, named))
        elif not reason:
            message = f"say why {rule} is ignored: # ovenproof: ignore {rule} REASON"
            kept.append(_of_comment("bad-ignore", file, span, content, message))
        else:
            ignores.append(_Ignore(rule, number, not line[: match.start()].strip(), span))
    own_lines = {ignore.line for ignore in ignores if ignore.own_line}
    for ignore in ignores:
        while ignore.own_line and ignore.line + 1 in own_lines:  # several of them may stand above one line
            ignore.line += 1
    return ignores


def _of_comment(rule: str, file: str, span: Span, content: str, message: str) -> Finding:
    line = content.split("\n")[span.line - 1]
    return Finding(rule=rule, severity=rules()[rule].severity, message=message, file=file, span=span, source_line=line)


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
            finding = _moved(finding, text.origin[item.span.line - 1], sources)
        yield finding


def _moved(finding: Finding, starts: "Sequence[Start]", sources: dict[str, list[str]]) -> Finding:
    """A finding of a rendered text at the place where that is written."""
    if not starts:
        return finding
    span = finding.span
    start = next((one for one in reversed(starts) if one.column <= span.column), starts[0])
    file, number = shown(start.place.file), start.place.line
    original = sources.setdefault(file, Path(file).read_text(encoding="utf-8").split("\n"))
    there = original[number - 1]
    at = start.place.column + span.column - start.column
    if span.end_line == span.line:
        marked = finding.source_line[span.column - 1 : span.end_column - 1]
        there_too = there[at - 1 : at - 1 + len(marked)] if at > 0 else ""
        if marked and there_too.replace("'", '"') == marked.replace("'", '"'):  # a bundle has quotes of its own
            return replace(finding, file=file, span=Span(number, at, number, at + len(marked)), source_line=there)
    return finding.moved(file, number, start.place.column, there)


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
