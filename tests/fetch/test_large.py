"""A fetch of 256 MiB over a link that is cut every 5 MiB, with five kills: bytes, and memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fetch.published import MIB, Fetcher, hold, objects, release
from tests.fetch.test_resume import kill_worker, size_of, wait_for
from tests.support import range_upstream
from tests.support.procfs import peak_rss_bytes, reset_peak_rss, rss_bytes
from tests.support.range_sites import RangeSite

MAX_EXCESS = 1.01
MAX_GROWTH = 32 * MIB
KILLS = 5
# The loader keeps up at this rate on four connections, so few bytes are lost when it is killed.
RATE = 5 * MIB


def test_bytes_and_memory_of_a_large_fetch(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a server sends to a client that was just killed counts as well, so that it must be little.
    monkeypatch.setattr(range_upstream, "PIECE_SIZE", 16 * 1024)
    archive = release(tmp_path / "large.enc", 1, 32 * MIB)
    published = objects(archive)
    held = hold(flaky.api, tmp_path / "published", published)
    size = size_of(published)
    del published
    for each in held:
        each.cut_every, each.rate = 5 * MIB, RATE
    for kill in range(1, KILLS + 1):
        assert fetcher.start().status == 200
        wait_for(fetcher, kill * size / (KILLS + 2))
        kill_worker(flaky)
    worker = flaky.loader.worker_pid
    reset_peak_rss(worker)
    before = rss_bytes(worker)
    assert fetcher.fetch()["state"] == "fetched"
    assert peak_rss_bytes(worker) - before <= MAX_GROWTH
    assert sum(each.sent for each in held) <= MAX_EXCESS * size
    fetcher.require(archive)
