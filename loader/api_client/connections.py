"""Connections that have patience with a slow line when they send.

The HTTP library gives each piece of a body as long as a connection may take to be made, and the piece as a whole: a
megabyte does not make it over a slow line, however steadily it moves. Here each byte may take the time of silence.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

UNSENT_SIZE = 1 << 17


class _Patient(HTTPConnection):
    silence_seconds: float
    # What is given to the socket at once: it takes what fits and says how much that was.
    piece_size = 1 << 20

    def connect(self) -> None:
        super().connect()
        # Megabytes that wait in the kernel would go on the account of the answer, which then seems to be late.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_SIZE)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.silence_seconds)
        rest = memoryview(data)
        while rest:
            rest = rest[self.sock.send(rest[: self.piece_size]) :]


def patient_pools(silence_seconds: float) -> Mapping[str, type[HTTPConnectionPool]]:
    """The pools by scheme, for urllib3's pool manager. Reading and connecting have the library's own time-outs."""

    class Plain(_Patient):
        pass

    class Secure(_Patient, HTTPSConnection):
        # A record of TLS: here the socket takes all that it is given, within the one time.
        piece_size = 1 << 14

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    Plain.silence_seconds = Secure.silence_seconds = silence_seconds
    return {"http": PlainPool, "https": SecurePool}
