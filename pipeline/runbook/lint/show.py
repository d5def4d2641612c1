"""Findings in, text out: for people, as JSON, as SARIF 2.1.0, as GitHub's annotations."""

import json
from collections import Counter
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console
from rich.text import Text as Styled

from pipeline.runbook.lint.engine import Report
from pipeline.runbook.lint.finding import Finding, Severity
from pipeline.runbook.lint.rules import Rule, rules

FORMATS: Final = ("text", "json", "sarif", "github")
_STYLES: Final[dict[Severity, str]] = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_WIDTH: Final = 160
SARIF_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def people(report: Report, console: Console, *, notes: bool = False) -> None:
    """Each finding with its line and a caret under the place, and how many there are."""
    for finding in report.findings:
        if finding.severity != "note" or notes:
            _one(finding, console)
    console.print(summary(report), highlight=False, soft_wrap=True)


def _one(finding: Finding, console: Console) -> None:
    style = _STYLES[finding.severity]
    head = Styled(f"{finding.file}:{finding.span.line}:{finding.span.column}: ")
    head.append(f"{finding.severity}: ", style=style).append(finding.message).append(f" [{finding.rule}]", style="dim")
    console.print(head, highlight=False, soft_wrap=True)
    line = finding.source_line.replace("\t", " ").rstrip("\r")
    if not line.strip():
        return
    start = min(finding.span.column - 1, len(line))
    end = finding.span.end_column - 1 if finding.span.end_line == finding.span.line else len(line)
    cut = max(0, start - _WIDTH // 2) if len(line) > _WIDTH else 0
    shown = line[cut : cut + _WIDTH]
    width = max(1, min(end, cut + len(shown)) - start)
    number = str(finding.span.line)
    console.print(Styled(f"  {number} | ", style="dim").append(shown, style="default"), highlight=False, soft_wrap=True)
    caret = Styled(f"  {' ' * len(number)} | ", style="dim").append(" " * (start - cut))
    console.print(caret.append("^" * width, style=style), highlight=False, soft_wrap=True)


def summary(report: Report) -> str:
    """One line: documents, findings by severity, what was ignored or is no document."""
    count = len(report.documents)
    parts = [f"{count} document{'' if count == 1 else 's'}"]
    for severity in ("error", "warning", "note"):
        number = report.count(severity)
        parts.append(f"{number} {severity}{'' if number == 1 else 's'}")
    if report.ignored:
        parts.append(f"{report.ignored} ignored by comments")
    if report.skipped:
        parts.append(f"{len(report.skipped)} files that are no documents")
    return ", ".join(parts)


def as_json(report: Report) -> str:
    """All findings, and the impact of each step of each document."""
    from pipeline.runbook.lint.impact import impacts

    findings = [
        {
            "rule": finding.rule,
            "severity": finding.severity,
            "message": finding.message,
            "file": finding.file,
            "line": finding.span.line,
            "column": finding.span.column,
            "end_line": finding.span.end_line,
            "end_column": finding.span.end_column,
            "step": finding.step,
            "link": rules()[finding.rule].link,
        }
        for finding in report.findings
    ]
    counts = {severity: report.count(severity) for severity in ("error", "warning", "note")}
    documents = [{"name": document.name, "impact": dict(impacts(document))} for document in report.documents]
    whole = {"documents": documents, "findings": findings, "counts": counts, "ignored": report.ignored}
    return json.dumps(whole, indent=2)


def as_sarif(report: Report) -> str:
    """SARIF 2.1.0, one run. Source: OASIS, Static Analysis Results Interchange Format 2.1.0."""
    used = [rule for rule in rules().values() if any(finding.rule == rule.id for finding in report.findings)]
    index = {rule.id: number for number, rule in enumerate(used)}
    run = {
        "tool": {
            "driver": {
                "name": "ovenproof-lint",
                "rules": [_sarif_rule(rule) for rule in used],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(finding, index) for finding in report.findings],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.reason},
        "helpUri": rule.link,
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"tier": rule.tier},
    }


def _sarif_result(finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    span = finding.span
    region = {"startLine": span.line, "startColumn": max(span.column, 1)}
    if (span.end_line, span.end_column) > (span.line, span.column):
        region |= {"endLine": span.end_line, "endColumn": max(span.end_column, 1)}
    place: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": quote(finding.file.replace("\\", "/"))}, "region": region}
    }
    if finding.step:
        place["logicalLocations"] = [{"name": finding.step, "kind": "member"}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": index[finding.rule],
        "level": finding.severity,
        "message": {"text": finding.message},
        "locations": [place],
    }


_LEVELS: Final[dict[Severity, str]] = {"error": "error", "warning": "warning", "note": "notice"}


def as_github(report: Report) -> str:
    """Workflow commands. Source: GitHub, Workflow commands for GitHub Actions."""
    lines = []
    for finding in report.findings:
        fields = {
            "file": finding.file,
            "line": str(finding.span.line),
            "endLine": str(finding.span.end_line),
            "col": str(finding.span.column),
            "title": finding.rule,
        }
        told = ",".join(f"{name}={_property(value)}" for name, value in fields.items())
        lines.append(f"::{_LEVELS[finding.severity]} {told}::{_data(finding.message)}")
    return "\n".join(lines)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def explained(rule: Rule) -> str:
    """A rule with its reason, source and examples."""
    parts = [f"{rule.id} ({rule.severity}, {rule.tier})", rule.reason, rule.link, "", "bad:", _indented(rule.bad)]
    if rule.policy:
        parts += ["", "with the policy:", _indented(rule.policy)]
    return "\n".join([*parts, "", "good:", _indented(rule.good)])


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.rstrip("\n").split("\n"))


def listed() -> str:
    """Every rule in a line."""
    width = max(map(len, rules()))
    counts = Counter(rule.tier for rule in rules().values())
    lines = [f"{rule.id:<{width}}  {rule.severity:<7}  {rule.reason}" for rule in rules().values()]
    tiers = ", ".join(f"{tier} {counts[tier]}" for tier in counts)
    return "\n".join([*lines, f"{len(rules())} rules ({tiers})"])
