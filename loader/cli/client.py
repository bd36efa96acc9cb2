"""The HTTP client of the commands, which talk to a running loader."""

from __future__ import annotations

import http.client
import io
import json
import re
import select
import socket
import ssl
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from loader.cli.address import LoaderAddress
from loader.errors import LoaderError, LoaderProblem, LoaderUnreachable

TIMEOUT_SECONDS = 30.0
# For a patient request while its bytes move. By default the loader gives up the resource API earlier (API_PATIENCE).
SILENCE_SECONDS = 600.0
CERTIFICATE_HINT = "Say with --ca which certificates to trust, and compare the clock and the host name with theirs."


class LoaderClient:
    """A client of the loader at `url`, which `LoaderAddress` describes, as `ca` and the errors of the constructor.

    The methods raise LoaderUnreachable if no loader responds, and LoaderProblem if the loader responds with an error.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self._address = LoaderAddress(url, ca)

    def get(self, path: str, *, patient: bool = False) -> dict[str, Any]:
        """Return the JSON document at `path`. `patient` is explained at `request`."""
        with self.request("GET", path, patient=patient) as response:
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
        expected: Container[int] = (HTTPStatus.OK,),
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request, and yield the response with an expected status before its body is read; close the connection.

        `body` is sent piece by piece until the loader responds. The loader may be silent for 30 seconds. After a
        `patient` request it may take any time until its response starts, and may be silent for 600 seconds otherwise.
        """
        silence = SILENCE_SECONDS if patient else TIMEOUT_SECONDS
        with ExitStack() as stack:
            connection = stack.enter_context(closing(self._address.connection(TIMEOUT_SECONDS)))
            try:
                connection.connect()
                client = connection.sock
                client.settimeout(silence)
                reader = stack.enter_context(client.makefile("rb"))
                sent_headers = {**self._address.headers, **(headers or {})}
                _send(connection, reader, method, self._address.prefix + path, sent_headers, body)
                client.settimeout(None if patient else silence)
                response = _response(reader, method)
                client.settimeout(silence)
            except (OSError, http.client.HTTPException, UnicodeError) as exc:
                raise self._unreachable(exc) from exc
            with response:
                if response.status not in expected:
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
        return LoaderUnreachable(f"The server at {self._address.text} is not a loader.")

    def _unreachable(self, exc: Exception) -> LoaderUnreachable:
        hint = CERTIFICATE_HINT if isinstance(exc, ssl.SSLCertVerificationError) else None
        return LoaderUnreachable(f"No loader responds at {self._address.text}: {_reason(exc)}.", hint=hint)

    def _problem(self, response: http.client.HTTPResponse) -> LoaderProblem:
        document = self.document(response)
        detail = document.get("detail", "The loader refused the request.")
        errors = document.get("errors")
        if isinstance(errors, dict):
            detail = " ".join([detail, *(f"{field}: {' '.join(found)}" for field, found in sorted(errors.items()))])
        asked = response.headers.get("Retry-After", "")
        return LoaderProblem(
            document.get("code", LoaderError.code),
            detail,
            document.get("hint"),
            retryable=document.get("retryable") is True,
            retry_after=float(asked) if re.fullmatch("[0-9]{1,6}", asked) else None,
        )


def json_body(document: dict[str, Any] | None) -> tuple[list[bytes], dict[str, str]]:
    """Return the body and the headers of a request with `document`, or of one without a body for None."""
    if document is None:
        return [], {"Content-Length": "0"}
    body = json.dumps(document).encode()
    return [body], {"Content-Type": "application/json", "Content-Length": str(len(body))}


def _reason(exc: Exception) -> str:
    """Return why there was no response, in the words of TLS or of the operating system."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate is refused: {exc.verify_message.rstrip('.')}"
    if isinstance(exc, OSError):
        return exc.strerror or str(exc) or type(exc).__name__
    return "no host has such a name" if isinstance(exc, UnicodeError) else "its response is not HTTP"


class _Opened:
    """A socket that `http.client` reads a response from, whose first bytes `reader` may already have."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> io.BufferedReader:
        return self._reader


def _send(
    connection: http.client.HTTPConnection,
    reader: io.BufferedReader,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: Iterable[bytes],
) -> None:
    connection.putrequest(method, path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        for piece in body:
            # A response before the end of the body is a refusal, so sending the rest of the body would be useless.
            if _has_response(connection.sock, reader):
                return
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        # The loader has refused the body and closed the connection; its response can still be read.
        return


def _has_response(client: socket.socket, reader: io.BufferedReader) -> bool:
    """Return whether a response, or the end of the connection, can be read without waiting.

    A readable socket is not enough, because a server with TLS 1.3 sends session tickets before any response.
    """
    if not select.select([client], [], [], 0)[0]:
        return False
    waiting = client.gettimeout()
    client.settimeout(0)
    try:
        return bool(reader.peek(1)) or not isinstance(client, ssl.SSLSocket)
    except ssl.SSLWantReadError:
        return False
    finally:
        client.settimeout(waiting)


def _response(reader: io.BufferedReader, method: str) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(_Opened(reader), method=method)  # type: ignore[arg-type]  # only `makefile`
    try:
        response.begin()
    except BaseException:
        # Before the reader, which it would otherwise use when it is collected.
        response.close()
        raise
    return response
