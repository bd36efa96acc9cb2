"""The core of the fakes that misbehave on demand: servers in this process that record requests and can stall.

Use a fake for faults only: the tests of a healthy API use the real one (`resource_api_server`).
"""

from __future__ import annotations

import hashlib
import json
import select
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

POLL_SECONDS = 0.02
READ_SIZE = 1 << 16
KEPT_BODY_BYTES = 16 << 20


class InThread(socketserver.BaseServer):
    """Lets a server of `socketserver` run in a thread of its own during its `with` block."""

    def __enter__(self) -> Self:
        self._runner = threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name=type(self).__name__)
        self._runner.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._runner.join()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Raise only errors of the fake itself, because the tests make clients leave and refuse handshakes.

        pytest then fails the test, because the thread of the connection does not catch them.
        """
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            raise error


@dataclass
class SeenRequest:
    """A request as it arrived, and the status of its response.

    `headers` has names in lower case. `body` has at most 16 MiB, `body_bytes` and `body_sha256` cover the whole body.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    status: int = 0
    body: bytes = b""
    body_bytes: int = 0
    body_sha256: str = ""


class FaultServer(InThread, ThreadingHTTPServer):
    """An HTTP server on 127.0.0.1, whose `respond` a fake defines. It closes each connection after one response.

    url: its base URL, in which `host` stands, and `localhost` if it serves HTTPS.
    open_connections: the number of connections that neither side has closed.
    logins: the number of tokens that were issued: `token-1`, `token-2` and so on.
    resumed: whether stalls have ended.
    """

    request_queue_size = 128

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        """Listen, so that connections wait until the `with` block begins."""
        super().__init__(("127.0.0.1", 0), Exchange)
        self.port = self.server_port
        self.url = f"https://localhost:{self.port}" if tls else f"http://{host}:{self.port}"
        if tls is not None:  # the thread of each connection does the handshake, which can block
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.lock = threading.Lock()
        self.open_connections = 0
        self.logins = 0
        self.resumed = threading.Event()
        self._seen: list[SeenRequest] = []

    def respond(self, exchange: Exchange) -> None:
        """Respond to a request, whose body is not read yet."""
        raise NotImplementedError

    def requests(self, method: str | None = None, path: str | None = None) -> list[SeenRequest]:
        """Return the requests so far in order, only those of `method` and of exactly `path` if these are given."""
        with self.lock:
            return [seen for seen in self._seen if method in (None, seen.method) and path in (None, seen.path)]

    def note(self, seen: SeenRequest) -> None:
        """Add a request to `requests`."""
        with self.lock:
            self._seen.append(seen)

    def new_login(self) -> bytes:
        """Issue a token, and return the body of the response to a login."""
        with self.lock:
            self.logins += 1
            return json.dumps({"token": f"token-{self.logins}"}).encode()

    def resume(self) -> None:
        """End all stalls; later responses do not stall either."""
        self.resumed.set()

    def reset(self) -> None:
        """Forget all requests, and let responses stall again."""
        with self.lock:
            self._seen.clear()
        self.resumed.clear()

    def __exit__(self, *_: object) -> None:
        self.resume()
        super().__exit__()


class Exchange(BaseHTTPRequestHandler):
    """One request, `seen`, and the means to respond to it."""

    server: FaultServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        with self.server.lock:
            self.server.open_connections += 1
        super().setup()

    def finish(self) -> None:
        super().finish()
        with self.server.lock:
            self.server.open_connections -= 1

    def do_GET(self) -> None:
        """Let the server respond."""
        self.close_connection = True
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen = SeenRequest(self.command, url.path, url.query, headers)
        self.server.respond(self)

    do_POST = do_GET  # noqa: N815  # http.server calls methods of these names
    do_PUT = do_GET  # noqa: N815
    do_DELETE = do_GET  # noqa: N815
    do_HEAD = do_GET  # noqa: N815
    do_CONNECT = do_GET  # noqa: N815

    def read_body(self, sink: Callable[[bytes], object] | None = None) -> None:
        """Read the body of the request into `sink`, or keep it in `seen`."""
        kept, digest = bytearray(), hashlib.sha256()
        missing = int(self.headers.get("Content-Length") or 0)
        while missing and (piece := self.rfile.read(min(missing, READ_SIZE))):
            missing -= len(piece)
            self.seen.body_bytes += len(piece)
            digest.update(piece)
            if sink is not None:
                sink(piece)
            elif self.seen.body_bytes <= KEPT_BODY_BYTES:
                kept += piece
        self.seen.body, self.seen.body_sha256 = bytes(kept), digest.hexdigest()

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of the response."""
        self.seen.status = status
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_whole(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a sound response."""
        self.send_head(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def stall(self) -> None:
        """Wait for `resume`. Raises ConnectionAbortedError if the client closes the connection first."""
        while not self.server.resumed.is_set():
            readable, _, _ = select.select([self.connection], [], [], POLL_SECONDS)
            if readable:
                raise ConnectionAbortedError("the client gave up")

    def log_message(self, *_: object) -> None:
        """Print nothing, because `FaultServer.requests` returns all requests."""
