"""What goes wrong on the way to the API, in the words of the HTTP library, and in ours."""

from __future__ import annotations

import ssl

from urllib3 import exceptions

from loader.errors import ApiUnreachable


def unreachable(exc: Exception) -> ApiUnreachable:
    """What kept an answer from beginning. Only the kind is named: the library's text quotes URLs with their queries."""
    return _refused_by_tls(exc) if isinstance(exc, exceptions.SSLError) else cut(exc)


def cut(exc: Exception) -> ApiUnreachable:
    """What kept an answer that had begun from coming to its end; named as by `unreachable`."""
    # The library counts a connection that is refused among those that take too long.
    if isinstance(exc, exceptions.TimeoutError) and not isinstance(exc, exceptions.NewConnectionError):
        return ApiUnreachable("The resource API did not answer in time.")
    return ApiUnreachable("The connection to the resource API failed or was cut.")


def is_dropped(exc: exceptions.HTTPError) -> bool:
    """Whether a connection was closed before the first byte of an answer, in the words of the HTTP library."""
    # http.client.RemoteDisconnected is a ConnectionError.
    return isinstance(exc, exceptions.ProtocolError) and isinstance(exc.args[-1], ConnectionError)


def _refused_by_tls(exc: Exception) -> ApiUnreachable:
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message.rstrip(".")
            return ApiUnreachable(f"The resource API's certificate could not be verified: {reason}.")
        cause = cause.__context__
    return ApiUnreachable("The resource API does not speak TLS 1.2 or later.")
