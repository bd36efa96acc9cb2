"""POST /lock: the loader forgets the login, and what depends on it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import http_calls
from tests.support.fake_engine import FakeEngine
from tests.support.faulty_api import Fault, FaultyApi
from tests.support.handmade_image import HandmadeImage, seal
from tests.support.http_calls import (
    BOUNDARY,
    CREDENTIALS,
    Reply,
    call,
    form,
    login,
    open_socket,
    part,
    post_json,
    upload,
)
from tests.support.left_files import left
from tests.support.loads import OpenLoad, get_status, load_hashed
from tests.support.processes import poll
from tests.support.range_sites import RangeSite, range_site
from tests.support.sites import BareSite, bare_site
from tests.support.stored_resources import FOLDER, MIB, StoredResource, store_resource

SECONDS = 20
SMALL_PATH = f"{FOLDER}/medium.small"


@pytest.fixture(scope="module")
def resource(tmp_path_factory: pytest.TempPathFactory) -> StoredResource:
    """A resource that is larger than all socket buffers between the API and a client."""
    return store_resource(tmp_path_factory.mktemp("stored"), "medium", 32 * MIB)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeSite]:
    """Use `site`."""
    with range_site(tmp_path_factory.mktemp("lock")) as running:
        yield running


@pytest.fixture
def site(shared_site: RangeSite, resource: StoredResource) -> RangeSite:
    """A loader that is logged in, and an upstream that has the resource."""
    assert login(shared_site.url).status == 200
    shared_site.reset()
    resource.publish(shared_site.api)
    return shared_site


def lock(url: str) -> Reply:
    return call(url, "POST", "/lock")


def assert_locked(running: BareSite) -> None:
    assert get_status(running.url)["authenticated"] is False
    http_calls.load(running.url, FOLDER, "medium").problem(401, "NOT_LOGGED_IN")
    upload(running.url, FOLDER, "new", b"content").problem(401, "NOT_LOGGED_IN")


def test_lock_ends_the_login_until_the_next_one(site: RangeSite, resource: StoredResource) -> None:
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
    asked, lines = len(site.api.requests("GET", SMALL_PATH)), len(site.audit_lines("lock"))
    for _ in range(2):
        reply = lock(site.url)
        assert (reply.status, reply.json()) == (200, {"status": "locked"})
        assert_locked(site)
    assert len(site.api.requests("GET", SMALL_PATH)) == asked
    assert [(line["outcome"], line["code"]) for line in site.audit_lines("lock")[lines:]] == [("ok", None)] * 2
    poll(lambda: len([*site.models.glob("*.big")]) == 1, SECONDS, "the part is cached")
    assert login(site.url).status == 200
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256


def test_lock_before_any_login(tmp_path: Path) -> None:
    with bare_site(tmp_path) as running:
        assert lock(running.url).json() == {"status": "locked"}
        assert_locked(running)


def test_running_load_from_the_cache_is_cut(site: RangeSite, resource: StoredResource) -> None:
    before = len(site.audit_lines("load"))
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
    site.next_audit_line("load", before)
    before = len(site.audit_lines("load"))
    with OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        lock(site.url)
        done = opened.finish()
    assert done.cut
    line = site.next_audit_line("load", before)
    assert (line["outcome"], line["code"]) == ("cut", "NOT_LOGGED_IN")
    assert_locked(site)


def test_lock_ends_a_download_and_the_load_that_reads_it(site: RangeSite, resource: StoredResource) -> None:
    held = site.api.objects[f"/resources/{resource.big_path}"]
    held.rate = 4 * MIB
    with OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(2 * MIB) == 2 * MIB
        lock(site.url)
        assert opened.finish().cut
    site.wait_until_idle()
    assert len(site.api.requests("GET", resource.big_path)) == 1
    (partial,) = site.models.glob("*.partial")
    kept = partial.stat().st_size
    assert 0 < kept < resource.big.size
    held.rate = None
    assert login(site.url).status == 200
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
    assert site.api.requests("GET", resource.big_path)[-1].headers["range"] == f"bytes={kept}-"


def test_lock_ends_a_download_without_a_reader(site: RangeSite, resource: StoredResource) -> None:
    site.api.objects[f"/resources/{resource.big_path}"].rate = 4 * MIB
    with OpenLoad(site.url, resource.filename) as opened:
        assert opened.read(1) == 1
    lock(site.url)
    site.wait_until_idle()
    assert len([*site.models.glob("*.partial")]) == 1


def test_login_after_a_lock_lets_a_stalled_download_continue(site: RangeSite, resource: StoredResource) -> None:
    """A stalled download notices the lock late, when there is a login again."""
    held = site.api.objects[f"/resources/{resource.big_path}"]
    held.stalls = [8 * MIB]
    with OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        poll(lambda: not held.stalls, SECONDS, "the stall")
        lock(site.url)
        assert login(site.url).status == 200
        assert load_hashed(site.url, resource.filename).sha256 == resource.sha256
        assert opened.finish().cut


def test_running_upload_is_refused_at_its_next_piece(site: RangeSite) -> None:
    start, end = form(part("folder", FOLDER.encode()), part("file", b"content", filename="x")).split(b"content")
    length = len(start) + 8 * MIB + len(end)
    head = (
        f"POST /upload/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    with open_socket(site.url) as connection:
        connection.sendall(head.encode() + start + bytes(4 * MIB))
        poll(lambda: [*site.models.glob(".upload-*")], SECONDS, "the upload starts")
        lock(site.url)
        connection.sendall(bytes(4 * MIB) + end)
        reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    http_calls.parse_reply(reply).problem(401, "NOT_LOGGED_IN")
    assert site.api.requests("PUT", f"{FOLDER}/new.small") == []
    assert left(site.models.iterdir()) == []


@pytest.fixture
def unlocking(tmp_path: Path) -> Iterator[tuple[BareSite, FaultyApi]]:
    """A loader with an archive, an engine without images, and an API that never responds to a login."""
    with (
        FaultyApi() as api,
        FakeEngine(tmp_path / "engine.sock", lambda request: request.respond(500, {"message": "no"})) as engine,
        bare_site(tmp_path / "loader", api.url, DOCKER_HOST=engine.host, API_VERSION="1.4") as running,
    ):
        seal(running.models.parent / "images.enc", [HandmadeImage("app:1.4")])
        api.answer("POST", "/login", Fault(silent=True))
        yield running, api


def test_running_unlock_is_interrupted_and_the_next_one_is_not(unlocking: tuple[BareSite, FaultyApi]) -> None:
    running, api = unlocking

    def status() -> dict[str, object]:
        document: dict[str, object] = call(running.url, "GET", "/unlock/status").json()
        return document

    assert post_json(running.url, "/unlock", CREDENTIALS).json()["state"] == "authenticating"
    poll(lambda: api.requests("POST", "/login"), SECONDS, "the login")
    lock(running.url)
    line = running.next_audit_line("unlock", 0)
    assert line["code"] == "INTERRUPTED"
    assert (status()["state"], status()["code"]) == ("error", "INTERRUPTED")
    assert status()["error"] == "The unlock was interrupted because the loader was locked."

    # The login that was left behind succeeds, but the loader stays locked.
    api.answer("POST", "/login", api.healthy_response(api.requests("POST", "/login")[0]))
    api.resume()
    poll(lambda: api.open_connections == 0, SECONDS, "the response to the login")
    assert_locked(running)
    assert post_json(running.url, "/unlock", CREDENTIALS).status == 200
    assert running.next_audit_line("unlock", 1)["code"] not in ("INTERRUPTED", "NOT_LOGGED_IN")
