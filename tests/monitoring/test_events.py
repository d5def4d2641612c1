"""The events template says for each text of GuardDuty what it means; its rules are tried with a matcher of our own."""

import fnmatch
import json
from typing import Any

import pytest
import yaml

from pipeline.diagnosis.causes import causes
from pipeline.monitoring.events import TEMPLATE, render
from tests.diagnosis.test_causes import TEXTS

RESOURCES: dict[str, Any] = yaml.safe_load(render())["Resources"]
RULES = {name: item["Properties"] for name, item in RESOURCES.items() if item["Type"] == "AWS::Events::Rule"}


def matches(pattern: Any, event: Any) -> bool:
    """EventBridge's rules, as far as the template uses them: values, wildcards, anything-but, $or, arrays."""
    if isinstance(pattern, dict):
        return all(
            any(matches(option, event) for option in value) if key == "$or" else matches(value, (event or {}).get(key))
            for key, value in pattern.items()
        )
    values = event if isinstance(event, list) else [event]
    return any(_one(matcher, value) for matcher in pattern for value in values if value is not None)


def _one(matcher: Any, value: str) -> bool:
    if isinstance(matcher, str):
        return matcher == value
    if "wildcard" in matcher:
        return fnmatch.fnmatchcase(value, matcher["wildcard"].replace("[", "[[]"))
    return not any(fnmatch.fnmatchcase(value, pattern) for pattern in matcher["anything-but"]["wildcard"])


def event(text: str, *, fargate: bool) -> dict[str, Any]:
    detail: dict[str, Any] = {"resourceAccountId": "1" * 12, "currentStatus": "Unhealthy", "issue": text}
    if fargate:
        details = {"clusterName": "main", "fargateDetails": {"issues": [text]}}
        detail |= {"issue": "", "resourceDetails": {"resourceType": "ECS", "ecsClusterDetails": details}}
    return {"source": "aws.guardduty", "detail-type": "GuardDuty Runtime Protection Unhealthy", "detail": detail}


@pytest.mark.parametrize(("on", "text", "cause"), [(on[0], text, cause) for on, text, cause in TEXTS])
def test_each_text_sends_its_cause(on: str, text: str, cause: str) -> None:
    sent = [name for name, rule in RULES.items() if matches(rule["EventPattern"], event(text, fargate=on == "fargate"))]
    own = "".join(part.capitalize() for part in cause.split("-"))
    if text == "No Agent Reporting:":  # AWS's pages show the type alone; a colon at the end is ours to fear
        assert sent in ([own], ["Unknown"])
        return
    assert (own in sent and "Unknown" not in sent) or (on == "fargate" and own in sent)
    message = RULES[own]["Targets"][0]["InputTransformer"]["InputTemplate"]
    assert causes()[cause].title.replace('"', "'") in message


def test_an_unknown_text_is_told_as_unknown() -> None:
    sent = [
        name for name, rule in RULES.items() if matches(rule["EventPattern"], event("A text of 2029", fargate=False))
    ]
    assert sent == ["Unknown"]


def test_healthy_again_is_told() -> None:
    healthy = {"source": "aws.guardduty", "detail-type": "GuardDuty Runtime Protection Healthy", "detail": {}}
    assert [name for name, rule in RULES.items() if matches(rule["EventPattern"], healthy)] == ["Healthy"]


@pytest.mark.parametrize("name", RULES)
def test_a_message_names_only_what_an_event_has_and_keeps_to_the_limits(name: str) -> None:
    transformer = RULES[name]["Targets"][0]["InputTransformer"]
    template = transformer["InputTemplate"]
    named = {part.split(">")[0] for part in template.split("<")[1:]}
    assert named <= set(transformer["InputPathsMap"])
    assert template[0] == template[-1] == '"' and '"' not in template[1:-1]
    assert "{" not in template
    assert len(template) < 8192 and len(json.dumps(RULES[name]["EventPattern"])) < 4096
    assert len(RULES[name]["Description"]) <= 512


def test_the_committed_template_is_up_to_date() -> None:
    assert TEMPLATE.read_text(encoding="utf-8") == render(), "write it anew: pipeline.monitoring.events.render()"
