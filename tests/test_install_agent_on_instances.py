"""InstallAgentOnInstances over the fleet model: which hosts, one first, and where it stops."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from pipeline.clock import VirtualClock
from pipeline.documents import document_named
from pipeline.errors import UsageError
from pipeline.rehearsal.fleet.session import fleet_session
from pipeline.rehearsal.fleet.spec import example_fleet
from pipeline.rehearsal.fleet.world import World
from pipeline.runbook.document import Document, parse_document
from pipeline.runbook.execute import execute
from pipeline.runbook.seams import Seams, TargetRequest
from pipeline.runbook.trace import Execution

PROOF = """
schemaVersion: "0.3"
parameters:
  InstanceIds: {type: StringList}
  CoverageTimeoutSeconds: {type: Integer}
  WindowSeconds: {type: Integer}
mainSteps:
  - name: Sleep
    action: aws:sleep
    isCritical: true
    inputs: {Duration: PT1S}
"""


@dataclass
class Account:
    world: World
    asked: list[TargetRequest]
    seams: Seams

    def run(self, **parameters: object) -> Execution:
        return execute(document_named("Ovenproof-InstallAgentOnInstances"), parameters, self.seams)

    def hosts(self) -> list[str]:
        return sorted(self.world.hosts)


def account(kernel: str = "5.10.245-241.976.amzn2") -> Account:
    """The example of twenty hosts without an agent, on that kernel."""
    spec = example_fleet("twenty")
    old = spec.images[0].model_copy(update={"kernel": kernel})
    spec = spec.model_copy(update={"images": (old, *spec.images[1:])})
    clock = VirtualClock()
    world = World(spec, clock)
    asked: list[TargetRequest] = []
    proof = parse_document(PROOF, "Ovenproof-ProveInstances")

    def documents(name: str) -> Document:
        return proof if name == "Ovenproof-ProveInstances" else document_named(name)

    def targets(request: TargetRequest) -> Sequence[str]:
        asked.append(request)
        return [host.id for host in world.hosts.values()]

    seams = Seams(
        session=fleet_session(world, check_answers=True),
        clock=clock,
        documents=documents,
        targets=targets,
        account_id=spec.account,
    )
    return Account(world, asked, seams)


def done_on(execution: Execution) -> list[object]:
    return [child.parameters["InstanceId"] for child in execution.children]


def test_the_hosts_that_are_named_get_the_agent() -> None:
    there = account()
    some = there.hosts()[:3]

    done = there.run(InstanceIds=some)

    assert done.status == "Success"
    assert done_on(done) == some
    assert [host.id for host in there.world.hosts.values() if host.installed_agent] == some
    assert {there.world.hosts[one].installed_agent for one in some} == {"1.17.1"}


def test_all_hosts_of_a_group_get_the_agent() -> None:
    there = account()

    done = there.run(Group="example")

    assert done.status == "Success"
    assert sorted(map(str, done_on(done))) == there.hosts()
    (request,) = there.asked
    assert (request.key, list(request.values)) == ("tag:aws:autoscaling:groupName", ["example"])


def test_a_kernel_that_the_agent_does_not_support_stops_at_the_first_host() -> None:
    there = account(kernel="4.14.355-280.672.amzn2")

    done = there.run(InstanceIds=there.hosts()[:4])

    assert done.status == "Failed"
    assert len(done.children) == 1
    assert not any(host.installed_agent for host in there.world.hosts.values())


def test_as_many_failures_as_are_allowed_do_not_stop_it() -> None:
    there = account(kernel="4.14.355-280.672.amzn2")

    done = there.run(InstanceIds=there.hosts()[:3], MaxErrors="3")

    assert done.status == "Success"
    assert len(done.children) == 3


@pytest.mark.parametrize("parameters", [{}, {"InstanceIds": ["i-0123456789abcdef0"], "Group": "example"}])
def test_hosts_or_a_group_and_not_both(parameters: dict[str, object]) -> None:
    done = account().run(**parameters)

    assert done.status == "Failed"
    assert "name either InstanceIds or a Group" in done.failure
    assert done.children == ()


def test_what_is_no_instance_is_refused_before_anything() -> None:
    with pytest.raises(UsageError):
        account().run(InstanceIds=["i-1; rm -rf /"])
