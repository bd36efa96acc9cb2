"""A fake server on a unix socket that records the heads of requests and sends the bytes that a test chose.

It shows what nginx forwards. It can also cut a response without a Content-Length, which the loader always sends.
"""

from __future__ import annotations

import socketserver
from pathlib import Path

from tests.support.fault_server import InThread


class RawUpstream(InThread, socketserver.UnixStreamServer):
    """A running server that closes each connection after one response.

    heads: the heads of the requests so far.
    answers: the bytes of the response for each HTTP version of a request, such as `b"HTTP/1.1"`; none by default.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.heads: list[bytes] = []
        self.answers: dict[bytes, bytes] = {}


class _Handler(socketserver.StreamRequestHandler):
    server: RawUpstream

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n"))
        self.server.heads.append(head)
        version = head.partition(b"\r\n")[0].rpartition(b" ")[2]
        self.wfile.write(self.server.answers.get(version, b""))
