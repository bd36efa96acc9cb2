"""A proxy in front of an engine's unix socket that notes which requests passed."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.support.http_framing import RecordedRequest, RequestReader

CHUNK_BYTES = 64 * 1024
JOIN_SECONDS = 10.0
BACKLOG = 128


class RecordingProxy:
    """Passes every byte between clients of `listen` and the server on `upstream`, both unix sockets, unchanged.

    A request is noted before its first byte goes upstream, so what is not in `requests` was never sent.
    Leaving the context cuts the connections that are still open.
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
        """All requests so far, in the order in which their heads came."""
        with self._lock:
            return list(self._requests)

    def sent(self, method: str, path_pattern: str) -> list[RecordedRequest]:
        """The requests with `method` whose path without the query holds the regular expression `path_pattern`."""
        return [
            request
            for request in self.requests
            if request.method == method and re.search(path_pattern, request.path.partition("?")[0])
        ]

    def forget(self) -> None:
        """Empties `requests`."""
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
            except OSError:  # an engine that is down is down for the client too
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
    """Sends what comes from `source` to `sink`, shown to `look_at` first, and passes the end on in the same way.

    A half-closed `source` half-closes `sink`; a `sink` that takes no more, or bytes that are not HTTP, cut both.
    """
    try:
        while data := source.recv(CHUNK_BYTES):
            look_at(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # a peer went away: the normal end of a killed client or engine
        _cut(source, sink)
    except ValueError:
        _cut(source, sink)
        raise


def _unread(_: bytes) -> None:
    """Responses pass without being looked at."""


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):  # already cut by its peer
            end.shutdown(socket.SHUT_RDWR)
