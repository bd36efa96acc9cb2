"""How long work that the API interrupts is tried again: growing waits, Retry-After, and an end."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from loader import patience
from loader.api_client.client import ApiClient
from loader.errors import ApiError, ApiUnreachable
from loader.patience import LONGEST_WAIT, MAX_REFUSALS, Patience
from loader.settings import Settings
from tests.support.faulty_api import Fault, FaultyApi

DOWN = ApiUnreachable("It is down.")
API_PATIENCE = Settings.from_env({}).api_patience
PATH = "/resources/m/x.small"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock with one item, the time in seconds, which only the test moves."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give all devices of a test the same random numbers at each run."""
    monkeypatch.setattr(patience, "_RANDOM", random.Random(1))  # noqa: S311  # not for cryptography


@pytest.mark.usefixtures("seeded")
def test_the_first_wait_is_short_and_later_ones_are_spread_up_to_a_limit() -> None:
    taken = [[calm.wait_after(DOWN) or 0.0 for _ in range(5)] for calm in [Patience(10_000) for _ in range(200)]]
    first, second, *later = zip(*taken, strict=True)
    assert patience.FIRST_WAIT / 2 <= min(first) <= max(first) <= patience.FIRST_WAIT
    for waits, longest in [(second, patience.OUTAGE_WAIT), *((waits, LONGEST_WAIT) for waits in later)]:
        assert 0 < min(waits) < longest / 10
        assert longest * 0.9 < max(waits) <= longest


def first_attempt_after(outage: float, failure: ApiError | ApiUnreachable, now: list[float]) -> float:
    """Return when a device first tries again after an outage, in seconds from its start."""
    now[0] = 100.0
    device = Patience(API_PATIENCE)
    while now[0] < 100.0 + outage:
        wait = device.wait_after(failure)
        assert wait is not None
        now[0] += wait
    return now[0] - 100.0


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("outage", [1, 2, 5, 10, 20, 45])
@pytest.mark.parametrize("failure", [DOWN, ApiError("Wait.", retry_after=2)])
def test_devices_return_from_an_outage_spread_over_seconds(
    outage: float, failure: ApiError | ApiUnreachable, now: list[float]
) -> None:
    for _ in range(100):
        returned = [first_attempt_after(outage, failure, now) for _ in range(20)]
        assert max(returned) - min(returned) > 5
        assert max(returned) < outage + 2 + LONGEST_WAIT


@pytest.mark.usefixtures("seeded")
def test_devices_that_wait_for_a_fixed_time_return_together(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "OUTAGE_WAIT", patience.FIRST_WAIT)
    returned = [first_attempt_after(1, DOWN, now) for _ in range(20)]
    assert max(returned) - min(returned) < 5


def test_patience_ends_and_progress_renews_it(now: list[float]) -> None:
    short = Patience(20)
    now[0] += 19.9
    assert short.wait_after(DOWN) is None
    short.renew()
    assert short.wait_after(DOWN) is not None


def test_a_refusal_ends_early() -> None:
    refused = ApiError("No.", lasting=True)
    calm = Patience(10_000)
    waits = [calm.wait_after(refused) for _ in range(MAX_REFUSALS)]
    assert None not in waits[:-1]
    assert waits[-1] is None


def test_a_wait_is_as_long_as_the_api_asks_unless_that_is_too_long() -> None:
    assert (Patience(100).wait_after(ApiError("Wait.", retry_after=30)) or 0) >= 30
    assert Patience(100).wait_after(ApiError("Wait.", retry_after=101)) is None


def later(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def retry_after(status: int, headers: dict[str, str]) -> float | None:
    """Return what a client takes from a response with this status and these headers."""
    with FaultyApi() as api:
        client = ApiClient(api.url, ca_bundle=None, timeouts=(2, 2))
        client.login("operator@example.org", "password")
        api.answer("GET", PATH, Fault(status, headers=headers))
        with pytest.raises(ApiError) as caught:
            client.small_object("m/x.small")
    assert not caught.value.lasting
    return caught.value.retry_after


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (503, {"Retry-After": "7"}, 7),
        (429, {"Retry-After": " 7 "}, 7),
        (500, {"Retry-After": "7"}, None),
        (503, {"Retry-After": "soon"}, None),
        (503, {"Retry-After": "9" * 5000}, None),
        (503, {}, None),
    ],
)
def test_retry_after_is_read(status: int, headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(status, headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    told = retry_after(503, {"Retry-After": later(3600)})
    assert told is not None
    assert 3500 <= told <= 3600
    assert retry_after(503, {"Retry-After": later(-3600)}) == 0
