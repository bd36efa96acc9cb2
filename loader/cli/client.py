"""Talks to a running loader, as any caller on the device does."""

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
# Of a patient call whose bytes move. The loader itself gives up the API sooner, after six attempts.
SILENCE_SECONDS = 600.0


class DeviceClient:
    """`url` is `http://host:port` or `unix:/path`. Raises LoaderUnreachable and LoaderProblem."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> dict[str, Any]:
        """The JSON document at `path`."""
        with self.answer("GET", path) as response:
            return self.document(response)

    def post(self, path: str, document: dict[str, Any] | None = None, *, patient: bool = False) -> dict[str, Any]:
        """What the loader answers to `document`. `patient` as for `answer`."""
        with self.answer("POST", path, *json_body(document), patient=patient) as response:
            return self.document(response)

    @contextmanager
    def answer(
        self,
        method: str,
        path: str,
        body: Iterable[bytes] = (),
        headers: Mapping[str, str] | None = None,
        *,
        patient: bool = False,
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer that is no problem, its own body not read yet; the connection ends with the block.

        `body` is sent as it comes, until the loader answers. The loader may be silent for 30 s; if the call is
        `patient`, as long as it wants before its answer, and else for 600 s.
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
                raise LoaderUnreachable(f"No loader answers at {self._url}.") from exc
            with response:
                if response.status != HTTPStatus.OK:
                    raise self._problem(response)
                yield response

    def stranger(self) -> LoaderUnreachable:
        """The error for an answer that no loader gives."""
        return LoaderUnreachable(f"What answers at {self._url} is no loader.")

    def document(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        """The JSON document of an answer."""
        try:
            document = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as exc:
            raise self.stranger() from exc
        if not isinstance(document, dict):
            raise self.stranger()
        return document

    def _problem(self, response: http.client.HTTPResponse) -> LoaderProblem:
        document = self.document(response)
        detail = document.get("detail", "The loader refused.")
        errors = document.get("errors")
        if isinstance(errors, dict):
            detail = " ".join([detail, *(f"{field}: {' '.join(said)}" for field, said in sorted(errors.items()))])
        retryable = document.get("retryable") is True
        return LoaderProblem(document.get("code", LoaderError.code), detail, retryable=retryable)


def json_body(document: dict[str, Any] | None) -> tuple[list[bytes], dict[str, str]]:
    """A document, or nothing, as body and headers of a request."""
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
            # Whoever answers before the end has refused: what follows would be sent in vain.
            if select.select([connection.sock], [], [], 0)[0]:
                return
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError):
        # It has refused and gone; what it said can still be read.
        return


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
