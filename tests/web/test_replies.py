"""Every failure has problem details: a real request produces each code of the interface."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask, abort

from loader.crypto.model_parts import ResourceName
from loader.model_cache.cache import FORM_MAX_SIZE
from loader.web.replies import STATUS_BY_CODE, TITLES, name_of, register_error_handlers, title_of
from resource_api import problems
from tests.support.fake_engine import FakeEngine
from tests.support.faulty_api import Fault
from tests.support.flips import flipped
from tests.support.http_calls import (
    BOUNDARY,
    Reply,
    call,
    form,
    load,
    login,
    open_socket,
    parse_reply,
    part,
    post_form,
    post_json,
    send_and_close,
    upload,
)
from tests.support.missing import missing
from tests.support.sealed_objects import seal
from tests.support.sites import BareSite, FaultySite, Site, bare_site

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
DISK_BYTES = 1 << 20
MIB = 1 << 20

# Only an unlock ends with these codes, which are in the body of GET /unlock/status.
UNLOCK_ONLY = {
    "KEY_MISMATCH",
    "VERSION_MISMATCH",
    "ARCHIVE_INCOMPLETE",
    "IMAGE_MISMATCH",
}


@dataclass(frozen=True)
class Sites:
    """The loaders that a case can use."""

    lonely: BareSite
    site: Site
    faulty: FaultySite


Case = tuple[int, str, bool, Callable[[Sites], Reply]]


def _upstream(method: str, path: str, fault: Fault, request: Callable[[str], Reply]) -> Callable[[Sites], Reply]:
    def run(sites: Sites) -> Reply:
        sites.faulty.api.answer(method, path, fault)
        return request(sites.faulty.url)

    return run


def _cut_json(sites: Sites) -> Reply:
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    return parse_reply(send_and_close(sites.lonely.url, head + b'{"email":'))


def _corrupt(sites: Sites) -> Reply:
    sealed = seal("m", "x", bytes(1000))
    sites.faulty.api.objects[sealed.small_path] = flipped(sealed.small, -1)
    return load(sites.faulty.url, "m", "x")


def _load_x(url: str) -> Reply:
    return load(url, "m", "x")


def _chunked_form(sites: Sites) -> Reply:
    body = form(part("folder", b"m"), part("file", b"x"))
    return call(
        sites.site.url, "POST", "/upload/x", iter([body]), {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    )


def _range_behind_the_end(sites: Sites) -> Reply:
    assert upload(sites.site.url, "m", "short", b"content").status == 200
    return call(sites.site.url, "GET", "/models/m/short", headers={"Range": "bytes=7-"})


SMALL = "/resources/m/x.small"
CASES: dict[str, Case] = {
    "a field is missing": (422, "VALIDATION_FAILED", False, lambda s: login(s.lonely.url, {"email": "a"})),
    "a part is missing": (
        422,
        "VALIDATION_FAILED",
        False,
        lambda s: post_form(s.site.url, "/upload/x", form(part("folder", b"m"))),
    ),
    "the body is cut": (400, "BODY_TRUNCATED", True, _cut_json),
    "the body is no JSON": (400, "NOT_JSON", False, lambda s: call(s.lonely.url, "POST", "/login", b"{", JSON)),
    "the body is a form": (
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        False,
        lambda s: call(s.lonely.url, "POST", "/login", b"{}", {"Content-Type": "text/plain"}),
    ),
    "nobody has logged in": (401, "NOT_LOGGED_IN", False, lambda s: load(s.lonely.url, "m", "x")),
    "the password is wrong": (
        401,
        "LOGIN_REJECTED",
        False,
        lambda s: login(s.site.url, {"email": "operator@example.org", "password": "wrong"}),
    ),
    "another origin": (
        403,
        "CROSS_ORIGIN",
        False,
        lambda s: post_json(s.lonely.url, "/login", {}, {"Origin": "https://example.com"}),
    ),
    "no release to go back to": (
        409,
        "NO_WAY_BACK",
        False,
        lambda s: call(s.lonely.url, "POST", "/unlock/back"),
    ),
    "another host name": (
        400,
        "UNTRUSTED_HOST",
        False,
        lambda s: call(s.lonely.url, "GET", "/status", headers={"Host": "example.com"}),
    ),
    "no upload that goes on": (
        409,
        "UPLOAD_MISMATCH",
        False,
        lambda s: call(
            s.site.url,
            "POST",
            "/upload/x",
            form(part("folder", b"m"), part("file", b"rest")),
            {**FORM, "Upload-Offset": "5", "Upload-Prefix-SHA256": "0" * 64},
        ),
    ),
    "no such resource": (404, "RESOURCE_NOT_FOUND", False, lambda s: load(s.site.url, "m", "nothing")),
    "no archive": (
        404,
        "ARCHIVE_NOT_FOUND",
        False,
        lambda s: post_json(s.lonely.url, "/unlock", {"email": "a", "password": "b"}),
    ),
    "a body beyond its limit": (
        413,
        "PAYLOAD_TOO_LARGE",
        False,
        lambda s: call(s.lonely.url, "POST", "/login", bytes(64 * 1024 + 1), JSON),
    ),
    "an upload of unknown length": (411, "LENGTH_REQUIRED", False, _chunked_form),
    "a range behind the end": (416, "RANGE_NOT_SATISFIABLE", False, _range_behind_the_end),
    "the API fails": (502, "API_ERROR", True, _upstream("GET", SMALL, Fault(500), _load_x)),
    "the API forbids": (502, "API_ERROR", True, _upstream("GET", SMALL, Fault(403, b"<html>no</html>"), _load_x)),
    "the API forbids it to this account": (
        403,
        "FORBIDDEN",
        False,
        _upstream(
            "GET",
            SMALL,
            Fault(403, b'{"code": "FORBIDDEN"}', {"Content-Type": "application/problem+json"}),
            _load_x,
        ),
    ),
    "the API issues no token": (
        502,
        "API_PROTOCOL",
        False,
        _upstream("POST", "/login", Fault(body=b'{"ticket": "x"}'), login),
    ),
    "the API is a captive portal": (
        503,
        "API_UNREACHABLE",
        True,
        _upstream("POST", "/login", Fault(body=b"<html>Pay here</html>"), login),
    ),
    "the API redirects to a file": (
        502,
        "API_PROTOCOL",
        False,
        _upstream("GET", SMALL, Fault(302, headers={"Location": "file:///etc/passwd"}), _load_x),
    ),
    "the stored object is damaged": (502, "RESOURCE_CORRUPT", False, _corrupt),
    "nobody listens": (503, "API_UNREACHABLE", True, lambda s: login(s.lonely.url)),
    "the API is silent": (503, "API_UNREACHABLE", True, _upstream("POST", "/login", Fault(silent=True), login)),
    "the API falls silent": (
        503,
        "API_UNREACHABLE",
        True,
        _upstream("GET", SMALL, Fault(body=bytes(1000), stall_after=10), _load_x),
    ),
}
# Other tests produce these, because they need a loader of their own; test_login_throttle has LOGIN_THROTTLED,
# tests/server/test_stuck_calls.py INTERRUPTED, tests/unlock/test_publishers.py UNTRUSTED_PUBLISHER, and
# tests/unlock/test_silence.py ENGINE_STALLED and tests/unlock/test_older_releases.py ROLLBACK.
CODES_TESTED_APART = {
    *("DISK_SPACE", "STORAGE_ERROR", "ENGINE_UNAVAILABLE", "ENGINE_REJECTED", "ARCHIVE_CORRUPT", "BUSY", "INTERNAL"),
    *("LOGIN_THROTTLED", "INTERRUPTED", "UNTRUSTED_PUBLISHER", "ENGINE_STALLED", "ROLLBACK"),
}


@pytest.fixture
def sites(lonely: BareSite, site: Site, faulty: FaultySite) -> Sites:
    """All three."""
    return Sites(lonely, site, faulty)


@pytest.mark.parametrize("name", CASES)
def test_each_failure_has_its_code(sites: Sites, name: str) -> None:
    status, code, retryable, request = CASES[name]
    running = (sites.lonely, sites.site, sites.faulty)
    logged_before = [len(one.loader.process.stderr()) for one in running]
    reply = request(sites)
    document = reply.problem(status, code)
    assert document["retryable"] is retryable
    assert STATUS_BY_CODE[code] == status
    assert reply.headers["Cache-Control"] == "no-store"
    for one, before in zip(running, logged_before, strict=True):
        new_lines = one.loader.process.stderr()[before:]
        assert not [secret for secret in ("Traceback", "planted-password", "Bearer") if secret in new_lines]


def test_every_code_of_a_request_is_tested() -> None:
    tested = {code for _, code, _, _ in CASES.values()} | CODES_TESTED_APART
    assert tested == set(STATUS_BY_CODE) - UNLOCK_ONLY


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (422, "Unprocessable Content"),
        (404, "Not Found"),
    ],
)
def test_titles_are_the_same_under_every_version_of_python(status: int, title: str) -> None:
    app = Flask("titles")
    register_error_handlers(app)
    app.add_url_rule("/", view_func=lambda: abort(status))
    document = app.test_client().get("/").get_json()
    assert (document["title"], document["code"]) == (title, title.upper().replace(" ", "_"))
    assert (problems.title_of(status), problems.name_of(status)) == (title_of(status), name_of(status))


def test_both_servers_have_the_same_titles() -> None:
    assert problems.TITLES == TITLES


def test_a_stopped_engine_has_its_code(tmp_path: Path) -> None:
    with bare_site(tmp_path / "engine", EXPECTED_IMAGES="azaion/app") as running:
        for reply in (
            post_json(running.url, "/unlock", {"email": "a", "password": "b"}),
            call(running.url, "GET", "/unlock/plan"),
        ):
            assert reply.problem(503, "ENGINE_UNAVAILABLE")["retryable"] is True


def test_a_refusing_engine_has_its_code(tmp_path: Path) -> None:
    with FakeEngine(tmp_path / "docker.sock", lambda _: None) as engine:
        engine.image = (500, {"message": "broken"})
        with bare_site(tmp_path / "engine", EXPECTED_IMAGES="azaion/app", DOCKER_HOST=engine.host) as running:
            reply = post_json(running.url, "/unlock", {"email": "a", "password": "b"})
            assert reply.problem(500, "ENGINE_REJECTED")["retryable"] is False


@pytest.fixture
def mounted_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        missing("small disk", "mounting one needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if done.returncode != 0:
        missing("small disk", done.stderr.decode().strip())
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_or_read_only_disk_has_its_code(mounted_disk: Path, faulty: FaultySite, tmp_path: Path) -> None:
    models = mounted_disk / "models"
    with bare_site(tmp_path / "disk-loader", faulty.api.url, MODEL_CACHE_DIR=str(models)) as running:
        assert login(running.url).status == 200
        for file_first in (False, True):
            full = upload(running.url, "m", "x", bytes(4 * MIB), file_first=file_first).problem(507, "DISK_SPACE")
            assert str(models) in full["detail"]
            announced = len(form(part("folder", b"m"), part("file", bytes(4 * MIB), filename="x")))
            assert f"needs at least {announced - FORM_MAX_SIZE} bytes" in full["detail"]
            assert "bytes are free" in full["detail"]
            assert full["retryable"] is True
        assert upload(running.url, "m", "x", bytes(1000)).status == 200
        subprocess.run(["mount", "-o", "remount,ro", str(mounted_disk)], check=True)
        read_only = upload(running.url, "m", "x", bytes(1000)).problem(500, "STORAGE_ERROR")
        assert str(models) in read_only["detail"]
    assert [request.path for request in faulty.api.requests("PUT")] == ["/resources/" + ResourceName("m", "x").small]


def test_a_directory_that_cannot_exist_has_its_code(faulty: FaultySite, tmp_path: Path) -> None:
    blocking = tmp_path / "file"
    blocking.touch()
    with bare_site(tmp_path / "loader", faulty.api.url, MODEL_CACHE_DIR=f"{blocking}/models") as running:
        assert login(running.url).status == 200
        detail = upload(running.url, "m", "x", b"1").problem(500, "STORAGE_ERROR")["detail"]
        assert f"{blocking}/models" in detail
        call(running.url, "GET", "/status").problem(500, "STORAGE_ERROR")
        assert faulty.api.requests("PUT") == []


@pytest.mark.parametrize("path", ["/nothing", "/load", "/load/", "/load/a/b", "/upload/a%2Fb", "/status/", "/%00"])
def test_an_unknown_path_gets_problem_details(lonely: BareSite, path: str) -> None:
    for method in ("GET", "POST"):
        call(lonely.url, method, path).problem(404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/status", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/ready", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/login", {"POST", "OPTIONS"}),
        ("GET", "/lock", {"POST", "OPTIONS"}),
        ("PUT", "/load/x", {"POST", "OPTIONS"}),
        ("GET", "/upload/x", {"POST", "OPTIONS"}),
        ("GET", "/unlock", {"POST", "OPTIONS"}),
        ("POST", "/unlock/status", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_wrong_method_gets_problem_details(lonely: BareSite, method: str, path: str, allowed: set[str]) -> None:
    reply = call(lonely.url, method, path)
    reply.problem(405, "METHOD_NOT_ALLOWED")
    assert set(reply.headers["Allow"].split(", ")) == allowed


def test_the_response_to_an_unexpected_failure_hides_its_text() -> None:
    app = Flask("unforeseen")
    register_error_handlers(app)

    @app.get("/")
    def broken() -> str:
        raise KeyError("http://user:planted-password@host")

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.json["code"] if answer.json else None) == (500, "INTERNAL")
    assert b"planted" not in answer.data
    assert b"KeyError" not in answer.data


@pytest.mark.parametrize("size", [1 * MIB, 32 * MIB])
def test_the_body_is_drained_before_an_error_so_that_the_client_gets_the_response(lonely: BareSite, size: int) -> None:
    upload(lonely.url, "m", "x", bytes(size)).problem(401, "NOT_LOGGED_IN")


def test_a_client_that_announces_a_body_and_is_silent_gets_its_error(lonely: BareSite) -> None:
    with open_socket(lonely.url) as connection:
        connection.settimeout(8)
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 404 ")
