"""A fake HTTP server for faults only: it sends an endless response, or reads a body slowly or not at all."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
import time
from contextlib import suppress
from typing import Any, Self

POLL_SECONDS = 0.02
TOKEN = json.dumps({"token": "token-1"}).encode()
# The buffer is small, because the kernel would otherwise accept a small body as a whole.
RECEIVE_BUFFER = 1 << 14
READ_SIZE = 1 << 15


class RudeServer:
    """A server on 127.0.0.1 that runs during its `with` block.

    endless: the head of a response and a piece of its body; the server repeats the piece without end.
    take: without `endless`, the server reads the body of a request at this many bytes a second; with 0, never.
    login_too: treat POST /login like this too; otherwise it returns a token.
    tls: serve HTTPS, with a certificate for localhost.
    sent, taken: the number of bytes of endless bodies sent, and of request bodies read.
    """

    def __init__(
        self,
        *,
        endless: tuple[bytes, bytes] | None = None,
        login_too: bool = False,
        take: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.endless = endless
        self.login_too = login_too
        self.take = take
        self.tls = tls
        self.sent = 0
        self.taken = 0
        self.over = threading.Event()
        self._server = _Server(self)
        self.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), name="rude-server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, rude: RudeServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.rude = rude
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.server_bind()
        self.server_activate()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. The thread that handles it does the TLS handshake, which can block."""
        connection, address = super().get_request()
        if (tls := self.rude.tls) is not None:
            connection = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    rbufsize = 0

    def handle(self) -> None:
        """Handle one request and close the connection."""
        rude = self.server.rude
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.rfile.read(1)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        with suppress(OSError):
            if head.startswith(b"POST /login ") and not rude.login_too:
                self.rfile.read(length)
                self._respond(TOKEN)
            elif rude.endless is not None:
                self.rfile.read(length)
                self._respond_without_end(*rude.endless)
            else:
                self._take(length)

    def _respond(self, body: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def _respond_without_end(self, head: bytes, piece: bytes) -> None:
        self.wfile.write(head)
        while not self.server.rude.over.is_set():
            self.wfile.write(piece)
            self.server.rude.sent += len(piece)

    def _take(self, length: int) -> None:
        rude = self.server.rude
        if not rude.take:
            rude.over.wait()
            return
        while rude.taken < length and not rude.over.is_set():
            rude.taken += len(self.connection.recv(min(length - rude.taken, READ_SIZE)))
            time.sleep(READ_SIZE / rude.take)
        self._respond(b"")
