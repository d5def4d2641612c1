"""What each action does, apart from those that decide the flow: resolved inputs in, an outcome out.

Every AWS call goes through the session's clients, every wait through the run's timer. Sources: UG automation-action-*.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from botocore import xform_name
from botocore.exceptions import ClientError

from pipeline.errors import UsageError
from pipeline.runbook import permitted, scripts
from pipeline.runbook.document import Document, Step, is_true, variable_name
from pipeline.runbook.engine import POLL_SECONDS, Outcome, StepFailed, call
from pipeline.runbook.language import LIMITS
from pipeline.runbook.seams import ApprovalRequest, CommandAnswer, CommandRequest, Halt, LambdaRequest, PauseRequest
from pipeline.runbook.selector import MISSING, BadSelector, select
from pipeline.runbook.values import is_of_type, type_of

if TYPE_CHECKING:
    from pipeline.runbook.execute import Run

PATIENCE_SECONDS: Final = 86_400
"""An action without a documented time of its own gives up here, so that a model that never gets there is noticed."""

UNDER_WAY: Final = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})

Act = Callable[["Run", Step, Mapping[str, Any]], Outcome]


def act(run: "Run", step: Step, inputs: Mapping[str, Any]) -> Outcome:
    """Do the step's action. Raises StepFailed, and Halt with a UsageError for an action that is not executed here."""
    action = _ACTS.get(step.action)
    if action is None:
        raise Halt(
            UsageError(
                f"the action {step.action} is not executed here",
                expected=f"one of {', '.join(sorted({*_ACTS, *_OF_THE_FLOW}))}",
                found=f"step {step.name}",
                where=f"{run.document.where}:{step.line}",
                remedy="rehearse the document up to this step, or put aws:executeAwsApi and aws:waitForAwsResource"
                "Property in its place",
            )
        )
    return action(run, step, inputs)


# --- calls of an API ---


def _execute_aws_api(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    return Outcome(response=_called(run, inputs))


def _called(run: "Run", inputs: Mapping[str, Any]) -> Any:
    """Call the operation that the inputs name, with all the other inputs as its parameters."""
    service, api = str(inputs["Service"]), str(inputs["Api"])
    client = run.client(service)
    name = xform_name(api)
    operation = client.meta.method_to_api_mapping.get(name)
    if operation is None:
        raise StepFailed(f"the service {service} has no operation {api}")
    model = client.meta.service_model.operation_model(operation)
    if model.has_streaming_output or model.has_streaming_input:
        raise StepFailed(f"{service}:{operation} is a streaming operation, which this action does not support")
    parameters = {key: value for key, value in inputs.items() if key not in _NOT_PARAMETERS}
    return call(getattr(client, name), f"{service}:{operation}", parameters)


_NOT_PARAMETERS: Final = frozenset({"Service", "Api", "PropertySelector", "DesiredValues"})


def _property(run: "Run", inputs: Mapping[str, Any]) -> tuple[Any, Any, bool]:
    """The whole answer, what the selector finds in it, and whether that is a desired value."""
    response = _called(run, inputs)
    try:
        value = select(str(inputs["PropertySelector"]), response)
    except BadSelector as error:
        raise StepFailed(f"PropertySelector: {error}") from error
    desired = inputs["DesiredValues"]
    wanted = {str(item) for item in (desired if isinstance(desired, list) else [desired])}
    if value is MISSING or value is None:
        return response, None, False
    found = value if isinstance(value, list) else [value]
    return response, value, bool(found) and all(str(item) in wanted for item in found)


def _assert_property(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    response, value, good = _property(run, inputs)
    if not good:
        raise StepFailed(f"{inputs['PropertySelector']} is {value!r}, not one of {inputs['DesiredValues']}")
    return Outcome(response=response)


def _wait_for_property(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    while True:
        response, _value, good = _property(run, inputs)
        if good:
            return Outcome(response=response)
        run.timer.sleep(POLL_SECONDS)


# --- time and people ---

_DURATION: Final = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_UNITS: Final = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}


def _sleep(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    if "Duration" in inputs:
        text = str(inputs["Duration"])
        match = _DURATION.fullmatch(text)
        if match is None or not any(match.groupdict().values()):
            raise StepFailed(f"Duration: {text!r} is not an ISO 8601 duration such as PT10M")
        seconds = sum(float(match[unit] or 0) * size for unit, size in _UNITS.items())
    else:
        try:
            until = datetime.fromisoformat(str(inputs["Timestamp"]))
        except ValueError as error:
            raise StepFailed(f"Timestamp: {inputs['Timestamp']!r} is not an ISO 8601 time") from error
        seconds = ((until if until.tzinfo else until.replace(tzinfo=UTC)) - run.timer.now()).total_seconds()
    if seconds > LIMITS.sleep_seconds:
        raise StepFailed(f"a delay of {seconds:.0f} s; at most {LIMITS.sleep_seconds} s are allowed")
    run.timer.sleep(max(seconds, 0))
    return Outcome()


def _approve(run: "Run", step: Step, inputs: Mapping[str, Any]) -> Outcome:
    approvers = [str(one) for one in inputs["Approvers"]] if isinstance(inputs["Approvers"], list) else []
    required = int(inputs.get("MinRequiredApprovals", 1))
    if not 1 <= required <= max(len(approvers), 1):
        raise StepFailed(f"MinRequiredApprovals: {required}; there are {len(approvers)} approvers")
    topic = str(inputs.get("NotificationArn", ""))
    if topic and not topic.rpartition(":")[2].startswith("Automation"):
        raise StepFailed(f"NotificationArn: the topic's name has to begin with Automation, found {topic}")
    run.waits()
    said = run.seams.approve(
        ApprovalRequest(
            step=step.name,
            message=str(inputs.get("Message", "")),
            approvers=approvers,
            required=required,
            notification_arn=topic,
            execution_id=run.execution_id,
        )
    )
    if said is None:
        run.timer.sleep(float("inf"))
        raise AssertionError("an approval without an end")
    decision = {"Approver": said.approver, "Decision": said.decision, "Comment": said.comment}
    if said.decision == "Reject":
        raise StepFailed(
            f"rejected by {said.approver or 'an approver'}" + (f": {said.comment}" if said.comment else "")
        )
    return Outcome(outputs={"ApprovalStatus": "Approved", "ApproverDecisions": [decision]})


def _pause(run: "Run", step: Step, _: Mapping[str, Any]) -> Outcome:
    run.waits()
    if run.seams.pause(PauseRequest(step=step.name, execution_id=run.execution_id)):
        return Outcome()
    if step.timeout_seconds is None:
        raise Halt(
            UsageError(
                f"step {step.name} pauses the execution, and nobody resumes it",
                expected="an answer, or a timeoutSeconds that ends the wait",
                found="neither",
                where=f"{run.document.where}:{step.line}",
                remedy=f"put `pause.{step.name}: Resume` into the answers",
            )
        )
    run.timer.sleep(float("inf"))
    raise AssertionError("a pause without an end")


# --- commands and functions ---


def _run_command(run: "Run", step: Step, inputs: Mapping[str, Any]) -> Outcome:
    request = CommandRequest(
        step=step.name,
        document_name=str(inputs["DocumentName"]),
        instance_ids=inputs.get("InstanceIds", []),
        targets=inputs.get("Targets", []),
        parameters=inputs.get("Parameters") or {},
        inputs=inputs,
    )
    permitted.ask(run, "ssm", "SendCommand", {"DocumentName": request.document_name})
    for operation in ("ListCommands", "ListCommandInvocations"):  # UG automation-setup: what the action looks with
        permitted.ask(run, "ssm", operation, {})
    answer = run.seams.command(request) if run.seams.command else None
    if answer is None:
        answer = _sent_command(run, inputs)
    outputs = {
        "CommandId": answer.command_id,
        "Status": answer.status,
        "ResponseCode": answer.response_code,
        "Output": answer.output[: LIMITS.command_output_characters],
    }
    if answer.status != "Success":
        raise StepFailed(
            f"the command ended {answer.status} (code {answer.response_code}): {answer.output.strip()[:500]}"
        )
    return Outcome(response=outputs, outputs=outputs)


def _sent_command(run: "Run", inputs: Mapping[str, Any]) -> CommandAnswer:
    ssm = run.engine.client(run.session, "ssm")  # its rights are asked for: AWS looks with other calls than these
    parameters = dict(inputs)
    if parameters.get("Parameters"):
        parameters["Parameters"] = {
            name: value if isinstance(value, list) else [value] for name, value in parameters["Parameters"].items()
        }
    sent = call(ssm.send_command, "ssm:SendCommand", parameters)["Command"]
    command_id = sent["CommandId"]
    only = inputs.get("InstanceIds", [])

    def look() -> list[Mapping[str, Any]] | None:
        if len(only) == 1:
            try:
                one = ssm.get_command_invocation(CommandId=command_id, InstanceId=only[0])
            except ClientError as error:
                if error.response["Error"]["Code"] == "InvocationDoesNotExist":
                    return None  # SSM needs a moment before an invocation it has just taken can be read
                raise StepFailed(f"ssm:GetCommandInvocation was refused: {error}") from error
            return None if one["Status"] in UNDER_WAY else [one]
        asked = {"CommandId": command_id, "Details": True}
        found = call(ssm.list_command_invocations, "ssm:ListCommandInvocations", asked)["CommandInvocations"]
        expected = len(only) or sent.get("TargetCount", 0) or 1
        if len(found) < expected or any(one["Status"] in UNDER_WAY for one in found):
            return None
        return list(found)

    ended = _polled(run, look, what=f"command {command_id}")
    bad = next((one for one in ended if one["Status"] != "Success"), None)
    return CommandAnswer(
        status=bad["Status"] if bad else "Success",
        output=_output_of(bad or ended[0]) if bad or len(ended) == 1 else "",
        response_code=(bad or ended[0]).get("ResponseCode", 0),
        command_id=command_id,
    )


def _output_of(invocation: Mapping[str, Any]) -> str:
    if "StandardOutputContent" in invocation:
        return str(invocation["StandardOutputContent"]) + str(invocation.get("StandardErrorContent", ""))
    return "".join(str(plugin.get("Output", "")) for plugin in invocation.get("CommandPlugins", ()))


def _invoke_lambda(run: "Run", step: Step, inputs: Mapping[str, Any]) -> Outcome:
    payload = json.dumps(inputs["InputPayload"]) if "InputPayload" in inputs else str(inputs.get("Payload", "{}"))
    request = LambdaRequest(step=step.name, function_name=str(inputs["FunctionName"]), payload=payload, inputs=inputs)
    answer = run.seams.invoke(request) if run.seams.invoke else None
    if answer is not None:
        text, code = answer.payload, answer.status_code
        error, log = answer.function_error, answer.log_result
    else:
        parameters = {key: value for key, value in inputs.items() if key not in ("InputPayload", "Payload")}
        found = call(run.client("lambda").invoke, "lambda:Invoke", {**parameters, "Payload": payload.encode()})
        body = found.get("Payload", b"")
        text = (body.read() if hasattr(body, "read") else body).decode()
        code, error, log = found.get("StatusCode", 200), found.get("FunctionError", ""), found.get("LogResult", "")
    if len(text.encode()) > LIMITS.lambda_payload_bytes:
        raise StepFailed(f"the function returned {len(text.encode()):,} bytes; at most 200 KB are returned")
    if error:
        raise StepFailed(f"the function failed ({error}): {text[:500]}")
    outputs = {
        "StatusCode": str(code),
        "Payload": text,
        "OutputPayload": text,
        "LogResult": log,
        "FunctionError": error,
    }
    return Outcome(
        response={**outputs, "StatusCode": code, "Payload": _read(text)} | _members(_read(text)),
        outputs={name: value for name, value in outputs.items() if value},
    )


def _read(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


def _members(value: Any) -> dict[str, Any]:
    """AWS's guide selects a function's result both as `$.Payload.x` and as `$.x`."""
    return dict(value) if isinstance(value, dict) else {}


# --- instances, images, tags ---


def _polled(run: "Run", look: Callable[[], Any], *, what: str) -> Any:
    """Look until there is an answer. Raises StepFailed after a day, or whatever limit the step has before."""
    begun = run.timer.monotonic()
    while True:
        found = look()
        if found is not None:
            return found
        waited = run.timer.monotonic() - begun
        if waited > PATIENCE_SECONDS:
            raise StepFailed(f"{what} is still under way after a day")
        run.timer.sleep(POLL_SECONDS if waited < 600 else 6 * POLL_SECONDS)


def _change_instance_state(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    ec2 = run.client("ec2")
    ids, desired = inputs["InstanceIds"], str(inputs["DesiredState"])
    if not is_true(inputs.get("CheckStateOnly")):
        if desired == "running":
            call(ec2.start_instances, "ec2:StartInstances", {"InstanceIds": ids})
        elif desired == "stopped":
            forced = {"Force": True} if is_true(inputs.get("Force")) else {}
            call(ec2.stop_instances, "ec2:StopInstances", {"InstanceIds": ids, **forced})
        else:
            call(ec2.terminate_instances, "ec2:TerminateInstances", {"InstanceIds": ids})

    def look() -> list[str] | None:
        if desired != "running":
            states = _states(run, ids)
            return states if all(state == desired for state in states) else None
        asked = {"InstanceIds": ids, "IncludeAllInstances": True}
        found = call(ec2.describe_instance_status, "ec2:DescribeInstanceStatus", asked)["InstanceStatuses"]
        good = [one for one in found if _is_ready(one)]
        return ["running"] * len(good) if len(good) == len(ids) else None

    return Outcome(outputs={"InstanceStates": _polled(run, look, what=f"the state {desired} of {', '.join(ids)}")})


def _is_ready(status: Mapping[str, Any]) -> bool:
    return bool(
        status["InstanceState"]["Name"] == "running"
        and status.get("InstanceStatus", {}).get("Status") == "ok"
        and status.get("SystemStatus", {}).get("Status") == "ok"
    )


def _states(run: "Run", ids: Sequence[str]) -> list[str]:
    found = call(run.client("ec2").describe_instances, "ec2:DescribeInstances", {"InstanceIds": list(ids)})
    return [one["State"]["Name"] for reservation in found["Reservations"] for one in reservation["Instances"]]


_RUN_INSTANCES: Final = {"MinInstanceCount": "MinCount", "MaxInstanceCount": "MaxCount", "RamdiskId": "RamdiskId"}


def _run_instances(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    parameters: dict[str, Any] = {"MinCount": 1, "MaxCount": 1, "InstanceType": "m1.small"}
    for name, value in inputs.items():
        if name == "IamInstanceProfileArn":
            parameters.setdefault("IamInstanceProfile", {})["Arn"] = value
        elif name == "IamInstanceProfileName":
            parameters.setdefault("IamInstanceProfile", {})["Name"] = value
        elif name == "Monitoring":
            parameters["Monitoring"] = {"Enabled": value}
        else:
            parameters[_RUN_INSTANCES.get(name, name)] = value
    launched = call(run.client("ec2").run_instances, "ec2:RunInstances", parameters)
    ids = [one["InstanceId"] for one in launched["Instances"]]

    def look() -> list[str] | None:
        states = _states(run, ids)
        if any(state in ("shutting-down", "terminated") for state in states):
            raise StepFailed(f"of {', '.join(ids)}, some did not start: {', '.join(states)}")
        return states if len(states) == len(ids) and all(state == "running" for state in states) else None

    states = _polled(run, look, what=f"the start of {', '.join(ids)}")
    return Outcome(response=launched, outputs={"InstanceIds": ids, "InstanceStates": states})


def _create_image(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    names = {"ImageName": "Name", "ImageDescription": "Description"}
    parameters = {names.get(name, name): value for name, value in inputs.items()}
    made = call(run.client("ec2").create_image, "ec2:CreateImage", parameters)
    return _available(run, made["ImageId"])


def _copy_image(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    names = {"ImageName": "Name", "ImageDescription": "Description"}
    parameters = {names.get(name, name): value for name, value in inputs.items()}
    made = call(run.client("ec2").copy_image, "ec2:CopyImage", parameters)
    return _available(run, made["ImageId"])


def _available(run: "Run", image_id: str) -> Outcome:
    def look() -> str | None:
        found = call(run.client("ec2").describe_images, "ec2:DescribeImages", {"ImageIds": [image_id]})["Images"]
        state = found[0]["State"] if found else "pending"
        if state in ("failed", "error", "invalid", "deregistered"):
            raise StepFailed(f"the image {image_id} is {state}")
        return str(state) if state == "available" else None

    state = _polled(run, look, what=f"the image {image_id}")
    return Outcome(outputs={"ImageId": image_id, "ImageState": state})


def _delete_image(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    ec2, image_id = run.client("ec2"), str(inputs["ImageId"])
    found = call(ec2.describe_images, "ec2:DescribeImages", {"ImageIds": [image_id]})["Images"]
    if not found:
        raise StepFailed(f"there is no image {image_id}")
    call(ec2.deregister_image, "ec2:DeregisterImage", {"ImageId": image_id})
    for mapping in found[0].get("BlockDeviceMappings", ()):
        snapshot = mapping.get("Ebs", {}).get("SnapshotId")
        if snapshot:
            call(ec2.delete_snapshot, "ec2:DeleteSnapshot", {"SnapshotId": snapshot})
    return Outcome()


def _create_tags(run: "Run", _: Step, inputs: Mapping[str, Any]) -> Outcome:
    ids, tags, kind = inputs["ResourceIds"], inputs["Tags"], str(inputs.get("ResourceType", "EC2"))
    if kind == "EC2":
        call(run.client("ec2").create_tags, "ec2:CreateTags", {"Resources": ids, "Tags": tags})
        return Outcome()
    if len(ids) != 1:
        raise StepFailed(f"ResourceIds: {len(ids)} items; a {kind} is tagged one at a time")
    asked = {"ResourceType": kind, "ResourceId": ids[0], "Tags": tags}
    call(run.client("ssm").add_tags_to_resource, "ssm:AddTagsToResource", asked)
    return Outcome()


# --- variables ---


def updated_variable(document: Document, inputs: Mapping[str, Any]) -> tuple[str, Any]:
    """The variable that aws:updateVariable sets, and its new value. Raises StepFailed.

    Limits and types: UG automation-action-update-variable.
    """
    name, value = variable_name(str(inputs["Name"])), inputs["Value"]
    kind = document.variables[name].type
    if not is_of_type(value, kind):
        raise StepFailed(f"variable {name}: found a {type_of(value)}, its type is {kind}; nothing is converted")
    texts = [value] if isinstance(value, str) else value if kind == "StringList" else []
    if kind == "StringList" and len(value) > LIMITS.variable_list_items:
        raise StepFailed(f"variable {name}: {len(value)} items; at most {LIMITS.variable_list_items} are allowed")
    if kind == "MapList" and len(value) > LIMITS.variable_map_list_items:
        raise StepFailed(f"variable {name}: {len(value)} items; at most {LIMITS.variable_map_list_items} are allowed")
    for text in texts:
        if not 1 <= len(text) <= LIMITS.variable_string_characters:
            raise StepFailed(
                f"variable {name}: a text of {len(text)} characters; allowed: 1 to {LIMITS.variable_string_characters}"
            )
    for one in value if kind == "MapList" else [value] if kind == "StringMap" else []:
        for key in one:
            if not 1 <= len(key) <= LIMITS.variable_key_characters:
                raise StepFailed(
                    f"variable {name}: a key of {len(key)} characters; allowed: 1 to {LIMITS.variable_key_characters}"
                )
    return name, value


_OF_THE_FLOW: Final = ("aws:branch", "aws:executeAutomation", "aws:loop", "aws:updateVariable")

_ACTS: Final[Mapping[str, Act]] = {
    "aws:approve": _approve,
    "aws:assertAwsResourceProperty": _assert_property,
    "aws:changeInstanceState": _change_instance_state,
    "aws:copyImage": _copy_image,
    "aws:createImage": _create_image,
    "aws:createTags": _create_tags,
    "aws:deleteImage": _delete_image,
    "aws:executeAwsApi": _execute_aws_api,
    "aws:executeScript": scripts.execute_script,
    "aws:invokeLambdaFunction": _invoke_lambda,
    "aws:pause": _pause,
    "aws:runCommand": _run_command,
    "aws:runInstances": _run_instances,
    "aws:sleep": _sleep,
    "aws:waitForAwsResourceProperty": _wait_for_property,
}

EXECUTED: Final = frozenset({*_ACTS, *_OF_THE_FLOW})
"""Every action that is executed here."""
