"""Calls in any account of an organization: in, the administrator's session; out, answers, counted and retried.

A client is made once for each service and region and signs with the credentials of whichever account the calling
thread acts for: making clients for 2,000 accounts would cost more than all their calls. Throttling is met with
patience that grows, up to a limit; what AWS refuses for good is a CloudError that says who may not do what.
"""

import copy
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import boto3
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from pipeline.clock import Clock
from pipeline.errors import CloudError

ROLE = "OvenproofCoverage"
"""The role in each member account: pipeline/diagnosis/member.yaml makes it."""
ATTEMPTS = 9
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.4, 20.0
FRESH_ENOUGH = timedelta(minutes=5)
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "OptInRequired")
BUSY = ("throttl", "toomanyrequests", "requestlimitexceeded", "slowdown", "serviceunavailable", "internalserver")


class Denied(CloudError):
    """AWS does not let the caller do this."""


class _Acting(Credentials):
    """The credentials of the account that the current thread acts for; the session's own until it is told one."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self._current = threading.local()
        self.method = "ovenproof-acting"

    def act_as(self, credentials: ReadOnlyCredentials | None) -> None:
        self._current.credentials = credentials

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        current = getattr(self._current, "credentials", None)
        return cast("ReadOnlyCredentials", current or self._own.get_frozen_credentials())

    def get_deferred_property(self, property_name: str) -> Any:
        return lambda: getattr(self.get_frozen_credentials(), property_name)

    @property
    def access_key(self) -> str:  # type: ignore[override]
        return cast("str", self.get_frozen_credentials().access_key)

    @property
    def secret_key(self) -> str:  # type: ignore[override]
        return cast("str", self.get_frozen_credentials().secret_key)

    @property
    def token(self) -> str | None:  # type: ignore[override]
        return self.get_frozen_credentials().token


class Access:
    """Calls for accounts and regions. Every method may be used from several threads at once."""

    def __init__(self, session: boto3.Session, clock: Clock, *, role: str = ROLE) -> None:
        """`role` is the role's name in each member account. Raises CloudError without credentials."""
        core: Any = copy.copy(session._session)
        own = session.get_credentials()
        if own is None:
            raise CloudError(
                "there are no AWS credentials",
                expected="credentials of GuardDuty's delegated administrator, or of one account",
                remedy="set AWS_PROFILE, or log in",
            ) from NoCredentialsError()
        self._acting = _Acting(own)
        core._credentials = self._acting  # botocore has no public way to hand in credentials that change
        self._session = boto3.Session(botocore_session=core)
        self._clock = clock
        self._role = role
        self._clients: dict[tuple[str, str], Any] = {}
        self._assumed: dict[str, tuple[ReadOnlyCredentials, datetime]] = {}
        self._refused: dict[str, Denied] = {}
        self._lock = threading.Lock()
        self._own_account = ""
        self.calls: Counter[str] = Counter()
        self.retries = 0
        self.region = session.region_name or "us-east-1"

    @property
    def own_account(self) -> str:
        """The account of the credentials."""
        if not self._own_account:
            self._own_account = str(self.call("", self.region, "sts", "get_caller_identity")["Account"])
        return self._own_account

    def call(self, account: str, region: str, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """One answer, for `account` ("" is the caller's own). Raises Denied, or CloudError for any other refusal."""
        credentials = self._credentials(account)
        method = self._method(service, region, operation)

        def attempt() -> dict[str, Any]:
            self._acting.act_as(credentials)
            answer: dict[str, Any] = method(**parameters)
            return answer

        return self._patiently(attempt, f"{service}:{operation}", account or self._own_account or "own account", region)

    def pages(
        self,
        account: str,
        region: str,
        service: str,
        operation: str,
        key: str,
        /,
        *,
        chain: str = "NextToken",
        **parameters: Any,
    ) -> Iterator[Any]:
        """Every item below `key`, page after page; a page may be empty and still not be the last."""
        following: dict[str, Any] = {}
        while True:
            answer = self.call(account, region, service, operation, **parameters, **following)
            yield from answer.get(key, ())
            if not answer.get(chain):
                return
            following = {chain: answer[chain]}

    def _method(self, service: str, region: str, operation: str) -> Any:
        with self._lock:
            client = self._clients.get((service, region))
            if client is None:
                config = Config(retries={"mode": "standard", "total_max_attempts": 1}, max_pool_connections=32)
                client = self._clients[service, region] = self._session.client(
                    cast("Any", service), region_name=region, config=config
                )
        return getattr(client, operation)

    def _credentials(self, account: str) -> ReadOnlyCredentials | None:
        if not account or account == self._own_account:
            return None
        with self._lock:
            if account in self._refused:
                raise self._refused[account]
            held = self._assumed.get(account)
        if held and held[1] - self._clock.now() > FRESH_ENOUGH:
            return held[0]
        arn = f"arn:{self._partition()}:iam::{account}:role/{self._role}"
        try:
            answer = self.call(
                "", self.region, "sts", "assume_role", RoleArn=arn, RoleSessionName="ovenproof-coverage"
            )["Credentials"]
        except Denied as error:
            refusal = Denied(
                f"account {account} cannot be looked into",
                expected=f"a role {self._role} there that the caller may assume",
                found=error.found,
                where=arn,
                remedy="deploy pipeline/diagnosis/member.yaml there, or name another role with --role",
            )
            with self._lock:
                self._refused[account] = refusal
            raise refusal from error
        held = (
            ReadOnlyCredentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"]),
            answer["Expiration"],
        )
        with self._lock:
            self._assumed[account] = held
        return held[0]

    def _partition(self) -> str:
        return self._session.get_partition_for_region(self.region)

    def _patiently(self, attempt: Callable[[], dict[str, Any]], what: str, account: str, region: str) -> dict[str, Any]:
        where = f"{what}, account {account}, {region}"
        for number in range(1, ATTEMPTS + 1):
            with self._lock:
                self.calls[what] += 1
            try:
                return attempt()
            except ClientError as error:
                code = error.response["Error"].get("Code", "")
                if code in DENIED or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 403:
                    raise Denied(
                        f"AWS does not allow {what} in account {account}",
                        found=str(error),
                        where=where,
                        remedy=f"give the caller's role there the permission {_permission(what)}",
                    ) from error
                if not _is_busy(error) or number == ATTEMPTS:
                    raise CloudError(
                        f"AWS refused {what}" + (f" {number} times" if number > 1 else ""),
                        found=str(error),
                        where=where,
                        remedy="run again with --resume to go on where this stopped" if _is_busy(error) else "",
                    ) from error
            except BotoCoreError as error:
                if number >= 4:
                    raise CloudError(
                        f"{what} got no answer",
                        found=str(error),
                        where=where,
                        remedy="check network, region and credentials",
                    ) from error
            with self._lock:
                self.retries += 1
            longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (number - 1))
            self._clock.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 - so that threads do not return at once
        raise AssertionError("the last attempt returns or raises")


def _is_busy(error: ClientError) -> bool:
    """GuardDuty documents no code for too many calls, so status and the usual words count."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response["Error"].get("Code", "").lower().replace(".", "")
    return status == 429 or status >= 500 or any(word in code for word in BUSY)


def _permission(what: str) -> str:
    service, operation = what.split(":")
    return f"{service}:{''.join(part.capitalize() for part in operation.split('_'))}"
