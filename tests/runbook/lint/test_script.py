"""What is told of a script without running it, and what is not: of unknown things nothing is claimed."""

import textwrap

import pytest

from pipeline.runbook.lint.script import Script, look_through


def look(text: str) -> Script:
    return look_through(textwrap.dedent(text), "main")


def problems(text: str) -> list[tuple[str, int]]:
    found = look(f"import boto3\n{textwrap.dedent(text)}").problems.values()
    return sorted((problem.rule, problem.line) for problem in found)


@pytest.mark.parametrize(
    "text",
    [
        'def main(e, c):\n    r = boto3.client("ecs").list_tasks()\n    r = boto3.client("ec2").describe_instances()\n'
        '    print(r["Reservations"])',
        'def main(e, c):\n    r = boto3.client("ecs").list_tasks() if e else boto3.client("ec2").describe_instances()\n'
        '    print(r["Reservations"])',
        'def main(e, c):\n    r = e["x"]\n    r.anything()["at"]["all"]',
        'def main(e, c):\n    print(boto3.client("ecs").list_tasks()["ResponseMetadata"]["HTTPStatusCode"])',
        'def main(e, c):\n    x = boto3.client("s3")\n    x.upload_file("a", "b", "c")\n    x.exceptions.NoSuchKey',
        "try:\n    import ujson\nexcept ImportError:\n    ujson = None\ndef main(e, c):\n    return ujson",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mypy_boto3_ecs\ndef main(e, c):\n    pass",
        'def main(e, c):\n    for key, tag in {"a": 1}.items():\n        print(key, tag)\n    [x for x in e if x]',
        'def main(e, c):\n    boto3.client("ecs").list_tasks(**e)',
        "def main(e, c):\n    if (n := len(e)) > 1:\n        print(n)",
        'def main(e, c):\n    match e:\n        case {"a": x}:\n            print(x)',
    ],
)
def test_what_is_well_or_unknown_is_left_alone(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('def main(e, c):\n    boto3.client("ecs").list_task()', ("script-operation", 3)),
        ('def main(e, c):\n    boto3.client("ecss")', ("script-operation", 3)),
        ('def main(e, c):\n    boto3.client("ecs").get_paginator("describe_tasks")', ("script-operation", 3)),
        ('def main(e, c):\n    boto3.client("ecs").get_waiter("tasks_done")', ("script-operation", 3)),
        ('def main(e, c):\n    boto3.client("ecs").exceptions.NoCluster', ("script-operation", 3)),
        ('def main(e, c):\n    print(boto3.client("ecs").list_tasks()["tasks"])', ("script-answer-key", 3)),
        (
            'def main(e, c):\n    for page in boto3.client("ecs").get_paginator("list_tasks").paginate():\n'
            '        print(page["tasks"])',
            ("script-answer-key", 4),
        ),
        (
            'def main(e, c):\n    for group in boto3.client("autoscaling").describe_auto_scaling_groups()'
            '["AutoScalingGroups"]:\n        print([i["Id"] for i in group["Instances"]])',
            ("script-answer-key", 4),
        ),
        ('def main(e, c):\n    print(boto3.client("ecs").list_tasks().get("tasks", []))', ("script-answer-key", 3)),
        (
            "def one(client):\n    return client.list_tasks()\n"
            'def main(e, c):\n    print(one(boto3.client("ecs"))["x"])',
            ("script-answer-key", 5),
        ),
        ("def main(e, c):\n    print(nothing)", ("script-undefined", 3)),
        ("import pandas\ndef main(e, c):\n    pass", ("script-import", 2)),
    ],
)
def test_what_fails_when_it_runs_is_found(text: str, found: tuple[str, int]) -> None:
    assert problems(text) == [found]


def test_reads_of_events_are_known_through_functions() -> None:
    script = look(
        'def part(events):\n    return events["b"]\n'
        'def main(events, context):\n    return events.get("a"), part(events)'
    )
    assert {key: needed for key, (_, _, needed) in script.event_keys.items()} == {"a": False, "b": True}
    assert not script.event_escapes


def test_events_that_are_given_away_may_be_read_anywhere() -> None:
    assert look("import json\ndef main(events, context):\n    print(json.dumps(events))").event_escapes


def test_what_a_handler_returns_is_known() -> None:
    script = look(
        """
        def main(events, context):
            answer = {"count": len(events)}
            answer["names"] = []
            if events:
                return {"count": 0, "text": f"{events}"}
            return answer
        """
    )
    assert frozenset().union(*(value.keys for value in script.returned)) == {"count", "names", "text"}
