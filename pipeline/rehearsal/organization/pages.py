"""Pages chained by opaque tokens, as AWS gives them."""

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from pipeline.rehearsal.answered_session import Refused

T = TypeVar("T")


def page(items: Sequence[T], token: str | None, size: int) -> tuple[Sequence[T], str]:
    """The items after `token`, and the token for what follows; empty at the end."""
    start = 0
    if token:
        try:
            start = int(base64.b64decode(token, validate=True).decode())
        except (binascii.Error, ValueError) as error:
            raise Refused("InvalidNextToken", "The token is not valid") from error
    end = start + size
    following = base64.b64encode(str(end).encode()).decode() if end < len(items) else ""
    return items[start:end], following
