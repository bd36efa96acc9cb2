"""A link to a server that is cut again and again: TCP that counts the bytes of clients."""

from __future__ import annotations

import selectors
import socket
import socketserver
import struct
import threading

from tests.support.fault_server import READ_SIZE, InThread

# The kernel would otherwise take in much that the link then loses, uncounted.
BUFFER = 1 << 16
# Closes with RST, as a cut link does it: see SO_LINGER in socket(7).
RESET = struct.pack("ii", 1, 0)


class CutLink(InThread, socketserver.ThreadingTCPServer):
    """Passes connections on to `port` of 127.0.0.1, and cuts all of them after each `every` bytes of the clients.

    url: where clients connect.
    sent: how many bytes the clients have sent so far.
    cuts: how often the link was cut.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, every: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.upstream = port
        self.sent = self.cuts = 0
        self._every = every
        self._lock = threading.Lock()

    def count(self, size: int) -> bool:
        """Count bytes of a client. Return whether they pass, which those that meet a cut do not."""
        with self._lock:
            self.sent += size
            cuts, self.cuts = self.cuts, self.sent // self._every
            return cuts == self.cuts


class _Handler(socketserver.BaseRequestHandler):
    server: CutLink

    def handle(self) -> None:
        cuts = self.server.cuts
        with self.request as client, socket.create_connection(("127.0.0.1", self.server.upstream)) as upstream:
            ends = {client: upstream, upstream: client}
            with selectors.DefaultSelector() as selector:
                for end in ends:
                    selector.register(end, selectors.EVENT_READ, end)
                while self.server.cuts == cuts and all(
                    self._passed_on(key.data, ends) for key, _ in selector.select(0.01)
                ):
                    pass
            if self.server.cuts != cuts:
                for end in ends:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _passed_on(self, source: socket.socket, ends: dict[socket.socket, socket.socket]) -> bool:
        """Pass on what has arrived. Return whether more may come."""
        data = source.recv(READ_SIZE)
        if source is self.request and not self.server.count(len(data)):
            return False
        ends[source].sendall(data)
        return bool(data)
