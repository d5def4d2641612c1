"""What a check finds, before it is shown: the rule, the place, one sentence."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from pipeline.runbook.lint.node import Span

Severity = Literal["error", "warning", "note"]


class Found(NamedTuple):
    """A check's answer: the id of the rule, where in the text that was read, what is wrong there.

    `part` is `policy` when the place is in the policy that is shipped with the document.
    """

    rule: str
    span: Span
    message: str
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A `Found` with its file: the place is in that file (a template's own line where the text was rendered)."""

    rule: str
    severity: Severity
    message: str
    file: str
    span: Span
    step: str = ""
    source_line: str = ""

    def moved(self, file: str, line: int, column: int, source_line: str) -> "Finding":
        """The same finding at another file's line, from the first character at `column` or after it to the end."""
        width = len(source_line.rstrip())
        start = len(source_line) - len(source_line[column - 1 :].lstrip()) + 1 if column <= width else 1
        return replace(
            self, file=file, span=Span(line, start, line, max(width + 1, start + 1)), source_line=source_line
        )
