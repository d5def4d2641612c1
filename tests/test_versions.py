"""Which version is older. Each pair was answered the same by `rpm.vercmp` and `dpkg --compare-versions`."""

import pytest

from pipeline.versions import is_older


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.9-1", "1.10-1"),
        ("1.0~rc1-1", "1.0-1"),
        ("1.0-1", "1.0^git1-1"),
        ("1.0^git1-1", "1.0.1-1"),
        ("9.0-1", "1:1.0-1"),
        ("1.0-1.amzn2", "1.0-2.amzn2"),
        ("1.a-1", "1.1-1"),
        ("5.10.245-241.976.amzn2", "5.10.246-243.1000.amzn2"),
    ],
)
def test_rpm(older: str, newer: str) -> None:
    assert is_older("rpm", older, newer)
    assert not is_older("rpm", newer, older)
    assert not is_older("rpm", older, older)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.1.1n-0+deb11u2", "1.1.1w-0+deb11u3"),
        ("1.0~rc1-1", "1.0-1"),
        ("1.0-1", "1.0a-1"),
        ("1.0a-1", "1.0+1-1"),
        ("20.10.5+dfsg1-1+deb11u2", "20.10.5+dfsg1-1+deb11u10"),
        ("2.0", "1:0.1"),
    ],
)
def test_deb(older: str, newer: str) -> None:
    assert is_older("deb", older, newer)
    assert not is_older("deb", newer, older)
    assert not is_older("deb", older, older)


def test_separators_do_not_count_in_an_rpm() -> None:
    assert not is_older("rpm", "1.0_1", "1.0.1")
    assert not is_older("rpm", "1.0.1", "1.0_1")
