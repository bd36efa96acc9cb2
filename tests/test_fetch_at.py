"""When an unattended fetch looks for a newer release."""

from __future__ import annotations

import pytest

from loader.fetch_at import (
    DAY,
    HOUR,
    MINUTE,
    RETRY_SECONDS,
    SPREAD_SECONDS,
    WINDOW_SECONDS,
    FetchAt,
    Timetable,
    share_of,
)
from loader.settings import BadSettings, Settings

NIGHT = FetchAt(second=2 * HOUR + 30 * MINUTE)
DEVICE = "device-7"
BEGIN = 2 * HOUR + 30 * MINUTE + int(SPREAD_SECONDS * share_of(DEVICE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("00:00", FetchAt(second=0)),
        ("02:30", NIGHT),
        ("23:59", FetchAt(second=DAY - MINUTE)),
        ("1m", FetchAt(interval=MINUTE)),
        ("90m", FetchAt(interval=90 * MINUTE)),
        ("6h", FetchAt(interval=6 * HOUR)),
        ("9999h", FetchAt(interval=9999 * HOUR)),
    ],
)
def test_what_the_setting_says(text: str, expected: FetchAt | None) -> None:
    assert Settings.from_env({"FETCH_AT": text}).fetch_at == expected


@pytest.mark.parametrize(
    "text", ["24:00", "2:30", "02:60", "02:30:00", "0m", "6", "6d", "-6h", "6h ", "10000h", "02:30\n", "off"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(BadSettings, match="FETCH_AT must be a time of day such as 02:30"):
        Settings.from_env({"FETCH_AT": text})


def test_a_fleet_is_spread_evenly_and_a_device_keeps_its_place() -> None:
    shares = [share_of(f"device-{number}") for number in range(1000)]
    assert all(0 <= share < 1 for share in shares)
    for tenth in range(10):
        assert 60 <= sum(tenth <= 10 * share < tenth + 1 for share in shares) <= 140
    assert share_of(DEVICE) == share_of(DEVICE)


@pytest.mark.parametrize("second", range(0, DAY, 7 * MINUTE))
def test_a_time_of_day(second: int) -> None:
    assert Timetable(NIGHT, DEVICE, 5).is_due(5, second) == (BEGIN <= second < BEGIN + WINDOW_SECONDS)


def test_a_window_that_goes_past_midnight() -> None:
    late = Timetable(FetchAt(second=DAY - MINUTE), DEVICE, 0)
    begin = (DAY - MINUTE + int(SPREAD_SECONDS * share_of(DEVICE))) % DAY
    assert [late.is_due(0, (begin + more) % DAY) for more in (-1, 0, WINDOW_SECONDS - 1, WINDOW_SECONDS)] == [
        False,
        True,
        True,
        False,
    ]


def test_one_look_a_day_whatever_the_clock_does() -> None:
    timetable = Timetable(NIGHT, DEVICE, 0)
    looks = []
    for now in range(0, 5 * DAY, MINUTE):
        # The clock is 11 hours slow at first, and loses an hour on the third night, within the window.
        second = (now - (11 * HOUR if now < DAY else HOUR if now > 2 * DAY + BEGIN + HOUR else 0)) % DAY
        if timetable.is_due(now, second):
            timetable.done(now)
            looks.append(second)
    assert len(looks) == 5
    assert all(BEGIN <= second < BEGIN + WINDOW_SECONDS for second in looks)


def test_no_api_is_tried_again_within_the_window_only() -> None:
    timetable = Timetable(NIGHT, DEVICE, 0)
    looks = 0
    for now in range(0, DAY, MINUTE):
        if timetable.is_due(now, now):
            timetable.postpone(now)
            looks += 1
    assert looks == WINDOW_SECONDS // RETRY_SECONDS


@pytest.mark.parametrize("interval", [MINUTE, HOUR, 6 * HOUR])
def test_an_interval(interval: int) -> None:
    timetable = Timetable(FetchAt(interval=interval), DEVICE, 100)
    first = 100 + min(interval, SPREAD_SECONDS) * share_of(DEVICE)
    assert not timetable.is_due(first - 0.001, 0)
    assert timetable.is_due(first, 0)
    timetable.done(first)
    assert not timetable.is_due(first + interval - 1, 0)
    assert timetable.is_due(first + interval, 0)
    timetable.postpone(first + interval)
    assert timetable.is_due(first + interval + min(interval, RETRY_SECONDS), 0)
