"""A real loader, the real API and a real store: uploads and loads go past the API, and survive what happens to all."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from resource_api.accounts import Role
from tests.support.http_calls import EMAIL, PASSWORD, Reply, load, login, upload
from tests.support.resource_api_server import ResourceApiServer
from tests.support.sites import Site, bare_site
from tests.support.store_front import StoreFront
from tests.support.swift_store import BIG, SMALL, SwiftStore

MIB = 1 << 20
# Three parts.
CONTENT = random.Random(1).randbytes(20 * MIB)  # noqa: S311  # a file's content, no secret
HELD_SECONDS = 60
# Long enough for a request that follows its redirect at once.
URL_SECONDS = 2


@dataclass(frozen=True)
class StoreSite(Site):
    """A loader that is logged in at an API whose objects are in `swift`, which clients and API reach by `front`."""

    swift: SwiftStore
    front: StoreFront


def start(directory: Path, swift: SwiftStore, running: ExitStack, url_seconds: int) -> StoreSite:
    """Start a loader, an API with two buckets, and a front."""
    front = running.enter_context(StoreFront(swift.port))
    settings = swift.settings(url_seconds=url_seconds) | {"RESOURCE_API_STORE": front.url}
    (directory / "api").mkdir(parents=True)
    api = running.enter_context(ResourceApiServer(directory / "api", store=settings))
    api.add_user(EMAIL, PASSWORD, Role.PUBLISHER)
    bare = running.enter_context(bare_site(directory, api.url))
    assert login(bare.url).status == 200
    return StoreSite(bare.loader, bare.models, api, swift, front)


@pytest.fixture(scope="module")
def shared_site(swift: SwiftStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSite]:
    """Yield a site that the tests of this module share."""
    with ExitStack() as running:
        yield start(tmp_path_factory.mktemp("site"), swift, running, 600)


@pytest.fixture
def site(shared_site: StoreSite) -> Iterator[StoreSite]:
    """Yield a site without objects."""
    shared_site.api.forget_requests()
    shared_site.front.received.clear()
    yield shared_site
    shared_site.front.go_on()
    shared_site.swift.clear()


def stored(site: StoreSite) -> Reply:
    return upload(site.url, "m", "x", CONTENT)


def loaded_anew(site: StoreSite) -> Reply:
    """Load with an empty cache."""
    site.empty_cache()
    return load(site.url, "m", "x")


def test_parts_and_loads_go_past_the_api_and_no_token_goes_to_the_store(site: StoreSite) -> None:
    assert stored(site).status == 200
    assert [each.size > len(CONTENT) - MIB for each in site.swift.bucket(BIG).find("m/x.")] == [True]
    assert [each.name for each in site.swift.bucket(SMALL).find("")] == ["m/x.small"]
    assert loaded_anew(site).body == CONTENT
    asked = [(request.method, request.path.rpartition("/")[2]) for request in site.api.requests()]
    assert {("POST", "uploads"), ("POST", "urls"), ("POST", "complete"), ("PUT", "x.small")} <= set(asked)
    assert not [request for request in site.api.requests("PUT") if "/parts/" in request.path or ".big" in request.path]
    assert site.front.received.count(b"PUT /big/m/x.") == 3
    assert site.front.received.count(b"GET /big/m/x.") == 1
    assert len(site.front.received) > len(CONTENT)
    assert b"uthorization:" not in site.front.received
    assert b"Bearer" not in site.front.received
    # What the loader tells about itself is for the API.
    assert b"Azaion-Device" not in site.front.received


@pytest.mark.long
def test_a_load_goes_on_after_the_store_was_killed(site: StoreSite) -> None:
    stored(site)
    site.front.hold_after(8 * MIB)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(loaded_anew, site)
        killed_while_held(site)
        assert loading.result().body == CONTENT
    ranges = [request.headers.get("RANGE", "") for request in site.api.requests("GET") if ".big" in request.path]
    assert len(ranges) >= 2
    assert int(ranges[-1].removeprefix("bytes=").partition("-")[0]) > MIB


def test_an_upload_goes_on_after_the_store_was_killed(site: StoreSite) -> None:
    site.front.hold_after(10 * MIB)
    with ThreadPoolExecutor(1) as pool:
        storing = pool.submit(stored, site)
        killed_while_held(site)
        assert storing.result().status == 200
    assert loaded_anew(site).body == CONTENT
    # One upload, and what had arrived was not sent again: at most the two parts that were on their way.
    assert len(site.api.requests("POST", "/uploads")) == 1
    assert len(site.front.received) < len(CONTENT) + 17 * MIB


def killed_while_held(site: StoreSite) -> None:
    """Kill the store in the middle of a transfer, and start it again."""
    assert site.front.held.wait(HELD_SECONDS)
    site.swift.kill()
    site.front.go_on()
    site.swift.restart()


@pytest.mark.long
def test_addresses_that_expire_meanwhile_are_asked_for_again(
    swift: SwiftStore, tmp_path: Path, shared_site: StoreSite
) -> None:
    assert shared_site.swift is swift
    with ExitStack() as running:
        site = start(tmp_path, swift, running, URL_SECONDS)
        site.front.hold_after(4 * MIB)
        with ThreadPoolExecutor(1) as pool:
            storing = pool.submit(stored, site)
            held_for(site, 2 * URL_SECONDS)
            assert storing.result().status == 200
        assert len([each for each in site.api.requests("POST") if each.path.endswith("/urls")]) >= 2
        assert site.front.received.count(b"PUT /big/m/x.") > 3
        # The store does not look at the time again while it sends, so the download is cut as well.
        site.front.hold_after(8 * MIB)
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(loaded_anew, site)
            assert site.front.held.wait(HELD_SECONDS)
            swift.kill()
            held_for(site, 2 * URL_SECONDS)
            swift.restart()
            assert loading.result().body == CONTENT
        assert len([each for each in site.api.requests("GET") if ".big" in each.path]) >= 2
    swift.clear()


def held_for(site: StoreSite, seconds: float) -> None:
    """Let transfers go on `seconds` after they were held up. It is the store's clock that has to go on."""
    assert site.front.held.wait(HELD_SECONDS)
    threading.Event().wait(seconds)
    site.front.go_on()


@pytest.mark.long
def test_an_upload_and_a_load_go_on_at_another_api(swift: SwiftStore, tmp_path: Path, shared_site: StoreSite) -> None:
    """The second API takes the address of the first, as behind a proxy, with the same state directory and store."""
    first = shared_site
    settings = swift.settings() | {"RESOURCE_API_STORE": first.front.url}
    port = int(first.api.url.rpartition(":")[2])
    for transfer, expected in ((stored, 200), (loaded_anew, 200)):
        first.front.hold_after(10 * MIB)
        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(transfer, first)
            assert first.front.held.wait(HELD_SECONDS)
            first.api.process.kill_tree()
            (directory := tmp_path / str(time.monotonic_ns())).mkdir()
            with ResourceApiServer(directory, data_dir=first.api.data_dir, port=port, store=settings) as second:
                first.front.go_on()
                assert going.result().status == expected
                site = replace(first, api=second)
                if transfer is stored:
                    assert site.api.requests("POST", "/uploads") == []
                    assert loaded_anew(site).body == CONTENT
        first.api.process.restart()
        first.api.process.wait_until(lambda: login(first.url).status == 200, HELD_SECONDS, "the first API is back")
    swift.clear()
