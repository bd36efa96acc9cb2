"""HTTP over TCP or a Unix socket, to find out whether a server responds and with which status."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

UNIX_PREFIX = "unix:"
PROBE_SECONDS = 2.0


def http_status(address: str, path: str = "/") -> int | None:
    """Return the status of GET `path` at `address` (`http://host:port` or `unix:/path`), or None without a response."""
    connection = connect(address, PROBE_SECONDS)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def connect(address: str, timeout_seconds: float) -> http.client.HTTPConnection:
    """Return a connection to `address` (as for `http_status`). Its first request opens it; the caller closes it."""
    if address.startswith(UNIX_PREFIX):
        return _UnixHTTPConnection(socket_path(address), timeout_seconds)
    return http.client.HTTPConnection(urlsplit(address).netloc, timeout=timeout_seconds)


def socket_path(address: str) -> str:
    """Return the path in `unix:/path` or `unix:///path`."""
    return address.removeprefix(UNIX_PREFIX).removeprefix("//")


class _UnixHTTPConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
