"""The texts of GuardDuty for SSM documents: in, the decision table; out, the script that says what to do about one.

Documents run in AWS, where neither the table nor what reads it is at hand, so they get the part that is about hosts as
`ssm-documents/scripts/issues.py`, which is it as committed; a test says when it is out of date.
"""

from pathlib import Path

from pipeline import paths
from pipeline.coverage import ABSENT_REMEDY
from pipeline.diagnosis.causes import IssueText, causes, in_words

SCRIPT = paths.CHECKOUT / "ssm-documents" / "scripts" / "issues.py"
HOSTS = ("ec2", "bottlerocket")
HEAD = '''\
"""What GuardDuty says of a host that is not covered, and what to do: made from pipeline/diagnosis/causes.yaml.

Do not change it here: `python -m pipeline.diagnosis.extract` writes it anew.
"""

'''
TAIL = '''

def remedy_for(issue: str) -> str:
    """What to do about a text of GuardDuty, however it joins type and message; nothing for one that is not known."""
    text = issue.lower()
    for kind, parts, remedy in ISSUES:
        rest = text.replace(kind, "", 1)
        if kind in text and (all(part in text for part in parts) if parts else not rest.strip(" \\t\\n.:;-")):
            return remedy
    return ""
'''


def render() -> str:
    """The script as text."""
    rows = dict.fromkeys(
        (sign.issue.type or "", _parts(sign.issue), in_words(cause.remedy))
        for cause in causes().values()
        for sign in cause.signs
        if sign.issue and set(sign.issue.on) & set(HOSTS)
    )
    lines = [f"ABSENT = (\n{_text(ABSENT_REMEDY, 4)}\n)"]
    lines.append(
        "# type and parts of the message in small letters, no part where the message is empty; then what to do"
    )
    lines.append("ISSUES = (")
    for kind, parts, remedy in rows:
        listed = ", ".join(map(_quoted, parts)) + ("," if len(parts) == 1 else "")
        lines.append(f"    (\n        {_quoted(kind)},\n        ({listed}),\n{_text(remedy, 8)},\n    ),")
    lines.append(")")
    return HEAD + "\n".join(lines) + "\n" + TAIL


def _parts(issue: IssueText) -> tuple[str, ...]:
    """Parts of the message; where any message will do, the type itself."""
    return (issue.type or "",) if issue.message is None else issue.message


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(text: str, spaces: int) -> str:
    """A string, in pieces that fit a line of the script."""
    room = 116 - spaces
    pieces = [""]
    for word in text.split(" "):
        if len(pieces[-1]) + len(word) > room:
            pieces.append("")
        pieces[-1] += f"{word} "
    pieces[-1] = pieces[-1].removesuffix(" ")
    return "\n".join(" " * spaces + _quoted(piece) for piece in pieces)


if __name__ == "__main__":
    Path(SCRIPT).write_text(render(), encoding="utf-8")
