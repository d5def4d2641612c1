"""What botocore knows of AWS's services: operations, shapes, and selectors walked through them.

A model is loaded when the first document uses its service, and once in a process. Nothing is asked of the network.
"""

import difflib
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from botocore import xform_name
from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

READS: Final = re.compile(
    r"(?:Describe|Get|List|Head|Search|Lookup|Query|Scan|Select|Filter|Check|Simulate|Validate|Preview|View|Discover|"
    r"Decode|Estimate|BatchGet|BatchDescribe|BatchCheck|BatchRead|Retrieve|Test|Detect|Generate(?!DataKey))"
)
DESTROYS: Final = re.compile(
    r"(?:Delete|Terminate|Deregister|BatchDelete|Purge|Destroy|Remove|Release|Revoke|Reset|Restore|Reboot|Stop|"
    r"ScheduleKeyDeletion|Expire|Abort|Discard|Deprovision|Disassociate|Detach|Kill|Cancel)"
)


@functools.cache
def _loader() -> Loader:
    return Loader()


@functools.cache
def services() -> frozenset[str]:
    """Every service that botocore knows."""
    return frozenset(_loader().list_available_services("service-2"))


@functools.cache
def service(name: str) -> ServiceModel | None:
    """A service's model by botocore's name for it, None when there is none."""
    if name not in services():
        return None
    try:
        return ServiceModel(_loader().load_service_model(name, "service-2"), name)
    except UnknownServiceError:
        return None


@functools.cache
def _extra(name: str, kind: str, key: str) -> dict[str, Any]:
    try:
        return dict(_loader().load_service_model(name, kind)[key])
    except (UnknownServiceError, KeyError):
        return {}
    except Exception as error:
        if type(error).__name__ == "DataNotFoundError":
            return {}
        raise


def paginators(name: str) -> dict[str, Any]:
    """The paginators of a service, by operation name."""
    return _extra(name, "paginators-1", "pagination")


def waiters(name: str) -> dict[str, Any]:
    """The waiters of a service, by name; `operation` is what they call."""
    return _extra(name, "waiters-2", "waiters")


def operation(service_name: str, name: str) -> OperationModel | None:
    """An operation, None when the service has none of exactly that name."""
    model = service(service_name)
    if model is None or name not in model.operation_names:
        return None
    return model.operation_model(name)


@functools.cache
def _folded(service_name: str) -> dict[str, str]:
    model = service(service_name)
    return {name.lower(): name for name in model.operation_names} if model is not None else {}


def respelt(service_name: str, name: str) -> str:
    """The operation that differs from `name` in capitals and underscores only, empty when there is none."""
    return _folded(service_name).get(name.replace("_", "").lower(), "")


@functools.cache
def methods(service_name: str) -> dict[str, str]:
    """The Python method of each operation of a service: method name to operation name."""
    model = service(service_name)
    return {xform_name(name): name for name in model.operation_names} if model is not None else {}


def near(name: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the known name that is nearest, empty when none is near."""
    choices = list(known)
    folded = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean {folded[found[0]]}?" if found else ""


def impact(operation_name: str) -> str:
    """`reads`, `destroys` or `changes`, told by the verb that AWS begins every operation's name with."""
    if READS.match(operation_name):
        return "reads"
    return "destroys" if DESTROYS.match(operation_name) else "changes"


_ALIASES: Final = {("ec2", "Filters"): "Filter", ("logs", "fromTime"): "from"}
"""Inputs that boto3 takes by another name than the model has (`botocore.handlers`, ParameterAlias)."""


def member_of(operation: OperationModel, name: str) -> Shape | None:
    """An operation's input by its name, or by the other name that boto3 takes for it."""
    shape = operation.input_shape
    if not isinstance(shape, StructureShape):
        return None
    found: Shape | None = shape.members.get(name)
    if found is None:
        alias = _ALIASES.get((operation.service_model.service_name, name))
        found = shape.members.get(alias) if alias is not None else None
    return found


def required(shape: Shape | None) -> list[str]:
    """The members that a call must give. botocore fills idempotency tokens in by itself."""
    if not isinstance(shape, StructureShape):
        return []
    tokens = {name for name, member in shape.members.items() if member.metadata.get("idempotencyToken")}
    return [name for name in shape.required_members if name not in tokens]


# --- selectors ---

_PART: Final = re.compile(r"\.\.([A-Za-z0-9_\-]+)|\.([A-Za-z0-9_\-:/]+)|\[(-?\d+)\]|\['([^']+)'\]|\[\"([^\"]+)\"\]")
_BEYOND: Final = re.compile(r"\[\*\]|\.\*|\[\?|\[[^\]]*:|\[[^\]]*,|\(")


@dataclass(frozen=True)
class Part:
    """One part of a selector: `scan` for `..name`, `child` for `.name`, `index` for `[0]`; where it is in the text."""

    kind: str
    name: str
    start: int
    end: int


class BadSelector(Exception):
    """The selector is not in the subset that Systems Manager documents."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start, self.end = start, end


def selector_parts(text: str) -> list[Part]:
    """A selector's parts. Raises BadSelector."""
    if not text.startswith("$"):
        raise BadSelector("a selector begins with $", 0, max(len(text), 1))
    beyond = _BEYOND.search(text)
    if beyond:
        message = f"{beyond[0]!r} is not among .child, ..deep-scan and [index], which is all that is documented"
        raise BadSelector(message, beyond.start(), beyond.end())
    parts: list[Part] = []
    at = 1
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise BadSelector(f"{text[at:]!r} is no part of a selector", at, len(text))
        scan, child, index, quoted, double = match.groups()
        if scan is not None:
            parts.append(Part("scan", scan, match.start(), match.end()))
        elif index is not None:
            parts.append(Part("index", index, match.start(), match.end()))
        else:
            parts.append(Part("child", child or quoted or double, match.start(), match.end()))
        at = match.end()
    return parts


@dataclass(frozen=True)
class Selected:
    """Where a selector leads: a shape (None when unknown), `many` when a deep scan made a list of it."""

    shape: Shape | None
    many: bool = False


class NoSuchMember(Exception):
    """The answer has nothing at this part of a selector."""

    def __init__(self, message: str, part: Part) -> None:
        super().__init__(message)
        self.part = part


def select(shape: Shape | None, parts: list[Part]) -> Selected:
    """Walk a selector through the shape of an answer. Raises NoSuchMember."""
    at: list[Shape] = [shape] if shape is not None else []
    many = False
    for part in parts:
        if not at:
            return Selected(None, many)
        if part.kind == "scan":
            found = _scan(at, part.name)
            if not found:
                raise NoSuchMember(f"nothing in the answer is called {part.name}", part)
            at, many = found, True
            continue
        following: list[Shape] = []
        for one in at:
            following.extend(_step_into(one, part, many))
        if not following:
            raise NoSuchMember(_why(at[0], part), part)
        at = following
    return Selected(at[0], many)


def _step_into(shape: Shape, part: Part, many: bool) -> list[Shape]:
    if part.kind == "index":
        if isinstance(shape, ListShape):
            return [shape.member]
        return [shape] if many else []  # an index into what the deep scan gathered
    if isinstance(shape, StructureShape):
        if is_open(shape):
            return [shape]
        member = shape.members.get(part.name)
        return [member] if member is not None else []
    if isinstance(shape, MapShape):
        return [shape.value]
    return []


def is_open(shape: Shape) -> bool:
    """A structure that says nothing of what is in it (documents of JSON)."""
    return isinstance(shape, StructureShape) and (bool(getattr(shape, "is_document_type", False)))


def _why(shape: Shape, part: Part) -> str:
    if part.kind == "index":
        return f"{shape.name} is not a list but {kind_of(shape)}"
    if isinstance(shape, StructureShape):
        return f"the answer has no {part.name} there{near(part.name, shape.members)}"
    if isinstance(shape, ListShape):
        return f"{shape.name} is a list: it needs an [index] before .{part.name}"
    return f"{shape.name} is {kind_of(shape)}, with nothing inside"


def _scan(shapes: list[Shape], name: str) -> list[Shape]:
    found: list[Shape] = []
    seen: set[str] = set()
    waiting = list(shapes)
    while waiting:
        shape = waiting.pop()
        if shape.name in seen:
            continue
        seen.add(shape.name)
        if isinstance(shape, StructureShape):
            if is_open(shape):
                found.append(shape)
            for member_name, member in shape.members.items():
                if member_name == name:
                    found.append(member)
                waiting.append(member)
        elif isinstance(shape, ListShape):
            waiting.append(shape.member)
        elif isinstance(shape, MapShape):
            waiting.append(shape.value)
            found.append(shape.value)  # a map may have any key
    return found


def kind_of(shape: Shape) -> str:
    """A shape in a person's words."""
    names = {
        "structure": "a structure",
        "list": "a list",
        "map": "a map",
        "string": "a text",
        "character": "a text",
        "integer": "a whole number",
        "long": "a whole number",
        "float": "a number",
        "double": "a number",
        "boolean": "true or false",
        "timestamp": "a time",
        "blob": "bytes",
    }
    return names.get(shape.type_name, shape.type_name)


def types_of(selected: Selected) -> tuple[str, ...]:
    """The output types that can hold what a selector leads to; empty when anything can."""
    shape = selected.shape
    if shape is None or is_open(shape):
        return ()
    if selected.many:
        # What a deep scan gathers is a list; of lists it gathers a list of lists, flattened or not: any list type.
        inner = shape.type_name
        if inner in ("structure", "map"):
            return ("MapList", "StringList")
        return ("StringList",) if inner != "list" else ("StringList", "MapList")
    match shape.type_name:
        case "string" | "character" | "timestamp" | "blob":
            return ("String",)
        case "integer" | "long":
            return ("Integer",)
        case "float" | "double":
            return ("Integer", "String")
        case "boolean":
            return ("Boolean",)
        case "structure" | "map":
            return ("StringMap",)
        case "list" if isinstance(shape, ListShape):
            return ("MapList",) if shape.member.type_name in ("structure", "map") else ("StringList",)
    return ()
