"""POST /load/{filename} and POST /upload/{filename}, from the client to the API and back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import requests

from tests.support.faulty_api import Fault
from tests.support.flips import flipped
from tests.support.http_calls import (
    BOUNDARY,
    call,
    form,
    load,
    open_socket,
    parse_reply,
    part,
    post_form,
    send_and_close,
    upload,
)
from tests.support.missing import missing
from tests.support.sealed_objects import BOUNDARY_SIZES, HEAD_PLAINTEXT, debris, seal
from tests.support.sites import FaultySite, Site

MIB = 1 << 20
PATTERN = bytes(range(251)) * 4096
FORM_HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def content_of(size: int) -> bytes:
    """Return `size` bytes whose segments all differ."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


@pytest.mark.parametrize("file_first", [False, True], ids=["folder first", "file first"])
@pytest.mark.parametrize("size", BOUNDARY_SIZES)
def test_a_load_returns_what_was_uploaded(site: Site, size: int, file_first: bool) -> None:
    content, name = content_of(size), f"round-trip-{size}-{file_first}"
    reply = upload(site.url, "models/day", name, content, file_first=file_first)
    assert (reply.status, reply.json()) == (200, {"status": "ok"})
    loaded = load(site.url, "models/day", name)
    assert loaded.status == 200
    assert loaded.body == content
    assert loaded.headers["Content-Type"] == "application/octet-stream"
    assert loaded.headers["Content-Length"] == str(size)
    assert loaded.headers["Cache-Control"] == "no-store"
    assert loaded.headers["X-Accel-Buffering"] == "no"
    assert debris(site.models) == []


@pytest.mark.parametrize("size", [0, 1000, HEAD_PLAINTEXT, HEAD_PLAINTEXT + 1, 3 * MIB])
def test_api_stores_no_plaintext_and_a_big_object_only_if_needed(site: Site, size: int) -> None:
    content = (b"planted plaintext of the model " * (size // 16 + 1))[:size]
    assert upload(site.url, "stored", f"f{size}", content).status == 200
    found = {
        path.name: path.read_bytes() for path in site.stored("stored").iterdir() if path.name.startswith(f"f{size}.")
    }
    assert not [name for name, data in found.items() if b"planted plaintext" in data]
    assert len(found) == (1 if size <= HEAD_PLAINTEXT else 2)


def test_a_later_upload_replaces_the_earlier_one(site: Site) -> None:
    for content in (content_of(3 * MIB), b"short", b"", content_of(2 * MIB)):
        assert upload(site.url, "m", "again", content).status == 200
        assert load(site.url, "m", "again").body == content


def test_equal_contents_are_stored_differently(site: Site) -> None:
    for name in ("twin-1", "twin-2"):
        assert upload(site.url, "m", name, bytes(100_000)).status == 200
    first, second = (site.stored(f"m/twin-{number}.small").read_bytes() for number in (1, 2))
    assert first != second
    assert first[-1000:] != second[-1000:]


def test_clients_of_all_kinds_can_upload(site: Site, tmp_path: Path) -> None:
    content = content_of(2 * MIB + 5)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    curl = shutil.which("curl")
    if curl is None:
        missing("curl", "not installed")
    url = f"{site.url}/upload/by-curl"
    command = [curl, "--silent", "--show-error", "--fail", "-F", f"file=@{path}", "-F", "folder=clients", url]
    assert subprocess.run(command, check=True, capture_output=True).stdout.strip() == b'{"status":"ok"}'
    with path.open("rb") as file:
        reply = requests.post(
            f"{site.url}/upload/by-requests", files={"file": file}, data={"folder": "clients"}, timeout=30
        )
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})
    body = b"a preamble\r\n" + form(part("file", content), part("folder", b"clients")) + b"an epilogue"
    assert post_form(site.url, "/upload/by-hand", body).status == 200
    for name in ("by-curl", "by-requests", "by-hand"):
        assert load(site.url, "clients", name).body == content


def test_forms_of_other_clients_are_uploads_too(site: Site, tmp_path: Path) -> None:
    content = content_of(2 * MIB + 5)
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + "модель".encode("cp1251")))
    path.write_bytes(content)
    curl = shutil.which("curl")
    if curl is None:
        missing("curl", "not installed")
    command = [curl, "--silent", "--show-error", "--fail", "-F", "_charset_=cp1251", "-F", f"data=@{path}"]
    subprocess.run([*command, "-F", "submit=Upload", f"{site.url}/upload/by-curl"], check=True, capture_output=True)
    with path.open("rb") as file:
        reply = requests.post(
            f"{site.url}/upload/by-requests", files={"data": ("n" * 5000, file)}, data={"x": "y"}, timeout=30
        )
    assert reply.status_code == 200
    for name in ("by-curl", "by-requests"):
        assert load(site.url, "models", name).body == content


def test_chunked_upload_is_refused(site: Site) -> None:
    body = form(part("folder", b"m"), part("file", bytes(3 * MIB)))
    call(site.url, "POST", "/upload/x", iter([body]), FORM_HEADERS).problem(411, "LENGTH_REQUIRED")


@pytest.mark.parametrize("media_type", ["multipart/form-data", "application/octet-stream", "application/json"])
def test_upload_of_another_type_is_refused(site: Site, media_type: str) -> None:
    reply = call(site.url, "POST", "/upload/x", b"{}", {"Content-Type": media_type})
    reply.problem(415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("file_first", [False, True])
@pytest.mark.parametrize("kept", [0, 100, 2 * MIB, 3 * MIB])
def test_upload_that_ends_early_is_refused_and_stores_nothing(site: Site, kept: int, file_first: bool) -> None:
    site.api.forget_requests()
    parts = [part("folder", b"m"), part("file", bytes(3 * MIB), filename="x")]
    body = form(*(reversed(parts) if file_first else parts))
    head = f"POST /upload/early HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM_HEADERS['Content-Type']}\r\n"
    sent_less = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:kept]
    parse_reply(send_and_close(site.url, sent_less)).problem(400, "BODY_TRUNCATED")
    without_end = f"{head}Content-Length: {kept}\r\nConnection: close\r\n\r\n".encode() + body[:kept]
    parse_reply(send_and_close(site.url, without_end)).problem(400, "BODY_TRUNCATED")
    assert site.api.requests() == []
    assert debris(site.models) == []


def test_an_upload_whose_client_disconnects_is_audited(site: Site) -> None:
    before = len(site.audit_lines("upload"))
    body = form(part("folder", b"m"), part("file", bytes(3 * MIB), filename="x"))
    head = f"POST /upload/gone HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM_HEADERS['Content-Type']}\r\n"
    with open_socket(site.url) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: 2 * MIB])
    line = site.next_audit_line("upload", before)
    assert (line["outcome"], line["code"], line["file"]) == ("failed", "BODY_TRUNCATED", "gone")


NEVER = range(1)
# The number of downloads: the whole part, then the damaged segment alone, then both once more.
ANEW = range(1, 5)
# A changed letter of the key makes another key, or an invalid one if the letter is not in base64.
EITHER = range(5)


def empty_cache(site: Site) -> None:
    """Remove what an upload left in the cache, so that the next load downloads it."""
    for path in site.models.glob("*.big"):
        path.unlink()


@pytest.mark.parametrize(
    ("suffix", "position", "fetched_big"),
    [
        (".small", 3, NEVER),
        (".small", 13, NEVER),
        (".small", 20, EITHER),
        (".small", -1, ANEW),
        (".small", -65_536, ANEW),
        (".big", 0, ANEW),
        (".big", 900_000, ANEW),
    ],
)
def test_damage_on_the_disk_of_the_api_is_reported_after_one_more_download(
    site: Site, suffix: str, position: int, fetched_big: range
) -> None:
    assert upload(site.url, "damaged", "x", content_of(3 * MIB)).status == 200
    (small,) = site.stored("damaged").glob("x.small")
    (big,) = site.stored("damaged").glob("x.*.big")
    target = small if suffix == ".small" else big
    target.write_bytes(flipped(target.read_bytes(), position))
    empty_cache(site)
    site.api.forget_requests()
    reply = load(site.url, "damaged", "x")
    small.unlink()
    big.unlink()
    reply.problem(502, "RESOURCE_CORRUPT")
    assert len(site.api.requests("GET", "/resources/damaged/x.small")) == 2
    assert len(site.api.requests("GET", f"/resources/damaged/{big.name}")) in fetched_big


def test_objects_of_another_resource_count_as_damage(site: Site) -> None:
    assert upload(site.url, "m", "mine", b"mine").status == 200
    shutil.copy(site.stored("m/mine.small"), site.stored("m/stolen.small"))
    load(site.url, "m", "stolen").problem(502, "RESOURCE_CORRUPT")


def test_a_big_object_of_another_size_on_the_disk_of_the_api_counts_as_damage(site: Site) -> None:
    assert upload(site.url, "sizes", "x", content_of(900_000)).status == 200
    (big,) = site.stored("sizes").glob("x.*.big")
    whole = big.read_bytes()
    for wrong in (b"", whole[:-1], whole + b"x"):
        empty_cache(site)
        big.write_bytes(wrong)
        load(site.url, "sizes", "x").problem(502, "RESOURCE_CORRUPT")
    big.write_bytes(whole)
    assert load(site.url, "sizes", "x").body == content_of(900_000)


@pytest.mark.parametrize("which", ["small", "big"])
def test_resource_that_was_repaired_in_between_is_served(faulty: FaultySite, which: str) -> None:
    content = content_of(3 * MIB)
    sealed = seal("m", "x", content)
    faulty.api.objects.update(sealed.as_objects())
    path, data = (sealed.small_path, sealed.small) if which == "small" else (sealed.big_path, sealed.big)
    faulty.api.answer("GET", path, Fault(body=flipped(data, 100)), Fault(body=data))
    reply = load(faulty.url, "m", "x")
    assert (reply.status, reply.body) == (200, content)
    assert len(faulty.api.requests("GET", sealed.small_path)) == (2 if which == "small" else 1)


def test_an_error_of_the_api_is_not_retried(faulty: FaultySite) -> None:
    faulty.api.answer("GET", "/resources/m/x.small", Fault(500))
    load(faulty.url, "m", "x").problem(502, "API_ERROR")
    assert len(faulty.api.requests("GET")) == 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(500), 502, "API_ERROR"),
        (Fault(507), 502, "API_ERROR"),
        (Fault(404), 502, "API_ERROR"),
        (Fault(302, headers={"Location": "/elsewhere"}), 502, "API_PROTOCOL"),
        (Fault(202), 502, "API_PROTOCOL"),
        (Fault(silent=True), 503, "API_UNREACHABLE"),
    ],
)
def test_small_object_is_not_published_if_the_big_one_is_refused(
    faulty: FaultySite, fault: Fault, status: int, code: str
) -> None:
    before = len(faulty.audit_lines("upload"))
    # The path of the big object is known only after the upload, because its name is random.
    faulty.api.answer_all("PUT", fault)
    upload(faulty.url, "m", "x", bytes(MIB)).problem(status, code)
    (path,) = {put.path for put in faulty.api.requests("PUT")}
    assert path.endswith(".big")
    assert faulty.next_audit_line("upload", before)["code"] == code


def test_big_object_is_published_before_the_small_one(faulty: FaultySite) -> None:
    assert upload(faulty.url, "m", "x", bytes(MIB)).status == 200
    big, small = faulty.api.requests("PUT")
    assert small.path == "/resources/m/x.small"
    assert re.fullmatch(r"/resources/m/x\.[0-9a-f]{32}\.big", big.path)
    for put in (big, small):
        assert put.headers["content-length"] == str(put.body_bytes)
        assert put.headers["authorization"].startswith("Bearer token-")


def test_token_that_expires_during_an_upload_is_renewed_and_the_body_sent_whole(faulty: FaultySite) -> None:
    faulty.api.valid_token = "a token that nobody has"
    assert upload(faulty.url, "m", "x", content_of(3 * MIB)).status == 200
    assert len(faulty.api.requests("POST", "/login")) == 1
    refused, big, small = faulty.api.requests("PUT")
    assert (refused.path, refused.body_sha256) == (big.path, big.body_sha256)
    assert small.path.endswith(".small")
    assert load(faulty.url, "m", "x").body == content_of(3 * MIB)
