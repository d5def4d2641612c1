"""What could stop a roll, looked at before anything changes: findings, the lane with its reason, and the plan.

Reads only. Each `look at` function returns findings: blockers, which stop the roll, and warnings, which do not.
"""

import json
import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import ClientError
from fleetview import (
    ACTIVE_REFRESH,
    HOOK,
    chunks,
    ecs_hosts,
    error_code,
    execution_is_alive,
    firing,
    group_named,
    is_on,
    is_passing,
    is_steady,
    refreshes_of,
    services_of,
    tags_of,
    template_of,
    warmup,
)

NEEDED_PROCESSES = ("Launch", "Terminate", "InstanceRefresh")
CHECKPOINT_DELAY = 172800  # the longest there is: the document ends the refresh itself when the gate is open
SSM_POLICIES = ("AmazonSSMManagedInstanceCore", "AmazonSSMFullAccess", "AmazonEC2RoleforSSM", "AdministratorAccess")
STANDARD_VCPU_QUOTA = "L-1216C47A"
NOT_LOOKED_AT = "could not be looked at"


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Group, Cluster, Image, ImageParameter, Lane, CanarySize, Alarms, Calendar, Execution.

    Out: State (`go`, `nothing`, `already`, `blocked`), Reason, Findings (JSON text), and the plan's values.
    """
    group = group_named(events["Group"])
    if group is None:
        return ended(
            events,
            "blocked",
            [
                blocker(
                    "group",
                    events["Group"],
                    "there is no such Auto Scaling group",
                    "name one that is in this account and region",
                )
            ],
        )
    image = events["Image"] or promoted(events["ImageParameter"])
    found = unfinished(group, events["Execution"])
    if found and found[0]["check"] == "already":
        return ended(events, "already", [], found[0]["what"], Image=image)
    own = template_of(group)
    if not own:
        found.append(
            blocker(
                "template",
                events["Group"],
                "the group has no launch template",
                "give it one: aws autoscaling update-auto-scaling-group --launch-template",
            )
        )
        return ended(events, "blocked", found, Image=image)
    version = own.get("Version", "$Default")
    found += looked(pinned, group, version)
    data = template_data(own["LaunchTemplateId"], version)
    old_image = overridden_image(group) or data.get("ImageId", "")
    serving = [i for i in group["Instances"] if i["LifecycleState"] in ("InService", "Standby")]
    if not found and serving and all(runs(i, version, image, old_image) for i in serving):
        return ended(events, "nothing", [], f"every host of {events['Group']} runs {image} already", Image=image)
    cluster = events["Cluster"] or cluster_of([i["InstanceId"] for i in group["Instances"]])
    if not cluster:
        found.append(
            blocker(
                "cluster",
                events["Group"],
                "no ECS cluster holds a host of this group",
                "name the cluster, or see whether the hosts' ECS agents are connected",
            )
        )
        return ended(events, "blocked", found, Image=image)
    managed = managed_draining(group, cluster)
    services = services_of(cluster)
    found += looked(instances, group)
    found += looked(processes, group)
    found += looked(warm_pool, group)
    found += looked(scheduled, group)
    found += looked(image_fits, image, data, group)
    found += looked(metadata, own["LaunchTemplateId"], data)
    found += looked(profile, data)
    found += looked(market, group, data)
    found += looked(drainable, cluster, services)
    found += looked(standalone, cluster, [i["InstanceId"] for i in group["Instances"]])
    found += looked(alarms, events["Alarms"])
    found += looked(calendar, events["Calendar"])
    lane, why, limits, more = choose_lane(group, data, events["Lane"])
    found += more
    desired = group["DesiredCapacity"]
    canary = max(1, min(events["CanarySize"], desired or 1))
    preferences: dict[str, Any] = {
        "MinHealthyPercentage": limits[0],
        "SkipMatching": True,
        "ScaleInProtectedInstances": "Refresh",
        "StandbyInstances": "Ignore",
    }
    if lane != "replace-root-volume":
        preferences["MaxHealthyPercentage"] = limits[1]
    preferences["InstanceWarmup"] = warmup(group, own_hook=not managed)
    percent = canary_percent(canary, desired) if lane != "replace-root-volume" else 0
    checkpoints = {"CheckpointPercentages": [percent, 100], "CheckpointDelay": CHECKPOINT_DELAY}
    plan = {
        "Cluster": cluster,
        "TemplateId": own["LaunchTemplateId"],
        "FromVersion": version,
        "ToVersion": made_before(own["LaunchTemplateId"], version, image),
        "FromImage": old_image,
        "Image": image,
        "Lane": lane,
        "LaneReason": why,
        "OwnHook": "no" if managed else "yes",
        "Strategy": "ReplaceRootVolume" if lane == "replace-root-volume" else "Rolling",
        "Desired": desired,
        "Canary": canary,
        "CanaryPercent": percent,
        "Preferences": preferences,
        "CanaryPreferences": {**preferences, **checkpoints} if percent else preferences,
    }
    blocked = any(one["level"] == "blocker" for one in found)
    return ended(events, "blocked" if blocked else "go", found, **plan)


# -- findings ----------------------------------------------------------------------------------------------------------


def finding(level: str, check: str, resource: str, what: str, do: str) -> dict[str, str]:
    return {"level": level, "check": check, "resource": resource, "what": what[:400], "do": do[:400]}


def blocker(check: str, resource: str, what: str, do: str) -> dict[str, str]:
    return finding("blocker", check, resource, what, do)


def warning(check: str, resource: str, what: str, do: str) -> dict[str, str]:
    return finding("warning", check, resource, what, do)


def looked(look: Any, *arguments: Any) -> list[dict[str, str]]:
    """What a check finds. One that AWS refuses to answer is a warning: somebody should know."""
    try:
        return list(look(*arguments))
    except ClientError as error:
        if is_passing(error):
            raise
        name = look.__name__.replace("_", " ")
        return [
            warning(name, name, f"{NOT_LOOKED_AT}: {error_code(error)}", "allow the role of this document the call")
        ]


def ended(
    events: dict[str, Any], state: str, found: list[dict[str, str]], reason: str = "", **plan: Any
) -> dict[str, Any]:
    """Everything the documents expect, with what is known."""
    blockers = [f"{one['resource']}: {one['what']}" for one in found if one["level"] == "blocker"]
    ordered = sorted(found, key=lambda one: one["level"] != "blocker")
    while len(json.dumps(ordered)) > 20_000:
        ordered.pop()
    return {
        "State": state,
        "Reason": (reason or "; ".join(blockers))[:500],
        "Findings": json.dumps(ordered),
        "Group": events["Group"],
        "Cluster": "",
        "TemplateId": "",
        "FromVersion": "",
        "ToVersion": "",
        "FromImage": "",
        "Image": events["Image"],
        "Lane": events["Lane"],
        "LaneReason": "",
        "OwnHook": "no",
        "Strategy": "Rolling",
        "Desired": 0,
        "Canary": 0,
        "CanaryPercent": 0,
        "Preferences": {},
        "CanaryPreferences": {},
        "Since": str(time.time()),
        **plan,
    }


# -- what there is -----------------------------------------------------------------------------------------------------


def promoted(parameter: str) -> str:
    return str(boto3.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"])


def template_data(template: str, version: str) -> dict[str, Any]:
    answer = boto3.client("ec2").describe_launch_template_versions(LaunchTemplateId=template, Versions=[version])
    return dict(answer["LaunchTemplateVersions"][0]["LaunchTemplateData"])


def overridden_image(group: dict[str, Any]) -> str:
    """The image that a mixed instances policy's overrides name, when they do."""
    overrides = (group.get("MixedInstancesPolicy") or {}).get("LaunchTemplate", {}).get("Overrides", [])
    return next((str(one["ImageId"]) for one in overrides if one.get("ImageId")), "")


def runs(instance: dict[str, Any], version: str, image: str, group_image: str) -> bool:
    """Whether a host runs the image, as far as the group's own version says."""
    if instance.get("ImageId"):
        return bool(instance["ImageId"] == image)
    return group_image == image and is_on(instance, version, image)


def made_before(template: str, version: str, image: str) -> str:
    """The version that an earlier start of this very roll made; empty when there is none."""
    described = f"ovenproof {image} after {version}"
    answer = boto3.client("ec2").describe_launch_template_versions(LaunchTemplateId=template, MaxResults=200)
    numbers = [
        one["VersionNumber"]
        for one in answer["LaunchTemplateVersions"]
        if one.get("VersionDescription") == described and one["LaunchTemplateData"].get("ImageId") == image
    ]
    return str(max(numbers)) if numbers else ""


def cluster_of(instances: list[str]) -> str:
    """The cluster that one of the instances is a container instance of; empty when none is."""
    ecs = boto3.client("ecs")
    if not instances:
        return ""
    wanted = ", ".join(instances[:20])
    for page in ecs.get_paginator("list_clusters").paginate():
        for arn in page["clusterArns"]:
            found = ecs.list_container_instances(cluster=arn, filter=f"ec2InstanceId in [{wanted}]")
            if found["containerInstanceArns"]:
                return str(arn).rpartition("/")[2]
    return ""


def managed_draining(group: dict[str, Any], cluster: str) -> bool:
    """Whether a capacity provider of the cluster drains this group's hosts itself."""
    ecs = boto3.client("ecs")
    [described] = ecs.describe_clusters(clusters=[cluster])["clusters"]
    names = [name for name in described.get("capacityProviders", []) if not name.startswith("FARGATE")]
    if not names:
        return False
    for provider in ecs.describe_capacity_providers(capacityProviders=names)["capacityProviders"]:
        own = provider.get("autoScalingGroupProvider", {})
        if own.get("autoScalingGroupArn") == group["AutoScalingGroupARN"] and own.get("managedDraining") == "ENABLED":
            return True
    return False


def canary_percent(canary: int, desired: int) -> int:
    """The checkpoint at which at least the canary is replaced, whether AWS rounds up or down; 0 for none."""
    if desired <= 1 or canary >= desired:
        return 0
    return min(99, math.ceil(canary * 100 / desired))


# -- checks ------------------------------------------------------------------------------------------------------------


def unfinished(group: dict[str, Any], execution: str) -> list[dict[str, str]]:
    """An earlier roll that is under way, or that broke off and left something."""
    name, noted = group["AutoScalingGroupName"], tags_of(group)
    active = [one for one in refreshes_of(name) if one["Status"] in ACTIVE_REFRESH]
    other = noted.get("roll-execution", "")
    if noted.get("roll") in ("running", "rolling-back") and other != execution and execution_is_alive(other):
        return [
            finding(
                "warning",
                "already",
                name,
                f"the execution {other} is {noted['roll']} this group already",
                "wait for it",
            )
        ]
    hooks = boto3.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=name)["LifecycleHooks"]
    left = [hook["LifecycleHookName"] for hook in hooks if hook["LifecycleHookName"] == HOOK]
    before = noted.get("roll-from", "").rpartition(":")[2]
    moved = any(not is_on(i, before, noted.get("roll-from-image", "")) for i in group["Instances"])
    if noted.get("roll") in ("running", "rolling-back") and (active or left or moved):
        return [
            blocker(
                "earlier roll",
                name,
                f"an earlier roll ({other}) broke off and left it half way",
                f"./run rollback --group {name}, then roll again",
            )
        ]
    if active:
        return [
            blocker(
                "refresh",
                name,
                f"the instance refresh {active[0]['InstanceRefreshId']} is {active[0]['Status']}",
                "wait for its end, or cancel it",
            )
        ]
    return []


def pinned(group: dict[str, Any], version: str) -> list[dict[str, str]]:
    """The way back needs a literal version number and a literal image."""
    name, found = group["AutoScalingGroupName"], []
    if not version.isdigit():
        found.append(
            blocker(
                "template version",
                name,
                f"the group uses the template's {version}, which native rollback refuses and which anybody can move",
                "pin the number: update-auto-scaling-group --launch-template LaunchTemplateId=...,Version=N",
            )
        )
    own = template_of(group)
    image = str(template_data(own["LaunchTemplateId"], version).get("ImageId", ""))
    if image.startswith("resolve:ssm:"):
        found.append(
            blocker(
                "template image",
                own["LaunchTemplateId"],
                f"version {version} takes its image from {image}: going back to it could bring another image",
                "make a version with the literal image id that runs now, and pin the group to it",
            )
        )
    return found


def instances(group: dict[str, Any]) -> list[dict[str, str]]:
    name, found = group["AutoScalingGroupName"], []
    states: dict[str, list[str]] = {}
    for instance in group["Instances"]:
        states.setdefault(instance["LifecycleState"], []).append(instance["InstanceId"])
    if standby := states.pop("Standby", []):
        found.append(
            blocker(
                "standby",
                ", ".join(standby[:5]),
                f"{len(standby)} hosts are in Standby and would stay on the old image",
                "aws autoscaling exit-standby, or terminate them",
            )
        )
    serving = states.pop("InService", [])
    if states:
        seen = ", ".join(f"{len(ids)} {state}" for state, ids in sorted(states.items()))
        found.append(blocker("scaling", name, f"hosts are coming or going: {seen}", "wait until the group is at rest"))
    elif len(serving) != group["DesiredCapacity"]:
        found.append(
            blocker(
                "scaling",
                name,
                f"{len(serving)} hosts are in service, {group['DesiredCapacity']} desired",
                "wait until the group is at rest",
            )
        )
    if protected := [i["InstanceId"] for i in group["Instances"] if i.get("ProtectedFromScaleIn")]:
        found.append(
            warning(
                "protection",
                ", ".join(protected[:5]),
                f"{len(protected)} hosts are protected from scale-in; the refresh replaces them all the same",
                "nothing, unless somebody means them to stay",
            )
        )
    return found


def processes(group: dict[str, Any]) -> list[dict[str, str]]:
    name, found = group["AutoScalingGroupName"], []
    for process in group.get("SuspendedProcesses", []):
        which = process["ProcessName"]
        do = f"aws autoscaling resume-processes --auto-scaling-group-name {name} --scaling-processes {which}"
        if which in NEEDED_PROCESSES:
            found.append(blocker("suspended process", name, f"{which} is suspended, and a refresh needs it", do))
        else:
            found.append(warning("suspended process", name, f"{which} is suspended", do))
    return found


def warm_pool(group: dict[str, Any]) -> list[dict[str, str]]:
    if not group.get("WarmPoolConfiguration"):
        return []
    name = group["AutoScalingGroupName"]
    return [
        blocker(
            "warm pool",
            name,
            "the group has a warm pool, whose hosts would keep the old image",
            f"aws autoscaling delete-warm-pool --auto-scaling-group-name {name}, and put it back after the roll",
        )
    ]


def scheduled(group: dict[str, Any]) -> list[dict[str, str]]:
    name, soon = group["AutoScalingGroupName"], datetime.now(UTC) + timedelta(hours=2)
    actions = boto3.client("autoscaling").describe_scheduled_actions(AutoScalingGroupName=name)[
        "ScheduledUpdateGroupActions"
    ]
    return [
        warning(
            "scheduled action",
            name,
            f"{one['ScheduledActionName']} changes the group's size at {one['StartTime']:%H:%M} UTC",
            "roll after it, if it matters",
        )
        for one in actions
        if one.get("StartTime") and one["StartTime"] <= soon
    ]


def image_fits(image: str, data: dict[str, Any], group: dict[str, Any]) -> list[dict[str, str]]:
    """The image is there, fit to launch, of the right architecture, and its root fits the template's."""
    ec2, found = boto3.client("ec2"), []
    try:
        images = ec2.describe_images(ImageIds=[image], IncludeDeprecated=True)["Images"]
    except ClientError as error:
        if error_code(error).startswith("InvalidAMIID"):
            images = []
        else:
            raise
    if not images:
        return [
            blocker(
                "image",
                image,
                "there is no such image here, or it is not shared with this account",
                "name another one, or copy and share it",
            )
        ]
    [one] = images
    if one["State"] != "available":
        found.append(blocker("image", image, f"the image is {one['State']}", "wait until it is available"))
    deprecated = one.get("DeprecationTime")
    if deprecated and str(deprecated) <= datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"):
        found.append(blocker("image", image, f"the image is deprecated since {deprecated}", "roll onto a newer one"))
    state = {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}.get("OvenproofState")
    if state == "baked":
        found.append(blocker("image", image, "the image was baked and not proven", "./run build-image proves it"))
    kinds = [
        o["InstanceType"]
        for o in (group.get("MixedInstancesPolicy") or {}).get("LaunchTemplate", {}).get("Overrides", [])
        if o.get("InstanceType")
    ]
    kinds = sorted({*kinds, *([data["InstanceType"]] if data.get("InstanceType") and not kinds else [])})
    for some in chunks(kinds, 100):
        for kind in ec2.describe_instance_types(InstanceTypes=some)["InstanceTypes"]:
            if one["Architecture"] not in kind["ProcessorInfo"]["SupportedArchitectures"]:
                found.append(
                    blocker(
                        "architecture",
                        image,
                        f"the image is {one['Architecture']}, {kind['InstanceType']} is not",
                        "roll this group onto the image of its architecture",
                    )
                )
    root = one.get("RootDeviceName", "")
    needs = next(
        (
            m["Ebs"].get("VolumeSize", 0)
            for m in one.get("BlockDeviceMappings", [])
            if m.get("DeviceName") == root and "Ebs" in m
        ),
        0,
    )
    mapped = {m.get("DeviceName"): m.get("Ebs", {}).get("VolumeSize") for m in data.get("BlockDeviceMappings", [])}
    if root in mapped and mapped[root] is not None and mapped[root] < needs:
        found.append(
            blocker(
                "block devices",
                image,
                f"its root needs {needs} GiB, the template gives {root} {mapped[root]} GiB",
                f"make {root} at least {needs} GiB in the template",
            )
        )
    if mapped and root not in mapped:
        found.append(
            warning(
                "block devices",
                image,
                f"the template maps {', '.join(map(str, mapped))}, not the image's root {root}: a second volume",
                "name the root device in the template",
            )
        )
    return found


def metadata(template: str, data: dict[str, Any]) -> list[dict[str, str]]:
    options, found = data.get("MetadataOptions", {}), []
    if options.get("HttpEndpoint") == "disabled":
        found.append(
            blocker(
                "metadata",
                template,
                "the instance metadata service is off, and GuardDuty's agent takes its identity from there",
                "set HttpEndpoint to enabled",
            )
        )
    if options.get("HttpTokens") != "required":
        found.append(warning("metadata", template, "IMDSv1 is allowed", "set HttpTokens to required"))
    return found


def profile(data: dict[str, Any]) -> list[dict[str, str]]:
    """The hosts' role allows SSM, without which nothing can be proven on them."""
    given = data.get("IamInstanceProfile", {})
    name = given.get("Name") or given.get("Arn", "").rpartition("/")[2]
    if not name:
        return [
            blocker(
                "instance profile",
                "launch template",
                "it names no instance profile, so SSM cannot reach the hosts",
                "give it one with AmazonSSMManagedInstanceCore",
            )
        ]
    iam = boto3.client("iam")
    for role in iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        attached = iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
        if any(policy["PolicyName"] in SSM_POLICIES for policy in attached):
            return []
        for inline in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=inline)["PolicyDocument"]
            if "ssm:UpdateInstanceInformation" in json.dumps(document) or "ssm:*" in json.dumps(document):
                return []
        if attached:
            return [
                warning(
                    "instance profile",
                    name,
                    "it has no policy that is known to allow SSM",
                    "see that one of its policies allows ssm:UpdateInstanceInformation",
                )
            ]
    return [
        blocker(
            "instance profile",
            name,
            "it allows no SSM, so nothing can be proven on the hosts",
            "attach AmazonSSMManagedInstanceCore to its role",
        )
    ]


def market(group: dict[str, Any], data: dict[str, Any]) -> list[dict[str, str]]:
    name, found = group["AutoScalingGroupName"], []
    distribution = (group.get("MixedInstancesPolicy") or {}).get("InstancesDistribution", {})
    if distribution.get("OnDemandPercentageAboveBaseCapacity", 100) < 100 or data.get("InstanceMarketOptions"):
        found.append(
            warning(
                "spot",
                name,
                "some hosts are Spot: EC2 may take new ones away, or have none",
                "roll when there is room, or with a small canary",
            )
        )
    if data.get("CapacityReservationSpecification", {}).get("CapacityReservationTarget"):
        found.append(
            warning(
                "capacity reservation",
                name,
                "the template launches into a capacity reservation, which may have no room for a surge",
                "see its free capacity, or use --lane rolling",
            )
        )
    return found


def drainable(cluster: str, services: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Every service can give up a host's tasks."""
    ecs, found = boto3.client("ecs"), []
    for service in services:
        name = service["serviceName"]
        limits = service.get("deploymentConfiguration", {})
        least, most = limits.get("minimumHealthyPercent", 100), limits.get("maximumPercent", 200)
        daemon = service.get("schedulingStrategy") == "DAEMON"
        wanted = service["desiredCount"]
        if (
            not daemon
            and wanted
            and math.ceil(wanted * least / 100) >= wanted
            and math.floor(wanted * most / 100) <= wanted
        ):
            found.append(
                blocker(
                    "service",
                    name,
                    f"minimumHealthyPercent {least}, maximumPercent {most}: ECS may neither stop one of {wanted} tasks "
                    "nor start another, so it can never drain",
                    "allow it one more (maximumPercent) or one less (minimumHealthyPercent)",
                )
            )
        if not is_steady(service):
            found.append(
                blocker(
                    "service",
                    name,
                    f"it is not steady: {service['runningCount']} of {wanted} run, "
                    f"{len(service.get('deployments', []))} deployments",
                    "wait until its deployment has ended",
                )
            )
        for rule in service.get("placementConstraints", []):
            expression = rule.get("expression", "")
            if "ecs.ami-id" in expression or "ec2InstanceId" in expression or "ecs.instance-id" in expression:
                found.append(
                    blocker(
                        "service",
                        name,
                        f"its placement constraint binds it to the old hosts: {expression}",
                        "take the constraint away",
                    )
                )
            elif expression:
                found.append(
                    warning(
                        "service",
                        name,
                        f"its tasks go only where {expression}",
                        "see that the new hosts carry that attribute",
                    )
                )
        if not daemon:
            found += protected_tasks(ecs, cluster, service)
    return found


def protected_tasks(ecs: Any, cluster: str, service: dict[str, Any]) -> list[dict[str, str]]:
    arns = ecs.list_tasks(cluster=cluster, serviceName=service["serviceName"], maxResults=100)["taskArns"]
    if not arns:
        return []
    shown = ecs.get_task_protection(cluster=cluster, tasks=arns)["protectedTasks"]
    kept = [one for one in shown if one.get("protectionEnabled")]
    if not kept:
        return []
    until = max((str(one["expirationDate"]) for one in kept if one.get("expirationDate")), default="nobody knows when")
    return [
        blocker(
            "task protection",
            service["serviceName"],
            f"{len(kept)} of its tasks are protected from scale-in until {until}",
            "aws ecs update-task-protection --no-protection-enabled, or wait",
        )
    ]


def standalone(cluster: str, ids: list[str]) -> list[dict[str, str]]:
    """Tasks of no service: ECS does not move them, so they would die with their host."""
    ecs, loners = boto3.client("ecs"), []
    for host in ecs_hosts(cluster, ids).values():
        arns = ecs.list_tasks(cluster=cluster, containerInstance=host["containerInstanceArn"], maxResults=100)[
            "taskArns"
        ]
        if arns:
            tasks = ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"]
            loners += [task for task in tasks if not task.get("group", "").startswith("service:")]
    if not loners:
        return []
    named = ", ".join(task["taskArn"].rpartition("/")[2] for task in loners[:3])
    families = ", ".join(sorted({task.get("group", "").removeprefix("family:") for task in loners})[:5])
    return [
        blocker(
            "standalone tasks",
            families,
            f"{len(loners)} tasks belong to no service and are not moved: {named}",
            "let them end, or stop them",
        )
    ]


def alarms(names: list[str]) -> list[dict[str, str]]:
    return [
        blocker("alarm", name, "the alarm is on, or does not exist", "a roll begins in quiet: mend what it tells of")
        for name in firing(names)
    ]


def calendar(arn: str) -> list[dict[str, str]]:
    if not arn:
        return []
    state = boto3.client("ssm").get_calendar_state(CalendarNames=[arn])
    if state["State"] == "OPEN":
        return []
    return [
        blocker(
            "change calendar",
            arn,
            f"the calendar is {state['State']} until {state.get('NextTransitionTime', 'further notice')}",
            "roll when it is open",
        )
    ]


# -- the lane ----------------------------------------------------------------------------------------------------------


def choose_lane(
    group: dict[str, Any], data: dict[str, Any], asked: str
) -> tuple[str, str, tuple[int, int], list[dict[str, str]]]:
    """The lane, why, the refresh's healthy percentages, and findings about it."""
    name, desired = group["AutoScalingGroupName"], group["DesiredCapacity"]
    policy = group.get("MixedInstancesPolicy") or {}
    swappable = bool(overridden_image(group))
    room, limit = free_room(group, data)
    if asked == "replace-root-volume" and not swappable:
        missing = blocker(
            "lane",
            name,
            "replace-root-volume needs a mixed instances policy whose overrides name an image",
            "use --lane surge or rolling",
        )
        return asked, "it was asked for", (0, 0), [missing]
    if asked == "replace-root-volume" or (
        asked == "auto" and swappable and policy and room < desired and accelerated(data, policy)
    ):
        why = "it was asked for" if asked != "auto" else f"accelerated hosts are scarce and {limit}"
        return (
            "replace-root-volume",
            why,
            (max(0, (desired - 1) * 100 // max(1, desired)), 0),
            [
                warning(
                    "lane",
                    name,
                    "each host is out of service while its root volume is swapped",
                    "nothing: there is no room for another one",
                )
            ],
        )
    if asked == "surge" or (asked == "auto" and room >= desired):
        found = (
            []
            if room >= desired
            else [
                blocker(
                    "lane",
                    name,
                    f"a surge launches {desired} hosts more, and {limit}",
                    "use --lane rolling, or make room",
                )
            ]
        )
        why = (
            "it was asked for"
            if asked == "surge"
            else f"there is room for {desired} hosts more, so that every task moves once"
        )
        return "surge", why, (100, 200), found
    why = "it was asked for" if asked == "rolling" else f"no room to double: {limit}"
    if room >= 1:
        return "rolling", why, (100, min(200, 100 + math.ceil(room * 100 / max(1, desired)))), []
    less = "capacity falls below desired by a tenth while hosts are replaced"
    if asked == "rolling":
        return "rolling", f"{why}; {less}", (90, 100), [warning("lane", name, less, "make room for one host more")]
    return (
        "rolling",
        f"{why}; {less}",
        (90, 100),
        [
            blocker(
                "lane",
                name,
                f"there is no room for one host more ({limit}): {less}",
                "make room, or accept it with --lane rolling",
            )
        ],
    )


def free_room(group: dict[str, Any], data: dict[str, Any]) -> tuple[int, str]:
    """How many hosts more the group's maximum and the account's quota allow, and which of them is the limit."""
    desired = group["DesiredCapacity"]
    room, limit = group["MaxSize"] - desired, f"the group's maximum is {group['MaxSize']}"
    try:
        ec2 = boto3.client("ec2")
        quota = boto3.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=STANDARD_VCPU_QUOTA)
        kinds: dict[str, int] = {}
        running: list[str] = []
        for page in ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        ):
            running += [one["InstanceType"] for r in page["Reservations"] for one in r["Instances"]]
        names = sorted({*running, *([data["InstanceType"]] if data.get("InstanceType") else [])})
        for some in chunks(names, 100):
            for kind in ec2.describe_instance_types(InstanceTypes=some)["InstanceTypes"]:
                kinds[kind["InstanceType"]] = kind["VCpuInfo"]["DefaultVCpus"]
        each = kinds.get(data.get("InstanceType", ""), 0) or max(kinds.values(), default=1)
        free = int(quota["Quota"]["Value"]) - sum(kinds.get(one, 0) for one in running)
        if free // each < room:
            room, limit = max(0, free // each), f"the account's quota leaves {free} vCPU"
    except ClientError as error:
        if is_passing(error):
            raise
    return room, limit


def accelerated(data: dict[str, Any], policy: dict[str, Any]) -> bool:
    """Whether the group's instance types carry accelerators, by the families that AWS names so."""
    kinds = [o.get("InstanceType", "") for o in policy.get("LaunchTemplate", {}).get("Overrides", [])]
    return any(kind.startswith(("p", "g", "inf", "trn")) for kind in [*kinds, data.get("InstanceType", "")] if kind)
