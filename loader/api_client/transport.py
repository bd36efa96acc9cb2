"""HTTP to the resource API: requests, answers, redirects.

The bearer goes to the API's own address and nowhere else: a redirect is followed by hand, without it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from functools import partial
from json import dumps
from typing import Any, Protocol
from urllib.parse import unquote, urljoin

from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers, parse_url

from loader.api_client.connections import Connections, patient_pools
from loader.api_client.faults import cut, is_dropped, unreachable
from loader.errors import ApiProtocol
from loader.logs import current_request_id

MAX_REDIRECTS = 5
UNREACHABLE_SECONDS = 60.0
REDIRECTS_BY_METHOD = {"GET": (302, 303, 307), "PUT": (307,)}


class Body(Protocol):
    """A request body of known size that can be sent again from its begin. `bytes` will do as well."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes | memoryview]: ...


class Answer(io.RawIOBase):
    """A response whose body is read as a file. Close it: until then it holds a connection."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self._response = response

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the begin of `buffer`; 0 at the end. A body that is cut or stalls raises ApiUnreachable."""
        try:
            # What has come, not what fits: a link that stalls must not take along what it has delivered.
            piece = self._response.read1(len(buffer))
        except HTTPError as exc:
            raise cut(exc) from exc
        buffer[: len(piece)] = piece
        return len(piece)

    def read_all(self, limit: int) -> bytes:
        """The whole body, which must not exceed `limit` bytes, and close; a longer one raises ApiProtocol."""
        with self:
            body = bytearray()
            while piece := self.read(min(limit + 1 - len(body), 1 << 20)):
                body += piece
                if len(body) > limit:
                    raise ApiProtocol(
                        f"The resource API answered with more than {limit} bytes where that is the limit."
                    )
        return bytes(body)

    def close(self) -> None:
        if not self.closed:
            # With its connection, unless that has gone back to its pool after the last byte.
            self._response.close()
        super().close()


class Transport:
    """Sends requests to `base_url`. Safe to share between threads."""

    def __init__(self, base_url: str, *, ca_bundle: str | None, timeouts: tuple[float, float]) -> None:
        """`timeouts` are seconds to connect and seconds of silence; `ca_bundle` None means the system's."""
        self._base_url = base_url.rstrip("/")
        timeout = Timeout(connect=timeouts[0], read=timeouts[1])
        self._connections = Connections(patient_pools(timeouts[1], ca_bundle), timeout)
        self._unreachable_since: float | None = None

    @property
    def reachable(self) -> bool:
        """Whether the last request to the API itself got an answer. A failure counts for a minute: who relies on this
        and asks for nothing meanwhile would never learn better."""
        since = self._unreachable_since
        return since is None or time.monotonic() - since > UNREACHABLE_SECONDS

    def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        json: Any = None,
        body: Body | bytes | None = None,
        redirects: int = MAX_REDIRECTS,
    ) -> Answer:
        """The final answer, whatever its status; raises ApiUnreachable, and ApiProtocol for a redirect out of contract.

        `path` begins with a slash and is already quoted. At most `redirects` are followed.
        """
        # A compressed body would make lengths and ranges mean something else.
        common = {"Accept-Encoding": "identity", "X-Request-ID": current_request_id() or "", **(headers or {})}
        repeatable = body is None
        if json is not None:
            body = dumps(json).encode()
            common["Content-Type"] = "application/json"
        if body is not None:
            common["Content-Length"] = str(len(body))
        url, credentials = self._base_url + path, {"Authorization": f"Bearer {token}"} if token else {}
        for _ in range(1 + redirects):
            answer = self._send_once(method, url, common | credentials, body, repeatable=repeatable)
            if not 300 <= answer.status < 400:
                return answer
            url, credentials = _redirected(method, url, answer)
        raise ApiProtocol(f"The resource API redirected more than {redirects} times.")

    def _send_once(
        self, method: str, url: str, headers: dict[str, str], body: Body | bytes | None, *, repeatable: bool
    ) -> Answer:
        request = partial(
            self._connections.pools.urlopen,
            method,
            url,
            redirect=False,
            headers=headers,
            body=body,
            preload_content=False,
            decode_content=False,
        )
        try:
            response = _sent_anew_if_dropped(request) if repeatable else request()
        # ValueError says that a header cannot be sent, such as an ETag that the disk has spoiled.
        except (HTTPError, ValueError) as exc:
            self._note_reached(url, reached=False)
            raise unreachable(exc) from exc
        self._note_reached(url, reached=True)
        return Answer(response)

    def _note_reached(self, url: str, *, reached: bool) -> None:
        # A CDN that the API redirects to says nothing about the API.
        if url.startswith(f"{self._base_url}/"):
            self._unreachable_since = None if reached else time.monotonic()


def _redirected(method: str, url: str, answer: Answer) -> tuple[str, dict[str, str]]:
    answer.close()
    location = answer.headers.get("Location", "")
    target = _redirect_target(url, location) if answer.status in REDIRECTS_BY_METHOD.get(method, ()) else None
    if target is None:
        raise ApiProtocol(f"The resource API answered a {method} with a redirect ({answer.status}) out of contract.")
    return target


def _sent_anew_if_dropped(request: Callable[[], BaseHTTPResponse]) -> BaseHTTPResponse:
    """Once more, on a connection of its own, if one that was kept is closed just as it is used (RFC 9112, 9.3.1).

    Every server closes idle connections after some seconds. For requests without a body, or a login: a body that has
    begun to go up is not sent twice.
    """
    try:
        return request()
    except HTTPError as exc:
        if not is_dropped(exc):
            raise
        return request()


def _redirect_target(origin: str, location: str) -> tuple[str, dict[str, str]] | None:
    """Where `location` leads, with a header of the credentials that it holds: to any host, but neither out of HTTP nor
    from https to http. None for anything else."""
    try:
        target = parse_url(urljoin(origin, location))
        credentials = make_headers(basic_auth=unquote(target.auth)) if target.auth else {}
    except ValueError:
        return None
    allowed = target.scheme == "https" or target.scheme == parse_url(origin).scheme == "http"
    named = target.host and not target.host.startswith(("*", "."))
    return (target.url, credentials) if allowed and named and location and location.isascii() else None
