"""Network ACLs as AWS describes them: both ways, in order, the first rule that fits, and no guess where some fit."""

from typing import Any

import pytest

from pipeline.diagnosis.acl import Acl, Spot, Way, way
from pipeline.diagnosis.views import _acl_rules

HOST, ENDPOINT = Spot("subnet-h", "10.0.0.9"), Spot("subnet-e", "10.0.8.8")


def rule(number: int, action: str = "allow", *, out: bool, ports: tuple[int, int] | None = None, **given: Any) -> Any:
    entry = {"RuleNumber": number, "RuleAction": action, "Egress": out, "Protocol": "-1", "CidrBlock": "0.0.0.0/0"}
    if ports:
        entry |= {"Protocol": "6", "PortRange": {"From": ports[0], "To": ports[1]}}
    return entry | given


LAST = [rule(32767, "deny", out=out) for out in (True, False)]
OPEN = [rule(100, out=out) for out in (True, False)]


def found(host: list[Any], endpoint: list[Any], *, at: tuple[Spot, ...] = (ENDPOINT,)) -> Way:
    acls = {
        "subnet-h": Acl("acl-h", _acl_rules([*LAST, *host])),
        "subnet-e": Acl("acl-e", _acl_rules([*LAST, *endpoint])),
    }
    return way(HOST, at, acls)


def test_the_default_acl_lets_everything_through() -> None:
    assert found(OPEN, OPEN) == Way("open")


@pytest.mark.parametrize(
    ("host", "endpoint", "reason"),
    [
        ([OPEN[1]], OPEN, "acl-h of subnet-h: no rule allows TCP 443 out to 10.0.8.8"),
        (OPEN, [OPEN[0]], "acl-e of subnet-e: no rule allows TCP 443 in from 10.0.0.9"),
        (OPEN, [OPEN[1]], "acl-e of subnet-e: no rule allows TCP 32768-60999 out to 10.0.0.9"),
        ([OPEN[0]], OPEN, "acl-h of subnet-h: no rule allows TCP 32768-60999 in from 10.0.8.8"),
        (
            [rule(90, "deny", out=True, CidrBlock="10.0.8.0/24"), *OPEN],
            OPEN,
            "acl-h of subnet-h: rule 90 denies TCP 443 out to 10.0.8.8",
        ),
        # whoever thinks that ACLs keep state opens 443 only
        (
            [rule(90, out=True, ports=(443, 443)), rule(90, out=False, ports=(443, 443))],
            OPEN,
            "acl-h of subnet-h: no rule allows TCP 32768-60999 in from 10.0.8.8",
        ),
    ],
)
def test_each_of_the_four_steps_can_be_closed(host: list[Any], endpoint: list[Any], reason: str) -> None:
    told = found(host, endpoint)
    assert (told.kind, told.reason) == ("closed", reason)
    assert reason.endswith(told.need) and reason.startswith(told.acl)


@pytest.mark.parametrize(
    "host",
    [
        [rule(50, out=True, ports=(443, 443)), rule(60, "deny", out=True), OPEN[1]],  # the first that fits decides
        [rule(100, out=True), rule(110, "deny", out=True), rule(10, out=False, ports=(1024, 65535))],
        [rule(50, "deny", out=True, CidrBlock="10.9.0.0/16"), *OPEN],  # about somebody else
        [rule(50, "deny", out=True, Protocol="17"), *OPEN],  # UDP
        [{**rule(50, "deny", out=True, Ipv6CidrBlock="::/0"), "CidrBlock": None}, *OPEN],
    ],
)
def test_what_does_not_stand_in_the_way_is_not_told(host: list[Any]) -> None:
    entries = [{key: value for key, value in entry.items() if value is not None} for entry in host]
    assert found(entries, OPEN).kind == "open"


@pytest.mark.parametrize(
    "host",
    [
        [OPEN[0], rule(50, out=False, ports=(49152, 65535))],  # some of Linux's ports
        [OPEN[0], rule(50, "deny", out=False, ports=(50000, 50010)), OPEN[1]],
    ],
)
def test_where_some_ports_are_open_nothing_is_claimed(host: list[Any]) -> None:
    assert found(host, OPEN) == Way(None)


def test_within_a_subnet_no_acl_is_asked() -> None:
    assert found([], [], at=(Spot("subnet-h", "10.0.0.5"),)).kind == "open"


def test_one_interface_that_is_reached_is_enough() -> None:
    assert found([], [], at=(ENDPOINT, Spot("subnet-h", "10.0.0.5"))).kind == "open"
    assert found([], [], at=(ENDPOINT, ENDPOINT)).kind == "closed"


def test_an_acl_that_nobody_saw_is_not_held_against_anybody() -> None:
    assert way(HOST, [ENDPOINT], {"subnet-h": Acl("acl-h", _acl_rules([*LAST, *OPEN]))}) == Way(None)
    assert way(HOST, [], {}) == Way(None)
