"""Clients that load models: they stream, count and hash the body, and notice when it is cut."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.http_calls import call
from tests.support.stored_resources import FOLDER, MIB

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Loaded:
    """The result of a load.

    announced: the Content-Length of the response.
    arrived, sha256: the number of bytes that arrived, and their hash; 0 and "" for a problem.
    code: the error code of a problem, or None.
    """

    status: int
    code: str | None
    announced: int
    arrived: int
    sha256: str

    @property
    def cut(self) -> bool:
        """Whether fewer bytes arrived than the response announced, which a client can see."""
        return self.status == 200 and self.arrived < self.announced


class OpenLoad:
    """A load whose response has started. The end of the `with` block closes the connection, even in mid-transfer."""

    def __init__(self, url: str, filename: str, *, receive_buffer: int | None = None) -> None:
        """Send the request. `receive_buffer` limits what the kernel accepts while the client does not read."""
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECONDS)
        if receive_buffer is not None:
            address = urlsplit(url)
            self._connection.sock = socket.socket()
            self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._connection.sock.connect((address.hostname, address.port))
        document = json.dumps({"filename": filename, "folder": FOLDER})
        self._connection.request("POST", f"/load/{filename}", document, {"Content-Type": "application/json"})
        self.response = self._connection.getresponse()
        self._digest = hashlib.sha256()
        self.arrived = 0

    def read(self, size: int) -> int:
        """Read up to `size` bytes and return how many arrived: fewer only at the end of the body or at a cut."""
        buffer = memoryview(bytearray(min(size, MIB)))
        before = self.arrived
        with suppress(ConnectionResetError):
            while self.arrived < before + size:
                count = self.response.readinto(buffer[: before + size - self.arrived])
                if not count:
                    break
                self._digest.update(buffer[:count])
                self.arrived += count
        return self.arrived - before

    def finish(self) -> Loaded:
        """Read to the end of the body or to a cut, and return the result."""
        announced = int(self.response.headers["Content-Length"])
        if self.response.status != 200:
            return Loaded(self.response.status, json.loads(self.response.read())["code"], announced, 0, "")
        self.read(announced)
        return Loaded(200, None, announced, self.arrived, self._digest.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()


def load_hashed(url: str, filename: str) -> Loaded:
    """Load a model, and return the result."""
    with OpenLoad(url, filename) as opened:
        return opened.finish()


def load_patiently(url: str, filename: str) -> Loaded:
    """Load a model; while the loader responds with BUSY, retry after the time in Retry-After."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with OpenLoad(url, filename) as opened:
            done = opened.finish()
            if done.code != "BUSY" or time.monotonic() > deadline:
                return done
            time.sleep(int(opened.response.headers["Retry-After"]))


def get_status(url: str) -> dict[str, Any]:
    """Return the document of GET /status."""
    document: dict[str, Any] = call(url, "GET", "/status").json()
    return document
