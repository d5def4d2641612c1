"""The commands around scheduled builds: the stack, records in a bucket, reports, figures, updates. They decide nothing.

In: what the user or buildspec.yml asked for. Out: the text that answers.
"""

from pathlib import Path

import boto3

from pipeline import figures, paths, record_store, sweep
from pipeline import update as updates
from pipeline.cache import Cache
from pipeline.catalog import load_catalog
from pipeline.clock import SystemClock
from pipeline.documents import document_names, rendered_documents
from pipeline.errors import UsageError
from pipeline.flow import plan_all
from pipeline.junit import as_junit
from pipeline.plan import lock_path, read_lock
from pipeline.progress import Progress
from pipeline.record import Record, find_record
from pipeline.signals import as_interrupted
from pipeline.stack.deploy import deploy, destroy, parse_settings
from pipeline.standing import records_folder
from pipeline.target import AwsTarget, aws_session
from pipeline.targets import open_session
from pipeline.tools import go_toolchain
from pipeline.whole_file import write_whole


def deploy_stack(*, region: str, stack: str, settings: str, yes: bool) -> str:
    """Show what deploying the standing pipeline would change in AWS, and with `yes` change it."""
    progress = Progress()
    given = parse_settings(settings)
    session = aws_session(region or load_catalog().default_region)
    now = SystemClock().now()
    return deploy(session, stack, given, rendered_documents(), yes=yes, now=now, say=progress.say)


def destroy_stack(*, region: str, stack: str, yes: bool) -> str:
    """Show what removing the standing pipeline takes away and leaves, and with `yes` remove it."""
    session = aws_session(region or load_catalog().default_region)
    return destroy(session, stack, document_names(), yes=yes, say=Progress().say)


def exchange_records(*, on: str, region: str, bucket: str, fetch: bool, store: bool) -> str:
    """Bring records and locks from a bucket, or send them there. Raises UsageError unless it is one of the two."""
    if fetch == store:
        raise UsageError("records go one way", expected="either --fetch or --store", where="the command line")
    if not bucket:
        return "no bucket is named (--bucket, or $OVENPROOF_BUCKET): records stay on this machine"
    home = region or load_catalog().default_region
    session = _any_session(on, home)
    roots = [(records_folder(on), record_store.PREFIX)]
    if on == "local":  # where locks do not lie below records
        roots.append((paths.local_root() / "locks", record_store.PREFIX + record_store.LOCKS))
    exchange = record_store.fetch if fetch else record_store.store
    number = sum(exchange(session, bucket, folder, prefix) for folder, prefix in roots)
    return f"{number} files {'fetched from' if fetch else 'stored in'} s3://{bucket}/{record_store.PREFIX}"


def report(*, on: str, out: str) -> str:
    """Write the newest record of each variant as a JUnit report."""
    newest: dict[str, Record] = {}
    for path in sorted(records_folder(on).glob("*/record.json")):
        record = find_record(str(path), ())
        if record.name not in newest or newest[record.name].ended_at < record.ended_at:
            newest[record.name] = record
    write_whole(Path(out), as_junit(list(newest.values())))
    return f"{len(newest)} records in {out}"


def write_figures(*, on: str, region: str, images: str) -> str:
    """Write to CloudWatch how long the last proof is ago, and how much outlived its bake."""
    catalog, now = load_catalog(), SystemClock().now()
    home = region or catalog.default_region
    session = _any_session(on, home)
    folder = paths.local_root() / "locks" if on == "local" else AwsTarget.locks
    selections = [catalog.select(*name.rsplit("/", 1)) for name in images.split() if "/" in name]
    days = figures.days_since_proven([read_lock(lock_path(folder, one)) for one in selections], now)
    left = len(sweep.overdue(sweep.inventory(session, say=Progress().say), now))
    figures.publish(session, days=days, left_behind=left)
    proven = "never" if days is None else f"{days:.1f} days ago"
    return f"the oldest last proof: {proven}; left behind: {left}"


def _any_session(on: str, region: str) -> boto3.Session:
    """A session of the target, the local cloud started where it does not run."""
    if on == "local":
        from pipeline.rehearsal.cloud import LocalCloud

        return LocalCloud.ensure(paths.local_root()).session(region)
    session = open_session(on, region)
    if session is None:
        raise UsageError(f"there is no target {on}", expected="local or aws", where="--on")
    return session


def update(*, on: str, region: str, write: bool) -> str:
    """Say what is newer than what is pinned; with `write` change the pins and show the lines. The plan follows."""
    progress = Progress()
    with as_interrupted():
        go = go_toolchain(Cache(paths.cache_root(), progress.say), progress)
        pins = updates.look_up(load_catalog().agent.version, go)
        parts = [updates.as_text(pins)]
        if write:
            parts += updates.write(pins, go)
        elif any(pin.newest for pin in pins):
            parts.append("`--write` changes the pins that can be changed here")
    return "\n".join([*(part.rstrip() for part in parts if part), "", plan_all(on=on, region=region)])
