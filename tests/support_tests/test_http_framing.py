"""The reader of requests finds the same requests however the bytes of a connection are split."""

from __future__ import annotations

import pytest

from tests.support.http_framing import RecordedRequest, RequestReader

CONVERSATION = (
    b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    b"POST /images/load?quiet=0 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"14;name=value\r\nGET /trap HTTP/1.1\r\n\r\n"
    b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
    b"PUT /archive HTTP/1.1\r\ncontent-length: 23\r\n\r\nGET /trap HTTP/1.1\r\n\r\nx"
    b"POST /exec/start HTTP/1.1\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}GET /trap HTTP/1.1\r\n\r\n"
)
SEEN = [
    RecordedRequest("GET", "/_ping", 0),
    RecordedRequest("POST", "/images/load?quiet=0", 23),
    RecordedRequest("PUT", "/archive", 23),
    RecordedRequest("POST", "/exec/start", 0),
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, len(CONVERSATION)])
def test_requests_are_found_in_pieces_of_any_size(step: int) -> None:
    seen: list[RecordedRequest] = []
    reader = RequestReader(seen.append)
    for start in range(0, len(CONVERSATION), step):
        reader.feed(CONVERSATION[start : start + step])
    assert seen == SEEN


@pytest.mark.parametrize(
    "conversation",
    [
        b"\x16\x03\x01 what a TLS client says\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        b"GET /" + b"x" * 70_000,
    ],
)
def test_bytes_that_are_not_http_requests_are_refused(conversation: bytes) -> None:
    seen: list[RecordedRequest] = []
    with pytest.raises(ValueError, match=r"."):
        RequestReader(seen.append).feed(conversation)
