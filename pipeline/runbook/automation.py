"""aws:executeAutomation: another document, once, or once for each target under rate control.

Children of a batch are run one after the other, since there is one world and one clock; the batches are AWS's: one
target first, then two more, then twice as many each time up to MaxConcurrency, and none after more errors than
MaxErrors.
Sources: UG automation-action-executeAutomation, running-automations-scale-controls, running-automations-map-targets.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import OvenproofError, UsageError
from pipeline.runbook import permitted
from pipeline.runbook.document import Document, Step
from pipeline.runbook.engine import Outcome, StepFailed, call
from pipeline.runbook.language import LIMITS
from pipeline.runbook.seams import Halt, TargetRequest
from pipeline.runbook.trace import Execution
from pipeline.runbook.values import as_texts

if TYPE_CHECKING:
    from pipeline.runbook.execute import Run

_LITERAL_TARGETS: Final = ("ParameterValues", "InstanceIds")
DEFAULT_CONCURRENCY: Final = "10"
DEFAULT_ERRORS: Final = "0"
LOCATION_CONCURRENCY: Final = "1"
LOCATION_ERRORS: Final = "0"


@dataclass(frozen=True, kw_only=True)
class _Child:
    """One execution to start: its parameters, and what it is for."""

    parameters: Mapping[str, Any]
    target: str = ""
    account: str = ""
    region: str = ""


def execute_automation(run: "Run", step: Step, inputs: Mapping[str, Any]) -> Outcome:
    """Run the document that the inputs name. The step fails when it, or too many of its targets, did."""
    try:
        document = run.seams.documents(str(inputs["DocumentName"]))
    except OvenproofError as error:
        raise Halt(error) from error
    given = dict(inputs.get("RuntimeParameters") or {})
    single = _Child(parameters=given)
    targeted = [key for key in ("Targets", "TargetMaps") if inputs.get(key)]
    if len(targeted) > 1:
        raise StepFailed("Targets and TargetMaps cannot be specified together")
    if inputs.get("TargetLocations"):
        return _in_locations(run, step, document, inputs, given)
    if not targeted:
        return _once(run, document, single)
    children = _children(run, step, document, inputs, given)
    concurrency = str(inputs.get("MaxConcurrency", DEFAULT_CONCURRENCY))
    errors = str(inputs.get("MaxErrors", DEFAULT_ERRORS))
    return _rated(run, document, children, concurrency, errors)


def _once(run: "Run", document: Document, child: _Child) -> Outcome:
    execution = _start(run, document, child)
    if execution.status != "Success":
        raise StepFailed(
            f"the execution {execution.execution_id} of {document.name} ended {execution.status}: {execution.failure}"
        )
    outputs = {
        "Output": [text for value in execution.outputs.values() for text in as_texts(value)],
        "ExecutionId": execution.execution_id,
        "Status": execution.status,
    }
    return Outcome(response=outputs, outputs=outputs)


def _start(run: "Run", document: Document, child: _Child) -> Execution:
    from pipeline.runbook.execute import execute_in

    permitted.ask(run, "ssm", "StartAutomationExecution", {"DocumentName": document.name})
    permitted.ask(run, "ssm", "GetAutomationExecution", {})
    if child.account:
        permitted.ask(run, "sts", "AssumeRole", {})
    execution_id = run.engine.new_id(f"{run.execution_id}/{document.name}")
    try:
        execution = execute_in(
            run.engine,
            document,
            child.parameters,
            execution_id=execution_id,
            depth=run.depth + 1,
            region=child.region,
            account=child.account,
            target=child.target,
        )
    except UsageError as error:
        raise StepFailed(str(error)) from error
    run.children.append(execution)
    return execution


# --- targets ---


def _children(
    run: "Run", step: Step, document: Document, inputs: Mapping[str, Any], given: Mapping[str, Any]
) -> list[_Child]:
    if inputs.get("TargetMaps"):
        return [
            _Child(parameters={**given, **{key: _one(item) for key, item in each.items()}}) for each in _maps(inputs)
        ]
    parameter = inputs.get("TargetParameterName")
    if not parameter:
        raise StepFailed("Targets need TargetParameterName")
    if parameter not in document.parameters:
        raise StepFailed(f"TargetParameterName: {document.name} has no parameter {parameter}")
    looked_up = [one for one in inputs["Targets"] if one.get("Key") not in _LITERAL_TARGETS]
    if len(looked_up) > 1:
        raise StepFailed("Targets: only one resource group or tag can be specified at a time")
    values: list[str] = []
    for target in inputs["Targets"]:
        values += _resolved(run, step, document, str(parameter), target)
    unique = list(dict.fromkeys(values))
    listed = document.parameters[parameter].type == "StringList"
    return [_Child(parameters={**given, parameter: [value] if listed else value}, target=value) for value in unique]


def _maps(inputs: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    maps = inputs["TargetMaps"]
    if len(maps) > LIMITS.target_maps:
        raise StepFailed(f"TargetMaps: {len(maps)}; at most {LIMITS.target_maps} are allowed")
    return list(maps)


def _one(item: Any) -> Any:
    return item[0] if isinstance(item, list) and len(item) == 1 else item


def _resolved(run: "Run", step: Step, document: Document, parameter: str, target: Mapping[str, Any]) -> Sequence[str]:
    """What a target stands for: the values themselves, or what a tag or a resource group finds."""
    key, given = str(target.get("Key", "")), target.get("Values", [])
    if not isinstance(given, list):
        raise StepFailed(f"Targets: the Values of {key!r} are not a list")
    values = [str(value) for value in given]
    if key in _LITERAL_TARGETS:
        return values
    request = TargetRequest(step=step.name, key=key, values=values, parameter=parameter, document_name=document.name)
    found = run.seams.targets(request) if run.seams.targets else None
    if found is not None:
        return list(found)
    if key.startswith("tag:"):
        asked = {"TagFilters": [{"Key": key.removeprefix("tag:"), "Values": values}]}
        tagging = run.client("resourcegroupstaggingapi")
        answer = call(tagging.get_resources, "resourcegroupstaggingapi:GetResources", asked)
        return [_resource_id(one["ResourceARN"]) for one in answer["ResourceTagMappingList"]]
    if key == "ResourceGroup":
        groups = run.client("resource-groups")
        answer = call(groups.list_group_resources, "resource-groups:ListGroupResources", {"Group": values[0]})
        return [_resource_id(one["Identifier"]["ResourceArn"]) for one in answer.get("Resources", ())]
    raise StepFailed(f"Targets: the key {key!r} is none of ParameterValues, tag:NAME, ResourceGroup")


def _resource_id(arn: str) -> str:
    return arn.rpartition(":")[2].rpartition("/")[2]


# --- rate control ---


def batches(count: int, concurrency: int) -> Iterator[int]:
    """Sizes of the batches for that many targets: 1, 2, 4, ... up to the concurrency."""
    size = 1
    while count > 0:
        now = min(size, concurrency, count)
        yield now
        count -= now
        size *= 2


def amount(text: str, of: int, *, least: int) -> int:
    """A number, or a percentage of `of`, rounded down but at least `least`. Raises StepFailed."""
    digits = text.removesuffix("%")
    if not digits.isdigit():
        raise StepFailed(f"found {text!r}; a number such as 10, or a percentage such as 10%, is wanted")
    value = int(digits)
    return max(least, math.floor(of * value / 100) if text.endswith("%") else value)


def _rated(run: "Run", document: Document, children: Sequence[_Child], concurrency: str, errors: str) -> Outcome:
    at_once = amount(concurrency, len(children), least=1)
    allowed = amount(errors, len(children), least=0)
    ended: list[Execution] = []
    waiting = list(children)
    for size in batches(len(children), at_once):
        batch, waiting = waiting[:size], waiting[size:]
        for child in batch:
            ended.append(_start(run, document, child))
            if run.engine.cancelled:
                return Outcome()
        if sum(one.status != "Success" for one in ended) > allowed:
            break
    bad = [one for one in ended if one.status != "Success"]
    if len(bad) > allowed:
        first = bad[0]
        raise StepFailed(
            f"{len(bad)} of {len(children)} executions of {document.name} did not succeed, {allowed} are allowed; "
            f"{len(waiting)} were not started; the first: {first.execution_id} {first.status}: {first.failure}"
        )
    outputs = {
        "Output": [text for one in ended for value in one.outputs.values() for text in as_texts(value)],
        "ExecutionId": ended[0].execution_id if ended else "",
        "Status": "Success",
    }
    return Outcome(response=outputs, outputs=outputs)


def _in_locations(
    run: "Run", step: Step, document: Document, inputs: Mapping[str, Any], given: Mapping[str, Any]
) -> Outcome:
    """Every account and region of every location; the targets of each are resolved there."""
    outputs: list[str] = []
    ids: list[str] = []
    for location in inputs["TargetLocations"]:
        accounts, regions = location.get("Accounts") or [""], location.get("Regions") or [""]
        for name, values in (("Accounts", accounts), ("Regions", regions)):
            if len(values) > LIMITS.accounts_or_regions:
                raise StepFailed(f"{name}: {len(values)}; at most {LIMITS.accounts_or_regions} are allowed")
        inner = {key: value for key, value in inputs.items() if key in ("Targets", "TargetMaps", "TargetParameterName")}
        templates = (
            _children(run, step, document, inner, given)
            if inner.get("Targets") or inner.get("TargetMaps")
            else [_Child(parameters=given)]
        )
        children = [
            _Child(parameters=one.parameters, target=one.target, account=str(account), region=str(region))
            for account in accounts
            for region in regions
            for one in templates
        ]
        outcome = _rated(
            run,
            document,
            children,
            str(location.get("TargetLocationMaxConcurrency", LOCATION_CONCURRENCY)),
            str(location.get("TargetLocationMaxErrors", LOCATION_ERRORS)),
        )
        outputs += outcome.outputs.get("Output", [])
        ids.append(outcome.outputs.get("ExecutionId", ""))
    found = {"Output": outputs, "ExecutionId": ids[0] if ids else "", "Status": "Success"}
    return Outcome(response=found, outputs=found)
