"""The figures that alarms watch."""

from datetime import timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from pipeline.figures import NAMESPACE, days_since_proven, publish
from tests.test_plan import LOCK

NOW = LOCK.proven_at + timedelta(days=3)


def test_the_image_that_was_proven_longest_ago_counts() -> None:
    later = LOCK.model_copy(update={"proven_at": NOW - timedelta(days=1)})
    assert days_since_proven([later, LOCK], NOW) == 3.0


@pytest.mark.parametrize("locks", [[], [None], [LOCK, None]])
def test_never_proven_is_no_number(locks: list[Any]) -> None:
    assert days_since_proven(locks, NOW) is None


def test_both_are_written_and_none_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        session = boto3.Session(region_name="eu-west-1")
        cloudwatch: Any = session.client("cloudwatch")
        publish(session, days=None, left_behind=2)
        assert [one["MetricName"] for one in cloudwatch.list_metrics(Namespace=NAMESPACE)["Metrics"]] == ["LeftBehind"]
        publish(session, days=1.5, left_behind=0)
        names = {one["MetricName"] for one in cloudwatch.list_metrics(Namespace=NAMESPACE)["Metrics"]}
        assert names == {"LeftBehind", "DaysSinceProven"}
