"""How often logins may fail. The clock of these tests stands still until a test moves it."""

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
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Logins:
    """A throttle, and clients that log in through it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.throttle = LoginThrottle(self.clock)

    def reject(self, client: str = CLIENT, times: int = 1) -> None:
        """Let the API reject this many logins."""
        for _ in range(times):
            with suppress(LoginRejected), self.throttle.finishing(self.throttle.start(client)):
                raise LoginRejected("Wrong.")

    def accept(self, client: str = CLIENT) -> None:
        """Let the API accept a login."""
        with self.throttle.finishing(self.throttle.start(client)):
            pass

    def wait(self, client: str = CLIENT) -> int | None:
        """Return the seconds that a login is told to wait, None if it may start."""
        try:
            self.throttle.finish(self.throttle.start(client))
        except LoginThrottled as exc:
            return exc.retry_after
        return None

    def left(self) -> float:
        """Return the seconds that CLIENT must still wait, without starting a login, which would double the wait."""
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


def test_five_rejections_in_more_than_a_minute_cause_no_wait(logins: Logins) -> None:
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


def test_only_rejections_count(logins: Logins) -> None:
    for _ in range(100):
        with pytest.raises(ApiUnreachable), logins.throttle.finishing(logins.throttle.start(CLIENT)):
            raise ApiUnreachable("Nobody listens.")
        logins.throttle.finish(logins.throttle.start(CLIENT))
    assert logins.wait() is None


def test_after_twenty_rejections_every_client_waits_until_a_minute_after_the_first(logins: Logins) -> None:
    for number in range(20):
        assert logins.wait(f"198.51.100.{number}") is None
        logins.reject(f"198.51.100.{number}")
        logins.clock.now += 1
    assert [logins.wait(OTHER) for _ in range(3)] == [40, 40, 40]
    logins.clock.now += 40
    assert logins.wait(OTHER) is None


def test_an_accepted_login_does_not_clear_the_count_of_all_clients(logins: Logins) -> None:
    for number in range(19):
        logins.reject(f"198.51.100.{number}")
        logins.accept(f"198.51.100.{number}")
    logins.reject(OTHER)
    assert logins.wait() == 60


def test_logins_under_way_count_until_they_end(logins: Logins) -> None:
    under_way = [logins.throttle.start(CLIENT) for _ in range(5)]
    assert logins.wait() == 1
    logins.throttle.finish(under_way.pop())
    assert logins.wait() is None


def test_after_the_wait_one_login_at_a_time_may_start(logins: Logins) -> None:
    logins.reject(times=5)
    logins.clock.now += 10
    attempt = logins.throttle.start(CLIENT)
    assert logins.wait() == 1
    logins.throttle.finish(attempt)
    logins.throttle.finish(attempt)
    assert logins.wait() is None


def test_a_rejection_counts_even_if_its_attempt_was_finished_before(logins: Logins) -> None:
    """An interrupted unlock finishes its attempt, and leaves behind a login that is rejected later."""
    for _ in range(5):
        attempt = logins.throttle.start(CLIENT)
        logins.throttle.finish(attempt)
        with pytest.raises(LoginRejected), logins.throttle.finishing(attempt):
            raise LoginRejected("Wrong.")
    assert logins.wait() == 10


def test_finishing_an_attempt_twice_ends_no_other_login(logins: Logins) -> None:
    under_way = [logins.throttle.start(CLIENT) for _ in range(5)]
    logins.throttle.finish(under_way[0])
    logins.throttle.finish(under_way[0])
    logins.throttle.start(CLIENT)
    assert logins.wait() == 1


def test_a_login_that_was_accepted_after_its_attempt_was_finished_clears_the_account(logins: Logins) -> None:
    logins.reject(times=4)
    attempt = logins.throttle.start(CLIENT)
    logins.throttle.finish(attempt)
    with logins.throttle.finishing(attempt):
        pass
    logins.reject(times=4)
    assert logins.wait() is None


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
    logins.clock.now += 10 + 600
    assert logins.wait("192.0.2.10") is None
    assert list(logins.throttle._accounts) == ["192.0.2.10"]


def test_of_many_logins_at_once_five_reach_the_api(logins: Logins) -> None:
    barrier = threading.Barrier(THREADS)
    reached: list[None] = []

    def wrong_login() -> None:
        barrier.wait()
        with suppress(LoginThrottled, LoginRejected), logins.throttle.finishing(logins.throttle.start(CLIENT)):
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
    """Take the steps. After each, `see` gets the client, the outcome, and the seconds to wait if it was throttled."""
    logins = Logins()
    for client, outcome, pause in taken:
        logins.clock.now += pause
        try:
            attempt = logins.throttle.start(client)
        except LoginThrottled as exc:
            see(logins, client, "throttled", exc.retry_after)
            continue
        with suppress(LoginRejected, ApiUnreachable), logins.throttle.finishing(attempt):
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
def test_a_client_that_waits_as_told_may_log_in(taken: list[tuple[str, str, float]]) -> None:
    """This holds for one client alone, because other clients may add to its wait."""

    def see(logins: Logins, client: str, _outcome: str, wait: int | None) -> None:
        if wait is not None:
            logins.clock.now += wait
            assert logins.wait(client) is None

    run([(CLIENT, outcome, pause) for _, outcome, pause in taken], see)


@given(steps)
def test_without_rejections_no_client_waits(taken: list[tuple[str, str, float]]) -> None:
    def see(_logins: Logins, _client: str, outcome: str, _wait: int | None) -> None:
        assert outcome != "throttled"

    run([(client, "accept" if outcome == "reject" else outcome, pause) for client, outcome, pause in taken], see)
