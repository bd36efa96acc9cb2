"""How long a client waits after rejected logins."""

from __future__ import annotations

from contextlib import suppress

import pytest

from loader.errors import ApiUnreachable, LoginThrottled
from tests.login_throttle.clients import CLIENT, EMAIL, OTHER, Logins


def test_the_sixth_login_after_five_rejections_waits(logins: Logins) -> None:
    for _ in range(5):
        assert logins.wait() is None
        logins.reject()
    assert logins.wait() == 10
    assert logins.wait(OTHER) is None


def test_an_attempt_that_comes_too_early_makes_no_wait_longer(logins: Logins) -> None:
    logins.reject(times=5)
    assert [logins.wait() for _ in range(9)] == [10] * 9
    logins.clock.now += 9.5
    assert logins.wait() == 1
    logins.clock.now += 0.5
    assert logins.wait() is None


def test_each_rejection_after_the_wait_makes_it_twice_as_long(logins: Logins) -> None:
    logins.reject(times=5)
    waits = []
    for _ in range(9):
        waits.append(logins.wait() or 0)
        logins.clock.now += waits[-1]
        logins.reject()
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_wait_stays_finite_after_many_rejections(logins: Logins) -> None:
    logins.reject(times=5)
    for _ in range(2000):
        logins.clock.now += 600
        logins.reject()
    assert logins.wait() == 600


@pytest.mark.parametrize("pause", [0.5, 15.0, 61.0, 599.0, 601.0, 1200.0, 3601.0])
def test_no_pace_gives_one_client_more_than_160_guesses_a_day(logins: Logins, pause: float) -> None:
    """An attacker guesses whenever it may, but not sooner than `pause` after the guess before."""
    guesses, begin = 0, logins.clock.now
    while logins.clock.now < begin + 86400:
        wait = logins.wait()
        if wait is None:
            logins.reject()
            guesses += 1
        logins.clock.now += max(wait or 0, pause)
    assert guesses < 160


def test_five_rejections_in_more_than_an_hour_cause_no_wait(logins: Logins) -> None:
    for _ in range(20):
        logins.reject()
        logins.clock.now += 900
    assert logins.wait() is None
    logins.reject(times=2)
    assert logins.wait() == 10


def test_an_accepted_login_clears_the_account_of_its_client_only(logins: Logins) -> None:
    logins.reject(times=4)
    logins.reject(OTHER, times=4)
    logins.accept()
    logins.reject(times=4)
    assert logins.wait() is None
    logins.reject(OTHER)
    assert logins.wait(OTHER) == 10


def test_an_accepted_login_clears_the_rejections_of_its_own_email_only(logins: Logins) -> None:
    logins.reject(times=4)
    logins.accept(email="attacker@example.com")
    logins.reject(email="attacker@example.com")
    assert logins.wait() == 10
    logins.clock.now += 10
    logins.accept(email="attacker@example.com")
    logins.reject()
    assert logins.wait() == 20
    logins.clock.now += 20
    logins.accept(email="OP@Example.com")
    logins.reject(times=4)
    assert logins.wait() is None


@pytest.mark.parametrize("own", [0, 1, 6])
def test_an_attacker_with_an_account_guesses_no_faster(logins: Logins, own: int) -> None:
    """After each guess it gives this many wrong passwords of its own, and then the right one."""
    guesses, end = 0, logins.clock.now + 86400
    while logins.clock.now < end:
        wait = logins.wait()
        if wait is None:
            logins.reject()
            guesses += 1
            for _ in range(own):
                logins.clock.now += logins.wait() or 0
                logins.reject(email="attacker@example.com")
        with suppress(LoginThrottled):
            logins.accept(email="attacker@example.com")
        logins.clock.now += max(wait or 0, 3.2)
    assert guesses < 160


def test_an_accepted_login_after_the_wait_ends_it(logins: Logins) -> None:
    logins.reject(times=5)
    logins.clock.now += 10
    logins.accept()
    logins.reject(times=4)
    assert logins.wait() is None


def test_an_hour_without_a_rejection_clears_the_account(logins: Logins) -> None:
    logins.reject(times=5)
    logins.clock.now += 3599
    logins.reject()
    assert logins.wait() == 20
    logins.clock.now += 3600
    logins.reject(times=4)
    assert logins.wait() is None


def test_only_rejections_count(logins: Logins) -> None:
    for _ in range(100):
        with logins.hanging():
            pass
        with pytest.raises(ApiUnreachable), logins.throttle.login(CLIENT, EMAIL):
            raise ApiUnreachable("Nobody listens.")
    assert logins.wait() is None
