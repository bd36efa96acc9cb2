"""Behaviours of a `BreakableApi` that send a little again and again, so that a client is never silent for long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

from tests.support.breakable_api import Behaviour
from tests.support.fault_server import READ_SIZE

PAUSE_SECONDS = 0.05
BODY = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 4000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def trickles(start: bytes, piece: bytes, pause: float = PAUSE_SECONDS) -> Behaviour:
    """Respond with `start`, and then with `piece` again and again until the client closes the connection."""
    return lambda connection: _send(connection, chain([start], repeat(piece)), pause)


def sends(pieces: Sequence[bytes], pause: float = PAUSE_SECONDS) -> Behaviour:
    """Respond with `pieces`, with pauses."""
    return lambda connection: _send(connection, pieces, pause)


def _send(connection: socket.socket, pieces: Iterable[bytes], pause: float) -> None:
    connection.recv(READ_SIZE)
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(pause)


# Each is one way to keep a client waiting for ever.
TRICKLES: dict[str, Behaviour] = {
    "status line": trickles(b"HTTP/1.1 200 ", b"x"),
    "one header": trickles(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "header lines": trickles(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.1),
    "body": trickles(BODY, b"{"),
    "body without length": trickles(b"HTTP/1.0 200 OK\r\n\r\n", b"{"),
    "chunks": trickles(CHUNKED, b"1\r\n{\r\n"),
    "extension of a chunk": trickles(CHUNKED + b"1;", b"x"),
    "trailers": trickles(CHUNKED + b"28\r\n" + bytes(40) + b"\r\n0\r\n", b"X: y\r\n"),
    "interim responses": trickles(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "interim responses at full speed": trickles(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.0),
}


class Counted:
    """A behaviour that counts its connections."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.count = 0
        self._behaviour = behaviour
        self._lock = threading.Lock()

    def __call__(self, connection: socket.socket) -> None:
        with self._lock:
            self.count += 1
        self._behaviour(connection)
