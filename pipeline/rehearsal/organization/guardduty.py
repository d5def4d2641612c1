"""GuardDuty of the rehearsed organization: coverage, members, features. Shapes: GuardDuty API reference."""

import hashlib
import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pipeline.rehearsal.answered_session import Call, Refused
from pipeline.rehearsal.organization.pages import page
from pipeline.rehearsal.organization.physics import cluster_row, host_row
from pipeline.rehearsal.organization.state import (
    EC2_AGENT,
    EKS_ADDON,
    EKS_MONITORING,
    FARGATE_AGENT,
    MONITORING,
    Features,
)
from pipeline.rehearsal.organization.world import World

KEPT_LISTINGS = 64
DATA_SOURCES = {name: {"Status": "ENABLED"} for name in ("CloudTrail", "DNSLogs", "FlowLogs", "S3Logs")}
"""What the API still has to say beside features."""
CONFIGURATION = (EKS_ADDON, FARGATE_AGENT, EC2_AGENT)


def detector_id(account: str, region: str) -> str:
    return hashlib.blake2s(f"{account}{region}".encode(), digest_size=16).hexdigest()


class GuardDuty:
    """The handlers; `account` is the caller's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._listings: OrderedDict[Any, list[dict[str, Any]]] = OrderedDict()

    def guardduty_ListDetectors(self, call: Call, account: str) -> Mapping[str, Any]:
        return {"DetectorIds": [detector_id(account, call.region)]}

    def guardduty_GetDetector(self, call: Call, account: str) -> Mapping[str, Any]:
        self._own(call, account)
        features = self.world.features(account, call.region)
        return {
            "ServiceRole": f"arn:aws:iam::{account}:role/aws-service-role/guardduty.amazonaws.com/X",
            "Status": "ENABLED",
            "Features": _features(features),
        }

    def guardduty_UpdateDetector(self, call: Call, account: str) -> Mapping[str, Any]:
        self._own(call, account)
        wanted = call.parameters.get("Features", [])
        with self.world.lock:
            _change(self.world.features(account, call.region), wanted, self.world.clock.now())
        return {}

    def guardduty_ListMembers(self, call: Call, account: str) -> Mapping[str, Any]:
        self._administrator(call, account)
        rows = [
            {
                "AccountId": number,
                "MasterId": account,
                "AdministratorId": account,
                "Email": f"{number}@example.com",
                "RelationshipStatus": relationship,
                "UpdatedAt": "2026-01-01T00:00:00Z",
                "DetectorId": detector_id(number, call.region),
            }
            for number in self.world.account_ids()
            if (relationship := self.world.relationship(number))
        ]
        found, token = page(rows, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 50))
        return {"Members": list(found), "NextToken": token}

    def guardduty_GetMemberDetectors(self, call: Call, account: str) -> Mapping[str, Any]:
        self._administrator(call, account)
        found, unprocessed = [], []
        for number in call.parameters["AccountIds"]:
            if self.world.relationship(number) == "Enabled":
                features = _features(self.world.features(number, call.region))
                found.append({"AccountId": number, "DataSources": DATA_SOURCES, "Features": features})
            else:
                unprocessed.append({"AccountId": number, "Result": "The request is rejected because it is no member."})
        return {"MemberDataSourceConfigurations": found, "UnprocessedAccounts": unprocessed}

    def guardduty_UpdateMemberDetectors(self, call: Call, account: str) -> Mapping[str, Any]:
        self._administrator(call, account)
        wanted = call.parameters.get("Features", [])
        names = {feature["Name"] for feature in wanted}
        if {MONITORING, EKS_MONITORING} <= names:
            raise Refused(
                "BadRequestException",
                "The request is rejected because EKS_RUNTIME_MONITORING and RUNTIME_MONITORING exclude each other.",
            )
        unprocessed = []
        for number in call.parameters["AccountIds"]:
            relationship = self.world.relationship(number)
            if relationship != "Enabled":
                why = "the account is suspended" if relationship == "Disabled" else "it is no member"
                unprocessed.append({"AccountId": number, "Result": f"The request is rejected because {why}."})
                continue
            with self.world.lock:
                features = self.world.features(number, call.region)
                if features.managed:
                    unprocessed.append(
                        {"AccountId": number, "Result": "The request is rejected because a policy manages the feature."}
                    )
                    continue
                _change(features, wanted, self.world.clock.now())
        return {"UnprocessedAccounts": unprocessed}

    def guardduty_DescribeOrganizationConfiguration(self, call: Call, account: str) -> Mapping[str, Any]:
        self._administrator(call, account)
        chosen = self.world.auto_enable[call.region]
        return {
            "AutoEnable": chosen.get("members", "NONE") != "NONE",
            "MemberAccountLimitReached": False,
            "AutoEnableOrganizationMembers": chosen.get("members", "NONE"),
            "Features": [
                {
                    "Name": MONITORING,
                    "AutoEnable": chosen.get(MONITORING, "NONE"),
                    "AdditionalConfiguration": [
                        {"Name": name, "AutoEnable": chosen.get(name, "NONE")} for name in CONFIGURATION
                    ],
                }
            ],
        }

    def guardduty_UpdateOrganizationConfiguration(self, call: Call, account: str) -> Mapping[str, Any]:
        self._administrator(call, account)
        chosen = self.world.auto_enable[call.region]
        if "AutoEnableOrganizationMembers" not in call.parameters and "AutoEnable" not in call.parameters:
            raise Refused("BadRequestException", "AutoEnable or AutoEnableOrganizationMembers is required.")
        chosen["members"] = call.parameters.get("AutoEnableOrganizationMembers", chosen.get("members", "NONE"))
        for feature in call.parameters.get("Features", []):
            chosen[feature["Name"]] = feature["AutoEnable"]
            for extra in feature.get("AdditionalConfiguration", []):
                chosen[extra["Name"]] = extra["AutoEnable"]
        return {}

    def guardduty_ListCoverage(self, call: Call, account: str) -> Mapping[str, Any]:
        self._own(call, account)
        criteria = call.parameters.get("FilterCriteria", {}).get("FilterCriterion", [])
        rows = self._listing(call, account, criteria)
        found, token = page(rows, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 50))
        answer: dict[str, Any] = {"Resources": list(found)}
        if token:
            answer["NextToken"] = token
        return answer

    def guardduty_GetCoverageStatistics(self, call: Call, account: str) -> Mapping[str, Any]:
        self._own(call, account)
        criteria = call.parameters.get("FilterCriteria", {}).get("FilterCriterion", [])
        status: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        for row in self._matching(call.region, account, criteria):
            status[row["CoverageStatus"]] += 1
            kinds[row["ResourceDetails"]["ResourceType"]] += 1
        return {"CoverageStatistics": {"CountByResourceType": dict(kinds), "CountByCoverageStatus": dict(status)}}

    # ---- rows

    def _listing(self, call: Call, account: str, criteria: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        key = (call.region, account, repr(criteria))
        with self.world.lock:
            if "NextToken" in call.parameters and key in self._listings:
                return self._listings[key]
            rows = list(self._matching(call.region, account, criteria))
            if not call.parameters.get("SortCriteria"):
                random.Random(f"{self.world.spec.seed}{key}").shuffle(rows)  # noqa: S311 - an order that means nothing
            self._listings[key] = rows
            if len(self._listings) > KEPT_LISTINGS:
                self._listings.popitem(last=False)
            return rows

    def _matching(self, region: str, caller: str, criteria: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
        wanted = [
            set(criterion["FilterCondition"].get("Equals", ()))
            for criterion in criteria
            if criterion["CriterionKey"] == "ACCOUNT_ID"
        ]
        accounts: Iterable[str] = (
            [*self.world.account_ids(), caller] if caller == self.world.spec.administrator else [caller]
        )
        for number in sorted(set.intersection(*wanted)) if wanted else accounts:
            if caller in (number, self.world.spec.administrator):
                for row in self._rows(number, region):
                    if all(_holds(row, criterion) for criterion in criteria):
                        yield row

    def _rows(self, number: str, region: str) -> Iterable[dict[str, Any]]:
        if self.world.account(number) is None:
            return
        place, features = self.world.place(number, region), self.world.features(number, region)
        member, now = self.world.is_member(number), self.world.clock.now()
        detector = detector_id(number, region)
        for host in place.hosts:
            found = host_row(place, host, features, member=member, now=now)
            if found is not None:
                details: dict[str, Any] = {
                    "InstanceId": host.id,
                    "InstanceType": host.type,
                    "ManagementType": "AUTO_MANAGED" if host.automated else "MANUAL",
                }
                if host.cluster:
                    details["ClusterArn"] = f"arn:aws:ecs:{region}:{number}:cluster/{host.cluster}"
                if host.agent:
                    details["AgentDetails"] = {"Version": host.agent}
                yield _resource(host.id, number, detector, found, host.launched, "EC2", {"Ec2InstanceDetails": details})
        if place.gone and member and features.on(MONITORING):
            for gone in place.gone:
                yield _resource(
                    gone,
                    number,
                    detector,
                    ("HEALTHY", ""),
                    self.world.started,
                    "EC2",
                    {"Ec2InstanceDetails": {"InstanceId": gone, "ManagementType": "AUTO_MANAGED"}},
                )
        for cluster in place.clusters.values():
            seen = cluster_row(place, cluster, features, member=member, now=now)
            if seen is not None:
                status, covered, compatible, issues = seen
                ecs = {
                    "ClusterName": cluster.name,
                    "FargateDetails": {
                        "Issues": list(issues),
                        "ManagementType": "AUTO_MANAGED" if features.on(FARGATE_AGENT) else "DISABLED",
                    },
                    "ContainerInstanceDetails": {
                        "CoveredContainerInstances": covered,
                        "CompatibleContainerInstances": compatible,
                    },
                }
                yield _resource(
                    f"{number}-{cluster.name}",
                    number,
                    detector,
                    (status, issues[0] if issues else ""),
                    self.world.started,
                    "ECS",
                    {"EcsClusterDetails": ecs},
                )

    # ---- who asks

    def _own(self, call: Call, account: str) -> None:
        if call.parameters["DetectorId"] != detector_id(account, call.region):
            raise Refused("BadRequestException", "The request is rejected because the input detectorId is not owned.")

    def _administrator(self, call: Call, account: str) -> None:
        self._own(call, account)
        if account != self.world.spec.administrator:
            raise Refused("BadRequestException", "The request is rejected because the account is no administrator.")


def _resource(
    number: str,
    account: str,
    detector: str,
    row: tuple[str, str],
    updated: datetime,
    kind: str,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "ResourceId": number,
        "DetectorId": detector,
        "AccountId": account,
        "ResourceDetails": {"ResourceType": kind, **details},
        "CoverageStatus": row[0],
        "UpdatedAt": updated,
    }
    if row[1]:
        resource["Issue"] = row[1]
    return resource


def _value(row: Mapping[str, Any], key: str) -> str | None:
    details = row["ResourceDetails"]
    host, cluster = details.get("Ec2InstanceDetails", {}), details.get("EcsClusterDetails", {})
    if key == "RESOURCE_TYPE":
        return str(details["ResourceType"])
    found = {
        "ACCOUNT_ID": row["AccountId"],
        "COVERAGE_STATUS": row["CoverageStatus"],
        "AGENT_VERSION": host.get("AgentDetails", {}).get("Version"),
        "MANAGEMENT_TYPE": host.get("ManagementType"),
        "INSTANCE_ID": host.get("InstanceId"),
        "CLUSTER_ARN": host.get("ClusterArn"),
        "ECS_CLUSTER_NAME": cluster.get("ClusterName"),
    }.get(key)
    return None if found is None else str(found)


def _holds(row: Mapping[str, Any], criterion: Mapping[str, Any]) -> bool:
    value = _value(row, criterion["CriterionKey"])
    condition = criterion["FilterCondition"]
    equals, others = condition.get("Equals") or (), condition.get("NotEquals") or ()
    return (not equals or value in equals) and value not in others


def _features(features: Features) -> list[dict[str, Any]]:
    def one(name: str) -> dict[str, Any]:
        feature: dict[str, Any] = {"Name": name, "Status": "ENABLED" if features.on(name) else "DISABLED"}
        if features.since:
            feature["UpdatedAt"] = features.since
        return feature

    monitoring = one(MONITORING)
    monitoring["AdditionalConfiguration"] = [one(name) for name in CONFIGURATION]
    if features.managed:
        monitoring["ManagedBy"] = "GUARDDUTY_POLICY"
    return [monitoring, one(EKS_MONITORING)]


def _change(features: Features, wanted: Iterable[Mapping[str, Any]], now: datetime) -> None:
    for feature in wanted:
        enabled = feature.get("Status") == "ENABLED"
        if feature.get("Status"):
            if enabled != features.on(feature["Name"]):
                features.since = now
            features.status[feature["Name"]] = enabled
        for extra in feature.get("AdditionalConfiguration", []):
            if extra["Status"] == "ENABLED" and not features.on(MONITORING):
                raise Refused(
                    "BadRequestException",
                    "The request is rejected because RUNTIME_MONITORING is not enabled for the account.",
                )
            features.status[extra["Name"]] = extra["Status"] == "ENABLED"
