"""Blobs from a directory or a neighbour: believed only as far as their digests agree; the rest comes from the API."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fetch.published import VERSION, Fetcher, hold, objects, write_objects
from tests.support.loader_server import run_loader
from tests.support.range_sites import RangeSite
from tests.support.range_upstream import Held, RangeUpstream
from tests.support.sites import NOBODY_LISTENS

HEAD = f"images/{VERSION}.head"


def named_by_digest(published: dict[str, bytes]) -> dict[str, bytes]:
    """Return the blobs as the directory of an archive has them."""
    return {Path(path).stem: data for path, data in published.items() if path != HEAD}


def asked(site: RangeSite) -> list[str]:
    """Return what the API was asked for."""
    return [request.path.removeprefix("/resources/") for request in site.api.requests("GET")]


@pytest.mark.parametrize("names", ["digests", "objects"])
def test_a_directory(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, second: Path, names: str) -> None:
    old, new = objects(first), objects(second)
    write_objects(tmp_path / "stick", named_by_digest(old) if names == "digests" else old)
    hold(flaky.api, tmp_path / "published", new)
    assert fetcher.fetch(source=str(tmp_path / "stick"))["state"] == "fetched"
    fetcher.require(second)
    assert sorted(asked(flaky)) == sorted({HEAD, *(new.keys() - old.keys())})


def test_the_command_takes_a_directory(flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path) -> None:
    write_objects(tmp_path / "stick", named_by_digest(objects(first)))
    hold(flaky.api, tmp_path / "published", objects(first))
    ended = run_loader(tmp_path, "images", "fetch", "--wait", "--from", str(tmp_path / "stick"), LOADER_URL=flaky.url)
    assert ended.returncode == 0, ended.stderr
    fetcher.require(first)
    assert asked(flaky) == [HEAD]


@pytest.mark.parametrize("what", ["damaged", "cut", "longer", "a pipe", "nothing"])
def test_a_directory_with_something_else(
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, what: str
) -> None:
    published = objects(first)
    stick = tmp_path / "stick"
    write_objects(stick, named_by_digest(published))
    largest = max(stick.iterdir(), key=lambda path: path.stat().st_size)
    data = largest.read_bytes()
    largest.unlink()
    changed = {"damaged": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-5], "longer": data + b"x"}
    if what in changed:
        largest.write_bytes(changed[what])
    elif what == "a pipe":
        os.mkfifo(largest)
    hold(flaky.api, tmp_path / "published", published)
    assert fetcher.fetch(source=str(stick))["state"] == "fetched"
    fetcher.require(first)
    assert f"images/{largest.name}.blob" in asked(flaky)


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
    flaky: RangeSite, fetcher: Fetcher, tmp_path: Path, first: Path, fault: Callable[[Held], None]
) -> None:
    published = objects(first)
    hold(flaky.api, tmp_path / "published", published)
    (tmp_path / "neighbour").mkdir()
    with RangeUpstream(tmp_path / "neighbour", guarded=False) as neighbour:
        write_objects(tmp_path / "neighbour", named_by_digest(published))
        helds = [neighbour.hold(name, tmp_path / "neighbour" / name) for name in named_by_digest(published)]
        for held in helds:
            fault(held)
        assert fetcher.fetch(source=f"{neighbour.url}/resources")["state"] == "fetched"
        assert not any("authorization" in request.headers for request in neighbour.requests())
        # Once it has failed it is not asked for further blobs: four at a time were on their way, twice each at most.
        assert len(neighbour.requests()) <= 8
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


def test_a_source_is_a_path_or_an_address(fetcher: Fetcher) -> None:
    for source in ("", "stick", "ftp://host/", "http://", "http://user@host/", "/a\0b", "file:///a", "/" + "a" * 2000):
        assert fetcher.start(source=source).problem(422, "VALIDATION_FAILED")["errors"].keys() == {"from"}, source
