"""Bodies that are read straight from the socket, by gunicorn's own parser of requests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.body import Body
from gunicorn.http.parser import RequestParser

from loader.server.body import DirectBody, read_directly

CONTENT = b"0123\n56789"
HEAD = b"POST /first HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(CONTENT)
NEXT = b"GET /next HTTP/1.1\r\n\r\n"


class Server:
    """One connection: its parser, and the request that came first."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.parser: Any = RequestParser(Config(), connection, ("127.0.0.1", 1))

    def first(self) -> Any:
        request = next(self.parser)
        read_directly(request)
        return request


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Server]]:
    client, connection = socket.socketpair()
    with client, connection:
        yield client, Server(connection)


@pytest.mark.parametrize("size", [1, 3, len(CONTENT), 100])
@pytest.mark.parametrize("early", [b"", CONTENT[:4], CONTENT, CONTENT + NEXT])
def test_a_body_is_read_exactly_and_the_next_request_follows(
    ends: tuple[socket.socket, Server], size: int, early: bytes
) -> None:
    client, server = ends
    client.sendall(HEAD + early)
    body = server.first().body
    assert isinstance(body, DirectBody)
    client.sendall((CONTENT + NEXT)[len(early) :])
    pieces = list(iter(lambda: body.read(size), b""))
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) <= size
    assert next(server.parser).path == "/next"


def test_a_read_does_not_wait_for_more_than_what_has_come(ends: tuple[socket.socket, Server]) -> None:
    client, server = ends
    client.sendall(HEAD)
    body = server.first().body
    for piece in (CONTENT[:3], CONTENT[3:]):
        client.sendall(piece)
        assert body.read(100) == piece


def test_without_a_size_all_is_read(ends: tuple[socket.socket, Server]) -> None:
    client, server = ends
    client.sendall(HEAD + CONTENT[:2])
    body = server.first().body
    client.sendall(CONTENT[2:] + NEXT)
    assert body.read(1) + body.read() == CONTENT


def test_lines_and_reads_may_follow_each_other(ends: tuple[socket.socket, Server]) -> None:
    client, server = ends
    client.sendall(HEAD + CONTENT + NEXT)
    body = server.first().body
    assert body.readline() == CONTENT[:5]
    assert b"".join(iter(lambda: body.read(2), b"")) == CONTENT[5:]
    assert next(server.parser).path == "/next"


def test_what_the_application_does_not_read_is_dropped(ends: tuple[socket.socket, Server]) -> None:
    client, server = ends
    client.sendall(HEAD + CONTENT[:1])
    body = server.first().body
    assert body.read(1) == CONTENT[:1]
    client.sendall(CONTENT[1:] + NEXT)
    assert next(server.parser).path == "/next"


def test_a_client_that_leaves_ends_the_body(ends: tuple[socket.socket, Server]) -> None:
    client, server = ends
    client.sendall(HEAD + CONTENT[:3])
    body = server.first().body
    client.close()
    assert [body.read(100) for _ in range(3)] == [CONTENT[:3], b"", b""]


def test_a_connection_whose_body_failed_serves_no_other_request(ends: tuple[socket.socket, Server]) -> None:
    client, server = ends
    client.sendall(HEAD)
    body = server.first().body
    server.connection.settimeout(0.01)
    with pytest.raises(TimeoutError):
        body.read(1)
    client.sendall(CONTENT + NEXT)
    assert server.parser.finish_body() is False


def test_a_body_of_chunks_is_left_to_gunicorn(ends: tuple[socket.socket, Server]) -> None:
    client, server = ends
    client.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    body = server.first().body
    assert type(body) is Body
    assert body.read(100) == b"abc"
