"""HTTP to the resource API: requests, responses, redirects, TLS, timeouts. The only importer of requests.

The bearer token goes to the address of the API and nowhere else: redirects are followed here, without the token. The
environment has no effect: no proxy, no `.netrc`, no bundle of authorities is taken from it.
"""

from __future__ import annotations

import functools
import io
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import unquote, urljoin

from requests import PreparedRequest, RequestException
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.util import make_headers, parse_url

from loader.api_client import reasons
from loader.api_client.reasons import Peer
from loader.errors import ApiProtocol, ApiUnreachable
from loader.logs import current_request_id

MAX_REDIRECTS = 5
REDIRECTS_BY_METHOD = {"GET": (302, 303, 307), "PUT": (307,)}
# A failure counts for a minute, because a caller that stops asking would otherwise never learn that the API is back.
UNREACHABLE_SECONDS = 60.0
UNSENT_SIZE = 1 << 17
# NAT and load balancers forget idle connections without a word, and a request would then hang until the time-out.
IDLE_SECONDS = 4.0
SOCKET_OPTIONS = (
    *HTTPConnection.default_socket_options,
    # Limit what waits in the kernel, because the API responds only once it has arrived and would seem to be late.
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_SIZE),
    # Keep the way through NAT open while the API works on a response; these are seconds, and the last is a count.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
# What the HTTP library raises. ValueError: a header that cannot be sent, such as an ETag that the disk has damaged.
FOREIGN_ERRORS = (RequestException, HTTPError, ValueError)


class Body(Protocol):
    """A request body of known size that can be sent again from its start. `bytes` will do as well."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes | memoryview]: ...


class Response(io.RawIOBase):
    """A response whose body is read as a file. It holds a connection until the caller closes it."""

    def __init__(self, raw: BaseHTTPResponse, peer: Peer) -> None:
        """`raw` is the response of urllib3, whose body has not been read. `peer` has sent it."""
        self.peer = peer
        self.status = raw.status
        self.headers = raw.headers
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the start of `buffer` and return how many bytes came; 0 at the end.

        Raises ApiUnreachable if the body is cut or stalls.
        """
        try:
            # Take what has come, not what fits, because a link that stalls must not keep what it has delivered.
            piece = self._raw.read1(len(buffer))
        except HTTPError as exc:
            raise reasons.cut(exc, self.peer) from exc
        buffer[: len(piece)] = piece
        return len(piece)

    def read_all(self, limit: int) -> bytes:
        """Return the whole body and close. Raises ApiProtocol if it has more than `limit` bytes."""
        with self:
            body = bytearray()
            while piece := self.read(min(limit + 1 - len(body), 1 << 20)):
                body += piece
                if len(body) > limit:
                    raise ApiProtocol(f"The resource API sent more than {limit} bytes where that is the limit.")
        return bytes(body)

    def close(self) -> None:
        if not self.closed:
            # This closes the connection too, unless the last byte has been read and the pool has it back.
            self._raw.close()
        super().close()


class Transport:
    """Sends requests to `base_url`. Threads may share it.

    `failure` says why the last request to the API itself got no response; None if it got one.
    """

    failure: ApiUnreachable | None = None

    def __init__(self, base_url: str, *, ca_bundle: str | None, timeouts: tuple[float, float]) -> None:
        """Take the timeouts in seconds: to connect, and of silence. `ca_bundle` None means the system's authorities."""
        self._base_url = parse_url(base_url).url.rstrip("/")
        self._timeouts = timeouts
        self._adapters = _Adapters(timeouts[1], functools.cache(functools.partial(_tls_context, ca_bundle)))
        self._unreachable_since: float | None = None

    @property
    def reachable(self) -> bool:
        """Whether the last request to the API itself got a response, or failed more than a minute ago."""
        since = self._unreachable_since
        return since is None or time.monotonic() - since > UNREACHABLE_SECONDS

    def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        document: Any = None,
        body: Body | bytes | None = None,
        redirects: int = MAX_REDIRECTS,
    ) -> Response:
        """Return the final response, whatever its status.

        `path` begins with a slash and is already quoted. `document` is sent as JSON. At most `redirects` redirects are
        followed. Raises ApiUnreachable, and ApiProtocol for a redirect that the contract does not allow.
        """
        # Refuse compression, because lengths and ranges would then mean something else.
        common = {"Accept-Encoding": "identity", "X-Request-ID": current_request_id() or "", **(headers or {})}
        # Only a request without a body of the caller is repeated: an upload that has started is not sent twice.
        repeatable = body is None
        if document is not None:
            body = json.dumps(document).encode()
            common["Content-Type"] = "application/json"
        if body is not None:
            common["Content-Length"] = str(len(body))
        url, credentials = self._base_url + path, {"Authorization": f"Bearer {token}"} if token else {}
        for _ in range(1 + redirects):
            request = _prepared(method, url, common | credentials, body)
            response = self._send_once(request, repeatable=repeatable)
            if not 300 <= response.status < 400:
                return response
            url, credentials = _redirected(method, url, response)
        raise ApiProtocol(f"The resource API redirected more than {redirects} times.")

    def _send_once(self, request: PreparedRequest, *, repeatable: bool) -> Response:
        send: Callable[[], Any] = functools.partial(
            self._adapters.adapter.send, request, stream=True, timeout=self._timeouts
        )
        peer = Peer(str(request.url), is_api=self._is_own(request))
        try:
            response = _retried_if_dropped(send) if repeatable else send()
        except FOREIGN_ERRORS as exc:
            failure = reasons.unreached(_cause(exc), peer)
            self._note_reached(request, failure)
            raise failure from exc
        self._note_reached(request, None)
        return Response(response, peer)

    def _note_reached(self, request: PreparedRequest, failure: ApiUnreachable | None) -> None:
        # Ignore a CDN that the API redirects to, because it tells nothing about the API.
        if self._is_own(request):
            # Keep a copy, because an error that was raised keeps its frames, and with them the password.
            self.failure = ApiUnreachable(str(failure), hint=failure.hint) if failure is not None else None
            self._unreachable_since = None if failure is None else time.monotonic()

    def _is_own(self, request: PreparedRequest) -> bool:
        return str(request.url).startswith(f"{self._base_url}/")


class _Adapters(threading.local):
    """One adapter a thread, with its own connections, because the locks of a shared pool cost more time."""

    def __init__(self, silence_seconds: float, tls_context: Callable[[], ssl.SSLContext]) -> None:
        """Called again in each thread that uses it."""
        self.adapter = _Adapter(silence_seconds, tls_context)


class _Adapter(HTTPAdapter):
    """Keeps one connection to each host. Neither retries nor follows redirects."""

    def __init__(self, silence_seconds: float, tls_context: Callable[[], ssl.SSLContext]) -> None:
        """Let each piece of a body take `silence_seconds` to be sent. `tls_context` is called when TLS is needed."""
        self._silence_seconds = silence_seconds
        self._tls_context = tls_context
        super().__init__(pool_maxsize=1, max_retries=Retry(False))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, socket_options=SOCKET_OPTIONS, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = _patient_pools(self._silence_seconds)

    def get_connection_with_tls_context(self, request: PreparedRequest, *_: Any, **__: Any) -> HTTPConnectionPool:
        """Trust the authorities of `tls_context` only, and use no proxy."""
        url = str(request.url)
        tls = {"ssl_context": self._tls_context()} if url.startswith("https:") else {}
        pool: HTTPConnectionPool = self.poolmanager.connection_from_url(url, tls)
        return pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add nothing, because the inherited method adds the authorities of the package certifi."""

    def request_url(self, request: PreparedRequest, _: Any) -> str:
        """Return the path and the query, because there is no proxy that needs the whole URL."""
        return request.path_url

    def build_response(self, _: PreparedRequest, resp: Any) -> Any:
        """Return the response of urllib3 as it is, because cookies and decoded bodies are not wanted."""
        return resp


class _PatientConnection(HTTPConnection):
    """Gives each piece of a body the time of silence.

    The library gives a whole body of a request the time to connect: a megabyte does not make it over a slow line,
    however steadily it moves.
    """

    silence_seconds: float
    # The socket takes what fits of this and says how much that was.
    piece_size = 1 << 20

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.silence_seconds)
        rest = memoryview(data)
        while rest:
            rest = rest[self.sock.send(rest[: self.piece_size]) :]


class _FreshPool(HTTPConnectionPool):
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


def _patient_pools(silence_seconds: float) -> dict[str, type[HTTPConnectionPool]]:
    """Return the classes of pools by scheme, as urllib3's pool manager takes them."""

    class Plain(_PatientConnection):
        pass

    class Secure(_PatientConnection, HTTPSConnection):
        # One TLS record, because a TLS socket takes all that it is given within one timeout.
        piece_size = 1 << 14

    class PlainPool(_FreshPool):
        ConnectionCls = Plain

    class SecurePool(_FreshPool, HTTPSConnectionPool):
        ConnectionCls = Secure

    Plain.silence_seconds = Secure.silence_seconds = silence_seconds
    return {"http": PlainPool, "https": SecurePool}


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return settings that verify certificate and host name. To read all authorities takes longer than a small load."""
    context = ssl.create_default_context(cafile=ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _prepared(method: str, url: str, headers: dict[str, str], body: Body | bytes | None) -> PreparedRequest:
    # Set the attributes as they are, because `prepare` would quote a signed URL again and look for cookies.
    request = PreparedRequest()
    request.method, request.url = method, url
    request.headers = headers  # type: ignore[assignment]  # a plain dict is enough: all names are written here
    request.body = body  # type: ignore[assignment]  # the stub does not know bodies that are sent in pieces
    return request


def _retried_if_dropped(send: Callable[[], Any]) -> Any:
    """Send once more, on a new connection, if a kept one was closed just as it was used (RFC 9112, section 9.3.1).

    Every server closes idle connections after some seconds.
    """
    try:
        return send()
    except FOREIGN_ERRORS as exc:
        if not _is_dropped(_cause(exc)):
            raise
        return send()


def _redirected(method: str, url: str, response: Response) -> tuple[str, dict[str, str]]:
    response.close()
    location = response.headers.get("Location", "")
    target = _redirect_target(url, location) if response.status in REDIRECTS_BY_METHOD.get(method, ()) else None
    if target is None:
        raise ApiProtocol(
            f"The resource API responded to a {method} with a redirect ({response.status}) that is not allowed."
        )
    return target


def _redirect_target(origin: str, location: str) -> tuple[str, dict[str, str]] | None:
    """Return where `location` leads, with a header for the credentials that it contains.

    Any host is allowed, but neither another scheme than HTTP nor a way from https to http. None for anything else.
    """
    try:
        target = parse_url(urljoin(origin, location))
        credentials = make_headers(basic_auth=unquote(target.auth)) if target.auth else {}
    except ValueError:
        return None
    allowed = target.scheme == "https" or target.scheme == parse_url(origin).scheme == "http"
    named = target.host and not target.host.startswith(("*", "."))
    return (target.url, credentials) if allowed and named and location and location.isascii() else None


def _cause(exc: Exception) -> Exception:
    """Return the error of urllib3 that an error of requests wraps, or `exc` itself."""
    wrapped = exc.args[0] if isinstance(exc, RequestException) and exc.args else None
    return wrapped if isinstance(wrapped, Exception) else exc


def _is_dropped(exc: Exception) -> bool:
    """Whether a connection was closed before the first byte of a response."""
    # http.client.RemoteDisconnected is a ConnectionError.
    return isinstance(exc, ProtocolError) and isinstance(exc.args[-1], ConnectionError)
