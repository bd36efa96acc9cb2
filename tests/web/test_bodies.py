"""JSON bodies: their type, their limit, their announced length and their grammar."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.http_calls import CREDENTIALS, call, open_socket, parse_reply, send_and_close
from tests.support.sites import BareSite, FaultySite

LIMIT = 64 * 1024
JSON = {"Content-Type": "application/json"}
NO_JSON = [b"", b"{", b"{'a': 1}", b"\xff\xff", b"[" * 60_000, b"1" * 5_000, b"{}{}", b"\x00"]
PATHS = ("/login", "/load/x", "/unlock")


def padded(size: int) -> bytes:
    """Return credentials as exactly `size` bytes of JSON."""
    body = json.dumps(CREDENTIALS).encode()
    return body + b" " * (size - len(body))


def pieces(body: bytes) -> Iterator[bytes]:
    """`body` in chunks."""
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("chunked", [False, True])
def test_the_largest_body_is_accepted_and_one_byte_more_is_refused(faulty: FaultySite, chunked: bool) -> None:
    for size in (LIMIT, LIMIT + 1, 4 * LIMIT):
        body = padded(size)
        reply = call(faulty.url, "POST", "/login", pieces(body) if chunked else body, JSON)
        if size == LIMIT:
            assert reply.status == 200
        else:
            reply.problem(413, "PAYLOAD_TOO_LARGE")
    assert len(faulty.api.requests("POST", "/login")) == 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "media_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_other_content_types_are_refused(lonely: BareSite, path: str, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    call(lonely.url, "POST", path, json.dumps(CREDENTIALS).encode(), headers).problem(415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
def test_every_spelling_of_the_content_type_is_accepted(lonely: BareSite, media_type: str) -> None:
    call(lonely.url, "POST", "/login", b"{}", {"Content-Type": media_type}).problem(422, "VALIDATION_FAILED")


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: str(body[:8]))
@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_not_json_is_refused(lonely: BareSite, path: str, body: bytes) -> None:
    call(lonely.url, "POST", path, body, JSON).problem(400, "NOT_JSON")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sent", [0, 1, 40])
def test_body_shorter_than_announced_is_refused_even_if_it_parses(lonely: BareSite, path: str, sent: int) -> None:
    body = padded(100)[:sent]
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    parse_reply(send_and_close(lonely.url, head.encode() + body)).problem(400, "BODY_TRUNCATED")
    parsable = parse_reply(send_and_close(lonely.url, head.encode() + json.dumps(CREDENTIALS).encode()))
    parsable.problem(400, "BODY_TRUNCATED")


def test_chunked_body_without_its_end_is_refused(lonely: BareSite) -> None:
    typed = "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    head = f"{typed}\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = json.dumps(CREDENTIALS)
    raw = send_and_close(lonely.url, f"{head}{len(body):x}\r\n{body}\r\n".encode())
    parse_reply(raw).problem(400, "BODY_TRUNCATED")


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"-1\r\n", b"2\r\n{}}\r\n", b"0\r\nno trailer\r\n\r\n"], ids=ascii)
@pytest.mark.parametrize("path", PATHS)
def test_broken_chunks_are_refused(lonely: BareSite, path: str, chunks: bytes) -> None:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked", "Content-Type: application/json"]
    raw = send_and_close(lonely.url, "\r\n".join([*lines, "", ""]).encode() + chunks)
    parse_reply(raw).problem(400, "BODY_TRUNCATED")


def test_broken_chunks_of_an_unused_body_do_not_change_the_response(lonely: BareSite) -> None:
    head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    parse_reply(send_and_close(lonely.url, head + b"zz\r\n")).problem(404, "NOT_FOUND")


def test_client_that_closes_in_the_middle_leaves_an_audit_line(lonely: BareSite) -> None:
    before = len(lonely.audit_lines("login"))
    with open_socket(lonely.url) as connection:
        connection.sendall(
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
    line = lonely.next_audit_line("login", before)
    assert (line["outcome"], line["code"]) == ("failed", "BODY_TRUNCATED")


@pytest.mark.parametrize("escaped", [True, False])
def test_text_with_lone_surrogates_is_refused_by_field_beside_other_complaints(lonely: BareSite, escaped: bool) -> None:
    body = json.dumps({"email": "\ud800", "password": ""}, ensure_ascii=escaped).encode(errors="surrogatepass")
    for path in ("/login", "/unlock"):
        problem = call(lonely.url, "POST", path, body, JSON).problem(422, "VALIDATION_FAILED")
        assert problem["errors"]["email"] == ["Must be Unicode text."]
        assert set(problem["errors"]) == {"email", "password"}
