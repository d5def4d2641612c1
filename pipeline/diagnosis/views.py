"""What each service says about an account in a region: in, answers of AWS; out, small frozen values.

Only what a diagnosis uses is kept, as an account may have 100,000 machines.
"""

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.chunks import chunks
from pipeline.clock import Clock
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.acl import Acl, AclRule, Spot
from pipeline.errors import CloudError

CLUSTERS_A_CALL, INSTANCES_A_CALL, SERVICES_A_CALL, COMMANDS_A_CALL = 100, 100, 10, 50
FILTER_VALUES = 200
"""EC2 takes so many values of one filter (EC2 API reference, Filter)."""
LOOK_INSIDE = Path(__file__).with_name("look_inside.sh")
LOOK_SECONDS = 180
EXECUTION_POLICY = "policy/service-role/AmazonECSTaskExecutionRolePolicy"
"""AWS's own policy for execution roles, which allows a few actions and denies none."""
OWN_DOCUMENT, ANY_SCRIPT = "Ovenproof-LookInside", "AWS-RunShellScript"
"""By the first a caller can run look_inside.sh and nothing else: member.yaml makes it in each region."""


@dataclass(frozen=True, slots=True)
class HostRow:
    """GuardDuty's word on an instance."""

    id: str
    healthy: bool
    issue: str
    agent: str
    automated: bool
    cluster: str


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """GuardDuty's word on an ECS cluster."""

    name: str
    healthy: bool
    issues: tuple[str, ...]
    covered: int
    compatible: int


@dataclass(frozen=True, slots=True)
class Instance:
    """A running instance as EC2 shows it."""

    id: str
    type: str
    architecture: str
    image: str
    windows: bool
    platform: str
    launched: datetime
    vpc: str
    subnet: str
    address: str
    groups: tuple[str, ...]
    metadata: bool
    profile: str
    operator: str
    tags: Mapping[str, str]
    zone: str = ""
    """The id of its availability zone."""
    metadata_tags: bool = True
    """Whether the metadata service shows its tags."""


@dataclass(frozen=True, slots=True)
class EcsCluster:
    """A cluster as ECS shows it."""

    name: str
    tag: str
    hosts: int
    fargate_services: int
    tasks: int


@dataclass(frozen=True, slots=True)
class EcsService:
    """A service that runs on Fargate."""

    name: str
    cluster: str
    task_definition: str
    platform_version: str
    family: str
    deployed: datetime | None
    execution_role: str | None


@dataclass(frozen=True, slots=True)
class EcsHost:
    """A container instance: the machine behind it, its cluster, its ECS agent."""

    id: str
    cluster: str
    agent: str


@dataclass(frozen=True, slots=True)
class Managed:
    """What SSM knows of a host."""

    online: bool
    os: str


@dataclass(frozen=True, slots=True)
class Inside:
    """What the host itself says; see look_inside.sh."""

    kernel: str
    os: str
    btf: bool
    memlock_kib: int
    installed: bool
    version: str
    enabled: str
    active: str
    restarts: int
    window: int


@dataclass(frozen=True, slots=True)
class RolePolicy:
    """A policy that a role has, as JSON."""

    name: str
    document: str
    is_boundary: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint for guardduty-data."""

    id: str
    vpc: str
    state: str
    private_dns: bool
    groups: tuple[str, ...]
    policy: str
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A security group's rules for TCP 443: sources that may come in; whether anything may go out."""

    inbound: tuple[str, ...]
    inbound_groups: tuple[str, ...]
    egress: bool


@dataclass
class Networks:
    """VPCs, endpoints and groups, as far as they were asked for."""

    endpoints: tuple[Endpoint, ...] | None = None
    shared: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    """Endpoints of VPCs that another account shares, where that account could be asked."""
    owners: dict[str, str] = field(default_factory=dict)
    cidrs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dns_off: dict[str, str] = field(default_factory=dict)
    """VPCs looked at: which attributes are off, or nothing."""
    groups: dict[str, Group] = field(default_factory=dict)
    acls: dict[str, Acl] = field(default_factory=dict)
    """By subnet."""
    interfaces: dict[str, Spot] = field(default_factory=dict)
    """Those of endpoints."""
    used: frozenset[str] = frozenset()
    """VPCs in which an instance runs."""


def coverage_rows(
    access: Access, region: str, detector: str, *, accounts: Sequence[str] = (), instances: Sequence[str] = ()
) -> Iterator[Mapping[str, Any]]:
    """What ListCoverage says of instances and ECS clusters, row by row."""
    criteria = [_equals("RESOURCE_TYPE", ["EC2"] if instances else ["EC2", "ECS"])]
    if accounts:
        criteria.append(_equals("ACCOUNT_ID", accounts))
    if instances:
        criteria.append(_equals("INSTANCE_ID", instances))
    yield from access.pages(
        "",
        region,
        "guardduty",
        "list_coverage",
        "Resources",
        DetectorId=detector,
        MaxResults=50,
        FilterCriteria={"FilterCriterion": criteria},
    )


def coverage(
    access: Access,
    region: str,
    detector: str,
    *,
    accounts: Sequence[str] = (),
    instances: Sequence[str] = (),
) -> tuple[dict[str, dict[str, HostRow]], dict[str, dict[str, ClusterRow]]]:
    """GuardDuty's rows for instances and ECS clusters, by account. Pages are in no order and chained by token."""
    hosts: dict[str, dict[str, HostRow]] = {}
    clusters: dict[str, dict[str, ClusterRow]] = {}
    for row in coverage_rows(access, region, detector, accounts=accounts, instances=instances):
        account, details = row.get("AccountId", ""), row.get("ResourceDetails", {})
        healthy = row.get("CoverageStatus") == "HEALTHY"
        if host := details.get("Ec2InstanceDetails"):
            number = host.get("InstanceId") or row.get("ResourceId", "")
            hosts.setdefault(account, {})[number] = HostRow(
                number,
                healthy,
                "" if healthy else row.get("Issue", "") or "No Agent Reporting",
                host.get("AgentDetails", {}).get("Version", ""),
                host.get("ManagementType") == "AUTO_MANAGED",
                host.get("ClusterArn", "").rsplit("/", 1)[-1],
            )
        elif cluster := details.get("EcsClusterDetails"):
            counts = cluster.get("ContainerInstanceDetails", {})
            issues = cluster.get("FargateDetails", {}).get("Issues", ())
            issue = row.get("Issue", "")
            name = cluster.get("ClusterName", "")
            clusters.setdefault(account, {})[name] = ClusterRow(
                name,
                healthy,
                tuple(dict.fromkeys([*issues, *([issue] if issue and not healthy else [])])),
                counts.get("CoveredContainerInstances", 0),
                counts.get("CompatibleContainerInstances", 0),
            )
    return hosts, clusters


def _equals(key: str, values: Sequence[str]) -> dict[str, Any]:
    return {"CriterionKey": key, "FilterCondition": {"Equals": list(values)}}


def instances(access: Access, account: str, region: str) -> dict[str, Instance]:
    """Every running instance. Stopped ones are no gap in coverage."""
    found: dict[str, Instance] = {}
    reservations = access.pages(
        account,
        region,
        "ec2",
        "describe_instances",
        "Reservations",
        Filters=[{"Name": "instance-state-name", "Values": ["running"]}],
        MaxResults=1000,
    )
    for reservation in reservations:
        for row in reservation.get("Instances", ()):
            found[row["InstanceId"]] = _instance(row)
    return found


def _instance(row: Mapping[str, Any]) -> Instance:
    operator = row.get("Operator", {})
    return Instance(
        id=row["InstanceId"],
        type=row.get("InstanceType", ""),
        architecture=row.get("Architecture", ""),
        image=row.get("ImageId", ""),
        windows=row.get("Platform", "").lower() == "windows",
        platform=row.get("PlatformDetails", ""),
        launched=row["LaunchTime"],
        vpc=row.get("VpcId", ""),
        subnet=row.get("SubnetId", ""),
        address=row.get("PrivateIpAddress", ""),
        groups=tuple(group["GroupId"] for group in row.get("SecurityGroups", ())),
        metadata=row.get("MetadataOptions", {}).get("HttpEndpoint", "enabled") == "enabled",
        profile=row.get("IamInstanceProfile", {}).get("Arn", "").rsplit("/", 1)[-1],
        operator=operator.get("Principal", "") if operator.get("Managed") else "",
        tags={tag["Key"]: tag["Value"] for tag in row.get("Tags", ())},
        zone=row.get("Placement", {}).get("AvailabilityZoneId", ""),
        metadata_tags=row.get("MetadataOptions", {}).get("InstanceMetadataTags", "enabled") == "enabled",
    )


def ecs_clusters(access: Access, account: str, region: str) -> dict[str, EcsCluster]:
    """Every active cluster with its tag and counts."""
    arns = list(access.pages(account, region, "ecs", "list_clusters", "clusterArns", chain="nextToken", maxResults=100))
    found: dict[str, EcsCluster] = {}
    for some in chunks(arns, CLUSTERS_A_CALL):
        answer = access.call(account, region, "ecs", "describe_clusters", clusters=some, include=["STATISTICS", "TAGS"])
        for row in answer.get("clusters", ()):
            if row.get("status") != "ACTIVE":
                continue
            counts = {item["name"]: item["value"] for item in row.get("statistics", ())}
            tags = {tag["key"]: tag["value"] for tag in row.get("tags", ())}
            found[row["clusterName"]] = EcsCluster(
                row["clusterName"],
                tags.get("GuardDutyManaged", ""),
                row.get("registeredContainerInstancesCount", 0),
                int(counts.get("activeFargateServiceCount", "0")),
                row.get("runningTasksCount", 0),
            )
    return found


def ecs_hosts(access: Access, account: str, region: str, cluster: str) -> dict[str, EcsHost]:
    """The cluster's container instances, by instance id; external ones have ids `mi-…`."""
    arns = list(
        access.pages(
            account,
            region,
            "ecs",
            "list_container_instances",
            "containerInstanceArns",
            chain="nextToken",
            cluster=cluster,
            maxResults=100,
        )
    )
    found: dict[str, EcsHost] = {}
    for some in chunks(arns, INSTANCES_A_CALL):
        answer = access.call(
            account, region, "ecs", "describe_container_instances", cluster=cluster, containerInstances=some
        )
        for row in answer.get("containerInstances", ()):
            number = row.get("ec2InstanceId", "")
            found[number] = EcsHost(number, cluster, row.get("versionInfo", {}).get("agentVersion", ""))
    return found


def fargate_services(access: Access, account: str, region: str, cluster: str) -> tuple[EcsService, ...]:
    """The cluster's services that run on Fargate, with their task definitions' execution roles."""
    arns = list(
        access.pages(
            account, region, "ecs", "list_services", "serviceArns", chain="nextToken", cluster=cluster, maxResults=100
        )
    )
    roles: dict[str, str | None] = {}
    found = []
    for some in chunks(arns, SERVICES_A_CALL):
        answer = access.call(account, region, "ecs", "describe_services", cluster=cluster, services=some)
        for row in answer.get("services", ()):
            providers = [item.get("capacityProvider", "") for item in row.get("capacityProviderStrategy", ())]
            if row.get("launchType") != "FARGATE" and not any(name.startswith("FARGATE") for name in providers):
                continue
            definition = row.get("taskDefinition", "")
            if definition not in roles:
                described = access.call(account, region, "ecs", "describe_task_definition", taskDefinition=definition)[
                    "taskDefinition"
                ]
                roles[definition] = described.get("executionRoleArn")
            deployments = row.get("deployments", ())
            primary: Mapping[str, Any] = next((item for item in deployments if item.get("status") == "PRIMARY"), {})
            found.append(
                EcsService(
                    row["serviceName"],
                    cluster,
                    definition.rsplit("/", 1)[-1],
                    primary.get("platformVersion") or row.get("platformVersion", ""),
                    primary.get("platformFamily") or row.get("platformFamily", ""),
                    primary.get("createdAt"),
                    roles[definition],
                )
            )
    return tuple(found)


def managed(access: Access, account: str, region: str, ids: Sequence[str]) -> dict[str, Managed]:
    """What SSM knows of these hosts; one that it does not know is not in the answer."""
    found: dict[str, Managed] = {}
    for some in chunks(ids, COMMANDS_A_CALL):
        for row in access.pages(
            account,
            region,
            "ssm",
            "describe_instance_information",
            "InstanceInformationList",
            Filters=[{"Key": "InstanceIds", "Values": some}],
            MaxResults=50,
        ):
            name, release = row.get("PlatformName", ""), row.get("PlatformVersion", "")
            found[row["InstanceId"]] = Managed(row.get("PingStatus") == "Online", f"{name} {release}".strip())
    return found


def inside(
    access: Access, account: str, region: str, ids: Sequence[str], clock: Clock, document: str
) -> dict[str, Inside]:
    """Run look_inside.sh on hosts that SSM reaches; those that do not answer in time are not in the answer.

    `document` is OWN_DOCUMENT or ANY_SCRIPT. Raises CloudError, for the first also where it is not deployed.
    """
    found: dict[str, Inside] = {}
    parameters = {}
    if document == ANY_SCRIPT:
        parameters = {
            "commands": [LOOK_INSIDE.read_text(encoding="utf-8")],
            "executionTimeout": [str(LOOK_SECONDS)],
        }
    for some in chunks(ids, COMMANDS_A_CALL):
        try:
            command = access.call(
                account,
                region,
                "ssm",
                "send_command",
                DocumentName=document,
                Comment="Ovenproof: what the host knows of the GuardDuty agent (reads only)",
                InstanceIds=some,
                TimeoutSeconds=LOOK_SECONDS,
                Parameters=parameters,
            )["Command"]["CommandId"]
        except CloudError as error:
            if "InvalidDocument" not in error.found:
                raise
            raise CloudError(
                f"there is no document {document}",
                expected="the document that runs look_inside.sh and nothing else",
                found=error.found,
                where=error.where,
                remedy="deploy pipeline/diagnosis/member.yaml there with LookInside=yes, or use --look-inside shell if "
                f"the role may run {ANY_SCRIPT}",
            ) from error
        until = clock.monotonic() + LOOK_SECONDS
        while True:
            rows = list(
                access.pages(
                    account,
                    region,
                    "ssm",
                    "list_command_invocations",
                    "CommandInvocations",
                    CommandId=command,
                    Details=True,
                    MaxResults=50,
                )
            )
            running = [row for row in rows if row["Status"] in ("Pending", "InProgress", "Delayed", "Cancelling")]
            if (rows and not running) or clock.monotonic() >= until:
                break
            clock.sleep(3)
        for row in rows:
            output = "".join(plugin.get("Output", "") for plugin in row.get("CommandPlugins", ()))
            if (seen := read_inside(output)) is not None:
                found[row["InstanceId"]] = seen
    return found


def read_inside(output: str) -> Inside | None:
    """The line of JSON in a command's output; None when the host could not tell."""
    line = next((line for line in output.splitlines() if line.startswith("{")), "")
    try:
        data = json.loads(line)
        return Inside(**{name: data[name] for name in Inside.__slots__})
    except (ValueError, KeyError, TypeError):
        return None


def endpoints(access: Access, account: str, region: str, vpcs: Sequence[str] = ()) -> tuple[Endpoint, ...]:
    """The account's endpoints for guardduty-data, in whichever VPC, or in these only."""
    names = [f"com.amazonaws.{region}.guardduty-data", f"com.amazonaws.{region}.guardduty-data-fips"]
    rows = access.pages(
        account,
        region,
        "ec2",
        "describe_vpc_endpoints",
        "VpcEndpoints",
        Filters=[
            {"Name": "service-name", "Values": names},
            *([{"Name": "vpc-id", "Values": list(vpcs)}] if vpcs else []),
        ],
        MaxResults=1000,
    )
    return tuple(
        Endpoint(
            row["VpcEndpointId"],
            row.get("VpcId", ""),
            row.get("State", "").lower(),
            row.get("PrivateDnsEnabled", False),
            tuple(group["GroupId"] for group in row.get("Groups", ())),
            row.get("PolicyDocument", ""),
            tuple(row.get("NetworkInterfaceIds", ())),
        )
        for row in rows
    )


def add_owners(access: Access, account: str, region: str, vpcs: Sequence[str], networks: Networks) -> None:
    """Add whose the VPCs are, and their CIDRs.

    A shared one is shown to its participants; its endpoints, attributes and ACLs are not.
    """
    for row in access.pages(account, region, "ec2", "describe_vpcs", "Vpcs", VpcIds=list(vpcs)):
        networks.owners[row["VpcId"]] = row.get("OwnerId", account)
        others = (item["CidrBlock"] for item in row.get("CidrBlockAssociationSet", ()))
        networks.cidrs[row["VpcId"]] = tuple(dict.fromkeys([row["CidrBlock"], *others]))


def add_dns(access: Access, account: str, region: str, vpcs: Sequence[str], networks: Networks) -> None:
    """Add which DNS attributes are off. `account` owns the VPCs."""
    for vpc in vpcs:
        off = []
        for attribute, key in (("enableDnsSupport", "EnableDnsSupport"), ("enableDnsHostnames", "EnableDnsHostnames")):
            answer = access.call(account, region, "ec2", "describe_vpc_attribute", VpcId=vpc, Attribute=attribute)
            if not answer.get(key, {}).get("Value", True):
                off.append(attribute)
        networks.dns_off[vpc] = f"{' and '.join(off)} off" if off else ""


def add_ways(
    access: Access, account: str, region: str, found: Iterable[Endpoint], subnets: Iterable[str], networks: Networks
) -> None:
    """Add the endpoints' interfaces, and the ACLs of their subnets and of `subnets`. `account` owns the VPCs."""
    wanted = sorted({number for endpoint in found for number in endpoint.interfaces})
    if not wanted:
        return
    rows = access.pages(
        account, region, "ec2", "describe_network_interfaces", "NetworkInterfaces", NetworkInterfaceIds=wanted
    )
    for row in rows:
        networks.interfaces[row["NetworkInterfaceId"]] = Spot(
            row.get("SubnetId", ""), row.get("PrivateIpAddress", ""), row.get("AvailabilityZoneId", "")
        )
    places = sorted({*subnets, *(networks.interfaces[number].subnet for number in wanted)} - {""})
    for some in chunks(places, FILTER_VALUES):
        filters = [{"Name": "association.subnet-id", "Values": some}]
        for row in access.pages(account, region, "ec2", "describe_network_acls", "NetworkAcls", Filters=filters):
            acl = Acl(row["NetworkAclId"], _acl_rules(row.get("Entries", ())))
            networks.acls.update(dict.fromkeys((link["SubnetId"] for link in row.get("Associations", ())), acl))


def _acl_rules(rows: Iterable[Mapping[str, Any]]) -> tuple[AclRule, ...]:
    rules = []
    for row in sorted(rows, key=lambda row: int(row["RuleNumber"])):
        if "CidrBlock" not in row or row.get("Protocol") not in ("-1", "6"):
            continue  # IPv6, or no TCP
        span = row.get("PortRange") if row["Protocol"] == "6" else None
        ports = (span["From"], span["To"]) if span else (0, 65535)
        allows = row.get("RuleAction") == "allow"
        network = ipaddress.IPv4Network(row["CidrBlock"], strict=False)
        rules.append(AclRule(row["RuleNumber"], row.get("Egress", False), allows, network, ports))
    return tuple(rules)


def add_groups(access: Access, account: str, region: str, groups: Iterable[str], networks: Networks) -> None:
    """Add the rules for TCP 443 of security groups."""
    wanted = sorted(set(groups) - set(networks.groups))
    if not wanted:
        return
    rows = access.pages(account, region, "ec2", "describe_security_groups", "SecurityGroups", GroupIds=wanted)
    for row in rows:
        inbound: list[str] = []
        from_groups: list[str] = []
        for rule in row.get("IpPermissions", ()):
            if _covers_443(rule):
                inbound += [item["CidrIp"] for item in rule.get("IpRanges", ())]
                inbound += [item["PrefixListId"] for item in rule.get("PrefixListIds", ())]
                from_groups += [item["GroupId"] for item in rule.get("UserIdGroupPairs", ())]
        egress = any(_covers_443(rule) and _leads_somewhere(rule) for rule in row.get("IpPermissionsEgress", ()))
        networks.groups[row["GroupId"]] = Group(tuple(inbound), tuple(from_groups), egress)


def _covers_443(rule: Mapping[str, Any]) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    return rule.get("IpProtocol") in ("tcp", "6") and rule.get("FromPort", 0) <= 443 <= rule.get("ToPort", 65535)


def _leads_somewhere(rule: Mapping[str, Any]) -> bool:
    return any(rule.get(key) for key in ("IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs"))


def role_policies(access: Access, account: str, region: str, role: str) -> tuple[RolePolicy, ...]:
    """The role's boundary, if it has one, then its policies: attached ones and those of its own."""

    def managed_policy(arn: str) -> str:
        version = access.call(account, region, "iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = access.call(account, region, "iam", "get_policy_version", PolicyArn=arn, VersionId=version)
        return _document(found["PolicyVersion"]["Document"])

    found = []
    answer = access.call(account, region, "iam", "get_role", RoleName=role)["Role"]
    if boundary := answer.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""):
        found.append(RolePolicy(f"permissions boundary {boundary}", managed_policy(boundary), is_boundary=True))
    for row in access.pages(
        account, region, "iam", "list_attached_role_policies", "AttachedPolicies", chain="Marker", RoleName=role
    ):
        arn = row["PolicyArn"]
        if not arn.endswith(f":{EXECUTION_POLICY}"):
            found.append(RolePolicy(f"policy {arn}", managed_policy(arn)))
    for name in access.pages(
        account, region, "iam", "list_role_policies", "PolicyNames", chain="Marker", RoleName=role
    ):
        own = access.call(account, region, "iam", "get_role_policy", RoleName=role, PolicyName=name)
        found.append(RolePolicy(f"the role's own policy {name}", _document(own["PolicyDocument"])))
    return tuple(found)


def _document(found: Any) -> str:
    """botocore reads IAM's documents."""
    return found if isinstance(found, str) else json.dumps(found)


def image_names(access: Access, account: str, region: str, images: Iterable[str]) -> dict[str, str]:
    """Names of images that still exist."""
    wanted = sorted(set(images))
    if not wanted:
        return {}
    filters = [{"Name": "image-id", "Values": wanted}]
    rows = access.pages(account, region, "ec2", "describe_images", "Images", Filters=filters, IncludeDeprecated=True)
    return {row["ImageId"]: row.get("Name", "") for row in rows}
