"""Selectors on their own: what each finds, what it does not, and what is not one."""

from typing import Any

import pytest

from pipeline.runbook.selector import MISSING, BadSelector, select

ANSWER = {"A": {"B": [{"C": 1}, {"C": 2}]}, "C": {"C": 3}, "x-y": {"z:w": 4}}


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("$", ANSWER),
        ("$.A.B[1].C", 2),
        ("$['A']['B'][0]", {"C": 1}),
        ("$.A.B", [{"C": 1}, {"C": 2}]),
        ("$..C", [{"C": 3}, 1, 2, 3]),
        ("$.A..C", [1, 2]),
        ("$.A..B[0].C", [1]),
        ("$..B..C", [1, 2]),
        ("$.x-y.z:w", 4),
        ("$..nothing", []),
    ],
)
def test_what_is_found(selector: str, found: Any) -> None:
    answer = select(selector, ANSWER)

    assert sorted(answer, key=str) == sorted(found, key=str) if ".." in selector else answer == found


@pytest.mark.parametrize("selector", ["$.B", "$.A.B[2]", "$.A[0]", "$.A.B.C", "$.C.C.C"])
def test_what_is_not_there_is_missing(selector: str) -> None:
    assert select(selector, ANSWER) is MISSING


@pytest.mark.parametrize(
    "selector", ["$.A[*]", "$.A.B[-1]", "$.A.B[0:1]", "$.A.B[?(@.C)]", "$.A.length()", "$.", "$x y"]
)
def test_what_is_no_selector(selector: str) -> None:
    with pytest.raises(BadSelector, match=r"AWS documents \.child, \.\.scan and \[index\] only"):
        select(selector, ANSWER)
