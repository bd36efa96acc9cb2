"""Talks to a running loader, as any caller on the device does."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from loader.errors import LoaderError, hint_of

TIMEOUT_SECONDS = 30.0


class DeviceError(LoaderError):
    """What a caller of the loader meets. Its `hint` is for the operator of the device."""


class LoaderUnreachable(DeviceError):
    """Nothing answers at the address, or not as a loader would."""

    code = "LOADER_UNREACHABLE"
    hint = "Start the loader, or say with --url or LOADER_URL where it is."


class LoaderProblem(DeviceError):
    """The loader answered with a problem; `code` and `hint` are those that it gave, or the hint that we know."""

    def __init__(self, code: str, detail: str, hint: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.hint = hint if hint is not None else hint_of(code)


class DeviceClient:
    """`url` is `http://host:port` or `unix:/path`. Raises LoaderUnreachable and LoaderProblem."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> dict[str, Any]:
        """The JSON document at `path`."""
        return self._call("GET", path, None)

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """What the loader answers to `document`."""
        return self._call("POST", path, json.dumps(document).encode())

    def _call(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        connection = _connection(self._url)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            response = connection.getresponse()
            document = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as exc:
            raise LoaderUnreachable(f"No loader answers at {self._url}.") from exc
        finally:
            connection.close()
        if not isinstance(document, dict):
            raise LoaderUnreachable(f"What answers at {self._url} is no loader.")
        if response.status >= 400:
            raise LoaderProblem(document.get("code", "INTERNAL"), document.get("detail", "The loader refused."))
        return document


def _connection(url: str) -> http.client.HTTPConnection:
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"))
    try:
        address = urlsplit(url)
        if address.scheme == "http" and address.hostname:
            return http.client.HTTPConnection(address.hostname, address.port, timeout=TIMEOUT_SECONDS)
    except ValueError:  # a port that is no number, brackets that do not close
        pass
    raise LoaderUnreachable(f"{url} is neither http://host:port nor unix:/path.")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket. The Host is one that every loader trusts unless told otherwise."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
