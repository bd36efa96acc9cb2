"""A server on a unix socket that notes the heads of requests and answers with bytes it was told. It is a fake.

It shows what nginx hands on, and cuts answers in ways that the loader, which announces every length, never would.
"""

from __future__ import annotations

import socketserver
import threading
from pathlib import Path
from typing import Self

POLL_SECONDS = 0.02


class RawUpstream:
    """A running server: `heads` are those of the requests so far, `answers` what it says by the request's version.

    It closes each connection after its answer.
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
