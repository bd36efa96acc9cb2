"""The worker class of gunicorn that the loader runs in: slow clients and probes must not use up its threads.

gunicorn's own `gthread` worker has two weaknesses that an edge device cannot afford:

- A thread waits five seconds for the first byte of a connection and forever for the end of the headers. As many idle
  connections as there are threads would block all other clients. In this worker a connection waits for its first byte
  in the event loop, which costs no thread, and reading the headers has a deadline.
- `GET /health` waits in the same queue as all requests. A supervisor would take a busy loader for a dead one and kill
  it. In this worker the event loop itself serves a probe that arrives on a new connection.

This module uses these internals of gunicorn, and no other module of the loader uses any:

- `ThreadWorker.enqueue_req(connection)`, which the event loop calls for each connection that has something to read;
- `ThreadWorker.handle(connection)`, `.nr_conns`, `.pending_conns`, `.poller` and `.on_pending_socket_readable`;
- of a connection: `.sock`, `.initialized`, `.data_ready` and `.set_timeout()`;
- the call of `setblocking(True)` on the socket before each request is read, and of `shutdown` when it is closed;
- `Request.path` and `Request.force_close()`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

HEADERS_SECONDS = 10.0

PROBE_PATH = "/health"
PROBE_REQUEST_LINE = b"GET /health HTTP/1."
# Probes send less than this.
PROBE_MAX_SIZE = 2048
HEAD_END = b"\r\n\r\n"
BODY_HEADERS = (b"\ncontent-length:", b"\ntransfer-encoding:")


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's threaded worker, with a lane of its own for `GET /health` and with patience for slow clients."""

    def enqueue_req(self, connection: Any) -> None:
        """Serve a probe at once, wait for the first byte of a new connection, and give the rest to the threads."""
        probe = b"" if connection.initialized else _read_probe(connection.sock)
        if probe:
            self._serve_probe(connection, probe)
        elif connection.initialized or connection.data_ready:
            super().enqueue_req(connection)
        else:
            self._wait_for_first_byte(connection)

    def _serve_probe(self, connection: Any, probe: bytes) -> None:
        client, connection.sock = connection.sock, _ProbeSocket(probe)
        connection.data_ready = True
        self.handle(connection)
        # `send` cannot block, because this response is the first on its connection and the send buffer has room for it.
        # Errors are ignored, because a client that has gone needs no response.
        with client, suppress(OSError):
            client.recv(len(probe))
            client.send(connection.sock.response)
        self.nr_conns -= 1

    def _wait_for_first_byte(self, connection: Any) -> None:
        connection.sock = ClientSocket(fileno=connection.sock.detach())
        connection.sock.setblocking(False)
        connection.set_timeout()
        self.pending_conns.append(connection)
        self.poller.register(connection.sock, EVENT_READ, partial(self.on_pending_socket_readable, connection))


def close_after_health(_worker: Any, request: Any) -> None:
    """Close the connection after the response to a probe, because only new connections use the lane for probes.

    gunicorn's hook `pre_request` calls this with each `request` that it has parsed.
    """
    if request.path == PROBE_PATH:
        request.force_close()


def end_deadline(connection: object) -> None:
    """Remove the read deadline of `connection` if it is a ClientSocket."""
    if isinstance(connection, ClientSocket):
        connection.deadline = None


@contextmanager
def read_deadline(connection: object, seconds: float) -> Iterator[None]:
    """Let the block read from `connection`, if it is a ClientSocket, for at most `seconds` in total."""
    if isinstance(connection, ClientSocket):
        connection.deadline = time.monotonic() + seconds
    try:
        yield
    finally:
        end_deadline(connection)


class ClientSocket(socket.socket):
    """A client's connection with a read deadline, after which it reads as if the client had closed it.

    gunicorn calls `setblocking(True)` before it reads a request, which sets the deadline for the headers.
    """

    deadline: float | None = None
    _is_late = False

    def setblocking(self, flag: bool, /) -> None:
        super().setblocking(flag)
        self.deadline = time.monotonic() + HEADERS_SECONDS if flag else None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self.deadline is None:
            return super().recv(size, flags)
        silence = self.gettimeout()
        left = max(self.deadline - time.monotonic(), 1e-3)
        self.settimeout(left if silence is None else min(left, silence))
        try:
            return super().recv(size, flags)
        except TimeoutError:
            if time.monotonic() < self.deadline:
                raise
            self._is_late = True
            return b""
        finally:
            self.settimeout(silence)

    def shutdown(self, how: int, /) -> None:
        """Raise TimeoutError after the deadline, because gunicorn would wait for the late client to close its side."""
        if self._is_late:
            raise TimeoutError("the client was too late")
        super().shutdown(how)


class _ProbeSocket:
    """Stands in for the client's socket while gunicorn serves a probe: holds the request and collects the response.

    gunicorn would call a real socket some twenty times. Each call releases the GIL, and the event loop would then
    compete with all threads to get it back.
    """

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.response = b""

    def recv(self, _size: int, /) -> bytes:
        request, self._request = self._request, b""
        return request

    def sendall(self, piece: bytes, /) -> None:
        self.response += piece

    def setblocking(self, _flag: bool, /) -> None:
        """Do nothing, because no call on this object blocks."""

    def settimeout(self, _seconds: float | None, /) -> None:
        """Do nothing, because no call on this object waits."""


def _read_probe(client: socket.socket) -> bytes:
    """Peek at the request and return it if it is one complete `GET /health` without a body; otherwise return b""."""
    try:
        head = client.recv(PROBE_MAX_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:
        return b""
    if not head.startswith(PROBE_REQUEST_LINE) or head.find(HEAD_END) != len(head) - len(HEAD_END):
        return b""
    return b"" if any(header in head.lower() for header in BODY_HEADERS) else head
