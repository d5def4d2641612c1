"""IMDSv2 as a guest meets it: tokens first, then the tree."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.rehearsal.metadata import InstanceFacts, MetadataService
from pipeline.rehearsal.wire import Reply, Request
from tests.doubles import FakeClock

TTL = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "x-aws-ec2-metadata-token"
MAC = "02:00:00:00:00:01"

FACTS = InstanceFacts(
    instance_id="i-1",
    image_id="ami-1",
    instance_type="t3.small",
    account_id="123456789012",
    region="eu-central-1",
    availability_zone="eu-central-1a",
    architecture="x86_64",
    launched=datetime(2026, 11, 23, 12, tzinfo=UTC),
    private_ip="10.1.2.3",
    private_dns_name="ip-10-1-2-3.eu-central-1.compute.internal",
    mac=MAC,
    vpc_id="vpc-1",
    subnet_id="subnet-1",
    subnet_cidr="10.1.0.0/16",
    network_interface_id="eni-1",
    security_groups=(("default", "sg-1"),),
    reservation_id="r-1",
    public_ip="127.9.9.1",
    public_dns_name="ec2-127-9-9-1.eu-central-1.compute.amazonaws.com",
    key_name="packer",
    public_key="ssh-ed25519 AAAA",
)


class Guest:
    """Asks as cloud-init does: a token, then with it."""

    def __init__(self, facts: InstanceFacts = FACTS) -> None:
        self.clock = FakeClock()
        self.service = MetadataService(lambda: facts, self.clock)

    def token(self, seconds: str = "60") -> str:
        reply = self.service(Request(method="PUT", path="/latest/api/token", headers={TTL: seconds}))
        assert isinstance(reply.body, bytes)
        return reply.body.decode()

    def ask(self, path: str, token: str | None = None) -> Reply:
        return self.service(Request(method="GET", path=path, headers={TOKEN: token or self.token()}))

    def text(self, path: str) -> str:
        reply = self.ask(path)
        assert isinstance(reply.body, bytes)
        assert reply.status == 200, (path, reply)
        return reply.body.decode()


LEAVES = [
    ("/latest/meta-data/instance-id", "i-1"),
    ("/2009-04-04/meta-data/instance-id", "i-1"),
    ("/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA"),
    ("/latest/meta-data/placement/availability-zone", "eu-central-1a"),
    ("/latest/meta-data/placement/region", "eu-central-1"),
    ("/latest/meta-data/services/domain", "amazonaws.com"),
    (f"/latest/meta-data/network/interfaces/macs/{MAC}/vpc-id", "vpc-1"),
    (f"/latest/meta-data/network/interfaces/macs/{MAC}/public-ipv4s", "127.9.9.1"),
    ("/latest/meta-data/local-hostname", "ip-10-1-2-3.eu-central-1.compute.internal"),
]
FOLDERS = [
    ("/latest/", "dynamic\nmeta-data"),
    ("/latest/meta-data/public-keys/", "0=packer"),
    ("/latest/meta-data/public-keys/0/", "openssh-key"),
    ("/latest/meta-data/placement/", "availability-zone\nregion"),
    ("/latest/meta-data/network/interfaces/macs/", f"{MAC}/"),
    ("/latest/dynamic/instance-identity/", "document"),
]


@pytest.mark.parametrize(("path", "text"), LEAVES + FOLDERS)
def test_paths(path: str, text: str) -> None:
    assert Guest().text(path) == text


ABSENT = [
    "/latest/user-data",
    "/latest/meta-data/iam/info",
    "/latest/meta-data/tags/instance/Name",
    "/latest/meta-data/no-such-thing",
    "/latest/meta-data/instance-id/deeper",
    "/1999-01-01/meta-data/",
]


@pytest.mark.parametrize("path", ABSENT)
def test_what_an_instance_does_not_have_is_not_found(path: str) -> None:
    assert Guest().ask(path).status == 404


def test_without_a_token_nothing_is_told() -> None:
    reply = Guest().service(Request(method="GET", path="/latest/meta-data/instance-id"))
    assert (reply.status, reply.body) == (401, b"Unauthorized\n")


def test_a_token_expires() -> None:
    guest = Guest()
    token = guest.token("60")
    statuses = [guest.ask("/latest/meta-data/", token).status]
    guest.clock.sleep(61)
    statuses.append(guest.ask("/latest/meta-data/", token).status)
    assert statuses == [200, 401]


@pytest.mark.parametrize("seconds", ["", "0", "21601", "-1", "many", "²"])
def test_a_token_needs_a_lifetime_within_six_hours(seconds: str) -> None:
    reply = Guest().service(Request(method="PUT", path="/latest/api/token", headers={TTL: seconds}))
    assert reply.status == 400


def test_a_forwarded_request_gets_no_token() -> None:
    headers = {TTL: "60", "x-forwarded-for": "10.0.0.1"}
    assert Guest().service(Request(method="PUT", path="/latest/api/token", headers=headers)).status == 403


def test_a_disabled_service_says_so() -> None:
    reply = Guest(replace(FACTS, enabled=False)).service(Request(method="PUT", path="/latest/api/token"))
    assert reply.status == 403


def test_tags_are_there_only_when_the_launch_allowed_it() -> None:
    guest = Guest(replace(FACTS, tags={"GuardDutyManaged": "false"}))
    assert guest.text("/latest/meta-data/tags/instance/GuardDutyManaged") == "false"
    assert guest.text("/latest/meta-data/tags/instance/") == "GuardDutyManaged"


def test_user_data_comes_as_it_was_given_even_compressed() -> None:
    guest = Guest(replace(FACTS, user_data=b"\x1f\x8b\x00\xff"))
    assert guest.ask("/latest/user-data").body == b"\x1f\x8b\x00\xff"
    assert guest.text("/latest/") == "dynamic\nmeta-data\nuser-data"


def test_the_profile_of_the_instance() -> None:
    guest = Guest(replace(FACTS, profile_arn="arn:profile", profile_id="AIPA1", role="a-role"))
    assert json.loads(guest.text("/latest/meta-data/iam/info"))["InstanceProfileArn"] == "arn:profile"
    assert guest.text("/latest/meta-data/iam/security-credentials/") == "a-role"


def test_the_identity_document() -> None:
    document = json.loads(Guest().text("/latest/dynamic/instance-identity/document"))
    assert {name: document[name] for name in ("instanceId", "accountId", "region", "pendingTime")} == {
        "instanceId": "i-1",
        "accountId": "123456789012",
        "region": "eu-central-1",
        "pendingTime": "2026-11-23T12:00:00Z",
    }
