"""What bites the people who run a document: half-made changes, silent ways back, retries that do it twice, secrets.

Nothing here is refused by AWS.
"""

import re
from collections.abc import Iterator
from typing import Final

from botocore.model import OperationModel, Shape, StructureShape

from pipeline.runbook import language
from pipeline.runbook.lint import aws
from pipeline.runbook.lint.checks.calls import operation_of
from pipeline.runbook.lint.checks.flow import FAILURE, SUCCESS, edges, lists, reachable, succeeded_before
from pipeline.runbook.lint.checks.scripts import looked_through
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.impact import impact, mutates
from pipeline.runbook.lint.node import Node
from pipeline.runbook.lint.view import Document, Step, references, references_under

_SECRET: Final = re.compile(r"(?i)(?:password|passwd|secret(?!s?arn)|private_?key|access_?token|api_?key|credential)")
_ONCE: Final = re.compile(
    r"(?:Create|Run|Start|Send|Allocate|Publish|Copy|Restore|Launch|Import|Purchase|Invoke|Rotate|Reboot|Execute)"
)
_SAME_AGAIN: Final = re.compile(r"CreateOrUpdate\w+|CreateTags")
"""Sets what is named to what is given, however often."""
_REFUSALS: Final = re.compile(r"AlreadyExist|NameExists|NameAlready|BucketAlready")
_UNDOES: Final = {
    "Delete": ("Create", "Put"),
    "Detach": ("Attach",),
    "Deregister": ("Register",),
    "Resume": ("Suspend",),
    "Disable": ("Enable",),
}
_PAIR: Final = re.compile(rf"({'|'.join(_UNDOES)})(\w+)")
_NEVER_FAIL: Final = frozenset({"aws:branch", "aws:sleep", "aws:pause", "aws:updateVariable"})
_SHELLS: Final = ("aws:runShellScript", "aws:runPowerShellScript")
_SHELL_DOCUMENTS: Final = ("AWS-RunShellScript", "AWS-RunPowerShellScript")


def rollback_steps(steps: list[Step]) -> set[Step]:
    """The steps that only a failure or a cancellation leads to: the way back."""
    links = edges(steps)
    forward = reachable(steps, links, (SUCCESS,))
    return {step for step in reachable(steps, links) if step not in forward}


def ways_back(document: Document) -> Iterator[Found]:
    """A step that changes something after another change says what happens when it fails or is cancelled.

    Where other steps have a way back, so has every step after the first change that can fail. A change counts only
    for steps that may follow it: branches part those that do not.
    """
    for steps in lists(document):
        if steps and steps[0].parent is not None:
            continue  # inside a loop a failure is the loop's
        back = rollback_steps(steps)
        forward = [step for step in steps if step not in back]
        ways = {key: {step.target(key) for step in forward} - {""} for key in ("onFailure", "onCancel")}
        before = succeeded_before(steps, frozenset())
        changes = [step for step in forward if step.name not in ways["onFailure"] | ways["onCancel"] and mutates(step)]
        for step in forward:
            if step.name in ways["onFailure"] | ways["onCancel"] or step.action in _NEVER_FAIL:
                continue
            _, ever = before[step]
            made = [one for one in changes if one in ever and one is not step]
            if made and not any(_about(step, one) for one in made):
                yield from _way_back(step, made[0], ways)


def _about(step: Step, change: Step) -> bool:
    """Whether a step takes a change back, or makes the same one again: when it fails there is nothing else to do."""
    if step.action == change.action == "aws:changeInstanceState":
        return step.inputs.text("DesiredState") == change.inputs.text("DesiredState")
    if step.action == "aws:deleteStack":
        return change.action == "aws:createStack"
    undone = _PAIR.fullmatch(step.inputs.text("Api"))
    return undone is not None and change.inputs.text("Api") in [f"{verb}{undone[2]}" for verb in _UNDOES[undone[1]]]


def _way_back(step: Step, changed: Step, ways: dict[str, set[str]]) -> Iterator[Found]:
    missing = [key for key in ("onFailure", "onCancel") if key not in step.node.items]
    if step.action in language.ON_CANCEL_UNSUPPORTED:
        missing = [key for key in missing if key != "onCancel"]
    what = f"when it fails or is cancelled, what {changed.name} changed stays"
    if mutates(step) and "onFailure" in missing:
        yield Found("no-way-back", step.name_span, f"{step.name} has no {' and '.join(missing)}: {what}")
    elif gaps := [key for key in missing if ways[key]]:
        others = " and ".join(sorted(ways[gaps[0]]))
        message = f"{step.name} has no {' and '.join(gaps)}, where other steps go to {others}: {what}"
        yield Found("no-way-back", step.name_span, message)


def repaired_paths(document: Document) -> Iterator[Found]:
    """A step whose failure leads to a repair says whether the execution fails all the same."""
    for step in document.all_steps():
        if step.target("onFailure") and "isCritical" not in step.node.items:
            message = (
                f"after {step.target('onFailure')} the execution is Failed, unless isCritical says false; write it"
            )
            yield Found("critical-unsaid", step.span("onFailure"), message)


def silent_ways_back(document: Document) -> Iterator[Found]:
    """A step on the way back that may fail without anybody being told."""
    for steps in lists(document):
        back = rollback_steps(steps)
        for step in steps:
            if step not in back or not mutates(step):
                continue
            quiet = step.node.text("onFailure") == "Continue" or _is_false(step.node.get("isCritical"))
            if not quiet:
                continue
            links = [edge for edge in edges(steps) if edge.case in (SUCCESS, FAILURE)]
            after = reachable([step], links) - {step}
            checks = {"aws:assertAwsResourceProperty", "aws:waitForAwsResourceProperty", "aws:branch"}
            if not any(one.action in checks or one.action == "aws:executeScript" for one in after):
                message = f"when {step.name} fails, the way back ends as if it had worked: nothing looks afterwards"
                yield Found("silent-way-back", step.name_span, message)


def _is_false(node: Node | None) -> bool:
    return node is not None and (node.scalar is False or node.string.lower() == "false")


def retries(document: Document) -> Iterator[Found]:
    """More than one attempt at something that is done again by each."""
    for step in document.all_steps():
        attempts = step.node.get("maxAttempts")
        number = attempts.scalar if attempts is not None else None
        if not str(number).isdigit() or int(str(number)) < 2 or attempts is None:
            continue
        if step.action == "aws:executeAwsApi":
            operation = operation_of(step)
            if operation is None or not _ONCE.match(operation.name) or _SAME_AGAIN.fullmatch(operation.name):
                continue
            if _refuses_twice(operation):
                continue
            shape = operation.input_shape
            members = shape.members if isinstance(shape, StructureShape) else {}
            tokens = [name for name, member in members.items() if _is_token(name, member)]
            if any(name in step.inputs.items for name in tokens):
                continue
            hint = f"; give it {tokens[0]}" if tokens else ""
            message = f"each attempt may do {operation.name} again when only the answer was lost{hint}"
            yield Found("retry-twice", attempts.span, message)
        elif step.action in ("aws:runInstances", "aws:copyImage", "aws:createStack") and not (
            {"ClientToken", "ClientRequestToken"} & set(step.inputs.items)
        ):
            yield Found("retry-twice", attempts.span, f"each attempt may do {step.action} again; give it a token")


def _refuses_twice(operation: OperationModel) -> bool:
    """Whether AWS refuses the second of two equal calls, by the errors that its model declares."""
    errors = [shape.name for shape in operation.error_shapes]
    if operation.name.startswith("Start") and any("InProgress" in name for name in errors):
        return True  # what was started goes on for longer than the attempts take
    return any(_REFUSALS.search(name) for name in errors)


def _is_token(name: str, member: Shape) -> bool:
    return bool(member.metadata.get("idempotencyToken")) or name in ("ClientToken", "clientToken", "ClientRequestToken")


def secrets(document: Document) -> Iterator[Found]:
    """Outputs that anyone who may look at executions can read."""
    for step in document.all_steps():
        operation = operation_of(step)
        for output in step.outputs.values():
            selector = output.node.get("Selector")
            span = selector.span if selector is not None else output.node.span
            sensitive = False
            if operation is not None and operation.output_shape is not None:
                try:
                    found = aws.select(operation.output_shape, aws.selector_parts(output.selector))
                    sensitive = found.shape is not None and bool(found.shape.metadata.get("sensitive"))
                except (aws.BadSelector, aws.NoSuchMember):
                    pass
            last = output.selector.rsplit(".", 1)[-1]
            if sensitive or (output.type == "String" and (_SECRET.search(output.name) or _SECRET.search(last))):
                message = f"{output.name} is kept in the execution's history, for everybody who may read it"
                yield Found("secret-output", span, message)


def wildcards(document: Document) -> Iterator[Found]:
    """Targets that are everything."""
    for step in document.all_steps():
        targets = step.inputs.get("Targets")
        for target in targets.values if targets is not None else ():
            values = target.get("Values")
            for value in values.values if values is not None else ():
                if value.string == "*":
                    yield Found(
                        "wildcard-target", value.span, f"{target.text('Key')}=* is every instance of the region"
                    )
        if step.action == "aws:runCommand" or step.inputs.text("Api") == "SendCommand":
            listed = step.inputs.get("InstanceIds")
            for value in listed.values if listed is not None else ():
                if value.string == "*":
                    yield Found("wildcard-target", value.span, "* is every instance of the region")


def shells(document: Document) -> Iterator[Found]:
    """Text that is put into a shell's script as it comes."""
    for step in document.all_steps():
        if step.action != "aws:runCommand" or step.inputs.text("DocumentName") not in _SHELL_DOCUMENTS:
            continue
        given = step.inputs.get("Parameters")
        for reference in references_under(given.get("commands") if given is not None else None):
            declared = document.parameters.get(reference.name)
            if declared is None or declared.restricted or declared.value_type not in ("String", "StringList"):
                continue
            message = f"whoever starts this can run any command through {reference.name}: give it an allowedPattern"
            yield Found("shell-injection", reference.span, message)


def command_shells(document: Document) -> Iterator[Found]:
    """The same in a Command document, where `interpolationType: ENV_VAR` is the cure."""
    for step in document.all_steps():
        if step.action not in _SHELLS:
            continue
        for reference in references_under(step.inputs.get("runCommand")):
            declared = document.parameters.get(reference.name)
            if declared is None:
                if re.fullmatch(r"[A-Za-z0-9]+", reference.name):
                    message = f"nothing is called {reference.name}{aws.near(reference.name, document.parameters)}"
                    yield Found("undeclared-reference", reference.span, message)
                continue
            if declared.restricted or declared.value_type not in ("String", "StringList"):
                continue
            if declared.node.text("interpolationType") == "ENV_VAR":
                continue
            message = f"whoever sends this can run any command through {reference.name}: use interpolationType ENV_VAR"
            yield Found("shell-injection", reference.span, message)


def command_steps(document: Document) -> Iterator[Found]:
    """The steps of a Command document: plugins with what they need."""
    names: set[str] = set()
    for step in document.steps:
        for key in ("name", "action"):
            if key not in step.node.items:
                yield Found(
                    "missing-key", step.node.span._replace(end_line=step.node.span.line), f"a step needs a {key}"
                )
        known = (
            "name",
            "action",
            "description",
            "inputs",
            "precondition",
            "maxAttempts",
            "timeoutSeconds",
            "onFailure",
        )
        for key in step.node.items:
            if key not in (*known, "onSuccess", "finallyStep", "isEnd", "settings"):
                yield Found("unknown-key", step.node.key(key), f"a step has no key {key}{aws.near(key, known)}")
        if step.name and step.name in names:
            yield Found("duplicate-step", step.name_span, f"another step is called {step.name} already")
        names.add(step.name)
        if step.action and step.action not in _PLUGINS:
            message = f"there is no plugin {step.action}{aws.near(step.action, _PLUGINS)}"
            yield Found("unknown-action", step.span("action"), message)
        if step.action in _SHELLS:
            lines = step.inputs.get("runCommand")
            if lines is None:
                yield Found("missing-action-input", step.name_span, f"{step.action} needs the input runCommand")
            elif lines.kind not in ("list", "string"):
                yield Found("action-input-type", lines.span, "runCommand has to be a list of lines")
    used: set[str] = set()
    for reference in (one for node in document.root.walk() for one in references(node)):
        used.update(re.findall(r"[A-Za-z0-9_-]+", reference.name))
    for name, parameter in document.parameters.items():
        by_variable = parameter.node.text("interpolationType") == "ENV_VAR" and f"SSM_{name}" in document.text
        if name not in used and not by_variable and document.steps:
            yield Found("unused-parameter", parameter.key, f"nothing refers to the parameter {name}")


_PLUGINS: Final = (
    *_SHELLS,
    "aws:applications",
    "aws:cloudWatch",
    "aws:configureDocker",
    "aws:configurePackage",
    "aws:domainJoin",
    "aws:downloadContent",
    "aws:psModule",
    "aws:refreshAssociation",
    "aws:runDockerAction",
    "aws:runDocument",
    "aws:softwareInventory",
    "aws:updateAgent",
    "aws:updateSsmAgent",
)


def roles(document: Document) -> Iterator[Found]:
    """A script has no rights of its own: without a role its calls have none at all."""
    if document.root.get("assumeRole") is not None:
        return
    for step in document.all_steps():
        script = looked_through(step)
        if script is not None and script.calls:
            message = f"the script of {step.name} calls AWS, and the document has no assumeRole to do it with"
            yield Found("no-role", step.name_span, message)


def notes(document: Document) -> Iterator[Found]:
    """A label for steps that end something."""
    for step in document.all_steps():
        if impact(step) == "destroys" and step.action != "aws:loop":
            yield Found("destroys", step.name_span, f"{step.name} ends, removes or gives back something")
