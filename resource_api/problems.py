"""Turns every error into a response of type application/problem+json (RFC 9457) with title, status and detail.

The one for a user without the role has `code` and `hint` too, because a loader tells its caller from them.
"""

import json
import logging
from contextlib import suppress
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from resource_api.connection import limit_reading
from resource_api.login_lane import LaneFullError
from resource_api.names import InvalidNameError
from resource_api.storage.interface import (
    DiskFullError,
    NameCollisionError,
    ResourceMissingError,
    StoreError,
    TooManyUploadsError,
    UploadMissingError,
    UploadRefusedError,
)

# The server discards the rest of a refused upload for at most DRAIN_SECONDS, and stops earlier when no byte arrives
# for DRAIN_IDLE_SECONDS.
DRAIN_SECONDS = 10
DRAIN_IDLE_SECONDS = 2
_DRAIN_READ_BYTES = 1 << 20
# The names of RFC 9110. HTTPStatus has older ones before Python 3.13, and no response depends on the version of Python.
TITLES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
# When to ask again if the store fails; clients add a random time of their own.
STORE_SECONDS = 2

logger = logging.getLogger(__name__)


class NotPublisherError(Exception):
    """The user is not a publisher, and the request would change what is stored."""


def register_error_handlers(app: Flask) -> None:
    """Make `app` respond with a problem to every error, its own errors and those of the framework."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(NotPublisherError, lambda _: _not_publisher())
    for refused in (InvalidNameError, UploadRefusedError):
        app.register_error_handler(refused, lambda error: _problem(HTTPStatus.BAD_REQUEST, str(error)))
    app.register_error_handler(
        LaneFullError, lambda error: _http_error(ServiceUnavailable(str(error), retry_after=error.retry_after))
    )
    app.register_error_handler(StoreError, _store_error)
    app.register_error_handler(
        ResourceMissingError, lambda _: _problem(HTTPStatus.NOT_FOUND, "There is no resource of that name.")
    )
    app.register_error_handler(
        UploadMissingError, lambda _: _problem(HTTPStatus.NOT_FOUND, "This user has no upload of that id.")
    )
    app.register_error_handler(
        TooManyUploadsError,
        lambda _: _problem(HTTPStatus.CONFLICT, "This user has too many open uploads: complete some, or delete them."),
    )
    app.register_error_handler(
        NameCollisionError,
        lambda _: _problem(HTTPStatus.CONFLICT, "A folder and an object of this path would have the same name."),
    )
    app.register_error_handler(
        DiskFullError, lambda _: _problem(HTTPStatus.INSUFFICIENT_STORAGE, "The server has no space for this object.")
    )


def title_of(status: int) -> str:
    """Return the name of an HTTP status, the same under each version of Python. Raises ValueError."""
    return TITLES.get(status) or HTTPStatus(status).phrase


def name_of(status: int) -> str:
    """Return the title of an HTTP status as the audit log has it, such as NOT_FOUND."""
    return title_of(status).upper().replace(" ", "_")


def _http_error(error: HTTPException) -> Response:
    response = _problem(HTTPStatus(error.code or 500), error.description or "")
    for name, value in error.get_headers():
        if name in ("Allow", "Content-Range", "Retry-After"):
            response.headers[name] = value
    if error.code == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _store_error(error: StoreError) -> Response:
    # For the log only, because a client need not know where the store is.
    logger.error("%s", ascii(str(error)))
    return _http_error(
        ServiceUnavailable("The store of this server does not respond as it should.", retry_after=STORE_SECONDS)
    )


def _not_publisher() -> Response:
    return _problem(
        HTTPStatus.FORBIDDEN,
        "Only a publisher may change what is stored here.",
        code="FORBIDDEN",
        hint="Log in with the account of a publisher, or ask the operators of this server for that role.",
    )


def _problem(status: HTTPStatus, detail: str, **fields: str) -> Response:
    """Return a problem; `fields` are further members of the document."""
    _drain()
    body = json.dumps({"title": title_of(status), "status": status, "detail": detail, **fields})
    return Response(body, status, content_type="application/problem+json")


def _drain() -> None:
    """Read and discard what the client is still sending, for a limited time.

    If the server closed the connection during the upload, the client would see a reset instead of the response.
    """
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(DRAIN_IDLE_SECONDS)
    limit_reading(DRAIN_SECONDS)
    with suppress(OSError, HTTPException):  # the client is gone, silent, too slow or over a limit
        while request.stream.read(_DRAIN_READ_BYTES):
            pass
