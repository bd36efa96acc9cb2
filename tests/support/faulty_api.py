"""A fake of the resource API that misbehaves on demand.

Use it for faults only: the tests of a healthy API use the real one (`resource_api_server`), which cannot cut, stall,
lie or redirect.
"""

from __future__ import annotations

import hashlib
import json
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

READ_SIZE = 1 << 16
KEPT_BODY_BYTES = 16 << 20
POLL_SECONDS = 0.02
ANY_PATH = "*"
MIME = "application/octet-stream"


@dataclass(frozen=True)
class Fault:
    """One response of the API. Positions are byte offsets in its body.

    announced: the value of Content-Length; None is the true length, -1 omits the header.
    cut_after: the server closes the connection at this position.
    stall_after: the server sends nothing after this position until `FaultyApi.resume` or until the client closes.
    silent: the same stall, but before the status line.
    unread: the server responds without reading the body of the request.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    silent: bool = False
    unread: bool = False


@dataclass(frozen=True)
class SeenRequest:
    """A request as it arrived.

    `headers` has names in lower case. `body` has at most 16 MiB, `body_bytes` and `body_sha256` cover the whole body.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    body_bytes: int
    body_sha256: str


class FaultyApi:
    """A running server on 127.0.0.1. It issues `token-1`, `token-2` and so on.

    It accepts every token while `valid_token` is None, and only `valid_token` otherwise; a login then renews
    `valid_token`. It closes each connection after one response, so that `open_connections` counts only open requests.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.fragment = bytes(range(32))
        self.valid_token: str | None = None
        self.lock = threading.Lock()
        self._faults: dict[tuple[str, str], list[Fault]] = {}
        self._seen: list[SeenRequest] = []
        self._resumed = threading.Event()
        self._open = 0
        self._tokens = 0
        self._server = _Server(self, tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), name="faulty-api")
        self._thread.start()

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """The number of connections that neither side has closed."""
        with self.lock:
            return self._open

    def answer(self, method: str, path: str, *faults: Fault) -> None:
        """Respond to the first request of `method` and `path` with the first fault, to the second with the second.

        The last fault applies to all further requests.
        """
        with self.lock:
            self._faults[method, path] = list(faults)

    def answer_all(self, method: str, fault: Fault) -> None:
        """Respond to every request of `method` with `fault`, except to the paths that were given to `answer`."""
        with self.lock:
            self._faults[method, ANY_PATH] = [fault]

    def requests(self, method: str | None = None, path: str | None = None) -> list[SeenRequest]:
        """Return the requests so far in order, only those of `method` and of exactly `path` if these are given."""
        with self.lock:
            return [seen for seen in self._seen if method in (None, seen.method) and path in (None, seen.path)]

    def resume(self) -> None:
        """End all stalls; later responses do not stall either."""
        self._resumed.set()

    def reset(self) -> None:
        """Forget objects, faults, requests and the valid token, and let responses stall again."""
        with self.lock:
            self.objects.clear()
            self._faults.clear()
            self._seen.clear()
            self._resumed.clear()
            self.valid_token = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def note(self, seen: SeenRequest) -> None:
        """Record a request. The handler calls this."""
        with self.lock:
            self._seen.append(seen)

    def count_connection(self, change: int) -> None:
        """Add `change` to the number of open connections. The handler calls this when it starts and ends."""
        with self.lock:
            self._open += change

    def stall(self, connection: socket.socket) -> None:
        """Wait for `resume`. Raises ConnectionAbortedError if the client closes the connection first."""
        while not self._resumed.is_set():
            readable, _, _ = select.select([connection], [], [], POLL_SECONDS)
            if readable:
                raise ConnectionAbortedError("the client gave up")

    def next_fault(self, method: str, path: str) -> Fault | None:
        """Return the fault for the next request of `method` and `path`, or None for a healthy response."""
        with self.lock:
            faults = self._faults.get((method, path)) or self._faults.get((method, ANY_PATH), [])
            return faults.pop(0) if len(faults) > 1 else (faults[0] if faults else None)

    def healthy_response(self, seen: SeenRequest) -> Fault:
        """Return the response of a healthy resource API."""
        if (seen.method, seen.path) == ("POST", "/login"):
            return Fault(body=json.dumps({"token": self._new_token()}).encode())
        if self.valid_token is not None and seen.headers.get("authorization") != f"Bearer {self.valid_token}":
            return Fault(401)
        if seen.path == "/binary-split/key-fragment":
            return Fault(body=self.fragment)
        with self.lock:
            if seen.method == "PUT":
                self.objects[seen.path] = seen.body
                return Fault(201)
            found = self.objects.get(seen.path)
        return Fault(404) if found is None else Fault(body=found)

    def _new_token(self) -> str:
        with self.lock:
            self._tokens += 1
            if self.valid_token is not None:
                self.valid_token = f"token-{self._tokens}"
            return f"token-{self._tokens}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, api: FaultyApi, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing, because the tests make clients leave and refuse handshakes on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        self.server.api.count_connection(1)
        super().setup()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        self.server.api.count_connection(-1)

    def do_GET(self) -> None:
        """Send the next fault, or the response of a healthy resource API."""
        self.close_connection = True
        url = urlsplit(self.path)
        fault = self.server.api.next_fault(self.command, url.path)
        body, size, digest = (b"", 0, "") if fault is not None and fault.unread else self._read_body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = SeenRequest(self.command, url.path, url.query, headers, body, size, digest)
        self.server.api.note(seen)
        self._send(fault if fault is not None else self.server.api.healthy_response(seen))

    do_POST = do_GET  # noqa: N815  # http.server calls methods of these names
    do_PUT = do_GET  # noqa: N815
    do_HEAD = do_GET  # noqa: N815
    do_CONNECT = do_GET  # noqa: N815

    def _read_body(self) -> tuple[bytes, int, str]:
        kept, size, digest = bytearray(), 0, hashlib.sha256()
        missing = int(self.headers.get("Content-Length") or 0)
        while missing and (piece := self.rfile.read(min(missing, READ_SIZE))):
            missing -= len(piece)
            size += len(piece)
            digest.update(piece)
            if size <= KEPT_BODY_BYTES:
                kept += piece
        return bytes(kept), size, digest.hexdigest()

    def _send(self, fault: Fault) -> None:
        if fault.silent:
            self.server.api.stall(self.connection)
        self.send_response(fault.status)
        announced = len(fault.body) if fault.announced is None else fault.announced
        if announced >= 0 and "Transfer-Encoding" not in fault.headers:
            self.send_header("Content-Length", str(announced))
        for name, value in {"Content-Type": MIME, "Connection": "close", **fault.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self._send_body(fault)

    def _send_body(self, fault: Fault) -> None:
        rest = memoryview(fault.body)
        if fault.stall_after is not None:
            self.wfile.write(rest[: fault.stall_after])
            self.server.api.stall(self.connection)
            self.wfile.write(rest[fault.stall_after :])
        else:
            self.wfile.write(rest[: fault.cut_after])

    def log_message(self, *_: object) -> None:
        """Print nothing, because `FaultyApi.requests` returns all requests."""
