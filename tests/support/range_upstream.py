"""A fake resource API that serves large files over HTTP and misbehaves on demand. It is for tests of faults only.

Tests of the healthy case use the real API (`resource_api_server`). The fake keeps its objects in files, supports Range
and If-Range, and counts the bytes that it sends. It can cut, stall, throttle, damage and redirect responses, and
announce a wrong length.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

PIECE_SIZE = 1 << 17
POLL_SECONDS = 0.02
# The buffer is small, because its bytes count as sent even if the client is killed before it receives them.
SEND_BUFFER_SIZE = 1 << 17
OBJECTS = "/resources/"
SIGNATURE = "planted-signature"


@dataclass
class Held:
    """An object and the faults with which it is served. A test may change them at any time.

    All offsets count from the start of the object.

    cut_every: the number of bytes after which each response ends.
    cuts: offsets at which a response ends; each is used once.
    stalls: offsets at which a response stops until the client gives up or `resume` is called; each is used once.
    rate: the speed in bytes per second; None means no limit.
    announce: what the next responses add to their Content-Length. No response sends more than it announces.
    ranges: whether the server supports Range.
    statuses: the statuses of the next responses, which carry no object.
    damage, damage_once: offsets of bytes that are sent with one bit changed, always or once.
    sent: the number of bytes of bodies that were sent, never less than clients have received.
    """

    file: Path
    etag: str | None
    cut_every: int | None = None
    cuts: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    rate: int | None = None
    announce: list[int] = field(default_factory=list)
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)
    damage: set[int] = field(default_factory=set)
    damage_once: set[int] = field(default_factory=set)
    sent: int = 0


@dataclass
class Seen:
    """A request as it arrived, and the status of its response. Names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    status: int = 0
    body_bytes: int = 0


class RangeUpstream:
    """A running server that issues `token-1`, `token-2` and so on, and accepts all that have not expired.

    With `guarded=False` it requires no token. With `redirect`, a status and a base URL, it redirects requests for big
    parts there. It listens on 127.0.0.1, uses `host` in its URL, and closes each connection after the response.
    """

    def __init__(self, directory: Path, *, host: str = "127.0.0.1", guarded: bool = True) -> None:
        """Start the server. It stores the bodies of PUT requests as files in `directory`."""
        self.directory = directory
        self.guarded = guarded
        self.redirect: tuple[int, str] | None = None
        self.objects: dict[str, Held] = {}
        self.lock = threading.Lock()
        self._seen: list[Seen] = []
        self._tokens = 0
        self._valid_from = 1
        self._resumed = threading.Event()
        self._server = _Server(self)
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,), name="range-upstream")
        self._thread.start()

    def hold(self, path: str, file: Path, etag: str | None = '"1"') -> Held:
        """Serve `file` at `path`, which does not include `/resources/`, and return the new object."""
        held = self.objects[OBJECTS + path] = Held(file, etag)
        return held

    def requests(self, method: str, path: str) -> list[Seen]:
        """Return the requests so far with this method for the object at `path`, in order."""
        with self.lock:
            return [seen for seen in self._seen if (seen.method, seen.path) == (method, OBJECTS + path)]

    def logins(self) -> int:
        """Return the number of tokens that the server has issued."""
        return self._tokens

    def expire_tokens(self) -> None:
        """Reject all tokens that were issued so far."""
        with self.lock:
            self._valid_from = self._tokens + 1

    def resume(self) -> None:
        """End all current and future stalls."""
        self._resumed.set()

    def reset(self) -> None:
        """Remove all objects, redirects and noted requests. Running responses continue at full speed."""
        self._unblock_responses()
        with self.lock:
            self.objects.clear()
            self.redirect = None
            self._seen.clear()
        self._resumed.clear()

    def _unblock_responses(self) -> None:
        self.resume()
        for held in self.objects.values():
            held.rate = None

    def note(self, seen: Seen) -> None:
        """Record a request. The handler calls this for each one."""
        with self.lock:
            self._seen.append(seen)

    def new_token(self) -> str:
        """Issue the token of one more login."""
        with self.lock:
            self._tokens += 1
            return f"token-{self._tokens}"

    def accepts(self, authorization: str) -> bool:
        """Return whether a request with this Authorization header may see the objects."""
        match = re.fullmatch(r"Bearer token-(\d+)", authorization)
        return not self.guarded or (match is not None and self._valid_from <= int(match[1]) <= self._tokens)

    def stall(self, connection: socket.socket) -> None:
        """Wait for `resume`, or for the client to close its side."""
        while not self._resumed.is_set():
            readable, _, _ = select.select([connection], [], [], POLL_SECONDS)
            if readable:
                raise ConnectionAbortedError("the client gave up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._unblock_responses()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, api: RangeUpstream) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_SIZE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing, because tests make clients disconnect on purpose."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Serve an object or a range of it."""
        seen = self._note()
        held = self.server.api.objects.get(seen.path)
        if not self._may_go_on(seen, held) or held is None:
            return
        with held.file.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin, end = self._wanted(seen, held, size)
            if begin >= size > 0:
                self._respond(seen, 416, {"Content-Range": f"bytes */{size}"})
                return
            headers = {"ETag": held.etag} if held.etag is not None else {}
            if "range" in seen.headers and held.ranges and (begin or end < size):
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
            status = 206 if "Content-Range" in headers else 200
            length = end - begin + (held.announce.pop(0) if held.announce else 0)
            self._respond(seen, status, headers, length)
            self._send(held, file.fileno(), begin, min(end, begin + length))

    def do_PUT(self) -> None:
        """Store an object."""
        seen = self._note()
        file = self.server.api.directory / seen.path.replace("/", "+")
        with file.open("wb") as stored:
            left = int(seen.headers["content-length"])
            while left and (piece := self.rfile.read(min(left, PIECE_SIZE))):
                left -= len(piece)
                seen.body_bytes += len(piece)
                stored.write(piece)
        if self._may_go_on(seen, Held(file, None)):
            self.server.api.hold(seen.path.removeprefix(OBJECTS), file)
            self._respond(seen, 201)

    def do_POST(self) -> None:
        """Log in."""
        seen = self._note()
        self.rfile.read(int(seen.headers["content-length"]))
        body = json.dumps({"token": self.server.api.new_token()}).encode()
        self._respond(seen, 200, {"Content-Type": "application/json"}, len(body))
        self.wfile.write(body)

    def _note(self) -> Seen:
        self.close_connection = True
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, url.path, url.query, headers)
        self.server.api.note(seen)
        return seen

    def _may_go_on(self, seen: Seen, held: Held | None) -> bool:
        """Return True, or respond with a status of `statuses`, 401, 404 or a redirect, and return False."""
        api = self.server.api
        if not api.accepts(seen.headers.get("authorization", "")):
            self._respond(seen, 401)
        elif held is not None and held.statuses:
            self._respond(seen, held.statuses.pop(0))
        elif api.redirect is not None and seen.path.endswith(".big"):
            status, base = api.redirect
            self._respond(seen, status, {"Location": f"{base}{seen.path}?signature={SIGNATURE}"})
        elif held is None:
            self._respond(seen, 404)
        else:
            return True
        return False

    def _wanted(self, seen: Seen, held: Held, size: int) -> tuple[int, int]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", seen.headers.get("range", ""))
        version = seen.headers.get("if-range")
        if match is None or not held.ranges or (version is not None and version != held.etag):
            return 0, size
        return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size

    def _respond(self, seen: Seen, status: int, headers: dict[str, str] | None = None, length: int = 0) -> None:
        seen.status = status
        self.send_response(status)
        for name, value in {"Connection": "close", "Content-Length": str(length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, held: Held, file: int, begin: int, end: int) -> None:
        if held.cut_every is not None:
            end = min(end, begin + held.cut_every)
        position, due = begin, time.monotonic()
        while position < end:
            if self._take(held.cuts, position, begin):
                return
            if self._take(held.stalls, position, begin):
                self.server.api.stall(self.connection)
            stop = min([end, position + PIECE_SIZE, *(at for at in held.cuts + held.stalls if at > position)])
            count = self._send_counted(held, file, position, stop - position)
            position += count
            if held.rate is not None:
                due = max(due, time.monotonic() - POLL_SECONDS) + count / held.rate
                time.sleep(max(0.0, due - time.monotonic()))

    def _send_counted(self, held: Held, file: int, position: int, size: int) -> int:
        """Count a piece before it is sent, because a test may read the count as soon as the client has the bytes."""
        count = 0
        with self.server.api.lock:
            held.sent += size
        try:
            count = self._send_piece(held, file, position, size)
        finally:
            with self.server.api.lock:
                held.sent -= size - count
        return count

    def _take(self, offsets: list[int], position: int, begin: int) -> bool:
        """Return whether `position` is in `offsets` and after the start of the response, and remove it there."""
        with self.server.api.lock:
            if position > begin and position in offsets:
                offsets.remove(position)
                return True
        return False

    def _send_piece(self, held: Held, file: int, position: int, size: int) -> int:
        with self.server.api.lock:
            damaged = {at for at in held.damage | held.damage_once if position <= at < position + size}
            held.damage_once -= damaged
        if not damaged:
            return os.sendfile(self.connection.fileno(), file, position, size)
        piece = bytearray(os.pread(file, size, position))
        for at in damaged:
            piece[at - position] ^= 1
        self.connection.sendall(piece)
        return size

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Print nothing, because the server records all requests."""
