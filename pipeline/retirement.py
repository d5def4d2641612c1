"""The doing of `retire`: in, verdicts; out, what came of each. An image is looked at once more right before it goes.

Each step can be repeated: a run that was stopped anywhere is continued by the next one, which decides anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import boto3

from pipeline import tags
from pipeline.aws_errors import AWS_FAILURES, is_gone
from pipeline.clock import Clock
from pipeline.regions import Sessions
from pipeline.retire import OwnImage, Verdict
from pipeline.uses import DISABLED_AT, references

_SOON: Final = timedelta(minutes=2)
"""EC2 takes no time of deprecation that is past, and rounds to the minute."""


@dataclass(frozen=True, kw_only=True)
class Retired:
    """What came of a verdict: `kept` is why it was not carried out after all, `error` why it could not be."""

    verdict: Verdict
    kept: str = ""
    error: str = ""


def carry_out(
    sessions: Sessions, verdicts: Sequence[Verdict], *, clock: Clock, say: Callable[[str], None]
) -> list[Retired]:
    """Do what the verdicts say, one image after the other; one that resists does not stop the others."""
    done = []
    for verdict in verdicts:
        if verdict.action == "keep":
            continue
        image = verdict.image
        what = f"{verdict.action} {image.image_id} in {image.region}"
        try:
            session = sessions(image.region)
            used = [use for _, use in references(session, [image.image_id])] if verdict.action != "deprecate" else []
            if used:
                done.append(Retired(verdict=verdict, kept=used[0]))
                say(f"did not {what}: {used[0]}")
                continue
            left = _step(session, verdict, clock)
        except AWS_FAILURES as error:
            if is_gone(error):
                done.append(Retired(verdict=verdict, kept="it is gone already"))
                continue
            done.append(Retired(verdict=verdict, error=str(error)))
            say(f"could not {what}: {error}")
        else:
            done.append(Retired(verdict=verdict, error=left))
            say(f"done: {what}: {verdict.reason}" + (f"; but {left}" if left else ""))
    return done


def _step(session: boto3.Session, verdict: Verdict, clock: Clock) -> str:
    """Do it; what of it stays behind all the same, in words."""
    ec2: Any = session.client("ec2")
    image = verdict.image
    match verdict.action:
        case "deprecate":
            ec2.enable_image_deprecation(ImageId=image.image_id, DeprecateAt=clock.now() + _SOON)
        case "disable":
            # The time first: an image that is disabled since nobody knows when would wait once more.
            noted = {DISABLED_AT: tags.format_time(clock.now())}
            ec2.create_tags(Resources=[image.image_id], Tags=tags.as_list(noted))
            ec2.disable_image(ImageId=image.image_id)
        case "deregister":
            return _deregister(ec2, image)
    return ""


def _deregister(ec2: Any, image: OwnImage) -> str:
    if image.protected:
        ec2.disable_image_deregistration_protection(ImageId=image.image_id)
    answer = ec2.deregister_image(ImageId=image.image_id, DeleteAssociatedSnapshots=True)
    kept = [one for one in answer.get("DeleteSnapshotResults", []) if one["ReturnCode"] != "success"]
    return ", ".join(f"the snapshot {one['SnapshotId']} stays: {one['ReturnCode']}" for one in kept)
