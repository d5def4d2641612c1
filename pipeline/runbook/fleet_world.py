"""A fleet's file in, a session that its model answers out: for whoever executes a document against a fleet."""

from pathlib import Path

import boto3

from pipeline.clock import Clock
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import read_fleet
from pipeline.rehearsal.fleet.world import World


def fleet_session_of(path: Path, clock: Clock) -> boto3.Session:
    """The session of a new world made from the fleet's file. Raises CatalogError for a wrong file."""
    return fleet_session(World(read_fleet(path), clock))
