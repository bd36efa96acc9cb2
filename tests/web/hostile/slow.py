"""Slow clients, which send nothing or half a request and reconnect when they are cut, and a prober of /health."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Self

from tests.support.http_calls import open_socket
from tests.support.http_probe import http_status
from tests.web.hostile.requests import FORM_TYPE, JSON_TYPE, head

ROUND_SECONDS = 0.2
JOIN_SECONDS = 30.0
# Each entry is what one client sends first. Together they may hold half of the loader's threads and a few of its
# transfer slots.
FIRST_BYTES = (
    *[b""] * 80,
    *[b"GET /health HTTP/1.1\r\nHost: local"] * 6,
    *[head(b"POST", b"/login", JSON_TYPE, b"Content-Length: 60000\r\n") + b'{"email": "'] * 4,
    head(b"POST", b"/upload/slow.bin", FORM_TYPE, b"Content-Length: 60000\r\n") + b"--",
    head(b"POST", b"/load/slow.bin", JSON_TYPE, b"Transfer-Encoding: chunked\r\n") + b"ff\r\n{",
)


class _Background:
    """A context manager whose thread calls `once` every `interval` seconds until the block ends."""

    interval: float

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def once(self) -> None:
        """Do one round of the work."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        while not self._over.wait(self.interval):
            self.once()


class SlowClients(_Background):
    """One connection for each of `FIRST_BYTES`, which sends single bytes; `opened` counts every connection so far."""

    interval = ROUND_SECONDS

    def __init__(self, url: str) -> None:
        super().__init__()
        self.opened = 0
        self._url = url
        self._connections: dict[int, socket.socket] = {}

    def once(self) -> None:
        """Open the missing connections, and send a byte on each connection that has sent first bytes."""
        for number, first in enumerate(FIRST_BYTES):
            connection = self._connections.get(number)
            if connection is None or self._is_cut(connection, bool(first)):
                if connection is not None:
                    connection.close()
                self._connections[number] = open_socket(self._url)
                self._connections[number].sendall(first)
                self.opened += 1

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        for connection in self._connections.values():
            connection.close()

    def _is_cut(self, connection: socket.socket, talks: bool) -> bool:
        if select.select([connection], [], [], 0)[0]:
            return True
        with suppress(OSError):
            connection.sendall(b"x" if talks else b"")
            return False
        return True


class HealthProber(_Background):
    """Requests /health all the time; `answers` counts the statuses, with None for a missing response.

    `slowest` is the longest probe in seconds.
    """

    interval = 0.05

    def __init__(self, url: str) -> None:
        super().__init__()
        self.answers: Counter[int | None] = Counter()
        self.slowest = 0.0
        self._url = url

    def once(self) -> None:
        """Send one probe on a new connection."""
        started = time.monotonic()
        self.answers[http_status(self._url, "/health")] += 1
        self.slowest = max(self.slowest, time.monotonic() - started)
