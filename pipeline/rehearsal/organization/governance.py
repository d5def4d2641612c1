"""STS, Organizations and IAM of the rehearsed organization."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pipeline.rehearsal.answered_session import Call, Refused
from pipeline.rehearsal.organization.pages import page
from pipeline.rehearsal.organization.world import World

SERVICE_ROLE = "AWSServiceRoleForAmazonGuardDuty"
OWN_POLICY, INLINE_POLICY = "read-parameters", "quiet"
FULL_ACCESS = "FullAWSAccess"


def account_of(call: Call, world: World) -> str:
    """Whose credentials the call carries."""
    number = call.access_key[4:16]
    return number if number.isdigit() else world.spec.administrator


class Governance:
    """The handlers; `account` is the caller's."""

    def __init__(self, world: World) -> None:
        self.world = world

    # ---- STS

    def sts_GetCallerIdentity(self, _: Call, account: str) -> Mapping[str, Any]:
        return {"Account": account, "Arn": f"arn:aws:sts::{account}:assumed-role/operator/me", "UserId": "AROA:me"}

    def sts_AssumeRole(self, call: Call, account: str) -> Mapping[str, Any]:
        number = call.parameters["RoleArn"].split(":")[4]
        known = self.world.account(number)
        if known is None or not known.reachable:
            raise Refused(
                "AccessDenied",
                f"User: arn:aws:sts::{account}:assumed-role/operator/me is not authorized to perform: sts:AssumeRole "
                f"on resource: {call.parameters['RoleArn']}",
                status=403,
            )
        credentials = {
            "AccessKeyId": f"ASIA{number}",
            "SecretAccessKey": "rehearsal",
            "SessionToken": "rehearsal",
            "Expiration": self.world.clock.now() + timedelta(hours=1),
        }
        return {"Credentials": credentials}

    # ---- Organizations

    def organizations_DescribeOrganization(self, _: Call, account: str) -> Mapping[str, Any]:
        return {"Organization": {"Id": self.world.spec.organization, "MasterAccountId": account}}

    def organizations_ListPolicies(self, call: Call, _account: str) -> Mapping[str, Any]:
        if call.parameters["Filter"] != "SERVICE_CONTROL_POLICY":
            return {"Policies": []}
        found, token = page(
            [FULL_ACCESS, *self._policies()], call.parameters.get("NextToken"), call.parameters.get("MaxResults", 20)
        )
        return {"Policies": [_policy(name) for name in found], **({"NextToken": token} if token else {})}

    def organizations_DescribePolicy(self, call: Call, _account: str) -> Mapping[str, Any]:
        number = call.parameters["PolicyId"]
        for name in (FULL_ACCESS, *self._policies()):
            if _policy_id(name) == number:
                document = {"Version": "2012-10-17", "Statement": self._statements(name)}
                return {"Policy": {"PolicySummary": _policy(name), "Content": json.dumps(document)}}
        raise Refused("PolicyNotFoundException", "You specified a policy that doesn't exist.")

    def organizations_ListTargetsForPolicy(self, call: Call, _account: str) -> Mapping[str, Any]:
        if call.parameters["PolicyId"] == _policy_id(FULL_ACCESS):
            return {"Targets": [{"TargetId": "r-ab12", "Name": "Root", "Type": "ROOT"}]}
        targets = [
            {"TargetId": _target_id(target), "Name": target.rsplit("/", 1)[-1], "Type": _target_type(target)}
            for name, on in self._policies().items()
            for target in on
            if _policy_id(name) == call.parameters["PolicyId"]
        ]
        found, token = page(targets, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 20))
        return {"Targets": list(found), **({"NextToken": token} if token else {})}

    def organizations_ListPoliciesForTarget(self, call: Call, _account: str) -> Mapping[str, Any]:
        there = [
            item for item in self.world.spec.all_policies if _target_id(item.target) == call.parameters["TargetId"]
        ]
        # whoever lists what is allowed takes FullAWSAccess away, which would allow the rest
        listed = any(item.kind == "allow-list" for item in there)
        names = [*([] if listed else [FULL_ACCESS]), *(item.name for item in there)]
        return {"Policies": [_policy(name) for name in names]}

    def _policies(self) -> dict[str, list[str]]:
        """By name, what they hang on."""
        found: dict[str, list[str]] = {}
        for item in self.world.spec.all_policies:
            found.setdefault(item.name, []).append(item.target)
        return found

    def _statements(self, name: str) -> list[dict[str, Any]]:
        if name == FULL_ACCESS:
            return [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
        kind = next(item.kind for item in self.world.spec.all_policies if item.name == name)
        if kind == "allow-list":
            return [{"Effect": "Allow", "Action": ["ec2:*", "ecs:*", "guardduty:Get*"], "Resource": "*"}]
        return [{"Sid": "Freeze", "Effect": "Deny", "Action": ["guardduty:Send*"], "Resource": "*"}]

    def organizations_ListRoots(self, _: Call, _account: str) -> Mapping[str, Any]:
        return {"Roots": [{"Id": "r-ab12", "Name": "Root"}]}

    def organizations_ListOrganizationalUnitsForParent(self, call: Call, _account: str) -> Mapping[str, Any]:
        parent = self._path(call.parameters["ParentId"])
        names = sorted(
            {
                unit[len(parent) :].split("/")[0]
                for unit in self._units()
                if unit.startswith(parent) and len(unit) > len(parent)
            }
        )
        units = [{"Id": _unit_id(parent + name), "Name": name} for name in names]
        found, token = page(units, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 20))
        return {"OrganizationalUnits": list(found), **({"NextToken": token} if token else {})}

    def organizations_ListAccountsForParent(self, call: Call, _account: str) -> Mapping[str, Any]:
        parent = self._path(call.parameters["ParentId"]).rstrip("/")
        accounts = []
        for number in self.world.account_ids():
            account = self.world.account(number)
            if account is not None and account.unit == parent:
                accounts.append({"Id": number, "Name": account.name, "Status": "ACTIVE"})
        found, token = page(accounts, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 20))
        return {"Accounts": list(found), **({"NextToken": token} if token else {})}

    def organizations_ListAccounts(self, call: Call, _account: str) -> Mapping[str, Any]:
        numbers = [*self.world.account_ids()]
        found, token = page(numbers, call.parameters.get("NextToken"), call.parameters.get("MaxResults", 20))
        accounts = []
        for number in found:
            account = self.world.account(number)
            accounts.append({"Id": number, "Name": account.name if account else "", "Status": "ACTIVE"})
        return {"Accounts": accounts, **({"NextToken": token} if token else {})}

    def organizations_ListTagsForResource(self, call: Call, _account: str) -> Mapping[str, Any]:
        account = self.world.account(call.parameters["ResourceId"])
        tags = account.tags if account else {}
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _units(self) -> set[str]:
        units = {account.unit for number in self.world.account_ids() if (account := self.world.account(number))}
        return units | {item.target for item in self.world.spec.policies if not item.target.isdigit()}

    def _path(self, parent: str) -> str:
        if parent == "r-ab12":
            return ""
        for unit in self._units():
            parts = unit.split("/")
            for end in range(1, len(parts) + 1):
                path = "/".join(parts[:end])
                if _unit_id(path) == parent:
                    return path + "/"
        raise Refused("ParentNotFoundException", "You specified a parent that doesn't exist.")

    # ---- IAM: GuardDuty's own role, and task execution roles

    def iam_GetRole(self, call: Call, account: str) -> Mapping[str, Any]:
        name = call.parameters["RoleName"]
        known = self.world.account(account)
        if name == SERVICE_ROLE and known is not None and "guardduty-role-missing" in known.problems:
            raise Refused("NoSuchEntity", f"The role with name {name} cannot be found.", status=404)
        role: dict[str, Any] = {
            "Path": "/",
            "RoleName": name,
            "RoleId": "AROA0000000000000000",
            "Arn": f"arn:aws:iam::{account}:role/{name}",
            "CreateDate": self.world.started,
        }
        if name == "bounded-execution":
            boundary = f"arn:aws:iam::{account}:policy/only-logs"
            role["PermissionsBoundary"] = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": boundary}
        return {"Role": role}

    def iam_ListAttachedRolePolicies(self, call: Call, account: str) -> Mapping[str, Any]:
        names = ["service-role/AmazonECSTaskExecutionRolePolicy"]
        attached = [
            {"PolicyName": name.rsplit("/", 1)[-1], "PolicyArn": f"arn:aws:iam::aws:policy/{name}"} for name in names
        ]
        own = {"PolicyName": OWN_POLICY, "PolicyArn": f"arn:aws:iam::{account}:policy/{OWN_POLICY}"}
        # one a page: IAM may give fewer than fit
        if "Marker" in call.parameters:
            return {"AttachedPolicies": [own], "IsTruncated": False}
        return {"AttachedPolicies": attached, "IsTruncated": True, "Marker": "1"}

    def iam_ListRolePolicies(self, call: Call, _account: str) -> Mapping[str, Any]:
        denied = call.parameters["RoleName"] == "denied-execution"
        return {"PolicyNames": [INLINE_POLICY] if denied else [], "IsTruncated": False}

    def iam_GetRolePolicy(self, call: Call, _account: str) -> Mapping[str, Any]:
        statement = [{"Sid": "NoTelemetry", "Effect": "Deny", "Action": "guardduty:*", "Resource": "*"}]
        return {
            "RoleName": call.parameters["RoleName"],
            "PolicyName": call.parameters["PolicyName"],
            "PolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": statement}),
        }

    def iam_GetPolicy(self, call: Call, _account: str) -> Mapping[str, Any]:
        return {"Policy": {"Arn": call.parameters["PolicyArn"], "DefaultVersionId": "v1"}}

    def iam_GetPolicyVersion(self, _: Call, _account: str) -> Mapping[str, Any]:
        statement = [{"Effect": "Allow", "Action": ["logs:*", "ecr:*", "ssm:GetParameters"], "Resource": "*"}]
        document = json.dumps({"Version": "2012-10-17", "Statement": statement})
        return {"PolicyVersion": {"VersionId": "v1", "IsDefaultVersion": True, "Document": document}}


def _policy(name: str) -> dict[str, Any]:
    number = _policy_id(name)
    return {
        "Id": number,
        "Arn": f"arn:aws:organizations::aws:policy/service_control_policy/{number}",
        "Name": name,
        "Type": "SERVICE_CONTROL_POLICY",
        "AwsManaged": name == FULL_ACCESS,
    }


def _policy_id(name: str) -> str:
    return f"p-{''.join(char for char in name.lower() if char.isalnum()):0<8}"


def _target_type(target: str) -> str:
    return "ACCOUNT" if target.isdigit() else "ORGANIZATIONAL_UNIT"


def _target_id(target: str) -> str:
    return target if target.isdigit() else _unit_id(target)


def _unit_id(path: str) -> str:
    digest = "".join(char for char in path.lower() if char.isalnum())[:20] or "x"
    return f"ou-ab12-{digest:0<8}"
