"""Two figures that alarms watch: in, the locks and what a sweep would find; out, CloudWatch metrics.

`DaysSinceProven` is that of the image which was proven longest ago. `LeftBehind` counts what outlived its bake.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import boto3

from pipeline.aws_errors import aws_errors
from pipeline.plan import Lock

NAMESPACE: Final = "Ovenproof"


def days_since_proven(locks: Sequence[Lock | None], now: datetime) -> float | None:
    """Days since the oldest last proof; None when one of the images was never proven, so that the alarm stays on."""
    if not locks or any(lock is None for lock in locks):
        return None
    return max((now - lock.proven_at).total_seconds() for lock in locks if lock) / 86400


def publish(session: boto3.Session, *, days: float | None, left_behind: int) -> None:
    """Write both. Raises CloudError."""
    data: list[dict[str, Any]] = [{"MetricName": "LeftBehind", "Value": left_behind, "Unit": "Count"}]
    if days is not None:
        data.append({"MetricName": "DaysSinceProven", "Value": days, "Unit": "None"})
    with aws_errors(
        "the figures could not be written",
        where=f"CloudWatch in {session.region_name}, namespace {NAMESPACE}",
        remedy="allow cloudwatch:PutMetricData for that namespace",
    ):
        cloudwatch: Any = session.client("cloudwatch")
        cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=data)
