"""Service control policies that deny telemetry: asked for once, and only if an agent somewhere is silent.

In: the administrator's access to AWS Organizations. Out: for an account the policy that stands in the way, or none.
"""

import threading
from collections.abc import Iterator, Mapping

from pipeline.diagnosis import policy
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.join import Telemetry
from pipeline.diagnosis.organizations import HOME, accounts_below
from pipeline.errors import CloudError


class ControlPolicies:
    """May be asked from several threads."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._denied: Mapping[str, Telemetry] | None = None
        self.trouble: CloudError | None = None
        """Why nobody knows, when AWS does not let the caller look."""

    def denies(self, account: str) -> tuple[bool, Telemetry | None]:
        """Whether it is known, and the policy that denies `account` its telemetry."""
        with self._lock:
            if self._denied is None and self.trouble is None:
                try:
                    self._denied = dict(self._look())
                except CloudError as error:
                    self.trouble = error
            if self._denied is None:
                return False, None
            return True, self._denied.get(account)

    def _look(self) -> Iterator[tuple[str, Telemetry]]:
        rows = list(
            self._access.pages(
                "", HOME, "organizations", "list_policies", "Policies", Filter="SERVICE_CONTROL_POLICY", MaxResults=20
            )
        )
        for row in rows:
            if row.get("AwsManaged"):
                continue  # FullAWSAccess, which allows everything
            described = self._access.call("", HOME, "organizations", "describe_policy", PolicyId=row["Id"])["Policy"]
            verdict = policy.weigh(described["Content"])
            if verdict.kind not in ("denied", "silent"):
                continue
            for target in self._access.pages(
                "", HOME, "organizations", "list_targets_for_policy", "Targets", PolicyId=row["Id"], MaxResults=20
            ):
                if verdict.kind == "silent" and not self._alone(target["TargetId"], row["Id"]):
                    continue
                telemetry = Telemetry(
                    row.get("Name", row["Id"]), f"{target['Type'].lower()} {target['TargetId']}", verdict.reason
                )
                number = target["TargetId"]
                below = [number] if target["Type"] == "ACCOUNT" else accounts_below(self._access, number)
                for account in below:
                    yield account, telemetry

    def _alone(self, target: str, number: str) -> bool:
        """Whether no other policy of the target allows the action; a list of what is allowed then shuts it out."""
        for row in self._access.pages(
            "",
            HOME,
            "organizations",
            "list_policies_for_target",
            "Policies",
            TargetId=target,
            Filter="SERVICE_CONTROL_POLICY",
        ):
            if row["Id"] == number:
                continue
            if row.get("AwsManaged"):
                return False
            content = self._access.call("", HOME, "organizations", "describe_policy", PolicyId=row["Id"])["Policy"][
                "Content"
            ]
            if policy.weigh(content).kind in ("allowed", "unclear"):
                return False
        return True
