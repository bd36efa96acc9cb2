"""Every error of the loader passes through nginx unchanged, and never becomes a 502 of nginx."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loader.web.bodies import JSON_MAX_SIZE
from tests.deploy.conftest import Fronted, FrontedRange, fronted_range
from tests.support.http_calls import BOUNDARY, Reply, call, form, load, login, part, post_form, post_json, upload
from tests.support.loads import OpenLoad
from tests.support.nginx_server import nginx
from tests.support.processes import poll
from tests.support.sites import HASTE
from tests.support.small_disk import small_disk
from tests.support.stored_resources import FOLDER, MIB, store_resource

LARGE = bytes(8 * MIB)  # more than the sockets on the way hold
TIMES = 20
JSON = {"Content-Type": "application/json"}
SECONDS = 20
JSON_LIMIT = JSON_MAX_SIZE


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontedRange]:
    """A loader with one transfer slot, and a disk of 4 MiB; the API has a resource of 48 MiB, damaged in the middle."""
    directory = tmp_path_factory.mktemp("slot")
    resource = store_resource(directory, "large", 48 * MIB)
    with fronted_range(directory / "site") as running:
        resource.publish(running.api).damage = {20 * MIB}
        yield running


def chunked_upload(url: str) -> Reply:
    pieces = iter([form(part("folder", b"m"), part("file", LARGE, filename="x"))])
    return call(url, "POST", "/upload/x", pieces, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


def form_without_end(url: str) -> Reply:
    return post_form(url, "/upload/x", form(part("folder", b"m"), part("file", LARGE, filename="x"))[:-4])


def foreign_upload(url: str, file: bytes = LARGE) -> Reply:
    body = form(part("folder", b"m"), part("file", file, filename="x"))
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Origin": "https://other.example"}
    return call(url, "POST", "/upload/x", body, headers)


@pytest.mark.parametrize(
    ("request_of", "status", "code"),
    [
        (lambda url: load(url, "m", "nothing"), 404, "RESOURCE_NOT_FOUND"),
        (lambda url: load(url, "..", "x"), 422, "VALIDATION_FAILED"),
        (lambda url: upload(url, "..", "x", LARGE), 422, "VALIDATION_FAILED"),
        (lambda url: upload(url, "m", "a..b", LARGE), 422, "VALIDATION_FAILED"),
        (form_without_end, 400, "BODY_TRUNCATED"),
        (chunked_upload, 411, "LENGTH_REQUIRED"),
        (foreign_upload, 403, "CROSS_ORIGIN"),
        (lambda url: post_json(url, "/upload/x", {"x": LARGE.hex()}), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (lambda url: call(url, "POST", "/login", b"{", JSON), 400, "NOT_JSON"),
        (lambda url: call(url, "POST", "/login", b" " * JSON_LIMIT, JSON), 400, "NOT_JSON"),
        (lambda url: call(url, "POST", "/login", b" " * (JSON_LIMIT + 1), JSON), 413, "PAYLOAD_TOO_LARGE"),
        (lambda url: call(url, "POST", "/load/x", iter([LARGE]), JSON), 413, "PAYLOAD_TOO_LARGE"),
        (lambda url: call(url, "PUT", "/upload/x", LARGE), 405, "METHOD_NOT_ALLOWED"),
        (lambda url: call(url, "POST", "/upload/x/y", LARGE), 404, "NOT_FOUND"),
        (lambda url: login(url, {"email": "nobody@example.org", "password": "x"}), 401, "LOGIN_REJECTED"),
    ],
)
def test_an_error_of_the_loader_passes_unchanged(
    site: Fronted, request_of: Callable[[str], Reply], status: int, code: str
) -> None:
    request_of(site.url).problem(status, code)


def test_nginx_refuses_too_large_bodies_with_the_loaders_error(site: Fronted, tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", site.upstream, {"client_max_body_size 64k": "client_max_body_size 1m"}) as generous:
        by_nginx, by_loader = (
            call(url, "POST", "/login", LARGE[: JSON_LIMIT + 1], JSON) for url in (site.url, generous.url)
        )
    assert "Server" in by_nginx.headers
    assert by_nginx.problem(413, "PAYLOAD_TOO_LARGE") == by_loader.problem(413, "PAYLOAD_TOO_LARGE")


def test_large_uploads_without_a_login_get_the_loaders_error(lonely: Fronted) -> None:
    for _ in range(TIMES):
        upload(lonely.url, "m", "x", LARGE).problem(401, "NOT_LOGGED_IN")


def test_a_loader_that_leaves_bodies_unread_would_be_noticed(tmp_path: Path) -> None:
    """Its response is then lost now and then: the client sees nginx's 502, or a connection that breaks.

    Besides the loader, gunicorn reads some of what is left for five seconds, and the worker reads while a connection
    lingers. The test stops all three.
    """
    undrained = {
        "loader.web.replies.DRAIN_SECONDS": 0.0,
        "gunicorn.workers.gthread.DEFAULT_WORKER_DATA_TIMEOUT": 0.0,
        "loader.server.worker.LINGER_READ_SIZE": 0,
    }
    with fronted_range(tmp_path / "site", HASTE=json.dumps(HASTE | undrained)) as running:
        assert any(not _is_told(running.url) for _ in range(20 * TIMES))


def _is_told(url: str) -> bool:
    try:
        return foreign_upload(url, LARGE[: 4 * MIB]).status == 403
    except OSError:
        return False


def test_large_uploads_without_a_slot_get_the_loaders_error(slot: FrontedRange) -> None:
    with OpenLoad(slot.url, "large", receive_buffer=1 << 16) as opened:
        assert opened.read(1) == 1
        for _ in range(TIMES):
            reply = upload(slot.url, FOLDER, "x", LARGE)
            assert reply.problem(503, "BUSY")["retryable"] is True
            assert int(reply.headers["Retry-After"]) > 0
    poll(lambda: load(slot.url, FOLDER, "nothing").status == 404, SECONDS, "a free slot")


def test_a_load_that_meets_damage_is_cut(slot: FrontedRange) -> None:
    poll(lambda: load(slot.url, FOLDER, "nothing").status == 404, SECONDS, "a free slot")
    with OpenLoad(slot.url, "large") as opened:
        done = opened.finish()
    assert done.cut
    assert MIB <= done.arrived < 21 * MIB
    poll(lambda: load(slot.url, FOLDER, "nothing").status == 404, SECONDS, "a free slot")
    load(slot.url, FOLDER, "large").problem(502, "RESOURCE_CORRUPT")


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 * MIB) as disk:
        (tmp_path / "site").mkdir()
        with fronted_range(tmp_path / "site", MODEL_CACHE_DIR=str(disk)) as running:
            for _ in range(3):
                upload(running.url, FOLDER, "x", LARGE).problem(507, "DISK_SPACE")
