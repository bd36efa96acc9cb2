"""docs/fleet.md: its tables are those that benchmarks/fleet_plan.py computes, and the arithmetic is right."""

from __future__ import annotations

import pytest

from benchmarks import fleet_plan
from benchmarks.fleet_plan import DAY, HOUR, Job, busy_threads, mbit, tables
from benchmarks.fleet_site import MIB, SMALL_BYTES
from tests.support.loader_server import REPOSITORY

# What is easy to compute by hand: 1 ms a request, and 1 ms more for each MiB.
EASY = dict.fromkeys(("login by a secret", "fragment", "head", "small part"), 1.0) | {
    "login by a password": 100.0,
    "big part": 9.0 - SMALL_BYTES / MIB,
    "big part, nginx": 4.0,
}


def test_the_page_has_the_tables() -> None:
    assert tables() in (REPOSITORY / "docs" / "fleet.md").read_text()


@pytest.mark.parametrize(
    ("mib", "seconds", "expected"),
    [(1, 8.388608, 1.0), (1024 * 1000, DAY, 99.42), (20 * 10_000, HOUR, 466.03)],
)
def test_bandwidth(mib: float, seconds: float, expected: float) -> None:
    assert mbit(mib, seconds) == pytest.approx(expected, rel=1e-4)


def test_a_device_of_easy_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_plan, "COSTS", EASY)
    job = Job("", HOUR, fragments=1, heads=2, small_parts=3, big_objects=4, big_mib=16)
    assert job.requests == 1 + 1 + 2 + 3 + 4
    assert job.api_ms(serves_big=False) == 11
    assert job.api_ms(serves_big=True) == pytest.approx(11 + 16)
    assert job.api_ms(serves_big=False, login="login by a password") == 110
    assert job.store_ms == 8
    assert job.own_mib * 1024 == 2 * 20 + 3 * 66


def test_threads_are_busy_for_as_long_as_the_links_take() -> None:
    job = Job("", DAY, big_mib=1024)
    seconds_of_one = 1024 * 8.388608 / fleet_plan.DEVICE_MBIT
    assert busy_threads(job, 1000) == pytest.approx(1000 * seconds_of_one / DAY)
