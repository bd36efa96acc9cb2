"""Which logins come from one client, and what all clients together may do."""

from __future__ import annotations

import pytest

from loader import login_throttle
from tests.login_throttle.clients import CLIENT, OTHER, Logins


def test_after_twenty_rejections_only_clients_with_one_of_them_wait(logins: Logins) -> None:
    for number in range(20):
        assert logins.wait(f"198.51.100.{number}") is None
        logins.reject(f"198.51.100.{number}")
        logins.clock.now += 1
    assert [logins.wait(f"198.51.100.{number}") for number in (0, 7, 19)] == [40, 40, 40]
    assert logins.wait(OTHER) is None
    logins.reject(OTHER)
    assert logins.wait(OTHER) == 41
    logins.clock.now += 41
    assert logins.wait(OTHER) is None


def test_an_accepted_login_does_not_clear_the_count_of_all_clients(logins: Logins) -> None:
    for number in range(19):
        logins.reject(f"198.51.100.{number}")
        logins.accept(f"198.51.100.{number}")
    logins.reject(OTHER)
    assert logins.wait(OTHER) == 60


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "::1"),
        ("127.0.0.1", ""),
        ("127.0.0.1", "::ffff:127.9.9.9"),
        ("192.0.2.7", "::ffff:192.0.2.7"),
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
        ("fe80::1%eth0", "fe80::2%eth0"),
    ],
)
def test_addresses_of_one_client(logins: Logins, one: str, other: str) -> None:
    logins.reject(one, times=4)
    logins.reject(other)
    assert logins.wait(one) == logins.wait(other) == 10
    assert logins.wait(CLIENT if one != CLIENT else OTHER) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "192.0.2.8"),
        ("128.0.0.1", "127.0.0.1"),
        ("2001:db8::1", "2001:db8:0:1::1"),
        ("2001:db8::1", "::1"),
        ("::2", "::1"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8"),
    ],
)
def test_addresses_of_two_clients(logins: Logins, one: str, other: str) -> None:
    logins.reject(one, times=5)
    assert logins.wait(other) is None


def test_the_number_of_remembered_clients_is_bounded(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_throttle, "MAX_CLIENTS", 8)
    for number in range(1000):
        logins.reject(f"198.51.{number // 250}.{number % 250}")
        logins.clock.now += 3.1
        assert len(logins.throttle._accounts) <= 8


def test_quiet_clients_are_forgotten(logins: Logins) -> None:
    logins.reject(times=5)
    logins.reject(OTHER)
    logins.accept("192.0.2.9")
    logins.clock.now += 3600
    logins.accept("192.0.2.10")
    assert list(logins.throttle._accounts) == ["192.0.2.10"]
