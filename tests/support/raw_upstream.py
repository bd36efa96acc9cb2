"""A fake server on a unix socket that records the heads of requests and sends the bytes that a test chose.

It shows what nginx forwards. It can also cut a response without a Content-Length, which the loader always sends.
"""

from __future__ import annotations

import socketserver
import threading
from pathlib import Path
from typing import Self

POLL_SECONDS = 0.02


class RawUpstream:
    """A running server that closes each connection after one response.

    heads: the heads of the requests so far.
    answers: the bytes of the response for each HTTP version of a request, such as `b"HTTP/1.1"`.
    """

    def __init__(self, path: Path) -> None:
        self.heads: list[bytes] = []
        self.answers: dict[bytes, bytes] = {}
        self._server = _Server(self, path)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), name="raw-upstream")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.UnixStreamServer):
    def __init__(self, upstream: RawUpstream, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.upstream = upstream


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        self.server.upstream.heads.append(head)
        version = head.partition(b"\r\n")[0].rpartition(b" ")[2]
        self.wfile.write(self.server.upstream.answers[version])
