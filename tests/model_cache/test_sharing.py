"""One download serves many readers: its number of requests, its first byte, its readers, and its view in /status."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.model_cache.soundness import assert_sound
from tests.support.loads import OpenLoad, get_status, load_hashed, load_patiently
from tests.support.processes import poll
from tests.support.range_sites import RangeSite
from tests.support.range_upstream import Held
from tests.support.sites import real_site
from tests.support.stored_resources import FOLDER, MIB, StoredResource, store_resource

SECONDS = 20
CLIENTS = 50


def downloads(site: RangeSite) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get_status(site.url)["cache"]["downloads"]
    return found


def whole(site: RangeSite, resource: StoredResource) -> bool:
    return (site.models / f"{resource.big.digest}.big").exists()


def test_fifty_simultaneous_loads_cause_one_download(tmp_path: Path, stored: Path) -> None:
    medium = store_resource(stored, "for-fifty", 24 * MIB)
    with real_site(tmp_path / "site", MAX_TRANSFERS="25") as site:
        medium.copy_to(site.api.data_dir / "resources")
        with ThreadPoolExecutor(CLIENTS) as clients:
            loads = list(clients.map(lambda _: load_patiently(site.url, medium.filename), range(CLIENTS)))
        assert {(done.status, done.sha256) for done in loads} == {(200, medium.sha256)}
        assert len(site.api.requests("GET", f"/resources/{medium.big_path}")) == 1
        # Each load fetches the small part, because the API decides with it whether the client may load.
        assert len(site.api.requests("GET", f"/resources/{medium.name.small}")) >= CLIENTS
        assert_sound(site.models, medium)


def test_two_resources_are_downloaded_at_the_same_time(
    site: RangeSite, medium: StoredResource, small: StoredResource
) -> None:
    slow, other = medium.publish(site.api), small.publish(site.api)
    slow.rate = 5 * MIB
    with OpenLoad(site.url, medium.filename) as opened:
        assert opened.read(MIB) == MIB
        before = slow.sent
        done = load_hashed(site.url, small.filename)
        assert (done.sha256, other.sent) == (small.sha256, small.big.size)
        assert opened.read(MIB) == MIB
        assert before < slow.sent < medium.big.size
        slow.rate = None
        assert opened.finish().sha256 == medium.sha256


def test_the_first_byte_arrives_after_two_segments_at_most(site: RangeSite, large: StoredResource) -> None:
    held = large.publish(site.api)
    held.rate = 20_000_000
    with OpenLoad(site.url, large.filename) as opened:
        assert opened.read(1) == 1
        # The upstream counts bytes when it sends them, so `sent` includes bytes that still wait in buffers.
        assert held.sent <= 2 * MIB
        behind = []
        for _ in range(4):
            assert opened.read(4 * MIB) == 4 * MIB
            behind.append(held.sent - opened.arrived)
        # Only the smallest distance counts, because this test itself may be late on a busy machine.
        assert min(behind) <= 4 * MIB
        held.rate = None
        assert opened.finish().sha256 == large.sha256


def test_status_shows_a_download(site: RangeSite, medium: StoredResource, small: StoredResource) -> None:
    assert get_status(site.url)["cache"] == {"entries": 0, "bytes": 0, "downloads": []}
    small.publish(site.api)
    assert load_hashed(site.url, small.filename).sha256 == small.sha256
    site.wait_until_idle()
    held = medium.publish(site.api)
    held.rate = 10 * MIB
    with OpenLoad(site.url, medium.filename) as opened:
        (first,) = downloads(site)
        assert (first["filename"], first["bytes_total"]) == (f"{FOLDER}/{medium.filename}", medium.big.size)
        assert opened.read(6 * MIB) == 6 * MIB
        (second,) = downloads(site)
        assert 0 < first["bytes_done"] < second["bytes_done"] < medium.big.size
        assert 1 * MIB < second["rate"] < 20 * MIB
        cache = get_status(site.url)["cache"]
        assert (cache["entries"], cache["bytes"]) == (1, small.big.size)
        held.rate = None
        assert opened.finish().sha256 == medium.sha256
    site.wait_until_idle()
    total = small.big.size + medium.big.size
    assert get_status(site.url)["cache"] == {"entries": 2, "bytes": total, "downloads": []}


def test_a_download_continues_after_its_last_reader_has_left(site: RangeSite, medium: StoredResource) -> None:
    held = medium.publish(site.api)
    held.rate = 10 * MIB
    with OpenLoad(site.url, medium.filename) as opened:
        assert opened.read(MIB) == MIB
    poll(
        lambda: any(line["outcome"] == "disconnected" for line in site.audit_lines("load")),
        SECONDS,
        "the reader has left",
    )
    assert held.sent < medium.big.size
    held.rate = None
    poll(lambda: whole(site, medium), SECONDS, "the part is whole")
    assert load_hashed(site.url, medium.filename).sha256 == medium.sha256
    assert held.sent == medium.big.size
    assert len(site.api.requests("GET", medium.big_path)) == 1


def test_readers_that_come_and_go_share_one_download(site: RangeSite, medium: StoredResource) -> None:
    held = medium.publish(site.api)
    held.rate = 30 * MIB
    results: list[str] = []

    def stay() -> None:
        results.append(load_patiently(site.url, medium.filename).sha256)

    staying = [threading.Thread(target=stay) for _ in range(3)]
    for thread in staying:
        thread.start()
    while not whole(site, medium):
        with OpenLoad(site.url, medium.filename) as opened:
            assert opened.response.status in (200, 503)
            opened.read(MIB)
    for thread in staying:
        thread.join()
    assert results == [medium.sha256] * 3
    assert held.sent == medium.big.size
    site.wait_until_idle()
    assert_sound(site.models, medium)


def test_downloads_without_readers_stop_beyond_the_limit_and_resume_later(site: RangeSite, stored: Path) -> None:
    resources = [store_resource(stored, f"orphan-{number}", 16 * MIB) for number in range(6)]
    held: list[Held] = []
    for resource in resources:
        held.append(resource.publish(site.api))
        held[-1].rate = 8 * MIB
        with OpenLoad(site.url, resource.filename) as opened:
            assert opened.read(MIB) == MIB
        held[-1].rate = MIB // 2  # The rest then takes half a minute.
    poll(lambda: len(downloads(site)) == 4, SECONDS, "two of six have stopped")
    names = [f"{FOLDER}/{resource.filename}" for resource in resources]
    assert [download["filename"] for download in downloads(site)] == names[:4]
    for each in held:
        each.rate = None
    poll(lambda: all(whole(site, resource) for resource in resources[:4]), SECONDS, "the others are whole")
    assert not any(whole(site, resource) for resource in resources[4:])
    for resource in resources:
        assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
    assert sum(each.sent for each in held) <= 1.02 * sum(resource.big.size for resource in resources)
    site.wait_until_idle()
    assert_sound(site.models, *resources)
