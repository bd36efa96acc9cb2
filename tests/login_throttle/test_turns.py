"""Logins that the API has not decided yet, and those that wait for a turn behind them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from loader import login_throttle
from loader.errors import LoginRejected, LoginThrottled
from loader.login_throttle import LoginThrottle
from tests.login_throttle.clients import CLIENT, EMAIL, OTHER, SECONDS, THREADS, Logins
from tests.support.processes import poll


def test_of_logins_that_hang_one_goes_on_every_ten_seconds(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_throttle, "LONGEST_TURN_SECONDS", 0.3)
    logins.throttle = LoginThrottle(THREADS)
    with logins.hanging(times=5):
        before = time.monotonic()
        waiting = [logins.start() for _ in range(3)]
        times = []
        for thread, went_on in waiting:
            thread.join(SECONDS)
            assert went_on.is_set()
            times.append(time.monotonic() - before)
    assert times[0] > 0.3
    assert max(times) > 0.9


@pytest.mark.parametrize("before", [0, 4, 5, 7])
def test_a_login_that_hangs_never_locks_out_another_client(logins: Logins, before: int) -> None:
    for number in range(30):
        for _ in range(before):
            with suppress(LoginThrottled):
                logins.reject(f"198.51.100.{number}")
    logins.clock.now += 61
    with ExitStack() as attack:
        for number in range(30):
            attack.enter_context(logins.hanging(f"198.51.100.{number}"))
        assert logins.wait(OTHER) is None
        logins.accept(OTHER)


def test_a_login_that_hangs_delays_one_of_the_same_client_for_ten_seconds_only(
    logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_throttle, "LONGEST_TURN_SECONDS", 0.2)
    logins.throttle = LoginThrottle(THREADS)
    with logins.hanging(times=5):
        before = time.monotonic()
        for _ in range(3):
            logins.accept()
        assert time.monotonic() - before > 0.2


def test_a_login_waits_for_a_turn_and_goes_on_when_it_comes(logins: Logins) -> None:
    with logins.hanging(times=5):
        thread, went_on = logins.start()
        poll(lambda: len(logins.throttle._accounts[CLIENT].logins) == 6, SECONDS, "the sixth login")
        assert not went_on.is_set()
    assert went_on.wait(SECONDS)
    thread.join(SECONDS)
    assert logins.throttle._accounts[CLIENT].logins == []


def test_a_login_that_waits_for_a_turn_is_refused_when_those_before_are_rejected(logins: Logins) -> None:
    with ExitStack() as before:
        for _ in range(5):
            before.enter_context(suppress(LoginRejected))
            before.enter_context(logins.throttle.login(CLIENT, EMAIL))
            before.callback(_reject)
        thread, went_on = logins.start()
        poll(lambda: len(logins.throttle._accounts[CLIENT].logins) == 6, SECONDS, "the sixth login")
    thread.join(SECONDS)
    assert not went_on.is_set()
    assert logins.wait() == 10


def _reject() -> None:
    raise LoginRejected("Wrong.")


def test_after_the_wait_one_login_at_a_time_has_a_turn(logins: Logins) -> None:
    logins.reject(times=5)
    logins.clock.now += 10
    with logins.hanging():
        assert logins.wait() is None
        thread, went_on = logins.start()
        poll(lambda: len(logins.throttle._accounts[CLIENT].logins) == 2, SECONDS, "the second login")
        assert not went_on.is_set()
    assert went_on.wait(SECONDS)
    thread.join(SECONDS)


@pytest.mark.parametrize("most", [1, 3])
def test_the_logins_of_one_client_are_bounded(logins: Logins, most: int) -> None:
    logins.throttle = LoginThrottle(most, logins.clock)
    with logins.hanging(times=most):
        with pytest.raises(LoginThrottled) as refused, logins.throttle.login(CLIENT, EMAIL):
            pass
        assert refused.value.retry_after == 1
        logins.accept(OTHER)
    logins.accept()


def test_of_many_logins_at_once_five_reach_the_api(logins: Logins) -> None:
    barrier = threading.Barrier(THREADS)
    reached: list[None] = []

    def wrong_login() -> None:
        barrier.wait()
        with suppress(LoginThrottled, LoginRejected), logins.throttle.login(CLIENT, EMAIL):
            reached.append(None)
            raise LoginRejected("Wrong.")

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(wrong_login) for _ in range(THREADS)]:
            future.result()
    assert len(reached) == 5
