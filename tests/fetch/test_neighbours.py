"""Blobs from a neighbour that lies, stalls, vanishes or is slow: no wrong byte stays, and the fetch goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fetch.published import MIB, Fetcher, hold, objects, write_objects
from tests.fetch.test_sources import HEAD, asked, named_by_digest
from tests.support.narrow_line import NarrowLine
from tests.support.range_sites import RangeSite
from tests.support.range_upstream import Held, RangeUpstream
from tests.support.sites import NOBODY_LISTENS

SLOW_RATE = 100_000


@pytest.fixture
def neighbour(tmp_path: Path, first: Path) -> Iterator[RangeUpstream]:
    """A neighbour that has all blobs of the first release."""
    directory = tmp_path / "neighbour"
    write_objects(directory, named_by_digest(objects(first)))
    with RangeUpstream(directory, guarded=False) as server:
        for path in directory.iterdir():
            server.hold(path.name, path)
        yield server


def url_of(neighbour: RangeUpstream) -> str:
    return f"{neighbour.url}/resources"


def sent_by(server: RangeUpstream) -> int:
    return sum(held.sent for held in server.objects.values())


def lie(held: Held) -> None:
    held.damage = {100}


def truncate(held: Held) -> None:
    held.cut_every = 1000


def stall(held: Held) -> None:
    held.stalls = [4096] * 10


def announce_more(held: Held) -> None:
    held.announce = [5] * 10


def refuse(held: Held) -> None:
    held.statuses = [500] * 10


@pytest.mark.parametrize("fault", [lie, truncate, stall, announce_more, refuse])
def test_a_neighbour_that_misbehaves(
    flaky: RangeSite,
    fetcher: Fetcher,
    tmp_path: Path,
    first: Path,
    neighbour: RangeUpstream,
    fault: Callable[[Held], None],
) -> None:
    hold(flaky.api, tmp_path / "published", objects(first))
    for held in neighbour.objects.values():
        fault(held)
    assert fetcher.fetch(source=url_of(neighbour))["state"] == "fetched"
    assert not any("authorization" in request.headers for request in neighbour.requests())
    # Once it has failed it is not asked for further blobs: four at a time were on their way, twice each at most.
    assert len(neighbour.requests()) <= 8
    fetcher.require(first)


def test_a_neighbour_of_wrong_bytes_is_asked_for_one_small_blob(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, neighbour: RangeUpstream
) -> None:
    published = objects(first)
    hold(flaky.api, tmp_path / "published", published)
    for held in neighbour.objects.values():
        held.damage = {0}
    assert fetcher.fetch(source=url_of(neighbour))["state"] == "fetched"
    assert sent_by(neighbour) == min(len(data) for path, data in published.items() if path != HEAD)
    fetcher.require(first)


def test_a_neighbour_that_lies_in_large_blobs_only(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, neighbour: RangeUpstream
) -> None:
    hold(flaky.api, tmp_path / "published", objects(first))
    for held in neighbour.objects.values():
        held.damage = {100_000}
    assert fetcher.fetch(source=url_of(neighbour))["state"] == "fetched"
    fetcher.require(first)


def test_wrong_bytes_before_a_neighbour_failed(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, neighbour: RangeUpstream
) -> None:
    """The API is asked for the rest first, and then for all of the blob."""
    hold(flaky.api, tmp_path / "published", objects(first))
    for held in neighbour.objects.values():
        held.damage, held.cut_every = {100_000}, 200_000
    assert fetcher.fetch(source=url_of(neighbour))["state"] == "fetched"
    fetcher.require(first)


def test_a_neighbour_that_vanishes_in_the_middle(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, neighbour: RangeUpstream
) -> None:
    published = objects(first)
    held = hold(flaky.api, tmp_path / "published", published)
    with NarrowLine(neighbour.url) as line:
        line.ends_at = 4 * MIB
        assert fetcher.fetch(source=f"{line.url}/resources")["state"] == "fetched"
    fetcher.require(first)
    size = sum(len(data) for path, data in published.items() if path != HEAD)
    assert sum(each.sent for each in held) <= size - 3 * MIB


def test_the_api_takes_over_from_a_slow_neighbour(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, neighbour: RangeUpstream
) -> None:
    published = objects(first)
    held = hold(flaky.api, tmp_path / "published", published)
    for each in neighbour.objects.values():
        each.rate = SLOW_RATE
    assert fetcher.fetch(source=url_of(neighbour))["state"] == "fetched"
    fetcher.require(first)
    size = sum(len(data) for path, data in published.items() if path != HEAD)
    # What the neighbour had sent is kept. It sends pieces of 128 KiB, and a connection buffers some of them.
    assert sum(each.sent for each in held) >= size - 3 * MIB
    assert sent_by(neighbour) <= 3 * MIB


def test_a_slow_neighbour_goes_on_if_the_api_is_slower(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, neighbour: RangeUpstream
) -> None:
    held = hold(flaky.api, tmp_path / "published", objects(first))
    for each in neighbour.objects.values():
        each.rate = 15 * SLOW_RATE
    for each in held:
        each.rate = SLOW_RATE
    assert fetcher.fetch(source=url_of(neighbour))["state"] == "fetched"
    fetcher.require(first)
    assert 0 < sum(each.sent for each in held) <= 2 * MIB


def test_a_slow_neighbour_goes_on_if_the_api_is_away(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, neighbour: RangeUpstream
) -> None:
    held = hold(flaky.api, tmp_path / "published", objects(first))
    for each in neighbour.objects.values():
        each.rate = 15 * SLOW_RATE
    for each in held:
        each.statuses = [503] * 1000
    assert fetcher.fetch(source=url_of(neighbour))["state"] == "fetched"
    fetcher.require(first)


def test_a_neighbour_that_helps(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    published = objects(first)
    hold(flaky.api, tmp_path / "published", published)
    (tmp_path / "neighbour").mkdir()
    with RangeUpstream(tmp_path / "neighbour", guarded=False) as neighbour:
        blobs = named_by_digest(published)
        smallest = min(blobs, key=lambda name: len(blobs[name]))
        del blobs[smallest]
        write_objects(tmp_path / "neighbour", blobs)
        for name in blobs:
            neighbour.hold(name, tmp_path / "neighbour" / name)
        assert fetcher.fetch(source=f"{neighbour.url}/resources")["state"] == "fetched"
    fetcher.require(first)
    assert sorted(asked(flaky)) == sorted([HEAD, f"images/{smallest}.blob"])


def test_a_neighbour_that_is_gone(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    hold(flaky.api, tmp_path / "published", objects(first))
    assert fetcher.fetch(source=NOBODY_LISTENS)["state"] == "fetched"
    fetcher.require(first)
