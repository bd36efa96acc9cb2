"""A source is asked for as long as it is fast, or no slower than the API."""

from __future__ import annotations

import pytest

from loader.fetch import pace as pace_module
from loader.fetch.pace import FAST_RATE, TURN_SECONDS, Pace


def measure(pace: Pace, rate: float, *, is_source: bool, seconds: float = TURN_SECONDS) -> None:
    pace.count(round(rate * seconds), seconds, is_source=is_source)


def in_trial(rate: float = FAST_RATE / 4) -> Pace:
    """Return the pace of a source of this rate."""
    pace = Pace()
    measure(pace, rate, is_source=True)
    return pace


def test_a_fast_source_is_never_compared() -> None:
    pace = in_trial(FAST_RATE)
    assert pace.asks_source
    assert not pace.is_trial


def test_nothing_is_decided_before_the_end_of_a_turn() -> None:
    pace = Pace()
    for _ in range(3):
        measure(pace, 0, is_source=True, seconds=TURN_SECONDS / 4)
    assert pace.asks_source
    measure(pace, 0, is_source=True, seconds=TURN_SECONDS / 4)
    assert (pace.asks_source, pace.is_trial) == (False, True)


def test_a_faster_api_goes_on_to_the_end() -> None:
    pace = in_trial()
    measure(pace, FAST_RATE / 3, is_source=False)
    measure(pace, 1, is_source=False)
    measure(pace, FAST_RATE, is_source=True)
    assert (pace.asks_source, pace.is_trial) == (False, False)


def test_a_slower_api_gives_the_turn_back() -> None:
    pace = in_trial()
    measure(pace, FAST_RATE / 5, is_source=False)
    assert pace.asks_source
    measure(pace, FAST_RATE / 5, is_source=True)
    assert pace.asks_source


def test_a_source_that_becomes_slower_than_the_api_was() -> None:
    pace = in_trial()
    measure(pace, FAST_RATE / 5, is_source=False)
    measure(pace, FAST_RATE / 6, is_source=True)
    assert (pace.asks_source, pace.is_trial) == (False, False)


def test_reads_of_the_other_side_do_not_count() -> None:
    pace = Pace()
    measure(pace, 0, is_source=False)
    assert pace.asks_source
    measure(pace, 0, is_source=True)
    measure(pace, FAST_RATE, is_source=True)
    assert pace.is_trial


@pytest.mark.parametrize("is_rested", [False, True])
def test_an_api_that_fails_on_trial_rests(monkeypatch: pytest.MonkeyPatch, is_rested: bool) -> None:
    if is_rested:
        monkeypatch.setattr(pace_module, "REST_SECONDS", 0.0)
    pace = in_trial()
    pace.end_trial()
    assert pace.asks_source
    measure(pace, 1, is_source=True)
    assert pace.is_trial == is_rested


def test_the_end_of_a_trial_that_the_api_has_won() -> None:
    pace = in_trial()
    measure(pace, FAST_RATE, is_source=False)
    pace.end_trial()
    assert not pace.asks_source
