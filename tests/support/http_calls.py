"""Functions that send requests to a loader exactly as given and return its whole responses."""

from __future__ import annotations

import http.client
import io
import json
import socket
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from loader.web.replies import title_of
from tests.support.http_probe import connect

ANSWER_SECONDS = 30.0
BOUNDARY = "boundary-of-the-tests"
EMAIL = "operator@example.org"
PASSWORD = "planted-password"
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}

# No response may ever contain one of these.
SECRETS = (PASSWORD, "Bearer", "Traceback", "token-", "http://", "https://", "site-packages")


@dataclass(frozen=True)
class Reply:
    """A whole response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Check that the Content-Type is JSON and return the parsed body."""
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Check that the body is a complete problem document of this status and code, and return it parsed."""
        assert self.headers["Content-Type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert (self.status, document["code"]) == (status, code), document
        expected = {"title", "status", "detail", "code", "retryable", "hint"}
        assert set(document) == (expected | {"errors"} if status == HTTPStatus.UNPROCESSABLE_ENTITY else expected)
        assert (document["status"], document["title"]) == (status, title_of(status))
        assert document["detail"].endswith(".")
        assert document["hint"].endswith(".")
        assert type(document["retryable"]) is bool
        assert not [secret for secret in SECRETS if secret in self.body.decode()]
        return document


def call(
    url: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    silence_seconds: float = ANSWER_SECONDS,
) -> Reply:
    """Send one request on a new connection to `url` (as for `http_status`) and return the response.

    `path` is sent unchanged. An iterable `body` is sent in chunks unless `headers` have a Content-Length. Raises
    TimeoutError if the loader is silent for `silence_seconds`.
    """
    with closing(connect(url, silence_seconds)) as connection:
        chunked = body is not None and not isinstance(body, bytes) and "Content-Length" not in (headers or {})
        connection.request(method, path, body, dict(headers or {}), encode_chunked=chunked)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())


def post_json(url: str, path: str, document: object, headers: Mapping[str, str] | None = None) -> Reply:
    """POST `document` as JSON."""
    return call(
        url, "POST", path, json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})}
    )


def login(url: str, credentials: object = CREDENTIALS) -> Reply:
    """POST /login."""
    return post_json(url, "/login", credentials)


def load(url: str, folder: str, filename: str) -> Reply:
    """POST /load/`filename`."""
    return post_json(url, f"/load/{filename}", {"filename": filename, "folder": folder})


def upload(url: str, folder: str, filename: str, content: bytes, *, file_first: bool = False) -> Reply:
    """POST /upload/`filename`."""
    parts = [part("folder", folder.encode()), part("file", content, filename="x")]
    return post_form(url, f"/upload/{filename}", form(*(reversed(parts) if file_first else parts)))


def post_form(url: str, path: str, body: bytes) -> Reply:
    """POST a body made by `form`."""
    return call(url, "POST", path, body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


def part(name: str, content: bytes, *, filename: str | None = None) -> bytes:
    """Return one part of a form, without the boundaries."""
    named = f'; filename="{filename}"' if filename is not None else ""
    return f'Content-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content


def form(*parts: bytes) -> bytes:
    """Return a multipart form of `parts`, which `part` has made."""
    delimiter = f"--{BOUNDARY}\r\n".encode()
    return b"".join(delimiter + each + b"\r\n" for each in parts) + f"--{BOUNDARY}--\r\n".encode()


def open_socket(url: str) -> socket.socket:
    """Open a TCP connection to the host and port of `url`; the caller closes it."""
    address = urlsplit(url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 80), ANSWER_SECONDS)


def send_and_close(url: str, request: bytes) -> bytes:
    """Send raw bytes, shut down the sending side, and return all received bytes."""
    with open_socket(url) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def parse_reply(raw: bytes) -> Reply:
    """Parse `raw`, which must be one whole response with a Content-Length."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status_line, _, fields = head.partition(b"\r\n")
    headers = http.client.parse_headers(io.BytesIO(fields + b"\r\n\r\n"))
    assert len(body) == int(headers["Content-Length"])
    return Reply(int(status_line.split()[1]), headers, body)
