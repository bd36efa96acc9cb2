"""Loads as clients make them: streamed, counted and hashed, whole or cut, patient or not."""

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

from tests.support.http_calls import ANSWER_SECONDS
from tests.support.stored_resources import FOLDER, MIB

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Loaded:
    """What came of a load. `code` is that of a problem; `sha256` and `arrived` are of the body's bytes."""

    status: int
    code: str | None
    announced: int
    arrived: int
    sha256: str

    @property
    def cut(self) -> bool:
        """Whether the client can see that the body is not whole."""
        return self.status == 200 and self.arrived < self.announced


class OpenLoad:
    """A load whose answer has begun. Leaving it closes the connection, wherever it is."""

    def __init__(self, url: str, filename: str, *, receive_buffer: int | None = None) -> None:
        """`receive_buffer` bounds what the kernel takes on behalf of a client that does not read."""
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
        """Take up to `size` bytes and count them; fewer only at the end or at a cut."""
        buffer = memoryview(bytearray(min(size, MIB)))
        begin = self.arrived
        with suppress(ConnectionResetError):
            while self.arrived < begin + size:
                count = self.response.readinto(buffer[: begin + size - self.arrived])
                if not count:
                    break
                self._digest.update(buffer[:count])
                self.arrived += count
        return self.arrived - begin

    def finish(self) -> Loaded:
        """Read to the end, wherever that is."""
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
    """One load, to its end."""
    with OpenLoad(url, filename) as opened:
        return opened.finish()


def load_patiently(url: str, filename: str) -> Loaded:
    """A load that is repeated while the loader is busy, as Retry-After says."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with OpenLoad(url, filename) as opened:
            done = opened.finish()
            if done.code != "BUSY" or time.monotonic() > deadline:
                return done
            time.sleep(int(opened.response.headers["Retry-After"]))


def get_status(url: str) -> dict[str, Any]:
    """GET /status."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/status")
        document: dict[str, Any] = json.loads(connection.getresponse().read())
        return document
    finally:
        connection.close()
