"""What people are told when an image is promoted or taken back: in, what was done and two records; out, one text.

The text is Markdown, which reads well as a plain message too. It goes into the bake's folder, and to an SNS topic
where one is named.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import boto3

from pipeline.aws_errors import aws_errors
from pipeline.diff import diff
from pipeline.promote import Moved, Promotion
from pipeline.record import Record

SUBJECT_LIMIT: Final = 100
MESSAGE_LIMIT: Final = 256 * 1024
"""Characters of a subject and bytes of a message: SNS API reference, Publish."""
_CUT: Final = "\n\n(cut here; the whole is in the bake's record)\n"


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A subject of one line, and a message in Markdown."""

    subject: str
    message: str


def notice(
    promotion: Promotion, *, variant: str, parameter: str, record: Record | None, before: Record | None
) -> Notice:
    """Put it in words. `record` and `before` are of the image now promoted and of the one before it, where known."""
    back = promotion.back
    done = "is held for approval" if promotion.held else "is promoted again" if back else "is promoted"
    lines = [f"# {variant}: bake {promotion.bake_id} {done}", "", *_table(promotion.moved), ""]
    if promotion.held:
        lines += [f"`{parameter}` is unchanged. To approve: `./run promote --bake {promotion.bake_id}`.", ""]
    elif back:
        lines += [f"`{parameter}` was set back. Running hosts keep the image they have until they are rolled.", ""]
    else:
        lines += [f"`{parameter}` names it now; hosts get it when they are rolled.", ""]
    lines += _changes(record, before)
    subject = f"{variant}: bake {promotion.bake_id} {done}"
    return Notice(subject=subject[:SUBJECT_LIMIT], message="\n".join(lines).rstrip() + "\n")


def _table(moved: Mapping[str, Moved]) -> list[str]:
    rows = [f"| {region} | {one.now} | {one.before or 'none'} |" for region, one in moved.items()]
    return ["| region | image | before |", "| --- | --- | --- |", *rows]


def _changes(record: Record | None, before: Record | None) -> list[str]:
    if record is None:
        return ["What is in it cannot be said: its record is not here."]
    facts = [
        f"- kernel: {record.proof.kernel}",
        f"- GuardDuty agent: {record.proof.agent_version}",
        f"- base: {record.base.name}, {record.base.age_days} days old at the bake",
        "",
    ]
    if before is None:
        return [*facts, "What changed cannot be said: there is no record of an image before it here."]
    return [*facts, f"## What changed since {before.bake_id}", "", diff(before, record).as_markdown()]


def publish(session: boto3.Session, topic_arn: str, text: Notice) -> None:
    """Send it to a topic, cut to what SNS takes. Raises CloudError."""
    data = text.message.encode()
    if len(data) > MESSAGE_LIMIT:
        data = data[: MESSAGE_LIMIT - len(_CUT)].decode(errors="ignore").encode() + _CUT.encode()
    with aws_errors(
        "the notice could not be sent; what it tells of is done all the same",
        where=topic_arn,
        remedy="allow sns:Publish on the topic, and kms:GenerateDataKey where it is encrypted",
    ):
        sns: Any = session.client("sns", region_name=topic_arn.split(":")[3])
        sns.publish(TopicArn=topic_arn, Subject=text.subject, Message=data.decode())
