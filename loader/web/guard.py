"""What a request passes before its view: its id, the checks of host name and origin, the client address, the slots."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from flask import Flask, request
from werkzeug.wsgi import ClosingIterator

from loader.errors import Busy, CrossOrigin, LoaderError, UntrustedHost
from loader.logs import failures_audited, sane_request_id, set_client, set_request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REQUEST_ID_HEADER = "X-Request-ID"
CLIENT_SILENCE_SECONDS = 60.0
# Load balancers and Kubernetes send an IP address or no Host header at all. Neither path reveals a secret.
PROBED_PATHS = ("/health", "/ready")
# What audit lines call the client that uses the unix socket itself.
UNIX_SOCKET = "unix socket"
# The event of the audit line of a view, for requests that are refused before it.
EVENTS = {
    "auth.login": "login",
    "auth.lock": "lock",
    "resources.load": "load",
    "models.model": "load",
    "uploads.upload": "upload",
    "unlock.unlock": "unlock",
    "unlock.back": "back",
    "unlock.cancel": "cancel",
    "images.fetch": "fetch",
    "images.cancel": "cancel",
}
# A page of another origin must neither get a model nor make the loader ask the API for anything.
ASKING_PATHS = ("/models", "/images/published")
# The delay is random, because clients that were refused together would otherwise retry together.
RETRY_AFTER_SECONDS = range(1, 4)


class RequestIds:
    """WSGI middleware that gives each request an id: the client's own or a new one.

    The id stands in the log lines, in the requests to the resource API and in the response. It is valid until the
    response is closed, because a body is streamed after the view has returned.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request_id = sane_request_id(environ.get("HTTP_X_REQUEST_ID"))
        set_request_id(request_id)

        def start_with_id(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, (REQUEST_ID_HEADER, request_id)], exc_info)

        return ClosingIterator(self._app(environ, start_with_id), lambda: set_request_id(None))


def register_guard(app: Flask, trusted_hosts: tuple[str, ...]) -> None:
    """Make `app` refuse requests to other host names and from pages of other origins before any view runs.

    The refusals are UntrustedHost and CrossOrigin. On a server with several processes every request is refused, because
    each process would have a login of its own.
    """
    trusted = frozenset(host.lower() for host in trusted_hosts)

    @app.before_request
    def _guard() -> None:
        set_client(client_address() or UNIX_SOCKET)
        _limit_silence()
        event = EVENTS.get(request.endpoint or "")
        named = request.view_args or {}
        file = named.get("filename", named.get("path"))
        with failures_audited(event, file) if event else nullcontext():
            _require_fair(trusted)


def _require_fair(trusted: frozenset[str]) -> None:
    if request.is_multiprocess:
        raise LoaderError("The server runs the loader in several processes; it must run one.")
    if request.path not in PROBED_PATHS and _host_name(request.headers.get("Host", "")) not in trusted:
        raise UntrustedHost("The loader does not serve this host name.")
    if request.method not in ("GET", "HEAD", "OPTIONS") or request.path.startswith(ASKING_PATHS):
        _refuse_other_origins()


def client_address() -> str:
    """Return the client's IP address; empty for a program on this machine that uses the unix socket itself.

    On a unix socket the last element of X-Forwarded-For counts, because only a program with the right to open the
    socket, such as a proxy, can have written it. Over TCP anybody could send that header, so the address of the
    connection counts.
    """
    if request.remote_addr:
        return request.remote_addr
    claimed = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    try:
        return str(ip_address(claimed))
    except ValueError:
        return ""


class TransferSlots:
    """The slots that limit how many loads, uploads and cache verifications run at a time.

    Taking a slot never waits, because a waiting request would occupy a thread that other requests need.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._lock = threading.Lock()
        self._taken: set[Slot] = set()

    @property
    def taken(self) -> int:
        """How many slots are taken now."""
        return len(self._taken)

    def take(self) -> Slot:
        """Take a slot, which the caller must close. Raises Busy if all slots are taken."""
        slot = Slot(self)
        with self._lock:
            if len(self._taken) >= self.count:
                raise Busy("All transfer slots are taken.", secrets.choice(RETRY_AFTER_SECONDS))
            self._taken.add(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Make a slot free; see `Slot.close`."""
        with self._lock:
            self._taken.discard(slot)


class Slot:
    """A slot that a request holds until `close()` or the end of its `with` block."""

    def __init__(self, slots: TransferSlots) -> None:
        self._slots = slots

    def close(self) -> None:
        """Give the slot back; further calls do nothing."""
        self._slots.give_back(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _limit_silence() -> None:
    """Cut a client that neither sends nor receives for CLIENT_SILENCE_SECONDS. Only gunicorn shows its socket."""
    client = request.environ.get("gunicorn.socket")
    if client is not None:
        client.settimeout(CLIENT_SILENCE_SECONDS)


def _refuse_other_origins() -> None:
    """Raise CrossOrigin if a browser says that a page of another origin sends the request.

    Browsers send Sec-Fetch-Site; older browsers and pages over plain HTTP send Origin. Programs send neither and pass.
    Only host names are compared, because behind a proxy that ends TLS the loader does not know which scheme and port
    the browser used.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    elif origin is not None:
        foreign = _origin_host_name(origin) != _host_name(request.headers.get("Host", ""))
    else:
        foreign = False
    if foreign:
        raise CrossOrigin("Pages of other origins may not use the loader.")


def _origin_host_name(origin: str) -> str | None:
    """Return the host name in an Origin header; None if it cannot be parsed."""
    try:
        return _host_name(urlsplit(origin).netloc)
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """Return `host` in lower case without its port; an IPv6 address keeps its brackets."""
    name = host.lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
