"""Where things lie: the checkout, and the one folder outside it that holds everything slow or local."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
IMAGES = CHECKOUT / "images"


def cache_root() -> Path:
    """The user's cache folder for Ovenproof; deleting it loses time and local images, nothing else.

    `OVENPROOF_CACHE` wins, then `XDG_CACHE_HOME`, then `~/.cache`; `run` decides by the same rule.
    """
    if chosen := os.environ.get("OVENPROOF_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ovenproof"


def local_root() -> Path:
    """State of the local target: images, instances, records and locks of local bakes.

    It lies inside the cache because local images are backed by the base guests cached there: both go together.
    `OVENPROOF_LOCAL` puts it elsewhere, so that tests have a cloud of their own beside the user's.
    """
    if chosen := os.environ.get("OVENPROOF_LOCAL"):
        return Path(chosen)
    return cache_root() / "local"
