"""Where a proof's instance lands, what it stands on, and that nothing of it stays or that it is said what does."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from pipeline.errors import CloudError, Interrupted
from pipeline.proof_host import PROFILE_SECONDS, ProofRequest, proof_host
from pipeline.sweep import inventory
from pipeline.target import ProofSeconds
from tests.doubles import START, FakeClock

REQUEST = ProofRequest(
    bake_id="20261123T120000Z-cd18",
    image_id="",
    owner="sre",
    expires_at=START + timedelta(hours=3),
    instance_type="c6i.large",
    kernel_line="5.10",
    agent_version="1.17.1",
    patience=ProofSeconds(boot=60, coverage=60, every=5),
    associate_public_ip=False,
)


@pytest.fixture
def session() -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session(region_name="eu-central-1")


def request_for(session: boto3.Session, **changes: Any) -> ProofRequest:
    image = session.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    return replace(REQUEST, image_id=image, **changes)


def subnet(session: boto3.Session, vpc: str, cidr: str, **tags: str) -> str:
    ec2 = session.client("ec2")
    made = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"]
    ec2.create_tags(Resources=[made], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    return made


def launched(session: boto3.Session, request: ProofRequest) -> Any:
    with proof_host(session, request, clock=FakeClock(), warn=pytest.fail) as instance_id:
        return session.client("ec2").describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]


def refusing(session: boto3.Session, operation: str, code: str, message: str = "no") -> list[str]:
    """Let one operation fail from now on; the list grows by a name for each try."""
    tries: list[str] = []

    def refuse(model: Any, **_: Any) -> None:
        tries.append(model.name)
        raise ClientError({"Error": {"Code": code, "Message": message}}, model.name)

    session.events.register(f"before-call.{operation}", refuse)
    return tries


def test_the_subnets_are_those_of_the_catalog_and_the_most_free_of_them_is_taken(session: boto3.Session) -> None:
    vpc = session.client("ec2").create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet(session, vpc, "10.9.1.0/28", Use="bakes")
    free = subnet(session, vpc, "10.9.2.0/24", Use="bakes")
    subnet(session, vpc, "10.9.16.0/20", Use="other")
    instance = launched(session, request_for(session, subnet_tags={"Use": "bakes"}))
    assert (instance["SubnetId"], instance["VpcId"]) == (free, vpc)


def test_it_is_launched_behind_its_own_group_which_lets_nothing_in(session: boto3.Session) -> None:
    asked: list[dict[str, Any]] = []
    session.events.register("provide-client-params.ec2.RunInstances", lambda params, **_: asked.append(params))
    ec2 = session.client("ec2")
    with proof_host(session, request_for(session), clock=FakeClock(), warn=pytest.fail):
        [interface] = asked[0]["NetworkInterfaces"]  # moto ignores the groups of an interface
        [group] = ec2.describe_security_groups(GroupIds=interface["Groups"])["SecurityGroups"]
    assert group["GroupName"] == f"ovenproof-proof-{REQUEST.bake_id}"
    assert group["IpPermissions"] == []
    assert "SecurityGroupIds" not in asked[0]


@pytest.mark.parametrize("public", [True, False])
def test_a_public_address_is_the_catalogs_choice(session: boto3.Session, public: bool) -> None:
    instance = launched(session, request_for(session, associate_public_ip=public))
    assert ("PublicIpAddress" in instance) == public


def test_without_tags_it_is_the_default_vpc(session: boto3.Session) -> None:
    [default] = session.client("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    assert launched(session, request_for(session))["VpcId"] == default["VpcId"]


def test_tags_that_no_subnet_has_are_named_with_the_key_to_correct(session: boto3.Session) -> None:
    with pytest.raises(CloudError) as error:
        launched(session, request_for(session, subnet_tags={"Use": "bakes"}))
    assert str(error.value) == (
        "there is no subnet to launch the proof's instance in\n"
        "  expected: an available subnet with state available, tag:Use bakes\n"
        "  found:    none\n"
        "  where:    EC2 in eu-central-1\n"
        "  do:       correct `subnet_tags` under targets > aws in images/catalog.yaml, or tag a subnet so"
    )


def test_without_a_default_vpc_the_remedy_names_a_key_that_the_catalog_takes(session: boto3.Session) -> None:
    ec2 = session.client("ec2")
    [default] = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    for one in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=one["SubnetId"])
    ec2.delete_vpc(VpcId=default["VpcId"])
    with pytest.raises(CloudError, match=r"`subnet_tags` under targets > aws in images/catalog.yaml"):
        launched(session, request_for(session))


def test_nothing_is_left_of_it(session: boto3.Session) -> None:
    launched(session, request_for(session))
    assert inventory(session, say=pytest.fail) == []


def test_what_cannot_be_removed_is_told_and_changes_nothing_else(session: boto3.Session) -> None:
    refusing(session, "iam.DeleteInstanceProfile", "AccessDenied")
    warned: list[str] = []
    with proof_host(session, request_for(session), clock=FakeClock(), warn=warned.append):
        pass
    name = f"ovenproof-proof-{REQUEST.bake_id}"
    assert [one.id for one in inventory(session, say=pytest.fail)] == [name]
    assert warned == [
        f"could not remove instance profile {name}: "
        "An error occurred (AccessDenied) when calling the DeleteInstanceProfile operation: no\n"
        "`./run sweep` removes it once its bake has expired"
    ]


def test_an_error_of_the_proof_is_not_replaced_by_one_of_its_clean_up(session: boto3.Session) -> None:
    refusing(session, "ec2.TerminateInstances", "AccessDenied")
    refusing(session, "ec2.DeleteSecurityGroup", "DependencyViolation")
    warned: list[str] = []
    with (
        pytest.raises(CloudError, match="the first one"),
        proof_host(session, request_for(session), clock=FakeClock(), warn=warned.append),
    ):
        raise CloudError("the first one")
    assert [line.split(":")[0].rsplit(" ", 1)[0] for line in warned] == [
        "could not remove instance",
        "could not remove security group",
    ]


def test_an_interrupt_in_the_clean_up_goes_through(session: boto3.Session) -> None:
    def interrupt(**_: Any) -> None:
        raise Interrupted("stopped by SIGINT")

    session.events.register("before-call.ec2.DeleteSecurityGroup", interrupt)
    with (
        pytest.raises(Interrupted),
        proof_host(session, request_for(session), clock=FakeClock(), warn=pytest.fail),
    ):
        pass
    assert [one.kind for one in inventory(session, say=pytest.fail)] == ["security group"]


@pytest.mark.parametrize(
    "operation", ["ec2.DescribeSubnets", "ecs.CreateCluster", "iam.CreateRole", "ec2.CreateSecurityGroup"]
)
def test_each_refusal_is_an_error_of_ours_and_leaves_nothing(session: boto3.Session, operation: str) -> None:
    request = request_for(session)
    refusing(session, operation, "AccessDenied")
    with pytest.raises(CloudError) as error:
        launched(session, request)
    assert "An error occurred (AccessDenied)" in error.value.found
    assert error.value.remedy
    assert inventory(session, say=pytest.fail) == []


UNKNOWN_PROFILE = "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"


@pytest.mark.parametrize(
    ("message", "tries", "what"),
    [
        (UNKNOWN_PROFILE, PROFILE_SECONDS // 5, "EC2 does not accept the instance profile"),
        ("Value (x) for parameter instanceType is invalid.", 1, "no instance could be launched from"),
    ],
)
def test_only_a_profile_that_is_not_known_yet_is_waited_for(
    session: boto3.Session, message: str, tries: int, what: str
) -> None:
    tried = refusing(session, "ec2.RunInstances", "InvalidParameterValue", message)
    with pytest.raises(CloudError, match=what) as error:
        launched(session, request_for(session))
    assert len(tried) == tries
    assert message in error.value.found
