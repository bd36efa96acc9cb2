"""POST /upload/{filename} where the API takes uploads in parts: clients that go, locks, SIGTERM, refusals."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

from tests.support.fault_server import SeenRequest
from tests.support.faulty_api import Fault
from tests.support.http_calls import BOUNDARY, CREDENTIALS, call, form, load, login, open_socket, part, upload
from tests.support.processes import poll
from tests.support.sealed_objects import debris
from tests.support.sites import FaultySite, faulty_site
from tests.support.upload_api import UploadApi

MIB = 1 << 20
CONTENT = bytes(range(251)) * (24 * MIB // 251)
SECONDS = 20
SLOW_PIECE = 1 << 16
# SIGTERM leaves a worker 30 seconds before it is killed.
MUCH_LESS_THAN_GRACE = 15
FORBIDDEN = Fault(403, b'{"code": "FORBIDDEN"}', {"Content-Type": "application/problem+json"}, unread=True)


@contextmanager
def upload_site(directory: Path, **env: str) -> Iterator[tuple[FaultySite, UploadApi]]:
    with faulty_site(directory, UploadApi, **env) as running:
        yield running, cast("UploadApi", running.api)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FaultySite, UploadApi]]:
    """Use `site` and `api`."""
    with upload_site(tmp_path_factory.mktemp("parts")) as running:
        yield running


@pytest.fixture
def api(shared_site: tuple[FaultySite, UploadApi]) -> Iterator[UploadApi]:
    site, api = shared_site
    api.reset()
    assert login(site.url, CREDENTIALS).status == 200
    yield api
    api.resume()
    site.empty_cache()


@pytest.fixture
def site(shared_site: tuple[FaultySite, UploadApi]) -> FaultySite:
    return shared_site[0]


def wait_for_parts(api: UploadApi) -> None:
    poll(lambda: len(api.parts_sent()) > 1, SECONDS, "the first parts")


def require_nothing_left(site: FaultySite, api: UploadApi) -> None:
    assert api.objects == {}
    poll(lambda: not api.uploads, SECONDS, "the upload is removed")
    assert debris(site.models) == []


@pytest.mark.parametrize("file_first", [False, True])
def test_a_load_returns_what_was_uploaded_in_parts(site: FaultySite, api: UploadApi, file_first: bool) -> None:
    assert upload(site.url, "m", "x", CONTENT, file_first=file_first).status == 200
    assert len(api.parts_sent()) > 2
    assert len(api.uploads) == 1
    site.empty_cache()
    assert load(site.url, "m", "x").body == CONTENT


def test_a_small_model_is_sent_whole(site: FaultySite, api: UploadApi) -> None:
    assert upload(site.url, "m", "x", CONTENT[: 8 * MIB]).status == 200
    assert api.uploads == {}
    assert len(api.requests("PUT")) == 2


def open_upload() -> tuple[bytes, bytes]:
    body = form(part("folder", b"m"), part("file", CONTENT, filename="x"))
    head = f"POST /upload/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode(), body


def send_until_ended(site: FaultySite, before: int, connection: socket.socket, rest: bytes) -> None:
    """Send `rest` slowly and without its last piece, until the upload ends: the loader sees a failure at a piece."""
    pieces = iter([rest[begin : begin + SLOW_PIECE] for begin in range(0, len(rest) - SLOW_PIECE, SLOW_PIECE)])

    def has_ended() -> bool:
        with suppress(OSError):
            connection.sendall(next(pieces, b""))
        return len(site.audit_lines("upload")) > before

    poll(has_ended, SECONDS, "the upload ends before all of it was sent")


def test_a_client_that_goes_leaves_nothing_at_the_api(site: FaultySite, api: UploadApi) -> None:
    before = len(site.audit_lines("upload"))
    head, body = open_upload()
    with open_socket(site.url) as connection:
        connection.sendall(head + body[: 16 * MIB])
        wait_for_parts(api)
    line = site.next_audit_line("upload", before)
    assert (line["outcome"], line["code"]) == ("failed", "BODY_TRUNCATED")
    require_nothing_left(site, api)


def test_a_lock_ends_an_upload_between_its_parts(site: FaultySite, api: UploadApi) -> None:
    before = len(site.audit_lines("upload"))
    head, body = open_upload()
    with open_socket(site.url) as connection:
        connection.sendall(head + body[: 16 * MIB])
        wait_for_parts(api)
        assert call(site.url, "POST", "/lock").status == 200
        # The client is silent meanwhile.
        poll(lambda: not api.uploads, SECONDS, "the upload is removed at the API")
        send_until_ended(site, before, connection, body[16 * MIB :])
    assert site.audit_lines("upload")[before]["code"] == "NOT_LOGGED_IN"
    require_nothing_left(site, api)


def test_a_reader_is_refused_before_the_whole_model_was_sent(site: FaultySite, api: UploadApi) -> None:
    before = len(site.audit_lines("upload"))
    api.answer("POST", "/uploads", FORBIDDEN)
    head, body = open_upload()
    with open_socket(site.url) as connection:
        connection.sendall(head + body[: 16 * MIB])
        send_until_ended(site, before, connection, body[16 * MIB :])
    assert site.audit_lines("upload")[before]["code"] == "FORBIDDEN"
    require_nothing_left(site, api)


@pytest.mark.long
def test_health_responds_while_parts_wait_for_a_silent_api(site: FaultySite, api: UploadApi) -> None:
    healthy = api.healthy_response
    api.healthy_response = (  # type: ignore[method-assign]
        lambda seen: Fault(silent=True) if "/parts/" in seen.path else healthy(seen)
    )
    try:
        with ThreadPoolExecutor(8) as pool:
            uploads = [pool.submit(upload, site.url, "m", f"x{n}", CONTENT[: 9 * MIB]) for n in range(8)]
            poll(lambda: len(api.parts_sent()) >= 8, SECONDS, "parts of all uploads")
            assert call(site.url, "GET", "/health").status == 200
            for each in uploads:
                each.result(SECONDS).problem(503, "API_UNREACHABLE")
    finally:
        del api.healthy_response
    require_nothing_left(site, api)


@pytest.mark.long
def test_sigterm_does_not_wait_for_a_part_that_hangs(tmp_path: Path) -> None:
    with upload_site(tmp_path, API_READ_TIMEOUT="60") as (site, api), ThreadPoolExecutor(1) as pool:
        healthy = api.healthy_response

        def respond(seen: SeenRequest) -> Fault:
            return Fault(silent=True) if "/parts/" in seen.path else healthy(seen)

        api.healthy_response = respond  # type: ignore[method-assign]
        hanging = pool.submit(upload, site.url, "m", "x", CONTENT)
        poll(api.parts_sent, SECONDS, "a part")
        site.loader.process.send_signal(signal.SIGTERM)
        assert site.loader.process.wait(MUCH_LESS_THAN_GRACE) == 0
        hanging.result(SECONDS).problem(500, "INTERRUPTED")
        assert debris(site.models) == []
        assert api.objects == {}
