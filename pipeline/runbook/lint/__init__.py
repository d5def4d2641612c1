"""A linter for Systems Manager documents that knows AWS: `lint(gather(paths))` gives a report."""

from pipeline.runbook.lint.engine import Report, Text, gather, lint
from pipeline.runbook.lint.finding import Finding

__all__ = ["Finding", "Report", "Text", "gather", "lint"]
