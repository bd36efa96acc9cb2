"""GET /cache, POST /cache/verify and POST /cache/clear, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.http_calls import call, load, login, upload
from tests.support.left_files import left
from tests.support.loads import OpenLoad, load_hashed
from tests.support.processes import poll
from tests.support.range_sites import RangeSite, hasty_device
from tests.support.range_upstream import RangeUpstream
from tests.support.sites import HASTE, NOBODY_LISTENS, BareSite, Site, bare_site, real_site
from tests.support.stored_resources import MIB, StoredResource, store_resource

SECONDS = 20
CONTENT = bytes(range(256)) * 12_000


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A loader with a limit and a cache of its own."""
    with real_site(tmp_path_factory.mktemp("cached"), MODEL_CACHE_MAX_BYTES=str(64 * MIB)) as running:
        yield running


@pytest.fixture
def stocked(cached: Site) -> Path:
    """Return the file of the one part in the cache of `cached`."""
    post(cached, "/cache/clear")
    assert upload(cached.url, "m", "x", CONTENT).status == 200
    (part,) = left(cached.models.iterdir())
    return part


def listing(site: BareSite) -> Any:
    return call(site.url, "GET", "/cache").json()


def post(site: BareSite, path: str) -> Any:
    reply = call(site.url, "POST", path)
    assert reply.status == 200, reply.body
    return reply.json()


def test_the_parts_are_listed(cached: Site, stocked: Path) -> None:
    document = listing(cached)
    size = stocked.stat().st_size
    (entry,) = document["entries"]
    last_used = datetime.fromisoformat(entry.pop("last_used"))
    assert abs(datetime.now(UTC) - last_used) < timedelta(minutes=1)
    assert entry == {"digest": stocked.stem, "name": None, "bytes": size, "whole": True, "in_use": False}
    assert load(cached.url, "m", "x").status == 200
    assert listing(cached)["entries"][0]["name"] == "m/x"
    assert (document["bytes"], document["max_bytes"]) == (size, 64 * MIB)
    assert set(document) == {"entries", "bytes", "max_bytes"}


def test_verify_keeps_a_sound_part_and_removes_a_damaged_one(cached: Site, stocked: Path) -> None:
    size = stocked.stat().st_size
    assert post(cached, "/cache/verify") == {"checked": 1, "bytes": size, "damaged": []}
    damaged = bytearray(stocked.read_bytes())
    damaged[-1] ^= 1
    stocked.write_bytes(damaged)
    assert post(cached, "/cache/verify") == {"checked": 1, "bytes": size, "damaged": [stocked.stem]}
    assert not stocked.exists()
    assert load(cached.url, "m", "x").body == CONTENT
    poll(stocked.exists, SECONDS, "the part is here again")
    assert post(cached, "/cache/verify") == {"checked": 1, "bytes": size, "damaged": []}


def test_clear_removes_every_part(cached: Site, stocked: Path) -> None:
    size = stocked.stat().st_size
    assert post(cached, "/cache/clear") == {"removed": 1, "bytes": size, "kept": 0}
    assert post(cached, "/cache/clear") == {"removed": 0, "bytes": 0, "kept": 0}
    assert listing(cached) == {"entries": [], "bytes": 0, "max_bytes": 64 * MIB}
    assert load(cached.url, "m", "x").body == CONTENT


def test_no_login_is_needed(lonely: BareSite) -> None:
    assert listing(lonely) == {"entries": [], "bytes": 0, "max_bytes": 0}
    assert post(lonely, "/cache/verify") == {"checked": 0, "bytes": 0, "damaged": []}
    assert post(lonely, "/cache/clear") == {"removed": 0, "bytes": 0, "kept": 0}


@pytest.mark.parametrize("path", ["/cache/verify", "/cache/clear"])
def test_pages_of_other_origins_cannot_use_the_cache_routes(lonely: BareSite, path: str) -> None:
    call(lonely.url, "POST", path, headers={"Sec-Fetch-Site": "cross-site"}).problem(403, "CROSS_ORIGIN")
    call(lonely.url, "GET", path).problem(405, "METHOD_NOT_ALLOWED")
    call(lonely.url, "POST", "/cache").problem(405, "METHOD_NOT_ALLOWED")


def test_an_unusable_directory_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with bare_site(tmp_path / "loader", NOBODY_LISTENS, MODEL_CACHE_DIR=f"{tmp_path}/file/models") as running:
        for line in ("GET /cache", "POST /cache/verify", "POST /cache/clear", "GET /status"):
            method, path = line.split()
            detail = call(running.url, method, path).problem(500, "STORAGE_ERROR")["detail"]
            assert f"{tmp_path}/file/models" in detail


@pytest.fixture(scope="module")
def resource(tmp_path_factory: pytest.TempPathFactory) -> StoredResource:
    """A resource that is larger than all socket buffers between the API and a client."""
    return store_resource(tmp_path_factory.mktemp("stored"), "medium", 16 * MIB)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, resource: StoredResource) -> Iterator[RangeSite]:
    """A loader with one transfer slot, whose upstream has the resource."""
    directory = tmp_path_factory.mktemp("narrow")
    with (
        RangeUpstream(directory) as api,
        hasty_device(directory, api.url, HASTE, MAX_TRANSFERS="1") as bare,
    ):
        assert login(bare.url).status == 200
        resource.publish(api)
        yield RangeSite(bare.loader, bare.models, api)


def test_a_part_in_use_is_listed_as_such_and_not_cleared(narrow: RangeSite, resource: StoredResource) -> None:
    with OpenLoad(narrow.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        assert [(entry["digest"], entry["in_use"]) for entry in listing(narrow)["entries"]] == [
            (resource.big.digest, True)
        ]
        assert post(narrow, "/cache/clear") == {"removed": 0, "bytes": 0, "kept": 1}
        assert opened.finish().sha256 == resource.sha256


def test_a_verification_takes_a_slot_and_gives_it_back(narrow: RangeSite, resource: StoredResource) -> None:
    def verified() -> bool:
        return call(narrow.url, "POST", "/cache/verify").status == 200

    with OpenLoad(narrow.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        reply = call(narrow.url, "POST", "/cache/verify")
        reply.problem(503, "BUSY")
        assert reply.headers["Retry-After"] in {"1", "2", "3"}
    poll(verified, SECONDS, "the slot is free again")
    assert verified()
    assert load_hashed(narrow.url, resource.filename).sha256 == resource.sha256
