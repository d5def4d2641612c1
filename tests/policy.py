"""A policy held against calls that were really made: in, its statements and calls; out, what IAM would refuse.

For each call and each resource in it a statement must allow the action there, under conditions that hold. What is not
looked at: account and partition in ARNs, and conditions on what the local cloud does not know (`NOT_KNOWN_HERE`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import yaml

from pipeline.paths import CHECKOUT
from pipeline.rehearsal.journal import Call

Statement = Mapping[str, Any]

MADE: Final = {
    "ec2:CopyImage": ("image", "snapshot"),
    "ec2:CreateImage": ("image", "snapshot"),
    "ec2:CreateKeyPair": ("key-pair",),
    "ec2:CreateSecurityGroup": ("security-group",),
    "ecs:CreateCluster": ("cluster",),
    "ec2:RunInstances": ("instance", "network-interface", "volume"),
}
"""What a call makes, which its policy must allow too (Service Authorization Reference, EC2)."""

TAGS: Final = {
    "ecs:CreateCluster": "ecs:TagResource",
    "iam:CreateInstanceProfile": "iam:TagInstanceProfile",
    "iam:CreateRole": "iam:TagRole",
}
"""What a call takes beside its own right when it sets tags."""

NOT_KNOWN_HERE: Final = {"iam:PassedToService", "kms:ViaService", "kms:GrantIsForAWSResource"}
NO_PERMISSION: Final = {"sts:GetCallerIdentity"}  # IAM user guide: it works even with an explicit deny


@dataclass(frozen=True)
class Question:
    """One thing that IAM asks of a policy; `request` and `resource` are the keys of tags there."""

    action: str
    arn: str  # "" for a call that names no resource
    request: tuple[str, ...]
    resource: tuple[str, ...]
    conditions: tuple[tuple[str, str], ...] = ()


def statements_of(name: str) -> tuple[Statement, ...]:
    """The statements of a policy in `pipeline/policies`."""
    text = (CHECKOUT / "pipeline" / "policies" / f"{name}.yaml").read_text(encoding="utf-8")
    found: list[Statement] = yaml.safe_load(text)["Statement"]
    return tuple(found)


def listed(value: Any) -> list[Any]:
    """What stands in a policy as one or as several."""
    return value if isinstance(value, list) else [value]


def allowed(statements: Sequence[Statement]) -> set[str]:
    """Every action that a policy names."""
    return {action for one in statements for action in listed(one["Action"])}


def questions(call: Call) -> Iterator[Question]:
    """What IAM asks for a call."""
    sets = dict(call.sets)
    everywhere = sets.get("", ())
    made = MADE.get(call.action, ())
    for kind in made:
        tags = sets.get(kind, everywhere)
        yield Question(call.action, _arn(call, kind, "ovenproof-proof-new"), tags, (), call.conditions)
    for kind in filter(None, sets):  # tags on what is made take a right of their own
        yield Question("ec2:CreateTags", _arn(call, kind, "new"), sets[kind], ())
    for one in call.named:
        if everywhere and call.action in TAGS:
            yield Question(TAGS[call.action], _arn(call, one.kind, one.name), everywhere, one.tags)
        if one.kind in made and call.action.split(":")[1].startswith("Create"):
            continue  # the name of what is made
        arn = _arn(call, one.kind, one.name, one.region)
        yield Question(call.action, arn, everywhere, one.tags, call.conditions)
        if call.action == "iam:AddRoleToInstanceProfile" and one.kind == "role":
            yield Question("iam:PassRole", arn, (), ())
    if not made and not call.named:
        yield Question(call.action, "", everywhere, (), call.conditions)


def refusals(statements: Sequence[Statement], calls: Sequence[Call]) -> list[str]:
    """What of those calls the policy does not allow, in words."""
    asked = {question for call in calls for question in questions(call) if call.action not in NO_PERMISSION}
    return [str(one) for one in sorted(asked, key=str) if not any(_allows(each, one) for each in statements)]


def _arn(call: Call, kind: str, name: str, there: str = "") -> str:
    service = "iam" if kind in {"instance-profile", "role"} else "ec2"
    service = call.action.split(":")[0] if kind in {"cluster", "document", "parameter"} else service
    region = "" if service == "iam" else there or call.region
    of_aws = kind == "parameter" and name.startswith("/aws/")  # a public parameter's ARN names no account
    account = "" if of_aws or kind in {"document", "image", "snapshot"} else "123456789012"
    return f"arn:aws:{service}:{region}:{account}:{kind}/{name.lstrip('/')}"


def _allows(statement: Statement, asked: Question) -> bool:
    if asked.action not in listed(statement["Action"]):
        return False
    resources = listed(statement["Resource"])
    # What names its resource in no way that the journal reads is held against the action alone.
    if asked.arn and not any(fnmatchcase(asked.arn, pattern) for pattern in resources):
        return False
    return all(
        _holds(operator, key, value, asked)
        for operator, conditions in statement.get("Condition", {}).items()
        for key, value in conditions.items()
        if key not in NOT_KNOWN_HERE
    )


def _holds(operator: str, key: str, value: Any, asked: Question) -> bool:
    place, slash, tag = key.partition("/")
    if slash:
        assert (operator, value) in {("Null", "false"), ("StringLike", "*")}, (
            f"{operator} {key} {value}: not known here"
        )
        return tag in (asked.request if place == "aws:RequestTag" else asked.resource)
    assert operator in {"ArnLike", "StringEquals"}, f"{operator} {key}: not known here"
    found = dict(asked.conditions).get(key, "")
    if operator == "ArnLike":  # a request names a profile; its ARN ends so
        return any(fnmatchcase(found, pattern.rpartition("/")[2]) for pattern in listed(value))
    return found in listed(value)
