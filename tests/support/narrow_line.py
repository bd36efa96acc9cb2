"""A line to a server: it delays, limits and cuts what passes, and counts every byte."""

from __future__ import annotations

import queue
import socket
import socketserver
import struct
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

from tests.support.fault_server import InThread

PIECE_SIZE = 1 << 14
# What is on its way. More than a rate of 40 Mbit/s fills in a round trip of 200 ms, so that the queue never limits it.
QUEUED_PIECES = 64
SEND_BUFFER_SIZE = 1 << 15
# struct linger of socket(7): on, 0 seconds.
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class NarrowLine(InThread, socketserver.ThreadingTCPServer):
    """Passes TCP connections on to the server at `upstream`. A test may change the fields at any time.

    url: the base URL of the server, seen through the line.
    round_trip: the seconds that a byte and its answer take; a new connection takes one round trip more.
    rate: how many bytes a second each connection gets from the server; None means no limit.
    cut_every: how many bytes may come before the line is cut, which ends all of its connections; None means never.
    connections: how many connections there have been.
    sent: how many bytes clients have got, heads of responses included.
    received: how many bytes they have sent, heads of requests included.
    requests: how many requests of HTTP/1.1 these were.
    is_up: whether connections are passed on; otherwise they end at once.
    ends_at: the count of `sent` at which the line ends for good, as `is_up` says then; None means never.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, upstream: str, *, round_trip: float = 0.0, rate: int | None = None, cut_every: int | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname, parts.port)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.round_trip, self.rate, self.cut_every = round_trip, rate, cut_every
        self.connections = 0
        self.sent = 0
        self.received = 0
        self.requests = 0
        self.is_up = True
        self.ends_at: int | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def opened(self, client: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self._open.add(client)

    def ended(self, client: socket.socket) -> None:
        with self._lock:
            self._open.discard(client)

    def count(self, size: int) -> None:
        """Count bytes for a client, and cut the line where it is due."""
        with self._lock:
            before, self.sent = self.sent, self.sent + size
        if self.ends_at is not None and self.sent >= self.ends_at:
            self.is_up = False
            self.cut()
        if self.cut_every is not None and before // self.cut_every < self.sent // self.cut_every:
            self.cut()

    def note(self, data: bytes) -> None:
        """Count bytes of a client. A client sends the start of a request in one piece."""
        with self._lock:
            self.received += len(data)
            self.requests += data.count(b" HTTP/1.1\r\n")

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            for client in self._open:
                _shut(client)


class _Handler(socketserver.BaseRequestHandler):
    server: NarrowLine

    def handle(self) -> None:
        line, client = self.server, self.request
        if not line.is_up:
            return
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_SIZE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.opened(client)
        try:
            # The handshake of a real line takes a round trip before the first byte of a request can leave.
            time.sleep(line.round_trip)
            with socket.create_connection(line.upstream) as server:
                # Reset the connection at its end, because a server that has filled the window would wait for minutes.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
                up = threading.Thread(target=_pass_on, args=(line, client, server, False), daemon=True)
                up.start()
                _pass_on(line, server, client, True)
                up.join()
        except OSError:
            pass
        finally:
            line.ended(client)


def _pass_on(line: NarrowLine, source: socket.socket, sink: socket.socket, is_down: bool) -> None:
    """Pass on what arrives at `source` until one of the ends closes."""
    pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(QUEUED_PIECES)
    sender = threading.Thread(target=_send, args=(line, pieces, source, sink, is_down), daemon=True)
    sender.start()
    due = 0.0
    with suppress(OSError):
        while data := source.recv(PIECE_SIZE):
            due = max(due, time.monotonic())
            if not is_down:
                line.note(data)
            elif line.rate is not None:
                due += len(data) / line.rate
            pieces.put((due + line.round_trip / 2, data))
    pieces.put((0.0, b""))
    sender.join()


def _send(
    line: NarrowLine,
    pieces: queue.Queue[tuple[float, bytes]],
    source: socket.socket,
    sink: socket.socket,
    is_down: bool,
) -> None:
    is_broken = False
    while data := (piece := pieces.get())[1]:
        if is_broken:
            continue
        time.sleep(max(0.0, piece[0] - time.monotonic()))
        try:
            rest = memoryview(data)
            while rest:
                sent = sink.send(rest)
                rest = rest[sent:]
                if is_down:
                    line.count(sent)
        except OSError:
            is_broken = True
            _shut(source)
    _shut(sink, socket.SHUT_RDWR if is_down else socket.SHUT_WR)


def _shut(end: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with suppress(OSError):
        end.shutdown(how)
