"""The HTTP client of the commands, which talk to a running loader."""

from __future__ import annotations

import http.client
import json
import select
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from loader.errors import LoaderError, LoaderProblem, LoaderUnreachable

TIMEOUT_SECONDS = 30.0
# For a patient request while its bytes move. The loader gives up the resource API earlier, after six attempts.
SILENCE_SECONDS = 600.0


class LoaderClient:
    """A client of the loader at `url`, which is `http://host:port` or `unix:/path`.

    The methods raise LoaderUnreachable if no loader responds, and LoaderProblem if the loader responds with an error.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> dict[str, Any]:
        """Return the JSON document at `path`."""
        with self.request("GET", path) as response:
            return self.document(response)

    def post(self, path: str, document: dict[str, Any] | None = None, *, patient: bool = False) -> dict[str, Any]:
        """Send `document`, and return the JSON document of the response. `patient` is explained at `request`."""
        with self.request("POST", path, *json_body(document), patient=patient) as response:
            return self.document(response)

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        body: Iterable[bytes] = (),
        headers: Mapping[str, str] | None = None,
        *,
        patient: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request, and yield the response with status 200 before its body is read; close the connection after.

        `body` is sent piece by piece until the loader responds. The loader may be silent for 30 seconds. After a
        `patient` request it may take any time until its response starts, and may be silent for 600 seconds otherwise.
        """
        silence = SILENCE_SECONDS if patient else TIMEOUT_SECONDS
        with closing(_connection(self._url)) as connection:
            try:
                connection.connect()
                client = connection.sock
                client.settimeout(silence)
                _send(connection, method, path, headers or {}, body)
                client.settimeout(None if patient else silence)
                response = connection.getresponse()
                client.settimeout(silence)
            except (OSError, http.client.HTTPException) as exc:
                raise LoaderUnreachable(f"No loader responds at {self._url}.") from exc
            with response:
                if response.status != HTTPStatus.OK:
                    raise self._problem(response)
                yield response

    def document(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        """Read the JSON document of a response."""
        try:
            document = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as exc:
            raise self.not_a_loader() from exc
        if not isinstance(document, dict):
            raise self.not_a_loader()
        return document

    def not_a_loader(self) -> LoaderUnreachable:
        """Return the error for a response that no loader sends."""
        return LoaderUnreachable(f"The server at {self._url} is not a loader.")

    def _problem(self, response: http.client.HTTPResponse) -> LoaderProblem:
        document = self.document(response)
        detail = document.get("detail", "The loader refused the request.")
        errors = document.get("errors")
        if isinstance(errors, dict):
            detail = " ".join([detail, *(f"{field}: {' '.join(found)}" for field, found in sorted(errors.items()))])
        retryable = document.get("retryable") is True
        return LoaderProblem(document.get("code", LoaderError.code), detail, retryable=retryable)


def json_body(document: dict[str, Any] | None) -> tuple[list[bytes], dict[str, str]]:
    """Return the body and the headers of a request with `document`, or of one without a body for None."""
    if document is None:
        return [], {"Content-Length": "0"}
    body = json.dumps(document).encode()
    return [body], {"Content-Type": "application/json", "Content-Length": str(len(body))}


def _send(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: Iterable[bytes]
) -> None:
    connection.putrequest(method, path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        for piece in body:
            # A response before the end of the body is a refusal, so sending the rest of the body would be useless.
            if select.select([connection.sock], [], [], 0)[0]:
                return
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError):
        # The loader has refused the body and closed the connection; its response can still be read.
        return


def _connection(url: str) -> http.client.HTTPConnection:
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:"))
    try:
        address = urlsplit(url)
        if address.scheme == "http" and address.hostname:
            return http.client.HTTPConnection(address.hostname, address.port, timeout=TIMEOUT_SECONDS)
    except ValueError:  # raised for a port that is not a number, and for brackets that do not close
        pass
    raise LoaderUnreachable(f"{url} is neither http://host:port nor unix:/path.")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket. The Host header is `localhost`, which TRUSTED_HOSTS has by default."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
