"""How long work that the API interrupts is tried again: growing waits, Retry-After, and an end."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from loader import patience
from loader.api_client.client import ApiClient
from loader.errors import ApiError, ApiUnreachable
from loader.patience import LONGEST_WAIT, MAX_REFUSALS, Patience
from tests.support.faulty_api import Fault, FaultyApi

DOWN = ApiUnreachable("It is down.")
PATH = "/resources/m/x.small"


def test_the_waits_double_up_to_a_limit_and_are_jittered() -> None:
    calm = Patience(10_000)
    waits = [calm.wait_after(DOWN) for _ in range(12)]
    for number, wait in enumerate(waits):
        full = min(patience.FIRST_WAIT * 2**number, LONGEST_WAIT)
        assert wait is not None
        assert full / 2 <= wait <= full
    assert len(set(waits[-4:])) == 4


def test_patience_ends_and_progress_renews_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
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
