"""What an execution is started with: parameters as a user, or a parent, gives them in; checked, typed values out.

AWS takes each parameter as a list of texts. Here a value may also be written as what it is, since a JSON file does;
either way the limits of StartAutomationExecution hold for the list of texts that AWS would get.
Sources: UG documents-syntax-data-elements-parameters, MODEL AutomationParameterMap.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from pipeline.errors import CatalogError, UsageError
from pipeline.runbook.document import Document, Parameter, kind_of, references_in
from pipeline.runbook.language import LIMITS
from pipeline.runbook.values import is_of_type

_JAVA_ONLY: Final = ((r"\z", r"\Z"), (r"\p{Alpha}", "A-Za-z"), (r"\p{Digit}", "0-9"), (r"\p{Alnum}", "A-Za-z0-9"))


def started_with(
    document: Document,
    given: Mapping[str, Any],
    *,
    read_parameter: Callable[[str], Any],
    nested: bool = False,
) -> dict[str, Any]:
    """Every parameter's value: the given one, or its default; `read_parameter` answers `{{ssm:NAME}}` in defaults.

    `nested`: given by aws:executeAutomation, which passes on empty texts too. Raises UsageError naming each fault.
    """
    faults = _over_limits(given, nested=nested)
    values: dict[str, Any] = {}
    for name in given:
        if name not in document.parameters:
            known = ", ".join(document.parameters) or "none"
            faults.append(f"{name}: the document has no such parameter; it has: {known}")
    for name, parameter in document.parameters.items():
        if name in given:
            value, fault = _typed(parameter, given[name])
            if not fault:
                fault = _refused(document, parameter, value)
            if fault:
                faults.append(f"{name}: {fault} ({document.where}:{parameter.line})")
            values[name] = value
        elif parameter.has_default:
            values[name] = _default(parameter, read_parameter)
        else:
            faults.append(f"{name}: is required, a {parameter.declared_type} ({document.where}:{parameter.line})")
    if faults:
        raise UsageError(
            f"the execution of {document.name} cannot be started with these parameters",
            expected="what the document declares, within the limits of StartAutomationExecution",
            found="\n".join(faults),
            where=document.where,
            remedy="correct the parameters",
        )
    return values


def _over_limits(given: Mapping[str, Any], *, nested: bool) -> list[str]:
    faults = []
    if len(given) > LIMITS.parameter_keys:
        faults.append(f"{len(given)} parameters; AWS takes at most {LIMITS.parameter_keys}")
    for name, value in given.items():
        if len(name) > LIMITS.parameter_key_characters:
            faults.append(
                f"{name[:20]}...: {len(name)} characters; a name has at most {LIMITS.parameter_key_characters}"
            )
        texts = _as_aws_gets_it(value)
        if len(texts) > LIMITS.parameter_values:
            faults.append(f"{name}: {len(texts)} values; AWS takes at most {LIMITS.parameter_values}")
        for text in texts:
            if len(text) > LIMITS.parameter_value_characters:
                faults.append(
                    f"{name}: a value of {len(text)} characters; AWS takes at most {LIMITS.parameter_value_characters}"
                )
            elif not text and not nested:
                faults.append(f"{name}: an empty value; AWS takes at least one character, leave the parameter out")
    return faults


def _as_aws_gets_it(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item if isinstance(item, str) else json.dumps(item, separators=(",", ":")) for item in items]


def _typed(parameter: Parameter, given: Any) -> tuple[Any, str]:
    """The value with the parameter's type, and why it cannot have it."""
    kind = parameter.type
    if is_of_type(given, kind):
        return given, ""
    if isinstance(given, list) and kind not in ("StringList", "MapList"):
        if len(given) != 1:
            return given, f"found a list of {len(given)}; a {parameter.declared_type} is one value"
        given = given[0]
        if is_of_type(given, kind):
            return given, ""
    if isinstance(given, str) and kind not in ("String", "StringList"):
        try:
            read = json.loads(given)
        except ValueError:
            read = given
        if is_of_type(read, kind):
            return read, ""
    if isinstance(given, list) and kind == "MapList":
        items = [_json_or_same(item) for item in given]
        if is_of_type(items, kind):
            return items, ""
        if len(items) == 1 and is_of_type(items[0], kind):
            return items[0], ""
    return given, f"found {kind_of(given)}; the type is {parameter.declared_type}, and nothing is converted"


def _json_or_same(item: Any) -> Any:
    try:
        return json.loads(item) if isinstance(item, str) else item
    except ValueError:
        return item


def _refused(document: Document, parameter: Parameter, value: Any) -> str:
    """Why the declaration does not allow the value; nothing when it does."""
    items = value if isinstance(value, list) else [value]
    if parameter.allowed_values:
        for item in items:
            if item not in parameter.allowed_values:
                return f"{item!r} is not one of the allowed values: {', '.join(map(str, parameter.allowed_values))}"
    if parameter.allowed_pattern:
        pattern = _compiled(parameter.allowed_pattern, f"{document.where}:{parameter.line}")
        for item in items:
            if isinstance(item, str) and not pattern.fullmatch(item):
                return f"{item!r} does not match the allowed pattern {parameter.allowed_pattern}"
    if isinstance(value, list | dict):
        if parameter.min_items is not None and len(value) < parameter.min_items:
            return f"{len(value)} items; at least {parameter.min_items} are wanted"
        if parameter.max_items is not None and len(value) > parameter.max_items:
            return f"{len(value)} items; at most {parameter.max_items} are allowed"
    for item in items:
        if not isinstance(item, str):
            continue
        if parameter.min_chars is not None and len(item) < parameter.min_chars:
            return f"{len(item)} characters; at least {parameter.min_chars} are wanted"
        if parameter.max_chars is not None and len(item) > parameter.max_chars:
            return f"{len(item)} characters; at most {parameter.max_chars} are allowed"
    return ""


@lru_cache(maxsize=1024)
def _compiled(pattern: str, where: str) -> re.Pattern[str]:
    """AWS matches with Java's library; what differs in ordinary patterns is put in Python's words."""
    text = pattern
    for java, python in _JAVA_ONLY:
        text = text.replace(java, python)
    try:
        return re.compile(text)
    except re.error as error:
        raise CatalogError(
            "an allowedPattern cannot be used here",
            expected="a regular expression that Java and Python read alike",
            found=f"{pattern}: {error}",
            where=where,
            remedy="write the pattern without what only Java has",
        ) from error


def _default(parameter: Parameter, read_parameter: Callable[[str], Any]) -> Any:
    for reference in references_in(parameter.default):
        if reference.name.startswith("ssm:"):
            value = read_parameter(reference.name.removeprefix("ssm:"))
            return value.split(",") if parameter.type == "StringList" and isinstance(value, str) else value
    return parameter.default
