"""Deploy and remove the stack: in, a name and parameters; out, what would change, and on a yes, the change.

A change set is made first and shown; without a yes it is removed again, and so is the empty stack that it needed.
The SSM documents are too large for a template and are published beside it, by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import boto3
import yaml
from botocore.exceptions import WaiterError

from pipeline.aws_errors import aws_errors
from pipeline.documents import document_kind
from pipeline.errors import CloudError, UsageError
from pipeline.stack.template import rendered_template

WAITING: Final = {"Delay": 5, "MaxAttempts": 360}
KEPT: Final = ("AWS::KMS::Key", "AWS::S3::Bucket", "AWS::Logs::LogGroup")
_NO_CHANGES: Final = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One resource that a change set adds, changes or removes. `replaced` means: removed and made anew."""

    action: str
    name: str
    kind: str
    replaced: bool = False

    def __str__(self) -> str:
        return f"{self.action.lower():<7} {self.name} ({self.kind})" + (", by a new one" if self.replaced else "")


def parse_settings(text: str) -> dict[str, str]:
    """`Name=value` pairs with semicolons between, as the command line gives them. Raises UsageError."""
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = pair.partition("=")
        if not equals or not name.isalnum():
            raise UsageError(
                "a setting of the stack cannot be read",
                expected="Name=value, with semicolons between: `SourceLocation=https://…;Promote=yes`",
                found=pair,
                where="--set",
            )
        found[name] = value
    return found


def deploy(
    session: boto3.Session,
    name: str,
    settings: Mapping[str, str],
    documents: Mapping[str, str],
    *,
    yes: bool,
    now: datetime,
    say: Callable[[str], None],
) -> str:
    """Show what would change and, with `yes`, change it. Raises CloudError with the resources that failed."""
    cloudformation: Any = session.client("cloudformation")
    where = f"stack {name} in {session.region_name}"
    with aws_errors("the stack could not be deployed", where=where, remedy="read CloudFormation's reason"):
        exists = _exists(cloudformation, name)
        change_set = f"ovenproof-{now:%Y%m%d%H%M%S}"
        changes = _prepared(cloudformation, name, change_set, settings, exists=exists)
        waiting = _document_changes(session, documents)
        lines = [str(change) for change in changes] + [
            f"{what:<7} {doc} (SSM document)" for doc, what in waiting.items()
        ]
        if not lines:
            return f"nothing to do: {where} is as the checkout has it"
        if not yes:
            if changes:
                _forget(cloudformation, name, change_set, exists=exists)
            return "\n".join([f"{where} would change:", *lines, "`--yes` does it"])
        if changes:
            cloudformation.execute_change_set(StackName=name, ChangeSetName=change_set)
            say(f"{where}: changing {len(changes)} resources")
            _wait(cloudformation, name, "stack_update_complete" if exists else "stack_create_complete")
        for document in waiting:
            _publish(session, document, documents[document])
            say(f"published {document}")
        outputs = cloudformation.describe_stacks(StackName=name)["Stacks"][0].get("Outputs", [])
    told = [f"  {one['OutputKey']}: {one['OutputValue']}" for one in outputs]
    return "\n".join([f"{where} is deployed", *lines, *told])


def _exists(cloudformation: Any, name: str) -> bool:
    try:
        status = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    except cloudformation.exceptions.ClientError as error:
        if "does not exist" in str(error):
            return False
        raise
    return bool(status != "REVIEW_IN_PROGRESS")


def _prepared(
    cloudformation: Any, name: str, change_set: str, settings: Mapping[str, str], *, exists: bool
) -> list[Change]:
    parameters: list[dict[str, Any]] = [{"ParameterKey": key, "ParameterValue": one} for key, one in settings.items()]
    if exists:
        present = cloudformation.describe_stacks(StackName=name)["Stacks"][0].get("Parameters", [])
        known = {one["ParameterKey"] for one in present} - set(settings)
        parameters += [{"ParameterKey": key, "UsePreviousValue": True} for key in sorted(known)]
    try:
        cloudformation.create_change_set(
            StackName=name,
            ChangeSetName=change_set,
            ChangeSetType="UPDATE" if exists else "CREATE",
            TemplateBody=rendered_template(),
            Parameters=parameters,
            Capabilities=["CAPABILITY_IAM"],
        )
    except cloudformation.exceptions.ClientError as error:
        if any(words in str(error) for words in _NO_CHANGES):
            return []
        raise
    try:
        waiter = cloudformation.get_waiter("change_set_create_complete")
        waiter.wait(StackName=name, ChangeSetName=change_set, WaiterConfig=WAITING)
    except WaiterError:
        answer = cloudformation.describe_change_set(StackName=name, ChangeSetName=change_set)
        reason = answer.get("StatusReason", "no reason given")
        _forget(cloudformation, name, change_set, exists=exists)
        if any(words in reason for words in _NO_CHANGES):
            return []
        raise CloudError(
            "CloudFormation cannot make the change",
            found=reason,
            where=f"change set {change_set} of {name}",
            remedy="mend what it names: a setting of `--set`, or a permission of the caller",
        ) from None
    pages = cloudformation.get_paginator("describe_change_set").paginate(StackName=name, ChangeSetName=change_set)
    return [
        Change(
            action=one["ResourceChange"]["Action"],
            name=one["ResourceChange"]["LogicalResourceId"],
            kind=one["ResourceChange"]["ResourceType"],
            replaced=one["ResourceChange"].get("Replacement") == "True",
        )
        for page in pages
        for one in page["Changes"]
    ]


def _forget(cloudformation: Any, name: str, change_set: str, *, exists: bool) -> None:
    """Remove a change set that is not wanted, and the empty stack that a first one made."""
    cloudformation.delete_change_set(StackName=name, ChangeSetName=change_set)
    if not exists:
        cloudformation.delete_stack(StackName=name)


def _wait(cloudformation: Any, name: str, until: str) -> None:
    try:
        cloudformation.get_waiter(until).wait(StackName=name, WaiterConfig=WAITING)
    except WaiterError as error:
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        failed = [one for one in events if one["ResourceStatus"].endswith("_FAILED")]
        raise CloudError(
            f"the stack {name} did not come to {until.replace('_', ' ')}",
            found="\n".join(f"{one['LogicalResourceId']}: {one.get('ResourceStatusReason', '')}" for one in failed)
            or str(error),
            where=f"CloudFormation, events of {name}",
            remedy="mend what the resources name, then deploy again; CloudFormation has rolled back what it could",
        ) from error


def _document_changes(session: boto3.Session, documents: Mapping[str, str]) -> dict[str, str]:
    """Documents that are not there, or are another text, with `add` or `modify`."""
    ssm: Any = session.client("ssm")
    found = {}
    for name, text in documents.items():
        try:
            there = ssm.get_document(Name=name)["Content"]
        except ssm.exceptions.InvalidDocument:
            found[name] = "add"
        else:
            if yaml.safe_load(there) != yaml.safe_load(text):  # SSM may write it another way
                found[name] = "modify"
    return found


def _publish(session: boto3.Session, name: str, text: str) -> None:
    """Make a document, or a new version of it that is the default one."""
    ssm: Any = session.client("ssm")
    try:
        ssm.create_document(Name=name, Content=text, DocumentType=document_kind(text), DocumentFormat="YAML")
    except ssm.exceptions.DocumentAlreadyExists:
        try:
            updated = ssm.update_document(Name=name, Content=text, DocumentFormat="YAML", DocumentVersion="$LATEST")
            version = updated["DocumentDescription"]["DocumentVersion"]
        except ssm.exceptions.DuplicateDocumentContent:  # the newest version is this text, and not the default yet
            version = ssm.describe_document(Name=name, DocumentVersion="$LATEST")["Document"]["DocumentVersion"]
        ssm.update_document_default_version(Name=name, DocumentVersion=version)


def destroy(
    session: boto3.Session, name: str, documents: Sequence[str], *, yes: bool, say: Callable[[str], None]
) -> str:
    """Remove the stack and the documents; keys, bucket and log group stay. Raises CloudError when something resists."""
    cloudformation: Any = session.client("cloudformation")
    where = f"stack {name} in {session.region_name}"
    with aws_errors("the stack could not be removed", where=where, remedy="read CloudFormation's reason"):
        if not _exists(cloudformation, name):
            return f"there is no {where}"
        found = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        resources = [one for page in found for one in page["StackResourceSummaries"]]
        lines = [
            f"{'stays' if one['ResourceType'] in KEPT else 'goes':<6} {one['LogicalResourceId']} "
            f"({one['ResourceType']}) {one.get('PhysicalResourceId', '')}"
            for one in resources
        ]
        if not yes:
            return "\n".join([f"{where} would go:", *lines, "`--yes` does it; images and parameters are no part of it"])
        cloudformation.delete_stack(StackName=name)
        say(f"{where}: removing")
        _wait(cloudformation, name, "stack_delete_complete")
        ssm: Any = session.client("ssm")
        for document in documents:
            try:
                ssm.delete_document(Name=document)
            except ssm.exceptions.InvalidDocument:
                continue
    return "\n".join([f"{where} is removed", *lines])
