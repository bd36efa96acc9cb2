"""A proxy in front of an engine's unix socket that records the requests."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.support.http_framing import RecordedRequest, RequestReader

READ_SIZE = 64 * 1024
JOIN_SECONDS = 10.0
BACKLOG = 128


class RecordingProxy:
    """Passes every byte between clients of `listen` and the server on `upstream` unchanged. Both are unix sockets.

    A request is recorded before its first byte goes upstream, so that a request that is not in `requests` was never
    sent. Leaving the context cuts the connections that are still open.
    """

    def __init__(self, listen: Path, upstream: Path) -> None:
        self.host = f"unix://{listen}"
        self._upstream = upstream
        self._lock = threading.Lock()
        self._requests: list[RecordedRequest] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(BACKLOG)
        self._acceptor = threading.Thread(target=self._accept, name="proxy-accept")

    @property
    def requests(self) -> list[RecordedRequest]:
        """All requests so far, in the order of their heads."""
        with self._lock:
            return list(self._requests)

    def sent(self, method: str, path_pattern: str) -> list[RecordedRequest]:
        """Return the requests with `method` whose path without the query matches `path_pattern` (re.search)."""
        return [
            request
            for request in self.requests
            if request.method == method and re.search(path_pattern, request.path.partition("?")[0])
        ]

    def forget(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._requests.clear()

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        _cut(self._listener)
        self._acceptor.join(JOIN_SECONDS)
        self._listener.close()
        _cut(*self._connections)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the listener was shut down
                return
            server = socket.socket(socket.AF_UNIX)
            self._connections += [client, server]
            try:
                server.connect(str(self._upstream))
            except OSError:  # the engine is down, so the client must see it down too
                _cut(client)
                continue
            self._start(client, server, RequestReader(self._note).feed)
            self._start(server, client, _unread)

    def _start(self, source: socket.socket, sink: socket.socket, look_at: Callable[[bytes], None]) -> None:
        thread = threading.Thread(target=_forward, args=(source, sink, look_at), name="proxy-forward")
        self._threads.append(thread)
        thread.start()

    def _note(self, request: RecordedRequest) -> None:
        with self._lock:
            self._requests.append(request)


def _forward(source: socket.socket, sink: socket.socket, look_at: Callable[[bytes], None]) -> None:
    """Pass bytes from `source` to `sink`; `look_at` sees them first.

    A half-closed `source` half-closes `sink`. A closed `sink`, or bytes that are not HTTP, cut both.
    """
    try:
        while data := source.recv(READ_SIZE):
            look_at(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # a killed client or engine ends its connection like this
        _cut(source, sink)
    except ValueError:
        _cut(source, sink)
        raise


def _unread(_: bytes) -> None:
    """Ignore the bytes of responses."""


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):  # already cut by its peer
            end.shutdown(socket.SHUT_RDWR)
