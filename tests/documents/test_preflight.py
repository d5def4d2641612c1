"""Ovenproof-Preflight over the fleet model: one fault of a fleet at a time, and the very findings that it leads to."""

import base64
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from pipeline.clock import VirtualClock
from pipeline.documents import FOLDER, document_named, policy_of
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet import answers as fleet_answers
from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import (
    Alarm,
    CapacityReservation,
    FleetSpec,
    Hook,
    Override,
    Profile,
    StandaloneTask,
    Task,
    WarmPool,
    example_fleet,
)
from pipeline.rehearsal.fleet.world import World
from pipeline.runbook import permissions
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Seams

OLD, NEW = "ami-00000000000000a1d", "ami-00000000000000b2e"
TEMPLATE, GROUP, CLUSTER = "lt-00000000000000001", "example", "example"
ROLL = "11111111-1111-4111-8111-111111111111"
KEYS = {
    "State",
    "Reason",
    "Findings",
    "Group",
    "Cluster",
    "TemplateId",
    "FromVersion",
    "ToVersion",
    "FromImage",
    "Image",
    "Desired",
    "Canary",
    "CanaryPercent",
    "Lane",
    "LaneReason",
    "OwnHook",
    "Preferences",
    "CanaryPreferences",
    "Strategy",
    "DrainSeconds",
    "Since",
}
Read = Callable[[Mapping[str, Any], dict[str, Any]], None]
Prepare = Callable[["Preflight"], None]


class Preflight:
    """One execution over a world: what it found, what it plans, what it asked AWS.

    `edited` changes AWS's answers to operations, `refused` refuses operations for good with a code, `prepare` does
    something to the world before.
    """

    def __init__(
        self,
        spec: FleetSpec,
        *,
        edited: Mapping[str, Read] | None = None,
        refused: Mapping[str, str] | None = None,
        faults: Sequence[Fault] = (),
        prepare: Prepare = lambda _: None,
        alive: str = "",
        **parameters: object,
    ) -> None:
        clock = VirtualClock()
        self.world = World(spec, clock, faults=faults)
        self.session: boto3.Session = fleet_session(self.world, check_answers=True)
        prepare(self)
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        before, ask = self.world.clock.now(), self.world.call

        def call(service: str, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
            name = f"{service}.{operation}"
            self.calls.append((name, given))
            if name == "ssm.GetAutomationExecution":
                if given["AutomationExecutionId"] != alive:
                    raise Refused("AutomationExecutionNotFoundException", "no such execution")
                return {"AutomationExecution": {"AutomationExecutionStatus": "InProgress"}}
            if name in (refused or {}):
                raise Refused((refused or {})[name], "refused")
            edit = (edited or {}).get(name)
            try:
                told = ask(service, operation, given)
            except Refused:
                if edit is None:
                    raise
                told = {}  # the edit gives what the model has not
            if edit is not None:
                edit(given, told)
            return told

        self.world.call = call  # type: ignore[method-assign, assignment]
        seams = Seams(
            session=self.session,
            clock=clock,
            documents=document_named,
            account_id=spec.account,
            own_executions=False,
        )
        self.execution = execute(document_named("Ovenproof-Preflight"), {"Group": GROUP, **parameters}, seams)
        self.seconds = (clock.now() - before).total_seconds()
        self.plan: dict[str, Any] = {}
        self.findings: list[dict[str, str]] = []
        if self.execution.status == "Success":
            plan = self.execution.outputs["Look.Plan"]
            self.plan = plan if isinstance(plan, dict) else json.loads(plan)
            self.findings = json.loads(self.plan["Findings"])

    @property
    def said(self) -> list[tuple[str, str, str]]:
        return [(one["level"], one["check"], one["resource"]) for one in self.findings]

    @property
    def what(self) -> str:
        return "\n".join(one["what"] for one in self.findings)


def changed(name: str = "twenty", **pieces: Mapping[str, Any]) -> FleetSpec:
    """An example fleet with other values in its group, its cluster, its first service, or the promoted image."""
    spec = example_fleet(name)
    update: dict[str, Any] = dict(pieces.pop("fleet", {}))
    for piece, values in pieces.items():
        if piece == "template":
            [template] = spec.templates
            version = template.versions[0]
            data = {key: value for key, value in {**version.data, **values}.items() if value is not None}
            later = version.model_copy(update={"data": data})
            update["templates"] = (template.model_copy(update={"versions": (later,)}),)
            continue
        field, number = {
            "group": ("groups", 0),
            "cluster": ("clusters", 0),
            "service": ("services", 0),
            "image": ("images", 1),
        }[piece]
        items = list(getattr(spec, field))
        items[number] = items[number].model_copy(update=values)
        update[field] = tuple(items)
    return spec.model_copy(update=update)


def scheduled_in(hours: float) -> Read:
    def edit(_: Mapping[str, Any], told: dict[str, Any]) -> None:
        at = VirtualClock().now() + timedelta(hours=hours)
        told["ScheduledUpdateGroupActions"] = [
            {"AutoScalingGroupName": GROUP, "ScheduledActionName": "night", "StartTime": at, "DesiredCapacity": 2}
        ]

    return edit


def in_groups(change: Callable[[dict[str, Any]], None]) -> dict[str, Read]:
    def edit(_: Mapping[str, Any], told: dict[str, Any]) -> None:
        for group in told["AutoScalingGroups"]:
            change(group)

    return {"autoscaling.DescribeAutoScalingGroups": edit}


def in_image(**values: object) -> dict[str, Read]:
    return {"ec2.DescribeImages": lambda _, told: told["Images"][0].update(values)}


def in_services(name: str, **values: object) -> dict[str, Read]:
    def edit(_: Mapping[str, Any], told: dict[str, Any]) -> None:
        for service in told["services"]:
            if service["serviceName"] == name:
                service.update(values)

    return {"ecs.DescribeServices": edit}


def in_first_host(**values: object) -> dict[str, Read]:
    def edit(_: Mapping[str, Any], told: dict[str, Any]) -> None:
        for host in told["containerInstances"]:
            if host["ec2InstanceId"] == "i-00000000000000001":
                host.update(values)

    return {"ecs.DescribeContainerInstances": edit}


def inline_policy(effect: str, action: object) -> dict[str, Read]:
    statement = {"Effect": effect, "Action": action, "Resource": "*"}

    def names(_: Mapping[str, Any], told: dict[str, Any]) -> None:
        told["PolicyNames"] = ["own"]

    def policy(_: Mapping[str, Any], told: dict[str, Any]) -> None:
        told.update(
            RoleName="ecs-node", PolicyName="own", PolicyDocument=quote(json.dumps({"Statement": statement}))
        )  # boto3 decodes it

    return {"iam.ListRolePolicies": names, "iam.GetRolePolicy": policy}


def tag_roll(state: str) -> Prepare:
    def prepare(preflight: Preflight) -> None:
        preflight.session.client("autoscaling").create_or_update_tags(
            Tags=[
                {
                    "ResourceId": GROUP,
                    "ResourceType": "auto-scaling-group",
                    "Key": f"ovenproof:{key}",
                    "Value": value,
                    "PropagateAtLaunch": False,
                }
                for key, value in {
                    "roll": state,
                    "roll-execution": ROLL,
                    "roll-from": f"{TEMPLATE}:1",
                    "roll-from-image": OLD,
                }.items()
            ]
        )

    return prepare


def add_hook(preflight: Preflight) -> None:
    preflight.session.client("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName=GROUP,
        LifecycleHookName="ovenproof-drain",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=7200,
        DefaultResult="CONTINUE",
    )


def add_version(image: str, **more: Any) -> Prepare:
    data: Any = {"ImageId": image, **more}

    def prepare(preflight: Preflight) -> None:
        preflight.session.client("ec2").create_launch_template_version(
            LaunchTemplateId=TEMPLATE, SourceVersion="1", LaunchTemplateData=data
        )

    return prepare


def start_refresh(preflight: Preflight) -> None:
    add_version(NEW)(preflight)
    preflight.session.client("autoscaling").start_instance_refresh(
        AutoScalingGroupName=GROUP,
        DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateId": TEMPLATE, "Version": "2"}},
        Preferences={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200, "SkipMatching": True},
    )


def name_version_2(preflight: Preflight) -> None:
    add_version(NEW)(preflight)
    preflight.session.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=GROUP, LaunchTemplate={"LaunchTemplateId": TEMPLATE, "Version": "2"}
    )


def both(*steps: Prepare) -> Prepare:
    def prepare(preflight: Preflight) -> None:
        for step in steps:
            step(preflight)

    return prepare


ON_NEW = changed(template={"ImageId": NEW})
HOSTS = "i-00000000000000001"


# -- the fleets that can be rolled, and the one that cannot ------------------------------------------------------------

LANES = {
    "twenty": ("surge", (100, 200), "yes", (1, 5)),
    "single": ("surge", (100, 200), "yes", (1, 0)),
    "tight": ("rolling", (100, 133), "yes", (1, 17)),
    "managed-draining": ("surge", (100, 200), "no", (1, 13)),
    "gpu": ("replace-root-volume", (66, None), "yes", (1, 33)),
}


@pytest.mark.parametrize("fleet", LANES)
def test_the_examples_can_be_rolled(fleet: str) -> None:
    preflight = Preflight(example_fleet(fleet))
    plan, (lane, limits, own_hook, canary) = preflight.plan, LANES[fleet]

    assert (plan["State"], plan["Reason"]) == ("go", "")
    assert plan["Lane"] == lane
    assert (plan["Preferences"]["MinHealthyPercentage"], plan["Preferences"].get("MaxHealthyPercentage")) == limits
    assert plan["OwnHook"] == own_hook
    assert (plan["Canary"], plan["CanaryPercent"]) == canary
    assert set(plan) == KEYS
    assert not [one for one in preflight.said if one[0] == "blocker"]


def test_the_example_needs_no_word() -> None:
    preflight = Preflight(example_fleet("twenty"))

    assert preflight.findings == []
    assert preflight.plan["Cluster"] == CLUSTER
    assert preflight.plan["TemplateId"] == TEMPLATE
    assert (preflight.plan["FromVersion"], preflight.plan["ToVersion"]) == ("1", "")
    assert (preflight.plan["FromImage"], preflight.plan["Image"]) == (OLD, NEW)
    assert preflight.plan["LaneReason"] == "there is room for 20 hosts more, so that every task moves once"
    assert preflight.plan["Strategy"] == "Rolling"
    assert preflight.plan["DrainSeconds"] == 190  # web: 120 + 5 x 2 + 30 + 30


def test_what_cannot_be_drained_is_named_before_anything_changes() -> None:
    preflight = Preflight(example_fleet("blocked"))

    assert preflight.plan["State"] == "blocked"
    assert preflight.said == [
        ("blocker", "service", "ledger"),
        ("blocker", "standalone tasks", "cron"),
        ("blocker", "protected tasks", "batch"),
    ]
    reason = preflight.plan["Reason"]
    assert "service ledger: minimumHealthyPercent 100, maximumPercent 100" in reason
    assert "cron" in reason and "batch" in reason
    assert len(reason) <= 500


@pytest.mark.parametrize("fleet", [*LANES, "blocked"])
def test_it_changes_nothing_and_needs_no_time(fleet: str) -> None:
    preflight = Preflight(example_fleet(fleet))

    assert [name for name, _ in preflight.calls if fleet_answers.OPERATIONS[name].changes] == []
    assert preflight.seconds == 0
    assert preflight.world.groups.all[GROUP].hooks.keys() <= {"ecs-managed-draining-termination-hook"}
    assert len(preflight.world.templates[TEMPLATE].versions) == 1


def test_its_policy_allows_every_call() -> None:
    statements = permissions.statements(policy_of("Ovenproof-Preflight"))
    preflight = Preflight(
        example_fleet("gpu"),
        prepare=tag_roll("running"),
        Alarms=["example-5xx"],
        Calendar="arn:aws:ssm:eu-central-1:123456789012:document/freeze",
        edited=inline_policy("Allow", "s3:*"),
    )

    denied = [
        permissions.evaluate(statements, name.partition(".")[0], name.partition(".")[2], given)
        for name, given in preflight.calls
    ]
    assert {one for one in denied if one} == set()
    assert len({name for name, _ in preflight.calls}) > 20


# -- a finding for each fault ------------------------------------------------------------------------------------------

Said = tuple[str, str, str]
CASES: dict[str, tuple[FleetSpec, dict[str, Any], list[Said], str]] = {
    "no such group": (
        example_fleet("twenty"),
        {"Group": "missing"},
        [("blocker", "group", "missing")],
        "no such Auto Scaling group",
    ),
    "no image is promoted": (
        changed(fleet={"parameters": {"/ovenproof/ecs-al2-kernel-5.10/x86_64": "none"}}),
        {},
        [("blocker", "image", "/ovenproof/ecs-al2-kernel-5.10/x86_64")],
        "names no image: none",
    ),
    "nothing to drain at 100 and 100": (
        changed(service={"minimum_healthy_percent": 100, "maximum_percent": 100}),
        {},
        [("blocker", "service", "web")],
        "of 30 tasks ECS may neither stop one nor start one",
    ),
    "percentages that round to no room": (
        changed(service={"desired": 2, "minimum_healthy_percent": 51, "maximum_percent": 149}),
        {},
        [("blocker", "service", "web")],
        "of 2 tasks ECS may neither stop one nor start one",
    ),
    "a deployment is under way": (
        example_fleet("twenty"),
        {"edited": in_services("mail", pendingCount=1)},
        [("blocker", "service", "mail")],
        "not steady",
    ),
    "bound to the old image": (
        example_fleet("twenty"),
        {
            "edited": in_services(
                "mail", placementConstraints=[{"type": "memberOf", "expression": f"attribute:ecs.ami-id == {OLD}"}]
            )
        },
        [("blocker", "service", "mail")],
        f"binds it to the old hosts: attribute:ecs.ami-id == {OLD}",
    ),
    "an attribute of nowhere": (
        example_fleet("twenty"),
        {
            "edited": in_services(
                "mail", placementConstraints=[{"type": "memberOf", "expression": "attribute:disk == fast"}]
            )
        },
        [("warning", "service", "mail")],
        "asks for disk, which the template's user data does not set",
    ),
    "a constraint in the task definition": (
        example_fleet("twenty"),
        {
            "edited": {
                "ecs.DescribeTaskDefinition": lambda given, told: (
                    told["taskDefinition"]["placementConstraints"].append(
                        {"type": "memberOf", "expression": "ec2InstanceId == i-00000000000000001"}
                    )
                    if "/web:" in given["taskDefinition"]
                    else None
                )
            }
        },
        [("blocker", "service", "web")],
        "ec2InstanceId == i-00000000000000001",
    ),
    "an agent is away": (
        example_fleet("twenty"),
        {"edited": in_first_host(agentConnected=False)},
        [("blocker", "agent", HOSTS)],
        "no agent connected on 1 host",
    ),
    "a host drains already": (
        example_fleet("twenty"),
        {"edited": in_first_host(status="DRAINING")},
        [("warning", "agent", HOSTS)],
        "1 host DRAINING already",
    ),
    "a task of no service": (
        changed(fleet={"standalone": (StandaloneTask(cluster=CLUSTER, family="cron", count=2),)}),
        {},
        [("blocker", "standalone tasks", "cron")],
        "2 tasks of no service",
    ),
    "a task of no service that may be cut off": (
        changed(fleet={"standalone": (StandaloneTask(cluster=CLUSTER, family="cron"),)}),
        {"OnDrainTimeout": "proceed"},
        [("warning", "standalone tasks", "cron")],
        "1 task of no service",
    ),
    "a protected task": (
        changed(service={"protected_tasks": 3}),
        {},
        [("blocker", "protected tasks", "web")],
        "3 tasks protected from scale-in until",
    ),
    "a drain that takes too long": (
        example_fleet("twenty"),
        {"DrainTimeoutSeconds": 189},
        [("blocker", "drain time", "web")],
        "may take 190 s to move, DrainTimeoutSeconds is 189: the roll would fail",
    ),
    "a drain that is cut off": (
        example_fleet("twenty"),
        {"DrainTimeoutSeconds": 189, "OnDrainTimeout": "proceed"},
        [("warning", "drain time", "web")],
        "its tasks would be cut off",
    ),
    "protected hosts": (
        changed(group={"protected": 2}),
        {},
        [("warning", "protection", "i-00000000000000001, i-00000000000000002")],
        "protected from scale-in: 2 hosts",
    ),
    "a host in Standby": (
        changed(group={"standby": 1}),
        {},
        [("blocker", "standby", "i-00000000000000015")],
        "1 host in Standby",
    ),
    "a warm pool": (
        changed(group={"warm_pool": WarmPool(size=2)}),
        {},
        [("blocker", "warm pool", GROUP)],
        "whose hosts would keep the old image",
    ),
    "processes are suspended": (
        changed(group={"suspended": ("Launch", "AZRebalance")}),
        {},
        [("blocker", "suspended process", GROUP), ("warning", "suspended process", GROUP)],
        "Launch is suspended, and a refresh needs it\nAZRebalance is suspended",
    ),
    "a refresh of somebody else": (
        example_fleet("twenty"),
        {"prepare": start_refresh},
        [("blocker", "refresh", GROUP)],
        "is Pending",
    ),
    "hosts are coming": (
        example_fleet("twenty"),
        {
            "prepare": lambda preflight: preflight.session.client("autoscaling").set_desired_capacity(
                AutoScalingGroupName=GROUP, DesiredCapacity=21
            )
        },
        [("blocker", "scaling", GROUP)],
        "hosts come or go: 1 Pending",
    ),
    "hosts are missing": (
        example_fleet("twenty"),
        {"edited": in_groups(lambda group: group.update(DesiredCapacity=21, MaxSize=50))},
        [("blocker", "scaling", GROUP)],
        "20 hosts in service, 21 desired",
    ),
    "a host is unhealthy": (
        example_fleet("twenty"),
        {"edited": in_groups(lambda group: group["Instances"][0].update(HealthStatus="Unhealthy"))},
        [("blocker", "health", HOSTS)],
        "1 host unhealthy",
    ),
    "capacity in weights": (
        example_fleet("twenty"),
        {"edited": in_groups(lambda group: group.update(DesiredCapacityType="vcpu"))},
        [("blocker", "weights", GROUP)],
        "counted in weights",
    ),
    "the size changes soon": (
        example_fleet("twenty"),
        {"edited": {"autoscaling.DescribeScheduledActions": scheduled_in(1)}},
        [("warning", "scheduled action", GROUP)],
        "night changes the group's size at",
    ),
    "somebody else's hook": (
        changed(group={"hooks": (Hook(name="audit", transition="terminating", heartbeat_timeout=600),)}),
        {},
        [("warning", "hook", "example/audit")],
        "holds each host for up to 600 s, then ABANDON",
    ),
    "$Latest": (
        changed(group={"template_version": "$Latest"}),
        {},
        [("blocker", "template version", GROUP)],
        "the group uses the template's $Latest",
    ),
    "resolve:ssm": (
        changed(
            template={"ImageId": "resolve:ssm:/images/old"},
            fleet={"parameters": {"/images/old": OLD, "/ovenproof/ecs-al2-kernel-5.10/x86_64": NEW}},
        ),
        {},
        [("blocker", "template image", TEMPLATE)],
        "takes its image from resolve:ssm:/images/old",
    ),
    "the group names the image, its hosts run another": (
        example_fleet("twenty"),
        {"prepare": name_version_2},
        [("blocker", "image of the hosts", GROUP)],
        f"names {NEW} already, 20 hosts on another image: there is no way back",
    ),
    "a host of another image": (
        example_fleet("twenty"),
        {"edited": in_groups(lambda group: group["Instances"][0].update(ImageId="ami-0000000000000ffff"))},
        [("warning", "image of the hosts", HOSTS)],
        f"1 host not on {OLD}",
    ),
    "no metadata": (
        changed(template={"MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "disabled"}}),
        {},
        [("blocker", "metadata", TEMPLATE)],
        "the instance metadata service is off",
    ),
    "old metadata": (
        changed(template={"MetadataOptions": {"HttpTokens": "optional"}}),
        {},
        [("warning", "metadata", TEMPLATE)],
        "IMDSv1 is allowed",
    ),
    "no such image": (
        example_fleet("twenty"),
        {"Image": "ami-0123456789abcdef0"},
        [("blocker", "image", "ami-0123456789abcdef0")],
        "there is no such image here",
    ),
    "the image is not ready": (
        example_fleet("twenty"),
        {"edited": in_image(State="pending")},
        [("blocker", "image", NEW)],
        "the image is pending",
    ),
    "the image is deprecated": (
        changed(image={"deprecated": True}),
        {},
        [("blocker", "image", NEW)],
        "the image is deprecated since",
    ),
    "the image was never proven": (
        changed(image={"tags": {"OvenproofState": "baked"}}),
        {},
        [("blocker", "image", NEW)],
        "it was baked and not proven",
    ),
    "nobody knows the image": (
        changed(image={"tags": {}}),
        {},
        [("warning", "image", NEW)],
        "carries no tag that says it was proven",
    ),
    "the other architecture": (
        changed(image={"architecture": "arm64"}),
        {},
        [("blocker", "architecture", NEW)],
        "the image is arm64, c6i.xlarge is not",
    ),
    "the root volume is too small": (
        changed(image={"root_gib": 40}),
        {},
        [("blocker", "block devices", NEW)],
        "its root needs 40 GiB, the template gives /dev/xvda 30 GiB",
    ),
    "another root device": (
        changed(image={"root_device": "/dev/sda1"}),
        {},
        [("warning", "block devices", NEW)],
        "the template maps /dev/xvda, not the image's root /dev/sda1",
    ),
    "no instance profile": (
        changed(template={"IamInstanceProfile": None}),
        {},
        [("blocker", "instance profile", "launch template")],
        "SSM cannot reach the hosts",
    ),
    "Spot": (
        changed(template={"InstanceMarketOptions": {"MarketType": "spot"}}),
        {},
        [("warning", "spot", GROUP)],
        "some hosts are Spot",
    ),
    "a full reservation": (
        changed(
            fleet={
                "capacity_reservations": (
                    CapacityReservation(instance_type="c6i.xlarge", zone="eu-central-1a", total=20, available=3),
                )
            }
        ),
        {},
        [("warning", "capacity reservation", GROUP)],
        "free in its capacity reservations: 3, of 20 hosts",
    ),
    "an alarm rings": (
        changed(fleet={"alarms": (Alarm(name="example-5xx", state="ALARM"),)}),
        {"Alarms": ["example-5xx", "nobody"]},
        [("blocker", "alarm", "example-5xx"), ("blocker", "alarm", "nobody")],
        "it is in ALARM\nthere is no such alarm",
    ),
    "the calendar is closed": (
        changed(fleet={"calendars": {"freeze": "CLOSED"}}),
        {"Calendar": "arn:aws:ssm:eu-central-1:123456789012:document/freeze"},
        [("blocker", "change calendar", "arn:aws:ssm:eu-central-1:123456789012:document/freeze")],
        "the calendar is CLOSED",
    ),
    "no host": (
        changed(group={"min_size": 0, "desired": 0}, fleet={"services": ()}),
        {"Cluster": CLUSTER},
        [("blocker", "scaling", GROUP)],
        "the group has no host",
    ),
    "another cluster": (
        changed(fleet={"services": ()}),
        {"edited": {"ecs.ListContainerInstances": lambda _, told: told.update(containerInstanceArns=[])}},
        [("blocker", "cluster", GROUP)],
        "no ECS cluster holds a host of this group",
    ),
    "no room for a surge that was asked for": (
        changed(group={"max_size": 30}),
        {"Lane": "surge"},
        [("blocker", "lane", GROUP)],
        "a surge launches 20 hosts more, and the group's maximum is 30",
    ),
    "no room for one host": (
        changed(group={"max_size": 20}),
        {},
        [("blocker", "lane", GROUP)],
        "there is no room for one host more, the group's maximum is 20",
    ),
    "less capacity, which was asked for": (
        changed(group={"max_size": 20}),
        {"Lane": "rolling"},
        [("warning", "lane", GROUP)],
        "capacity falls below desired",
    ),
    "a root swap that is impossible": (
        example_fleet("twenty"),
        {"Lane": "replace-root-volume"},
        [("blocker", "lane", GROUP)],
        "needs a mixed instances policy",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_fault_leads_to_its_finding_and_to_no_other(case: str) -> None:
    spec, given, said, what = CASES[case]

    preflight = Preflight(spec, **given)

    assert preflight.said == said
    assert what in preflight.what
    assert all(one["do"] for one in preflight.findings)
    blockers = [one for one in preflight.findings if one["level"] == "blocker"]
    assert preflight.plan["State"] == ("blocked" if blockers else "go")
    assert all(one["resource"] in preflight.plan["Reason"] for one in blockers)
    assert set(preflight.plan) == KEYS
    assert [name for name, _ in preflight.calls if fleet_answers.OPERATIONS[name].changes] == []


# -- what is no fault --------------------------------------------------------------------------------------------------

QUIET: dict[str, tuple[FleetSpec, dict[str, Any]]] = {
    "one task less may run": (
        changed(service={"desired": 3, "minimum_healthy_percent": 66, "maximum_percent": 100}),
        {},
    ),
    "a service that wants nothing": (changed(service={"desired": 0, "maximum_percent": 100}), {}),
    "a daemon": (
        changed(
            service={"scheduling": "DAEMON", "desired": 20, "minimum_healthy_percent": 100, "maximum_percent": 100}
        ),
        {},
    ),
    "the size changes later": (
        example_fleet("twenty"),
        {"edited": {"autoscaling.DescribeScheduledActions": scheduled_in(3)}},
    ),
    "a built-in attribute": (
        example_fleet("twenty"),
        {
            "edited": in_services(
                "mail",
                placementConstraints=[
                    {"type": "distinctInstance"},
                    {"type": "memberOf", "expression": "attribute:ecs.os-type == linux"},
                ],
            )
        },
    ),
    "an attribute that the template sets": (
        changed(
            template={"UserData": base64.b64encode(b'echo ECS_INSTANCE_ATTRIBUTES={"disk":"fast"}').decode()},
        ),
        {
            "edited": in_services(
                "mail", placementConstraints=[{"type": "memberOf", "expression": "attribute:disk == fast"}]
            )
        },
    ),
    "an image whose deprecation is to come": (
        example_fleet("twenty"),
        {"edited": in_image(DeprecationTime="2099-01-01T00:00:00.000Z")},
    ),
    "an alarm that is quiet": (example_fleet("twenty"), {"Alarms": ["example-5xx"]}),
    "an open calendar": (
        changed(fleet={"calendars": {"freeze": "OPEN"}}),
        {"Calendar": "arn:aws:ssm:eu-central-1:123456789012:document/freeze"},
    ),
    "SSM by an inline policy": (
        changed(fleet={"profiles": (Profile(policies=()),)}),
        {"edited": inline_policy("Allow", ["ssm:Update*"])},
    ),
    "SSM by whatever allows it": (changed(fleet={"profiles": (Profile(policies=("arn:aws:iam::1:policy/own",)),)}), {}),
}


@pytest.mark.parametrize("case", QUIET)
def test_what_is_no_fault_is_not_reported(case: str) -> None:
    spec, given = QUIET[case]

    preflight = Preflight(spec, **given)

    assert (preflight.findings, preflight.plan["State"]) == ([], "go")


def test_services_of_other_hosts_are_not_this_rolls_concern() -> None:
    """A service that cannot be drained, all of whose tasks run elsewhere in the same cluster."""
    spec = example_fleet("blocked")
    [group] = spec.groups
    other = group.model_copy(update={"name": "other"})
    cluster = spec.clusters[0].model_copy(update={"name": "small"})
    spec = spec.model_copy(
        update={
            "groups": (group.model_copy(update={"cluster": "small"}), other),
            "clusters": (*spec.clusters, cluster),
        }
    )

    assert Preflight(spec).findings == []


# -- SSM and the instance profile --------------------------------------------------------------------------------------

NOT_ONLINE: dict[str, Read] = {
    "ssm.DescribeInstanceInformation": lambda _, told: told.update(InstanceInformationList=[]),
}


@pytest.mark.parametrize(
    ("policies", "edited", "level"),
    [
        ((), {}, "blocker"),
        ((), inline_policy("Deny", "ssm:*"), "blocker"),
        ((), inline_policy("Allow", "ssm:GetParameter"), "blocker"),
        (("arn:aws:iam::123456789012:policy/own",), {}, "warning"),
    ],
)
def test_a_profile_without_ssm_is_found(policies: tuple[str, ...], edited: dict[str, Read], level: str) -> None:
    spec = changed(fleet={"profiles": (Profile(policies=policies),)})

    preflight = Preflight(spec, edited={**NOT_ONLINE, **edited})

    assert preflight.said == [(level, "instance profile", "ecs-node")]


@pytest.mark.parametrize("sent", [dict, json.dumps, lambda document: quote(json.dumps(document))])
def test_an_inline_policy_is_read_as_boto3_gives_it_and_as_iam_sends_it(
    sent: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER / "scripts"))
    allows_ssm = importlib.import_module("preflight").allows_ssm

    assert allows_ssm(sent({"Statement": [{"Effect": "Allow", "Action": ["ssm:Update*"], "Resource": "*"}]}))
    assert not allows_ssm(sent({"Statement": {"Effect": "Deny", "Action": "ssm:*", "Resource": "*"}}))


# -- the lane ----------------------------------------------------------------------------------------------------------

ROOM: dict[str, tuple[FleetSpec, dict[str, Any], tuple[str, int, int], str]] = {
    "the maximum": (changed(group={"max_size": 25}), {}, ("rolling", 100, 125), "the group's maximum is 25"),
    "one host of many": (changed(group={"max_size": 21}), {}, ("rolling", 100, 105), "the group's maximum is 21"),
    "the quota": (changed(fleet={"vcpu_quota": 120}), {}, ("rolling", 100, 150), "quota L-1216C47A leaves 40 vCPU"),
    "addresses": (
        example_fleet("twenty"),
        {
            "edited": {
                "ec2.DescribeSubnets": lambda _, told: [
                    one.update(AvailableIpAddressCount=2) for one in told["Subnets"]
                ]
            }
        },
        ("rolling", 100, 130),
        "its subnets have 6 addresses left",
    ),
    "surge that was asked for": (example_fleet("twenty"), {"Lane": "surge"}, ("surge", 100, 200), "it was asked for"),
    "rolling that was asked for": (
        example_fleet("twenty"),
        {"Lane": "rolling"},
        ("rolling", 100, 200),
        "it was asked for",
    ),
    "rolling below desired": (
        changed(group={"max_size": 20}),
        {"Lane": "rolling"},
        ("rolling", 90, 100),
        "capacity falls below desired",
    ),
    "few hosts, one of which may go": (
        changed("tight", group={"max_size": 6}),
        {"Lane": "rolling"},
        ("rolling", 83, 100),
        "capacity falls below desired",
    ),
}


@pytest.mark.parametrize("case", ROOM)
def test_the_lane_follows_from_the_room(case: str) -> None:
    spec, given, (lane, low, high), why = ROOM[case]

    plan = Preflight(spec, **given).plan

    assert plan["Lane"] == lane
    assert (plan["Preferences"]["MinHealthyPercentage"], plan["Preferences"]["MaxHealthyPercentage"]) == (low, high)
    assert why in plan["LaneReason"]


def test_spot_instances_and_other_families_do_not_use_up_the_quota() -> None:
    def edit(_: Mapping[str, Any], told: dict[str, Any]) -> None:
        for number, reservation in enumerate(told["Reservations"]):
            [instance] = reservation["Instances"]
            instance.update({"InstanceLifecycle": "spot"} if number % 2 else {"InstanceType": "g4dn.xlarge"})

    spec = changed(
        fleet={
            "vcpu_quota": 80,
            "instance_types": {**example_fleet("gpu").instance_types, **example_fleet("twenty").instance_types},
        }
    )

    assert Preflight(spec).plan["State"] == "blocked"
    assert Preflight(spec, edited={"ec2.DescribeInstances": edit}).plan["Lane"] == "surge"


def test_a_single_host_without_room_has_its_root_volume_replaced() -> None:
    spec = changed("single", group={"max_size": 1, "overrides": (Override(instance_type="c6i.xlarge", image=OLD),)})

    plan = Preflight(spec).plan

    assert (plan["Lane"], plan["Strategy"]) == ("replace-root-volume", "ReplaceRootVolume")
    assert plan["Preferences"]["MinHealthyPercentage"] == 0
    assert "MaxHealthyPercentage" not in plan["Preferences"]


@pytest.mark.parametrize(
    ("desired", "size", "canary", "percent"),
    [(20, 1, 1, 5), (20, 3, 3, 15), (7, 1, 1, 15), (20, 19, 19, 95), (20, 20, 20, 0), (20, 99, 20, 0), (1, 1, 1, 0)],
)
def test_the_checkpoint_makes_at_least_the_canary_and_less_than_all(
    desired: int, size: int, canary: int, percent: int
) -> None:
    spec = changed(group={"min_size": 0, "desired": desired}, fleet={"services": ()})

    plan = Preflight(spec, CanarySize=size).plan

    assert (plan["Canary"], plan["CanaryPercent"]) == (canary, percent)
    assert ("CheckpointPercentages" in plan["CanaryPreferences"]) == (percent > 0)
    if percent:
        assert plan["CanaryPreferences"]["CheckpointPercentages"] == [percent, 100]
        assert canary <= desired * percent / 100 < desired


@pytest.mark.parametrize(
    ("fleet", "warmup"), [("twenty", 0), ("managed-draining", 180)], ids=["our hook", "managed draining"]
)
def test_hosts_need_no_warm_up_where_our_hook_holds_the_old_ones(fleet: str, warmup: int) -> None:
    assert Preflight(example_fleet(fleet)).plan["Preferences"]["InstanceWarmup"] == warmup


# -- where a host goes before another one comes ------------------------------------------------------------------------


def crowded(**service: object) -> FleetSpec:
    """Four hosts, no room for a fifth, one service."""
    spec = changed("blocked", group={"max_size": 4}, service=service)
    return spec.model_copy(update={"services": spec.services[:1], "standalone": ()})


@pytest.mark.parametrize(
    ("service", "needs"),
    [
        ({"desired": 4, "task": Task(host_ports=(8080,))}, "host ports 8080"),
        ({"desired": 4, "task": Task(network_mode="host", host_ports=(8080,))}, "host ports 8080"),
        ({"desired": 4, "constraints": ("distinctInstance",)}, "256 CPU units and 512 MiB, one a host"),
        ({"desired": 4, "task": Task(cpu=4096)}, "4096 CPU units and 512 MiB"),
        ({"desired": 4, "task": Task(memory=5000)}, "256 CPU units and 5000 MiB"),
    ],
)
def test_tasks_that_fit_nowhere_else_are_found(service: dict[str, object], needs: str) -> None:
    preflight = Preflight(crowded(**service), Lane="rolling")

    assert preflight.said == [("blocker", "service", "web"), ("warning", "lane", GROUP)]
    assert f"its tasks fit on no other host when theirs goes: each needs {needs}" in preflight.what


@pytest.mark.parametrize(
    "service",
    [
        {"desired": 3, "task": Task(host_ports=(8080,))},
        {"desired": 4, "minimum_healthy_percent": 75, "task": Task(host_ports=(8080,))},
        {"desired": 4, "task": Task(network_mode="awsvpc", host_ports=(8080,))},
        {"desired": 8, "task": Task(cpu=1024, memory=1024)},
    ],
)
def test_tasks_that_may_stop_or_fit_elsewhere_are_not(service: dict[str, object]) -> None:
    preflight = Preflight(crowded(**service), Lane="rolling")

    assert preflight.said == [("warning", "lane", GROUP)]


def test_host_ports_do_not_matter_where_a_host_comes_first() -> None:
    spec = crowded(desired=4, task=Task(host_ports=(8080,)))
    [group] = spec.groups
    spec = spec.model_copy(update={"groups": (group.model_copy(update={"max_size": 5}),)})

    preflight = Preflight(spec)

    assert (preflight.plan["Lane"], preflight.findings) == ("rolling", [])


# -- what was rolled before --------------------------------------------------------------------------------------------


def test_there_is_nothing_to_do_where_every_host_runs_the_image() -> None:
    preflight = Preflight(ON_NEW)

    assert (preflight.plan["State"], preflight.findings) == ("nothing", [])
    assert preflight.plan["Reason"] == f"every host of {GROUP} runs {NEW} already"
    assert set(preflight.plan) == KEYS


@pytest.mark.parametrize("state", ["done", "rolled-back", "failed"])
def test_the_record_of_an_ended_roll_is_none_of_an_unfinished_one(state: str) -> None:
    assert Preflight(ON_NEW, prepare=tag_roll(state)).plan["State"] == "nothing"
    assert Preflight(example_fleet("twenty"), prepare=both(tag_roll(state), add_hook)).plan["State"] == "go"


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (tag_roll("running"), ("blocker", "earlier roll", GROUP)),
        (add_hook, ("blocker", "hook", GROUP)),
    ],
)
def test_hosts_on_the_image_are_not_enough_while_something_is_left(prepare: Prepare, said: Said) -> None:
    preflight = Preflight(ON_NEW, prepare=prepare)

    assert (preflight.plan["State"], preflight.said) == ("blocked", [said])


@pytest.mark.parametrize("state", ["running", "rolling-back"])
def test_a_roll_that_lives_is_named(state: str) -> None:
    preflight = Preflight(example_fleet("twenty"), prepare=both(tag_roll(state), start_refresh), alive=ROLL)

    assert (preflight.plan["State"], preflight.findings) == ("already", [])
    assert ROLL in preflight.plan["Reason"]
    assert set(preflight.plan) == KEYS


def test_the_roll_that_asks_is_not_another_one() -> None:
    preflight = Preflight(example_fleet("twenty"), prepare=tag_roll("running"), alive=ROLL, Execution=ROLL)

    assert (preflight.plan["State"], preflight.findings) == ("go", [])


@pytest.mark.parametrize("state", ["running", "rolling-back"])
def test_a_roll_that_broke_off_half_way_has_to_go_back_first(state: str) -> None:
    preflight = Preflight(example_fleet("twenty"), prepare=both(tag_roll(state), add_hook, start_refresh))

    assert (preflight.plan["State"], preflight.said) == ("blocked", [("blocker", "earlier roll", GROUP)])
    assert ROLL in preflight.plan["Reason"]
    assert preflight.findings[0]["do"] == f"./run rollback --group {GROUP}, then roll again"


def test_one_replaced_host_is_half_way_even_where_nothing_else_is_left() -> None:
    def replace_one(group: dict[str, Any]) -> None:
        group["Instances"][0]["LaunchTemplate"]["Version"] = "2"

    preflight = Preflight(
        example_fleet("twenty"), prepare=both(add_version(NEW), tag_roll("running")), edited=in_groups(replace_one)
    )

    assert ("blocker", "earlier roll", GROUP) in preflight.said


def test_a_roll_that_broke_off_before_its_refresh_is_taken_over() -> None:
    preflight = Preflight(example_fleet("twenty"), prepare=both(add_version(NEW), tag_roll("running"), add_hook))

    assert (preflight.plan["State"], preflight.said) == ("go", [("warning", "earlier roll", GROUP)])
    assert preflight.plan["ToVersion"] == "2"


@pytest.mark.parametrize(
    ("prepare", "version"),
    [
        (add_version(NEW), "2"),
        (both(add_version(NEW), add_version(NEW)), "3"),
        (add_version(NEW, InstanceType="c6i.2xlarge"), ""),
        (add_version(OLD), ""),
    ],
)
def test_only_a_version_that_differs_by_nothing_but_the_image_is_used_again(prepare: Prepare, version: str) -> None:
    assert Preflight(example_fleet("twenty"), prepare=prepare).plan["ToVersion"] == version


# -- AWS refuses -------------------------------------------------------------------------------------------------------

OPTIONAL = {
    "autoscaling.DescribeScheduledActions": "scheduled action",
    "ec2.DescribeSubnets": "subnets",
    "ec2.DescribeCapacityReservations": "capacity reservation",
    "service-quotas.GetServiceQuota": "quota",
    "iam.GetInstanceProfile": "instance profile",
    "elbv2.DescribeTargetGroups": "target groups",
    "ecs.DescribeTaskDefinition": "service",
}
ESSENTIAL = {
    "autoscaling.DescribeInstanceRefreshes": "refresh",
    "autoscaling.DescribeLifecycleHooks": "hooks",
    "ec2.DescribeLaunchTemplateVersions": "template",
    "ec2.DescribeInstances": "hosts",
    "ec2.DescribeImages": "image",
    "ssm.GetParameter": "image",
    "ecs.ListClusters": "cluster",
    "ecs.DescribeClusters": "capacity provider",
    "ecs.ListServices": "services",
    "ecs.DescribeContainerInstances": "hosts",
    "ecs.ListTasks": "tasks",
    "ecs.GetTaskProtection": "protected tasks",
}


@pytest.mark.parametrize("operation", OPTIONAL)
def test_what_may_not_be_looked_at_is_a_warning_where_a_roll_is_safe_without(operation: str) -> None:
    preflight = Preflight(example_fleet("twenty"), refused={operation: "AccessDeniedException"})

    assert preflight.plan["State"] == "go"
    assert {one[:2] for one in preflight.said} == {("warning", OPTIONAL[operation])}
    assert "could not be looked at: " + operation.partition(".")[2] in preflight.what


@pytest.mark.parametrize("operation", ESSENTIAL)
def test_and_a_blocker_where_it_is_not(operation: str) -> None:
    preflight = Preflight(example_fleet("twenty"), refused={operation: "AccessDeniedException"})

    assert preflight.plan["State"] == "blocked"
    assert ("blocker", ESSENTIAL[operation]) in {one[:2] for one in preflight.said}
    assert f"could not be looked at: {operation.partition('.')[2]} answers AccessDeniedException" in preflight.what


@pytest.mark.parametrize(
    ("given", "operation"),
    [
        ({"Alarms": ["example-5xx"]}, "cloudwatch.DescribeAlarms"),
        ({"Calendar": "arn:aws:ssm:eu-central-1:123456789012:document/freeze"}, "ssm.GetCalendarState"),
    ],
)
def test_what_was_asked_for_has_to_be_seen(given: dict[str, Any], operation: str) -> None:
    assert Preflight(example_fleet("twenty"), refused={operation: "AccessDenied"}, **given).plan["State"] == "blocked"


@pytest.mark.parametrize("operation", ["ec2.DescribeImages", "service-quotas.GetServiceQuota", "ecs.ListTasks"])
def test_a_passing_refusal_is_asked_again(operation: str) -> None:
    fault = Fault(kind="throttling", operation=operation, times=2)

    preflight = Preflight(example_fleet("twenty"), faults=[fault])

    assert (preflight.findings, preflight.plan["State"]) == ([], "go")
    assert preflight.seconds == 10


def test_one_that_does_not_pass_is_a_warning_or_ends_the_step() -> None:
    def always(operation: str) -> Fault:
        return Fault(kind="throttling", operation=operation, times=None)

    quota = Preflight(example_fleet("twenty"), faults=[always("service-quotas.GetServiceQuota")])
    tasks = Preflight(example_fleet("twenty"), faults=[always("ecs.ListTasks")])

    assert (quota.plan["State"], quota.said) == ("go", [("warning", "quota", "L-1216C47A")])
    assert tasks.execution.status == "Failed"


# -- many --------------------------------------------------------------------------------------------------------------


def test_very_many_findings_are_cut_and_the_cut_is_told() -> None:
    spec = example_fleet("twenty")
    [web, *_] = spec.services
    stuck = web.model_copy(update={"desired": 1, "maximum_percent": 100, "load_balancer": None, "task": Task(cpu=1)})
    services = tuple(stuck.model_copy(update={"name": f"service-{number:03}"}) for number in range(150))

    preflight = Preflight(spec.model_copy(update={"services": services}))

    assert preflight.plan["State"] == "blocked"
    assert len(preflight.plan["Findings"].encode()) < 20_000
    assert preflight.said[-1] == ("warning", "findings", GROUP)
    assert f"not shown: {150 - len(preflight.findings) + 1} findings" in preflight.what
    assert len(preflight.plan["Reason"]) <= 500
    assert "150 blockers in all" in preflight.plan["Reason"]


def test_a_large_group_is_read_in_few_calls() -> None:
    spec = changed(group={"min_size": 0, "max_size": 400, "desired": 200}, fleet={"services": (), "vcpu_quota": 9999})

    preflight = Preflight(spec)

    assert (preflight.plan["State"], preflight.plan["Lane"]) == ("go", "surge")
    assert len(preflight.calls) < 40
