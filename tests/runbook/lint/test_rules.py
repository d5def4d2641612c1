"""Every rule's examples are its tests: the bad one is found by that rule and no other, the good one by none."""

import pytest

from pipeline.runbook.lint.engine import Text, lint
from pipeline.runbook.lint.rules import Rule, rules

LONG = "{{ 66000 characters }}"


def found_in(rule: Rule, text: str, shipped: str) -> list[str]:
    whole = rule.example(text).replace(LONG, "x" * 66_000)
    policy = shipped.encode() if shipped else None
    report = lint(
        [Text(name=f"Example{rule.suffix}", content=whole.encode(), policy=policy, policy_name="policy.yaml")]
    )
    return [finding.rule for finding in report.findings]


@pytest.mark.parametrize("rule", rules().values(), ids=rules())
def test_the_bad_example_is_found_by_its_rule_alone(rule: Rule) -> None:
    assert set(found_in(rule, rule.bad, rule.policy)) == {rule.id}


@pytest.mark.parametrize("rule", rules().values(), ids=rules())
def test_the_good_example_is_clean(rule: Rule) -> None:
    assert found_in(rule, rule.good, rule.good_policy or rule.policy) == []


@pytest.mark.parametrize("rule", rules().values(), ids=rules())
def test_a_rule_says_why_in_one_line_and_where_it_is_written(rule: Rule) -> None:
    assert rule.reason.endswith(".")
    assert "\n" not in rule.reason
    assert rule.link.startswith("https://")
