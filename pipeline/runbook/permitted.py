"""The rights of a document's role, enforced while it runs: a client that asks before each of its calls."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pipeline.runbook.engine import StepFailed

if TYPE_CHECKING:
    from pipeline.runbook.execute import Run

CODE = "AccessDeniedException"


class Permitted:
    """A client whose calls are refused, as IAM refuses them, where the seam `permit` names a right that lacks."""

    def __init__(self, client: Any, run: "Run", service: str) -> None:
        self._client = client
        self._run = run
        self._service = service

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        operation = self._client.meta.method_to_api_mapping.get(name)
        return found if operation is None else self._asking(operation, found)

    def get_paginator(self, name: str) -> Any:
        paginator = self._client.get_paginator(name)
        operation = self._client.meta.method_to_api_mapping[name]
        return SimpleNamespace(paginate=self._asking(operation, paginator.paginate, own=("PaginationConfig",)))

    def get_waiter(self, name: str) -> Any:
        waiter = self._client.get_waiter(name)
        wait = self._asking(waiter.config.operation, waiter.wait, own=("WaiterConfig",))
        return SimpleNamespace(name=name, config=waiter.config, wait=wait)

    def _asking(self, operation: str, call: Callable[..., Any], own: tuple[str, ...] = ()) -> Callable[..., Any]:
        def asking(*arguments: Any, **parameters: Any) -> Any:
            given = {key: value for key, value in parameters.items() if key not in own}
            if lacking := lacks(self._run, self._service, operation, given):
                answer = {"Error": {"Code": CODE, "Message": refusal(lacking)}}
                raise self._client.exceptions.from_code(CODE)(answer, operation)
            return call(*arguments, **parameters)

        return asking


def lacks(run: "Run", service: str, operation: str, parameters: Mapping[str, Any]) -> str:
    """The IAM action that the role of a run's document has not and a call needs; empty when it may call."""
    permit = run.seams.permit
    return permit(run.document.name, service, operation, parameters) if permit is not None else ""


def refusal(action: str) -> str:
    """How a refused call is told."""
    return f"the role is not allowed to perform {action}"


def ask(run: "Run", service: str, operation: str, parameters: Mapping[str, Any]) -> None:
    """For an action that AWS says needs a right, and that calls no client for it here. Raises StepFailed."""
    if lacking := lacks(run, service, operation, parameters):
        raise StepFailed(f"{service}:{operation} was refused: {CODE}: {refusal(lacking)}")
