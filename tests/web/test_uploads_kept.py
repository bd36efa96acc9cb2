"""POST /upload/{filename} with Upload-Offset: uploads that go on after a cut, and what ends them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.faulty_api import Fault
from tests.support.http_calls import (
    BOUNDARY,
    CREDENTIALS,
    Reply,
    call,
    form,
    load,
    login,
    open_socket,
    part,
    post_form,
    post_json,
)
from tests.support.processes import poll
from tests.support.sealed_objects import debris
from tests.support.sites import FaultySite, faulty_site
from tests.support.upload_api import UploadApi

MIB = 1 << 20
CONTENT = bytes(range(251)) * (10 * MIB // 251)
HALF = 6 * MIB
SECONDS = 20
FORBIDDEN = Fault(403, b'{"code": "FORBIDDEN"}', {"Content-Type": "application/problem+json"})
OTHER_USER = {"email": "other@example.org", "password": "planted-other"}


@dataclass(frozen=True)
class KeptSite(FaultySite):
    """A loader that is logged in at an API that takes parts."""

    api: UploadApi

    def offset(self, name: str = "x") -> dict[str, Any]:
        """Return where the upload of a model in the folder `m` goes on."""
        reply = post_json(self.url, f"/upload/{name}/offset", {"filename": name, "folder": "m"})
        assert reply.status == 200
        return dict(reply.json())

    def go_on(self, offset: int, content: bytes = CONTENT, *, prefix: bytes | None = None, name: str = "x") -> Reply:
        """Send what follows the offset, with the hash of `prefix`, or of what is before it."""
        digest = hashlib.sha256(content[:offset] if prefix is None else prefix).hexdigest()
        headers = {"Upload-Offset": str(offset), "Upload-Prefix-SHA256": digest}
        body = form(part("folder", b"m"), part("file", content[offset:], filename="x"))
        content_type = f"multipart/form-data; boundary={BOUNDARY}"
        return call(self.url, "POST", f"/upload/{name}", body, {**headers, "Content-Type": content_type})

    def begin_and_go(self, content: bytes = CONTENT, size: int = HALF, name: str = "x") -> int:
        """Begin an upload, and disconnect after about `size` bytes. Return where it goes on."""
        before = len(self.audit_lines("upload"))
        body = form(part("folder", b"m"), part("file", content, filename="x"))
        with open_socket(self.url) as connection:
            connection.sendall(head_of(name, len(body)) + body[:size])
        assert self.next_audit_line("upload", before)["code"] == "BODY_TRUNCATED"
        offset = int(self.offset(name)["offset"])
        assert 0 < offset <= size
        return offset

    def wait_until_gone(self) -> None:
        """Wait until nothing of an upload is left on the device or at the API."""
        poll(lambda: not self.api.uploads, SECONDS, "the upload is removed at the API")
        poll(lambda: debris(self.models) == [], SECONDS, "the upload is removed from the cache")


def head_of(name: str, length: int) -> bytes:
    return (
        f"POST /upload/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Upload-Offset: 0\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@contextmanager
def kept_site(directory: Path, **env: str) -> Iterator[KeptSite]:
    with faulty_site(directory, UploadApi, **env) as running:
        yield KeptSite(running.loader, running.models, cast("UploadApi", running.api))


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptSite]:
    """Use `site`."""
    with kept_site(tmp_path_factory.mktemp("kept")) as running:
        yield running


@pytest.fixture
def site(shared_site: KeptSite) -> Iterator[KeptSite]:
    shared_site.api.reset()
    assert login(shared_site.url, CREDENTIALS).status == 200
    yield shared_site
    assert call(shared_site.url, "POST", "/lock").status == 200
    shared_site.empty_cache()


def test_an_upload_goes_on_where_it_was_cut(site: KeptSite) -> None:
    offset = site.begin_and_go()
    # The API removes nothing meanwhile, and gets no part twice.
    assert site.go_on(offset).status == 200
    assert len(site.api.uploads) == 1
    sent = [put.path for put in site.api.parts_sent()]
    assert len(sent) == len(set(sent))
    assert site.audit_lines("upload")[-1]["bytes"] == len(CONTENT)
    site.empty_cache()
    assert load(site.url, "m", "x").body == CONTENT


def test_an_upload_goes_on_as_often_as_it_is_cut(site: KeptSite) -> None:
    offset = site.begin_and_go(size=MIB)
    while offset < len(CONTENT):
        rest = form(part("folder", b"m"), part("file", CONTENT[offset : offset + 3 * MIB]))
        digest = hashlib.sha256(CONTENT[:offset]).hexdigest()
        head = head_of("x", len(rest) + 100).replace(b"Upload-Offset: 0", f"Upload-Offset: {offset}".encode())
        head = head.replace(b"Content-Length", f"Upload-Prefix-SHA256: {digest}\r\nContent-Length".encode())
        before = len(site.audit_lines("upload"))
        with open_socket(site.url) as connection:
            connection.sendall(head + rest)
        site.next_audit_line("upload", before)
        offset = site.offset()["offset"]
    # The whole file has arrived, but no form has ended.
    assert site.api.objects == {}
    assert site.go_on(len(CONTENT)).status == 200
    assert load(site.url, "m", "x").body == CONTENT


@pytest.mark.parametrize(
    ("shift", "prefix"),
    [(0, b"others"), (-1, None), (1, None)],
    ids=["other bytes", "an offset that is too small", "an offset that is too large"],
)
def test_only_the_same_beginning_goes_on(site: KeptSite, shift: int, prefix: bytes | None) -> None:
    offset = site.begin_and_go()
    site.go_on(offset + shift, prefix=prefix).problem(409, "UPLOAD_MISMATCH")
    # Nothing is lost for the client that has the right one.
    assert site.offset() == {"offset": offset, "complete": False}
    assert site.go_on(offset).status == 200
    assert load(site.url, "m", "x").body == CONTENT


def test_another_file_begins_anew(site: KeptSite) -> None:
    site.begin_and_go()
    other = CONTENT[::-1]
    assert site.go_on(0, other).status == 200
    poll(lambda: len(site.api.removed) == 1, SECONDS, "the first upload is removed at the API")
    assert load(site.url, "m", "x").body == other
    poll(lambda: debris(site.models) == [], SECONDS, "the first upload is removed from the cache")


def test_a_file_that_is_replaced_is_not_published_although_it_has_arrived(site: KeptSite) -> None:
    small, other = "/resources/m/x.small", CONTENT[::-1]
    site.api.answer("GET", small, Fault(404, silent=True), Fault(404))
    with ThreadPoolExecutor(2) as pool:
        older = pool.submit(site.go_on, 0)
        poll(lambda: site.api.requests("GET", small), SECONDS, "the big part is stored")
        sent = len(site.api.parts_sent())
        newer = pool.submit(site.go_on, 0, other)
        poll(lambda: len(site.api.parts_sent()) > sent, SECONDS, "the other file arrives")
        site.api.resume()
        older.result().problem(400, "BODY_TRUNCATED")
        assert newer.result().status == 200
    assert len(site.api.requests("PUT", small)) == 1
    site.api.answer("GET", small)
    assert load(site.url, "m", "x").body == other


def test_a_model_without_an_upload_has_no_offset(site: KeptSite) -> None:
    assert site.offset() == {"offset": 0, "complete": False}
    site.go_on(5).problem(409, "UPLOAD_MISMATCH")


def test_a_plain_upload_is_not_kept(site: KeptSite) -> None:
    body = form(part("folder", b"m"), part("file", CONTENT, filename="x"))
    with open_socket(site.url) as connection:
        connection.sendall(head_of("x", len(body)).replace(b"Upload-Offset: 0\r\n", b"") + body[:HALF])
    site.wait_until_gone()
    assert site.offset() == {"offset": 0, "complete": False}


def test_a_lost_response_is_sent_again(site: KeptSite) -> None:
    assert site.go_on(0).status == 200
    assert site.offset() == {"offset": len(CONTENT), "complete": True}
    puts = len(site.api.requests("PUT"))
    assert site.go_on(len(CONTENT)).status == 200
    assert len(site.api.requests("PUT")) == puts
    # The file has grown since.
    site.go_on(len(CONTENT), CONTENT + b"more").problem(409, "UPLOAD_MISMATCH")
    assert load(site.url, "m", "x").body == CONTENT


def test_a_failed_upload_does_not_go_on(site: KeptSite) -> None:
    offset = site.begin_and_go()
    site.api.uploads.clear()
    site.api.answer("POST", "/uploads", FORBIDDEN)
    site.go_on(offset).problem(403, "FORBIDDEN")
    assert site.offset() == {"offset": 0, "complete": False}
    assert site.api.objects == {}


def test_a_second_connection_takes_the_place_of_a_silent_one(site: KeptSite) -> None:
    before = len(site.audit_lines("upload"))
    body = form(part("folder", b"m"), part("file", CONTENT, filename="x"))
    with open_socket(site.url) as silent:
        silent.sendall(head_of("x", len(body)) + body[:HALF])
        poll(lambda: len(site.api.parts_sent()) > 1, SECONDS, "the first parts")
        offset = site.offset()["offset"]
        assert site.go_on(offset).status == 200
        silent.sendall(body[HALF : HALF + 3 * MIB])
        site.next_audit_line("upload", before + 1)
    reasons = {line["code"]: line["reason"] for line in site.audit_lines("upload")[before:]}
    assert reasons == {None: None, "BODY_TRUNCATED": "Another connection goes on with this upload."}
    assert load(site.url, "m", "x").body == CONTENT


def test_a_lock_ends_an_upload_that_waits(site: KeptSite) -> None:
    site.begin_and_go()
    assert call(site.url, "POST", "/lock").status == 200
    site.wait_until_gone()
    login(site.url, CREDENTIALS)
    assert site.offset() == {"offset": 0, "complete": False}


def test_another_user_ends_an_upload_that_waits(site: KeptSite) -> None:
    site.begin_and_go()
    assert login(site.url, OTHER_USER).status == 200
    assert site.offset() == {"offset": 0, "complete": False}
    site.wait_until_gone()
    assert login(site.url, CREDENTIALS).status == 200
    assert site.offset() == {"offset": 0, "complete": False}


def test_few_uploads_wait_for_their_clients(site: KeptSite) -> None:
    names = [f"x{number}" for number in range(6)]
    offsets = {name: site.begin_and_go(name=name) for name in names}
    assert [site.offset(name)["offset"] for name in names] == [0, 0, *[offsets[name] for name in names[2:]]]
    poll(lambda: len(site.api.uploads) == 4, SECONDS, "those that were dropped are removed at the API")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Upload-Offset": "-1"}, "Upload-Offset"),
        ({"Upload-Offset": "1e3"}, "Upload-Offset"),
        ({"Upload-Offset": ""}, "Upload-Offset"),
        ({"Upload-Offset": "9" * 19}, "Upload-Offset"),
        ({"Upload-Offset": "5"}, "Upload-Prefix-SHA256"),
        ({"Upload-Offset": "5", "Upload-Prefix-SHA256": "A" * 64}, "Upload-Prefix-SHA256"),
        ({"Upload-Offset": "5", "Upload-Prefix-SHA256": "a" * 63}, "Upload-Prefix-SHA256"),
        ({"Upload-Prefix-SHA256": "{}"}, "Upload-Prefix-SHA256"),
    ],
)
def test_malformed_headers_are_refused(site: KeptSite, headers: dict[str, str], field: str) -> None:
    body = form(part("folder", b"m"), part("file", b"content", filename="x"))
    content_type = f"multipart/form-data; boundary={BOUNDARY}"
    reply = call(site.url, "POST", "/upload/x", body, {**headers, "Content-Type": content_type})
    assert list(reply.problem(422, "VALIDATION_FAILED")["errors"]) == [field]


def test_the_folder_comes_first_in_an_upload_that_is_kept(site: KeptSite) -> None:
    body = form(part("file", b"content", filename="x"), part("folder", b"m"))
    content_type = f"multipart/form-data; boundary={BOUNDARY}"
    reply = call(site.url, "POST", "/upload/x", body, {"Upload-Offset": "0", "Content-Type": content_type})
    assert list(reply.problem(422, "VALIDATION_FAILED")["errors"]) == ["folder"]


def test_the_offset_needs_a_login(site: KeptSite) -> None:
    assert call(site.url, "POST", "/lock").status == 200
    post_json(site.url, "/upload/x/offset", {"filename": "x", "folder": "m"}).problem(401, "NOT_LOGGED_IN")
    post_json(site.url, "/upload/x/offset", {"filename": "y", "folder": "m"}).problem(422, "VALIDATION_FAILED")
    assert post_form(site.url, "/upload/x", form(part("folder", b"m"), part("file", b"x"))).status == 401


@pytest.mark.long
def test_an_upload_waits_for_a_limited_time(tmp_path: Path) -> None:
    haste = '{"loader.patience.FIRST_WAIT": 0.03, "loader.uploads.kept.KEEP_SECONDS": 1.0}'
    with kept_site(tmp_path, HASTE=haste) as site:
        site.begin_and_go()
        site.wait_until_gone()
        assert site.offset() == {"offset": 0, "complete": False}
