"""A file of prepared answers in, a session and seams that give them out: any document runs without any cloud.

    ssm.GetParameter: [{Parameter: {Value: ami-1}}, {Error: {Code: ParameterNotFound, Message: gone}}]
    approve.STEP: Approve        # or Reject; without an entry, and without a terminal, nobody answers
    pause.STEP: Resume
    command.STEP: {Status: Success, Output: done}
    invoke.STEP: {Payload: '{"x": 1}', StatusCode: 200}

Each value is a list, used in order with the last one repeated, or one answer. Answers of operations are read by the
output shape in botocore's service model, so that a text stays a text however it looks, and a misspelt member is told.
"""

import base64
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.session
import yaml
from botocore.exceptions import UnknownServiceError
from botocore.model import OperationNotFoundError
from botocore.response import StreamingBody
from botocore.utils import parse_timestamp

from pipeline.errors import CatalogError, OvenproofError
from pipeline.rehearsal.answered_session import Call, Refused, answered_session
from pipeline.runbook.document import Path_, Raw, kind_of, read_raw, read_text
from pipeline.runbook.seams import Approval, ApprovalRequest, CommandAnswer, LambdaAnswer

MAX_BYTES: Final = 4 * 1024 * 1024
DOCUMENTATION_ACCOUNT: Final = "123456789012"
_PEOPLE: Final = ("approve", "pause", "command", "invoke")


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error of AWS."""

    code: str
    message: str


@dataclass
class Answers:
    """The answers of one file; each key remembers how many of its answers were given."""

    where: str
    by_key: Mapping[str, Sequence[Any]]
    given: dict[str, int] = field(default_factory=dict)

    def next(self, key: str) -> Any:
        """The next answer of a key, the last one again and again. Raises KeyError where there is none."""
        answers = self.by_key[key]
        position = self.given.get(key, 0)
        self.given[key] = position + 1
        return answers[min(position, len(answers) - 1)]

    def answer(self, call: Call) -> Mapping[str, Any]:
        """The answer to a call. Raises Refused, or OvenproofError naming what to put into the file."""
        key = f"{call.service}.{call.operation}"
        if key not in self.by_key:
            raise self.missing(key, example_of(call.service, call.operation), f"called with {dict(call.parameters)}")
        found = self.next(key)
        if isinstance(found, Refusal):
            raise Refused(found.code, found.message)
        return found  # type: ignore[no-any-return]

    def missing(self, key: str, example: str, found: str) -> OvenproofError:
        """What to tell when the document wants what the file does not have."""
        near = difflib.get_close_matches(key, self.by_key, n=1, cutoff=0.8)
        return CatalogError(
            f"the answers have nothing for {key}",
            expected=f"a line such as\n{key}: [{example}]",
            found=found + (f"\nthe file has {near[0]}" if near else ""),
            where=self.where or "no file of answers was given",
            remedy=f"put {key} into the answers, with what AWS would say",
        )

    def session(self, region: str) -> boto3.Session:
        """A session whose every call is answered from the file."""
        return answered_session(self.answer, region=region)

    @property
    def account_id(self) -> str | None:
        """The account that steps may ask for without a call: None when the file answers sts.GetCallerIdentity."""
        return None if "sts.GetCallerIdentity" in self.by_key else DOCUMENTATION_ACCOUNT

    def approval(self, request: ApprovalRequest) -> Approval | None:
        """The answer for an approval, if there is one in the file."""
        key = f"approve.{request.step}"
        if key not in self.by_key:
            return None
        said = self.next(key)
        return None if said is None else Approval(decision=said, approver=(*request.approvers, "")[0])

    def resumes(self, step: str) -> bool | None:
        """Whether the file resumes a pause; None when it does not say."""
        key = f"pause.{step}"
        return bool(self.next(key)) if key in self.by_key else None

    def command(self, step: str) -> CommandAnswer | None:
        key = f"command.{step}"
        return self.next(key) if key in self.by_key else None

    def invocation(self, step: str) -> LambdaAnswer | None:
        key = f"invoke.{step}"
        return self.next(key) if key in self.by_key else None


NO_ANSWERS: Final = Answers(where="", by_key={})


def read_answers(path: Path) -> Answers:
    """Read and check a file of answers. Raises CatalogError that lists every fault with its line."""
    text = read_text(path, limit=MAX_BYTES, hint="keep the answers that the document needs")
    value, lines = read_raw(text, str(path))
    reader = _Reader(str(path), lines)
    answers = reader.read(value)
    if reader.faults:
        raise CatalogError(
            f"{path} has answers that cannot be given",
            expected="YAML as in `ssm.GetParameter: [{Parameter: {Value: x}}]`",
            found="\n".join(f"{path}:{line} {text}" for line, text in reader.faults),
            where=f"{path}:{reader.faults[0][0]}",
            remedy=f"correct {path}",
        )
    return Answers(where=str(path), by_key=answers)


class _Reader:
    def __init__(self, where: str, lines: Mapping[Path_, int]) -> None:
        self.where = where
        self.lines = lines
        self.faults: list[tuple[int, str]] = []

    def fault(self, path: Path_, text: str) -> None:
        at = path
        while at and at not in self.lines:
            at = at[:-1]
        self.faults.append((self.lines.get(at, 1), text))

    def read(self, value: Any) -> dict[str, Sequence[Any]]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fault((), f"found {kind_of(value)}; a mapping of `service.Operation` to answers is wanted")
            return {}
        return {key: self._answers(key, given) for key, given in value.items()}

    def _answers(self, key: str, given: Any) -> Sequence[Any]:
        service, _, name = key.partition(".")
        one_by_one = given if isinstance(given, list) else [given]
        if not one_by_one:
            self.fault((key,), f"{key}: an empty list answers nothing; write at least one answer")
        shape = None
        if service not in _PEOPLE:
            shape = self._shape(key, service, name)
            if shape is False:
                return []
        answers = []
        for index, item in enumerate(one_by_one):
            path: Path_ = (key, index) if isinstance(given, list) else (key,)
            answers.append(
                self._of_people(service, item, path) if service in _PEOPLE else self._of_aws(item, shape, path)
            )
        return answers

    def _shape(self, key: str, service: str, operation: str) -> Any:
        """The operation's output shape, None where it has none, False where there is no such operation."""
        model = _service_model(service)
        if model is None:
            near = difflib.get_close_matches(service, [*_services(), *_PEOPLE], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.fault((key,), f"{key}: there is no service {service!r}{hint}")
            return False
        try:
            return model.operation_model(operation).output_shape
        except OperationNotFoundError:
            near = difflib.get_close_matches(operation, model.operation_names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.fault((key,), f"{key}: the service {service} has no operation {operation!r}{hint}")
            return False

    def _of_aws(self, item: Any, shape: Any, path: Path_) -> Any:
        if item is None:
            return {}
        if isinstance(item, dict) and set(item) == {"Error"} and isinstance(item["Error"], dict):
            error = item["Error"]
            if not error.get("Code"):
                self.fault((*path, "Error"), f"{path[0]}: an Error needs a Code")
            return Refusal(code=str(error.get("Code")), message=str(error.get("Message", "")))
        if not isinstance(item, dict):
            self.fault(path, f"{path[0]}: found {kind_of(item)}; an answer is a mapping")
            return {}
        if shape is None:
            for name in item:
                if name != "ResponseMetadata":
                    self.fault((*path, name), f"{path[0]}: the operation answers with nothing; found {name!r}")
            return {}
        return self._shaped({key: one for key, one in item.items() if key != "ResponseMetadata"}, shape, path)

    def _shaped(self, value: Any, shape: Any, path: Path_) -> Any:
        """A value of the file as the shape has it."""
        kind = shape.type_name
        if value is None:
            return None
        if getattr(shape, "is_document_type", False):
            return plain(value)
        if kind == "structure":
            return self._structure(value, shape, path)
        if kind == "list":
            if not isinstance(value, list):
                return self._wrong(value, "a list", path)
            return [self._shaped(item, shape.member, (*path, index)) for index, item in enumerate(value)]
        if kind == "map":
            if not isinstance(value, dict):
                return self._wrong(value, "a mapping", path)
            return {key: self._shaped(item, shape.value, (*path, key)) for key, item in value.items()}
        if isinstance(value, dict | list):
            return self._wrong(value, f"a {kind}", path)
        return self._scalar(str(value), kind, path)

    def _structure(self, value: Any, shape: Any, path: Path_) -> Any:
        if not isinstance(value, dict):
            return self._wrong(value, "a mapping", path)
        built = {}
        for name, item in value.items():
            if name not in shape.members:
                near = difflib.get_close_matches(name, shape.members, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; members: {', '.join(list(shape.members)[:12])}"
                self.fault((*path, name), f"{title_of(path)}: AWS's answer has no member {name!r}{hint}")
                continue
            found = self._shaped(item, shape.members[name], (*path, name))
            if shape.members[name].serialization.get("streaming"):
                found = StreamingBody(io.BytesIO(found), len(found))
            if found is not None:
                built[name] = found
        return built

    def _scalar(self, text: str, kind: str, path: Path_) -> Any:
        try:
            if kind in ("integer", "long"):
                return int(text)
            if kind in ("float", "double"):
                return float(text)
            if kind == "boolean":
                return {"true": True, "false": False}[text.lower()]
            if kind == "timestamp":
                return parse_timestamp(text)
            if kind == "blob":
                return text.encode()
        except (KeyError, ValueError):
            return self._wrong(Raw(text), f"a {kind}", path)
        return text

    def _wrong(self, value: Any, wanted: str, path: Path_) -> None:
        found = repr(str(value)) if isinstance(value, str) else kind_of(value)
        self.fault(path, f"{title_of(path)}: found {found}; {wanted} is wanted")

    def _of_people(self, kind: str, item: Any, path: Path_) -> Any:
        if kind == "approve":
            text = str(item).capitalize()
            decision = {"Approve": "Approve", "Approved": "Approve", "Reject": "Reject", "Rejected": "Reject"}.get(text)
            if decision is None and text not in ("None", "Nobody"):
                self.fault(path, f"{path[0]}: found {item!r}; Approve, Reject, or Nobody is wanted")
            return decision
        if kind == "pause":
            if str(item).lower() not in ("resume", "true", "none", "nobody", "false"):
                self.fault(path, f"{path[0]}: found {item!r}; Resume or Nobody is wanted")
            return str(item).lower() in ("resume", "true")
        body = plain(item)
        allowed = ("Status", "Output", "ResponseCode", "CommandId")
        if kind == "invoke":
            allowed = ("Payload", "StatusCode", "FunctionError", "LogResult")
        if not isinstance(body, dict) or not set(body) <= set(allowed):
            self.fault(path, f"{path[0]}: found {item!r}; a mapping of {', '.join(allowed)} is wanted")
            return None
        if kind == "command":
            status = str(body.get("Status", "Success"))
            return CommandAnswer(
                status=status,
                output=str(body.get("Output", "")),
                response_code=int(body.get("ResponseCode", 0 if status == "Success" else 1)),
                command_id=str(body.get("CommandId", "")),
            )
        payload = body.get("Payload", "null")
        return LambdaAnswer(
            payload=payload if isinstance(payload, str) else json.dumps(payload),
            status_code=int(body.get("StatusCode", 200)),
            function_error=str(body.get("FunctionError", "")),
            log_result=base64.b64encode(str(body["LogResult"]).encode()).decode() if "LogResult" in body else "",
        )


def title_of(path: Path_) -> str:
    """A path in the file in a reader's words: `ssm.GetParameter > answer 1 > Parameter`."""
    first, *rest = path
    words = [f"item {part + 1}" if isinstance(part, int) else str(part) for part in rest]
    return " > ".join([str(first), *words])


def plain(value: Any) -> Any:
    """Values as YAML means them, where nothing else says what they are."""
    if isinstance(value, Raw):
        return yaml.safe_load(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def example_of(service: str, operation: str) -> str:
    """The beginning of an answer of that operation, as a person would write it."""
    model = _service_model(service)
    shape = model.operation_model(operation).output_shape if model else None
    return _example(shape, 0) if shape is not None else "{}"


def _example(shape: Any, depth: int) -> str:
    kind = shape.type_name
    if kind == "structure":
        if depth > 2:
            return "{...}"
        shown = [name for name in shape.members if name not in ("NextToken", "nextToken")][:3]
        return "{" + ", ".join(f"{name}: {_example(shape.members[name], depth + 1)}" for name in shown) + "}"
    if kind == "list":
        return f"[{_example(shape.member, depth + 1)}]"
    return {"integer": "1", "long": "1", "boolean": "true", "timestamp": "2026-01-01T00:00:00Z", "map": "{}"}.get(
        kind, "x"
    )


@lru_cache(maxsize=1)
def _core() -> Any:
    return botocore.session.Session()


@lru_cache(maxsize=1)
def _services() -> list[str]:
    return list(_core().get_available_services())


@lru_cache(maxsize=64)
def _service_model(service: str) -> Any:
    try:
        return _core().get_service_model(service)
    except UnknownServiceError:
        return None
