"""Connections to the API and to its stores: how they are made, kept and dropped, and that they obey deadlines.

Names are resolved and connections made here, because urllib3 gives each address of a name the whole time to connect,
and waits for the resolver of the system for as long as that likes.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.response import HTTPResponse

from loader.api_client import deadlines
from loader.api_client.deadlines import Deadline, deadline, wait_within
from loader.background import start_daemon

# From Linux' linux/tcp.h, because a Python that was built on an old system has no name for it in `socket`.
TCP_NOTSENT_LOWAT = 25
UNSENT_SIZE = 1 << 17
# NAT and load balancers forget idle connections without a word, and a request would then hang until the time-out.
IDLE_SECONDS = 4.0
SOCKET_OPTIONS = (
    *HTTPConnection.default_socket_options,
    # Limit what waits in the kernel, because the API responds only once it has arrived and would seem to be late.
    (socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_SIZE),
    # Keep the way through NAT open while the API works on a response; these are seconds, and the last is a count.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class PlainSocket(socket.socket):
    """A socket that obeys the deadline of the present call.

    It waits in steps, which are shorter than the timeout that was set. The socket keeps the timeout of a step, because
    each change is a system call that gives the GIL to another thread.
    """

    _silence: float | None = None

    def settimeout(self, value: float | None, /) -> None:
        """Let each operation wait for `value` seconds of silence; None is for ever."""
        if value is None or value != self._silence:
            self._silence = value
            super().settimeout(value)

    def gettimeout(self) -> float | None:
        return self._silence

    def recv_into(self, *args: Any) -> int:
        return self._within_deadline(partial(super().recv_into, *args))

    def send(self, *args: Any) -> int:
        return self._within_deadline(partial(super().send, *args))

    def _within_deadline(self, operation: Callable[[], int]) -> int:
        """Return what `operation` returns; it can be repeated after a TimeoutError, as TCP and TLS allow it.

        Raises TimeoutError after the timeout of the socket, and Late.
        """
        limit, silence = deadlines.present(), self._silence
        if limit is None or silence is None:
            self._set_step(silence)
            return operation()
        silent_at = time.monotonic() + silence
        while True:
            rest = max(silent_at - time.monotonic(), 1e-3)
            self._set_step(min(limit.left(), rest, deadlines.CHECK_SECONDS))
            try:
                return operation()
            except TimeoutError:
                if time.monotonic() >= silent_at:
                    raise

    def _set_step(self, seconds: float | None) -> None:
        if super().gettimeout() != seconds:
            super().settimeout(seconds)


class TlsSocket(PlainSocket, ssl.SSLSocket):
    """The same with TLS. A handshake has one timeout as a whole."""


class PlainConnection(HTTPConnection):
    """Gives each piece of a body the time of silence, and the head of a response a deadline.

    The library gives a whole body of a request the time to connect: a megabyte does not make it over a slow line,
    however steadily it moves.
    """

    silence_seconds: float
    # The socket takes what fits of this and says how much that was.
    piece_size = 1 << 20

    def connect(self) -> None:
        """Connect to the first address of the host that lets it."""
        with deadline(self._connect_seconds + deadlines.SPARE_SECONDS) as limit:
            self.sock = self._connected(limit)

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.silence_seconds)
        rest = memoryview(data)
        while rest:
            rest = rest[self.sock.send(rest[: self.piece_size]) :]

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3 has another type than http.client
        """Return the response once its head is here. Interim responses (1xx) without end do not extend the deadline."""
        with deadline(self.silence_seconds + deadlines.SPARE_SECONDS):
            return super().getresponse()

    @property
    def _connect_seconds(self) -> float:
        # The pool sets the time to connect before it is needed.
        return self.timeout or math.inf

    def _connected(self, limit: Deadline) -> socket.socket:
        failure = OSError("The name has no address.")
        try:
            for family, kind, protocol, _, address in self._addresses(limit):
                try:
                    return self._connected_to(address, PlainSocket(family, kind, protocol), limit)
                except OSError as exc:
                    failure = exc
            if isinstance(failure, TimeoutError):
                raise ConnectTimeoutError(self, "no connection in time") from failure
            raise NewConnectionError(self, str(failure)) from failure
        finally:
            # Break the cycle with the frames of the error, because those of the callers have a password.
            del failure

    def _addresses(self, limit: Deadline) -> list[tuple[Any, ...]]:
        look_up = partial(socket.getaddrinfo, self.host, self.port, type=socket.SOCK_STREAM)
        try:
            return list(wait_within(limit, start_daemon(look_up, "resolver")))
        except socket.gaierror as exc:
            raise NameResolutionError(self.host, self, exc) from exc

    def _connected_to(self, address: Any, sock: socket.socket, limit: Deadline) -> socket.socket:
        try:
            for option in SOCKET_OPTIONS:
                sock.setsockopt(*option)
            sock.settimeout(min(limit.left(), self._connect_seconds))
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock


class TlsConnection(PlainConnection, HTTPSConnection):
    """The same with TLS."""

    # One TLS record, because a TLS socket takes all that it is given within one timeout.
    piece_size = 1 << 14

    def connect(self) -> None:
        """Connect, and verify certificate and host name by `ssl_context`."""
        super().connect()
        if self.ssl_context is None:
            raise RuntimeError("A pool for TLS is made with a context.")
        self.sock = self.ssl_context.wrap_socket(self.sock, server_hostname=self.host)
        self.is_verified = True


class FreshPool(HTTPConnectionPool):
    """Closes a connection that was idle for IDLE_SECONDS instead of using it again."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        if time.monotonic() - getattr(connection, "idle_since", math.inf) >= IDLE_SECONDS:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


def pools_by_scheme(silence_seconds: float) -> dict[str, type[HTTPConnectionPool]]:
    """Return the classes of pools as urllib3's pool manager takes them. A peer may be silent for `silence_seconds`."""

    class Plain(PlainConnection):
        pass

    class Tls(TlsConnection):
        pass

    class PlainPool(FreshPool):
        ConnectionCls = Plain

    class TlsPool(FreshPool, HTTPSConnectionPool):
        ConnectionCls = Tls

    Plain.silence_seconds = Tls.silence_seconds = silence_seconds
    return {"http": PlainPool, "https": TlsPool}


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return settings that verify certificate and host name; None means the system's authorities.

    To read all of these takes longer than a small load.
    """
    context = ssl.create_default_context(cafile=ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = TlsSocket
    return context
