"""The rehearsed organization as a boto3 session of its GuardDuty administrator.

Other accounts are reached as in AWS: by `sts:AssumeRole`, with credentials that name the account.
"""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

import boto3

from pipeline.rehearsal.answered_session import Call, Refused, answered_session, not_modelled
from pipeline.rehearsal.organization.compute import Compute
from pipeline.rehearsal.organization.governance import Governance, account_of
from pipeline.rehearsal.organization.guardduty import GuardDuty
from pipeline.rehearsal.organization.world import World


class Organization:
    """Answers every call, counts them, and refuses some as too many if the spec says so."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: dict[str, int] = {}
        self.refusals = 0
        self.deny: Callable[[Call, str], Refused | None] = lambda _call, _account: None
        """Asked before each answer, for tests that want an API to fail."""
        self._parts = (GuardDuty(world), Compute(world), Governance(world))
        self._handlers: dict[tuple[str, str], Any] = {}
        self._lock = Lock()

    def answer(self, call: Call) -> Mapping[str, Any]:
        """The answer to one call of one account."""
        name = f"{call.service}:{call.operation}"
        account = account_of(call, self.world)
        with self._lock:
            self.calls[name] = self.calls.get(name, 0) + 1
            total = sum(self.calls.values()) if self.world.spec.throttle_every else 0
        if total and total % self.world.spec.throttle_every == 0:
            self.refusals += 1
            raise Refused("ThrottlingException", "Rate exceeded", status=429)
        if refused := self.deny(call, account):
            raise refused
        answered: Mapping[str, Any] = self._handler(call)(call, account)
        return answered

    def _handler(self, call: Call) -> Any:
        key = (call.service, call.operation)
        if key not in self._handlers:
            method = f"{call.service.replace('-', '_')}_{call.operation}"
            found = next((getattr(part, method) for part in self._parts if hasattr(part, method)), None)
            if found is None:
                raise not_modelled(call)
            self._handlers[key] = found
        return self._handlers[key]

    def session(self, *, check_answers: bool = False) -> boto3.Session:
        """A session in the first region with the administrator's credentials."""
        return answered_session(
            self.answer,
            region=self.world.spec.regions[0],
            access_key=f"AKIA{self.world.spec.administrator}",
            check_answers=check_answers,
        )
