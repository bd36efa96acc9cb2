"""A TCP front of a store: it keeps what clients send, and holds a transfer up where a test wants it."""

from __future__ import annotations

import selectors
import socket
import socketserver
import threading
from contextlib import suppress

from tests.support.fault_server import READ_SIZE, InThread

HOLD_SECONDS = 60.0


class StoreFront(InThread, socketserver.ThreadingTCPServer):
    """Passes connections on to `port` of 127.0.0.1. The store sees the address of this front in the header Host.

    url: where clients connect.
    received: all bytes that clients have sent.
    hold_after: how many bytes may pass in both directions, from now on, before `held` is set and all wait for `go_on`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.upstream = port
        self.received = bytearray()
        self.held = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._left: int | None = None
        self._lock = threading.Lock()

    def hold_after(self, count: int) -> None:
        """Hold all transfers up once `count` more bytes have passed."""
        self.held.clear()
        self._going.clear()
        self._left = count

    def go_on(self) -> None:
        """End the hold, or call it off."""
        self._left = None
        self._going.set()

    def pass_on(self, data: bytes, *, from_client: bool) -> None:
        """Count bytes, and wait while transfers are held up."""
        with self._lock:
            if from_client:
                self.received += data
            if self._left is not None:
                self._left -= len(data)
                if self._left <= 0:
                    self.held.set()
        if self.held.is_set():
            self._going.wait(HOLD_SECONDS)


class _Handler(socketserver.BaseRequestHandler):
    server: StoreFront

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.server.upstream)) as upstream:
            ends = {self.request: upstream, upstream: self.request}
            with selectors.DefaultSelector() as selector:
                for end in ends:
                    selector.register(end, selectors.EVENT_READ, end)
                while all(self._passed_on(key.data, ends) for key, _ in selector.select()):
                    pass

    def _passed_on(self, source: socket.socket, ends: dict[socket.socket, socket.socket]) -> bool:
        data = source.recv(READ_SIZE)
        self.server.pass_on(data, from_client=source is self.request)
        ends[source].sendall(data)
        return bool(data)
