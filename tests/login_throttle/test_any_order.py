"""What holds for any order of logins, by any clients at any times."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from loader.errors import ApiUnreachable, LoginRejected
from tests.login_throttle.clients import CLIENT, EMAIL, OTHER, Logins

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
