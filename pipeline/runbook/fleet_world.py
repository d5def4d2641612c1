"""A fleet's file in, a session that its model answers out: for whoever executes a document against a fleet."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.clock import Clock
from pipeline.errors import MachineError

if TYPE_CHECKING:
    import boto3


def fleet_session_of(path: Path, clock: Clock) -> "boto3.Session":
    """The session of a new world made from the fleet's file. Raises CatalogError for a wrong file."""
    from importlib import import_module

    try:
        spec: Any = import_module("pipeline.rehearsal.fleet.spec")
        world: Any = import_module("pipeline.rehearsal.fleet.world")
        session: Any = import_module("pipeline.rehearsal.fleet.session")
    except ModuleNotFoundError as error:
        raise MachineError("this checkout has no model of a fleet", found=str(error)) from error
    made: boto3.Session = session.fleet_session(world.World(spec.read_fleet(path), clock))
    return made
