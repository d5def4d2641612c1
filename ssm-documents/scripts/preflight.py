"""What could stop a roll, looked at before anything changes: findings, the lane with its reason, and the plan.

Reads only. What is asked of AWS stands in the second part; each check of the third part is a function of what was
answered, and returns findings: blockers, which stop the roll, and warnings, which do not.
"""

import base64
import fnmatch
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import boto3
from botocore.exceptions import ClientError
from fleetview import (
    ACTIVE_REFRESH,
    HOOK,
    chunks,
    ecs_hosts,
    error_code,
    execution_is_alive,
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

NEEDED_PROCESSES = ("Launch", "Terminate", "InstanceRefresh", "HealthCheck")
CHECKPOINT_DELAY = 172800  # the longest there is: the document ends the refresh itself when the gate is open
SSM_POLICIES = ("AmazonSSMManagedInstanceCore", "AmazonSSMFullAccess", "AmazonEC2RoleforSSM", "AdministratorAccess")
START_SECONDS = 120  # a task's image pulled and its container started: no API tells
STOP_SECONDS = 30  # default of the ECS agent on EC2 (ECS API reference, ContainerDefinition.stopTimeout)
DEREGISTRATION_SECONDS = 300  # default of a target group (ELB API reference, TargetGroupAttribute)
TRIES = 4
SOON = timedelta(hours=2)
FINDINGS_BYTES = 20_000
# Quotas of running On-Demand vCPUs by what an instance type's name begins with (EC2 user guide, On-Demand quotas).
QUOTAS = (
    ("L-1216C47A", ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z")),
    ("L-DB2E81BA", ("g", "gr", "vt")),
    ("L-417A185B", ("p",)),
)
ACCELERATED = ("g", "gr", "vt", "p", "inf", "trn", "dl")

Finding = dict[str, str]


def handler(events: dict[str, Any], _context: Any) -> dict[str, Any]:
    """In: Group, Cluster, Image, ImageParameter, Lane, CanarySize, OnDrainTimeout, DrainTimeoutSeconds, Alarms,
    Calendar, Execution.

    Out: State (`go`, `nothing`, `already`, `blocked`), Reason, Findings (JSON text), and the plan's values.
    """
    name, found = events["Group"], list[Finding]()
    group = group_named(name)
    if group is None:
        found.append(blocker("group", name, "there is no such Auto Scaling group", "name one of this account, region"))
        return ended(events, found)
    image = events["Image"] or seen(found, "image", events["ImageParameter"], promoted, events["ImageParameter"])
    if not re.fullmatch(r"ami-[0-9a-f]{8,17}", image or ""):
        found.append(
            blocker("image", events["ImageParameter"], f"it names no image: {image}", "promote one, or --image")
        )
        return ended(events, found)
    noted = tags_of(group)
    other = noted.get("roll-execution", "") if noted.get("roll") in ("running", "rolling-back") else ""
    other = "" if other == events["Execution"] else other
    if other and seen(found, "earlier roll", other, execution_is_alive, other):
        doing = "rolling it back" if noted["roll"] == "rolling-back" else "rolling it"
        return ended(events, [], "already", f"{name}: the automation execution {other} is {doing} now", Image=image)
    own = template_of(group)
    if not own:
        found.append(
            blocker("template", name, "the group has no launch template", "give it one instead of what it has")
        )
        return ended(events, found, Image=image)
    template = own["LaunchTemplateId"]
    described = seen(found, "template", template, template_version, template, own.get("Version", "$Default"))
    running = seen(found, "hosts", name, running_instances)
    active = seen(found, "refresh", name, active_refreshes, name)
    hooks = seen(found, "hooks", name, hooks_of, name)
    if described is None or running is None or active is None or hooks is None:
        return ended(events, found, Image=image)
    version, data = str(described["VersionNumber"]), described["LaunchTemplateData"]
    policy = (group.get("MixedInstancesPolicy") or {}).get("LaunchTemplate", {})
    overrides = policy.get("Overrides", [])
    old = next((str(one["ImageId"]) for one in overrides if one.get("ImageId")), data.get("ImageId", ""))
    hosts = [one for one in group["Instances"] if one["LifecycleState"] != "Terminated"]
    ids = [one["InstanceId"] for one in hosts]
    images = {i["InstanceId"]: i.get("ImageId") or running.get(i["InstanceId"], {}).get("ImageId", "") for i in hosts}
    done = bool(hosts) and old == image and set(images.values()) == {image}
    left = [hook["LifecycleHookName"] for hook in hooks if hook["LifecycleHookName"] == HOOK]
    if done and not (other or active or left):
        return ended(events, [], "nothing", f"every host of {name} runs {image} already", Image=image)
    found += earlier_roll(group, other, active, bool(left), done)
    found += pinned(name, own, version, [data.get("ImageId", ""), *(one.get("ImageId", "") for one in overrides)])
    found += one_image(name, images, old, image)
    cluster = events["Cluster"] or seen(found, "cluster", name, cluster_of, ids)
    if not cluster:
        say = "no ECS cluster holds a host of this group"
        found.append(blocker("cluster", name, say, "name the cluster, or see whether the hosts' agents are connected"))
        return ended(events, found, Image=image)
    found += at_rest(group)
    found += weights(name, group, overrides)
    found += suspended(name, group.get("SuspendedProcesses", []))
    found += warm_pool(name, group)
    found += foreign_hooks(name, hooks)
    found += metadata(template, data.get("MetadataOptions", {}))
    actions = seen(found, "scheduled action", name, scheduled_actions, name, essential=False)
    found += scheduled(name, actions or [], datetime.now(UTC))
    names = {one["InstanceType"] for one in overrides if one.get("InstanceType")} or {data.get("InstanceType", "")}
    kinds = seen(found, "instance types", template, instance_types, sorted(names - {""}), running) or {}
    wanted = {one: kinds[one] for one in names if one in kinds}
    shown = seen(found, "image", image, image_named, image)
    found += image_fits(image, shown, data.get("BlockDeviceMappings", []), wanted, datetime.now(UTC))
    found += seen(found, "instance profile", template, profile, data, ids, essential=False) or []
    if events["Alarms"]:
        states = seen(found, "alarm", events["Alarms"][0], alarm_states, events["Alarms"])
        found += alarms(events["Alarms"], states) if states is not None else []
    if events["Calendar"]:
        state = seen(found, "change calendar", events["Calendar"], calendar_state, events["Calendar"])
        found += calendar(events["Calendar"], state) if state else []

    managed = seen(found, "capacity provider", cluster, managed_draining, group["AutoScalingGroupARN"], cluster)
    services = seen(found, "services", cluster, services_of, cluster) or []
    members = seen(found, "hosts", cluster, ecs_hosts, cluster, ids) or {}
    tasks = seen(found, "tasks", cluster, tasks_on, cluster, {one["containerInstanceArn"] for one in members.values()})
    tasks = tasks or []
    moving = [one for one in services if one.get("schedulingStrategy") != "DAEMON" and tasks_of(one, tasks)]
    definitions = {}
    for one in moving:
        arn = one["taskDefinition"]
        definitions[one["serviceName"]] = seen(found, "service", one["serviceName"], definition, arn, essential=False)
    user_data = base64.b64decode(data.get("UserData", "") + "==").decode(errors="replace")
    level = "warning" if events["OnDrainTimeout"] == "proceed" else "blocker"
    found += connected(members, [one for one in hosts if one["LifecycleState"] == "InService"])
    for one in services:
        found += steady(one)
    for one in moving:
        rules = [*one.get("placementConstraints", []), *placement_of(definitions[one["serviceName"]])]
        found += movable(one) + placed(one["serviceName"], rules, image, user_data)
    found += standalone(level, tasks)
    shielded = seen(found, "protected tasks", cluster, protected, cluster, tasks) or []
    found += task_protection(level, shielded, tasks)
    lasting = seen(found, "target groups", cluster, drain_times, moving, definitions, essential=False) or {}
    found += drains_in_time(lasting, events["DrainTimeoutSeconds"], events["OnDrainTimeout"])

    desired = group["DesiredCapacity"]
    room, limit = free_room(found, group, wanted, kinds, running)
    reserved = seen(found, "capacity reservation", name, reservations, sorted(wanted), essential=False) or []
    found += market(name, group, data, reserved)
    if only_reserved(group, data) and sum(one["AvailableInstanceCount"] for one in reserved) < room:
        room = sum(one["AvailableInstanceCount"] for one in reserved)
        limit = f"it launches into capacity reservations only, which have {many(room, 'place')} free"
    scarce = any(family(one) in ACCELERATED for one in names)
    swappable = bool(overrides) and all(one.get("ImageId") for one in overrides)
    lane, why, low, high, more = choose_lane(events["Lane"], name, desired, room, limit, scarce, swappable)
    found += more
    if not room or lane == "replace-root-volume":
        found += stuck_tasks(level, members, tasks, moving, definitions)
    preferences: dict[str, Any] = {
        "MinHealthyPercentage": low,
        "SkipMatching": True,
        "ScaleInProtectedInstances": "Refresh",
        "StandbyInstances": "Ignore",
        "InstanceWarmup": warmup(group, own_hook=not managed),
    }
    if lane != "replace-root-volume":
        preferences["MaxHealthyPercentage"] = high
    swaps = lane == "replace-root-volume"
    canary = min(1 if swaps else events["CanarySize"], desired)
    # One host at a time is given a new root volume: a checkpoint above it would take another one out of service.
    percent = canary_percent(canary, desired) if not swaps else max(1, 100 // desired) if desired > 1 else 0
    canary = max(canary, desired * percent // 100)
    checkpoints = {"CheckpointPercentages": [percent, 100], "CheckpointDelay": CHECKPOINT_DELAY}
    plan = {
        "Cluster": cluster,
        "TemplateId": template,
        "FromVersion": version,
        "ToVersion": seen(found, "template", template, made_before, template, version, data, image) or "",
        "FromImage": old,
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
        "DrainSeconds": math.ceil(max(lasting.values(), default=START_SECONDS + STOP_SECONDS)),
    }
    return ended(events, found, **plan)


# -- findings ----------------------------------------------------------------------------------------------------------


def finding(level: str, check: str, resource: str, what: str, do: str) -> Finding:
    return {"level": level, "check": check, "resource": resource, "what": what[:400], "do": do[:400]}


def blocker(check: str, resource: str, what: str, do: str) -> Finding:
    return finding("blocker", check, resource, what, do)


def warning(check: str, resource: str, what: str, do: str) -> Finding:
    return finding("warning", check, resource, what, do)


def seen(
    found: list[Finding], check: str, resource: str, look: Callable[..., Any], *given: Any, essential: bool = True
) -> Any:
    """What AWS answers. Where it refuses for good: None, and a finding, a blocker when no roll is safe without it."""
    for attempt in range(1, TRIES + 1):
        try:
            return look(*given)
        except ClientError as error:
            if is_passing(error):
                if attempt < TRIES:
                    time.sleep(5)
                    continue
                if essential:
                    raise  # the step's next attempt asks again
            what = f"could not be looked at: {error.operation_name} answers {error_code(error)}"
            do = "see that the role of Ovenproof-Preflight may call it, and that what it names is there"
            found.append(finding("blocker" if essential else "warning", check, resource, what, do))
            return None
    return None


def many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def short(items: list[str], most: int = 5) -> str:
    """The items, or the first of them and how many more there are."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def ended(
    events: dict[str, Any], found: list[Finding], state: str = "", reason: str = "", **plan: Any
) -> dict[str, Any]:
    """Everything the documents expect, with what is known. Without a state the findings decide."""
    blockers = [one for one in found if one["level"] == "blocker"]
    ordered = [*blockers, *(one for one in found if one["level"] != "blocker")]
    whole = len(ordered)
    while len(json.dumps(ordered)) > FINDINGS_BYTES - 500:
        ordered.pop()
    if len(ordered) < whole:
        do = "mend these, and preflight shows the rest"
        ordered.append(warning("findings", events["Group"], f"not shown: {many(whole - len(ordered), 'finding')}", do))
    said = [f"{one['check']} {one['resource']}: {one['what']}" for one in blockers]
    text = reason or "; ".join(said)
    if len(text) > 500:
        rest = f" … {len(blockers)} blockers in all: {', '.join(sorted({one['resource'] for one in blockers}))}"[:240]
        text = text[: 500 - len(rest)] + rest
    return {
        "State": state or ("blocked" if blockers else "go"),
        "Reason": text,
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
        "DrainSeconds": 0,
        "Since": str(time.time()),
        **plan,
    }


# -- what AWS is asked -------------------------------------------------------------------------------------------------


def paged(call: Callable[..., Any], key: str, given: dict[str, Any]) -> list[Any]:
    """All pages of a list."""
    items, page = list[Any](), dict(given)
    token = "nextToken" if key[0].islower() else "NextToken"  # ECS writes its members in lower case
    while True:
        answer = call(**page)
        items += answer[key]
        if not answer.get(token):
            return items
        page[token] = answer[token]


def promoted(parameter: str) -> str:
    return str(boto3.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"])


def template_version(template: str, version: str) -> dict[str, Any]:
    answer = boto3.client("ec2").describe_launch_template_versions(LaunchTemplateId=template, Versions=[version])
    return dict(answer["LaunchTemplateVersions"][0])


def made_before(template: str, version: str, data: dict[str, Any], image: str) -> str:
    """The newest version that is `version` but for its image: an earlier start made it. Empty when there is none."""
    filters = [{"Name": "image-id", "Values": [image]}]
    given = {"LaunchTemplateId": template, "Filters": filters, "MaxResults": 200}
    listed = paged(boto3.client("ec2").describe_launch_template_versions, "LaunchTemplateVersions", given)
    same = [one["VersionNumber"] for one in listed if one["LaunchTemplateData"] == {**data, "ImageId": image}]
    return str(max((number for number in same if str(number) != version), default=""))


def running_instances() -> dict[str, dict[str, Any]]:
    """Every instance of the account in this region that counts against a quota."""
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    listed = paged(boto3.client("ec2").describe_instances, "Reservations", {"Filters": states, "MaxResults": 1000})
    return {one["InstanceId"]: one for reservation in listed for one in reservation["Instances"]}


def active_refreshes(group: str) -> list[dict[str, Any]]:
    return [one for one in refreshes_of(group) if one["Status"] in ACTIVE_REFRESH]


def hooks_of(group: str) -> list[Any]:
    return list(boto3.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=group)["LifecycleHooks"])


def scheduled_actions(group: str) -> list[Any]:
    call = boto3.client("autoscaling").describe_scheduled_actions
    return paged(call, "ScheduledUpdateGroupActions", {"AutoScalingGroupName": group})


def instance_types(names: list[str], running: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The group's types and those that run, by their names."""
    ec2, kinds = boto3.client("ec2"), dict[str, Any]()
    for some in chunks(sorted({*names, *(one["InstanceType"] for one in running.values())}), 100):
        kinds |= {one["InstanceType"]: one for one in ec2.describe_instance_types(InstanceTypes=some)["InstanceTypes"]}
    return kinds


def image_named(image: str) -> dict[str, Any]:
    """The image; empty when there is none."""
    try:
        listed = boto3.client("ec2").describe_images(ImageIds=[image], IncludeDeprecated=True)["Images"]
    except ClientError as error:
        if not error_code(error).startswith("InvalidAMIID"):
            raise
        return {}
    return dict(listed[0]) if listed else {}


def cluster_of(instances: list[str]) -> str:
    """The cluster that one of the instances is a container instance of; empty when none is."""
    ecs = boto3.client("ecs")
    if not instances:
        return ""
    wanted = f"ec2InstanceId in [{', '.join(instances[:20])}]"
    for arn in paged(ecs.list_clusters, "clusterArns", {}):
        if ecs.list_container_instances(cluster=arn, filter=wanted)["containerInstanceArns"]:
            return str(arn).rpartition("/")[2]
    return ""


def managed_draining(group_arn: str, cluster: str) -> bool:
    """Whether a capacity provider of the cluster drains this group's hosts itself."""
    ecs = boto3.client("ecs")
    clusters = ecs.describe_clusters(clusters=[cluster])["clusters"]
    names = [name for name in clusters[0].get("capacityProviders", []) if not name.startswith("FARGATE")]
    providers = [
        one["autoScalingGroupProvider"]
        for some in chunks(names, 10)
        for one in ecs.describe_capacity_providers(capacityProviders=some)["capacityProviders"]
        if "autoScalingGroupProvider" in one
    ]
    own = [one for one in providers if one["autoScalingGroupArn"] == group_arn]
    return any(one.get("managedDraining") == "ENABLED" for one in own)


def tasks_on(cluster: str, hosts: set[str]) -> list[dict[str, Any]]:
    """The tasks of those container instances. The whole cluster is read: 100 tasks a call, not two calls a host."""
    ecs = boto3.client("ecs")
    arns = paged(ecs.list_tasks, "taskArns", {"cluster": cluster, "maxResults": 100})
    tasks = [one for some in chunks(arns, 100) for one in ecs.describe_tasks(cluster=cluster, tasks=some)["tasks"]]
    return [one for one in tasks if one.get("containerInstanceArn") in hosts]


def protected(cluster: str, tasks: list[dict[str, Any]]) -> list[Any]:
    """Those of the services' tasks that are protected from scale-in."""
    ecs = boto3.client("ecs")
    arns = [one["taskArn"] for one in tasks if one.get("group", "").startswith("service:")]
    shown = [
        one
        for some in chunks(arns, 100)
        for one in ecs.get_task_protection(cluster=cluster, tasks=some)["protectedTasks"]
    ]
    return [one for one in shown if one.get("protectionEnabled")]


def definition(arn: str) -> dict[str, Any]:
    return dict(boto3.client("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"])


def drain_times(services: list[dict[str, Any]], definitions: dict[str, Any]) -> dict[str, float]:
    """Seconds that a task of each service may take to move: start, health checks, deregistration, stop."""
    elb, lasting = boto3.client("elbv2"), dict[str, float]()
    for service in services:
        containers = (definitions[service["serviceName"]] or {}).get("containerDefinitions", [])
        health = delay = 0.0
        for arn in [one["targetGroupArn"] for one in service.get("loadBalancers", []) if one.get("targetGroupArn")]:
            [target] = elb.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]
            health = max(health, target["HealthCheckIntervalSeconds"] * target["HealthyThresholdCount"])
            attributes = elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
            named = {one["Key"]: one["Value"] for one in attributes}
            delay = max(delay, float(named.get("deregistration_delay.timeout_seconds", DEREGISTRATION_SECONDS)))
        stop = max((one.get("stopTimeout", STOP_SECONDS) for one in containers), default=STOP_SECONDS)
        lasting[service["serviceName"]] = START_SECONDS + health + delay + stop
    return lasting


def alarm_states(names: list[str]) -> dict[str, str]:
    call = boto3.client("cloudwatch").describe_alarms
    found: dict[str, str] = {}
    for some in chunks(names, 100):
        answer = call(AlarmNames=some, AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        both = [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
        found |= {one["AlarmName"]: one["StateValue"] for one in both}
    return found


def calendar_state(arn: str) -> dict[str, Any]:
    return dict(boto3.client("ssm").get_calendar_state(CalendarNames=[arn]))


def reservations(kinds: list[str]) -> list[Any]:
    """The active capacity reservations for the types."""
    if not kinds:
        return []
    filters = [{"Name": "instance-type", "Values": kinds}, {"Name": "state", "Values": ["active"]}]
    return paged(boto3.client("ec2").describe_capacity_reservations, "CapacityReservations", {"Filters": filters})


def profile(data: dict[str, Any], hosts: list[str]) -> list[Finding]:
    """The hosts' role allows SSM, without which nothing can be proven on them."""
    given = data.get("IamInstanceProfile", {})
    name = given.get("Name") or given.get("Arn", "").rpartition("/")[2]
    do = "attach AmazonSSMManagedInstanceCore to its role"
    if not name:
        what = "it names no instance profile, so SSM cannot reach the hosts"
        return [blocker("instance profile", "launch template", what, f"give it one; {do}")]
    iam, unread = boto3.client("iam"), list[str]()
    for role in iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        policies = iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
        if any(policy["PolicyName"] in SSM_POLICIES for policy in policies):
            return []
        for inline in iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]:
            if allows_ssm(iam.get_role_policy(RoleName=role["RoleName"], PolicyName=inline)["PolicyDocument"]):
                return []
        unread += [policy["PolicyName"] for policy in policies]
    asked: list[Any] = [{"Key": "InstanceIds", "Values": hosts[:50]}]
    listed = boto3.client("ssm").describe_instance_information(Filters=asked)["InstanceInformationList"]
    if any(one["PingStatus"] == "Online" for one in listed):
        return []  # whatever allows it, SSM reaches a host with this profile
    if unread:
        what = f"none of its policies is known to allow SSM ({short(unread)}), and SSM reaches none of its hosts"
        return [warning("instance profile", name, what, f"see that one allows ssm:UpdateInstanceInformation, or {do}")]
    return [blocker("instance profile", name, "it allows no SSM, so nothing can be proven on the hosts", do)]


def allows_ssm(document: Any) -> bool:
    """Whether a policy, decoded as boto3 does it or as IAM sends it, lets an instance report to SSM."""
    if isinstance(document, str):
        document = json.loads(unquote(document))
    statements = document.get("Statement", [])
    for one in statements if isinstance(statements, list) else [statements]:
        actions = one.get("Action", [])
        for action in actions if isinstance(actions, list) else [actions]:
            if one["Effect"] == "Allow" and fnmatch.fnmatch("ssm:updateinstanceinformation", action.lower()):
                return True
    return False


# -- checks: the group -------------------------------------------------------------------------------------------------


def earlier_roll(
    group: dict[str, Any], other: str, active: list[dict[str, Any]], hook_left: bool, done: bool
) -> list[Finding]:
    """What an earlier roll that nobody runs any more left behind, or a refresh of somebody else."""
    name, hosts = group["AutoScalingGroupName"], group["Instances"]
    noted = tags_of(group)
    before = noted.get("roll-from", "").rpartition(":")[2]
    moved = any(not is_on(one, before, noted.get("roll-from-image", "")) for one in hosts)
    held = [one for one in hosts if one["LifecycleState"].startswith("Terminating:Wait")]
    back = f"./run rollback --group {name}, then roll again"
    if other and done:
        do = f"./run prove-fleet --group {name} says whether all is well; {back} where it is not"
        return [blocker("earlier roll", name, f"{other} broke off before its last gate, with every host replaced", do)]
    if other and (active or held or moved):
        return [blocker("earlier roll", name, f"an earlier roll broke off half way: execution {other}", back)]
    if active:
        what = f"the instance refresh {active[0]['InstanceRefreshId']} is {active[0]['Status']}"
        return [blocker("refresh", name, what, "wait for its end, or cancel it")]
    if other:
        what = f"an earlier roll broke off before it replaced a host: execution {other}"
        return [warning("earlier roll", name, what, "nothing: this one takes over what it made")]
    if hook_left and done:
        do = f"aws autoscaling delete-lifecycle-hook --auto-scaling-group-name {name} --lifecycle-hook-name {HOOK}"
        return [blocker("hook", name, f"the hook {HOOK} was left on it, and every host runs the image already", do)]
    return []


def pinned(name: str, own: dict[str, Any], version: str, images: list[str]) -> list[Finding]:
    """The way back needs a literal version number and a literal image."""
    found, said = list[Finding](), own.get("Version", "$Default")
    if not said.isdigit():
        template = f"LaunchTemplateId={own['LaunchTemplateId']},Version={version}"
        what = f"the group uses the template's {said}, which anybody can move and to which no refresh can go back"
        do = f"aws autoscaling update-auto-scaling-group --auto-scaling-group-name {name} --launch-template {template}"
        found.append(blocker("template version", name, what, do))
    for image in sorted({one for one in images if one.startswith("resolve:")}):
        what = f"version {version} takes its image from {image}: going back to it could bring another image"
        do = "make a version with the literal image id that runs now, and pin the group to it"
        found.append(blocker("template image", own["LaunchTemplateId"], what, do))
    return found


def one_image(name: str, images: dict[str, str], old: str, image: str) -> list[Finding]:
    """The hosts run what the group names: to that a roll goes back."""
    if old.startswith("resolve:"):
        return []
    others = sorted(one for one, runs in images.items() if runs != old)
    do = "set the group back to the template version that its hosts run, then roll"
    if others and old == image:
        what = f"the group names {image} already, {many(len(others), 'host')} on another image: there is no way back"
        return [blocker("image of the hosts", name, what, do)]
    if others and len(others) == len(images):
        return [blocker("image of the hosts", name, f"the group names {old}, and no host runs it", do)]
    if others:
        what = f"{many(len(others), 'host')} not on {old}, which the group names, and to which a roll would go back"
        return [warning("image of the hosts", short(others), what, "nothing, where that is what you want")]
    return []


def at_rest(group: dict[str, Any]) -> list[Finding]:
    """No host comes or goes, none stands aside."""
    name, found = group["AutoScalingGroupName"], list[Finding]()
    states: dict[str, list[str]] = {}
    for instance in group["Instances"]:
        states.setdefault(instance["LifecycleState"], []).append(instance["InstanceId"])
    if standby := states.pop("Standby", []):
        what = f"{many(len(standby), 'host')} in Standby would stay on the old image"
        found.append(blocker("standby", short(standby), what, "aws autoscaling exit-standby, or terminate them"))
    serving, desired = states.pop("InService", []), group["DesiredCapacity"]
    coming = ", ".join(f"{len(ids)} {state}" for state, ids in sorted(states.items()))
    if coming:
        do = "wait until the group is at rest"
        found.append(blocker("scaling", name, f"hosts come or go: {coming}", do))
    elif len(serving) != desired:
        what = f"{many(len(serving), 'host')} in service, {desired} desired"
        found.append(blocker("scaling", name, what, "wait until the group is at rest"))
    elif not desired:
        what = "the group has no host, so nothing can be proven"
        found.append(blocker("scaling", name, what, "give it one host, or set its template by hand"))
    ill = [one["InstanceId"] for one in group["Instances"] if one.get("HealthStatus", "Healthy").lower() != "healthy"]
    if ill:
        found.append(blocker("health", short(ill), f"{many(len(ill), 'host')} unhealthy", "let the group replace them"))
    if kept := [one["InstanceId"] for one in group["Instances"] if one.get("ProtectedFromScaleIn")]:
        what = f"protected from scale-in: {many(len(kept), 'host')}; the refresh replaces them all the same"
        found.append(warning("protection", short(kept), what, "nothing, unless somebody means them to stay"))
    return found


def weights(name: str, group: dict[str, Any], overrides: list[dict[str, Any]]) -> list[Finding]:
    """The documents count hosts, so capacity has to be counted in hosts."""
    weighted = any(one.get("WeightedCapacity", "1") != "1" for one in overrides)
    if not weighted and group.get("DesiredCapacityType", "units") == "units":
        return []
    what = "its capacity is counted in weights, not in hosts, and a refresh may replace all of them at once"
    return [blocker("weights", name, what, "use instance types of one size without weights")]


def suspended(name: str, processes: list[dict[str, Any]]) -> list[Finding]:
    found = []
    for process in sorted(one["ProcessName"] for one in processes):
        do = f"aws autoscaling resume-processes --auto-scaling-group-name {name} --scaling-processes {process}"
        needed = process in NEEDED_PROCESSES
        what = f"{process} is suspended" + (", and a refresh needs it" if needed else "")
        found.append(finding("blocker" if needed else "warning", "suspended process", name, what, do))
    return found


def warm_pool(name: str, group: dict[str, Any]) -> list[Finding]:
    if not group.get("WarmPoolConfiguration"):
        return []
    do = f"aws autoscaling delete-warm-pool --auto-scaling-group-name {name}, and put it back after the roll"
    return [blocker("warm pool", name, "the group has a warm pool, whose hosts would keep the old image", do)]


def foreign_hooks(name: str, hooks: list[dict[str, Any]]) -> list[Finding]:
    """Hooks of others: they hold every host that comes or goes. ECS's own belongs to managed draining."""
    others = [one for one in hooks if not one["LifecycleHookName"].startswith((HOOK, "ecs-managed-draining"))]
    return [
        warning(
            "hook",
            f"{name}/{one['LifecycleHookName']}",
            f"it holds each host for up to {one.get('HeartbeatTimeout', 3600)} s, then {one.get('DefaultResult')}",
            "see that whatever answers it will do so during the roll",
        )
        for one in others
    ]


def scheduled(name: str, actions: list[dict[str, Any]], now: datetime) -> list[Finding]:
    return [
        warning(
            "scheduled action",
            name,
            f"{one['ScheduledActionName']} changes the group's size at {one['StartTime']:%H:%M} UTC",
            "roll after it, if it matters",
        )
        for one in actions
        if one.get("StartTime") and now <= one["StartTime"] <= now + SOON
    ]


def metadata(template: str, options: dict[str, Any]) -> list[Finding]:
    found = []
    if options.get("HttpEndpoint") == "disabled":
        what = "the instance metadata service is off, and GuardDuty's agent takes its identity from there"
        found.append(blocker("metadata", template, what, "set HttpEndpoint to enabled"))
    if options.get("HttpTokens") != "required":
        found.append(warning("metadata", template, "IMDSv1 is allowed", "set HttpTokens to required"))
    return found


def image_fits(
    image: str, shown: dict[str, Any] | None, mappings: list[dict[str, Any]], kinds: dict[str, Any], now: datetime
) -> list[Finding]:
    """The image is there, fit to launch, proven, of the right architecture, and its root fits the template's."""
    if not shown:
        what = "there is no such image here, or it is not shared with this account"
        return [] if shown is None else [blocker("image", image, what, "name another one, or copy and share it")]
    found = []
    if shown["State"] != "available":
        found.append(blocker("image", image, f"the image is {shown['State']}", "wait until it is available"))
    since = str(shown.get("DeprecationTime", ""))
    if since and since <= now.strftime("%Y-%m-%dT%H:%M:%S"):
        found.append(blocker("image", image, f"the image is deprecated since {since}", "roll onto a newer one"))
    state = {tag["Key"]: tag["Value"] for tag in shown.get("Tags", [])}.get("OvenproofState")
    if state == "baked":
        found.append(blocker("image", image, "it was baked and not proven", "./run build-image proves it"))
    elif state != "proven":
        what = "it carries no tag that says it was proven: another account's image, or not one of Ovenproof's"
        found.append(warning("image", image, what, "know where it comes from; the canary is proven all the same"))
    for name, kind in sorted(kinds.items()):
        if shown["Architecture"] not in kind["ProcessorInfo"]["SupportedArchitectures"]:
            what = f"the image is {shown['Architecture']}, {name} is not"
            found.append(blocker("architecture", image, what, "roll this group onto the image of its architecture"))
    root = shown.get("RootDeviceName", "")
    own = {one.get("DeviceName"): one.get("Ebs", {}).get("VolumeSize") for one in shown.get("BlockDeviceMappings", [])}
    given = {str(one.get("DeviceName")): one.get("Ebs", {}).get("VolumeSize") for one in mappings}
    needs, has = own.get(root) or 0, given.get(root)
    if has is not None and has < needs:
        do = f"make {root} at least {needs} GiB in the template"
        what = f"its root needs {needs} GiB, the template gives {root} {has} GiB"
        found.append(blocker("block devices", image, what, do))
    if given and root not in given:
        what = f"the template maps {short(sorted(given))}, not the image's root {root}: that is a second volume"
        found.append(warning("block devices", image, what, "name the root device in the template"))
    return found


def alarms(names: list[str], states: dict[str, str]) -> list[Finding]:
    found = []
    for name in names:
        if name not in states:
            found.append(blocker("alarm", name, "there is no such alarm", "name one that exists, or leave it out"))
        elif states[name] == "ALARM":
            found.append(blocker("alarm", name, "it is in ALARM", "mend what it tells of: a roll begins in quiet"))
    return found


def calendar(arn: str, state: dict[str, Any]) -> list[Finding]:
    if state["State"] == "OPEN":
        return []
    what = f"the calendar is {state['State']} until {state.get('NextTransitionTime') or 'further notice'}"
    return [blocker("change calendar", arn, what, "roll when it is open")]


def only_reserved(group: dict[str, Any], data: dict[str, Any]) -> bool:
    """Whether hosts are launched into capacity reservations and nowhere else."""
    own = group.get("CapacityReservationSpecification", {}).get("CapacityReservationPreference", "")
    given = data.get("CapacityReservationSpecification", {})
    preference = given.get("CapacityReservationPreference", "")
    return "only" in own or "only" in preference or bool(given.get("CapacityReservationTarget"))


def market(name: str, group: dict[str, Any], data: dict[str, Any], reserved: list[dict[str, Any]]) -> list[Finding]:
    found, desired = list[Finding](), group["DesiredCapacity"]
    distribution = (group.get("MixedInstancesPolicy") or {}).get("InstancesDistribution", {})
    if distribution.get("OnDemandPercentageAboveBaseCapacity", 100) < 100 or data.get("InstanceMarketOptions"):
        what = "some hosts are Spot: EC2 may have none for a new one, or take it away in the middle"
        found.append(warning("spot", name, what, "roll when there is room"))
    free = sum(one["AvailableInstanceCount"] for one in reserved)
    if reserved and free < desired:
        what = f"free in its capacity reservations: {free}, of {many(desired, 'host')}: new ones may find no capacity"
        found.append(warning("capacity reservation", name, what, "enlarge the reservation, or roll in batches"))
    return found


# -- checks: what runs on the hosts ------------------------------------------------------------------------------------


def tasks_of(service: dict[str, Any], tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in tasks if one.get("group") == f"service:{service['serviceName']}"]


def connected(members: dict[str, dict[str, Any]], serving: list[dict[str, Any]]) -> list[Finding]:
    """ECS can speak with the hosts: it moves nothing off one that it does not reach."""
    found = []
    mute = sorted(one for one, host in members.items() if not host["agentConnected"])
    if mute:
        what = f"no agent connected on {many(len(mute), 'host')}: the tasks there would die with the host"
        found.append(blocker("agent", short(mute), what, "restart the agent, or terminate the host"))
    absent = sorted(one["InstanceId"] for one in serving if one["InstanceId"] not in members)
    if absent:
        what = f"{many(len(absent), 'host')} in service, and not in the cluster"
        found.append(warning("agent", short(absent), what, "see why their agents did not register"))
    draining = sorted(one for one, host in members.items() if host["status"] == "DRAINING")
    if draining:
        what = f"{many(len(draining), 'host')} DRAINING already"
        found.append(warning("agent", short(draining), what, "set them ACTIVE, unless somebody means them to go"))
    return found


def steady(service: dict[str, Any]) -> list[Finding]:
    if is_steady(service):
        return []
    what = (
        f"it is not steady: {service['runningCount']} of {service['desiredCount']} tasks run, "
        f"{len(service.get('deployments', []))} deployments"
    )
    return [blocker("service", service["serviceName"], what, "wait until its deployment has ended, or mend it")]


def least_of(service: dict[str, Any]) -> int:
    """How many of its tasks have to run at any time: minimumHealthyPercent, rounded up."""
    percent: int = service.get("deploymentConfiguration", {}).get("minimumHealthyPercent", 100)
    return math.ceil(int(service["desiredCount"]) * percent / 100)


def movable(service: dict[str, Any]) -> list[Finding]:
    """ECS may stop a task or start another one before: minimum is rounded up, maximum down (ECS developer guide)."""
    limits, wanted = service.get("deploymentConfiguration", {}), service["desiredCount"]
    low, high = limits.get("minimumHealthyPercent", 100), limits.get("maximumPercent", 200)
    if not wanted or least_of(service) < wanted or math.floor(wanted * high / 100) > wanted:
        return []
    what = (
        f"minimumHealthyPercent {low}, maximumPercent {high}: of {wanted} tasks ECS may neither stop one nor start one"
    )
    do = "raise maximumPercent so that one more may run, or lower minimumHealthyPercent by one task"
    return [blocker("service", service["serviceName"], what, do)]


def placement_of(shown: dict[str, Any] | None) -> list[dict[str, Any]]:
    return list((shown or {}).get("placementConstraints", []))


def placed(name: str, rules: list[dict[str, Any]], image: str, user_data: str) -> list[Finding]:
    """No placement constraint asks for what only the old hosts have."""
    found = []
    for expression in sorted({one.get("expression", "") for one in rules} - {""}):
        bound = re.search(r"ec2InstanceId|ecs\.instance-id|containerInstance\b", expression)
        if bound or ("ecs.ami-id" in expression and image not in expression):
            what = f"its placement constraint binds it to the old hosts: {expression}"
            found.append(blocker("service", name, what, "take the constraint away, or let the new image fulfil it"))
            continue
        own = [one for one in re.findall(r"attribute:([\w.-]+)", expression) if not one.startswith("ecs.")]
        if strange := sorted({one for one in own if one not in user_data}):
            what = f"its placement constraint asks for {short(strange)}, which the template's user data does not set"
            do = "set it there by ECS_INSTANCE_ATTRIBUTES, unless the new image does"
            found.append(warning("service", name, what, do))
    return found


def standalone(level: str, tasks: list[dict[str, Any]]) -> list[Finding]:
    """Tasks of no service: ECS does not move them, so they die with their host."""
    loners = [one for one in tasks if not one.get("group", "").startswith("service:")]
    if not loners:
        return []
    families = sorted({one.get("group", "").removeprefix("family:") for one in loners})
    named = short([one["taskArn"].rpartition("/")[2] for one in loners], 3)
    what = f"{many(len(loners), 'task')} of no service, which ECS does not move: {named}"
    return [finding(level, "standalone tasks", short(families), what, "let them end, or stop them")]


def task_protection(level: str, shielded: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> list[Finding]:
    groups = {one["taskArn"]: one["group"].removeprefix("service:") for one in tasks}
    found = []
    for service, count in sorted(Counter(groups[one["taskArn"]] for one in shielded).items()):
        ends = [one["expirationDate"] for one in shielded if groups[one["taskArn"]] == service]
        what = f"{many(count, 'task')} protected from scale-in until {max(ends):%Y-%m-%d %H:%M} UTC"
        do = "aws ecs update-task-protection --no-protection-enabled, or wait"
        found.append(finding(level, "protected tasks", service, what, do))
    return found


def drains_in_time(lasting: dict[str, float], limit: float, on_timeout: str) -> list[Finding]:
    """No service's own settings make a drain longer than it may last."""
    if not limit:
        return []
    outcome = {
        "fail": "the roll would fail",
        "skip-host": "its hosts would stay",
        "proceed": "its tasks would be cut off",
    }
    return [
        finding(
            "blocker" if on_timeout == "fail" else "warning",
            "drain time",
            name,
            f"its tasks may take {seconds:.0f} s to move, DrainTimeoutSeconds is {limit}: {outcome[on_timeout]}",
            "lower its deregistration delay, health checks or stopTimeout, or raise DrainTimeoutSeconds",
        )
        for name, seconds in sorted(lasting.items())
        if seconds > limit
    ]


def size_of(shown: dict[str, Any]) -> tuple[int, int, set[str]]:
    """CPU units, MiB and host ports that a task takes from its host."""
    containers = shown.get("containerDefinitions", [])
    cpu = int(shown.get("cpu") or sum(one.get("cpu", 0) for one in containers))
    held = sum(one.get("memoryReservation") or one.get("memory", 0) for one in containers)
    mode, ports = shown.get("networkMode"), set[str]()
    if mode != "awsvpc":
        for one in [port for container in containers for port in container.get("portMappings", [])]:
            port = one.get("hostPort") or (one["containerPort"] if mode == "host" else 0)
            ports |= {str(port)} if port else set()
    return cpu, int(shown.get("memory") or held), ports


def left_of(host: dict[str, Any]) -> tuple[int, int, set[str]]:
    """CPU units and MiB that a host has left, and the ports that are taken."""
    left = {one["name"]: one for one in host.get("remainingResources", [])}
    cpu, memory = (left.get(name, {}).get("integerValue", 0) for name in ("CPU", "MEMORY"))
    return cpu, memory, set(left.get("PORTS", {}).get("stringSetValue", []))


def stuck_tasks(
    level: str,
    members: dict[str, dict[str, Any]],
    tasks: list[dict[str, Any]],
    services: list[dict[str, Any]],
    definitions: dict[str, Any],
) -> list[Finding]:
    """Where a host goes before another one comes: what has to run on finds room on the hosts that stay.

    A service's tasks above its minimum may stop first. The fullest hosts are looked at, as the others have it easier.
    """
    hosts = {host["containerInstanceArn"]: host for host in members.values()}
    on = Counter((one["containerInstanceArn"], one.get("group", "")) for one in tasks)
    total = Counter(one["containerInstanceArn"] for one in tasks)
    stuck: dict[str, str] = {}
    for leaving, _ in total.most_common(20):
        free = {arn: left_of(host) for arn, host in hosts.items() if arn != leaving}
        for service in services:
            name, group = service["serviceName"], f"service:{service['serviceName']}"
            if not definitions.get(name):
                continue
            cpu, memory, ports = size_of(definitions[name])
            alone = any(one.get("type") == "distinctInstance" for one in service.get("placementConstraints", []))
            spare = max(0, service["runningCount"] - least_of(service))
            for _ in range(on[leaving, group] - spare):
                for arn, (has_cpu, has_memory, taken) in free.items():
                    if cpu <= has_cpu and memory <= has_memory and not ports & taken and not (alone and on[arn, group]):
                        free[arn] = (has_cpu - cpu, has_memory - memory, taken | ports)
                        break
                else:
                    why = f"host ports {', '.join(sorted(ports))}" if ports else f"{cpu} CPU units and {memory} MiB"
                    stuck.setdefault(name, f"{why}{', one a host' if alone else ''}")
    do = "make room for one host more, or lower its minimumHealthyPercent"
    return [
        finding(level, "service", name, f"its tasks fit on no other host when theirs goes: each needs {why}", do)
        for name, why in sorted(stuck.items())
    ]


# -- the lane ----------------------------------------------------------------------------------------------------------


def family(kind: str) -> str:
    """What an instance type's name begins with."""
    return re.match("[a-z]*", kind)[0]  # type: ignore[index]  # matches always


def free_room(
    found: list[Finding],
    group: dict[str, Any],
    wanted: dict[str, Any],
    kinds: dict[str, Any],
    running: dict[str, dict[str, Any]],
) -> tuple[int, str]:
    """How many hosts more the group's maximum, the subnets and the account's quota allow, and which is the limit."""
    name, subnets = group["AutoScalingGroupName"], [one for one in group["VPCZoneIdentifier"].split(",") if one]
    limits = [(group["MaxSize"] - group["DesiredCapacity"], f"the group's maximum is {group['MaxSize']}")]
    addresses = seen(found, "subnets", name, free_addresses, subnets, essential=False)
    if addresses is not None:
        limits.append((addresses, f"its subnets have {addresses} addresses left"))
    for code, families in QUOTAS:
        each = max(
            (one["VCpuInfo"]["DefaultVCpus"] for kind, one in wanted.items() if family(kind) in families), default=0
        )
        if each and (quota := seen(found, "quota", code, quota_of, code, essential=False)) is not None:
            free = quota - sum(
                kinds[one["InstanceType"]]["VCpuInfo"]["DefaultVCpus"]
                for one in running.values()
                if one["InstanceType"] in kinds
                and family(one["InstanceType"]) in families
                and one.get("InstanceLifecycle") != "spot"
            )
            limits.append((free // each, f"the account's quota {code} leaves {free} vCPU"))
    room, why = min(limits)
    return max(0, room), why


def free_addresses(subnets: list[str]) -> int:
    listed = boto3.client("ec2").describe_subnets(SubnetIds=subnets)["Subnets"]
    return sum(one["AvailableIpAddressCount"] for one in listed)


def quota_of(code: str) -> int:
    quota = boto3.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
    return int(quota["Value"])


def choose_lane(
    asked: str, name: str, desired: int, room: int, limit: str, scarce: bool, swappable: bool
) -> tuple[str, str, int, int, list[Finding]]:
    """The lane, why, the refresh's healthy percentages (minimum, maximum), and findings about it."""
    fewer = max(0, (desired - 1) * 100 // max(1, desired))  # one host less than desired
    swap = "replace-root-volume"
    if asked == swap and not swappable:
        what = "replace-root-volume needs a mixed instances policy in which every override names an image"
        return swap, "it was asked for", 0, 100, [blocker("lane", name, what, "use --lane surge or rolling")]
    if asked == swap or (asked == "auto" and swappable and room < desired and (scarce or desired == 1)):
        why = "it was asked for" if asked == swap else f"no room to double, and hosts of its kind are scarce: {limit}"
        what = "each host is out of service while its root volume is swapped, one after the other"
        if desired == 1:
            what = "the only host is out of service while its root volume is swapped: nothing serves, and no canary can"
        return swap, why, fewer, 0, [warning("lane", name, what, "nothing: no other host takes its place meanwhile")]
    if asked == "surge" or (asked == "auto" and room >= desired):
        if asked == "auto":
            return (
                "surge",
                f"there is room for {many(desired, 'host')} more, so that every task moves once",
                100,
                200,
                [],
            )
        what = f"a surge launches {many(desired, 'host')} more, and {limit}"
        none = [] if room >= desired else [blocker("lane", name, what, "use --lane rolling, or make room")]
        return "surge", "it was asked for", 100, 200, none
    why = "it was asked for" if asked == "rolling" else f"no room to double: {limit}"
    if room:
        # Rounded down, so that the refresh asks for no host too many however AWS rounds it; an explicit 100 still
        # launches one before it terminates one (Auto Scaling API reference, RefreshPreferences).
        return "rolling", why, 100, min(200, 100 * (desired + room) // max(1, desired)), []
    less = "capacity falls below desired while hosts are replaced"
    level, do = ("warning", "make room for one host more") if asked == "rolling" else ("blocker", "")
    do = do or "make room for one host more, or accept it with --lane rolling"
    more = finding(level, "lane", name, f"there is no room for one host more, {limit}: {less}", do)
    return "rolling", f"{why}; {less}", min(90, fewer), 100, [more]


def canary_percent(canary: int, desired: int) -> int:
    """The checkpoint at which at least the canary is replaced, whether AWS rounds up or down; 0 for none."""
    percent = math.ceil(canary * 100 / max(1, desired))
    return percent if 0 < percent < 100 and canary < desired else 0
