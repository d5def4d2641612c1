"""Ordinary boto3 clients in front of a world: botocore checks the parameters, the world answers, no request is built.

The clients of a process are made once a service, which is slow; a world's own are thin copies of them, so that a world
and its session cost less than a millisecond and two worlds never meet. `answered_session` does the same through
botocore's events and is the one to use where speed does not matter.
"""

from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator

from pipeline.errors import UsageError
from pipeline.rehearsal.answered_session import Call, Refused, answered_session, check_answer, not_modelled

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

ACCESS_KEY = "AKIAREHEARSAL0000000"
_VALIDATOR = ParamValidator()
_REQUEST_ID = "00000000-0000-4000-8000-000000000000"

_cores: dict[str, boto3.Session] = {}  # region to the session that made the clients below
_prototypes: dict[tuple[str, str], Any] = {}  # region and service to a client without a world


class _Answered:
    """Put before a client class of botocore: the one method through which each of its calls goes."""

    _world: "World"
    _check: bool

    def _make_api_call(self, operation_name: str, api_params: dict[str, Any]) -> dict[str, Any]:
        client = cast("Any", self)
        model = client._service_model.operation_model(operation_name)
        service: str = model.service_model.service_name
        if model.input_shape is not None:
            errors = _VALIDATOR.validate(api_params, model.input_shape)
            if errors.has_errors():
                raise ParamValidationError(report=errors.generate_report())
            for member in model.idempotent_members:  # botocore fills those in, as the user guides say
                api_params.setdefault(member, self._world.token())
        try:
            answer = self._world.call(service, operation_name, api_params)
        except Refused as refusal:
            parsed = {
                "Error": {"Code": refusal.code, "Message": refusal.message, "Type": "Sender"},
                "ResponseMetadata": _metadata(refusal.status),
            }
            raise client.exceptions.from_code(refusal.code)(parsed, operation_name) from None
        if self._check:
            call = Call(
                service=service,
                operation=operation_name,
                parameters=api_params,
                region=client.meta.region_name,
                access_key=ACCESS_KEY,
            )
            check_answer(call, model, answer)
        answer["ResponseMetadata"] = _metadata(200)
        return answer

    def get_waiter(self, waiter_name: str) -> Any:
        raise UsageError(
            f"the waiter {waiter_name} of botocore waits in real time",
            expected="a loop that asks and sleeps by the clock it was handed",
            where="a client of the fleet model",
            remedy="poll the operation instead",
        )


def _metadata(status: int) -> dict[str, Any]:
    return {"RequestId": _REQUEST_ID, "HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}


def _refuse(call: Call) -> Any:
    raise not_modelled(call)


class FleetSession(boto3.Session):
    """A session whose clients speak to one world; made by `fleet_session`."""

    def __init__(self, world: "World", core: boto3.Session, *, check_answers: bool) -> None:
        # boto3's own set-up reads files and takes 10 ms; this shares the one of the process.
        self.__dict__.update(core.__dict__)
        self._world = world
        self._check_answers = check_answers
        self._clients: dict[str, Any] = {}

    def client(self, service_name: str, region_name: str | None = None, *_: Any, **__: Any) -> Any:
        """The client of a service, the same one each time; in the world's region, as there is no other."""
        if region_name not in (None, self._world.spec.region):
            raise UsageError(
                f"the fleet model has only the region {self._world.spec.region}",
                found=f"a client for {region_name}",
                remedy="rehearse each region with a fleet file of its own",
            )
        client = self._clients.get(service_name)
        if client is None:
            prototype = _prototype(self._world.spec.region, service_name)
            client = object.__new__(type(prototype))
            client.__dict__.update(prototype.__dict__)
            client._world = self._world
            client._check = self._check_answers
            self._clients[service_name] = client
        return client

    def resource(self, service_name: str, *_: Any, **__: Any) -> Any:
        raise UsageError(
            f"the fleet model has no resource {service_name}", remedy="use the client, as Automation's own scripts do"
        )


def _core(region: str) -> boto3.Session:
    if region not in _cores:
        _cores[region] = answered_session(_refuse, region=region, access_key=ACCESS_KEY)
    return _cores[region]


def _prototype(region: str, service: str) -> Any:
    key = (region, service)
    if key not in _prototypes:
        client = _core(region).client(cast("Any", service))
        kind = type(client)
        client.__class__ = type(kind.__name__, (_Answered, kind), {})
        _prototypes[key] = client
    return _prototypes[key]


def fleet_session(world: "World", *, check_answers: bool = False) -> boto3.Session:
    """A session for a world. With `check_answers` an answer that botocore's model forbids raises OvenproofError."""
    return FleetSession(world, _core(world.spec.region), check_answers=check_answers)
