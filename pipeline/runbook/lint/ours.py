"""Our own documents for the linter: rendered from their templates, each place with where it is written.

A finding then points to the template, or to the script that the template puts in, which is where it can be mended.
"""

from collections.abc import Iterator
from pathlib import Path

from pipeline import paths
from pipeline.errors import UsageError
from pipeline.runbook.lint.engine import Text, shown


def our_documents(folder: Path | None = None) -> Iterator[Text]:
    """Every document of `ssm-documents/` or of a folder like it, rendered.

    Raises what rendering raises, and UsageError when there is none.
    """
    folder = folder or paths.CHECKOUT / "ssm-documents"
    if not any(folder.glob("*.j2")):  # installed by itself, it has none
        raise UsageError(
            "there is no document to look at",
            expected="files or folders, or templates in ssm-documents/",
            remedy="name a file or a folder",
        )
    from pipeline import documents

    for name in documents.document_names(folder):
        short = name.removeprefix(documents.PREFIX)
        text, origin = documents.traced(name, folder)
        policy = folder / "policies" / f"{short}.yaml"
        yield Text(
            name=shown(folder / f"{short}{documents.SUFFIX}"),
            content=text.encode(),
            policy=policy.read_bytes() if policy.is_file() else None,
            policy_name=shown(policy),
            origin=origin,
        )
