"""AWS's refusals as errors of ours: in, a block that calls AWS; out, the same block, whose failures say what to do.

botocore raises two families: ClientError, an answer that says no, and BotoCoreError, no answer at all (no
credentials, no network, a waiter whose time is up).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from pipeline.errors import CloudError

AWS_FAILURES: Final = (ClientError, BotoCoreError)
"""Everything a call of boto3 raises when AWS refuses it or does not answer."""

_GONE: Final = frozenset({"NoSuchEntity", "ClusterNotFoundException", "InvalidAMIID.Unavailable"})
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId"})


@contextmanager
def aws_errors(what: str, *, where: str, remedy: str, expected: str = "") -> Iterator[None]:
    """Raise CloudError for whatever AWS refuses in the block; `remedy` is for a refusal of these very calls.

    A lack that is the same for every call (credentials, network) has its own remedy.
    """
    try:
        yield
    except AWS_FAILURES as error:
        raise CloudError(
            what, expected=expected, found=str(error), where=where, remedy=_common_remedy(error) or remedy
        ) from error


def error_code(error: Exception) -> str:
    """AWS's code of a refusal, such as `AccessDenied`; empty when there was no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_gone(error: Exception) -> bool:
    """Whether AWS says that what was asked for does not exist."""
    code = error_code(error)
    return code in _GONE or code.endswith(".NotFound")


def is_denied(error: Exception) -> bool:
    """Whether AWS says that the caller may not ask this."""
    return error_code(error) in _DENIED


def _common_remedy(error: Exception) -> str:
    signed_out = (NoCredentialsError, ProfileNotFound, SSOError, TokenRetrievalError)
    if isinstance(error, signed_out) or error_code(error) in _EXPIRED:
        return "sign in (`aws sso login`, AWS_PROFILE, a role) and run the command again"
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return "check network, proxy, region and AWS_ENDPOINT_URL, then run the command again"
    return ""
