"""`./run fix`: in, a scope; out, what can be put right by whom, and with `yes` endpoints and deployments done."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.cache import say_on_stderr
from pipeline.chunks import chunks
from pipeline.diagnosis.access import ROLE, Access
from pipeline.diagnosis.causes import causes
from pipeline.diagnosis.command import Place, open_place
from pipeline.diagnosis.fixes import acts_in, command, install
from pipeline.diagnosis.model import Finding
from pipeline.diagnosis.scope import Scope, read_scope
from pipeline.diagnosis.summary import findings
from pipeline.diagnosis.survey import Survey
from pipeline.diagnosis.views import OWN_DOCUMENT
from pipeline.monitoring import endpoints, redeploy
from pipeline.signals import as_interrupted

HOSTS_IN_A_COMMAND = 50
FIX_ROLE = "OvenproofFix"
"""The role in each member account that may change something, of pipeline/diagnosis/member.yaml with Repair=yes."""


def fix(
    *,
    on: str = "local",
    account: str = "",
    region: str = "",
    cluster: str = "",
    endpoint: bool = False,
    services: bool = False,
    yes: bool = False,
    by_organization: bool = False,
    role: str = "",
    organization: str = "",
    show: Callable[[str], object],
    say: Callable[[str], None] = say_on_stderr,
) -> None:
    """Survey the scope, show what would be done, and do it with `yes`. Without a kind, only say what to run.

    Raises UsageError and CloudError; what was done before an error stays done and is not done twice.
    """
    wanted = read_scope(accounts=[account], regions=[region], cluster=cluster)
    place = open_place(on, wanted.regions, organization)
    scope = Scope(wanted.accounts, place.regions, wanted.cluster)
    with as_interrupted(), tempfile.TemporaryDirectory(prefix="ovenproof-fix-") as folder:
        access = Access(place.session, place.clock, role=role or (FIX_ROLE if yes else ROLE))
        inside = OWN_DOCUMENT if place.is_local else ""
        survey = Survey(access=access, clock=place.clock, scope=scope, look_inside=inside, say=say)
        ledger = survey.run(Path(folder) / "ledger.jsonl")
        found = list(findings(ledger))
        if not (endpoint or services):
            show(render_commands(found))
            return
        if endpoint:
            trust = str(ledger.head["organization"]) if by_organization else ""
            _endpoints(place, access, found, trust, yes=yes, show=show, say=say)
        if services:
            _services(place, access, found, yes=yes, show=show, say=say)
        if not yes:
            show("nothing is changed yet: --yes carries it out")


def _endpoints(
    place: Place,
    access: Access,
    found: Iterable[Finding],
    organization: str,
    *,
    yes: bool,
    show: Callable[[str], object],
    say: Callable[[str], None],
) -> None:
    stacks = [endpoints.prepare(access, need) for need in endpoints.needs(found)]
    if not stacks:
        show("no VPC lacks an endpoint")
    for stack in stacks:
        need = stack.need
        line = f"{need.vpc} ({need.account}, {need.region}): {need.hosts} silent host{'s' if need.hosts > 1 else ''}"
        if stack.why_not:
            show(f"{line}; left alone: {stack.why_not}")
            continue
        show(f"{line}; stack {stack.name} in {', '.join(stack.subnets)}, 443 from {stack.cidr}")
        if yes:
            endpoints.create(access, place.clock, stack, organization=organization, say=say)
            show("  created; to go back: aws cloudformation delete-stack --stack-name " + stack.name)


def _services(
    place: Place,
    access: Access,
    found: Iterable[Finding],
    *,
    yes: bool,
    show: Callable[[str], object],
    say: Callable[[str], None],
) -> None:
    wanted, tagged_out = redeploy.services(found)
    for item in tagged_out:
        show(
            f"cluster {item.id} ({item.account}, {item.region}) has the tag GuardDutyManaged=false: a deployment would "
            f"not help before that is changed: aws ecs tag-resource --region {item.region} --resource-arn "
            f"arn:aws:ecs:{item.region}:{item.account}:cluster/{item.id} --tags key=GuardDutyManaged,value=true"
        )
    if not wanted:
        show("no service needs a new deployment")
    for service in wanted:
        show(f"{service.name} of {service.cluster} ({service.account}, {service.region}): {service.why}")
        if yes:
            redeploy.redeploy(access, place.clock, service, say)
            show("  deployed, steady")


def render_commands(found: Iterable[Finding]) -> str:
    """For each cause that a command can put right, the commands, filled in; several hosts in one where that works."""
    commands: dict[str, dict[str, None]] = {}
    hosts: dict[tuple[str, str], list[str]] = {}
    for finding in found:
        for hit in finding.hits:
            kind, line = causes()[hit.cause].fix, command(finding, hit.cause)
            if not (kind and line):
                continue
            if kind == "install-agent":
                ids = hosts.setdefault((finding.account, finding.region), [])
                if finding.id not in ids:
                    ids.append(finding.id)
            else:
                account = acts_in(finding, hit.cause)
                commands.setdefault(kind, {})[f"{line}  # as account {account}" if account else line] = None
    for (account, region), ids in hosts.items():
        for some in chunks(ids, HOSTS_IN_A_COMMAND):
            commands.setdefault("install-agent", {})[f"{install(some, region)}  # as account {account}"] = None
    titles = {
        "enable-monitoring": "enable Runtime Monitoring (from the delegated administrator)",
        "endpoint": "create data endpoints",
        "install-agent": "install the agent now, until a roll brings it with the image",
        "roll": "roll groups onto a proven image",
        "redeploy": "deploy Fargate services anew",
    }
    parts = ["\n".join([f"{titles[kind]}:", *(f"  {line}" for line in lines)]) for kind, lines in commands.items()]
    return "\n\n".join(parts) or "nothing that a command could put right"
