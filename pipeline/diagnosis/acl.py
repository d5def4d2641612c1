"""Do network ACLs let a host talk to an endpoint: in, rules and addresses; out, yes, no with the rule that says so, or
not known.

ACLs keep no state, so both ways count: TCP 443 from the host to the endpoint, and back to a port of the host's own
choice. Within one subnet no ACL is asked. Rules count in the order of their numbers, and the first that fits decides.
Source: Amazon VPC user guide, vpc-network-acls and nacl-rules; the ports are Linux's own range (ip_local_port_range).
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

HTTPS = (443, 443)
EPHEMERAL = (32768, 60999)
LAST_RULE = 32767
"""The rule that every ACL ends with, and that denies everything."""


@dataclass(frozen=True, slots=True)
class AclRule:
    """One rule, if it is about TCP and IPv4."""

    number: int
    egress: bool
    allows: bool
    network: ipaddress.IPv4Network
    ports: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Acl:
    """An ACL with its rules in order."""

    id: str
    rules: tuple[AclRule, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """A network interface: where it is, and its address."""

    subnet: str
    address: str
    zone: str = ""
    """The zone's id, which is the same in every account, unlike its name."""


@dataclass(frozen=True, slots=True)
class Way:
    """`closed` by an ACL, with the reason and what would have to be allowed; `open`; None: not known."""

    kind: Literal["open", "closed"] | None
    acl: str = ""
    reason: str = ""
    need: str = ""


def way(host: Spot, endpoint: Sequence[Spot], acls: Mapping[str, Acl]) -> Way:
    """Between a host and an endpoint's interfaces; closed only where every one of them is out of reach."""
    ways = [_to(host, spot, acls) for spot in endpoint]
    for found in ways:
        if found.kind == "open":
            return found
    if not ways or any(found.kind is None for found in ways):
        return Way(None)
    return ways[0]


def _to(host: Spot, spot: Spot, acls: Mapping[str, Acl]) -> Way:
    if host.subnet == spot.subnet:
        return Way("open")
    steps = (
        (host.subnet, True, spot.address, HTTPS, f"TCP 443 out to {spot.address}"),
        (spot.subnet, False, host.address, HTTPS, f"TCP 443 in from {host.address}"),
        (spot.subnet, True, host.address, EPHEMERAL, f"TCP 32768-60999 out to {host.address}"),
        (host.subnet, False, spot.address, EPHEMERAL, f"TCP 32768-60999 in from {spot.address}"),
    )
    unknown = False
    for subnet, egress, address, ports, words in steps:
        if subnet not in acls:
            unknown = True
            continue
        acl = acls[subnet]
        allowed, number = _weigh(acl, egress, address, ports)
        if allowed is False:
            rule = "no rule allows" if number == LAST_RULE else f"rule {number} denies"
            return Way("closed", acl.id, f"{acl.id} of {subnet}: {rule} {words}", words)
        unknown = unknown or allowed is None
    return Way(None) if unknown else Way("open")


def _weigh(acl: Acl, egress: bool, address: str, ports: tuple[int, int]) -> tuple[bool | None, int]:
    """Whether all of these ports are let through, and the rule that says so; None: some of them are."""
    one = ipaddress.ip_address(address)
    partly: set[bool] = set()
    for rule in acl.rules:
        if rule.egress != egress or one not in rule.network:
            continue
        low, high = max(rule.ports[0], ports[0]), min(rule.ports[1], ports[1])
        if low > high:
            continue
        if (low, high) == ports:
            return (None if partly - {rule.allows} else rule.allows), rule.number
        partly.add(rule.allows)
    return (None if True in partly else False), LAST_RULE
