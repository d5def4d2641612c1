"""`ovenproof-lint`, and `./run lint`: arguments in, a report on standard output and an exit code out.

Exit codes: 0 nothing wrong, or warnings only; 2 usage; 3 errors were found, with `--strict` warnings too.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipeline.errors import OvenproofError, UsageError
from pipeline.runbook.lint import show
from pipeline.runbook.lint.aws import near
from pipeline.runbook.lint.engine import Report, gather, lint
from pipeline.runbook.lint.rules import rules

FOUND = 3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="ovenproof-lint",
        description="Check documents of AWS Systems Manager (Automation 0.3, Command 2.2) without an AWS account.",
        epilog="Exit codes: 0 clean or warnings only, 2 usage, 3 errors (with --strict: or warnings).",
    )
    made.add_argument(
        "paths",
        nargs="*",
        metavar="FILE|DIR",
        help="documents, or folders to look for them in; Ovenproof's own when none is named",
    )
    made.add_argument("--format", choices=show.FORMATS, default="text", help="how findings are shown")
    made.add_argument("--strict", action="store_true", help="exit 3 for warnings too")
    made.add_argument("--notes", action="store_true", help="show notes as well")
    made.add_argument("--impact", action="store_true", help="say of each step whether it reads, changes or destroys")
    made.add_argument("--policy", action="store_true", help="print the least policy for each document's role")
    made.add_argument("--explain", metavar="RULE", help="a rule's reason, source and examples")
    made.add_argument("--rules", action="store_true", help="list every rule")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parser().parse_args(argv)
    try:
        return _run(options)
    except OvenproofError as error:
        print(f"\n{error}", file=sys.stderr)  # noqa: T201 - this is a command's own output
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # whoever read has seen enough
        return 0


def _run(options: argparse.Namespace) -> int:
    if options.rules:
        _say(show.listed())
        return 0
    if options.explain:
        rule = rules().get(options.explain)
        if rule is None:
            raise UsageError(
                f"there is no rule {options.explain}{near(options.explain, rules())}",
                remedy="`--rules` lists them all",
            )
        _say(show.explained(rule))
        return 0
    if options.paths:
        report = lint(gather(map(Path, options.paths)))
    else:
        from pipeline.runbook.lint.ours import our_documents

        report = lint(our_documents())
    if options.policy:
        _say(_policies(report))
        return 0
    if options.format == "text":
        console = Console(soft_wrap=True, emoji=False, markup=False)
        show.people(report, console, notes=options.notes)
        if options.impact:
            _say(_impacts(report))
    else:
        _say({"json": show.as_json, "sarif": show.as_sarif, "github": show.as_github}[options.format](report))
    wrong = report.count("error") + (report.count("warning") if options.strict else 0)
    return FOUND if wrong else 0


def _policies(report: Report) -> str:
    import yaml

    from pipeline.runbook.permissions import least_policy

    parts = []
    for document in report.documents:
        if document.kind == "Automation":
            parts.append(f"# {document.name}\n" + yaml.safe_dump(least_policy(document), sort_keys=False))
    return "---\n".join(parts).rstrip("\n")


def _impacts(report: Report) -> str:
    from pipeline.runbook.lint.impact import impacts

    lines: list[str] = []
    for document in report.documents:
        rows = list(impacts(document))
        width = max((len(name) for name, _ in rows), default=0)
        lines += [f"{document.name}:", *(f"  {name:<{width}}  {label}" for name, label in rows)]
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
