"""HTTP to the resource API: requests, responses, redirects, TLS, timeouts. The only importer of requests.

The bearer token goes to the address of the API and nowhere else: redirects are followed here, without the token. The
environment has no effect: no proxy, no `.netrc`, no bundle of authorities is taken from it.
"""

from __future__ import annotations

import functools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from requests import PreparedRequest, RequestException
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.util import parse_url

from loader.api_client import deadlines, reasons
from loader.api_client.connections import pools_by_scheme, tls_context
from loader.api_client.deadlines import Late
from loader.api_client.reasons import Peer
from loader.api_client.redirects import MAX_REDIRECTS, given_address, redirect_target, refused_redirect
from loader.api_client.responses import Response
from loader.errors import ApiProtocol, ApiUnreachable, Checkpoint
from loader.logs import current_request_id

# A failure counts for a minute, because a caller that stops asking would otherwise never learn that the API is back.
UNREACHABLE_SECONDS = 60.0
# What the HTTP library raises. ValueError: a header that cannot be sent, such as an ETag that the disk has damaged.
FOREIGN_ERRORS = (RequestException, HTTPError, ValueError, Late)


class Body(Protocol):
    """A request body of known size that can be sent again from its start. `bytes` will do as well."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes | memoryview]: ...


class Transport:
    """Sends requests to `base_url`. Threads may share it.

    `failure` says why the last request to the API itself got no response; None if it got one.
    """

    failure: ApiUnreachable | None = None

    def __init__(
        self, base_url: str, *, ca_bundle: str | None, timeouts: tuple[float, float], device_name: str | None = None
    ) -> None:
        """Take the timeouts in seconds: to connect, and of silence. `ca_bundle` None means the system's authorities.

        The API, and no server that it redirects to, learns `device_name`.
        """
        self._device = {"Azaion-Device": device_name} if device_name is not None else {}
        self._base_url = parse_url(base_url).url.rstrip("/")
        self._timeouts = timeouts
        self._adapters = _Adapters(timeouts[1], functools.cache(functools.partial(tls_context, ca_bundle)))
        self._unreachable_since: float | None = None

    @property
    def reachable(self) -> bool:
        """Whether the last request to the API itself got a response, or failed more than a minute ago."""
        since = self._unreachable_since
        return since is None or time.monotonic() - since > UNREACHABLE_SECONDS

    def deadline(self, checkpoint: Checkpoint, seconds: float | None = None) -> AbstractContextManager[object]:
        """Limit a block that sends and reads what is small: all of it, with redirects and repetitions, ends in time.

        `checkpoint` and the end of the process end it early. `seconds` replace the limit for what is large.
        """

        def ended_by() -> None:
            deadlines.require_running()
            checkpoint()

        limit = sum(self._timeouts) + deadlines.SPARE_SECONDS if seconds is None else seconds
        return deadlines.deadline(limit, ended_by)

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

        `path` begins with a slash and is already quoted, or is a whole address that the API has given, which gets no
        `token`. `document` is sent as JSON. At most `redirects` redirects are followed. Raises ApiUnreachable, and
        ApiProtocol for an address or a redirect that the contract does not allow.
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
        url, own = self._base_url + path, self._device | ({"Authorization": f"Bearer {token}"} if token else {})
        if is_given := not path.startswith("/"):
            url, own = self._given(path)
        left = redirects
        while True:
            request = _prepared(method, url, common | own, body)
            response = self._send_once(request, repeatable=repeatable)
            response.was_redirected = is_given or left < redirects
            if not 300 <= response.status < 400:
                return response
            response.close()
            target = redirect_target(method, url, response) if left else None
            if target is None:
                raise refused_redirect(method, url, response)
            (url, own), left = target, left - 1

    def _given(self, address: str) -> tuple[str, dict[str, str]]:
        given = given_address(self._base_url, address)
        if given is None:
            raise ApiProtocol("The resource API gave an address that is not allowed.")
        return given

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
            self.failure = type(failure)(str(failure), hint=failure.hint) if failure is not None else None
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
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = pools_by_scheme(self._silence_seconds)

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


def _cause(exc: Exception) -> Exception:
    """Return the error of urllib3 that an error of requests wraps, or `exc` itself."""
    wrapped = exc.args[0] if isinstance(exc, RequestException) and exc.args else None
    return wrapped if isinstance(wrapped, Exception) else exc


def _is_dropped(exc: Exception) -> bool:
    """Whether a connection was closed before the first byte of a response."""
    # http.client.RemoteDisconnected is a ConnectionError.
    return isinstance(exc, ProtocolError) and isinstance(exc.args[-1], ConnectionError)
