"""Publish our documents: in, the rendered documents and their policies; out, the same in one region of an account.

What is there is read first and told as a diff; nothing is written where nothing differs. A changed document becomes a
new version and the default one; SSM keeps the versions before it. Roles are global, so a role serves every region: its
policy names `*` where a document's policy file says <region>, which is the only wildcard that publishing adds.

Sources: Systems Manager API reference (CreateDocument, UpdateDocument, UpdateDocumentDefaultVersion), IAM API
reference, and "Setting up Automation" of the user guide for the trust policy with its two conditions.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import boto3
import yaml
from botocore.exceptions import ClientError

from pipeline.aws_errors import aws_errors, error_code, is_gone
from pipeline.catalog import load_catalog
from pipeline.clock import Clock, SystemClock
from pipeline.documents import document_kind, policy_of, rendered_documents
from pipeline.errors import CloudError, UsageError
from pipeline.target import aws_session
from pipeline.wait import poll

if TYPE_CHECKING:
    from mypy_boto3_ssm.literals import DocumentTypeType

POLICY: Final = "Ovenproof"
INSTANCE_ROLE: Final = "ecsInstanceRole"
"""AWS's own name for the role of ECS hosts (ECS Developer Guide, container instance IAM role)."""

ROLE_TAG: Final = "OvenproofDocument"
"""On each role that publishing made; a role without it is somebody else's and is left alone."""

READY_SECONDS: Final = 60.0
EVERY_SECONDS: Final = 2.0
REMEDY: Final = "the caller needs ssm:*Document* on Ovenproof-* and iam:*Role* on role/Ovenproof-*"


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document as it should be, and the policies of its role by name; none for a Command document."""

    name: str
    kind: Literal["Automation", "Command"]
    text: str
    policies: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One document as it is: None where there is nothing. `stray` are policies of the role that we do not know."""

    text: str | None = None
    latest: str = ""
    default: str = ""
    latest_text: str | None = None
    role: bool = False
    trust: Mapping[str, Any] | None = None
    policies: Mapping[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """What publishing one document means. `what` is a line for people, `diff` the lines that differ."""

    document: Document
    content: Literal["create", "update", "make-default", "keep"]
    role: Literal["create", "update", "keep", "none"]
    what: str
    diff: str

    @property
    def is_one(self) -> bool:
        return self.content != "keep" or self.role in ("create", "update")


# -- what there should be ---------------------------------------------------------------------------------------------


def wanted_documents(
    account: str, partition: str, instance_roles: Sequence[str] = (INSTANCE_ROLE,)
) -> tuple[Document, ...]:
    """Every document with the policy of its role, those first that others start.

    A document that is started by another one runs as that one's role, so a role may do what each of them has to.
    `instance_roles` are the only roles that a roll may hand to hosts.
    """
    texts = rendered_documents()
    started = {name: _started_by(text, texts) for name, text in texts.items()}
    ordered: list[str] = []

    def place(name: str, above: tuple[str, ...] = ()) -> None:
        if name in ordered or name in above:
            return
        for child in sorted(started[name]):
            place(child, (*above, name))
        ordered.append(name)

    for name in sorted(texts):
        place(name)
    made = []
    for name in ordered:
        kind: Literal["Automation", "Command"] = (
            "Automation" if document_kind(texts[name]) == "Automation" else "Command"
        )
        policies = {}
        if kind == "Automation":
            parts = [policy for one in sorted(_reached(name, started)) if (policy := policy_of(one))]
            policies[POLICY] = merged([_filled(policy, account, partition, instance_roles) for policy in parts])
        made.append(Document(name=name, kind=kind, text=texts[name], policies=policies))
    return tuple(made)


def _started_by(text: str, known: Iterable[str]) -> frozenset[str]:
    """Documents of ours that a document starts, by whatever step."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            name = value.get("DocumentName")
            if isinstance(name, str):
                found.add(name)
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    look(yaml.safe_load(text).get("mainSteps", []))
    return frozenset(found & set(known))


def _reached(name: str, started: Mapping[str, frozenset[str]]) -> frozenset[str]:
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached.add(one)
            waiting += started[one]
    return frozenset(reached)


def _filled(
    policy: Mapping[str, Any], account: str, partition: str, instance_roles: Sequence[str]
) -> Mapping[str, Any]:
    """A policy file's marks replaced; a resource with <instance-role> becomes one for each of the roles."""

    def fill(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [part for item in value for part in _as_list(fill(item))]
        if not isinstance(value, str):
            return value
        for mark, text in (("<account>", account), ("<partition>", partition), ("<region>", "*")):
            value = value.replace(mark, text)
        return (
            [value.replace("<instance-role>", role) for role in instance_roles] if "<instance-role>" in value else value
        )

    filled: Mapping[str, Any] = fill(policy)
    return filled


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def merged(policies: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One policy that allows what each of them does, with what is about the same resources said once.

    IAM takes 10,240 characters of inline policies a role; five documents side by side are more than that. Raises
    ValueError for a statement that does anything but allow, which could not be put together so.
    """
    together: dict[tuple[tuple[str, ...], str], set[str]] = {}
    for policy in policies:
        for statement in policy["Statement"]:
            if statement["Effect"] != "Allow" or set(statement) - {"Sid", "Effect", "Action", "Resource", "Condition"}:
                raise ValueError(f"only plain Allow statements can be put together, found {statement}")
            resources = tuple(sorted(_as_list(statement["Resource"])))
            condition = json.dumps(statement.get("Condition", {}), sort_keys=True)
            together.setdefault((resources, condition), set()).update(_as_list(statement["Action"]))
    by_actions: dict[tuple[tuple[str, ...], str], set[str]] = {}
    for (resources, condition), actions in together.items():
        by_actions.setdefault((tuple(sorted(actions)), condition), set()).update(resources)
    statements = []
    for (listed, condition), found in sorted(by_actions.items()):
        statement = {"Effect": "Allow", "Action": list(listed), "Resource": sorted(found)}
        if condition != "{}":
            statement["Condition"] = json.loads(condition)
        statements.append(statement)
    return {"Version": "2012-10-17", "Statement": statements}


def trust_policy(account: str, partition: str) -> Mapping[str, Any]:
    """Who may become a document's role: SSM, for executions of this account and for nobody else's."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "ssm.amazonaws.com"},
                "Action": "sts:AssumeRole",
                "Condition": {
                    "StringEquals": {"aws:SourceAccount": account},
                    "ArnLike": {"aws:SourceArn": f"arn:{partition}:ssm:*:{account}:automation-execution/*"},
                },
            }
        ],
    }


# -- what there is ----------------------------------------------------------------------------------------------------


def standing_of(session: boto3.Session, document: Document) -> Standing:
    """Read a document and its role. Raises CloudError for a role of that name which is not ours."""
    ssm = session.client("ssm")
    text = latest_text = None
    latest = default = ""
    try:
        described = ssm.describe_document(Name=document.name)["Document"]
    except ClientError as error:
        if error_code(error) != "InvalidDocument":
            raise
    else:
        default, latest = described["DefaultVersion"], described["LatestVersion"]
        text = ssm.get_document(Name=document.name, DocumentVersion=default, DocumentFormat="YAML")["Content"]
        latest_text = text
        if latest != default:
            latest_text = ssm.get_document(Name=document.name, DocumentVersion=latest, DocumentFormat="YAML")["Content"]
    role, trust, policies = _role_of(session, document) if document.kind == "Automation" else (False, None, {})
    return Standing(
        text=text,
        latest=latest,
        default=default,
        latest_text=latest_text,
        role=role,
        trust=trust,
        policies=policies,
    )


def _role_of(
    session: boto3.Session, document: Document
) -> tuple[bool, Mapping[str, Any] | None, Mapping[str, Mapping[str, Any]]]:
    iam = session.client("iam")
    try:
        role = iam.get_role(RoleName=document.name)["Role"]
    except ClientError as error:
        if is_gone(error):
            return False, None, {}
        raise
    if ROLE_TAG not in {tag["Key"] for tag in role.get("Tags", [])}:
        raise CloudError(
            f"the role {document.name} was not made by Ovenproof",
            expected=f"the tag {ROLE_TAG} on it, or no role of that name",
            found=role["Arn"],
            where="IAM",
            remedy=f"rename or remove it, or tag it {ROLE_TAG}={document.name} if Ovenproof may write its policies",
        )
    names = [
        name
        for page in iam.get_paginator("list_role_policies").paginate(RoleName=document.name)
        for name in page["PolicyNames"]
    ]
    policies = {name: iam.get_role_policy(RoleName=document.name, PolicyName=name)["PolicyDocument"] for name in names}
    return True, _plain(role["AssumeRolePolicyDocument"]), {name: _plain(policy) for name, policy in policies.items()}


def _plain(policy: Any) -> Mapping[str, Any]:
    """botocore decodes a policy to a mapping; an emulator may leave it as text."""
    found: Mapping[str, Any] = json.loads(policy) if isinstance(policy, str) else policy
    return found


# -- what differs -----------------------------------------------------------------------------------------------------


def change_of(document: Document, standing: Standing, trust: Mapping[str, Any]) -> Change:
    """What has to be done so that what stands is what should be. Pure."""
    content: Literal["create", "update", "make-default", "keep"]
    if standing.text is None:
        content = "create"
    elif _same(standing.text, document.text):
        content = "keep"
    elif standing.latest_text is not None and _same(standing.latest_text, document.text):
        content = "make-default"
    else:
        content = "update"
    role: Literal["create", "update", "keep", "none"] = "none"
    if document.kind == "Automation":
        if not standing.role:
            role = "create"
        else:
            role = "keep" if standing.trust == trust and standing.policies == document.policies else "update"
    told = {
        "create": "new",
        "update": f"changed, version {standing.default} now",
        "make-default": f"version {standing.latest} becomes the default, which is {standing.default} now",
        "keep": f"as it is, version {standing.default}",
    }[content]
    if role in ("create", "update"):
        told += ", role new" if role == "create" else ", role changed"
    diff = [
        *_lines(document.name, standing.text or "", document.text),
        *(
            _lines(
                f"{document.name} (role)",
                _yaml({"trust": standing.trust, **(standing.policies or {})}) if standing.role else "",
                _yaml({"trust": trust, **document.policies}),
            )
            if role in ("create", "update")
            else ()
        ),
    ]
    return Change(
        document=document,
        content=content,
        role=role,
        what=f"{document.name}: {told}",
        diff="\n".join(diff) if content in ("create", "update", "make-default") or role in ("create", "update") else "",
    )


def _same(one: str, other: str) -> bool:
    """Whether two documents mean the same; SSM may give a text back in another shape than it got."""
    return bool(yaml.safe_load(one) == yaml.safe_load(other))


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=True)


def _lines(name: str, before: str, after: str) -> Sequence[str]:
    if before and after and before.strip() == after.strip():
        return ()
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name} now", name, lineterm="", n=2))


# -- doing it ---------------------------------------------------------------------------------------------------------


def carry_out(session: boto3.Session, changes: Sequence[Change], account: str, partition: str, *, clock: Clock) -> None:
    """Write every change: the role before its document, a document before those that start it."""
    for change in changes:
        if change.role in ("create", "update"):
            _write_role(session, change.document, account, partition, new=change.role == "create")
        if change.content != "keep":
            _write_document(session, change, clock)


def _write_role(session: boto3.Session, document: Document, account: str, partition: str, *, new: bool) -> None:
    iam = session.client("iam")
    trust = json.dumps(trust_policy(account, partition))
    if new:
        iam.create_role(
            RoleName=document.name,
            AssumeRolePolicyDocument=trust,
            Description=f"What {document.name} may do; made by `./run publish-documents`",
            Tags=[{"Key": ROLE_TAG, "Value": document.name}],
        )
    else:
        iam.update_assume_role_policy(RoleName=document.name, PolicyDocument=trust)
    for name, policy in document.policies.items():
        iam.put_role_policy(
            RoleName=document.name, PolicyName=name, PolicyDocument=json.dumps(policy, separators=(",", ":"))
        )
    for page in iam.get_paginator("list_role_policies").paginate(RoleName=document.name):
        for name in page["PolicyNames"]:
            if name not in document.policies:
                iam.delete_role_policy(RoleName=document.name, PolicyName=name)


def _write_document(session: boto3.Session, change: Change, clock: Clock) -> None:
    ssm = session.client("ssm")
    name = change.document.name
    if change.content == "create":
        kind: DocumentTypeType = change.document.kind
        ssm.create_document(Name=name, Content=change.document.text, DocumentType=kind, DocumentFormat="YAML")
        _until_active(session, name, "$LATEST", clock)
        return
    if change.content == "update":
        updated = ssm.update_document(
            Name=name, Content=change.document.text, DocumentVersion="$LATEST", DocumentFormat="YAML"
        )
        version = updated["DocumentDescription"]["DocumentVersion"]
    else:
        version = ssm.describe_document(Name=name, DocumentVersion="$LATEST")["Document"]["LatestVersion"]
    _until_active(session, name, version, clock)
    ssm.update_document_default_version(Name=name, DocumentVersion=version)


def _until_active(session: boto3.Session, name: str, version: str, clock: Clock) -> None:
    ssm = session.client("ssm")
    found = poll(
        lambda: ssm.describe_document(Name=name, DocumentVersion=version)["Document"],
        lambda one: one["Status"] not in ("Creating", "Updating"),
        clock=clock,
        timeout_seconds=READY_SECONDS,
        every_seconds=EVERY_SECONDS,
    )
    if found["Status"] != "Active":
        raise CloudError(
            f"SSM does not take the document {name}",
            expected="status Active",
            found=f"{found['Status']}: {found.get('StatusInformation', '')}",
            where=f"SSM in {session.region_name}",
            remedy="the version before stays the default; correct the document and publish again",
        )


def publish(
    session: boto3.Session,
    *,
    yes: bool,
    clock: Clock,
    say: Callable[[str], None],
    instance_roles: Sequence[str] = (INSTANCE_ROLE,),
) -> str:
    """Tell what differs; with `yes` make it so. Raises CloudError for what AWS refuses."""
    with aws_errors("the documents cannot be published", where=f"SSM and IAM in {session.region_name}", remedy=REMEDY):
        caller = session.client("sts").get_caller_identity()
        account, partition = caller["Account"], caller["Arn"].split(":")[1]
        trust = trust_policy(account, partition)
        changes = [
            change_of(document, standing_of(session, document), trust)
            for document in wanted_documents(account, partition, instance_roles)
        ]
        for change in changes:
            if change.diff:
                say(change.diff)
        lines = [change.what for change in changes]
        open_ones = [change for change in changes if change.is_one]
        if not open_ones:
            return "\n".join([*lines, f"nothing to do: {session.region_name} of {account} has all of this"])
        if not yes:
            return "\n".join([*lines, f"{len(open_ones)} of {len(changes)} would change; `--yes` does it"])
        carry_out(session, open_ones, account, partition, clock=clock)
    return "\n".join([*lines, f"published {len(open_ones)} of {len(changes)} in {session.region_name} of {account}"])


def publish_documents(*, region: str, instance_roles: str, yes: bool, say: Callable[[str], None]) -> str:
    """`./run publish-documents`: the same in AWS, in one region, with the credentials of the environment.

    Raises UsageError for a role's name that is none, CloudError for what AWS refuses.
    """
    roles = [role.strip() for role in instance_roles.split(",") if role.strip()] or [INSTANCE_ROLE]
    for role in roles:
        if not re.fullmatch(r"[A-Za-z0-9+=,.@_-]{1,64}", role):
            raise UsageError(
                f"{role} is no role's name",
                expected="names of the roles in your hosts' instance profiles, with commas and without wildcards",
                where="--instance-role",
                remedy="`aws iam get-instance-profile` tells the role of a profile",
            )
    session = aws_session(region or load_catalog().default_region)
    return publish(session, yes=yes, clock=SystemClock(), say=say, instance_roles=roles)
