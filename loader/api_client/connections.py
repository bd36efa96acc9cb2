"""Connections to the resource API: whom they trust, and the patience that they have with a slow line when they send.

The HTTP library gives each piece of a body as long as a connection may take to be made, and the piece as a whole: a
megabyte does not make it over a slow line, however steadily it moves. Here each byte may take the time of silence.
"""

from __future__ import annotations

import socket
import ssl
import threading
from functools import cache
from typing import Any

from urllib3 import PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

UNSENT_SIZE = 1 << 17
SOCKET_OPTIONS = (
    *HTTPConnection.default_socket_options,
    # Megabytes that wait in the kernel would go on the account of the answer, which then seems to be late.
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_SIZE),
)


class Connections(threading.local):
    """`pools` keeps connections to each host, and is each thread's own: the locks of a shared one cost more time."""

    def __init__(self, pool_classes: dict[str, type[HTTPConnectionPool]], timeout: Timeout) -> None:
        """Called anew in each thread. `pool_classes` are those of `patient_pools`."""
        # Neither a retry nor a redirect of the library's own.
        self.pools = PoolManager(maxsize=1, timeout=timeout, retries=Retry(False), socket_options=SOCKET_OPTIONS)
        self.pools.pool_classes_by_scheme = pool_classes


class _Patient(HTTPConnection):
    silence_seconds: float
    # What is given to the socket at once: it takes what fits and says how much that was.
    piece_size = 1 << 20

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.silence_seconds)
        rest = memoryview(data)
        while rest:
            rest = rest[self.sock.send(rest[: self.piece_size]) :]


def patient_pools(silence_seconds: float, ca_bundle: str | None) -> dict[str, type[HTTPConnectionPool]]:
    """The pools by scheme, for urllib3's pool manager. Reading and connecting have the library's own time-outs.

    `ca_bundle` is a file of authorities; None means those that the system trusts.
    """

    # Reading all authorities takes longer than a small load: done once, and not for an API without TLS.
    @cache
    def tls() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=ca_bundle)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    class Plain(_Patient):
        pass

    class Secure(_Patient, HTTPSConnection):
        # A record of TLS: here the socket takes all that it is given, within the one time.
        piece_size = 1 << 14

        def connect(self) -> None:
            self.ssl_context = tls()
            super().connect()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    Plain.silence_seconds = Secure.silence_seconds = silence_seconds
    return {"http": PlainPool, "https": SecurePool}
