"""GuardDuty's service-linked role: in, an account; out, whether it is there. Asked once for an account and all regions.

By this role GuardDuty looks at instances and clusters, makes its endpoints and has agents installed, and each account
has its own: that of the administrator does not serve for members (GuardDuty user guide, slr-permissions).
"""

import threading
from collections import defaultdict

from pipeline.diagnosis.access import Access
from pipeline.diagnosis.causes import causes, diagnose
from pipeline.diagnosis.facts import Facts
from pipeline.errors import CloudError

NAME = "AWSServiceRoleForAmazonGuardDuty"
COMES_OF_IT = "agent-not-installed"
"""A cause that may follow from a missing role, as it is GuardDuty that has agents installed."""


class ServiceRoles:
    """May be asked from several threads."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._known: dict[str, bool | CloudError] = {}
        self._lock = threading.Lock()
        self._asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def has(self, account: str, region: str) -> bool:
        """Whether the role is there. Raises CloudError where that cannot be seen, without asking again."""
        with self._lock:
            asking = self._asking[account]
        with asking:
            if account not in self._known:
                self._known[account] = self._look(account, region)
            found = self._known[account]
        if isinstance(found, CloudError):
            raise found
        return found

    def _look(self, account: str, region: str) -> bool | CloudError:
        try:
            self._access.call(account, region, "iam", "get_role", RoleName=NAME)
        except CloudError as error:
            return False if "NoSuchEntity" in error.found else error
        return True


def may_be_why(facts: Facts) -> bool:
    """Whether a missing role would explain what is wrong: without such a host or cluster nobody needs to ask for it."""
    if facts.known.get("membership") != "member" or facts.known.get("runtime_monitoring") != "enabled":
        return False
    hits = diagnose(facts)
    if any(causes()[hit.cause].final for hit in hits):
        return False
    if "no" in (facts.known.get("listed"), facts.known.get("cluster_listed")):
        return True
    return all(causes()[hit.cause].symptom or hit.cause == COMES_OF_IT for hit in hits)
