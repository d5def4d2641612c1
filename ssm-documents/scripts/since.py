"""The time, once: limits of the steps that follow count from here, however often they are tried again."""

import time
from typing import Any


def handler(_events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Out: Now, seconds since 1970 as text."""
    return {"Now": str(time.time())}
