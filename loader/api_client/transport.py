"""HTTP to the resource API: sessions, redirects, time-outs.

The bearer goes to the API's own address and nowhere else: a redirect is followed by hand, without it.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from loader.api_client.connections import patient_pools
from loader.api_client.faults import FOREIGN_ERRORS, is_dropped, unreachable
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
        self._pools = patient_pools(timeouts[1])
        self._threads = threading.local()
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
        url = self._base_url + path
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        for _ in range(1 + redirects):
            answer = self._send_once(method, url, bearer | (headers or {}), json, body)
            if not 300 <= answer.status < 400:
                return answer
            url, bearer = self._redirected(method, url, answer), {}
        raise ApiProtocol(f"The resource API redirected more than {redirects} times.")

    def _send_once(
        self, method: str, url: str, headers: dict[str, str], json: Any, body: Body | bytes | None
    ) -> Answer:
        request = partial(
            self._session().request,
            method,
            url,
            headers=headers | {"X-Request-ID": current_request_id() or ""},
            json=json,
            # An iterable with a length is sent with Content-Length; that its pieces may be views, no stub knows.
            data=body,  # type: ignore[arg-type]
            timeout=self._timeouts,
            verify=self._verify,
            allow_redirects=False,
            stream=True,
        )
        try:
            response = _sent_anew_if_dropped(request) if body is None else request()
        except FOREIGN_ERRORS as exc:
            self._note_reached(url, reached=False)
            raise unreachable(exc) from exc
        self._note_reached(url, reached=True)
        return Answer(response)

    def _note_reached(self, url: str, *, reached: bool) -> None:
        # A CDN that the API redirects to says nothing about the API.
        if url.startswith(f"{self._base_url}/"):
            self._unreachable_since = None if reached else time.monotonic()

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
            for scheme in self._pools:
                session.mount(f"{scheme}://", _Adapter(self._pools))
            # A compressed body would make lengths and ranges mean something else.
            session.headers["Accept-Encoding"] = "identity"
            # The contract knows none, and what is kept here would outlive the login.
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
            self._threads.session = session
        return session


class _Adapter(requests.adapters.HTTPAdapter):
    """The library's own, with other pools of connections."""

    def __init__(self, pools: Mapping[str, type[urllib3.HTTPConnectionPool]]) -> None:
        super().__init__()
        self.poolmanager.pool_classes_by_scheme = dict(pools)


class _Session(requests.Session):
    """Looks at no redirect: the library reads all of its body and parses its target, even if told not to follow it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, which the library takes for an answer that is no redirect."""


def _sent_anew_if_dropped(request: Callable[[], requests.Response]) -> requests.Response:
    """Once more, on a connection of its own, if one that was kept is closed just as it is used (RFC 9112, 9.3.1).

    Every server closes idle connections after some seconds. For requests without a body, or a login: a body that has
    begun to go up is not sent twice.
    """
    try:
        return request()
    except requests.ConnectionError as exc:
        if not is_dropped(exc):
            raise
        return request()


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
