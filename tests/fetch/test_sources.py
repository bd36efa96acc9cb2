"""Blobs from a directory: believed only as far as their digests agree; the rest comes from the API."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fetch.published import VERSION, Fetcher, hold, objects, write_objects
from tests.support.loader_server import run_loader
from tests.support.range_sites import RangeSite

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


def test_a_source_is_a_path_or_an_address(fetcher: Fetcher) -> None:
    for source in ("", "stick", "ftp://host/", "http://", "http://user@host/", "/a\0b", "file:///a", "/" + "a" * 2000):
        assert fetcher.start(source=source).problem(422, "VALIDATION_FAILED")["errors"].keys() == {"from"}, source
