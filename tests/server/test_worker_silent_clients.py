"""Clients that connect and say nothing, or not enough: they have their time, and no thread but their own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.http_calls import call, login, open_socket, parse_reply
from tests.support.processes import poll
from tests.support.range_sites import hasty_device
from tests.support.sites import NOBODY_LISTENS, BareSite

THREADS = 32
CONNECTIONS = 40
HEADERS_SECONDS = 1.0
JSON_SECONDS = 1.5
PROBE_MAX_SECONDS = 1.0
DRIP_SECONDS = 0.2
SECONDS = 20.0
# A connection without a deadline would stay for longer.
LATE_SECONDS = 15.0
HALF_A_HEAD = b"GET /health HTTP/1.1\r\nHost: local"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareSite]:
    """A loader with the threads that it has by default and little patience."""
    haste = {
        "loader.server.worker.HEAD_SECONDS": HEADERS_SECONDS,
        "loader.web.bodies.JSON_SECONDS": JSON_SECONDS,
    }
    with hasty_device(tmp_path_factory.mktemp("silent"), NOBODY_LISTENS, haste, LOADER_THREADS=str(THREADS)) as bare:
        yield bare


def connections(running: BareSite, opened: ExitStack, first_bytes: bytes = b"") -> list[socket.socket]:
    made = [opened.enter_context(open_socket(running.url)) for _ in range(CONNECTIONS)]
    for connection in made:
        connection.sendall(first_bytes)
    return made


def seconds_of_status(running: BareSite) -> float:
    """Of a request that has no thread of its own, as `/health` has."""
    started = time.monotonic()
    assert call(running.url, "GET", "/status").status == 200
    return time.monotonic() - started


def ended(connection: socket.socket) -> bool:
    """Whether the loader has closed it without an answer."""
    connection.settimeout(SECONDS)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def drip(connection: socket.socket) -> float:
    """Send a byte now and then until the loader has had enough; the seconds that it took."""
    started = time.monotonic()

    def has_had_enough() -> bool:
        connection.settimeout(DRIP_SECONDS)
        try:
            connection.sendall(b"x")
            return len(connection.recv(1, socket.MSG_PEEK)) >= 0
        except TimeoutError:
            return False
        except OSError:
            return True

    poll(has_had_enough, SECONDS, "the loader ends the connection")
    return time.monotonic() - started


def test_silent_connections_take_no_thread(running: BareSite) -> None:
    with ExitStack() as opened:
        connections(running, opened)
        assert max(seconds_of_status(running) for _ in range(5)) < PROBE_MAX_SECONDS


def test_silent_connections_are_closed(running: BareSite) -> None:
    with open_socket(running.url) as connection:
        started = time.monotonic()
        assert ended(connection)
        assert time.monotonic() - started < LATE_SECONDS


def test_half_a_head_keeps_nobody_waiting(running: BareSite) -> None:
    with ExitStack() as opened:
        slow = connections(running, opened, HALF_A_HEAD)
        assert max(seconds_of_status(running) for _ in range(3)) < PROBE_MAX_SECONDS
        assert all(ended(connection) for connection in slow)
        assert seconds_of_status(running) < PROBE_MAX_SECONDS


def test_head_that_drips_has_the_same_deadline(running: BareSite) -> None:
    with open_socket(running.url) as connection:
        connection.sendall(HALF_A_HEAD)
        assert drip(connection) < LATE_SECONDS


def test_second_request_of_a_connection_has_a_deadline_too(running: BareSite) -> None:
    with open_socket(running.url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200 ")
        connection.sendall(HALF_A_HEAD)
        assert drip(connection) < LATE_SECONDS


def test_body_of_json_that_drips_has_a_deadline(running: BareSite) -> None:
    with open_socket(running.url) as connection:
        connection.sendall(
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n"
            b"Connection: close\r\n\r\n"
        )
        drip(connection)
        connection.settimeout(SECONDS)
        parse_reply(b"".join(iter(lambda: connection.recv(1 << 16), b""))).problem(400, "BODY_TRUNCATED")


def test_upload_may_take_longer_than_its_head(running: BareSite) -> None:
    """It gets its answer, which here is that nobody has logged in, after its body."""
    with open_socket(running.url) as connection:
        connection.sendall(
            b"POST /upload/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 12\r\nConnection: close\r\n\r\n"
        )
        for _ in range(12):
            time.sleep(HEADERS_SECONDS / 6)
            connection.sendall(b"x")
        parse_reply(b"".join(iter(lambda: connection.recv(1 << 16), b""))).problem(401, "NOT_LOGGED_IN")


def test_request_of_many_pieces_is_answered(running: BareSite) -> None:
    login(running.url, {"email": "e", "password": "p"}).problem(503, "API_UNREACHABLE")
    with open_socket(running.url) as connection:
        for byte in b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert b"".join(iter(lambda: connection.recv(1 << 16), b"")).startswith(b"HTTP/1.1 200 ")
