"""ECS's operations."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet.answers.registry import Answer, Parameters, operation, page
from pipeline.rehearsal.fleet.state import ClusterState, ContainerInstance, ServiceState, TaskState
from pipeline.rehearsal.fleet.unknown import only_known

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World


def _cluster(world: "World", given: Parameters) -> ClusterState:
    return world.scheduler.cluster(given.get("cluster", "default"))


def _short(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]


def _failures(missing: Sequence[str]) -> list[dict[str, str]]:
    return [{"arn": name, "reason": "MISSING"} for name in missing]


def _at_most(given: Sequence[str], most: int, what: str) -> None:
    if len(given) > most:
        raise Refused("InvalidParameterException", f"{what} can have at most {most} items.")


@operation("ecs.ListClusters", "nextToken maxResults")
def list_clusters(world: "World", given: Parameters) -> Answer:
    arns = [cluster.arn for cluster in world.clusters.values()]
    found, more = page(arns, given, most=100, size="maxResults", token="nextToken")  # noqa: S106
    return {"clusterArns": list(found), **more}


@operation("ecs.DescribeClusters", "clusters include")
def describe_clusters(world: "World", given: Parameters) -> Answer:
    names = [_short(name) for name in given.get("clusters", ["default"])]
    _at_most(names, 100, "clusters")
    found = [world.clusters[name] for name in names if name in world.clusters]
    return {
        "clusters": [
            {
                "clusterArn": cluster.arn,
                "clusterName": cluster.spec.name,
                "status": "ACTIVE",
                "registeredContainerInstancesCount": len(cluster.containers),
                "runningTasksCount": sum(task.status == "RUNNING" for task in cluster.tasks.values()),
                "pendingTasksCount": sum(task.status == "PENDING" for task in cluster.tasks.values()),
                "activeServicesCount": len(cluster.services),
                "capacityProviders": list(cluster.providers),
                "defaultCapacityProviderStrategy": [
                    {"capacityProvider": name, "weight": 1, "base": 0} for name in cluster.providers
                ],
            }
            for cluster in found
        ],
        "failures": _failures([world.arn("ecs", f"cluster/{name}") for name in names if name not in world.clusters]),
    }


@operation("ecs.DescribeCapacityProviders", "capacityProviders include maxResults nextToken")
def describe_providers(world: "World", given: Parameters) -> Answer:
    wanted = given.get("capacityProviders")
    answer = []
    known: set[str] = set()
    for cluster in world.clusters.values():
        for name in cluster.providers:
            known.add(name)
            if wanted and name not in {_short(one) for one in wanted}:
                continue
            group = next((one for one in world.groups.all.values() if one.cluster is cluster), None)
            spec = cluster.spec
            answer.append(
                {
                    "capacityProviderArn": world.arn("ecs", f"capacity-provider/{name}"),
                    "name": name,
                    "status": "ACTIVE",
                    "autoScalingGroupProvider": {
                        "autoScalingGroupArn": group.arn if group else "",
                        "managedScaling": {
                            "status": "ENABLED" if spec.managed_scaling else "DISABLED",
                            "targetCapacity": 100,
                            "instanceWarmupPeriod": 300,
                        },
                        "managedTerminationProtection": "ENABLED"
                        if spec.managed_termination_protection
                        else "DISABLED",
                        "managedDraining": "ENABLED" if spec.managed_draining else "DISABLED",
                    },
                }
            )
    missing = [name for name in wanted or () if _short(name) not in known]
    found, more = page(answer, given, most=10, size="maxResults", token="nextToken")  # noqa: S106
    return {"capacityProviders": list(found), "failures": _failures(missing), **more}


# -- container instances ----------------------------------------------------------------------------------------------

TERM = re.compile(
    r"(?P<name>ec2InstanceId|agentConnected|status|registeredAt|runningTasksCount|pendingTasksCount|attribute:[\w.-]+)"
    r" *(?P<operator>==|!=|in) *(?P<value>\[[^\]]*\]|[\w.:/-]+)"
)


Term = tuple[str, bool, frozenset[str]]  # what is compared, whether it is to be one of the values, the values


@lru_cache(maxsize=256)
def _terms(expression: str) -> tuple[Term, ...]:
    """A statement of the cluster query language: terms with ==, != and in, joined by `and`. Else UsageError."""
    terms: list[Term] = []
    for part in re.split(r"\s+and\s+|\s*&&\s*", expression.strip()):
        term = TERM.fullmatch(part.strip().strip("()"))
        if term is None:
            raise UsageError(
                f"the fleet model does not understand the filter {expression!r}",
                expected="terms like ec2InstanceId == i-1, ec2InstanceId in [i-1, i-2], attribute:NAME == VALUE, "
                "joined by `and`",
                where="ecs.ListContainerInstances",
                remedy="write the filter so, or filter the answer",
            )
        values = frozenset(one.strip() for one in term["value"].strip("[]").split(","))
        terms.append((term["name"], term["operator"] != "!=", values))
    return tuple(terms)


def _compared(name: str, container: ContainerInstance, world: "World") -> str:
    """What a term of that name looks at on a container instance."""
    match name:
        case "ec2InstanceId":
            return container.host.id
        case "agentConnected":
            return str(container.connected).lower()
        case "status":
            return world.scheduler.shown_status(container)
        case "runningTasksCount":
            return str(_running(container))
        case "pendingTasksCount":
            return str(_pending(container))
        case "registeredAt":
            return f"{world.when(container.registered):%Y-%m-%dT%H:%M:%SZ}"
    return container.attributes.get(name.removeprefix("attribute:"), "")


def _seen(world: "World", cluster: ClusterState) -> list[ContainerInstance]:
    if not world.lag:
        return list(cluster.containers.values())
    now = world.t - world.lag
    return [one for one in cluster.containers.values() if one.registered <= max(now, 0) or one.registered < 0]


@operation("ecs.ListContainerInstances", "cluster filter nextToken maxResults status")
def list_containers(world: "World", given: Parameters) -> Answer:
    containers = _seen(world, _cluster(world, given))
    wanted, status = given.get("filter"), given.get("status")
    if status:
        containers = [one for one in containers if world.scheduler.shown_status(one) == status]
    if wanted:
        terms = _terms(wanted)
        containers = [
            one
            for one in containers
            if all((_compared(name, one, world) in values) == wants for name, wants, values in terms)
        ]
    found, more = page(containers, given, most=100, size="maxResults", token="nextToken")  # noqa: S106
    return {"containerInstanceArns": [one.arn for one in found], **more}


def _running(container: ContainerInstance) -> int:
    """ContainerInstance.runningTasksCount counts *desired* status RUNNING: tasks that still stop are not in it."""
    return sum(task.desired == "RUNNING" and task.status == "RUNNING" for task in container.tasks.values())


def _pending(container: ContainerInstance) -> int:
    return sum(task.status == "PENDING" for task in container.tasks.values())


def _resources(cpu: int, memory: int, ports: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"name": "CPU", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": cpu},
        {"name": "MEMORY", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": memory},
        {
            "name": "PORTS",
            "type": "STRINGSET",
            "doubleValue": 0.0,
            "longValue": 0,
            "integerValue": 0,
            "stringSetValue": [str(port) for port in (22, 2375, 2376, 51678, 51679, *ports)],
        },
    ]


def _container(world: "World", container: ContainerInstance) -> dict[str, Any]:
    host = container.host
    return {
        "containerInstanceArn": container.arn,
        "ec2InstanceId": host.id,
        "status": world.scheduler.shown_status(container),
        "agentConnected": container.connected,
        "runningTasksCount": _running(container),
        "pendingTasksCount": _pending(container),
        "registeredAt": world.when(container.registered),
        "versionInfo": {"agentVersion": "1.99.0", "agentHash": "00000000", "dockerVersion": "DockerVersion: 25.0.8"},
        "registeredResources": _resources(container.cpu, container.memory, ()),
        "remainingResources": _resources(container.cpu_left, container.memory_left, sorted(container.ports)),
        "attributes": [{"name": name, "value": value} for name, value in container.attributes.items()],
        "attachments": [],
        "tags": [],
    }


def _containers(cluster: ClusterState, names: Sequence[str]) -> tuple[list[ContainerInstance], list[str]]:
    prefix = cluster.arn.replace(":cluster/", ":container-instance/") + "/"
    found, missing = [], []
    for name in names:
        container = cluster.containers.get(prefix + _short(name))
        if container is None:
            missing.append(name)
        else:
            found.append(container)
    return found, missing


@operation("ecs.DescribeContainerInstances", "cluster containerInstances include")
def describe_containers(world: "World", given: Parameters) -> Answer:
    only_known(given.get("include", []), ["TAGS", "CONTAINER_INSTANCE_HEALTH"], "part of container instances")
    names = given["containerInstances"]
    _at_most(names, 100, "containerInstances")
    found, missing = _containers(_cluster(world, given), names)
    return {"containerInstances": [_container(world, one) for one in found], "failures": _failures(missing)}


@operation("ecs.UpdateContainerInstancesState", "cluster containerInstances status", changes=True)
def update_state(world: "World", given: Parameters) -> Answer:
    names, status = given["containerInstances"], given["status"]
    _at_most(names, 10, "containerInstances")
    if status not in ("ACTIVE", "DRAINING"):
        raise Refused("InvalidParameterException", f"The status {status} is not ACTIVE or DRAINING.")
    found, missing = _containers(_cluster(world, given), names)
    for container in found:
        world.scheduler.set_status(container, status)
    return {"containerInstances": [_container(world, one) for one in found], "failures": _failures(missing)}


# -- services ---------------------------------------------------------------------------------------------------------


@operation("ecs.ListServices", "cluster nextToken maxResults launchType schedulingStrategy")
def list_services(world: "World", given: Parameters) -> Answer:
    services = list(_cluster(world, given).services.values())
    if "launchType" in given:
        services = [one for one in services if _launch_type(one) == given["launchType"]]
    if "schedulingStrategy" in given:
        services = [one for one in services if one.spec.scheduling == given["schedulingStrategy"]]
    found, more = page(
        [one.arn for one in services],
        {"maxResults": 10, **given},
        most=100,
        size="maxResults",
        token="nextToken",  # noqa: S106
    )
    return {"serviceArns": list(found), **more}


def _launch_type(service: ServiceState) -> str:
    return "" if service.spec.capacity_provider else "EC2"


def target_group_arn(world: "World", service: ServiceState) -> str:
    balancer = service.spec.load_balancer
    return world.arn("elasticloadbalancing", f"targetgroup/{balancer.name if balancer else ''}/0000000000000001")


def _definition(world: "World", family: str, revision: int) -> str:
    return world.arn("ecs", f"task-definition/{family}:{revision}")


def _service(world: "World", service: ServiceState) -> dict[str, Any]:
    spec = service.spec
    running = sum(task.status == "RUNNING" and task.desired == "RUNNING" for task in service.tasks.values())
    old = [task for task in service.tasks.values() if task.desired == "RUNNING" and task.revision != service.revision]
    deployments = [
        {
            "id": f"ecs-svc/{service.revision:019d}",
            "status": "PRIMARY",
            "taskDefinition": _definition(world, spec.name, service.revision),
            "desiredCount": service.desired,
            "runningCount": running - len(old),
            "pendingCount": service.pending,
            "failedTasks": service.failures,
            "createdAt": world.when(service.deployed),
            "updatedAt": world.when(service.deployed),
            "rolloutState": "IN_PROGRESS" if old else "COMPLETED",
        }
    ]
    if old:
        deployments.append(
            {
                "id": f"ecs-svc/{service.revision - 1:019d}",
                "status": "ACTIVE",
                "taskDefinition": _definition(world, spec.name, service.revision - 1),
                "desiredCount": 0,
                "runningCount": len(old),
                "pendingCount": 0,
                "failedTasks": 0,
                "createdAt": world.when(-86400),
                "updatedAt": world.when(service.deployed),
                "rolloutState": "COMPLETED",
            }
        )
    answer: dict[str, Any] = {
        "serviceArn": service.arn,
        "serviceName": spec.name,
        "clusterArn": service.cluster.arn,
        "status": "ACTIVE",
        "desiredCount": service.desired,
        "runningCount": running,
        "pendingCount": service.pending,
        "taskDefinition": _definition(world, spec.name, service.revision),
        "deploymentConfiguration": {
            "minimumHealthyPercent": spec.minimum_healthy_percent,
            "maximumPercent": spec.maximum_percent,
        },
        "deployments": deployments,
        "events": [
            {"id": f"00000000-0000-4000-8000-{number:012x}", "createdAt": world.when(at), "message": text}
            for number, (at, text) in reversed(list(enumerate(service.events[-100:])))
        ],
        "schedulingStrategy": spec.scheduling,
        "placementConstraints": [
            {"type": "distinctInstance"} if rule == "distinctInstance" else {"type": "memberOf", "expression": rule}
            for rule in spec.constraints
        ],
        "placementStrategy": [
            {"type": rule.split(":", 1)[0], "field": rule.split(":", 1)[1]} for rule in spec.strategy
        ],
        "loadBalancers": [],
        "healthCheckGracePeriodSeconds": spec.health_check_grace,
        "createdAt": world.when(-864000),
        "availabilityZoneRebalancing": "DISABLED",
    }
    if spec.load_balancer is not None:
        answer["loadBalancers"] = [
            {"targetGroupArn": target_group_arn(world, service), "containerName": spec.name, "containerPort": 80}
        ]
    if spec.capacity_provider and service.cluster.providers:
        answer["capacityProviderStrategy"] = [
            {"capacityProvider": service.cluster.providers[0], "weight": 1, "base": 0}
        ]
    else:
        answer["launchType"] = "EC2"
    return answer


@operation("ecs.DescribeServices", "cluster services include")
def describe_services(world: "World", given: Parameters) -> Answer:
    only_known(given.get("include", []), ["TAGS"], "part of services")
    cluster, names = _cluster(world, given), given["services"]
    _at_most(names, 10, "services")
    found = [cluster.services[_short(name)] for name in names if _short(name) in cluster.services]
    missing = [name for name in names if _short(name) not in cluster.services]
    return {"services": [_service(world, service) for service in found], "failures": _failures(missing)}


@operation("ecs.DescribeTaskDefinition", "taskDefinition include")
def describe_definition(world: "World", given: Parameters) -> Answer:
    family = _short(given["taskDefinition"]).split(":")[0]
    for cluster in world.clusters.values():
        service = cluster.services.get(family)
        lone = next((one for one in world.spec.standalone if one.family == family), None)
        task = service.spec.task if service else lone.task if lone else None
        if task is None:
            continue
        revision = int(_short(given["taskDefinition"]).partition(":")[2] or (service.revision if service else 1))
        return {
            "taskDefinition": {
                "taskDefinitionArn": _definition(world, family, revision),
                "family": family,
                "revision": revision,
                "status": "ACTIVE",
                "networkMode": task.network_mode,
                "requiresCompatibilities": ["EC2"],
                "cpu": str(task.cpu),
                "memory": str(task.memory),
                "placementConstraints": [],
                "volumes": [],
                "containerDefinitions": [
                    {
                        "name": family,
                        "image": f"example/{family}:{revision}",
                        "essential": True,
                        "cpu": task.cpu,
                        "memory": task.memory,
                        "stopTimeout": int(task.stop_timeout),
                        "portMappings": [
                            {"containerPort": port, "hostPort": port, "protocol": "tcp"} for port in task.host_ports
                        ],
                    }
                ],
            }
        }
    raise Refused("ClientException", "Unable to describe task definition.")


# -- tasks ------------------------------------------------------------------------------------------------------------


@operation(
    "ecs.ListTasks",
    "cluster containerInstance family nextToken maxResults startedBy serviceName desiredStatus launchType",
)
def list_tasks(world: "World", given: Parameters) -> Answer:
    """Without `desiredStatus` only tasks that are to run: those that still stop are not in the answer."""
    cluster = _cluster(world, given)
    status = given.get("desiredStatus", "RUNNING")
    wanted = given.get("containerInstance")
    tasks: Sequence[TaskState]
    if wanted:
        found, missing = _containers(cluster, [wanted])
        if missing:
            raise Refused("InvalidParameterException", "Referenced container instance was not found.")
        tasks = list(found[0].tasks.values())
        if status == "STOPPED":
            tasks = [*tasks, *found[0].stopped.values()]
    else:
        tasks = list(cluster.tasks.values())
    name, family = given.get("serviceName"), given.get("family")
    if name:
        if _short(name) not in cluster.services:
            raise Refused("ServiceNotFoundException", "Service not found.")
        tasks = [task for task in tasks if task.service is not None and task.service.spec.name == _short(name)]
    if family:
        tasks = [task for task in tasks if task.family == family]
    started_by = given.get("startedBy")
    if started_by:
        tasks = [task for task in tasks if _started_by(task) == started_by]
    if given.get("launchType", "EC2") != "EC2":
        tasks = []
    arns = [task.arn for task in tasks if task.desired == ("STOPPED" if status == "STOPPED" else "RUNNING")]
    page_of, more = page(arns, given, most=100, size="maxResults", token="nextToken")  # noqa: S106
    return {"taskArns": list(page_of), **more}


def _started_by(task: TaskState) -> str:
    return f"ecs-svc/{task.revision:019d}" if task.service is not None else "somebody"


STOP_CODES = {  # Task.stopCode; what ECS says of tasks whose host has ended is not documented
    "Essential container in task exited": "EssentialContainerExited",
    "Host is draining": "ServiceSchedulerInitiated",
    "Deployment": "ServiceSchedulerInitiated",
    "Scaling activity initiated": "ServiceSchedulerInitiated",
}


@operation("ecs.DescribeTasks", "cluster tasks include")
def describe_tasks(world: "World", given: Parameters) -> Answer:
    only_known(given.get("include", []), ["TAGS"], "part of tasks")
    cluster, names = _cluster(world, given), given["tasks"]
    _at_most(names, 100, "tasks")
    prefix = world.arn("ecs", f"task/{cluster.spec.name}/")
    answer, missing = [], []
    for name in names:
        task = cluster.tasks.get(prefix + _short(name))
        if task is None:
            missing.append(name)
            continue
        one: dict[str, Any] = {
            "taskArn": task.arn,
            "clusterArn": cluster.arn,
            "containerInstanceArn": task.container.arn,
            "taskDefinitionArn": _definition(world, task.family, task.revision),
            "group": f"service:{task.service.spec.name}" if task.service is not None else f"family:{task.family}",
            "lastStatus": task.status,
            "desiredStatus": task.desired,
            "launchType": "EC2",
            "availabilityZone": task.container.host.zone,
            "createdAt": world.when(task.created),
            "startedBy": _started_by(task),
            "cpu": str(task.spec.cpu),
            "memory": str(task.spec.memory),
            "healthStatus": "UNKNOWN",
            "containers": [{"name": task.family, "lastStatus": task.status, "taskArn": task.arn}],
            "attachments": [],
            "overrides": {},
            "tags": [],
        }
        if task.started < 1e18:
            one["startedAt"] = world.when(task.started)
        if task.stopping < 1e18:
            one["stoppingAt"] = world.when(task.stopping)
            one["stoppedReason"] = task.reason
            if code := STOP_CODES.get(task.reason):
                one["stopCode"] = code
        if task.stopped < 1e18:
            one["stoppedAt"] = world.when(task.stopped)
        answer.append(one)
    return {"tasks": answer, "failures": _failures(missing)}


@operation("ecs.GetTaskProtection", "cluster tasks")
def task_protection(world: "World", given: Parameters) -> Answer:
    cluster = _cluster(world, given)
    names = given.get("tasks", [])
    _at_most(names, 100, "tasks")
    prefix = world.arn("ecs", f"task/{cluster.spec.name}/")
    answer, missing = [], []
    for name in names:
        task = cluster.tasks.get(prefix + _short(name))
        if task is None or task.service is None:
            missing.append(name)
        else:
            one: dict[str, Any] = {"taskArn": task.arn, "protectionEnabled": task.protected_until > world.t}
            if task.protected_until > world.t:
                one["expirationDate"] = world.when(task.protected_until)
            answer.append(one)
    return {"protectedTasks": answer, "failures": _failures(missing)}
