"""How long what a bake makes may stand: in, the catalog's limits and a target's patience; out, the expiry in the tags.

A sweep elsewhere ends whatever is past its expiry, so the expiry lies behind the longest bake that is still good: the
builder's whole life, the wait for the image, and a proof that needs all of its patience.
"""

from datetime import datetime, timedelta
from typing import Final

from pipeline.catalog import Policies, Polling
from pipeline.commands import COMMAND_GRACE_SECONDS
from pipeline.target import ProofSeconds

ECS_AGENT_SECONDS: Final = 330
CHECK_SECONDS: Final = 600
"""For ovenproof-check, which watches units over a window and takes minutes on a slow host."""
MAKING_AND_UNMAKING_SECONDS: Final = 900
"""For key pairs, groups, profiles and clusters, and for instances to end: some minutes each in AWS."""


def proof_seconds(patience: ProofSeconds) -> float:
    """The longest that a proof can take: EC2 and then SSM have the time of a boot each."""
    commands = ECS_AGENT_SECONDS + CHECK_SECONDS + 2 * COMMAND_GRACE_SECONDS
    return 2 * patience.boot + commands + patience.coverage + MAKING_AND_UNMAKING_SECONDS


def expires_at(started: datetime, *, policies: Policies, polling: Polling, patience: ProofSeconds) -> datetime:
    """When nothing of a bake that began at `started` can be in use any more, unless it was proven."""
    builder = timedelta(minutes=policies.builder_max_lifetime_minutes)
    image = timedelta(seconds=polling.delay_seconds * polling.max_attempts)
    return started + builder + image + timedelta(seconds=proof_seconds(patience) + MAKING_AND_UNMAKING_SECONDS)
