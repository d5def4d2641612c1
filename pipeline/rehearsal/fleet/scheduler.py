"""ECS: container instances that register and drain, services that start, move and stop tasks.

Sources: ECS API reference (UpdateContainerInstancesState, DeploymentConfiguration, ContainerInstance, ListTasks) and
developer guide on draining, placement and load balancing. Where both are silent, a switch.
"""

import heapq
import math
import re
from typing import TYPE_CHECKING

from pipeline.errors import CatalogError
from pipeline.rehearsal.answered_session import Refused
from pipeline.rehearsal.fleet import spec as specs
from pipeline.rehearsal.fleet.faults import Fault
from pipeline.rehearsal.fleet.state import (
    ClusterState,
    ContainerInstance,
    Host,
    ServiceState,
    TaskState,
)

if TYPE_CHECKING:
    from pipeline.rehearsal.fleet.world import World

SETTLE_WITHOUT_BALANCER = 40.0  # DeploymentConfiguration.minimumHealthyPercent
REMEMBERED = 3600.0  # ECS developer guide, stopped tasks: shown for at least one hour
FIRST_RETRY = 30.0  # seconds until a service tries again after a failed start; an assumption, it doubles
LAST_RETRY = 900.0
AGENT_MEMORY = 256  # MiB that the host keeps for itself; an assumption


class Scheduler:
    """Every cluster of a world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.dirty: dict[str, ServiceState] = {}

    # -- the start ------------------------------------------------------------------------------------------------

    def populate(self) -> None:
        """Services with every task running and healthy; standalone tasks on the first hosts with room."""
        world = self.world
        for spec in world.spec.services:
            cluster = world.clusters[spec.cluster]
            service = ServiceState(
                spec=spec,
                arn=world.arn("ecs", f"service/{spec.cluster}/{spec.name}"),
                cluster=cluster,
                desired=spec.desired,
                deployed=-86400.0,
            )
            cluster.services[spec.name] = service
            wanted = len(cluster.containers) if spec.scheduling == "DAEMON" else spec.desired
            placed = self._place(service, wanted)
            if len(placed) < wanted:
                raise CatalogError(
                    f"service {spec.name} wants {wanted} tasks, and its cluster has room for {len(placed)}",
                    where=f"services > {spec.name}",
                    remedy="lower `desired`, the size of its task, or give the group more hosts",
                )
            for index, task in enumerate(placed):
                task.created = task.started = -80000.0
                self._set(task, "RUNNING")
                service.pending -= 1
                task.healthy = True
                service.healthy += 1
                if index < spec.protected_tasks:
                    task.protected_until = 7200.0  # UpdateTaskProtection's default, two hours
            service.events.append((-80000.0, f"(service {spec.name}) has reached a steady state."))
        for lone in world.spec.standalone:
            cluster = world.clusters[lone.cluster]
            for _ in range(lone.count):
                container = next((one for one in cluster.containers.values() if self._fits(one, lone.task)), None)
                if container is None:
                    raise CatalogError(f"the cluster {lone.cluster} has no room for the task {lone.family}")
                task = self._new_task(container, lone.task, None, lone.family, 1)
                task.created = task.started = -3600.0
                self._set(task, "RUNNING")
                if lone.lives is not None:
                    world.at(lone.lives, self._ends, task)
        self.dirty.clear()

    # -- container instances --------------------------------------------------------------------------------------

    def register(self, host: Host) -> None:
        """The ECS agent of a host connects."""
        world, group = self.world, host.group
        if group is None:
            return
        cluster = group.cluster
        old = host.container
        if old is not None and world.switches.root_swap_registers == "same":
            old.connected = True
            self._status(old, "ACTIVE")
        else:
            kind = world.types[host.instance_type]
            cpu, memory = kind.vcpus * 1024, kind.memory - AGENT_MEMORY
            suffix = f"{host.index:016x}{1 if old is None else 2:016x}"
            container = ContainerInstance(
                arn=world.arn("ecs", f"container-instance/{cluster.spec.name}/{suffix}"),
                host=host,
                cluster=cluster,
                registered=max(world.t, host.launched) if host.launched >= 0 else host.launched,
                cpu=cpu,
                memory=memory,
                cpu_left=cpu,
                memory_left=memory,
            )
            host.container = container
            cluster.containers[container.arn] = container
            world.timeline.host_changed(host)
        self._room_in(cluster)
        self._daemons_anew(cluster)

    def set_status(self, container: ContainerInstance, status: str) -> None:
        """UpdateContainerInstancesState for one of them."""
        if status == "DRAINING":
            self.drain(container.host)
        elif container.status == "DRAINING":
            self._status(container, "ACTIVE")
            for task in container.tasks.values():
                if task.service is not None:
                    task.service.retiring.pop(task.arn, None)
                    task.service.orphans.pop(task.arn, None)
                    self.dirty[task.service.arn] = task.service
            self._room_in(container.cluster)

    def drain(self, host: Host, *, managed: bool = False) -> None:
        """DRAINING: pending service tasks stop at once, running ones move as their service's limits allow."""
        container = host.container
        if container is None:
            if managed:
                self.world.after(0, self.world.groups.managed_drain_over, host)
            return
        if container.status != "DRAINING":
            self._status(container, "DRAINING")
            container.drained_since = self.world.t
            self.world.timeline.first_drain()
            for task in list(container.tasks.values()):
                service = task.service
                if service is None or task.desired == "STOPPED" or service.spec.scheduling == "DAEMON":
                    continue
                if task.status == "PENDING":
                    self._orphan(task)
                    self.stop(task, "Host is draining")
                else:
                    self._retire(task)
        self._drained(container)

    def _status(self, container: ContainerInstance, status: str) -> None:
        if container.status != status:
            container.before = (self.world.t, container.status)
            container.status = status
        self.world.timeline.host_changed(container.host)

    def shown_status(self, container: ContainerInstance) -> str:
        lag = self.world.lag
        if lag and container.before is not None and self.world.t - container.before[0] < lag:
            return container.before[1]
        return container.status

    def _drained(self, container: ContainerInstance) -> None:
        """Stop daemons once nothing else is left on a draining host, and then let ECS's own hook, if any, let it go.

        ECS developer guide, daemon services: on a host that becomes DRAINING they are stopped, after all others.
        """
        host = container.host
        if container.status != "DRAINING":
            return
        rest = [task for task in container.tasks.values() if task.desired == "RUNNING" or task.status != "STOPPED"]
        daemons = [task for task in rest if task.service is not None and task.service.spec.scheduling == "DAEMON"]
        if len(rest) > len(daemons):
            return
        for task in daemons:
            if task.desired == "RUNNING":
                self.stop(task, "Host is draining")
        if not rest and any(action.hook.managed for action in host.actions):
            self.world.after(0, self.world.groups.managed_drain_over, host)

    def lose(self, host: Host, *, rebooting: bool = False) -> None:
        """A host goes down: whatever runs on it is gone at once."""
        container = host.container
        if container is None:
            return
        container.connected = False
        for task in list(container.tasks.values()):
            self._lost(task)
        if not rebooting or self.world.switches.root_swap_registers == "another":
            self._room_in(container.cluster)
        self.world.timeline.host_changed(host)

    def _lost(self, task: TaskState) -> None:
        self.world.watch.killed(task)
        if task.desired == "RUNNING":
            self._orphan(task)
            self._no_longer_wanted(task)
        self._stopped(task, "Host EC2 terminated")

    def forget(self, host: Host) -> None:
        """ECS deregisters the container instance of a host that EC2 has terminated."""
        container = host.container
        if container is not None:
            self._status(container, "INACTIVE")
            container.cluster.containers.pop(container.arn, None)
            self._daemons_anew(container.cluster)

    def _daemons_anew(self, cluster: ClusterState) -> None:
        """The hosts that daemons run on have changed."""
        for service in cluster.services.values():
            if service.spec.scheduling == "DAEMON":
                self.dirty[service.arn] = service

    def _room_in(self, cluster: ClusterState) -> None:
        for service in cluster.services.values():
            if service.wanting:
                self.dirty[service.arn] = service

    # -- services -------------------------------------------------------------------------------------------------

    def react(self) -> None:
        """Let every service that has reason to act."""
        while self.dirty:
            _, service = self.dirty.popitem()
            if service.spec.scheduling == "DAEMON":
                self._daemon(service)
            else:
                self._replica(service)

    def _replica(self, service: ServiceState) -> None:
        spec, retiring = service.spec, service.retiring
        desired = service.desired
        if service.live == desired and not retiring:
            service.wanting = False
            return
        staying = service.live - len(retiring)
        service.wanting = False
        need = desired - staying
        if need > 0 and self.world.t >= service.retry_at:
            # DeploymentConfiguration.maximumPercent: RUNNING or PENDING, rounded down.
            room = math.floor(desired * spec.maximum_percent / 100) - service.live
            count = min(need, room)
            if count > 0:
                placed = self._place(service, count)
                if len(placed) < count:
                    service.wanting = True
                    self._say(
                        service,
                        f"(service {spec.name}) was unable to place a task because no container instance met all of "
                        "its requirements. The closest matching container-instance has insufficient resources "
                        "available. For more information, see the Troubleshooting section of the Amazon ECS "
                        "Developer Guide.",
                    )
        elif need > 0:
            service.wanting = True
        if retiring:
            # minimumHealthyPercent: rounded up. Unhealthy ones do not count, so they may always go.
            spare = service.healthy - math.ceil(desired * spec.minimum_healthy_percent / 100)
            going = [task for task in service.unfit.values() if not task.healthy]
            service.unfit.clear()
            for task in retiring.values() if spare > 0 else ():
                if spare <= 0:
                    break
                if task.healthy and not self._protected(task):
                    spare -= 1
                    going.append(task)
            for task in going:
                self.stop(task, "Host is draining" if task.revision == service.revision else "Deployment")
        excess = service.live - len(retiring) - desired
        if excess > 0:
            running = [
                task for task in service.tasks.values() if task.desired == "RUNNING" and task.arn not in retiring
            ]
            running.sort(key=lambda task: (task.healthy, task.created))
            for task in running[:excess]:
                if task.protected_until <= self.world.t:
                    self.stop(task, "Scaling activity initiated")

    def _retire(self, task: TaskState) -> None:
        """The service is to replace a task that runs."""
        service = task.service
        if service is None:
            return
        self._orphan(task)
        service.retiring[task.arn] = task
        if not task.healthy:
            service.unfit[task.arn] = task
        self.dirty[service.arn] = service

    def _protected(self, task: TaskState) -> bool:
        """Whether a task's scale-in protection keeps it where it is; if so, the service looks again when it ends."""
        if task.protected_until <= self.world.t or self.world.switches.protection_holds_drain == "no":
            return False
        if task.service is not None:
            self.world.at(task.protected_until, self._wake, task.service)
        return True

    def _daemon(self, service: ServiceState) -> None:
        covered = {task.container.arn for task in service.tasks.values() if task.desired == "RUNNING"}
        for container in list(service.cluster.containers.values()):
            if container.placeable and container.arn not in covered and self._allowed(service, container):
                if self._fits(container, service.spec.task):
                    self._start(service, container)
                else:
                    service.wanting = True
        # ECS developer guide, service scheduler: one task on each active container instance that meets the constraints.
        service.desired = sum(
            container.status == "ACTIVE" and self._allowed(service, container)
            for container in service.cluster.containers.values()
        )

    def _wake(self, service: ServiceState) -> None:
        self.dirty[service.arn] = service

    def _say(self, service: ServiceState, text: str) -> None:
        if not service.events or service.events[-1][1] != text or self.world.t - service.events[-1][0] > 300:
            service.events.append((self.world.t, text))

    # -- placement ------------------------------------------------------------------------------------------------

    def _fits(self, container: ContainerInstance, task: specs.Task) -> bool:
        return (
            container.cpu_left >= task.cpu
            and container.memory_left >= task.memory
            and not (task.host_ports and container.ports.intersection(task.host_ports))
        )

    def _allowed(self, service: ServiceState, container: ContainerInstance) -> bool:
        """Whether every memberOf constraint holds on a container instance."""
        for rule in service.spec.constraints:
            if rule != "distinctInstance" and not member_of(rule, container.attributes):
                return False
        return True

    def _place(self, service: ServiceState, count: int) -> list[TaskState]:
        """Start up to `count` tasks where the service's constraints and strategy put them."""
        spec = service.spec
        containers = [
            container
            for container in service.cluster.containers.values()
            if container.connected
            and container.status == "ACTIVE"
            and self._fits(container, spec.task)
            and (not spec.constraints or self._allowed(service, container))
        ]
        if not containers:
            return []
        own: dict[str, int] = {}
        zones: dict[str, int] = {container.host.zone: 0 for container in containers}
        for task in service.tasks.values():
            if task.desired == "RUNNING":
                own[task.container.arn] = own.get(task.container.arn, 0) + 1
                zone = task.container.host.zone
                if zone in zones and task.arn not in service.retiring:
                    zones[zone] += 1
        distinct = "distinctInstance" in spec.constraints
        packed = next((rule.split(":")[1] for rule in spec.strategy if rule.startswith("binpack:")), "")
        by_zone = not spec.strategy or "spread:attribute:ecs.availability-zone" in spec.strategy

        def rank(container: ContainerInstance) -> tuple[float, float, int]:
            if packed:
                left = container.memory_left if packed == "memory" else container.cpu_left
                return (left, 0, container.host.index)
            return (own.get(container.arn, 0), len(container.tasks), container.host.index)

        heaps: dict[str, list[tuple[tuple[float, float, int], ContainerInstance]]] = {}
        for container in containers:
            if distinct and own.get(container.arn):
                continue
            heaps.setdefault(container.host.zone if by_zone else "", []).append((rank(container), container))
        if not by_zone:
            zones = {"": 0}
        for heap in heaps.values():
            heapq.heapify(heap)
        placed: list[TaskState] = []
        while len(placed) < count and heaps:
            zone = min(heaps, key=lambda name: (zones[name], name))
            _, container = heapq.heappop(heaps[zone])
            placed.append(self._start(service, container))
            own[container.arn] = own.get(container.arn, 0) + 1
            zones[zone] += 1
            if not distinct and self._fits(container, spec.task):
                heapq.heappush(heaps[zone], (rank(container), container))
            if not heaps[zone]:
                del heaps[zone]
        return placed

    def _orphan(self, task: TaskState) -> None:
        """Some task has to take this one's place: it will have moved once more."""
        if task.service is not None and not task.orphaned:
            task.orphaned = True
            task.service.orphans[task.arn] = task.generation

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _new_task(
        self, container: ContainerInstance, spec: specs.Task, service: ServiceState | None, family: str, revision: int
    ) -> TaskState:
        world, cluster = self.world, container.cluster
        task = TaskState(
            arn=world.arn("ecs", f"task/{cluster.spec.name}/{world.next_task():032x}"),
            spec=spec,
            service=service,
            family=family,
            revision=revision,
            container=container,
            created=world.t,
        )
        container.cpu_left -= spec.cpu
        container.memory_left -= spec.memory
        container.ports.update(spec.host_ports)
        container.tasks[task.arn] = task
        cluster.tasks[task.arn] = task
        world.timeline.task_changed(task)
        return task

    def _start(self, service: ServiceState, container: ContainerInstance) -> TaskState:
        task = self._new_task(container, service.spec.task, service, service.spec.name, service.revision)
        service.tasks[task.arn] = task
        service.live += 1
        service.pending += 1
        if service.orphans:
            task.generation = service.orphans.pop(next(iter(service.orphans))) + 1
        if self.world.timeline.opened:
            self.world.after(self.world.jittered(task.spec.start), self._running, task)
        return task

    def _running(self, task: TaskState) -> None:
        if task.status != "PENDING" or task.desired == "STOPPED":
            return
        world, service = self.world, task.service
        if world.struck_now("task-will-not-start", task.container.host):
            task.generation -= 1  # it never ran, so it did not move
            self._orphan(task)
            self._no_longer_wanted(task)
            self._stopped(task, "Essential container in task exited")
            if service is not None:
                service.failures += 1
                service.retry_at = world.t + min(LAST_RETRY, FIRST_RETRY * 2 ** min(service.failures, 10))
                world.at(service.retry_at, self._wake, service)
                self._say(service, f"(service {service.spec.name}) is unable to consistently start tasks successfully.")
            return
        task.started = world.t
        self._set(task, "RUNNING")
        if service is None:
            return
        service.pending -= 1
        balancer = service.spec.load_balancer
        if balancer is not None:
            world.after(balancer.health_interval * balancer.healthy_threshold, self._healthy, task)
        elif world.switches.healthy_without_balancer == "after-40-s":
            world.after(SETTLE_WITHOUT_BALANCER, self._healthy, task)
        else:
            self._healthy(task)
        self.dirty[service.arn] = service

    def _healthy(self, task: TaskState) -> None:
        service = task.service
        if task.healthy or task.desired == "STOPPED" or service is None:
            return
        task.healthy = True
        service.healthy += 1
        service.failures = 0
        if service.live == service.desired == service.healthy and not service.retiring:
            self._say(service, f"(service {service.spec.name}) has reached a steady state.")
        self.world.watch.service_changed(service)
        self.dirty[service.arn] = service

    def _no_longer_wanted(self, task: TaskState) -> None:
        """The desired status is STOPPED from now on."""
        service = task.service
        task.desired = "STOPPED"
        task.stopping = self.world.t
        if service is None:
            return
        service.live -= 1
        if task.status == "PENDING":
            service.pending -= 1
        if task.healthy:
            service.healthy -= 1
            task.healthy = False
        service.retiring.pop(task.arn, None)
        self.world.watch.service_changed(service)
        self.dirty[service.arn] = service

    def stop(self, task: TaskState, reason: str) -> None:
        """Deregister, let connections drain, SIGTERM, and kill after stopTimeout if need be."""
        if task.desired == "STOPPED":
            return
        world = self.world
        was_pending = task.status == "PENDING"
        task.reason = reason
        self._no_longer_wanted(task)
        if was_pending:
            self._stopped(task, reason)
            return
        balancer = task.service.spec.load_balancer if task.service is not None else None
        if balancer is not None:
            self._set(task, "DEACTIVATING")
            world.after(balancer.deregistration_delay, self._terminated, task)
        else:
            self._terminated(task)

    def _terminated(self, task: TaskState) -> None:
        """SIGTERM."""
        if task.status == "STOPPED":
            return
        self._set(task, "STOPPING")
        if self.world.struck_now("drain-stuck", task.container.host):
            return
        timeout, own = task.spec.stop_timeout, task.spec.stop
        self.world.after(timeout if own is None else min(own, timeout), self._stopped, task, task.reason)

    def _ends(self, task: TaskState) -> None:
        if task.desired == "RUNNING":
            task.desired = "STOPPED"
            self._stopped(task, "Essential container in task exited")

    def _stopped(self, task: TaskState, reason: str) -> None:
        if task.status == "STOPPED":
            return
        container = task.container
        task.reason, task.stopped = reason, self.world.t
        self._set(task, "STOPPED")
        container.tasks.pop(task.arn, None)
        container.stopped[task.arn] = task
        container.cpu_left += task.spec.cpu
        container.memory_left += task.spec.memory
        container.ports.difference_update(task.spec.host_ports)
        if task.service is not None:
            task.service.tasks.pop(task.arn, None)
            self.dirty[task.service.arn] = task.service
        self._room_in(container.cluster)
        self._drained(container)
        self.world.after(REMEMBERED, self._forgotten, task)

    def _forgotten(self, task: TaskState) -> None:
        task.container.cluster.tasks.pop(task.arn, None)
        task.container.stopped.pop(task.arn, None)

    def _set(self, task: TaskState, status: str) -> None:
        task.status = status
        self.world.timeline.task_changed(task)

    # -- others ---------------------------------------------------------------------------------------------------

    def suffer(self, fault: Fault) -> None:
        """deploy-mid-way: somebody deploys a new revision of a service."""
        for cluster in self.world.clusters.values():
            for service in cluster.services.values():
                if fault.name not in ("", service.spec.name) or service.spec.scheduling == "DAEMON":
                    continue
                service.revision += 1
                service.deployed = self.world.t
                self.world.note(f"somebody deploys {service.spec.name}:{service.revision}")
                for task in service.tasks.values():
                    if task.desired == "RUNNING":
                        self._retire(task)
                self.dirty[service.arn] = service
        self.world.timeline.mark("deploy")

    def cluster(self, given: str) -> ClusterState:
        """A cluster by name or ARN; the default one has the name `default`. Refused when there is none."""
        cluster = self.world.clusters.get(given.rsplit("/", 1)[-1])
        if cluster is None:
            raise Refused("ClusterNotFoundException", "Cluster not found.")
        return cluster


def member_of(rule: str, attributes: dict[str, str]) -> bool:
    """Whether an expression of the cluster query language, as far as the fleet file allows it, holds."""
    name, operator, value = re.fullmatch(r"attribute:([\w.-]+) *(==|!=| exists| not_exists) *(.*)", rule).groups()  # type: ignore[union-attr]
    operator = operator.strip()
    if operator == "exists":
        return name in attributes
    if operator == "not_exists":
        return name not in attributes
    return (attributes.get(name) == value) == (operator == "==")
