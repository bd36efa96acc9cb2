"""A fake API that sends an endless response, or reads a body slowly or not at all."""

from __future__ import annotations

import socket
import ssl
import time

from tests.support.fault_server import Exchange, FaultServer

# The buffer is small, because the kernel would otherwise accept a small body as a whole.
RECEIVE_BUFFER = 1 << 14
READ_SIZE = 1 << 15


class RudeServer(FaultServer):
    """A running server.

    endless: the head of a response and a piece of its body; the server repeats the piece without end.
    take: without `endless`, the server reads the body of a request at this many bytes a second; with 0, never.
    login_too: treat POST /login like this too; otherwise it returns a token.
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
        super().__init__(tls=tls, socket_options={socket.SO_RCVBUF: RECEIVE_BUFFER})
        self.endless = endless
        self.login_too = login_too
        self.take = take
        self.sent = 0
        self.taken = 0

    def respond(self, exchange: Exchange) -> None:
        """Log in, or do what the test wants."""
        login = (exchange.seen.method, exchange.seen.path) == ("POST", "/login")
        if login and not self.login_too:
            exchange.read_body()
            exchange.send_whole(200, self.new_login())
        elif self.endless is not None:
            exchange.read_body()
            self._send_without_end(exchange, *self.endless)
        elif self.take:
            self._take(exchange, int(exchange.seen.headers["content-length"]))
        else:
            self.resumed.wait()

    def _send_without_end(self, exchange: Exchange, head: bytes, piece: bytes) -> None:
        exchange.wfile.write(head)
        while not self.resumed.is_set():
            exchange.wfile.write(piece)
            self.sent += len(piece)

    def _take(self, exchange: Exchange, length: int) -> None:
        while self.taken < length and not self.resumed.is_set():
            self.taken += len(exchange.rfile.read1(min(length - self.taken, READ_SIZE)))
            time.sleep(READ_SIZE / self.take)
        exchange.send_whole(200)
