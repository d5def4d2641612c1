"""`./run snapshot-fleet`: one group of a real account, by calls that only read, as a fleet file to rehearse with.

In: a session, the group, the image that it is to be rolled onto. Out: a FleetSpec, and notes on what AWS does not tell
or the model does not know. User data, tags of others, environment and commands of containers are not asked for or not
kept: a fleet file goes from hand to hand.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, get_args

import boto3
import yaml
from pydantic import ValidationError

from pipeline.aws_errors import aws_errors
from pipeline.catalog import load_catalog
from pipeline.chunks import chunks
from pipeline.errors import CloudError, UsageError
from pipeline.rehearsal.fleet import spec as fleet
from pipeline.rehearsal.fleet.groups import MANAGED_HOOK
from pipeline.tags import STATE
from pipeline.target import aws_session
from pipeline.whole_file import write_whole

PARAMETER: Final = "/ovenproof/ecs-al2-kernel-5.10/x86_64"  # RollFleet's default for ImageParameter
POLICY: Final = "pipeline/policies/snapshot-caller.yaml"
KEPT: Final = (  # of a template: what preflight judges and launches depend on
    *("ImageId", "InstanceType", "IamInstanceProfile", "MetadataOptions", "BlockDeviceMappings", "SecurityGroupIds"),
    *("InstanceMarketOptions", "CapacityReservationSpecification"),
)
QUOTAS: Final = (  # as in ssm-documents/scripts/preflight.py (EC2 user guide, On-Demand quotas)
    ("L-DB2E81BA", ("g", "gr", "vt")),
    ("L-417A185B", ("p",)),
    ("L-1216C47A", ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z")),
)
CONSTRAINT: Final = re.compile(r"attribute:[\w.-]+ *(==|!=) *[\w./-]+|attribute:[\w.-]+ +(not_)?exists")
STRATEGY: Final = re.compile(r"spread:(attribute:ecs\.availability-zone|instanceId)|binpack:(cpu|memory)")
STOP_SECONDS: Final = 30  # default of the ECS agent on EC2 (ECS API reference, ContainerDefinition.stopTimeout)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A fleet, and what whoever rehearses it should know about the file."""

    spec: fleet.FleetSpec
    notes: tuple[str, ...]


@dataclass
class Notes:
    """What could not be taken as it is, each said once."""

    said: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        if text not in self.said:
            self.said.append(text)


# -- decisions --------------------------------------------------------------------------------------------------------


def assumed_kernel(name: str) -> str:
    """A kernel for an image of which no API tells it, from its name: Amazon's and ours carry the kernel's line."""
    if found := re.search(r"kernel-(\d+\.\d+)", name):
        return f"{found[1]}.0"
    return "6.1.0" if re.search(r"al2023|amazon-linux-2023", name.lower()) else "4.14.0"


def versions_kept(own: str, template: Mapping[str, Any]) -> list[int]:
    """The template's versions that matter: the group's, the default one, the latest. A file numbers them from 1."""
    default, latest = int(template["DefaultVersionNumber"]), int(template["LatestVersionNumber"])
    named = {"$Latest": latest, "$Default": default}
    return sorted({default, latest, named[own] if own in named else int(own)})


def image_of(shown: Mapping[str, Any], agent: str | None, now: datetime) -> fleet.Image:
    """An image as the model has it; of its tags only the one that says whether it was proven."""
    root = shown.get("RootDeviceName", "/dev/xvda")
    sizes = {
        one.get("DeviceName"): one.get("Ebs", {}).get("VolumeSize") for one in shown.get("BlockDeviceMappings", [])
    }
    tags = {one["Key"]: one["Value"] for one in shown.get("Tags", []) if one["Key"] == STATE}
    deprecated = str(shown.get("DeprecationTime", "")) or "9999"
    return fleet.Image(
        id=shown["ImageId"],
        name=shown.get("Name", shown["ImageId"]),
        kernel=assumed_kernel(shown.get("Name", "")),
        agent_version=agent,
        architecture=shown["Architecture"],
        checks=1 if tags else 0,
        deprecated=deprecated <= now.strftime("%Y-%m-%dT%H:%M:%S"),
        root_gib=sizes.get(root) or 30,
        root_device=root,
        tags=tags,
    )


def task_of(shown: Mapping[str, Any]) -> fleet.Task:
    """A task definition as far as placing and stopping go."""
    containers = shown.get("containerDefinitions", [])
    mode = shown.get("networkMode", "bridge")
    ports = [
        one.get("hostPort") or (one["containerPort"] if mode == "host" else 0)
        for container in containers
        for one in container.get("portMappings", [])
    ]
    return fleet.Task(
        cpu=int(shown.get("cpu") or sum(one.get("cpu", 0) for one in containers)),
        memory=max(
            4,
            int(shown.get("memory") or sum(one.get("memoryReservation") or one.get("memory", 0) for one in containers)),
        ),
        host_ports=() if mode == "awsvpc" else tuple(sorted({port for port in ports if port})),
        network_mode=mode if mode in ("bridge", "host", "awsvpc") else "bridge",
        stop_timeout=max((one.get("stopTimeout", STOP_SECONDS) for one in containers), default=STOP_SECONDS),
    )


def rules_of(service: Mapping[str, Any], definition: Mapping[str, Any], notes: Notes) -> dict[str, tuple[str, ...]]:
    """A service's placement, as far as the model knows it; a note for each rule that it does not."""
    constraints, strategy = [], []
    for one in [*service.get("placementConstraints", []), *definition.get("placementConstraints", [])]:
        rule = one["type"] if one["type"] == "distinctInstance" else one.get("expression", "").strip()
        if rule == "distinctInstance" or CONSTRAINT.fullmatch(rule):
            constraints.append(rule)
        else:
            notes.add(f"service {service['serviceName']}: left out, since it is not modelled: the constraint {rule}")
    for one in service.get("placementStrategy", []):
        place = one.get("field", "")
        place = place.lower() if one["type"] == "binpack" else {"host": "instanceId"}.get(place, place)
        rule = f"{one['type']}:{place}"
        if STRATEGY.fullmatch(rule):
            strategy.append(rule)
        else:
            notes.add(f"service {service['serviceName']}: left out, since it is not modelled: the strategy {rule}")
    return {"constraints": tuple(dict.fromkeys(constraints)), "strategy": tuple(strategy)}


def text_of(snapshot: Snapshot) -> str:
    """The fleet file: what is to be known as comments, then every value that is not the format's default."""
    spec = snapshot.spec
    values = spec.model_dump(mode="json", exclude_defaults=True)
    values = {"region": spec.region, "account": spec.account, **values}
    head = [f"# {note}" for note in (f"The group {spec.groups[0].name}, read from AWS.", *snapshot.notes)]
    return "\n".join(head) + "\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


# -- what AWS is asked ------------------------------------------------------------------------------------------------


class Reader:
    """The calls of a snapshot, all of which read."""

    def __init__(self, session: boto3.Session) -> None:
        self.session = session

    def client(self, service: Any) -> Any:
        return self.session.client(service)

    def all(self, service: str, operation: str, key: str, **given: Any) -> list[Any]:
        pages = self.client(service).get_paginator(operation).paginate(**given)
        return [item for page in pages for item in page[key]]

    def group(self, name: str) -> dict[str, Any]:
        found = self.all(
            "autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", AutoScalingGroupNames=[name]
        )
        if not found:
            raise UsageError(
                f"there is no Auto Scaling group {name}",
                expected="the name of a group of this account and region",
                where=f"Auto Scaling in {self.session.region_name}",
                remedy="see `aws autoscaling describe-auto-scaling-groups`, or give another --region",
            )
        return dict(found[0])

    def image_promoted(self) -> str:
        try:
            found = self.client("ssm").get_parameter(Name=PARAMETER)
        except self.client("ssm").exceptions.ParameterNotFound:
            raise UsageError(
                "there is no image to rehearse a roll onto",
                expected=f"an image in the SSM parameter {PARAMETER}, or --image",
                where=f"SSM in {self.session.region_name}",
                remedy="`./run promote` names one there; or give --image ami-…",
            ) from None
        return str(found["Parameter"]["Value"])

    def cluster(self, hosts: Sequence[str], group: str) -> str:
        wanted = f"ec2InstanceId in [{', '.join(hosts[:20])}]"
        for arn in self.all("ecs", "list_clusters", "clusterArns") if hosts else ():
            if self.client("ecs").list_container_instances(cluster=arn, filter=wanted)["containerInstanceArns"]:
                return str(arn).rpartition("/")[2]
        raise UsageError(
            f"no ECS cluster holds a host of {group}",
            expected="hosts whose ECS agents are registered",
            where=f"ECS in {self.session.region_name}",
            remedy="only groups of ECS container instances with at least one host can be rehearsed",
        )

    def template(self, own: Mapping[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        named = {"LaunchTemplateIds": [own["LaunchTemplateId"]]}
        [template] = self.client("ec2").describe_launch_templates(**named)["LaunchTemplates"]
        numbers = [str(one) for one in versions_kept(own.get("Version", "$Default"), template)]
        shown = self.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=own["LaunchTemplateId"], Versions=numbers
        )
        return template, sorted(shown["LaunchTemplateVersions"], key=lambda one: int(one["VersionNumber"]))

    def images(self, ids: Iterable[str], hosts: Sequence[str], new: str, now: datetime) -> tuple[fleet.Image, ...]:
        wanted = sorted({one for one in ids if one.startswith("ami-")})
        shown = self.all("ec2", "describe_images", "Images", ImageIds=wanted, IncludeDeprecated=True)
        heard = self.agent(hosts)
        agent = load_catalog().agent.version
        return tuple(image_of(one, agent if one["ImageId"] == new else heard, now) for one in shown)

    @cached_property
    def detector(self) -> str:
        return next(iter(self.all("guardduty", "list_detectors", "DetectorIds")), "")

    def agent(self, hosts: Sequence[str]) -> str | None:
        """The version of GuardDuty's agent on most of the hosts; none where GuardDuty hears of none."""
        detector, versions = self.detector, Counter[str]()
        for some in chunks(hosts, 50) if detector else ():
            criteria = [{"CriterionKey": "INSTANCE_ID", "FilterCondition": {"Equals": some}}]
            for one in self.all(
                "guardduty",
                "list_coverage",
                "Resources",
                DetectorId=detector,
                FilterCriteria={"FilterCriterion": criteria},
            ):
                details = one["ResourceDetails"].get("Ec2InstanceDetails", {})
                versions[details.get("AgentDetails", {}).get("Version", "")] += 1
        del versions[""]
        return versions.most_common(1)[0][0] if versions else None

    def runtime_monitoring(self) -> bool:
        if not self.detector:
            return False
        features = self.client("guardduty").get_detector(DetectorId=self.detector).get("Features", [])
        return any(one["Name"] == "RUNTIME_MONITORING" and one["Status"] == "ENABLED" for one in features)

    def types(self, names: Iterable[str]) -> dict[str, fleet.InstanceType]:
        found: dict[str, fleet.InstanceType] = {}
        for some in chunks(sorted(set(names)), 100):
            for one in self.all("ec2", "describe_instance_types", "InstanceTypes", InstanceTypes=some):
                architectures = one["ProcessorInfo"]["SupportedArchitectures"]
                found[one["InstanceType"]] = fleet.InstanceType(
                    vcpus=one["VCpuInfo"]["DefaultVCpus"],
                    memory=one["MemoryInfo"]["SizeInMiB"],
                    architecture="arm64" if "arm64" in architectures else "x86_64",
                    gpus=sum(gpu["Count"] for gpu in one.get("GpuInfo", {}).get("Gpus", [])),
                )
        return found

    def quota(self, kinds: Mapping[str, fleet.InstanceType], hosts: Sequence[str]) -> int:
        """The quota's vCPUs that are for this group: what others use of it is taken off."""
        own = set(hosts)
        families = {re.match("[a-z]*", kind)[0] for kind in kinds}  # type: ignore[index]  # matches always
        code, members = next(((code, of) for code, of in QUOTAS if families & set(of)), QUOTAS[-1])
        states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        running = [
            one
            for reservation in self.all("ec2", "describe_instances", "Reservations", Filters=states)
            for one in reservation["Instances"]
            if one["InstanceId"] not in own
            and one.get("InstanceLifecycle") != "spot"
            and re.match("[a-z]*", one["InstanceType"])[0] in members  # type: ignore[index]
        ]
        sizes = self.types(one["InstanceType"] for one in running)
        quota = self.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
        return max(0, int(quota) - sum(sizes[one["InstanceType"]].vcpus for one in running))

    def profile(self, name: str) -> fleet.Profile:
        found = self.client("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        attached = [
            policy["PolicyArn"]
            for role in found["Roles"]
            for policy in self.all("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=role["RoleName"])
        ]
        return fleet.Profile(name=name, policies=tuple(attached))

    def reservations(self, kinds: Iterable[str]) -> tuple[fleet.CapacityReservation, ...]:
        filters = [{"Name": "instance-type", "Values": sorted(kinds)}, {"Name": "state", "Values": ["active"]}]
        return tuple(
            fleet.CapacityReservation(
                instance_type=one["InstanceType"],
                zone=one["AvailabilityZone"],
                total=one["TotalInstanceCount"],
                available=one["AvailableInstanceCount"],
            )
            for one in self.all("ec2", "describe_capacity_reservations", "CapacityReservations", Filters=filters)
        )

    def cluster_spec(self, name: str, group_arn: str) -> fleet.Cluster:
        ecs = self.client("ecs")
        [shown] = ecs.describe_clusters(clusters=[name])["clusters"]
        names = [one for one in shown.get("capacityProviders", []) if not one.startswith("FARGATE")]
        for some in chunks(names, 10):
            for one in ecs.describe_capacity_providers(capacityProviders=some)["capacityProviders"]:
                own = one.get("autoScalingGroupProvider", {})
                if own.get("autoScalingGroupArn") == group_arn:
                    return fleet.Cluster(
                        name=name,
                        managed_draining=own.get("managedDraining") == "ENABLED",
                        managed_scaling=own.get("managedScaling", {}).get("status") == "ENABLED",
                        managed_termination_protection=own.get("managedTerminationProtection") == "ENABLED",
                    )
        return fleet.Cluster(name=name)

    def tasks(self, cluster: str, hosts: Sequence[str]) -> list[dict[str, Any]]:
        """The tasks on those hosts."""
        ecs, arns = self.client("ecs"), set[str]()
        for some in chunks(hosts, 50):
            wanted = f"ec2InstanceId in [{', '.join(some)}]"
            arns |= set(
                self.all("ecs", "list_container_instances", "containerInstanceArns", cluster=cluster, filter=wanted)
            )
        listed = self.all("ecs", "list_tasks", "taskArns", cluster=cluster)
        shown = [
            one for some in chunks(listed, 100) for one in ecs.describe_tasks(cluster=cluster, tasks=some)["tasks"]
        ]
        return [one for one in shown if one.get("containerInstanceArn") in arns]

    def protected(self, cluster: str, tasks: Sequence[Mapping[str, Any]]) -> set[str]:
        arns = [one["taskArn"] for one in tasks if one.get("group", "").startswith("service:")]
        return {
            one["taskArn"]
            for some in chunks(arns, 100)
            for one in self.client("ecs").get_task_protection(cluster=cluster, tasks=some)["protectedTasks"]
            if one.get("protectionEnabled")
        }

    def definition(self, arn: str) -> dict[str, Any]:
        return dict(self.client("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"])

    def balancer(self, service: Mapping[str, Any]) -> fleet.LoadBalancer | None:
        arns = [one["targetGroupArn"] for one in service.get("loadBalancers", []) if one.get("targetGroupArn")]
        if not arns:
            return None
        elb = self.client("elbv2")
        [shown] = elb.describe_target_groups(TargetGroupArns=arns[:1])["TargetGroups"]
        attributes = elb.describe_target_group_attributes(TargetGroupArn=arns[0])["Attributes"]
        named = {one["Key"]: one["Value"] for one in attributes}
        return fleet.LoadBalancer(
            name=shown["TargetGroupName"],
            deregistration_delay=float(named.get("deregistration_delay.timeout_seconds", 300)),
            health_interval=shown["HealthCheckIntervalSeconds"],
            healthy_threshold=shown["HealthyThresholdCount"],
            unhealthy_threshold=shown["UnhealthyThresholdCount"],
        )

    def services(self, cluster: str, tasks: Sequence[Mapping[str, Any]], notes: Notes) -> tuple[fleet.Service, ...]:
        """Services with a task on the group's hosts, as large as they are there."""
        ecs, made = self.client("ecs"), []
        here = Counter(one.get("group", "") for one in tasks)
        shielded = self.protected(cluster, tasks)
        kept = Counter(one["group"] for one in tasks if one["taskArn"] in shielded)
        listed = self.all("ecs", "list_services", "serviceArns", cluster=cluster)
        for some in chunks(listed, 10):
            for one in ecs.describe_services(cluster=cluster, services=some)["services"]:
                name, group = one["serviceName"], f"service:{one['serviceName']}"
                if not here[group]:
                    continue
                desired = min(one["desiredCount"], here[group])
                if desired < one["desiredCount"]:
                    notes.add(f"service {name}: {desired} of {one['desiredCount']} tasks are on this group's hosts")
                definition = self.definition(one["taskDefinition"])
                limits = one.get("deploymentConfiguration", {})
                made.append(
                    fleet.Service(
                        name=name,
                        cluster=cluster,
                        desired=desired,
                        minimum_healthy_percent=limits.get("minimumHealthyPercent", 100),
                        maximum_percent=limits.get("maximumPercent", 200),
                        scheduling=one.get("schedulingStrategy", "REPLICA"),
                        task=task_of(definition),
                        load_balancer=self.balancer(one),
                        health_check_grace=one.get("healthCheckGracePeriodSeconds", 0),
                        protected_tasks=kept[group],
                        capacity_provider=bool(one.get("capacityProviderStrategy")),
                        **rules_of(one, definition, notes),
                    )
                )
        return tuple(made)

    def standalone(self, cluster: str, tasks: Sequence[Mapping[str, Any]]) -> tuple[fleet.StandaloneTask, ...]:
        loners = Counter(one["taskDefinitionArn"] for one in tasks if not one.get("group", "").startswith("service:"))
        made = []
        for arn, count in sorted(loners.items()):
            definition = self.definition(arn)
            made.append(
                fleet.StandaloneTask(
                    cluster=cluster, family=definition["family"], count=count, task=task_of(definition)
                )
            )
        return tuple(made)

    def alarms(self, names: Sequence[str]) -> tuple[fleet.Alarm, ...]:
        if not names:
            return ()
        shown = self.client("cloudwatch").describe_alarms(
            AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        both = [*shown.get("MetricAlarms", []), *shown.get("CompositeAlarms", [])]
        return tuple(fleet.Alarm(name=one["AlarmName"], state=one["StateValue"]) for one in both)


def _group(
    shown: Mapping[str, Any],
    hooks: Sequence[Mapping[str, Any]],
    *,
    cluster: str,
    template: str,
    version: str,
    profile: str,
) -> fleet.Group:
    """The group as the model has it. Raises UsageError for overrides by attributes, which the model does not know."""
    policy = shown.get("MixedInstancesPolicy") or {}
    overrides = policy.get("LaunchTemplate", {}).get("Overrides", [])
    if any("InstanceType" not in one or "LaunchTemplateSpecification" in one for one in overrides):
        raise UsageError(
            f"the fleet model does not know how {shown['AutoScalingGroupName']} chooses its hosts",
            expected="overrides that name an instance type each, and one launch template",
            found="instance requirements, or a launch template of an override's own",
            where="its mixed instances policy",
            remedy="a rehearsal of it would prove nothing; rehearse a group with instance types that are named",
        )
    states = Counter(one["LifecycleState"] for one in shown["Instances"])
    protected = sum(bool(one.get("ProtectedFromScaleIn")) for one in shown["Instances"])
    new_protected = bool(shown.get("NewInstancesProtectedFromScaleIn"))
    maintenance = shown.get("InstanceMaintenancePolicy") or {}
    low, high = maintenance.get("MinHealthyPercentage", -1), maintenance.get("MaxHealthyPercentage", -1)
    pool = shown.get("WarmPoolConfiguration")
    known = set(get_args(fleet.Process))
    return fleet.Group(
        name=shown["AutoScalingGroupName"],
        cluster=cluster,
        template=template,
        template_version=version,
        overrides=tuple(
            fleet.Override(
                instance_type=one["InstanceType"],
                image=one.get("ImageId"),
                weight=int(one["WeightedCapacity"]) if one.get("WeightedCapacity") else None,
            )
            for one in overrides
        ),
        on_demand_percent=policy.get("InstancesDistribution", {}).get("OnDemandPercentageAboveBaseCapacity", 100),
        subnets=tuple(one for one in shown.get("VPCZoneIdentifier", "").split(",") if one),
        min_size=shown["MinSize"],
        max_size=shown["MaxSize"],
        desired=shown["DesiredCapacity"],
        default_warmup=shown.get("DefaultInstanceWarmup"),
        health_check_grace=shown.get("HealthCheckGracePeriod", 0),
        health_check_type="ELB" if "ELB" in shown.get("HealthCheckType", "") else "EC2",
        protect_new=new_protected,
        protected=0 if new_protected else protected,
        standby=states["Standby"],
        suspended=tuple(
            one["ProcessName"] for one in shown.get("SuspendedProcesses", []) if one["ProcessName"] in known
        ),
        hooks=tuple(
            fleet.Hook(
                name=one["LifecycleHookName"],
                transition="launching" if one["LifecycleTransition"].endswith("LAUNCHING") else "terminating",
                heartbeat_timeout=one.get("HeartbeatTimeout", 3600),
                default_result=one.get("DefaultResult", "ABANDON"),
            )
            for one in hooks
            if one["LifecycleHookName"] != MANAGED_HOOK
        ),
        maintenance=(low, high) if low >= 0 and high >= 0 else None,
        warm_pool=fleet.WarmPool(
            min_size=pool.get("MinSize", 0), state=pool.get("PoolState", "Stopped"), size=shown.get("WarmPoolSize", 0)
        )
        if pool
        else None,
        tags={one["Key"]: one.get("Value", "") for one in shown.get("Tags", []) if one["Key"].startswith("ovenproof:")},
        instance_profile=profile,
    )


def snapshot(
    session: boto3.Session, group: str, *, image: str = "", alarms: Sequence[str] = (), now: datetime
) -> Snapshot:
    """Read one group with all that a roll of it meets.

    Raises UsageError for what is not there or not modelled, CloudError for what AWS refuses or the format cannot hold.
    """
    with aws_errors(
        f"the group {group} cannot be read",
        where=f"AWS in {session.region_name}",
        remedy=f"the caller needs what {POLICY} allows, which only reads",
    ):
        try:
            return _read(Reader(session), group, image, alarms, now)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)]
            raise CloudError(
                f"the fleet model cannot take the group {group} as it is",
                expected="values that a fleet file may hold (pipeline/rehearsal/fleet/spec.py)",
                found="\n".join(faults),
                where=f"AWS in {session.region_name}",
                remedy="a rehearsal of this group is not possible yet; its preflight (`./run roll --dry-run`) is",
            ) from error


def _read(read: Reader, name: str, image: str, alarms: Sequence[str], now: datetime) -> Snapshot:
    notes = Notes()
    shown = read.group(name)
    policy = (shown.get("MixedInstancesPolicy") or {}).get("LaunchTemplate", {})
    own = policy.get("LaunchTemplateSpecification") or shown.get("LaunchTemplate")
    if not own:
        raise UsageError(
            f"the group {name} has no launch template",
            expected="a launch template, which is what a roll changes",
            where=f"Auto Scaling in {read.session.region_name}",
            remedy="give it one instead of its launch configuration",
        )
    image = image or read.image_promoted()
    hosts = [one["InstanceId"] for one in shown["Instances"]]
    cluster = read.cluster(hosts, name)
    template, versions = read.template(own)
    numbers = {str(one["VersionNumber"]): str(number) for number, one in enumerate(versions, 1)}
    version = own.get("Version", "$Default")
    now_used = next(
        one
        for one in versions
        if str(one["VersionNumber"])
        == {"$Latest": str(template["LatestVersionNumber"]), "$Default": str(template["DefaultVersionNumber"])}.get(
            version, version
        )
    )
    data = now_used["LaunchTemplateData"]
    given = data.get("IamInstanceProfile", {})
    profile = given.get("Name") or given.get("Arn", "").rpartition("/")[2]
    overrides = policy.get("Overrides", [])
    kinds = read.types(
        {
            *(one["InstanceType"] for one in shown["Instances"] if one.get("InstanceType")),
            *(one["InstanceType"] for one in overrides if one.get("InstanceType")),
            *([data["InstanceType"]] if data.get("InstanceType") else []),
        }
    )
    hooks = read.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=name)["LifecycleHooks"]
    group = _group(
        shown,
        hooks,
        cluster=cluster,
        template=template["LaunchTemplateName"],
        version=numbers.get(version, version),
        profile=profile or "none",
    )
    tasks = read.tasks(cluster, hosts)
    wanted = [image, *(one["LaunchTemplateData"].get("ImageId", "") for one in versions)]
    wanted += [one.get("ImageId", "") for one in overrides]
    images = read.images(wanted, hosts, image, now)
    notes.add(
        f"Kernels are told from the images' names, since no API has them: see {', '.join(one.id for one in images)}."
    )
    notes.add("How long hosts take to boot and tasks to start is assumed: see `timing`, and `start` of each task.")
    notes.add("User data is not copied; a constraint that asks for an attribute set there is warned of in vain.")
    if group.hooks:
        notes.add("Who answers the hooks is not known: with `answered_after: SECONDS` somebody does.")
    if list(numbers) != list(numbers.values()):
        told = ", ".join(f"{number} was {old}" for old, number in numbers.items())
        notes.add(f"Only template versions that matter are here, and have new numbers: {told}.")
    addresses = read.all("ec2", "describe_subnets", "Subnets", SubnetIds=list(group.subnets))
    spec = fleet.FleetSpec(
        region=read.session.region_name,
        account=read.client("sts").get_caller_identity()["Account"],
        images=images,
        parameters={PARAMETER: image},
        instance_types=kinds,
        subnets=tuple(
            fleet.Subnet(
                id=one["SubnetId"], zone=one["AvailabilityZone"], free_addresses=one["AvailableIpAddressCount"]
            )
            for one in addresses
        ),
        templates=(
            fleet.LaunchTemplate(
                id=template["LaunchTemplateId"],
                name=template["LaunchTemplateName"],
                versions=tuple(
                    fleet.TemplateVersion(
                        data={key: one["LaunchTemplateData"][key] for key in KEPT if key in one["LaunchTemplateData"]}
                    )
                    for one in versions
                ),
                default_version=int(numbers[str(template["DefaultVersionNumber"])]),
            ),
        ),
        clusters=(read.cluster_spec(cluster, shown["AutoScalingGroupARN"]),),
        groups=(group,),
        services=read.services(cluster, tasks, notes),
        standalone=read.standalone(cluster, tasks),
        alarms=read.alarms(alarms),
        profiles=(read.profile(profile),) if profile else (),
        capacity_reservations=read.reservations(kinds),
        vcpu_quota=read.quota(kinds, hosts),
        guardduty=read.runtime_monitoring(),
    )
    return Snapshot(spec=spec, notes=tuple(notes.said))


def snapshot_fleet(group: str, *, region: str, out: str, image: str, alarms: Sequence[str]) -> str:
    """`./run snapshot-fleet`: the same in AWS, written to a file. What it says is how to rehearse with it."""
    session = aws_session(region or load_catalog().default_region)
    found = snapshot(session, group, image=image, alarms=alarms, now=datetime.now(UTC))
    path = Path(out or f"{re.sub(r'[^A-Za-z0-9_.-]', '-', group)}.yaml")
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(
            f"{path} would not be taken for a fleet file", expected="a name that ends in .yaml or .yml", where="--out"
        )
    write_whole(path, text_of(found))
    spec = found.spec
    return "\n".join(
        [
            f"{path}: {spec.groups[0].desired} hosts, {sum(one.desired for one in spec.services)} tasks of "
            f"{len(spec.services)} services, onto {spec.parameters[PARAMETER]}",
            *(f"  {note}" for note in found.notes),
            f"rehearse it:  ./run rehearse --fleet {path}",
            f"roll it here: ./run roll --fleet {path} --group {group}",
        ]
    )
