"""HTTP to the resource API: sessions, redirects, time-outs, translation of errors. The only importer of requests.

The bearer goes to the API's own address and nowhere else: a redirect is followed by hand, without it.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from loader.errors import ApiProtocol, ApiUnreachable
from loader.logs import current_request_id

MAX_REDIRECTS = 5
REDIRECTS_BY_METHOD = {"GET": (302, 303, 307), "PUT": (307,)}

FOREIGN_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)


class Body(Protocol):
    """A request body of known size that can be sent again from its begin. `bytes` will do as well."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


class Answer(io.RawIOBase):
    """A response whose body is read as a file. Close it: until then it holds a connection."""

    def __init__(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response = response

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the begin of `buffer`; 0 at the end. A body that is cut or stalls raises ApiUnreachable."""
        try:
            # What has come, not what fits: a link that stalls must not take along what it has delivered.
            piece = self._response.raw.read1(len(buffer))
        except FOREIGN_ERRORS as exc:
            raise unreachable(exc) from exc
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
            self._response.close()
        super().close()


class Transport:
    """Sends requests to `base_url`. One HTTP session a thread: the library does not promise more."""

    def __init__(self, base_url: str, *, ca_bundle: str | None, timeouts: tuple[float, float]) -> None:
        """`timeouts` are seconds to connect and seconds of silence; `ca_bundle` None means the library's own."""
        self._base_url = base_url.rstrip("/")
        self._verify = ca_bundle or True
        self._timeouts = timeouts
        self._threads = threading.local()

    def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        json: Any = None,
        body: Body | bytes | None = None,
    ) -> Answer:
        """The final answer, whatever its status; raises ApiUnreachable, and ApiProtocol for a redirect out of contract.

        `path` begins with a slash and is already quoted.
        """
        url = self._base_url + path
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        for _ in range(1 + MAX_REDIRECTS):
            answer = self._send_once(method, url, bearer | (headers or {}), json, body)
            if not 300 <= answer.status < 400:
                return answer
            url, bearer = self._redirected(method, url, answer), {}
        raise ApiProtocol(f"The resource API redirected more than {MAX_REDIRECTS} times.")

    def _send_once(
        self, method: str, url: str, headers: dict[str, str], json: Any, body: Body | bytes | None
    ) -> Answer:
        try:
            response = self._session().request(
                method,
                url,
                headers=headers | {"X-Request-ID": current_request_id() or ""},
                json=json,
                data=body,  # an iterable with a length is sent with Content-Length
                timeout=self._timeouts,
                verify=self._verify,
                allow_redirects=False,
                stream=True,
            )
        except FOREIGN_ERRORS as exc:
            raise unreachable(exc) from exc
        return Answer(response)

    def _redirected(self, method: str, url: str, answer: Answer) -> str:
        answer.close()
        location = answer.headers.get("Location", "")
        target = _redirect_target(url, location) if answer.status in REDIRECTS_BY_METHOD.get(method, ()) else None
        if target is None:
            raise ApiProtocol(
                f"The resource API answered a {method} with a redirect ({answer.status}) out of contract."
            )
        return target

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._threads, "session", None)
        if session is None:
            session = _Session()
            # Else ~/.netrc replaces the bearer, and a proxy of the environment sees it.
            session.trust_env = False
            # A compressed body would make lengths and ranges mean something else.
            session.headers["Accept-Encoding"] = "identity"
            self._threads.session = session
        return session


class _Session(requests.Session):
    """Looks at no redirect: the library reads all of its body and parses its target, even if told not to follow it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, which the library takes for an answer that is no redirect."""


def _redirect_target(origin: str, location: str) -> str | None:
    """Where `location` leads: to any host, but neither out of HTTP nor from https to http. None for anything else."""
    try:
        target = urljoin(origin, location)
        requests.Request("GET", target).prepare()
    except (ValueError, requests.RequestException):
        return None
    schemes = (urlsplit(origin).scheme, urlsplit(target).scheme)
    allowed = schemes in (("http", "http"), ("http", "https"), ("https", "https"))
    return target if allowed and location and location.isascii() else None


def unreachable(exc: Exception) -> ApiUnreachable:
    """The sentence names the kind of failure only: the library's text quotes URLs with their queries."""
    if isinstance(exc, requests.exceptions.SSLError):
        return ApiUnreachable("The resource API's certificate could not be verified.")
    if isinstance(exc, requests.Timeout | urllib3.exceptions.TimeoutError):
        return ApiUnreachable("The resource API did not answer in time.")
    return ApiUnreachable("The connection to the resource API failed or was cut.")
