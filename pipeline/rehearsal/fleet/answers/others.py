"""GuardDuty's, CloudWatch's, Elastic Load Balancing's, IAM's, Service Quotas' and STS's operations."""

from typing import TYPE_CHECKING, Any

from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet import hosts as tell
from pipeline.rehearsal.fleet.answers.ecs import target_group_arn
from pipeline.rehearsal.fleet.answers.registry import Answer, Parameters, operation, page
from pipeline.rehearsal.fleet.machines import Covered
from pipeline.rehearsal.fleet.spec import Profile
from pipeline.rehearsal.fleet.state import Host, ServiceState
from pipeline.rehearsal.fleet.unknown import only_known

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

DETECTOR = "12abc34d567e8fa901bc2d34e56789f0"
# Running On-Demand instances, in vCPUs: standard ones, G and VT, P. A fleet file gives one number for all of them.
ON_DEMAND_QUOTAS = {"L-1216C47A": "Standard (A, C, D, H, I, M, R, T, Z)", "L-DB2E81BA": "G and VT", "L-417A185B": "P"}

# -- GuardDuty --------------------------------------------------------------------------------------------------------


@operation("guardduty.ListDetectors", "MaxResults NextToken")
def list_detectors(world: "World", _: Parameters) -> Answer:
    return {"DetectorIds": [DETECTOR] if world.spec.guardduty else []}


def _detector(world: "World", given: Parameters) -> None:
    if given["DetectorId"] != DETECTOR or not world.spec.guardduty:
        raise Refused(
            "BadRequestException",
            "The request is rejected because the input detectorId is not owned by the current account.",
        )


@operation("guardduty.GetDetector", "DetectorId")
def get_detector(world: "World", given: Parameters) -> Answer:
    _detector(world, given)
    return {
        "CreatedAt": f"{world.when(-864000):%Y-%m-%dT%H:%M:%S.000Z}",
        "FindingPublishingFrequency": "FIFTEEN_MINUTES",
        "ServiceRole": f"arn:aws:iam::{world.spec.account}:role/aws-service-role/guardduty.amazonaws.com/"
        "AWSServiceRoleForAmazonGuardDuty",
        "Status": "ENABLED",
        "Features": [
            {
                "Name": "RUNTIME_MONITORING",
                "Status": "ENABLED",
                "AdditionalConfiguration": [{"Name": "EC2_AGENT_MANAGEMENT", "Status": "DISABLED"}],
            }
        ],
    }


COVERAGE_KEYS = (
    "ACCOUNT_ID",
    "RESOURCE_TYPE",
    "COVERAGE_STATUS",
    "AGENT_VERSION",
    "MANAGEMENT_TYPE",
    "INSTANCE_ID",
    "CLUSTER_ARN",
)
# With RESOURCE_TYPE=EC2 the user guide sorts by these and refuses ISSUE.
COVERAGE_SORTS = ("ACCOUNT_ID", "COVERAGE_STATUS", "INSTANCE_ID", "UPDATED_AT")


@operation("guardduty.ListCoverage", "DetectorId NextToken MaxResults FilterCriteria SortCriteria")
def list_coverage(world: "World", given: Parameters) -> Answer:
    _detector(world, given)
    criteria = given.get("FilterCriteria", {}).get("FilterCriterion", [])
    only_known((one["CriterionKey"] for one in criteria), COVERAGE_KEYS, "criterion of coverage")
    sort = given.get("SortCriteria", {})
    if sort.get("AttributeName", "INSTANCE_ID") not in COVERAGE_SORTS:
        raise Refused("BadRequestException", "The request was rejected because the sort attribute is not valid.")
    exact = next(
        (
            one["FilterCondition"]["Equals"]
            for one in criteria
            if one["CriterionKey"] == "INSTANCE_ID" and "Equals" in one.get("FilterCondition", {})
        ),
        None,
    )
    hosts = (
        list(world.hosts.values()) if exact is None else [world.hosts[name] for name in exact if name in world.hosts]
    )
    resources = []
    for host in hosts:
        covered = tell.coverage_of(world, host)
        if covered is None:
            continue
        if criteria and not _passes(world, host, covered, criteria):
            continue
        resources.append((host, covered))
    resources.sort(key=lambda one: one[0].id, reverse=sort.get("OrderBy") == "DESC")
    if sort.get("AttributeName") == "COVERAGE_STATUS":
        resources.sort(key=lambda one: one[1].status, reverse=sort.get("OrderBy") == "DESC")
    found, more = page(resources, given, most=50, size="MaxResults", error="BadRequestException")
    return {"Resources": [_resource(world, *one) for one in found], **more}


def _passes(world: "World", host: Host, covered: Covered, criteria: list[Parameters]) -> bool:
    for one in criteria:
        actual = {
            "ACCOUNT_ID": world.spec.account,
            "RESOURCE_TYPE": "EC2",
            "COVERAGE_STATUS": covered.status,
            "AGENT_VERSION": covered.agent_version,
            "MANAGEMENT_TYPE": "MANUAL",
            "INSTANCE_ID": host.id,
            "CLUSTER_ARN": host.container.cluster.arn if host.container else "",
        }[one["CriterionKey"]]
        condition = one.get("FilterCondition", {})
        if "Equals" in condition and actual not in condition["Equals"]:
            return False
        if actual in condition.get("NotEquals", ()):
            return False
    return True


def _resource(world: "World", host: Host, covered: Covered) -> dict[str, Any]:
    details: dict[str, Any] = {
        "InstanceId": host.id,
        "InstanceType": host.instance_type,
        "AgentDetails": {"Version": covered.agent_version},
        "ManagementType": "MANUAL",
    }
    if host.container is not None:
        details["ClusterArn"] = host.container.cluster.arn
    answer: dict[str, Any] = {
        "ResourceId": host.id,
        "DetectorId": DETECTOR,
        "AccountId": world.spec.account,
        "ResourceDetails": {"ResourceType": "EC2", "Ec2InstanceDetails": details},
        "CoverageStatus": covered.status,
        "UpdatedAt": covered.updated,
    }
    if covered.issue:
        answer["Issue"] = covered.issue
    return answer


# -- CloudWatch -------------------------------------------------------------------------------------------------------


@operation("cloudwatch.DescribeAlarms", "AlarmNames AlarmNamePrefix AlarmTypes StateValue MaxRecords NextToken")
def describe_alarms(world: "World", given: Parameters) -> Answer:
    names = given.get("AlarmNames")
    alarms = [
        (name, state)
        for name, state in world.alarms.items()
        if (not names or name in names)
        and name.startswith(given.get("AlarmNamePrefix", ""))
        and given.get("StateValue", state) == state
    ]
    if given.get("AlarmTypes", ["MetricAlarm"]) == ["CompositeAlarm"]:
        alarms = []
    found, more = page(alarms, given, most=100, error="InvalidNextToken")
    return {
        "MetricAlarms": [
            {
                "AlarmName": name,
                "AlarmArn": world.arn("cloudwatch", f"alarm:{name}"),
                "StateValue": state,
                "StateUpdatedTimestamp": world.when(0),
                "ActionsEnabled": True,
            }
            for name, state in found
        ],
        "CompositeAlarms": [],
        **more,
    }


# -- Elastic Load Balancing -------------------------------------------------------------------------------------------


def _balanced(world: "World") -> dict[str, ServiceState]:
    return {
        target_group_arn(world, service): service
        for cluster in world.clusters.values()
        for service in cluster.services.values()
        if service.spec.load_balancer is not None
    }


def _target_group(world: "World", arn: str) -> ServiceState:
    service = _balanced(world).get(arn)
    if service is None:
        raise Refused("TargetGroupNotFound", f"Target groups '{arn}' not found")
    return service


@operation("elbv2.DescribeTargetGroups", "TargetGroupArns Names PageSize Marker")
def describe_target_groups(world: "World", given: Parameters) -> Answer:
    balanced = _balanced(world)
    for arn in given.get("TargetGroupArns", []):
        _target_group(world, arn)
    answer = []
    for arn, service in balanced.items():
        balancer = service.spec.load_balancer
        if balancer is None or arn not in given.get("TargetGroupArns", [arn]):
            continue
        if balancer.name not in given.get("Names", [balancer.name]):
            continue
        answer.append(
            {
                "TargetGroupArn": arn,
                "TargetGroupName": balancer.name,
                "Protocol": "HTTP",
                "Port": 80,
                "TargetType": "ip" if service.spec.task.network_mode == "awsvpc" else "instance",
                "HealthCheckEnabled": True,
                "HealthCheckIntervalSeconds": int(balancer.health_interval),
                "HealthyThresholdCount": balancer.healthy_threshold,
                "UnhealthyThresholdCount": balancer.unhealthy_threshold,
                "HealthCheckTimeoutSeconds": 5,
            }
        )
    return {"TargetGroups": answer}


@operation("elbv2.DescribeTargetGroupAttributes", "TargetGroupArn")
def target_group_attributes(world: "World", given: Parameters) -> Answer:
    balancer = _target_group(world, given["TargetGroupArn"]).spec.load_balancer
    delay = balancer.deregistration_delay if balancer else 0
    return {"Attributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": f"{delay:g}"}]}


@operation("elbv2.DescribeTargetHealth", "TargetGroupArn Targets")
def target_health(world: "World", given: Parameters) -> Answer:
    service = _target_group(world, given["TargetGroupArn"])
    answer = []
    for task in service.tasks.values():
        if task.status in ("PENDING", "STOPPING"):
            continue
        if task.status == "DEACTIVATING":
            health = {"State": "draining", "Reason": "Target.DeregistrationInProgress"}
        elif task.healthy:
            health = {"State": "healthy"}
        else:
            health = {"State": "initial", "Reason": "Elb.InitialHealthChecking"}
        host = task.container.host
        target = host.ip if service.spec.task.network_mode == "awsvpc" else host.id
        port = (
            service.spec.task.host_ports[0] if service.spec.task.host_ports else 32768 + int(task.arn[-4:], 16) % 28000
        )
        if "Targets" in given and target not in {one["Id"] for one in given["Targets"]}:
            continue
        answer.append({"Target": {"Id": target, "Port": port}, "HealthCheckPort": str(port), "TargetHealth": health})
    return {"TargetHealthDescriptions": answer}


# -- IAM, quotas, identity --------------------------------------------------------------------------------------------


def _profile(world: "World", name: str) -> Profile:
    for profile in world.spec.profiles:
        if profile.name == name:
            return profile
    raise Refused("NoSuchEntity", f"Instance Profile {name} cannot be found.", status=404)


@operation("iam.GetInstanceProfile", "InstanceProfileName")
def get_profile(world: "World", given: Parameters) -> Answer:
    profile = _profile(world, given["InstanceProfileName"])
    account = world.spec.account
    return {
        "InstanceProfile": {
            "Path": "/",
            "InstanceProfileName": profile.name,
            "InstanceProfileId": "AIPA0000000000000000",
            "Arn": f"arn:aws:iam::{account}:instance-profile/{profile.name}",
            "CreateDate": world.when(-864000),
            "Roles": [
                {
                    "Path": "/",
                    "RoleName": profile.name,
                    "RoleId": "AROA0000000000000000",
                    "Arn": f"arn:aws:iam::{account}:role/{profile.name}",
                    "CreateDate": world.when(-864000),
                }
            ],
        }
    }


@operation("iam.ListAttachedRolePolicies", "RoleName PathPrefix Marker MaxItems")
def list_attached(world: "World", given: Parameters) -> Answer:
    profile = _profile(world, given["RoleName"])
    return {
        "AttachedPolicies": [{"PolicyName": arn.rsplit("/", 1)[-1], "PolicyArn": arn} for arn in profile.policies],
        "IsTruncated": False,
    }


@operation("iam.ListRolePolicies", "RoleName Marker MaxItems")
def list_inline(world: "World", given: Parameters) -> Answer:
    _profile(world, given["RoleName"])
    return {"PolicyNames": [], "IsTruncated": False}


@operation("iam.GetRolePolicy", "RoleName PolicyName")
def get_inline(world: "World", given: Parameters) -> Answer:
    _profile(world, given["RoleName"])
    raise Refused("NoSuchEntity", f"The role policy with name {given['PolicyName']} cannot be found.", status=404)


@operation("service-quotas.GetServiceQuota", "ServiceCode QuotaCode ContextId")
def get_quota(world: "World", given: Parameters) -> Answer:
    if given["ServiceCode"] != "ec2" or given["QuotaCode"] not in ON_DEMAND_QUOTAS:
        raise Refused(
            "NoSuchResourceException", "The request failed because the specified service quota does not exist."
        )
    return {
        "Quota": {
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "QuotaCode": given["QuotaCode"],
            "QuotaName": f"Running On-Demand {ON_DEMAND_QUOTAS[given['QuotaCode']]} instances",
            "Value": float(world.spec.vcpu_quota),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }
    }


@operation("sts.GetCallerIdentity")
def caller(world: "World", _: Parameters) -> Answer:
    account = world.spec.account
    return {
        "Account": account,
        "Arn": f"arn:aws:sts::{account}:assumed-role/ovenproof-roll/rehearsal",
        "UserId": "AROA0000000000000000:rehearsal",
    }
