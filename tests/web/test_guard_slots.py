"""Transfer slots: further transfers get BUSY, and a slot is given back however its transfer ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loader.errors import Busy
from loader.web.guard import TransferSlots
from tests.support import http_calls
from tests.support.fake_engine import FakeCall, FakeEngine
from tests.support.handmade_image import FRAGMENT, HandmadeImage, HandmadeLayer, seal
from tests.support.http_calls import BOUNDARY, call, form, open_socket, part, post_form, post_json, upload
from tests.support.loads import OpenLoad, load_hashed, load_patiently
from tests.support.processes import poll
from tests.support.range_sites import RangeSite, hasty_device
from tests.support.range_upstream import RangeUpstream
from tests.support.sites import HASTE, Site, real_site
from tests.support.stored_resources import FOLDER, MIB, StoredResource, store_resource

SECONDS = 20
SILENCE_SECONDS = 1.0
PROBE_MAX_SECONDS = 1.0
HAMMERS = 64
PROBES = 25
ARCHIVE_SIZE = 64 * MIB
# Each MiB of the archive then takes so long that several probes meet the unlock while it decrypts.
SLOWLY = json.dumps({"loader.unlock.progress.UnlockProgress.reach": 0.02})


@pytest.fixture(scope="module")
def resource(tmp_path_factory: pytest.TempPathFactory) -> StoredResource:
    """A resource that is larger than all socket buffers between the API and a client."""
    return store_resource(tmp_path_factory.mktemp("stored"), "medium", 48 * MIB)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeSite]:
    """Use `site`."""
    directory = tmp_path_factory.mktemp("slots")
    haste = {**HASTE, "loader.web.guard.CLIENT_SILENCE_SECONDS": SILENCE_SECONDS}
    with (
        RangeUpstream(directory) as api,
        hasty_device(directory, api.url, haste, MAX_TRANSFERS="1") as bare,
    ):
        assert http_calls.login(bare.url).status == 200
        yield RangeSite(bare.loader, bare.models, api)


@pytest.fixture
def site(shared_site: RangeSite, resource: StoredResource) -> RangeSite:
    """A loader with one free slot and short timeouts for clients; its API has the resource."""
    wait_for_slot(shared_site)
    shared_site.reset()
    resource.publish(shared_site.api)
    return shared_site


def slot_is_free(site: RangeSite) -> bool:
    """Return whether a load gets a slot, which the load of a missing resource shows by its 404."""
    return http_calls.load(site.url, FOLDER, "nothing").status == 404


def wait_for_slot(site: RangeSite) -> None:
    poll(lambda: slot_is_free(site), SECONDS, "a free slot")


def test_closing_a_slot_twice_frees_it_once() -> None:
    slots = TransferSlots(2)
    first, second = slots.take(), slots.take()
    with pytest.raises(Busy):
        slots.take()
    first.close()
    first.close()
    third = slots.take()
    with pytest.raises(Busy):
        slots.take()
    second.close()
    third.close()


def test_a_transfer_without_a_free_slot_gets_busy_with_retry_after(site: RangeSite, resource: StoredResource) -> None:
    with OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        refused = [
            http_calls.load(site.url, FOLDER, resource.filename),
            upload(site.url, FOLDER, "new", bytes(8 * MIB)),
            upload(site.url, FOLDER, "new", b""),
        ]
        for reply in refused:
            assert reply.problem(503, "BUSY")["retryable"] is True
            assert int(reply.headers["Retry-After"]) > 0
        assert call(site.url, "GET", "/health").status == 200
        assert call(site.url, "GET", "/status").status == 200
        assert opened.finish().sha256 == resource.sha256
    done = load_patiently(site.url, resource.filename)
    assert done.sha256 == resource.sha256


def test_refused_upload_is_read_to_its_end(site: RangeSite, resource: StoredResource) -> None:
    """A client that sends everything before it reads, as proxies do, gets the response and no broken connection."""
    body = form(part("folder", FOLDER.encode()), part("file", bytes(8 * MIB), filename="x"))
    head = (
        f"POST /upload/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nConnection: close\r\n\r\n"
    )
    with (
        OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened,
        open_socket(site.url) as connection,
    ):
        assert opened.read(1) == 1
        connection.sendall(head.encode() + body)
        reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    http_calls.parse_reply(reply).problem(503, "BUSY")


def finished(site: RangeSite, resource: StoredResource) -> None:
    assert load_hashed(site.url, resource.filename).sha256 == resource.sha256


def missing(site: RangeSite, _: StoredResource) -> None:
    http_calls.load(site.url, FOLDER, "nothing").problem(404, "RESOURCE_NOT_FOUND")


def invalid_load(site: RangeSite, _: StoredResource) -> None:
    post_json(site.url, "/load/x", {"filename": "y", "folder": ""}).problem(422, "VALIDATION_FAILED")


def not_json(site: RangeSite, _: StoredResource) -> None:
    call(site.url, "POST", "/load/x", b"{", {"Content-Type": "application/json"}).problem(400, "NOT_JSON")


def head_request(site: RangeSite, resource: StoredResource) -> None:
    assert call(site.url, "HEAD", f"/load/{resource.filename}").status == 405


def invalid_upload(site: RangeSite, _: StoredResource) -> None:
    post_form(site.url, "/upload/x", form(part("folder", b".."))).problem(422, "VALIDATION_FAILED")


def no_form(site: RangeSite, _: StoredResource) -> None:
    post_json(site.url, "/upload/x", {}).problem(415, "UNSUPPORTED_MEDIA_TYPE")


def finished_upload(site: RangeSite, _: StoredResource) -> None:
    assert upload(site.url, FOLDER, "new", bytes(2 * MIB)).status == 200


def disconnected(site: RangeSite, resource: StoredResource) -> None:
    with OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(MIB) == MIB


def disconnected_at_once(site: RangeSite, resource: StoredResource) -> None:
    body = json.dumps({"filename": resource.filename, "folder": FOLDER}).encode()
    with open_socket(site.url) as connection:
        connection.sendall(
            f"POST /load/{resource.filename} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )


def disconnected_upload(site: RangeSite, _: StoredResource) -> None:
    with open_socket(site.url) as connection:
        connection.sendall(upload_head(10 * MIB) + bytes(MIB))


def cut_upstream(site: RangeSite, resource: StoredResource) -> None:
    held = site.api.objects[f"/resources/{resource.big_path}"]
    held.cuts = [20 * MIB]
    with OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened:
        held.statuses = [500] * 10
        assert opened.finish().cut


def stalled_load(site: RangeSite, resource: StoredResource) -> None:
    """The client neither reads nor disconnects, so that only the timeout can end the load."""
    before = len(site.audit_lines("load"))
    with OpenLoad(site.url, resource.filename, receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        started = time.monotonic()
        site.next_audit_line("load", before)
        assert time.monotonic() - started < 10 * SILENCE_SECONDS
        assert opened.finish().cut


def stalled_upload(site: RangeSite, _: StoredResource) -> None:
    with open_socket(site.url) as connection:
        connection.sendall(upload_head(10 * MIB) + bytes(MIB))
        started = time.monotonic()
        reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        assert time.monotonic() - started < 10 * SILENCE_SECONDS
        assert b" 400 " in reply.partition(b"\r\n")[0]


def upload_head(length: int) -> bytes:
    """Return the request of an upload up to the content of its file."""
    begin = form(part("folder", FOLDER.encode()), part("file", b"content", filename="x")).partition(b"content")[0]
    head = (
        f"POST /upload/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    return head.encode() + begin


@pytest.mark.parametrize(
    "way_out",
    [
        finished,
        missing,
        invalid_load,
        not_json,
        head_request,
        invalid_upload,
        no_form,
        finished_upload,
        disconnected,
        disconnected_at_once,
        disconnected_upload,
        cut_upstream,
        stalled_load,
        stalled_upload,
    ],
)
def test_a_slot_is_given_back_however_the_transfer_ends(
    site: RangeSite, resource: StoredResource, way_out: Callable[[RangeSite, StoredResource], None]
) -> None:
    for _ in range(2):
        way_out(site, resource)
        wait_for_slot(site)
    site.wait_until_idle()


@pytest.fixture
def busy_site(tmp_path: Path, resource: StoredResource) -> Iterator[Site]:
    """A loader with default capacity, an archive of 64 MiB and a resource at the API.

    Its engine takes a whole load and then says nothing until the test is over.
    """
    over = threading.Event()

    def answer_late(request: FakeCall) -> None:
        over.wait()
        request.respond(500, {"message": "the test is over"})

    with (
        FakeEngine(tmp_path / "engine.sock", answer_late) as engine,
        real_site(tmp_path / "site", DOCKER_HOST=engine.host, HASTE=SLOWLY) as running,
    ):
        resource.copy_to(running.api.data_dir / "resources")
        running.api.set_fragment(FRAGMENT)
        image = HandmadeImage("app:latest", (HandmadeLayer(bytes(MIB), ARCHIVE_SIZE // MIB),))
        seal(running.models.parent / "images.enc", [image])
        yield running
        over.set()


@pytest.mark.long
def test_health_responds_while_64_clients_load_and_an_unlock_runs(busy_site: Site, resource: StoredResource) -> None:
    stop = threading.Event()
    outcomes: list[str] = []

    def hammer() -> None:
        while not stop.is_set():
            done = load_hashed(busy_site.url, resource.filename)
            outcomes.append(done.code or done.sha256)

    with ThreadPoolExecutor(HAMMERS) as pool:
        hammers = [pool.submit(hammer) for _ in range(HAMMERS)]
        try:
            poll(lambda: resource.sha256 in outcomes and "BUSY" in outcomes, SECONDS, "saturation")
            assert post_json(busy_site.url, "/unlock", http_calls.CREDENTIALS).status == 200
            states, delays = set(), []
            for _ in range(PROBES):
                delays.append(probe(busy_site.url))
                states.add(call(busy_site.url, "GET", "/unlock/status").json()["state"])
        finally:
            stop.set()
        for each in hammers:
            each.result()
    assert max(delays) < PROBE_MAX_SECONDS
    assert states <= {"authenticating", "downloading_key", "decrypting", "loading_images"}
    assert "decrypting" in states
    assert set(outcomes) == {"BUSY", resource.sha256}


def probe(url: str) -> float:
    """Return how many seconds `/health` took."""
    started = time.monotonic()
    assert call(url, "GET", "/health").status == 200
    return time.monotonic() - started
