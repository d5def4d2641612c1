"""Auto Scaling's operations."""

from typing import TYPE_CHECKING, Any

from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.answers.registry import Answer, Parameters, operation, page
from pipeline.rehearsal.fleet.groups import LAUNCHING, TERMINATING, parsed
from pipeline.rehearsal.fleet.state import GroupState, HookState, Host, Refresh
from pipeline.rehearsal.fleet.unknown import only_known

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

PROCESSES = (
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
)


def _specification(world: "World", template_id: str, version: str) -> dict[str, str]:
    return {
        "LaunchTemplateId": template_id,
        "LaunchTemplateName": world.templates[template_id].name,
        "Version": version,
    }


def _instance(world: "World", host: Host, *, with_group: bool = False) -> dict[str, Any]:
    group = host.group
    instance: dict[str, Any] = {
        "InstanceId": host.id,
        "InstanceType": host.instance_type,
        "AvailabilityZone": host.zone,
        "LifecycleState": world.groups.shown_state(host),
        "ProtectedFromScaleIn": host.protected,
        "LaunchTemplate": _specification(world, host.template_id, str(host.version)),
    }
    if host.root_since is not None:
        instance["ImageId"] = host.image  # Instance.ImageId: filled for root-replaced ones
    if with_group and group is not None:
        instance["AutoScalingGroupName"] = group.spec.name
        instance["HealthStatus"] = "HEALTHY" if host.alive else "UNHEALTHY"
    else:
        instance["HealthStatus"] = "Healthy" if host.alive else "Unhealthy"
    return instance


def _visible(world: "World", host: Host) -> bool:
    """A host that a read sees already."""
    return not world.lag or host.launched < 0 or world.t - host.launched >= world.lag


def _group(world: "World", group: GroupState, *, instances: bool = True) -> dict[str, Any]:
    spec = group.spec
    answer: dict[str, Any] = {
        "AutoScalingGroupName": spec.name,
        "AutoScalingGroupARN": group.arn,
        "MinSize": group.min_size,
        "MaxSize": group.max_size,
        "DesiredCapacity": group.desired,
        "DefaultCooldown": 300,
        "AvailabilityZones": sorted({world.subnets[subnet].zone for subnet in spec.subnets}),
        "LoadBalancerNames": [],
        "TargetGroupARNs": [],
        "HealthCheckType": spec.health_check_type,
        "HealthCheckGracePeriod": group.grace,
        "Instances": [_instance(world, host) for host in group.hosts.values() if _visible(world, host)]
        if instances
        else [],
        "CreatedTime": world.when(-864000),
        "SuspendedProcesses": [
            {"ProcessName": name, "SuspensionReason": reason} for name, reason in group.suspended.items()
        ],
        "VPCZoneIdentifier": ",".join(spec.subnets),
        "EnabledMetrics": [],
        "Tags": [_tag(group, key) for key in group.tags],
        "TerminationPolicies": ["Default"],
        "NewInstancesProtectedFromScaleIn": group.protect_new,
        "ServiceLinkedRoleARN": f"arn:aws:iam::{world.spec.account}:role/aws-service-role/"
        "autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
        "TrafficSources": [],
    }
    if group.configuration.policy is not None:
        answer["MixedInstancesPolicy"] = group.configuration.policy
    else:
        answer["LaunchTemplate"] = _specification(world, group.configuration.template_id, group.configuration.version)
    if group.warmup is not None:
        answer["DefaultInstanceWarmup"] = group.warmup
    if group.maintenance is not None:
        low, high = group.maintenance
        answer["InstanceMaintenancePolicy"] = {"MinHealthyPercentage": low, "MaxHealthyPercentage": high}
    if spec.warm_pool is not None:
        answer["WarmPoolConfiguration"] = {"MinSize": spec.warm_pool.min_size, "PoolState": spec.warm_pool.state}
        answer["WarmPoolSize"] = spec.warm_pool.size
    return answer


def _tag(group: GroupState, key: str) -> dict[str, Any]:
    value, propagated = group.tags[key]
    return {
        "ResourceId": group.spec.name,
        "ResourceType": "auto-scaling-group",
        "Key": key,
        "Value": value,
        "PropagateAtLaunch": propagated,
    }


def _by_tags(groups: list[GroupState], filters: list[Parameters]) -> list[GroupState]:
    """DescribeAutoScalingGroups' filters: tag-key, tag-value, tag:KEY; every one must hold."""
    for one in filters:
        name, values = one["Name"], set(one.get("Values", []))
        if name == "tag-key":
            groups = [group for group in groups if values & group.tags.keys()]
        elif name == "tag-value":
            groups = [group for group in groups if values & {value for value, _ in group.tags.values()}]
        elif name.startswith("tag:"):
            groups = [group for group in groups if group.tags.get(name[4:], ("\0", False))[0] in values]
        else:
            only_known([name], ["tag-key", "tag-value", "tag:KEY"], "filter of DescribeAutoScalingGroups")
    return groups


@operation(
    "autoscaling.DescribeAutoScalingGroups", "AutoScalingGroupNames IncludeInstances NextToken MaxRecords Filters"
)
def describe_groups(world: "World", given: Parameters) -> Answer:
    names = given.get("AutoScalingGroupNames") or list(world.groups.all)
    groups = [world.groups.all[name] for name in names if name in world.groups.all]
    groups = _by_tags(groups, given.get("Filters", []))
    found, more = page(groups, given, most=100)
    with_instances = given.get("IncludeInstances", True)
    return {"AutoScalingGroups": [_group(world, group, instances=with_instances) for group in found], **more}


@operation("autoscaling.DescribeAutoScalingInstances", "InstanceIds MaxRecords NextToken")
def describe_instances(world: "World", given: Parameters) -> Answer:
    wanted = given.get("InstanceIds")
    if wanted is not None and len(wanted) > 50:
        raise Refused("ValidationError", "The number of instance IDs must be 50 or less.")
    hosts = [host for group in world.groups.all.values() for host in group.hosts.values() if _visible(world, host)]
    if wanted:
        hosts = [host for host in hosts if host.id in set(wanted)]
    found, more = page(hosts, given, most=50)
    return {"AutoScalingInstances": [_instance(world, host, with_group=True) for host in found], **more}


# -- instance refresh -------------------------------------------------------------------------------------------------


@operation(
    "autoscaling.StartInstanceRefresh", "AutoScalingGroupName Strategy DesiredConfiguration Preferences", changes=True
)
def start_refresh(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    target = None
    if "DesiredConfiguration" in given:
        wanted = given["DesiredConfiguration"]
        if ("LaunchTemplate" in wanted) == ("MixedInstancesPolicy" in wanted):
            raise Refused("ValidationError", "You must specify either a LaunchTemplate or a MixedInstancesPolicy.")
        try:
            target = parsed(wanted, world)
        except Refused as refusal:
            raise Refused(
                "ValidationError", f"You must use a valid fully-formed launch template. {refusal.message}"
            ) from None
    return {"InstanceRefreshId": world.groups.refreshes.start(group, given, target).id}


@operation("autoscaling.CancelInstanceRefresh", "AutoScalingGroupName WaitForTransitioningInstances", changes=True)
def cancel_refresh(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    wait = given.get("WaitForTransitioningInstances", True)
    return {"InstanceRefreshId": world.groups.refreshes.cancel(group, wait=wait).id}


@operation("autoscaling.RollbackInstanceRefresh", "AutoScalingGroupName", changes=True)
def roll_back_refresh(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    return {"InstanceRefreshId": world.groups.refreshes.roll_back(group).id}


def _refresh(world: "World", refresh: Refresh) -> dict[str, Any]:
    status = refresh.status
    if world.lag and refresh.before is not None and world.t - refresh.before[0] < world.lag:
        status = refresh.before[1]
    answer: dict[str, Any] = {
        "InstanceRefreshId": refresh.id,
        "AutoScalingGroupName": refresh.group.spec.name,
        "Status": status,
        "PercentageComplete": refresh.percent,
        "InstancesToUpdate": refresh.remaining,
        "Preferences": refresh.preferences,
        "Strategy": refresh.strategy,
    }
    if refresh.reason:
        answer["StatusReason"] = refresh.reason
    if refresh.status != "Pending":
        answer["StartTime"] = world.when(refresh.started)
    if not refresh.active:
        answer["EndTime"] = world.when(refresh.ended)
    if refresh.desired_configuration is not None:
        answer["DesiredConfiguration"] = refresh.desired_configuration
    if refresh.rollback is not None:
        answer["RollbackDetails"] = refresh.rollback
    return answer


@operation("autoscaling.DescribeInstanceRefreshes", "AutoScalingGroupName InstanceRefreshIds NextToken MaxRecords")
def describe_refreshes(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    wanted = set(given.get("InstanceRefreshIds", ()))
    chosen = [refresh for refresh in reversed(group.refreshes) if not wanted or refresh.id in wanted]
    found, more = page(chosen, given, most=100)
    return {"InstanceRefreshes": [_refresh(world, refresh) for refresh in found], **more}


# -- lifecycle hooks --------------------------------------------------------------------------------------------------


@operation(
    "autoscaling.PutLifecycleHook",
    "LifecycleHookName AutoScalingGroupName LifecycleTransition RoleARN NotificationTargetARN NotificationMetadata "
    "HeartbeatTimeout DefaultResult",
    changes=True,
)
def put_hook(world: "World", given: Parameters) -> Answer:
    group, name = world.groups.named(given["AutoScalingGroupName"]), given["LifecycleHookName"]
    hook = group.hooks.get(name)
    if hook is None:
        if "LifecycleTransition" not in given:
            raise Refused("ValidationError", "LifecycleTransition is required for a new lifecycle hook.")
        if len(group.hooks) >= 50:
            raise Refused("LimitExceeded", "The group has 50 lifecycle hooks, which is the limit.")
        hook = HookState(name=name, transition="", heartbeat_timeout=3600, default_result="ABANDON")
    hook.transition = given.get("LifecycleTransition", hook.transition)
    if hook.transition not in (LAUNCHING, TERMINATING):
        raise Refused("ValidationError", f"{hook.transition} is not a valid lifecycle transition.")
    hook.heartbeat_timeout = given.get("HeartbeatTimeout", hook.heartbeat_timeout)
    if not 30 <= hook.heartbeat_timeout <= 7200:
        raise Refused("ValidationError", "HeartbeatTimeout is 30 to 7200 seconds.")
    hook.default_result = given.get("DefaultResult", hook.default_result)
    if hook.default_result not in ("CONTINUE", "ABANDON"):
        raise Refused("ValidationError", "DefaultResult is CONTINUE or ABANDON.")
    hook.role = given.get("RoleARN", hook.role)
    hook.target = given.get("NotificationTargetARN", hook.target)
    hook.metadata = given.get("NotificationMetadata", hook.metadata)
    group.hooks[name] = hook
    return {}


@operation("autoscaling.DescribeLifecycleHooks", "AutoScalingGroupName LifecycleHookNames")
def describe_hooks(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    names = given.get("LifecycleHookNames") or list(group.hooks)
    answer = []
    for name in names:
        if name not in group.hooks:
            continue
        hook = group.hooks[name]
        one: dict[str, Any] = {
            "LifecycleHookName": name,
            "AutoScalingGroupName": group.spec.name,
            "LifecycleTransition": hook.transition,
            "HeartbeatTimeout": hook.heartbeat_timeout,
            "GlobalTimeout": hook.global_timeout,
            "DefaultResult": hook.default_result,
        }
        for key, value in (
            ("RoleARN", hook.role),
            ("NotificationTargetARN", hook.target),
            ("NotificationMetadata", hook.metadata),
        ):
            if value:
                one[key] = value
        answer.append(one)
    return {"LifecycleHooks": answer}


@operation("autoscaling.DeleteLifecycleHook", "AutoScalingGroupName LifecycleHookName", changes=True)
def delete_hook(world: "World", given: Parameters) -> Answer:
    world.groups.remove_hook(world.groups.named(given["AutoScalingGroupName"]), given["LifecycleHookName"])
    return {}


@operation(
    "autoscaling.CompleteLifecycleAction",
    "LifecycleHookName AutoScalingGroupName LifecycleActionToken LifecycleActionResult InstanceId",
    changes=True,
)
def complete_action(world: "World", given: Parameters) -> Answer:
    result = given["LifecycleActionResult"]
    if result not in ("CONTINUE", "ABANDON"):
        raise Refused("ValidationError", f"{result} is not a valid LifecycleActionResult.")
    world.groups.complete(
        world.groups.named(given["AutoScalingGroupName"]),
        given["LifecycleHookName"],
        host=given.get("InstanceId", ""),
        token=given.get("LifecycleActionToken", ""),
        result=result,
    )
    return {}


@operation(
    "autoscaling.RecordLifecycleActionHeartbeat",
    "LifecycleHookName AutoScalingGroupName LifecycleActionToken InstanceId",
    changes=True,
)
def heartbeat(world: "World", given: Parameters) -> Answer:
    world.groups.heartbeat(
        world.groups.named(given["AutoScalingGroupName"]),
        given["LifecycleHookName"],
        host=given.get("InstanceId", ""),
        token=given.get("LifecycleActionToken", ""),
    )
    return {}


# -- settings of a group ----------------------------------------------------------------------------------------------


def _processes(given: Parameters) -> list[str]:
    names = given.get("ScalingProcesses") or list(PROCESSES)
    for name in names:
        if name not in PROCESSES:
            raise Refused("ValidationError", f"{name} is not a valid scaling process.")
    return list(names)


@operation("autoscaling.SuspendProcesses", "AutoScalingGroupName ScalingProcesses", changes=True)
def suspend(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    now = world.when(world.t)
    for name in _processes(given):
        group.suspended.setdefault(name, f"User suspended at {now:%Y-%m-%dT%H:%M:%SZ}")
    return {}


@operation("autoscaling.ResumeProcesses", "AutoScalingGroupName ScalingProcesses", changes=True)
def resume(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    for name in _processes(given):
        group.suspended.pop(name, None)
    world.groups.touch(group)
    return {}


@operation("autoscaling.SetInstanceProtection", "InstanceIds AutoScalingGroupName ProtectedFromScaleIn", changes=True)
def protect(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    if len(given["InstanceIds"]) > 50:
        raise Refused("ValidationError", "The number of instance IDs must be 50 or less.")
    for name in given["InstanceIds"]:
        if name not in group.hosts:
            raise Refused(
                "ValidationError", f"The instance {name} is not part of Auto Scaling group {group.spec.name}."
            )
    for name in given["InstanceIds"]:
        group.hosts[name].protected = given["ProtectedFromScaleIn"]
    world.groups.touch(group)
    return {}


@operation("autoscaling.CreateOrUpdateTags", "Tags", changes=True)
def put_tags(world: "World", given: Parameters) -> Answer:
    for tag in given["Tags"]:
        group = world.groups.named(tag.get("ResourceId", ""))
        key, value = tag["Key"], tag.get("Value", "")
        if key not in group.tags and len(group.tags) >= 50:
            raise Refused("LimitExceeded", "The group has 50 tags, which is the limit.")
        if len(key) > 128 or len(value) > 256:
            raise Refused("ValidationError", "A tag's key has at most 128 characters, its value at most 256.")
        group.tags[key] = (value, bool(tag.get("PropagateAtLaunch", False)))
    return {}


@operation("autoscaling.DeleteTags", "Tags", changes=True)
def delete_tags(world: "World", given: Parameters) -> Answer:
    for tag in given["Tags"]:
        group = world.groups.named(tag.get("ResourceId", ""))
        held = group.tags.get(tag["Key"])
        if held is not None and tag.get("Value", held[0]) == held[0]:
            del group.tags[tag["Key"]]
    return {}


@operation("autoscaling.DescribeTags", "Filters NextToken MaxRecords")
def describe_tags(world: "World", given: Parameters) -> Answer:
    filters = {one["Name"]: set(one["Values"]) for one in given.get("Filters", [])}
    only_known(filters, ["auto-scaling-group", "key", "value", "propagate-at-launch"], "filter of DescribeTags")
    tags = []
    for group in world.groups.all.values():
        if "auto-scaling-group" in filters and group.spec.name not in filters["auto-scaling-group"]:
            continue
        for key, (value, propagated) in group.tags.items():
            if "key" in filters and key not in filters["key"]:
                continue
            if "value" in filters and value not in filters["value"]:
                continue
            if "propagate-at-launch" in filters and str(propagated).lower() not in filters["propagate-at-launch"]:
                continue
            tags.append(_tag(group, key))
    found, more = page(tags, given, most=100)
    return {"Tags": list(found), **more}


@operation("autoscaling.DescribePolicies", "AutoScalingGroupName PolicyNames PolicyTypes NextToken MaxRecords")
def describe_policies(world: "World", given: Parameters) -> Answer:
    if "AutoScalingGroupName" in given:
        world.groups.named(given["AutoScalingGroupName"])
    return {"ScalingPolicies": []}


@operation("autoscaling.DescribeScheduledActions", "AutoScalingGroupName ScheduledActionNames NextToken MaxRecords")
def describe_scheduled(world: "World", given: Parameters) -> Answer:
    if "AutoScalingGroupName" in given:
        world.groups.named(given["AutoScalingGroupName"])
    return {"ScheduledUpdateGroupActions": []}


@operation("autoscaling.DescribeScalingActivities", "AutoScalingGroupName ActivityIds MaxRecords NextToken")
def describe_activities(world: "World", given: Parameters) -> Answer:
    name = given.get("AutoScalingGroupName")
    groups = [world.groups.named(name)] if name else list(world.groups.all.values())
    activities = [activity for group in groups for activity in reversed(group.activities)]
    wanted = set(given.get("ActivityIds", ()))
    if wanted:
        activities = [activity for activity in activities if activity["ActivityId"] in wanted]
    found, more = page(activities, given, most=100)
    return {"Activities": list(found), **more}


@operation("autoscaling.DescribeWarmPool", "AutoScalingGroupName MaxRecords NextToken")
def describe_warm_pool(world: "World", given: Parameters) -> Answer:
    pool = world.groups.named(given["AutoScalingGroupName"]).spec.warm_pool
    if pool is None:
        return {"Instances": []}
    return {"WarmPoolConfiguration": {"MinSize": pool.min_size, "PoolState": pool.state}, "Instances": []}


@operation(
    "autoscaling.UpdateAutoScalingGroup",
    "AutoScalingGroupName LaunchTemplate MixedInstancesPolicy MinSize MaxSize DesiredCapacity DefaultInstanceWarmup "
    "HealthCheckGracePeriod NewInstancesProtectedFromScaleIn InstanceMaintenancePolicy",
    changes=True,
)
def update_group(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    low, high = given.get("MinSize", group.min_size), given.get("MaxSize", group.max_size)
    if low > high:
        raise Refused("ValidationError", "Max bound must be greater than or equal to min bound.")
    configuration = group.configuration
    if "LaunchTemplate" in given or "MixedInstancesPolicy" in given:
        configuration = parsed(given, world)
    group.configuration = configuration
    group.min_size, group.max_size = low, high
    group.warmup = given.get("DefaultInstanceWarmup", group.warmup)
    group.grace = given.get("HealthCheckGracePeriod", group.grace)
    group.protect_new = given.get("NewInstancesProtectedFromScaleIn", group.protect_new)
    if policy := given.get("InstanceMaintenancePolicy"):
        bounds = (policy.get("MinHealthyPercentage", -1), policy.get("MaxHealthyPercentage", -1))
        group.maintenance = None if -1 in bounds else bounds
    desired = given.get("DesiredCapacity", min(max(group.desired, low), high))
    if desired != group.desired:
        world.groups.set_desired(group, desired)
    return {}


@operation("autoscaling.SetDesiredCapacity", "AutoScalingGroupName DesiredCapacity HonorCooldown", changes=True)
def set_desired(world: "World", given: Parameters) -> Answer:
    world.groups.set_desired(world.groups.named(given["AutoScalingGroupName"]), given["DesiredCapacity"])
    return {}


@operation(
    "autoscaling.LaunchInstances",
    "AutoScalingGroupName RequestedCapacity ClientToken AvailabilityZones SubnetIds RetryStrategy",
    changes=True,
)
def launch_instances(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    count = given["RequestedCapacity"]
    known = world.groups.launches
    key = f"{group.spec.name} {given['ClientToken']}"
    if key in known:
        return known[key]
    if group.desired + count > group.max_size:
        raise Refused("ValidationError", "The requested capacity exceeds the group's maximum size.")
    subnets = [subnet for subnet in given.get("SubnetIds", group.spec.subnets) if subnet in group.spec.subnets]
    zones = given.get("AvailabilityZones")
    if zones:
        subnets = [subnet for subnet in subnets if world.subnets[subnet].zone in zones]
    elif "SubnetIds" not in given and len({world.subnets[subnet].zone for subnet in group.spec.subnets}) > 1:
        raise Refused("ValidationError", "AvailabilityZones or SubnetIds is needed for a group with several zones.")
    if not subnets:
        raise Refused("ValidationError", "The subnets do not belong to the Auto Scaling group.")
    made, refusal = world.groups.launch_now(group, count, subnets)
    if made:
        group.desired += len(made)
    answer: Answer = {
        "AutoScalingGroupName": group.spec.name,
        "ClientToken": given["ClientToken"],
        "Instances": [
            {
                "InstanceType": host.instance_type,
                "MarketType": "spot" if host.spot else "on-demand",
                "SubnetId": host.subnet,
                "AvailabilityZone": host.zone,
                "InstanceIds": [host.id],
            }
            for host in made
        ],
        "Errors": [],
    }
    if refusal is not None:
        _, _, kind = world.launch_of(group.configuration)
        answer["Errors"] = [
            {
                "InstanceType": kind,
                "MarketType": "on-demand",
                "SubnetId": subnets[0],
                "AvailabilityZone": world.subnets[subnets[0]].zone,
                "ErrorCode": refusal.code,
                "ErrorMessage": refusal.message,
            }
        ]
    known[key] = answer
    return answer


@operation("autoscaling.AttachInstances", "InstanceIds AutoScalingGroupName", changes=True)
def attach(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    hosts = []
    for name in given.get("InstanceIds", []):
        host = world.hosts.get(name)
        if host is None or not host.alive:
            raise Refused("ValidationError", f"Invalid Instance ID(s) {name}.")
        if host.group is not None and host.id in host.group.hosts:
            raise Refused("ValidationError", f"Instance {name} is already part of an Auto Scaling group.")
        hosts.append(host)
    if group.desired + len(hosts) > group.max_size:
        raise Refused("ValidationError", "Attaching the instances would exceed the group's maximum size.")
    for host in hosts:
        group.desired += 1
        world.groups.join(host, group)
    return {}


@operation(
    "autoscaling.DetachInstances", "InstanceIds AutoScalingGroupName ShouldDecrementDesiredCapacity", changes=True
)
def detach(world: "World", given: Parameters) -> Answer:
    group = world.groups.named(given["AutoScalingGroupName"])
    lower = given["ShouldDecrementDesiredCapacity"]
    names = given.get("InstanceIds", [])
    for name in names:
        if name not in group.hosts:
            raise Refused(
                "ValidationError", f"The instance {name} is not part of Auto Scaling group {group.spec.name}."
            )
    if lower and group.desired - len(names) < group.min_size:
        raise Refused("ValidationError", "Detaching the instances would go below the group's minimum size.")
    activities = []
    for name in names:
        activities.append(world.groups.leave(group.hosts[name], group))
        group.desired -= lower
    return {"Activities": activities}


@operation("autoscaling.TerminateInstanceInAutoScalingGroup", "InstanceId ShouldDecrementDesiredCapacity", changes=True)
def terminate(world: "World", given: Parameters) -> Answer:
    host = world.groups.member(given["InstanceId"])
    group = host.group
    if group is None:
        raise Refused("ValidationError", f"Instance Id not found - {host.id}")
    if given["ShouldDecrementDesiredCapacity"]:
        if group.desired - 1 < group.min_size:
            raise Refused(
                "ValidationError",
                "Currently, desiredSize equals minSize. Terminating instance without replacement will violate group's "
                "min size constraint.",
            )
        group.desired -= 1
        world.watch.desired_changed(group, by_roll=True)
    world.groups.terminate(host, "instance was taken out of service in response to a user request")
    return {"Activity": dict(group.activities[-1])} if group.activities else {}
