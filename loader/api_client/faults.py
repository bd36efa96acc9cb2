"""What goes wrong on the way to the API, in the words of the HTTP library, and in ours."""

from __future__ import annotations

import ssl

import requests
import urllib3

from loader.errors import ApiUnreachable

FOREIGN_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError)


def unreachable(exc: Exception) -> ApiUnreachable:
    """The sentence names the kind of failure only: the library's text quotes URLs with their queries."""
    if isinstance(exc, requests.exceptions.SSLError):
        return _refused_by_tls(exc)
    if isinstance(exc, requests.Timeout | urllib3.exceptions.TimeoutError):
        return ApiUnreachable("The resource API did not answer in time.")
    return ApiUnreachable("The connection to the resource API failed or was cut.")


def is_dropped(exc: requests.ConnectionError) -> bool:
    """Whether a connection was closed before the first byte of an answer, in the words of the HTTP library."""
    cause = exc.args[0] if exc.args else None
    reason = cause.args[-1] if isinstance(cause, urllib3.exceptions.ProtocolError) and cause.args else None
    return isinstance(reason, ConnectionError)  # http.client.RemoteDisconnected is one


def _refused_by_tls(exc: Exception) -> ApiUnreachable:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message.rstrip(".")
            return ApiUnreachable(f"The resource API's certificate could not be verified: {reason}.")
        cause = cause.__context__
    return ApiUnreachable("The resource API does not speak TLS 1.2 or later.")
