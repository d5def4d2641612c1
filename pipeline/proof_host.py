"""The instance of a proof: in, what to launch; out, a running instance, and at the end nothing of it.

It stands in a subnet that the catalog describes, as the builder did, with a cluster, a role and a group of its own.
Each thing's removal is armed the moment the thing exists. What AWS refuses to remove is told and left to the sweep:
a proof that was held is not lost over it.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import yaml
from botocore.exceptions import ClientError

from pipeline import tags
from pipeline.aws_errors import aws_errors, error_code
from pipeline.clock import Clock
from pipeline.errors import CloudError
from pipeline.lifetime import proof_seconds
from pipeline.sweep import PROOF_NAME, Kind, take_back
from pipeline.target import ProofSeconds
from pipeline.wait import poll

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import WaiterConfigTypeDef

POLICY: Final = Path(__file__).with_name("policies") / "proof-instance.yaml"
CALLER_POLICY: Final = "pipeline/policies/bake-caller.yaml names all that a bake's caller needs"
PROFILE_SECONDS: Final = 60
"""Until EC2 knows an instance profile that IAM has just made: IAM is eventually consistent."""


@dataclass(frozen=True, kw_only=True)
class ProofRequest:
    """What to launch, where, and what it has to show."""

    bake_id: str
    image_id: str
    owner: str
    expires_at: datetime
    instance_type: str
    kernel_line: str
    agent_version: str
    patience: ProofSeconds
    associate_public_ip: bool
    subnet_tags: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def proof_host(
    session: boto3.Session, request: ProofRequest, *, clock: Clock, warn: Callable[[str], None]
) -> Iterator[str]:
    """Launch the instance and give its id; remove everything at the end, good or bad, and warn of what stays.

    Raises CloudError when AWS refuses any of it or the instance does not start in time.
    """
    with ExitStack() as undo:

        def made(kind: Kind, identifier: str) -> None:
            undo.callback(take_back, session, kind, identifier, say=warn)

        vpc, subnet = _place(session, request)
        profile = _instance_profile(session, request, _cluster(session, request, made), made)
        group = _security_group(session, request, vpc, made)
        yield _instance(session, request, profile, group, subnet, clock, made)


def _tags(request: ProofRequest) -> dict[str, str]:
    return {
        "Name": PROOF_NAME,
        tags.BAKE_ID: request.bake_id,
        tags.OWNER: request.owner,
        tags.EXPIRES_AT: tags.format_time(request.expires_at),
    }


def _name(request: ProofRequest) -> str:
    return f"{PROOF_NAME}-{request.bake_id}"[:63]


def _place(session: boto3.Session, request: ProofRequest) -> tuple[str, str]:
    """VPC and subnet, chosen as Packer chooses the builder's: by the catalog's tags, or else in the default VPC; of
    several the one with the most free addresses."""
    ec2 = session.client("ec2")
    filters = {"state": "available", **{f"tag:{key}": value for key, value in request.subnet_tags.items()}}
    where = f"EC2 in {session.region_name}"
    with aws_errors(
        "no subnet could be looked up for the proof's instance",
        where=where,
        remedy="allow ec2:DescribeVpcs, ec2:DescribeSubnets and ec2:DescribeInstanceTypeOfferings",
    ):
        if not request.subnet_tags:
            vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
            if not vpcs:
                raise CloudError(
                    "there is no default VPC to launch the proof's instance in",
                    expected="a default VPC, or subnets described in the catalog",
                    found="neither",
                    where=where,
                    remedy="describe the subnets by tag: `subnet_tags` under targets > aws in images/catalog.yaml",
                )
            filters["vpc-id"] = vpcs[0]["VpcId"]
        asked: Any = [{"Name": name, "Values": [value]} for name, value in filters.items()]
        pages = ec2.get_paginator("describe_subnets").paginate(Filters=asked)
        subnets = [subnet for page in pages for subnet in page["Subnets"]]
        if not request.subnet_tags:
            offered = ec2.describe_instance_type_offerings(
                LocationType="availability-zone",
                Filters=[{"Name": "instance-type", "Values": [request.instance_type]}],
            )["InstanceTypeOfferings"]
            zones = {offer["Location"] for offer in offered}
            subnets = [subnet for subnet in subnets if subnet["AvailabilityZone"] in zones]
    if not subnets:
        raise CloudError(
            "there is no subnet to launch the proof's instance in",
            expected="an available subnet with " + ", ".join(f"{name} {value}" for name, value in filters.items())
            if request.subnet_tags
            else f"a subnet of the default VPC in a zone that has {request.instance_type}",
            found="none",
            where=where,
            remedy="correct `subnet_tags` under targets > aws in images/catalog.yaml, or tag a subnet so",
        )
    best = max(subnets, key=lambda subnet: (subnet["AvailableIpAddressCount"], subnet["SubnetId"]))
    return best["VpcId"], best["SubnetId"]


def _cluster(session: boto3.Session, request: ProofRequest, made: Callable[[Kind, str], None]) -> str:
    """A cluster of its own, so that the ECS agent registers and no task of anybody lands on the instance."""
    with aws_errors(
        "no cluster could be made for the proof", where=f"ECS in {session.region_name}", remedy=CALLER_POLICY
    ):
        arn: str = session.client("ecs").create_cluster(
            clusterName=_name(request),
            tags=[{"key": key, "value": value} for key, value in _tags(request).items()],
        )["cluster"]["clusterArn"]
        made("cluster", arn)
    return arn


def _instance_profile(
    session: boto3.Session, request: ProofRequest, cluster_arn: str, made: Callable[[Kind, str], None]
) -> str:
    iam = session.client("iam")
    name = _name(request)
    pairs = tags.as_list(_tags(request))
    partition = cluster_arn.split(":")[1]
    service = "ec2.amazonaws.com.cn" if partition == "aws-cn" else "ec2.amazonaws.com"
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
    }
    policy = yaml.safe_load(POLICY.read_text(encoding="utf-8").replace("<cluster-arn>", cluster_arn))
    with aws_errors("no instance profile could be made for the proof", where=f"IAM, {name}", remedy=CALLER_POLICY):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), Tags=pairs)
        made("role", name)
        iam.put_role_policy(RoleName=name, PolicyName=PROOF_NAME, PolicyDocument=json.dumps(policy))
        iam.create_instance_profile(InstanceProfileName=name, Tags=pairs)
        made("instance profile", name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return name


def _security_group(session: boto3.Session, request: ProofRequest, vpc: str, made: Callable[[Kind, str], None]) -> str:
    """A group that lets nothing in: SSM and GuardDuty are called from inside."""
    with aws_errors(
        "no security group could be made for the proof", where=f"{vpc} in {session.region_name}", remedy=CALLER_POLICY
    ):
        group = session.client("ec2").create_security_group(
            GroupName=_name(request),
            Description="Ovenproof proof: nothing inbound",
            VpcId=vpc,
            TagSpecifications=tags.specifications(["security-group"], _tags(request)),
        )["GroupId"]
        made("security group", group)
    return group


def _instance(
    session: boto3.Session,
    request: ProofRequest,
    profile: str,
    group: str,
    subnet: str,
    clock: Clock,
    made: Callable[[Kind, str], None],
) -> str:
    ec2 = session.client("ec2")
    where = f"EC2 in {session.region_name}"
    lifetime_minutes = math.ceil(proof_seconds(request.patience) / 60)
    user_data = (
        "#!/bin/bash\n"
        f"echo ECS_CLUSTER={_name(request)} >> /etc/ecs/ecs.config\n"
        f"systemd-run --on-active={lifetime_minutes}min /bin/systemctl poweroff\n"
    )
    launch: dict[str, Any] = {
        "ImageId": request.image_id,
        "InstanceType": request.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet,
                "Groups": [group],
                "AssociatePublicIpAddress": request.associate_public_ip,
                "DeleteOnTermination": True,
            }
        ],
        "IamInstanceProfile": {"Name": profile},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "UserData": user_data,
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "TagSpecifications": tags.specifications(["instance", "volume"], _tags(request)),
    }
    not_yet: list[ClientError] = []

    def try_to_launch() -> str | None:
        try:
            started: str = ec2.run_instances(**launch)["Instances"][0]["InstanceId"]
        except ClientError as error:
            if not _profile_is_unknown(error):
                raise
            not_yet.append(error)
            return None
        made("instance", started)
        return started

    with aws_errors(
        f"no instance could be launched from {request.image_id}",
        expected="RunInstances accepted",
        where=where,
        remedy="read EC2's reason; the image is untouched",
    ):
        instance_id = poll(
            try_to_launch,
            lambda started: started is not None,
            clock=clock,
            timeout_seconds=PROFILE_SECONDS,
            every_seconds=5,
        )
    if instance_id is None:
        raise CloudError(
            f"EC2 does not accept the instance profile {profile}",
            expected=f"a new profile known to EC2 within {PROFILE_SECONDS} s",
            found=str(not_yet[-1]),
            where=where,
            remedy="look whether something removes or denies the profile, and bake again",
        )
    delay = max(1, int(request.patience.every))
    waiting: WaiterConfigTypeDef = {"Delay": delay, "MaxAttempts": math.ceil(request.patience.boot / delay)}
    with aws_errors(
        f"the proof's instance {instance_id} did not start",
        expected=f"state running within {request.patience.boot:.0f} s",
        where=where,
        remedy="look at the instance's state reason in EC2; a key that the caller may not use is the usual one",
    ):
        ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig=waiting)
    return instance_id


def _profile_is_unknown(error: ClientError) -> bool:
    """EC2's words for a profile that it does not know: `Value (…) for parameter iamInstanceProfile.name is invalid.
    Invalid IAM Instance Profile name`; any other bad parameter stays bad."""
    return error_code(error) == "InvalidParameterValue" and "iaminstanceprofile" in str(error).lower()
