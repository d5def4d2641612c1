"""What the local cloud reads from a request: examples as the SDKs send them."""

import json
from urllib.parse import urlencode

import pytest

from pipeline.rehearsal.journal import KEPT, Call, Journal, Named, read

HERE = "eu-central-1"


def scope(service: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential=AKIA/20261125/eu-central-1/{service}/aws4_request, SignedHeaders=host"


def form(service: str, **values: str) -> Call | None:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return read("POST", "/", authorization=scope(service), target="", body=urlencode(named).encode())


def test_a_form_s_action_its_resources_and_the_tags_it_sets() -> None:
    assert form(
        "ec2",
        Action="RunInstances",
        ImageId="ami-0123456789abcdef0",
        SubnetId="subnet-01234567",
        InstanceType="t3.nano",
        IamInstanceProfile__Name="packer-1",
        TagSpecification__1__ResourceType="instance",
        TagSpecification__1__Tag__1__Key="BakeId",
        TagSpecification__1__Tag__1__Value="i-0123456789abcdef0",
        TagSpecification__1__Tag__2__Key="Name",
        TagSpecification__2__ResourceType="volume",
        TagSpecification__2__Tag__1__Key="BakeId",
        UserData="i-0123456789abcdef0",
    ) == Call(
        action="ec2:RunInstances",
        region="eu-central-1",
        sets=(("instance", ("BakeId", "Name")), ("volume", ("BakeId",))),
        named=(
            Named(kind="image", name="ami-0123456789abcdef0", region=HERE),
            Named(kind="subnet", name="subnet-01234567", region=HERE),
        ),
        conditions=(("ec2:InstanceProfile", "packer-1"), ("ec2:InstanceType", "t3.nano")),
    )


def test_tags_without_a_specification_are_for_what_is_named() -> None:
    call = form("ec2", Action="CreateTags", ResourceId__1="vol-0123456789abcdef0", Tag__1__Key="BakeId")
    assert call
    assert (call.sets, call.named) == (
        (("", ("BakeId",)),),
        (Named(kind="volume", name="vol-0123456789abcdef0", region=HERE),),
    )


def test_roles_and_keys_are_known_by_their_names() -> None:
    role = form("iam", Action="CreateRole", RoleName="packer-1", Tags__member__1__Key="BakeId")
    key = form("ec2", Action="DeleteKeyPair", KeyName="packer_1")
    assert role
    assert key
    assert (role.sets, role.named) == ((("", ("BakeId",)),), (Named(kind="role", name="packer-1", region=HERE),))
    assert key.named == (Named(kind="key-pair", name="packer_1", region=HERE),)


def test_a_header_names_the_operation_of_a_json_body() -> None:
    body = json.dumps({"DocumentName": "AWS-RunShellScript", "InstanceIds": ["i-0123456789abcdef0"], "Comment": "x"})
    call = read("POST", "/", authorization=scope("ssm"), target="AmazonSSM.SendCommand", body=body.encode())
    assert call == Call(
        action="ssm:SendCommand",
        region="eu-central-1",
        named=(
            Named(kind="document", name="AWS-RunShellScript", region=HERE),
            Named(kind="instance", name="i-0123456789abcdef0", region=HERE),
        ),
    )


@pytest.mark.parametrize(
    ("operation", "body", "named"),
    [
        ("GetParameters", {"Names": ["/a/b", "/c"]}, [("parameter", "/a/b"), ("parameter", "/c")]),
        ("PutParameter", {"Name": "/a", "Value": "ami-0123456789abcdef0"}, [("parameter", "/a")]),
        ("DescribeDocument", {"Name": "Ovenproof-RollFleet"}, [("document", "Ovenproof-RollFleet")]),
        ("SendCommand", {"DocumentName": "X", "Parameters": {"Names": ["i-0123456789abcdef0"]}}, [("document", "X")]),
    ],
)
def test_names_in_ssm_are_of_what_the_operation_is_about(
    operation: str, body: object, named: list[tuple[str, str]]
) -> None:
    call = read(
        "POST", "/", authorization=scope("ssm"), target=f"AmazonSSM.{operation}", body=json.dumps(body).encode()
    )
    assert call
    assert [(one.kind, one.name) for one in call.named] == named


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/detector", "ListDetectors"),
        ("GET", "/detector/12abc", "GetDetector"),
        ("POST", "/detector/12abc/coverage", "ListCoverage"),
    ],
)
def test_method_and_path_name_the_operation_elsewhere(method: str, path: str, operation: str) -> None:
    call = read(method, path, authorization=scope("guardduty"), target="", body=b"")
    assert call == Call(action=f"guardduty:{operation}", region="eu-central-1")


@pytest.mark.parametrize("authorization", ["", "Bearer token", "AWS4-HMAC-SHA256 Credential=AKIA/today/x"])
def test_what_is_not_signed_is_no_call(authorization: str) -> None:
    assert read("POST", "/", authorization=authorization, target="", body=b"Action=DescribeVpcs") is None


def test_what_cannot_be_read_is_left_to_who_answers() -> None:
    assert read("POST", "/", authorization=scope("ssm"), target="AmazonSSM.X", body=b"{") is None
    assert read("POST", "/", authorization=scope("ec2"), target="", body=b"\xff=\xff") is None
    assert read("GET", "/nowhere", authorization=scope("guardduty"), target="", body=b"") is None


def test_tags_come_from_whoever_knows_them() -> None:
    call = form("ec2", Action="StopInstances", InstanceId__1="i-0123456789abcdef0")
    assert call
    known = {("eu-central-1", "instance", "i-0123456789abcdef0"): ("BakeId",)}
    tagged = call.with_tags(lambda *where: known[where])
    assert tagged.named == (Named(kind="instance", name="i-0123456789abcdef0", region=HERE, tags=("BakeId",)),)


def test_what_is_copied_is_where_it_is_copied_from() -> None:
    call = form("ec2", Action="CopyImage", SourceRegion="us-east-1", SourceImageId="ami-0123456789abcdef0")
    assert call
    assert (call.region, call.named[0].region) == (HERE, "us-east-1")


def test_a_call_that_is_repeated_is_kept_once_and_counts_as_made_later() -> None:
    journal = Journal()
    first, second = (Call(action=f"ec2:X{number}", region="r") for number in range(2))
    journal.write(first)
    journal.write(second)
    mark = journal.since(0).so_far
    assert journal.since(mark).calls == ()
    journal.write(first)
    assert (journal.since(mark).calls, journal.since(0).calls) == ((first,), (second, first))


def test_what_was_not_called_for_longest_is_forgotten_first() -> None:
    journal = Journal()
    calls = [Call(action=f"ec2:X{number}", region="r") for number in range(KEPT + 1)]
    for call in calls:
        journal.write(call)
    assert journal.since(0).calls == tuple(calls[1:])
