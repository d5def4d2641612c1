"""What was asked of the local cloud, so that a policy can be held against it.

In:  requests as they arrive, before they are answered.
Out: `Call`s: the IAM action, the tags that the request sets, and what it names, with the tags that were on it.

Whose service and region a request is for is in the scope that Signature Version 4 signs; which operation, by the
service's protocol (botocore's service models): a form's `Action`, the header `X-Amz-Target`, or method and path.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import botocore.loaders
from pydantic import BaseModel, ConfigDict

KEPT: Final = 10_000
"""Distinct calls that are remembered; a bake makes some hundreds."""

_SCOPE: Final = re.compile(r"Credential=[^/]+/\d{8}/(?P<region>[\w-]+)/(?P<service>[\w-]+)/aws4_request")
_ID: Final = re.compile(r"(?P<kind>i|ami|snap|vol|sg|subnet|vpc|key|eni)-[0-9a-f]{8,17}")
_KINDS: Final = {
    "i": "instance",
    "ami": "image",
    "snap": "snapshot",
    "vol": "volume",
    "sg": "security-group",
    "subnet": "subnet",
    "vpc": "vpc",
    "key": "key-pair",
    "eni": "network-interface",
}
_NAMES: Final = {
    ("ec2", "KeyName"): "key-pair",
    ("ecs", "cluster"): "cluster",
    ("ecs", "clusterName"): "cluster",
    ("ecs", "clusters"): "cluster",
    ("iam", "InstanceProfileName"): "instance-profile",
    ("iam", "RoleName"): "role",
    ("ssm", "DocumentName"): "document",
}
"""Parameters that name a resource otherwise than by an id."""

_NAMES_OF_SSM: Final = re.compile(r"Names?")
"""They name parameters in operations on parameters, and documents in those on documents."""

_TEXTS: Final = ("Filter", "Parameters.", "Tag", "tag", "UserData", "Value")
"""How the paths of values begin that may look like an id or a name, and are none."""

_CONDITIONS: Final = {
    ("ec2", "IamInstanceProfile.Arn"): "ec2:InstanceProfile",
    ("ec2", "IamInstanceProfile.Name"): "ec2:InstanceProfile",
    ("ec2", "InstanceType"): "ec2:InstanceType",
}
"""Parameters whose value is that of a condition key (Service Authorization Reference, EC2)."""

_TAG_SPECIFICATION: Final = re.compile(r"(TagSpecification\.\d+)\.Tag\.\d+\.Key")
_TAG: Final = re.compile(r"(Tags?\.(member\.)?\d+\.Key|tags\.\d+\.key)", re.IGNORECASE)


class Named(BaseModel):
    """A resource that a request names: its kind as in an ARN, its id or name, where it is, and the keys of its tags."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str
    region: str
    tags: tuple[str, ...] = ()


class Call(BaseModel):
    """One kind of call.

    `sets` holds the keys of tags by the kind of resource they are for, "" for all named; `conditions` the values of
    condition keys of IAM's that stand in the request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: str
    region: str
    sets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    named: tuple[Named, ...] = ()
    conditions: tuple[tuple[str, str], ...] = ()

    def with_tags(self, tags_on: Callable[[str, str, str], tuple[str, ...]]) -> "Call":
        """The same call with the tags on what it names, as `tags_on` gives them for region, kind and name."""
        named = (one.model_copy(update={"tags": tags_on(one.region, one.kind, one.name)}) for one in self.named)
        return self.model_copy(update={"named": tuple(named)})


@functools.cache
def _http_operations(service: str) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Method, path and name of each operation of a service that is asked by its path."""
    loader = botocore.loaders.Loader()
    model = loader.load_service_model(service, "service-2")
    return tuple(
        (one["http"]["method"], re.compile(re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(one["http"]["requestUri"]))), name)
        for name, one in model["operations"].items()
    )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The strings in parsed JSON, each with its path as a form would name it."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _flat(one, f"{path}.{key}" if path else key)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, one in enumerate(value, 1):
            yield from _flat(one, f"{path}.{number}")
    elif isinstance(value, str):
        yield path, value


def _operation(service: str, method: str, path: str, target: str, form: Mapping[str, str]) -> str | None:
    if target:
        return target.rpartition(".")[2]
    if "Action" in form:
        return form["Action"]
    found = (name for verb, pattern, name in _http_operations(service) if verb == method and pattern.fullmatch(path))
    return next(found, None)


def _named(service: str, operation: str, form: Mapping[str, str]) -> set[tuple[str, str]]:
    """Kind and name of every resource that stands in a request's values."""
    found = set()
    for path, value in form.items():
        if path.startswith(_TEXTS):
            continue
        name = re.sub(r"(\.member)?\.\d+$", "", path)
        if service in {"ec2", "ssm"} and (match := _ID.fullmatch(value)):
            found.add((_KINDS[match["kind"]], value))
        elif kind := _NAMES.get((service, name)):
            found.add((kind, value.rpartition("/")[2]))
        elif service == "ssm" and _NAMES_OF_SSM.fullmatch(name):
            found.add(("parameter" if "Parameter" in operation else "document", value))
    return found


def _sets(form: Mapping[str, str]) -> dict[str, set[str]]:
    """Keys of tags that a request sets, by the kind of resource that they are for."""
    found: dict[str, set[str]] = {}
    for path, value in form.items():
        if match := _TAG_SPECIFICATION.fullmatch(path):
            found.setdefault(form[f"{match[1]}.ResourceType"], set()).add(value)
        elif _TAG.fullmatch(path):
            found.setdefault("", set()).add(value)
    return found


def read(method: str, path: str, *, authorization: str, target: str, body: bytes) -> Call | None:
    """The call that a request is, without the tags on what it names; None for what is no call of AWS's."""
    scope = _SCOPE.search(authorization)
    if scope is None:
        return None
    service = scope["service"]
    try:
        form = dict(_flat(json.loads(body)) if body[:1] == b"{" else parse_qsl(body.decode()))
    except ValueError:  # what answers it will say so
        return None
    operation = _operation(service, method, path, target, form)
    if operation is None:
        return None
    there = form.get("SourceRegion", scope["region"])  # what is copied from another region is there
    return Call(
        action=f"{service}:{operation}",
        region=scope["region"],
        sets=tuple(sorted((kind, tuple(sorted(keys))) for kind, keys in _sets(form).items())),
        conditions=tuple(
            sorted((key, form[path]) for (of, path), key in _CONDITIONS.items() if of == service and path in form)
        ),
        named=tuple(
            Named(kind=kind, name=name, region=there) for kind, name in sorted(_named(service, operation, form))
        ),
    )


class Calls(BaseModel):
    """Distinct calls, in the order of their last time, and how many calls there had been by then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    so_far: int
    calls: tuple[Call, ...]


class Journal:
    """The calls so far, each distinct one once; those not made for longest go first. Callers hold the cloud's lock."""

    def __init__(self) -> None:
        self._so_far = 0
        self._last: dict[Call, int] = {}

    def write(self, call: Call) -> None:
        """Remember a call."""
        self._so_far += 1
        self._last.pop(call, None)
        self._last[call] = self._so_far
        if len(self._last) > KEPT:
            del self._last[next(iter(self._last))]

    def since(self, number: int) -> Calls:
        """What was called after the first `number` calls."""
        found = tuple(call for call, last in self._last.items() if last > number)
        return Calls(so_far=self._so_far, calls=found)
