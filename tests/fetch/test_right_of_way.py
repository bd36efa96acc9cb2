"""While models are downloaded, a fetch gets no more bytes than they do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from loader.fetch import right_of_way
from loader.fetch.right_of_way import SLACK_SIZE, RightOfWay
from loader.model_cache.download import RECEIVE_SIZE
from tests.fetch.published import MIB, Fetcher, hold, objects
from tests.support.loads import OpenLoad
from tests.support.processes import poll
from tests.support.range_sites import RangeSite
from tests.support.stored_resources import store_resource

PIECE = 1 << 16


class Loads:
    """The running loads of models, as a fetch sees them."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __call__(self) -> int | None:
        return self.received


def passes(way: RightOfWay) -> bool:
    """Return whether the fetch may read a piece at once."""
    asked: list[bool] = []

    def once() -> bool:
        asked.append(True)
        return len(asked) == 1

    way.wait(once)
    return len(asked) == 1


def read_all_it_may(way: RightOfWay) -> int:
    """Read pieces until the fetch has to wait, and return how many bytes these were."""
    size = 0
    while size < 10 * SLACK_SIZE and passes(way):
        way.count(PIECE)
        size += PIECE
    return size


def test_without_loads_nothing_waits() -> None:
    way = RightOfWay(Loads())
    assert read_all_it_may(way) == 10 * SLACK_SIZE
    assert way.received == 10 * SLACK_SIZE


def test_the_fetch_gets_no_more_than_the_loads() -> None:
    loads = Loads()
    way = RightOfWay(loads)
    loads.received = 0
    fetched = read_all_it_may(way)
    assert fetched <= PIECE
    for _ in range(50):
        loads.received += 100_000
        fetched += read_all_it_may(way)
    assert loads.received - PIECE <= fetched <= loads.received + PIECE


def test_what_was_not_used_is_no_credit_for_long() -> None:
    loads = Loads()
    way = RightOfWay(loads)
    loads.received = 0
    passes(way)
    loads.received = 100 * SLACK_SIZE
    assert read_all_it_may(way) <= SLACK_SIZE + PIECE


def test_a_load_that_begins_or_ends_gives_no_credit() -> None:
    loads = Loads()
    way = RightOfWay(loads)
    loads.received = 50 * SLACK_SIZE
    assert read_all_it_may(way) <= PIECE
    loads.received = 0
    assert read_all_it_may(way) == 0


def test_a_load_that_is_silent_does_not_stop_a_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(right_of_way, "SILENT_SECONDS", 0.0)
    loads = Loads()
    way = RightOfWay(loads)
    loads.received = 0
    assert read_all_it_may(way) == 10 * SLACK_SIZE


def test_a_wait_ends_when_the_fetch_does() -> None:
    loads = Loads()
    way = RightOfWay(loads)
    loads.received = 0
    way.count(PIECE)
    wanted = threading.Event()
    passes(way)
    waiting = threading.Thread(target=way.wait, args=(lambda: not wanted.is_set(),))
    waiting.start()
    wanted.set()
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_fetch_beside_a_load(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    """A load that crawls makes the fetch crawl; once it has ended, the fetch runs."""
    (tmp_path / "models").mkdir()
    model = store_resource(tmp_path / "models", "large.onnx", 4 * MIB)
    crawling = model.publish(flaky.api)
    crawling.rate = 256 * 1024
    with OpenLoad(flaky.url, model.filename):
        poll(lambda: crawling.sent > 64 * 1024, 20, "the load downloads")
        before = crawling.sent
        hold(flaky.api, tmp_path / "published", objects(first))
        fetcher.start()
        poll(lambda: crawling.sent > before + MIB // 2, 30, "the load has got more")
        assert fetcher.status()["state"] == "downloading"
        # Each of the four downloads may have read one piece before it was its turn.
        assert fetcher.status()["bytes_done"] <= crawling.sent - before + 4 * RECEIVE_SIZE
        crawling.rate = None
    assert fetcher.wait()["state"] == "fetched"
