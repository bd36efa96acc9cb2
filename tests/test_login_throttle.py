"""How often logins may fail. The clock of these tests stands still until a test moves it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loader import login_throttle
from loader.errors import ApiUnreachable, LoginRejected, LoginThrottled
from loader.login_throttle import LoginThrottle
from tests.support.processes import poll

CLIENT, OTHER = "192.0.2.7", "192.0.2.8"
EMAIL = "op@example.com"
THREADS = 50
SECONDS = 20.0


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
        self.throttle = LoginThrottle(THREADS, self.clock)

    def reject(self, client: str = CLIENT, times: int = 1, email: str = EMAIL) -> None:
        """Let the API reject this many logins."""
        for _ in range(times):
            with suppress(LoginRejected), self.throttle.login(client, email):
                raise LoginRejected("Wrong.")

    def accept(self, client: str = CLIENT, email: str = EMAIL) -> None:
        """Let the API accept a login."""
        with self.throttle.login(client, email):
            pass

    def wait(self, client: str = CLIENT) -> int | None:
        """Return the seconds that a login is told to wait, None if it may start."""
        try:
            self.throttle.require_no_wait(client)
        except LoginThrottled as exc:
            with pytest.raises(LoginThrottled), self.throttle.login(client, EMAIL):
                pass
            return exc.retry_after
        return None

    @contextmanager
    def hanging(self, client: str = CLIENT, times: int = 1) -> Iterator[None]:
        """Let this many logins wait for the API until the block ends; then the API does not respond."""
        with suppress(ApiUnreachable), ExitStack() as under_way:
            for _ in range(times):
                under_way.enter_context(self.throttle.login(client, EMAIL))
            yield
            raise ApiUnreachable("It took too long.")

    def start(self, client: str = CLIENT) -> tuple[threading.Thread, threading.Event]:
        """Start a login in a thread; the event is set once it has its turn. It is accepted."""
        went_on = threading.Event()

        def log_in() -> None:
            with suppress(LoginThrottled), self.throttle.login(client, EMAIL):
                went_on.set()

        thread = threading.Thread(target=log_in)
        thread.start()
        return thread, went_on


@pytest.fixture
def logins() -> Logins:
    return Logins()


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


steps = st.lists(
    st.tuples(
        st.sampled_from([CLIENT, OTHER, *(f"198.51.100.{number}" for number in range(30))]),
        st.sampled_from(["reject", "reject", "reject", "accept", "fail"]),
        st.sampled_from([0.0, 0.0, 0.0, 0.4, 1.0, 7.0, 12.0, 61.0, 700.0, 4000.0]),
    ),
    max_size=120,
)


def run(taken: list[tuple[str, str, float]], see: Callable[[Logins, str, str, int | None], None]) -> None:
    """Take the steps. After each, `see` gets the client, the outcome, and the seconds to wait if it was throttled."""
    logins = Logins()
    for client, outcome, pause in taken:
        logins.clock.now += pause
        wait = logins.wait(client)
        if wait is not None:
            see(logins, client, "throttled", wait)
            continue
        with suppress(LoginRejected, ApiUnreachable), logins.throttle.login(client, EMAIL):
            if outcome != "accept":
                raise LoginRejected("Wrong.") if outcome == "reject" else ApiUnreachable("Nobody listens.")
        see(logins, client, outcome, None)


@given(steps)
def test_no_minute_has_more_than_twenty_rejections_and_one_of_each_further_client(
    taken: list[tuple[str, str, float]],
) -> None:
    rejected: list[tuple[float, str]] = []

    def see(logins: Logins, client: str, outcome: str, _wait: int | None) -> None:
        if outcome == "reject":
            rejected.append((logins.clock.now, client))
            recent = [by for at, by in rejected if logins.clock.now - at < 60]
            assert len(recent) <= 20 + len(set(recent))

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
