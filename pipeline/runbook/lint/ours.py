"""Our own documents for the linter: rendered from their templates, each line with its place in what it came from.

A finding then points to the template, or to the script that the template puts in, which is where it can be mended.
"""

from collections.abc import Iterator
from pathlib import Path

from pipeline import paths
from pipeline.errors import UsageError
from pipeline.runbook.lint.engine import Text

Origin = tuple[str, int]
"""A file and a line of it, from 1."""


def our_documents() -> Iterator[Text]:
    """Every document of `ssm-documents/`, rendered. Raises what rendering raises, UsageError when there is none."""
    if not any(paths.CHECKOUT.glob("ssm-documents/*.j2")):  # installed by itself, it has none
        raise UsageError(
            "there is no document to look at",
            expected="files or folders, or templates in ssm-documents/",
            remedy="name a file or a folder",
        )
    from pipeline import documents

    for name, text in documents.rendered_documents().items():
        short = name.removeprefix(documents.PREFIX)
        template = documents.FOLDER / f"{short}{documents.SUFFIX}"
        policy = documents.FOLDER / "policies" / f"{short}.yaml"
        yield Text(
            name=str(template),
            content=text.encode(),
            policy=policy.read_bytes() if policy.is_file() else None,
            policy_name=str(policy),
            origin=origins(text, template, sorted((documents.FOLDER / "scripts").glob("*.py"))),
        )


def origins(text: str, template: Path, scripts: list[Path]) -> list[Origin]:
    """For each line of a rendered text where it comes from: the template's own line, or a script's.

    Lines are aligned, not traced: the template's lines come in order, so a line that is in the template is looked for
    after the last one that was found; a run of lines that is not is looked for in the scripts.
    """
    source = template.read_text(encoding="utf-8").split("\n")
    pools = {
        str(script): [line.strip() for line in script.read_text(encoding="utf-8").split("\n")] for script in scripts
    }
    stripped = [line.rstrip() for line in source]
    made: list[Origin] = []
    at = 0
    last_script: tuple[str, int] | None = None
    for line in text.split("\n"):
        found = _after(stripped, line.rstrip(), at) if line.strip() else None
        in_script = _in_script(pools, line.strip(), last_script) if line.strip() else None
        if last_script is not None and in_script is not None and in_script[0] == last_script[0]:
            found = None  # still inside a script: its lines come first
        if found is not None:
            at, last_script = found + 1, None
            made.append((str(template), found + 1))
        elif in_script is not None:
            last_script = in_script
            made.append((in_script[0], in_script[1] + 1))
        else:
            made.append((str(template), min(at + 1, len(source))) if last_script is None else _same(last_script))
    return made


def _same(place: tuple[str, int]) -> Origin:
    return place[0], place[1] + 1


def _after(lines: list[str], line: str, at: int) -> int | None:
    try:
        return lines.index(line, at)
    except ValueError:
        return None


def _in_script(pools: dict[str, list[str]], line: str, last: tuple[str, int] | None) -> tuple[str, int] | None:
    if last is not None and line in pools[last[0]][last[1] :]:
        return last[0], pools[last[0]].index(line, last[1])
    for name, lines in pools.items():
        if line in lines:
            return name, lines.index(line)
    return None
