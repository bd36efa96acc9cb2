"""`GET /health` of a new connection, served by the event loop of gunicorn's worker: liveness waits in no queue.

Many requests may stand before the worker's threads, most of them to be answered with BUSY. Who probes for liveness
would take a loader that is merely wanted for one that is dead, and kill it.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

PATH = "/health"
REQUEST_LINE = b"GET /health HTTP/1."
# More than probes send.
HEAD_SIZE = 2048
HEAD_END = b"\r\n\r\n"
BODY_HEADERS = (b"\ncontent-length:", b"\ntransfer-encoding:")


class _Exchange:
    """What gunicorn takes for the client's socket: the request has been read, and the answer is kept for later.

    A real one would be set, waited for and written to some twenty times, each of which gives Python's lock away, to
    wait for it among all who want it.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.answer = b""

    def recv(self, _size: int, /) -> bytes:
        request, self._request = self._request, b""
        return request

    def sendall(self, piece: bytes, /) -> None:
        self.answer += piece

    def setblocking(self, _flag: bool, /) -> None:
        """Nothing blocks."""

    def settimeout(self, _seconds: float | None, /) -> None:
        """Nothing waits."""


def keep_a_lane_for_health(worker: Any) -> None:
    """Let `worker`, a gthread one that accepts no connection yet, treat requests as described above."""
    enqueue = worker.enqueue_req

    def enqueue_unless_health(connection: Any) -> None:
        request = b"" if connection.initialized else _probe(connection.sock)
        if not request:
            enqueue(connection)
            return
        client, connection.sock = connection.sock, _Exchange(request)
        connection.data_ready = True
        worker.handle(connection)
        # The answer is the first on its connection, which has room for it; a client that has gone needs none.
        with client, suppress(OSError):
            client.recv(len(request))
            client.send(connection.sock.answer)
        worker.nr_conns -= 1

    worker.enqueue_req = enqueue_unless_health


def close_after_health(_worker: Any, request: Any) -> None:
    """Let the connection of `request`, as gunicorn has parsed it, end with its answer if that is about liveness: the
    next probe is then on a new connection, too."""
    if request.path == PATH:
        request.force_close()


def _probe(client: socket.socket) -> bytes:
    """The request that is there to be read if it asks for liveness and is there as a whole, else nothing."""
    try:
        head = client.recv(HEAD_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""
    if not head.startswith(REQUEST_LINE) or head.find(HEAD_END) != len(head) - len(HEAD_END):
        return b""
    return b"" if any(header in head.lower() for header in BODY_HEADERS) else head
