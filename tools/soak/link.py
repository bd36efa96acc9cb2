"""The way from the loader to the resource API: a balancer over its replicas and a NAT, which fails on demand."""

from __future__ import annotations

import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from time import monotonic
from urllib.parse import urlsplit

from tests.support.fault_server import READ_SIZE, InThread
from tests.support.processes import free_port

POLL_SECONDS = 0.05


@dataclass(frozen=True, eq=False)
class _Way:
    """Where new connections lead: to these URLs in turn; nowhere if there is none, and all bytes are swallowed."""

    targets: Sequence[str]


SWALLOWED = _Way(())


class Link(InThread, socketserver.ThreadingTCPServer):
    """Passes the bytes of each connection on to one of the `replicas`, which take turns.

    A connection on which nothing moves for `idle_seconds` is forgotten: its bytes are swallowed, without a reset.
    `forgotten` counts these connections.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, replicas: Sequence[str], idle_seconds: float) -> None:
        # A port that was bound by its number stays bound while the socket does not listen; see `refusing`.
        super().__init__(("127.0.0.1", free_port()), _Connection)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.idle_seconds = idle_seconds
        self.forgotten = 0
        self.way = self._sound = _Way(replicas)
        self._turns = cycle(replicas)
        self._listening = threading.Event()
        self._listening.set()
        self._lock = threading.Lock()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse connections during the block, and cut those that are there."""
        self._listening.clear()
        self.socket.shutdown(socket.SHUT_RDWR)
        try:
            with self._leading(_Way(())):
                yield
        finally:
            self.socket.listen(self.request_queue_size)
            self._listening.set()

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        """Accept connections during the block, but swallow all bytes, also of the connections that are there."""
        with self._leading(SWALLOWED):
            yield

    @contextmanager
    def leading_to(self, url: str) -> Iterator[None]:
        """Lead to another server during the block, and cut the connections that are there."""
        with self._leading(_Way((url,))):
            yield

    @contextmanager
    def _leading(self, way: _Way) -> Iterator[None]:
        self.way = way
        try:
            yield
        finally:
            self.way = self._sound

    def get_request(self) -> tuple[socket.socket, object]:
        """Return the next connection; wait while the socket refuses them, because it seems to be readable then."""
        self._listening.wait()
        return super().get_request()

    def next_target(self, way: _Way) -> str:
        """Return the URL that the next connection on `way`, which has targets, leads to."""
        if way is not self._sound:
            return way.targets[0]
        with self._lock:
            return next(self._turns)

    def note_forgotten(self) -> None:
        """Count a connection on which nothing moved for too long."""
        with self._lock:
            self.forgotten += 1


class _Connection(socketserver.BaseRequestHandler):
    """One connection, in a thread of its own."""

    server: Link

    def handle(self) -> None:
        way = self.server.way
        if way.targets:
            target = urlsplit(self.server.next_target(way))
            # A target that is away raises OSError, which cuts the connection as a simple balancer does.
            with socket.create_connection((target.hostname or "", target.port or 80)) as upstream:
                is_forgotten = self._passed_on(upstream, way)
        else:
            is_forgotten = way is SWALLOWED
        if is_forgotten:
            self._swallow()

    def _passed_on(self, upstream: socket.socket, way: _Way) -> bool:
        """Pass bytes on in both directions until one side closes. Return whether the connection was forgotten."""
        ends = {self.request: upstream, upstream: self.request}
        moved = monotonic()
        with selectors.DefaultSelector() as selector:
            for end in ends:
                selector.register(end, selectors.EVENT_READ)
            while self.server.way is way:
                for key, _ in selector.select(POLL_SECONDS):
                    if not (data := key.fileobj.recv(READ_SIZE)):  # type: ignore[union-attr]  # they are sockets
                        return False
                    ends[key.fileobj].sendall(data)
                    moved = monotonic()
                if monotonic() - moved > self.server.idle_seconds:
                    self.server.note_forgotten()
                    return True
        return self.server.way is SWALLOWED

    def _swallow(self) -> None:
        with suppress(OSError):
            while self.request.recv(READ_SIZE):
                pass
