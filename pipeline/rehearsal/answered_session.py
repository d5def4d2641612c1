"""A boto3 session whose calls a model answers: in, a function from call to answer; out, ordinary clients, no network.

botocore itself checks the parameters of each call before the model sees them, and turns a refusal into the exception
that AWS's would be. With `check_answers` each answer is held against the operation's output shape as well, which costs
more than the call, so tests ask for it and benchmarks do not. An operation that the model does not know is a fault of
the rehearsal and not of AWS: it is told as such.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.session
from botocore.validate import ParamValidator

from pipeline.errors import OvenproofError


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an API: `operation` as AWS spells it, `parameters` as the caller gave them.

    `access_key` says who calls; a model of several accounts tells them apart by it.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    region: str
    access_key: str


Answer = Callable[[Call], Mapping[str, Any]]


class Refused(Exception):
    """The model's way to answer with an error of AWS: its code, its sentence, its HTTP status."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


def not_modelled(call: Call) -> OvenproofError:
    """What a model raises for an operation that it does not play."""
    return OvenproofError(
        f"the rehearsal does not know {call.service}:{call.operation}",
        expected="an operation that its model answers",
        found=f"parameters {', '.join(sorted(call.parameters)) or '(none)'}",
        where=f"the model behind the session, region {call.region}",
        remedy="use --on aws, or teach the model this operation",
    )


def answered_session(
    answer: Answer, *, region: str, access_key: str = "AKIAREHEARSAL0000000", check_answers: bool = False
) -> boto3.Session:
    """A session on which every call of every client is answered by `answer`.

    With `check_answers` an answer that botocore's model forbids raises OvenproofError.
    """
    core = botocore.session.Session()
    given = "pipeline.rehearsal.given"

    def remember(**event: Any) -> None:
        event["context"][given] = event["params"]

    def reply(**event: Any) -> Any:
        model, signer = event["model"], event["request_signer"]
        call = Call(
            service=model.service_model.service_name,
            operation=model.name,
            parameters=event["context"].get(given, {}),
            region=signer.region_name,
            access_key=signer._credentials.access_key,  # what the real call would be signed with
        )
        try:
            answered = dict(answer(call))
        except Refused as refusal:
            error = {"Code": refusal.code, "Message": refusal.message}
            return _http(refusal.status), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": refusal.status}}
        if check_answers:
            check_answer(call, model, answered)
        answered["ResponseMetadata"] = {"HTTPStatusCode": 200, "RetryAttempts": 0}
        return _http(200), answered

    core.register("before-parameter-build", remember)
    core.register("before-call", reply)
    return boto3.Session(
        botocore_session=core,
        aws_access_key_id=access_key,
        aws_secret_access_key="rehearsal",  # noqa: S106 - nothing is signed with it
        region_name=region,
    )


def _http(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={})


def check_answer(call: Call, model: Any, answered: Mapping[str, Any]) -> None:
    """Hold an answer against the operation's output shape. Raises OvenproofError with every fault of it."""
    if model.output_shape is None:
        unknown: list[str] = sorted(answered)
        faults = f"the operation has no output; found {', '.join(unknown)}" if unknown else ""
    else:
        unknown = sorted(_unknown_members(answered, model.output_shape, ""))
        faults = ParamValidator().validate(answered, model.output_shape).generate_report()
        faults = "\n".join(filter(None, [faults, *(f"unknown member {name}" for name in unknown)]))
    if faults:
        raise OvenproofError(
            f"the rehearsal's answer to {call.service}:{call.operation} is not one that AWS could give",
            expected="an answer of the shape in botocore's service model",
            found=faults,
            where="the model behind the session",
        )


def _unknown_members(value: Any, shape: Any, path: str) -> list[str]:
    if shape.type_name == "structure" and isinstance(value, Mapping):
        found = []
        for name, item in value.items():
            if name in shape.members:
                found += _unknown_members(item, shape.members[name], f"{path}.{name}")
            else:
                found.append(f"{path}.{name}")
        return found
    if shape.type_name == "list" and isinstance(value, list | tuple):
        return [name for item in value for name in _unknown_members(item, shape.member, f"{path}[]")]
    return []
