"""The address of a loader, as --url and LOADER_URL name it, and connections to it."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

FORMS = "http://host:port, https://host:port or unix:/path"


class LoaderAddress:
    """Where a loader listens: `http://host:port`, `https://host:port` or `unix:/path`.

    A URL may have a path, which stands before the path of every request, and a user with a password, which are sent as
    Basic authentication; both are for a proxy. `text` is the address without user and password. `ca` is a file of
    certificates to trust in place of those of the system. Raises ValueError for any other address, and OSError for a
    `ca` that has no certificates.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self.text = url
        self.prefix = ""
        self.headers: dict[str, str] = {}
        self._context: ssl.SSLContext | None = None
        self._url: SplitResult | None = None
        if url.startswith("unix:"):
            return
        self._url = _checked(url)
        self.prefix = quote(self._url.path.rstrip("/"), safe="/%", errors="surrogateescape")
        if "@" in self._url.netloc:
            user, _, password = self._url.netloc.rpartition("@")[0].partition(":")
            credentials = unquote_to_bytes(os.fsencode(f"{user}:{password}"))
            self.headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
            self.text = self._url._replace(netloc=self._url.netloc.rpartition("@")[2]).geturl()
        if self._url.scheme == "https":
            self._context = ssl.create_default_context(cafile=ca)

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """Return a connection that is not yet open; it waits for at most `timeout` seconds at a time."""
        if self._url is None:
            return _UnixConnection(self.text.removeprefix("unix:"), timeout)
        host, port = self._url.hostname or "", self._url.port
        if self._context is not None:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=timeout)


def _checked(url: str) -> SplitResult:
    """Return the parts of an http or https URL. No message of an error has a password."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:  # raised for a port that is not a number, and for brackets that do not close
        raise ValueError(f"The address must be {FORMS}.") from None
    if "://" not in url:
        raise ValueError(f"The address has no scheme: it must be {FORMS}.")
    if parts.scheme not in ("http", "https") or not has_host:
        raise ValueError(f"The address must be {FORMS}.")
    if parts.query or parts.fragment:
        raise ValueError("The address must have no query and no fragment.")
    return parts


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket. The Host header is `localhost`, which TRUSTED_HOSTS has by default."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
