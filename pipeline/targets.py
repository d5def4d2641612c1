"""From a target's name, as the command line has it, to the target or to the bare session of it.

In: `aws` or `local`, and a region. Out: a target that is ready to bake, or the session of one that stands already.
"""

from datetime import date

import boto3

from pipeline import paths
from pipeline.cache import Cache
from pipeline.catalog import Catalog, VariantSelection
from pipeline.errors import UsageError
from pipeline.progress import Progress
from pipeline.session_plugin import ensure_session_plugin
from pipeline.target import AwsTarget, Target, aws_session


def open_target(
    on: str,
    catalog: Catalog,
    selection: VariantSelection,
    region: str,
    *,
    today: date,
    cache: Cache,
    progress: Progress,
) -> Target:
    """The target of that name, ready to bake `selection`. Raises UsageError for a name that is none."""
    region = region or catalog.default_region
    match on:
        case "aws":
            through_sessions = catalog.targets["aws"].ssh_interface == "session_manager"
            return AwsTarget(catalog, region, ensure_session_plugin(cache, progress) if through_sessions else None)
        case "local":
            from pipeline.rehearsal.target import open_local_target

            return open_local_target(catalog, selection, region, today=today, cache=cache, progress=progress)
    raise _no_target(on)


def open_session(on: str, region: str) -> boto3.Session | None:
    """The session of a target, of which nothing is made ready; None where the local cloud does not run.

    Raises UsageError for a name that is none, CloudError without valid credentials.
    """
    match on:
        case "aws":
            return aws_session(region)
        case "local":
            from pipeline.rehearsal.cloud import LocalCloud

            cloud = LocalCloud.find(paths.local_root())
            return cloud.session(region) if cloud else None
    raise _no_target(on)


def _no_target(on: str) -> UsageError:
    return UsageError(f"there is no target {on}", expected="local or aws", where="--on")
