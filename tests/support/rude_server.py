"""An HTTP server that answers without end, or takes a body slowly or not at all. It is a fake, for faults only."""

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
# Else the kernel takes all of a small body.
RECEIVE_BUFFER = 1 << 14


class RudeServer:
    """A running server on 127.0.0.1. It issues a token at `/login`, unless `login_too`, and treats all else rudely:
    by `endless`, head and piece of an answer, or by reading a body at `take` bytes a second. With `tls` as localhost.
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
        """The connection; what TLS has to say first is said by the thread that handles it."""
        connection, address = super().get_request()
        if (tls := self.rude.tls) is not None:
            connection = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    rbufsize = 0

    def handle(self) -> None:
        """One request, and the end of the connection."""
        rude = self.server.rude
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.rfile.read(1)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        with suppress(OSError):
            if head.startswith(b"POST /login ") and not rude.login_too:
                self.rfile.read(length)
                self._answer(TOKEN)
            elif rude.endless is not None:
                self.rfile.read(length)
                self._answer_for_ever(*rude.endless)
            else:
                self._take(length)

    def _answer(self, body: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def _answer_for_ever(self, head: bytes, piece: bytes) -> None:
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
            rude.taken += len(self.connection.recv(min(length - rude.taken, 1 << 15)))
            time.sleep((1 << 15) / rude.take)
        self._answer(b"")
