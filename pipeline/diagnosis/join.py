"""Views of one thing joined into facts: in, what GuardDuty, EC2, ECS, SSM and the host itself say; out, `Facts`.

Pure, and careful: what no view shows stays unknown, so that the decision table cannot hold it against anybody.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.diagnosis import acl, policy, support
from pipeline.diagnosis.facts import Facts
from pipeline.diagnosis.model import Monitoring
from pipeline.diagnosis.views import (
    ClusterRow,
    EcsCluster,
    EcsHost,
    EcsService,
    Endpoint,
    HostRow,
    Inside,
    Instance,
    Managed,
    Networks,
)

YOUNG = timedelta(minutes=15)
RESTARTS_IN_A_LOOP = 2


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A service control policy that denies the account its telemetry."""

    policy: str
    target: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HostViews:
    """Everything known of one host; None: nobody could look, or that view does not hold it."""

    id: str
    account: str
    region: str
    now: datetime
    row: HostRow | None
    instance: Instance | None
    ecs: EcsHost | None = None
    monitoring: Monitoring | None = None
    managed: Managed | None = None
    managed_seen: bool = False
    inside: Inside | None = None
    networks: Networks | None = None
    image_name: str = ""
    telemetry: Telemetry | None = None
    telemetry_seen: bool = False
    service_role: bool | None = None
    """Whether the account has GuardDuty's service-linked role; None: nobody asked, or could see."""
    organization: str = ""
    agents_in_account: bool | None = None
    """Whether any host of the account and region is heard; None: not known."""
    listing_seen: bool = True


def host_facts(views: HostViews) -> Facts:
    """All facts of a host that is not healthy."""
    known: dict[str, str | None] = {}
    texts: dict[str, str] = {
        "id": views.id,
        "account": views.account,
        "region": views.region,
        "cluster": _cluster(views),
    }
    _add_account(known, texts, views.monitoring)
    known.pop("fargate_management", None)  # nothing of hosts depends on it
    if views.telemetry_seen:
        known["telemetry"] = "denied" if views.telemetry else "allowed"
        if views.telemetry:
            _add_policy(texts, views.telemetry)
    _add_role(known, views.service_role)
    row = views.row
    known["listed"] = ("yes" if row else "no") if views.listing_seen else None
    if row:
        automated: bool | None = row.automated
    else:
        automated = {"enabled": True, "disabled": False}.get(known.get("agent_management") or "")
    known["management"] = None if automated is None else ("automated" if automated else "manual")
    resource = "bottlerocket" if _bottlerocket(views) else "ec2"
    if views.instance:
        _add_instance(known, texts, views, views.instance)
    if views.id.startswith("mi-"):
        known["launcher"] = "anywhere"
    if views.managed_seen:
        known["ssm"] = "absent" if views.managed is None else ("online" if views.managed.online else "lost")
    if views.ecs:
        known["ecs_agent"] = _new_enough(support.at_least(views.ecs.agent, support.support().ecs.oldest_agent))
        texts["ecs_agent_version"] = views.ecs.agent
    if views.image_name:
        texts["image_name"] = views.image_name
        if date := support.image_date(views.image_name):
            known["ecs_image"] = "old" if date < support.support().ecs.oldest_image else "new-enough"
    _add_inside(known, texts, views)
    if known.get("agent_management"):
        managed_here = known["agent_management"] == "enabled" or known.get("inclusion") == "yes"
        if managed_here:
            powerless = known.get("guardduty_role") == "missing" and known["agent_management"] == "enabled"
            known["installer"] = "nobody" if powerless else "automated"
        elif views.agents_in_account is not None:
            known["installer"] = "manual" if views.agents_in_account else "nobody"
    agent = (views.inside.version if views.inside else "") or (row.agent if row else "")
    known["link_local"] = _link_local(automated, agent, views)
    if views.networks and views.instance and known.get("launcher") != "anywhere":
        _add_network(known, texts, views, views.instance, views.networks)
    known.pop("inclusion", None)
    _add_named(texts, (row.issue,) if row else ())
    return Facts(
        known={name: value for name, value in known.items() if value is not None},
        texts=texts,
        resource="bottlerocket" if resource == "bottlerocket" else "ec2",
        issues=(row.issue,) if row and row.issue else (),
    )


def _add_named(texts: dict[str, str], issues: Sequence[str]) -> None:
    """VPC and owner that a text of GuardDuty names, where no other view shows them."""
    for issue in issues:
        for name, pattern in (("vpc", r"\bvpc-[0-9a-f]+"), ("vpc_owner", r"owner account ID (\d{12})")):
            if not texts.get(name) and (found := re.search(pattern, issue, re.IGNORECASE)):
                texts[name] = found[found.re.groups]


def _cluster(views: HostViews) -> str:
    return (views.ecs.cluster if views.ecs else "") or (views.row.cluster if views.row else "")


def _bottlerocket(views: HostViews) -> bool:
    os = views.managed.os if views.managed else ""
    return os.lower().startswith("bottlerocket") or views.image_name.lower().startswith("bottlerocket")


def _new_enough(answer: bool | None) -> str | None:
    return None if answer is None else ("new-enough" if answer else "old")


def _add_account(known: dict[str, str | None], texts: dict[str, str], monitoring: Monitoring | None) -> None:
    if monitoring is None:
        return
    known["membership"] = monitoring.membership
    texts["relationship"] = monitoring.relationship
    features = monitoring.features
    for fact, name in (
        ("runtime_monitoring", "RUNTIME_MONITORING"),
        ("agent_management", "EC2_AGENT_MANAGEMENT"),
        ("fargate_management", "ECS_FARGATE_AGENT_MANAGEMENT"),
    ):
        if name in features:
            known[fact] = "enabled" if features[name] == "ENABLED" else "disabled"
    texts["feature_status"] = features.get("RUNTIME_MONITORING", "")
    texts["eks_only"] = ""
    if features.get("EKS_RUNTIME_MONITORING") == "ENABLED":
        texts["eks_only"] = "; EKS_RUNTIME_MONITORING is on, which is another feature"
    texts["monitored_since"] = monitoring.since


def _add_role(known: dict[str, str | None], there: bool | None) -> None:
    known["guardduty_role"] = None if there is None else ("present" if there else "missing")


def _add_policy(texts: dict[str, str], telemetry: Telemetry) -> None:
    texts |= {"policy": telemetry.policy, "policy_target": telemetry.target, "policy_reason": telemetry.reason}


def _add_instance(known: dict[str, str | None], texts: dict[str, str], views: HostViews, instance: Instance) -> None:
    known["platform"] = "windows" if instance.windows else "linux"
    texts["platform_detail"] = instance.platform
    known["launcher"] = "managed-instances" if instance.operator.startswith("ecs") else "ec2"
    unsupported = instance.type.startswith("a1.") or instance.architecture in ("i386", "x86_64_mac", "arm64_mac")
    known["architecture"] = "unsupported" if unsupported else "supported"
    texts |= {"instance_type": instance.type, "architecture_name": instance.architecture, "vpc": instance.vpc}
    texts["address"] = instance.address
    texts["profile_name"] = instance.profile
    eks = instance.tags.get("aws:eks:cluster-name") or instance.tags.get("eks:cluster-name", "")
    known["eks_node"] = "yes" if eks else "no"
    texts["eks_cluster"] = eks
    managed = instance.tags.get("GuardDutyManaged", "").lower()
    known["exclusion_tag"] = "no" if managed != "false" else ("yes" if instance.metadata_tags else "unread")
    known["inclusion"] = "yes" if managed == "true" else "no"
    known["metadata"] = "on" if instance.metadata else "off"
    known["profile"] = "present" if instance.profile else "absent"
    age = views.now - instance.launched
    known["age"] = "minutes" if age < YOUNG else "older"
    texts["age_minutes"] = str(max(0, int(age.total_seconds() // 60)))


def _add_inside(known: dict[str, str | None], texts: dict[str, str], views: HostViews) -> None:
    os = (views.inside.os if views.inside else "") or (views.managed.os if views.managed else "")
    texts["os"] = os
    if not (views.instance and views.instance.windows):
        known["os_support"] = support.os_support(os)
    if _bottlerocket(views):
        release = os.split()[-1] if os else views.image_name.rsplit("-v", 1)[-1]
        known["bottlerocket"] = _new_enough(support.at_least(release, support.support().bottlerocket.oldest))
    seen = views.inside
    if seen is None:
        return
    texts["kernel"] = seen.kernel
    known["kernel_support"] = support.kernel_support(seen.kernel, os)
    known["btf"] = "yes" if seen.btf else "no"
    if seen.memlock_kib >= 0 and seen.installed:
        low = support.memlock_matters(seen.kernel) and seen.memlock_kib < support.support().memlock.kib
        known["memlock"] = "low" if low else "enough"
        texts["memlock_kib"] = str(seen.memlock_kib)
    texts |= {"unit_state": seen.active, "unit_enabled": seen.enabled or "not enabled"}
    texts |= {"unit_restarts": str(seen.restarts), "unit_window": str(seen.window), "agent": seen.version}
    if not seen.installed:
        # Bottlerocket has no unit: there the agent is a host container, which only its own tools show
        known["agent_unit"] = None if _bottlerocket(views) else "not-installed"
        return
    if seen.restarts >= RESTARTS_IN_A_LOOP or seen.active == "activating":
        known["agent_unit"] = "restarting"
    else:
        known["agent_unit"] = "active" if seen.active == "active" else "inactive"
    if reason := support.agent_reason(seen.version, seen.kernel, on_ecs=bool(views.ecs)):
        known["agent_version"], texts["agent_reason"] = "too-old", reason


def _link_local(automated: bool | None, agent: str, views: HostViews) -> str | None:
    """Whether the agent may reach GuardDuty without an endpoint: automated management, and 1.17.1 or later."""
    if agent and not support.at_least(agent, support.support().link_local_from):
        return "impossible"
    if automated is None:
        return None
    if not automated:
        return "impossible"
    return "possible" if agent or not (views.inside and views.inside.installed) else None


def _add_network(
    known: dict[str, str | None], texts: dict[str, str], views: HostViews, instance: Instance, networks: Networks
) -> None:
    texts["vpc_cidr"] = _cidr_of(instance, networks.cidrs.get(instance.vpc, ()))
    if instance.vpc in networks.dns_off:
        known["vpc_dns"] = "off" if networks.dns_off[instance.vpc] else "on"
        texts["vpc_dns_detail"] = networks.dns_off[instance.vpc]
    host_groups = [networks.groups[group] for group in instance.groups if group in networks.groups]
    if instance.groups and len(host_groups) == len(instance.groups):
        known["host_egress"] = "open" if any(group.egress for group in host_groups) else "closed"
        texts["host_groups"] = ", ".join(instance.groups)
    here = _endpoints_here(known, texts, views, instance, networks)
    if not here:
        return
    endpoint = next((item for item in here if item.state == "available"), here[0])
    texts |= {"endpoint_id": endpoint.id, "endpoint_state": endpoint.state, "endpoint_vpc": endpoint.vpc}
    known["endpoint"] = "usable" if endpoint.state == "available" else "unavailable"
    if endpoint.state == "available" and not endpoint.interfaces:
        known["endpoint"] = "in-no-subnet"
    known["endpoint_dns"] = "on" if endpoint.private_dns else "off"
    texts |= {
        "endpoint_group": endpoint.groups[0] if endpoint.groups else "",
        "endpoint_groups": ", ".join(endpoint.groups),
    }
    known["endpoint_ingress"] = _ingress(endpoint, instance, networks)
    _add_way(known, texts, endpoint, instance, networks)
    verdict = policy.weigh(endpoint.policy, account=views.account, organization=views.organization)
    if verdict.kind in ("denied", "silent"):
        known["endpoint_policy"], texts["endpoint_policy_reason"] = "denied", verdict.reason
    elif verdict.kind == "allowed":
        known["endpoint_policy"] = "allowed"


def _cidr_of(instance: Instance, cidrs: Sequence[str]) -> str:
    """Which of the VPC's CIDRs the host's address is from; a VPC may have several."""
    if not instance.address:
        return ""
    address = ipaddress.ip_address(instance.address)
    return next((cidr for cidr in cidrs if address in ipaddress.ip_network(cidr, strict=False)), "")


def _endpoints_here(
    known: dict[str, str | None], texts: dict[str, str], views: HostViews, instance: Instance, networks: Networks
) -> Sequence[Endpoint]:
    """Endpoints in the host's VPC; where there is none it is told, and where nobody could look it is not."""
    owner = networks.owners.get(instance.vpc, "")
    if owner not in ("", views.account):
        texts["vpc_owner"] = owner
        texts["shared"] = f" (by its owner, account {owner}, which shares it)"
        if instance.vpc in networks.shared and not networks.shared[instance.vpc]:
            known["endpoint"] = "missing"
        return networks.shared.get(instance.vpc, ())
    if networks.endpoints is None:
        return ()
    here = [endpoint for endpoint in networks.endpoints if endpoint.vpc == instance.vpc]
    if not here and owner:
        # one that serves hosts where it is was meant for them; one that serves nobody was put in the wrong place
        stray = next((item for item in networks.endpoints if item.vpc not in networks.used), None)
        known["endpoint"] = "elsewhere" if stray else "missing"
        if stray:
            texts |= {"endpoint_id": stray.id, "endpoint_vpc": stray.vpc}
    return here


def _add_way(
    known: dict[str, str | None], texts: dict[str, str], endpoint: Endpoint, instance: Instance, networks: Networks
) -> None:
    """What lies between the host and the endpoint's interfaces, if all of them were seen."""
    spots = [networks.interfaces[number] for number in endpoint.interfaces if number in networks.interfaces]
    if not spots or len(spots) != len(endpoint.interfaces):
        return
    zones = {spot.zone for spot in spots}
    if instance.zone and "" not in zones:
        known["endpoint_zone"] = "same" if instance.zone in zones else "other"
        texts |= {"zone": instance.zone, "endpoint_zones": ", ".join(sorted(zones))}
    if not instance.address:
        return
    found = acl.way(acl.Spot(instance.subnet, instance.address), spots, networks.acls)
    known["network_acl"] = found.kind
    texts |= {"acl": found.acl, "acl_reason": found.reason, "acl_need": found.need}


def _ingress(endpoint: Endpoint, instance: Instance, networks: Networks) -> str | None:
    groups = [networks.groups[group] for group in endpoint.groups if group in networks.groups]
    if not groups or len(groups) != len(endpoint.groups) or not instance.address:
        return None
    address = ipaddress.ip_address(instance.address)
    for group in groups:
        if set(group.inbound_groups) & set(instance.groups):
            return "open"
        for source in group.inbound:
            if source.startswith("pl-"):
                return None  # a prefix list would have to be read
            if address in ipaddress.ip_network(source, strict=False):
                return "open"
    return "closed"


def cluster_facts(
    account: str,
    region: str,
    name: str,
    *,
    row: ClusterRow | None,
    ecs: EcsCluster | None,
    issues: tuple[str, ...],
    monitoring: Monitoring | None,
    hosts_explained: bool,
    service_role: bool | None = None,
    listing_seen: bool = True,
) -> Facts:
    """Facts of a cluster as a whole; `issues` are GuardDuty's texts that belong to no single service."""
    known: dict[str, str | None] = {}
    texts = {"account": account, "region": region, "cluster": name, "id": name, "service": name}
    _add_account(known, texts, monitoring)
    _add_role(known, service_role)
    known.pop("agent_management", None)
    if not (ecs and ecs.fargate_services):
        known.pop("fargate_management", None)
    if ecs and ecs.tag:
        known["cluster_tag"] = "false" if ecs.tag.lower() == "false" else "true"
    if listing_seen:
        known["cluster_listed"] = "yes" if row else "no"
    if row and row.covered < row.compatible and not hosts_explained:
        known["hosts_covered"] = "no"
        texts |= {"covered": str(row.covered), "compatible": str(row.compatible)}
    _add_named(texts, issues)
    return Facts({k: v for k, v in known.items() if v is not None}, texts, "fargate", issues)


def service_facts(
    account: str,
    region: str,
    service: EcsService,
    *,
    issues: tuple[str, ...],
    monitoring: Monitoring | None,
    since: datetime | None,
    telemetry: Telemetry | None = None,
    role: Mapping[str, str] | None = None,
) -> Facts:
    """Facts of a Fargate service that GuardDuty complains about; `role` is what is in the execution role's way."""
    known: dict[str, str | None] = {}
    texts = {"account": account, "region": region, "cluster": service.cluster, "service": service.name}
    texts |= {"id": service.name, "task_definition": service.task_definition}
    _add_account(known, texts, monitoring)
    known.pop("agent_management", None)
    known["execution_role"] = "present" if service.execution_role else "absent"
    texts["execution_role_arn"] = service.execution_role or ""
    texts["task_platform_detail"] = service.platform_version
    if "windows" in service.family.lower():
        known["task_platform"], texts["task_platform_detail"] = "windows", service.family
    elif service.platform_version and service.platform_version != "LATEST":
        enough = support.at_least(service.platform_version, support.support().fargate.oldest_platform)
        known["task_platform"] = None if enough is None else ("supported" if enough else "old")
    if since and service.deployed:
        known["deployed"] = "before-monitoring" if service.deployed < since else "since"
        texts["deployed_at"] = f"{service.deployed:%Y-%m-%d}"
        texts["monitored_since"] = f"{since:%Y-%m-%d}"
    if telemetry:
        known["telemetry"] = "denied"
        _add_policy(texts, telemetry)
    if role:
        known["role_telemetry"] = "denied"
        texts |= dict(role)
    _add_named(texts, issues)
    return Facts({k: v for k, v in known.items() if v is not None}, texts, "fargate", issues)
