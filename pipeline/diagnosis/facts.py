"""The words in which a diagnosis speaks: which facts can be known of a thing, and which values each may have.

A fact that nobody looked up, or that could not be seen, is absent, and no sign of `causes.yaml` holds on an absent
fact: that is why a diagnosis never invents a cause. `Facts` are what one host, cluster or service has; `texts` are
what a sentence about it may name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from pipeline.yaml_file import StrictModel

Resource = Literal["ec2", "bottlerocket", "fargate"]
"""Whose page of issue texts applies."""


class Conditions(StrictModel):
    """Facts and the value each must have. Sources of the limits: pipeline/diagnosis/support.yaml."""

    # the account in the region
    runtime_monitoring: Literal["enabled", "disabled"] | None = None
    agent_management: Literal["enabled", "disabled"] | None = None
    fargate_management: Literal["enabled", "disabled"] | None = None
    membership: Literal["member", "none", "suspended"] | None = None
    telemetry: Literal["allowed", "denied"] | None = None
    guardduty_role: Literal["present", "missing"] | None = None

    # the way from the host's VPC to GuardDuty
    endpoint: Literal["usable", "missing", "elsewhere", "unavailable", "in-no-subnet"] | None = None
    endpoint_zone: Literal["same", "other"] | None = None
    endpoint_dns: Literal["on", "off"] | None = None
    endpoint_ingress: Literal["open", "closed"] | None = None
    endpoint_policy: Literal["allowed", "denied"] | None = None
    vpc_dns: Literal["on", "off"] | None = None
    host_egress: Literal["open", "closed"] | None = None
    network_acl: Literal["open", "closed"] | None = None
    link_local: Literal["possible", "impossible"] | None = None

    # the host as EC2, ECS and SSM show it
    platform: Literal["linux", "windows"] | None = None
    launcher: Literal["ec2", "anywhere", "managed-instances"] | None = None
    architecture: Literal["supported", "unsupported"] | None = None
    eks_node: Literal["yes", "no"] | None = None
    exclusion_tag: Literal["yes", "no", "unread"] | None = None
    installer: Literal["automated", "manual", "nobody"] | None = None
    metadata: Literal["on", "off"] | None = None
    profile: Literal["present", "absent"] | None = None
    ssm: Literal["online", "lost", "absent"] | None = None
    management: Literal["automated", "manual"] | None = None
    ecs_agent: Literal["new-enough", "old"] | None = None
    ecs_image: Literal["new-enough", "old"] | None = None
    bottlerocket: Literal["new-enough", "old"] | None = None
    age: Literal["minutes", "older"] | None = None
    listed: Literal["yes", "no"] | None = None
    issue_known: Literal["yes", "no"] | None = None

    # the host from inside
    kernel_support: Literal["verified", "below", "above", "unverified"] | None = None
    os_support: Literal["verified", "unverified"] | None = None
    btf: Literal["yes", "no"] | None = None
    memlock: Literal["enough", "low"] | None = None
    agent_unit: Literal["active", "inactive", "restarting", "not-installed"] | None = None
    agent_version: Literal["new-enough", "too-old"] | None = None

    # clusters and Fargate services
    cluster_tag: Literal["true", "false"] | None = None
    cluster_listed: Literal["yes", "no"] | None = None
    hosts_covered: Literal["yes", "no"] | None = None
    execution_role: Literal["present", "absent"] | None = None
    task_platform: Literal["supported", "old", "windows"] | None = None
    deployed: Literal["before-monitoring", "since"] | None = None
    role_telemetry: Literal["allowed", "denied"] | None = None


TEXTS = frozenset(
    {
        "account",
        "acl",
        "acl_need",
        "acl_reason",
        "address",
        "age_minutes",
        "agent",
        "agent_reason",
        "architecture_name",
        "cluster",
        "compatible",
        "covered",
        "deployed_at",
        "ecs_agent_version",
        "eks_cluster",
        "eks_only",
        "endpoint_group",
        "endpoint_groups",
        "endpoint_id",
        "endpoint_policy_reason",
        "endpoint_state",
        "endpoint_vpc",
        "endpoint_zones",
        "execution_role_arn",
        "feature_status",
        "host_groups",
        "id",
        "image_name",
        "instance_type",
        "issue",
        "kernel",
        "memlock_kib",
        "monitored_since",
        "os",
        "platform_detail",
        "policy",
        "policy_reason",
        "policy_target",
        "profile_name",
        "region",
        "relationship",
        "service",
        "shared",
        "task_definition",
        "task_platform_detail",
        "unit_enabled",
        "unit_restarts",
        "unit_state",
        "unit_window",
        "vpc",
        "vpc_cidr",
        "vpc_dns_detail",
        "vpc_owner",
        "zone",
    }
)
"""What a remedy or a piece of evidence may name in braces."""

VALUES: Mapping[str, frozenset[str]] = {
    name: frozenset(get_args(get_args(info.annotation)[0])) for name, info in Conditions.model_fields.items()
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one thing. `known` has names and values of `Conditions`, `texts` names of `TEXTS`."""

    known: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)
    resource: Resource = "ec2"
    issues: tuple[str, ...] = ()
    """GuardDuty's texts, unaltered."""
