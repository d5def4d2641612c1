"""Proof: in, a finished image and what it should be; out, what an instance launched from it showed.

The instance is a new one, never the builder. Everything made for the proof is unmade at its end, good or bad;
each thing's removal is armed the moment the thing exists. The same calls serve AWS and the local target.
"""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import yaml
from botocore.exceptions import ClientError

from pipeline import tags
from pipeline.clock import Clock
from pipeline.commands import run_on_instance, wait_until_managed
from pipeline.coverage import Coverage, runtime_monitoring_detector, wait_until_healthy
from pipeline.errors import CloudError, ProofError
from pipeline.sweep import PROOF_NAME, delete_cluster, delete_instance_profile, delete_role
from pipeline.wait import poll

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import WaiterConfigTypeDef

POLICY = Path(__file__).with_name("policies") / "proof-instance.yaml"
REPORT = "/run/ovenproof-proof.json"


@dataclass(frozen=True, kw_only=True)
class ProofRequest:
    """What to launch and what it has to show. Times in seconds."""

    bake_id: str
    image_id: str
    owner: str
    expires_at: datetime
    instance_type: str
    kernel_line: str
    agent_version: str
    subnet_id: str = ""
    boot_seconds: float = 600
    coverage_seconds: float = 900
    every_seconds: float = 15


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the instance showed. `failures` is empty exactly when the image is proven."""

    instance_id: str
    kernel: str
    agent_version: str
    checks: dict[str, Any]
    coverage: Coverage
    failures: tuple[str, ...]
    console: str = ""

    @property
    def proven(self) -> bool:
        return not self.failures


def verdict(request: ProofRequest, checks: dict[str, Any], coverage: Coverage) -> tuple[str, ...]:
    """Why the image is not proven, a sentence each; nothing when it is."""
    failures = []
    kernel = checks["kernel"]
    if not (kernel == request.kernel_line or kernel.startswith(request.kernel_line + ".")):
        failures.append(f"kernel: expected the {request.kernel_line} line, found {kernel}")
    if checks["agent"]["version"] != request.agent_version:
        failures.append(
            f"GuardDuty agent: expected {request.agent_version}, found {checks['agent']['version'] or 'none'}"
        )
    for failure in checks["failures"]:
        failures.append(
            f"{failure['title']}: expected {failure['expected']}, found {failure['found']}"
            + (f"; {failure['remedy']}" if failure.get("remedy") else "")
        )
    if not coverage.healthy:
        failures.append(
            f"GuardDuty coverage: expected HEALTHY, found {coverage.status}"
            + (f" ({coverage.issue})" if coverage.issue else "")
            + f"; {coverage.remedy}"
        )
    elif coverage.agent_version and coverage.agent_version != request.agent_version:
        failures.append(
            f"GuardDuty hears agent {coverage.agent_version}, expected {request.agent_version}; "
            "is automated agent configuration updating it?"
        )
    return tuple(failures)


def prove(
    session: boto3.Session,
    request: ProofRequest,
    *,
    clock: Clock,
    say: Callable[[str], None],
) -> Proof:
    """Launch, check, remove. A proof that fails is returned; only a proof that could not be held raises.

    Raises CloudError when GuardDuty is not enabled, the instance does not start or does not answer, and
    ProofError when it answers but has no readable checks.
    """
    detector = runtime_monitoring_detector(session)
    with ExitStack() as undo:
        cluster_arn = undo.enter_context(_cluster(session, request))
        profile = undo.enter_context(_instance_profile(session, request, cluster_arn))
        group = undo.enter_context(_security_group(session, request))
        say("launching an instance from the finished image")
        instance_id = undo.enter_context(_instance(session, request, profile, group, clock))
        say(f"{instance_id} is starting; waiting for SSM to manage it")
        wait_until_managed(
            session,
            instance_id,
            clock=clock,
            timeout_seconds=request.boot_seconds,
            every_seconds=request.every_seconds,
        )
        say(f"{instance_id} answers; waiting for the ECS agent, then running ovenproof-check")
        checks = _checks(session, request, instance_id, clock)
        say(f"{instance_id}: waiting for GuardDuty coverage")
        coverage = wait_until_healthy(
            session,
            detector,
            instance_id,
            clock=clock,
            timeout_seconds=request.coverage_seconds,
            every_seconds=request.every_seconds,
        )
        failures = verdict(request, checks, coverage)
        console = _console(session, instance_id) if failures else ""
    return Proof(
        instance_id=instance_id,
        kernel=checks["kernel"],
        agent_version=checks["agent"]["version"],
        checks=checks,
        coverage=coverage,
        failures=failures,
        console=console,
    )


def _tags(request: ProofRequest) -> dict[str, str]:
    return {
        "Name": PROOF_NAME,
        tags.BAKE_ID: request.bake_id,
        tags.OWNER: request.owner,
        tags.EXPIRES_AT: tags.format_time(request.expires_at),
    }


def _name(request: ProofRequest) -> str:
    return f"{PROOF_NAME}-{request.bake_id}"[:63]


@contextmanager
def _cluster(session: boto3.Session, request: ProofRequest) -> Iterator[str]:
    """A cluster of its own, so that the ECS agent registers and no task of anybody lands on the instance."""
    ecs = session.client("ecs")
    arn = ecs.create_cluster(
        clusterName=_name(request),
        tags=[{"key": key, "value": value} for key, value in _tags(request).items()],
    )["cluster"]["clusterArn"]
    try:
        yield arn
    finally:
        delete_cluster(session, arn)


@contextmanager
def _instance_profile(session: boto3.Session, request: ProofRequest, cluster_arn: str) -> Iterator[str]:
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
    with ExitStack() as undo:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), Tags=pairs)
        undo.callback(delete_role, session, name)
        iam.put_role_policy(RoleName=name, PolicyName=PROOF_NAME, PolicyDocument=json.dumps(policy))
        iam.create_instance_profile(InstanceProfileName=name, Tags=pairs)
        undo.callback(delete_instance_profile, session, name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        yield name


@contextmanager
def _security_group(session: boto3.Session, request: ProofRequest) -> Iterator[str]:
    """A group that lets nothing in: SSM and GuardDuty are called from inside."""
    ec2 = session.client("ec2")
    if request.subnet_id:
        vpc = ec2.describe_subnets(SubnetIds=[request.subnet_id])["Subnets"][0]["VpcId"]
    else:
        found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not found:
            raise CloudError(
                "there is no default VPC to launch the proof's instance in",
                expected="a default VPC, or a subnet named in the catalog",
                found="neither",
                where=f"EC2 in {session.region_name}",
                remedy="set `subnet_id` under `targets: aws:` in images/catalog.yaml",
            )
        vpc = found[0]["VpcId"]
    group = ec2.create_security_group(
        GroupName=_name(request),
        Description="Ovenproof proof: nothing inbound",
        VpcId=vpc,
        TagSpecifications=tags.specifications(["security-group"], _tags(request)),
    )["GroupId"]
    try:
        yield group
    finally:
        ec2.delete_security_group(GroupId=group)


@contextmanager
def _instance(session: boto3.Session, request: ProofRequest, profile: str, group: str, clock: Clock) -> Iterator[str]:
    ec2 = session.client("ec2")
    lifetime_minutes = max(5, int((request.expires_at - clock.now()).total_seconds() // 60))
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
        "SecurityGroupIds": [group],
        "IamInstanceProfile": {"Name": profile},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "UserData": user_data,
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "TagSpecifications": tags.specifications(["instance", "volume"], _tags(request)),
    }
    if request.subnet_id:
        launch["SubnetId"] = request.subnet_id

    def try_to_launch() -> str | None:
        try:
            started: str = ec2.run_instances(**launch)["Instances"][0]["InstanceId"]
            return started
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidParameterValue" and "nstance" in str(error):
                return None  # IAM is eventually consistent: EC2 does not know the new profile yet
            raise

    try:
        instance_id = poll(
            try_to_launch, lambda started: started is not None, clock=clock, timeout_seconds=60, every_seconds=5
        )
    except ClientError as error:
        raise CloudError(
            f"no instance could be launched from {request.image_id}",
            expected="RunInstances accepted",
            found=str(error),
            where=f"EC2 in {session.region_name}",
            remedy="read EC2's reason; the image is untouched",
        ) from error
    if instance_id is None:
        raise CloudError(
            f"EC2 does not accept the instance profile {profile}",
            expected="a new profile known to EC2 within 60 s",
            found="InvalidParameterValue each time",
            where=f"EC2 in {session.region_name}",
            remedy="the caller needs iam:PassRole on it",
        )
    waiting: WaiterConfigTypeDef = {"Delay": max(1, int(request.every_seconds)), "MaxAttempts": 240}
    try:
        ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig=waiting)
        yield instance_id
    finally:
        ec2.terminate_instances(InstanceIds=[instance_id])
        ec2.get_waiter("instance_terminated").wait(InstanceIds=[instance_id], WaiterConfig=waiting)


def _checks(session: boto3.Session, request: ProofRequest, instance_id: str, clock: Clock) -> dict[str, Any]:
    """The JSON of ovenproof-check on the instance, once the ECS agent answers on its introspection port."""
    metadata = "http://127.0.0.1:51678/v1/metadata"
    waited = run_on_instance(
        session,
        instance_id,
        [f"curl --silent --show-error --fail --retry 60 --retry-delay 5 --retry-connrefused {metadata}"],
        clock=clock,
        timeout_seconds=330,
        every_seconds=request.every_seconds,
    )
    if waited.exit_code != 0:
        raise ProofError(
            "the ECS agent did not come up on the new instance",
            expected=f"an answer on {metadata} within 300 s",
            found=waited.stderr.strip() or waited.status,
            where=f"instance {instance_id} of image {request.image_id}",
            remedy="look at /var/log/ecs/ecs-agent.log of an instance of this image; is docker running?",
        )
    done = run_on_instance(
        session,
        instance_id,
        [f"ovenproof-check --format json --at first-boot > {REPORT}; gzip -c {REPORT} | base64 -w0"],
        clock=clock,
        timeout_seconds=300,
        every_seconds=request.every_seconds,
    )
    try:
        report: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(done.stdout.strip(), validate=True)))
    except (ValueError, OSError, EOFError) as error:
        raise ProofError(
            "ovenproof-check gave no readable report on the new instance",
            expected="its JSON report",
            found=(done.stderr.strip() or done.stdout[:200] or "nothing") + f" ({done.status})",
            where=f"instance {instance_id} of image {request.image_id}",
            remedy="run `ovenproof-check` on an instance of this image by hand",
        ) from error
    return report


def _console(session: boto3.Session, instance_id: str) -> str:
    """The instance's serial console, for the record of a proof that failed; empty when there is none."""
    answer = session.client("ec2").get_console_output(InstanceId=instance_id)
    return answer.get("Output", "")
