"""Clients of gunicorn that are slow to say what they want: they must not use up its threads.

gunicorn lets a thread wait five seconds for the first byte of a connection, and for ever for the end of the headers, so
that as many idle connections as there are threads keep everybody else waiting. Here a connection waits for its first
byte in the worker's event loop, which costs no thread, and what is read as a whole has a deadline.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from selectors import EVENT_READ
from typing import Any

HEADERS_SECONDS = 10.0


class ClientSocket(socket.socket):
    """A client's connection with a deadline for reading, after which it reads as if the client had gone.

    gunicorn begins each request with `setblocking(True)`: that sets the deadline of the headers.
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
        """Refused after the deadline: gunicorn's event loop would wait for the client to close its side, too."""
        if self._is_late:
            raise TimeoutError("the client was too late")
        super().shutdown(how)


def end_deadline(connection: object) -> None:
    """The headers are whole; without effect on connections of other servers."""
    if isinstance(connection, ClientSocket):
        connection.deadline = None


@contextmanager
def reading_limited(connection: object, seconds: float) -> Iterator[None]:
    """Let a block read from `connection` for `seconds` in all; without effect on connections of other servers."""
    if isinstance(connection, ClientSocket):
        connection.deadline = time.monotonic() + seconds
    try:
        yield
    finally:
        end_deadline(connection)


def spare_threads(worker: Any) -> None:
    """Let `worker`, a gthread one that accepts no connection yet, treat connections as described above."""
    enqueue = worker.enqueue_req

    def enqueue_when_readable(connection: Any) -> None:
        if connection.initialized or connection.data_ready:
            enqueue(connection)
            return
        connection.sock = ClientSocket(fileno=connection.sock.detach())
        connection.sock.setblocking(False)
        connection.set_timeout()
        worker.pending_conns.append(connection)
        read = partial(worker.on_pending_socket_readable, connection)
        worker.poller.register(connection.sock, EVENT_READ, read)

    worker.enqueue_req = enqueue_when_readable
