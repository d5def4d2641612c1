"""Data endpoints that are missing: in, findings; out, a stack for each VPC, created and waited for.

The stack is small on purpose (endpoint.yaml), one for each VPC, and can be deleted by itself to go back.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.clock import Clock
from pipeline.diagnosis.access import Access
from pipeline.diagnosis.model import Finding
from pipeline.errors import CloudError
from pipeline.wait import poll

TEMPLATE = Path(__file__).with_name("endpoint.yaml")
CAUSES = ("endpoint-missing", "endpoint-in-another-vpc")
TIMEOUT_SECONDS, EVERY_SECONDS = 900, 10


@dataclass(frozen=True, slots=True)
class Need:
    """A VPC without an endpoint, and how many silent hosts it has."""

    account: str
    region: str
    vpc: str
    hosts: int


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack to create, with the template's parameters; `why_not` is set where it must not be ours."""

    need: Need
    name: str
    subnets: tuple[str, ...] = ()
    cidr: str = ""
    why_not: str = ""


def needs(findings: Iterable[Finding]) -> tuple[Need, ...]:
    """The VPCs that lack an endpoint, those with most hosts first."""
    counts: dict[tuple[str, str, str], int] = {}
    for finding in findings:
        if finding.kind == "host" and finding.vpc and any(hit.cause in CAUSES for hit in finding.hits):
            key = (finding.account, finding.region, finding.vpc)
            counts[key] = counts.get(key, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Need(account, region, vpc, number) for (account, region, vpc), number in ordered)


def prepare(access: Access, need: Need) -> Stack:
    """Look up what the stack needs: the VPC's CIDR, and a subnet in each availability zone."""
    name = f"ovenproof-guardduty-data-{need.vpc}"
    (vpc,) = access.call(need.account, need.region, "ec2", "describe_vpcs", VpcIds=[need.vpc])["Vpcs"]
    if vpc.get("OwnerId", need.account) != need.account:
        why = (
            f"the VPC is shared by account {vpc['OwnerId']}: its owner creates the endpoint, with the organization in "
            "its policy; owner and participants must be in one organization"
        )
        return Stack(need, name, why_not=why)
    zones: dict[str, str] = {}
    rows = access.pages(
        need.account,
        need.region,
        "ec2",
        "describe_subnets",
        "Subnets",
        Filters=[{"Name": "vpc-id", "Values": [need.vpc]}],
    )
    for row in sorted(rows, key=lambda row: row["SubnetId"]):
        zones.setdefault(row["AvailabilityZone"], row["SubnetId"])
    if not zones:
        return Stack(need, name, why_not="the VPC has no subnet")
    return Stack(need, name, tuple(zones[zone] for zone in sorted(zones)), vpc["CidrBlock"])


def create(access: Access, clock: Clock, stack: Stack, *, organization: str, say: Callable[[str], None]) -> None:
    """Create the stack and wait until it is there. Raises CloudError with the stack's own reason when it fails."""
    need = stack.need
    parameters = {
        "Vpc": need.vpc,
        "Subnets": ",".join(stack.subnets),
        "Cidr": stack.cidr,
        "Organization": organization,
    }
    say(f"creating {stack.name} in {need.account}, {need.region}")
    access.call(
        need.account,
        need.region,
        "cloudformation",
        "create_stack",
        StackName=stack.name,
        TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        OnFailure="DELETE",
        Tags=[{"Key": "ovenproof", "Value": "guardduty-data"}],
    )

    def look() -> dict[str, Any]:
        (row,) = access.call(need.account, need.region, "cloudformation", "describe_stacks", StackName=stack.name)[
            "Stacks"
        ]
        return dict(row)

    row = poll(
        look,
        lambda found: not found["StackStatus"].endswith("_IN_PROGRESS"),
        clock=clock,
        timeout_seconds=TIMEOUT_SECONDS,
        every_seconds=EVERY_SECONDS,
    )
    if row["StackStatus"] != "CREATE_COMPLETE":
        raise CloudError(
            f"the stack {stack.name} was not created",
            expected="status CREATE_COMPLETE",
            found=f"{row['StackStatus']} {row.get('StackStatusReason', '')}".strip(),
            where=f"CloudFormation, account {need.account}, {need.region}",
        )
