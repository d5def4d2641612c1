"""The instance metadata service of one guest: in, what is known of the instance; out, IMDSv2 over HTTP.

Paths and rules: EC2 user guide, "Instance metadata categories" and "Use the Instance Metadata Service". Version 1
is never served. The hop limit has no effect here, because a unix socket has no hops; a container in the guest is
kept out, or let in, by the guest's own firewall only.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Union

from pipeline.clock import Clock
from pipeline.rehearsal.wire import Reply, Request

TOKEN_TTL_MAX_SECONDS = 21_600
VERSIONS = ("2009-04-04", "2016-09-02", "2018-09-24", "2019-10-01", "2020-10-27", "2021-03-23", "2021-07-15", "latest")

Tree = Mapping[str, Union[str, "Tree"]]


@dataclass(frozen=True, kw_only=True)
class InstanceFacts:
    """What the service knows; `role` is the name of the role in the instance's profile."""

    instance_id: str
    image_id: str
    instance_type: str
    account_id: str
    region: str
    availability_zone: str
    architecture: str
    launched: datetime
    private_ip: str
    private_dns_name: str
    mac: str
    vpc_id: str
    subnet_id: str
    subnet_cidr: str
    network_interface_id: str
    security_groups: tuple[tuple[str, str], ...]  # (name, id)
    reservation_id: str
    public_ip: str | None = None
    public_dns_name: str | None = None
    key_name: str | None = None
    public_key: str | None = None
    user_data: bytes | None = None
    profile_arn: str | None = None
    profile_id: str | None = None
    role: str | None = None
    tags: Mapping[str, str] | None = None  # None: InstanceMetadataTags is disabled
    enabled: bool = True


def identity_document(facts: InstanceFacts) -> dict[str, object]:
    """The instance identity document; fields as in the EC2 user guide's example."""
    return {
        "accountId": facts.account_id,
        "architecture": facts.architecture,
        "availabilityZone": facts.availability_zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": facts.image_id,
        "instanceId": facts.instance_id,
        "instanceType": facts.instance_type,
        "kernelId": None,
        "pendingTime": facts.launched.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": facts.private_ip,
        "ramdiskId": None,
        "region": facts.region,
        "version": "2017-09-30",
    }


def _credentials(now: datetime) -> str:
    """Credentials that open nothing: the guest has no way to any AWS endpoint, real or local."""
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Type": "AWS-HMAC",
            "AccessKeyId": "ASIA" + "LOCALCLOUD".ljust(16, "0"),
            "SecretAccessKey": "local-cloud-only",
            "Token": "local-cloud-only",
            "Expiration": (now + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        indent=2,
    )


def metadata_tree(facts: InstanceFacts, now: datetime) -> Tree:
    """Everything below `meta-data/`. A nested mapping is a folder; what EC2 leaves out when absent is left out."""
    updated = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    names = "\n".join(name for name, _ in facts.security_groups)
    interface: dict[str, str | Tree] = {
        "device-number": "0",
        "interface-id": facts.network_interface_id,
        "local-hostname": facts.private_dns_name,
        "local-ipv4s": facts.private_ip,
        "mac": facts.mac,
        "owner-id": facts.account_id,
        "security-groups": names,
        "security-group-ids": "\n".join(group_id for _, group_id in facts.security_groups),
        "subnet-id": facts.subnet_id,
        "subnet-ipv4-cidr-block": facts.subnet_cidr,
        "vpc-id": facts.vpc_id,
    }
    tree: dict[str, str | Tree] = {
        "ami-id": facts.image_id,
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping": {"ami": "/dev/vda1", "root": "/dev/vda"},
        "hostname": facts.private_dns_name,
        "identity-credentials": {
            "ec2": {
                "info": json.dumps({"Code": "Success", "LastUpdated": updated, "AccountId": facts.account_id}),
                "security-credentials": {"ec2-instance": _credentials(now)},
            }
        },
        "instance-action": "none",
        "instance-id": facts.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": facts.instance_type,
        "local-hostname": facts.private_dns_name,
        "local-ipv4": facts.private_ip,
        "mac": facts.mac,
        "network": {"interfaces": {"macs": {facts.mac: interface}}},
        "placement": {
            "availability-zone": facts.availability_zone,
            "region": facts.region,
        },
        "profile": "default-hvm",
        "reservation-id": facts.reservation_id,
        "security-groups": names,
        "services": {
            "domain": "amazonaws.com.cn" if facts.region.startswith("cn-") else "amazonaws.com",
            "partition": "aws-cn" if facts.region.startswith("cn-") else "aws",
        },
    }
    if facts.public_ip:
        tree["public-ipv4"] = interface["public-ipv4s"] = facts.public_ip
        tree["public-hostname"] = interface["public-hostname"] = facts.public_dns_name or ""
    if facts.key_name and facts.public_key:
        tree["public-keys"] = {f"0={facts.key_name}": {"openssh-key": facts.public_key}}
    if facts.profile_arn:
        info = {
            "Code": "Success",
            "LastUpdated": updated,
            "InstanceProfileArn": facts.profile_arn,
            "InstanceProfileId": facts.profile_id,
        }
        tree["iam"] = {
            "info": json.dumps(info),
            "security-credentials": {facts.role: _credentials(now)} if facts.role else {},
        }
    if facts.tags is not None:
        tree["tags"] = {"instance": dict(facts.tags)}
    return tree


def _look_up(tree: Tree, path: str) -> str | None:
    """A leaf's text, or a folder's listing: an entry a line, folders with a slash; None when it is not there."""
    found: str | Tree = tree
    for part in filter(None, path.split("/")):
        if isinstance(found, str):
            return None
        # A key is listed as 0=name and fetched as 0.
        entry = found.get(part) or next((v for k, v in found.items() if k.partition("=")[0] == part and "=" in k), None)
        if entry is None:
            return None
        found = entry
    if isinstance(found, str):
        return found
    return "\n".join(
        name if isinstance(value, str) or "=" in name else f"{name}/" for name, value in sorted(found.items())
    )


@dataclass
class MetadataService:
    """IMDSv2 for one guest. `facts` is asked at each request, so changed tags show at once."""

    facts: Callable[[], InstanceFacts]
    clock: Clock
    _tokens: dict[str, datetime] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        facts = self.facts()
        if not facts.enabled:
            return Reply.text("Forbidden\n", status=HTTPStatus.FORBIDDEN)
        if request.path.rstrip("/") == "/latest/api/token":
            return self._token(request)
        if request.method not in {"GET", "HEAD"}:
            return Reply.text("Method Not Allowed\n", status=HTTPStatus.METHOD_NOT_ALLOWED)
        expires = self._tokens.get(request.headers.get("x-aws-ec2-metadata-token", ""))
        if expires is None or expires <= self.clock.now():
            return Reply.text("Unauthorized\n", status=HTTPStatus.UNAUTHORIZED)
        answer = self._find(request.path, facts)
        return Reply.text("Not Found\n", status=HTTPStatus.NOT_FOUND) if answer is None else answer

    def _token(self, request: Request) -> Reply:
        if request.method != "PUT":
            return Reply.text("Method Not Allowed\n", status=HTTPStatus.METHOD_NOT_ALLOWED)
        if "x-forwarded-for" in request.headers:
            return Reply.text("Forbidden\n", status=HTTPStatus.FORBIDDEN)
        wish = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not wish.isascii() or not wish.isdigit() or not 1 <= int(wish) <= TOKEN_TTL_MAX_SECONDS:
            return Reply.text("Bad Request\n", status=HTTPStatus.BAD_REQUEST)
        now = self.clock.now()
        self._tokens = {token: expires for token, expires in self._tokens.items() if expires > now}
        token = secrets.token_urlsafe(42)
        self._tokens[token] = now + timedelta(seconds=int(wish))
        return Reply.text(token, headers={"x-aws-ec2-metadata-token-ttl-seconds": wish})

    def _find(self, path: str, facts: InstanceFacts) -> Reply | None:
        version, _, rest = path.strip("/").partition("/")
        if not version:
            return Reply.text("\n".join(VERSIONS))
        if version not in VERSIONS:
            return None
        if not rest:
            folders = ["dynamic", "meta-data", *(["user-data"] if facts.user_data else [])]
            return Reply.text("\n".join(folders))
        if rest == "user-data":
            if not facts.user_data:
                return None
            return Reply(body=facts.user_data, headers={"content-type": "application/octet-stream"})
        top: Tree = {
            "meta-data": metadata_tree(facts, self.clock.now()),
            "dynamic": {"instance-identity": {"document": json.dumps(identity_document(facts), indent=2)}},
        }
        text = _look_up(top, rest)
        return None if text is None else Reply.text(text)
