"""`./run local`: in, what to do with the local cloud of this cache; out, what is in it, as text."""

import shutil

from pipeline import paths, tags
from pipeline.errors import UsageError
from pipeline.progress import duration
from pipeline.rehearsal.cloud import LocalCloud, Status, remove_state


def manage(*, start: bool, stop: bool, clean: bool) -> str:
    """Show the local cloud, after starting, stopping or cleaning it if asked. Raises UsageError for two of them."""
    if start + stop + clean > 1:
        raise UsageError("--start, --stop and --clean exclude each other", remedy="choose one")
    root = paths.local_root()
    cloud = LocalCloud.ensure(root) if start else LocalCloud.find(root)
    if clean:
        removed = cloud.clean() if cloud else remove_state(root)
        if cloud:
            cloud.stop()
        for folder in ("records", "locks"):
            shutil.rmtree(root / folder, ignore_errors=True)
        return "\n".join(["removed, with all local records and locks:", *removed]) if removed else "nothing was there"
    if cloud is None:
        return "the local cloud is not running; `./run build-image` starts it when needed, `./run local --start` now"
    if stop:
        cloud.stop()
        return "the local cloud has ended, with every guest in it; images and records stay"
    return _local_status(cloud.status())


def _local_status(status: Status) -> str:
    lines = [
        f"local cloud: {status.endpoint}, process {status.pid}, up {duration(status.uptime_seconds)}, "
        f"{status.disk_bytes / 2**20:.0f} MiB of disk"
    ]
    for one in status.instances:
        lines.append(
            f"  instance {one.instance_id}  {one.state}  {one.address or 'no address'}  process {one.pid or '-'}  "
            f"{one.memory_bytes / 2**20:.0f} MiB  {duration(one.age_seconds)}  of {one.image_id}  "
            f"bake {one.tags.get(tags.BAKE_ID, '-')}"
        )
    for image in status.images:
        state = "" if image.registered else "  deregistered, still backs another disk"
        lines.append(f"  image    {image.image_id}  {image.disk_bytes / 2**20:.0f} MiB  {image.name}{state}")
    lines += [f"  base     {base.line}  {base.disk}" for base in status.bases]
    return "\n".join(lines)
