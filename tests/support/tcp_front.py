"""TCP in front of the unix socket of a real engine, with TLS or without it, as `dockerd --host tcp://` listens."""

from __future__ import annotations

import selectors
import socket
import socketserver
import ssl
from pathlib import Path

from tests.support.fault_server import READ_SIZE, InThread


class TcpFront(InThread, socketserver.ThreadingTCPServer):
    """Passes the bytes of each connection on to the socket `upstream`.

    port: where it listens on 127.0.0.1.
    connections: the number of connections so far that reached `upstream`, so past the handshake of TLS.
    received: all bytes that clients have sent, without those of TLS.
    """

    daemon_threads = True

    def __init__(self, upstream: Path, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.tls = tls
        self.port = self.server_address[1]
        self.connections = 0
        self.received = b""


class _Handler(socketserver.BaseRequestHandler):
    server: TcpFront

    def handle(self) -> None:
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        with self.request as client, socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(str(self.server.upstream))
            self.server.connections += 1
            ends = {client: upstream, upstream: client}
            with selectors.DefaultSelector() as selector:
                for end in ends:
                    selector.register(end, selectors.EVENT_READ, end)
                while all(self._passed_on(key.data, ends[key.data]) for key, _ in selector.select()):
                    pass

    def _passed_on(self, source: socket.socket, sink: socket.socket) -> bool:
        """Pass on what has arrived. Return whether more may come."""
        data = source.recv(READ_SIZE)
        # TLS may have read more from the socket than it has returned, which the selector does not see.
        while isinstance(source, ssl.SSLSocket) and source.pending():
            data += source.recv(source.pending())
        if source is self.request:
            self.server.received += data
        sink.sendall(data)
        return bool(data)
