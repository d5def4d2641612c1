"""A YAML file of ours in, a typed value out; or one error that lists everything wrong with the file.

Each complaint says file:line:column, the path inside the document, what was found and what is allowed there, so
that nobody has to run the command once per mistake.
"""

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from pipeline import paths
from pipeline.errors import CatalogError

Step = str | int
QUOTES = "a text is wanted: put it in quotes"
Place = tuple[int, int]  # line and column, both from 1


class StrictModel(BaseModel):
    """What a file of ours may hold: unknown keys are refused, no value is converted, nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Model = TypeVar("Model", bound=BaseModel)


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read `path` as a `model`. Raises CatalogError with every fault of the file, each with its place."""
    name = str(path.relative_to(paths.CHECKOUT)) if path.is_relative_to(paths.CHECKOUT) else str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogError(f"{name} cannot be read", found=str(error), where=str(path)) from error
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        data = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = " ".join(str(error.problem or error.context).split())
        raise CatalogError(f"{name} is not readable as YAML", found=problem, where=place) from error
    try:
        return model.model_validate(_tuples(data))
    except ValidationError as error:
        places: dict[tuple[Step, ...], Place] = {}
        keys: dict[tuple[Step, ...], Place] = {}
        if root is not None:
            _collect(root, (), places, keys)
        faults = [_fault(details, model, places, keys) for details in error.errors(include_url=False)]
        faults.sort(key=lambda fault: fault[0])
        count = "1 error" if len(faults) == 1 else f"{len(faults)} errors"
        raise CatalogError(
            f"{name} has {count}",
            found="\n".join(f"{name}:{line}:{column} {text}" for (line, column), text in faults),
            remedy=f"correct {name}",
        ) from error


def _tuples(value: Any) -> Any:
    """YAML's lists as tuples, which is what frozen models hold."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _collect(
    node: Node, path: tuple[Step, ...], places: dict[tuple[Step, ...], Place], keys: dict[tuple[Step, ...], Place]
) -> None:
    places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            keys[(*path, key.value)] = (key.start_mark.line + 1, key.start_mark.column + 1)
            _collect(value, (*path, key.value), places, keys)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            _collect(value, (*path, index), places, keys)


def _fault(
    details: ErrorDetails,
    model: type[BaseModel],
    places: Mapping[tuple[Step, ...], Place],
    keys: Mapping[tuple[Step, ...], Place],
) -> tuple[Place, str]:
    """Where one complaint belongs, and the sentence for it."""
    path: tuple[Step, ...] = details["loc"]
    kind, found, context = details["type"], details["input"], details.get("ctx", {})
    on_key = bool(path) and path[-1] == "[key]"  # how pydantic says that a mapping's key is the fault, not its value
    if on_key:
        path = path[:-1]
    last = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        text = f"unknown key {last!r}; {_choices(last, _keys_of(model, path[:-1]))}"
    elif kind == "missing":
        text = f"the key {last!r} is missing"
    elif kind == "literal_error" and isinstance(found, int | float):
        text = f"found the number {found!r}; {QUOTES}; allowed: {', '.join(_options(model, path, on_key))}"
    elif kind == "literal_error":
        text = f"found {found!r}; {_choices(str(found), _options(model, path, on_key))}"
    elif kind == "value_error":
        text = str(context["error"])
    elif kind == "string_type" and isinstance(found, int | float):
        text = f"found the number {found!r}; {QUOTES}"
    elif kind == "tuple_type":
        text = f"found {_short(found)}; a list is wanted"
    else:
        text = f"found {_short(found)}; {details['msg'][0].lower()}{details['msg'][1:]}"
    where = path[:-1] if kind == "missing" else path
    place = keys.get(where) if on_key or kind in ("extra_forbidden", "missing") else places.get(where)
    title = " > ".join(f"item {step + 1}" if isinstance(step, int) else step for step in where)
    return place or places.get(where, (1, 1)), f"{title or 'the document'}: {text}"


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, tuple):
        return "a list"
    return "nothing" if value is None else repr(value)


def _choices(found: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(found, allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def _type_at(model: type[BaseModel], path: Sequence[Step]) -> Any:
    """The annotation that governs the value at `path`."""
    at: Any = model
    for step in path:
        at = _bare(at)
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = at.model_fields[str(step)].annotation
        else:
            at = typing.get_args(at)[1 if typing.get_origin(at) in (dict, Mapping) else 0]
    return at


def _bare(annotation: Any) -> Any:
    """An annotation without `Annotated[...]` and without `| None`."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(arg for arg in typing.get_args(annotation) if arg is not types.NoneType)
        else:
            return annotation


def _keys_of(model: type[BaseModel], path: Sequence[Step]) -> list[str]:
    return sorted(_bare(_type_at(model, path)).model_fields)


def _options(model: type[BaseModel], path: Sequence[Step], on_key: bool) -> list[str]:
    if on_key:
        keys, _ = typing.get_args(_bare(_type_at(model, path[:-1])))
        return [str(option) for option in typing.get_args(_bare(keys))]
    return [str(option) for option in typing.get_args(_bare(_type_at(model, path)))]
