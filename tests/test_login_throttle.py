"""How often logins may fail: the rules, with a clock that stands still until it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader import login_throttle
from loader.errors import ApiUnreachable, LoginRejected, LoginThrottled
from loader.login_throttle import LoginThrottle

CLIENT, OTHER = "192.0.2.7", "192.0.2.8"
THREADS = 50


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Logins:
    """A throttle, and clients that log in there."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.throttle = LoginThrottle(self.clock)

    def reject(self, client: str = CLIENT, times: int = 1) -> None:
        """Logins that the API refuses."""
        for _ in range(times):
            with suppress(LoginRejected), self.throttle.begin(client):
                raise LoginRejected("Wrong.")

    def accept(self, client: str = CLIENT) -> None:
        """A login that the API accepts."""
        with self.throttle.begin(client):
            pass

    def wait(self, client: str = CLIENT) -> int | None:
        """The seconds that a login is told to wait, None if it would have been let through."""
        try:
            self.throttle.begin(client).close()
        except LoginThrottled as exc:
            return exc.retry_after
        return None

    def left(self) -> float:
        """The seconds that CLIENT still has to wait. Looked at, not asked: who asks too early waits longer."""
        return self.throttle._accounts[CLIENT].blocked_until - self.clock.now


@pytest.fixture
def logins() -> Logins:
    return Logins()


def test_the_sixth_login_after_five_rejections_waits(logins: Logins) -> None:
    for _ in range(5):
        assert logins.wait() is None
        logins.reject()
    assert logins.wait() == 10
    assert logins.wait(OTHER) is None


def test_each_attempt_that_comes_too_early_waits_twice_as_long(logins: Logins) -> None:
    logins.reject(times=5)
    assert [logins.wait() for _ in range(9)] == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_each_rejection_after_the_wait_makes_it_twice_as_long(logins: Logins) -> None:
    logins.reject(times=5)
    waits = []
    for _ in range(9):
        logins.clock.now += logins.left()
        logins.reject()
        waits.append(logins.left())
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_five_rejections_in_more_than_a_minute_are_nothing(logins: Logins) -> None:
    for _ in range(20):
        logins.reject()
        logins.clock.now += 15
    assert logins.wait() is None


def test_an_accepted_login_clears_the_account_of_its_client_only(logins: Logins) -> None:
    logins.reject(times=4)
    logins.reject(OTHER, times=4)
    logins.accept()
    logins.reject(times=4)
    assert logins.wait() is None
    logins.reject(OTHER)
    assert logins.wait(OTHER) == 10


def test_an_accepted_login_after_the_wait_ends_it(logins: Logins) -> None:
    logins.reject(times=5)
    logins.clock.now += 10
    logins.accept()
    logins.reject(times=4)
    assert logins.wait() is None


def test_ten_quiet_minutes_after_the_wait_clear_the_account(logins: Logins) -> None:
    logins.reject(times=5)
    logins.clock.now += 10 + 599
    logins.reject()
    assert logins.left() == 10  # not five times more
    logins.clock.now += 10 + 600
    logins.reject(times=4)
    assert logins.wait() is None


def test_what_is_no_rejection_does_not_count(logins: Logins) -> None:
    for _ in range(100):
        with pytest.raises(ApiUnreachable), logins.throttle.begin(CLIENT):
            raise ApiUnreachable("Nobody listens.")
        logins.throttle.begin(CLIENT).close()
    assert logins.wait() is None


def test_twenty_rejections_of_all_clients_let_everybody_wait_until_a_minute_after_the_first(logins: Logins) -> None:
    for number in range(20):
        assert logins.wait(f"198.51.100.{number}") is None
        logins.reject(f"198.51.100.{number}")
        logins.clock.now += 1
    assert [logins.wait(OTHER) for _ in range(3)] == [40, 40, 40]
    logins.clock.now += 40
    assert logins.wait(OTHER) is None


def test_an_accepted_login_does_not_clear_what_all_clients_have_done(logins: Logins) -> None:
    for number in range(19):
        logins.reject(f"198.51.100.{number}")
        logins.accept(f"198.51.100.{number}")
    logins.reject(OTHER)
    assert logins.wait() == 60


def test_logins_under_way_count_until_they_have_ended(logins: Logins) -> None:
    under_way = [logins.throttle.begin(CLIENT) for _ in range(5)]
    assert logins.wait() == 1
    under_way.pop().close()
    assert logins.wait() is None


def test_after_the_wait_one_login_at_a_time_may_try(logins: Logins) -> None:
    logins.reject(times=5)
    logins.clock.now += 10
    probing = logins.throttle.begin(CLIENT)
    assert logins.wait() == 1
    probing.close()
    probing.close()
    assert logins.wait() is None


def test_a_rejection_that_is_seen_after_the_attempt_was_closed_counts(logins: Logins) -> None:
    """As of a login that an interrupted unlock has left behind."""
    for _ in range(5):
        attempt = logins.throttle.begin(CLIENT)
        attempt.close()
        with pytest.raises(LoginRejected), attempt:
            raise LoginRejected("Wrong.")
    assert logins.wait() == 10


def test_the_number_of_remembered_clients_is_bounded(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_throttle, "MAX_CLIENTS", 8)
    for number in range(1000):
        logins.reject(f"198.51.{number // 250}.{number % 250}")
        logins.clock.now += 3.1
        assert len(logins.throttle._accounts) <= 8


def test_clients_are_forgotten(logins: Logins) -> None:
    logins.reject(times=5)
    logins.reject(OTHER)
    logins.accept("192.0.2.9")
    logins.clock.now += 10 + 600
    assert logins.wait("192.0.2.10") is None
    assert list(logins.throttle._accounts) == ["192.0.2.10"]


def test_of_many_at_once_no_more_than_five_reach_the_api(logins: Logins) -> None:
    barrier = threading.Barrier(THREADS)
    reached: list[None] = []

    def wrong_login() -> None:
        barrier.wait()
        with suppress(LoginThrottled, LoginRejected), logins.throttle.begin(CLIENT):
            reached.append(None)
            raise LoginRejected("Wrong.")

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(wrong_login) for _ in range(THREADS)]:
            future.result()
    assert len(reached) == 5


steps = st.lists(
    st.tuples(
        st.sampled_from([CLIENT, OTHER, *(f"198.51.100.{number}" for number in range(30))]),
        st.sampled_from(["reject", "reject", "reject", "accept", "fail"]),
        st.sampled_from([0.0, 0.0, 0.0, 0.4, 1.0, 7.0, 12.0, 61.0, 700.0]),
    ),
    max_size=120,
)


def run(taken: list[tuple[str, str, float]], see: Callable[[Logins, str, str, int | None], None]) -> None:
    """Take the steps; `see` is told of each: the client, what came of it, and how long it was told to wait."""
    logins = Logins()
    for client, outcome, pause in taken:
        logins.clock.now += pause
        try:
            attempt = logins.throttle.begin(client)
        except LoginThrottled as exc:
            see(logins, client, "throttled", exc.retry_after)
            continue
        with suppress(LoginRejected, ApiUnreachable), attempt:
            if outcome != "accept":
                raise LoginRejected("Wrong.") if outcome == "reject" else ApiUnreachable("Nobody listens.")
        see(logins, client, outcome, None)


@given(steps)
def test_no_minute_has_more_than_twenty_rejections(taken: list[tuple[str, str, float]]) -> None:
    rejected: list[float] = []

    def see(logins: Logins, _client: str, outcome: str, _wait: int | None) -> None:
        if outcome == "reject":
            rejected.append(logins.clock.now)
            assert sum(logins.clock.now - at < 60 for at in rejected) <= 20

    run(taken, see)


@given(steps)
def test_a_wait_is_a_whole_number_of_seconds_up_to_ten_minutes(taken: list[tuple[str, str, float]]) -> None:
    def see(_logins: Logins, _client: str, _outcome: str, wait: int | None) -> None:
        assert wait is None or (isinstance(wait, int) and 1 <= wait <= 600)

    run(taken, see)


@given(steps)
def test_who_waits_as_told_is_let_through(taken: list[tuple[str, str, float]]) -> None:
    """One client alone: what others do meanwhile may add to its wait."""

    def see(logins: Logins, client: str, _outcome: str, wait: int | None) -> None:
        if wait is not None:
            logins.clock.now += wait
            assert logins.wait(client) is None

    run([(CLIENT, outcome, pause) for _, outcome, pause in taken], see)


@given(steps)
def test_without_rejections_nobody_waits(taken: list[tuple[str, str, float]]) -> None:
    def see(_logins: Logins, _client: str, outcome: str, _wait: int | None) -> None:
        assert outcome != "throttled"

    run([(client, "accept" if outcome == "reject" else outcome, pause) for client, outcome, pause in taken], see)
