"""The connection of the present request, where the server is gunicorn."""

import select

from flask import request
from werkzeug.exceptions import ClientDisconnected


def limit_reading(seconds: float) -> None:
    """Let the client send for `seconds` in total from now on, where the server has the worker class for it."""
    limit = getattr(request.environ.get("gunicorn.socket"), "limit_reading", None)
    if limit is not None:
        limit(seconds)


def require_client() -> None:
    """Raise ClientDisconnected if the client has closed its side, because it no longer waits for a response.

    A client that only stops sending looks the same, and proxies treat it alike.
    """
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return
    # The end is seen without reading, because bytes of a next request may stand before it.
    ended = select.poll()
    ended.register(connection, select.POLLRDHUP)
    if ended.poll(0):
        raise ClientDisconnected
