"""Responses to failures: problem details (RFC 9457). Holds the only table of codes and HTTP statuses."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from loader.errors import (
    UNEXPECTED,
    BodyTruncated,
    CallerError,
    CrossOrigin,
    LoaderError,
    RangeNotSatisfiable,
    TooEarly,
    UntrustedHost,
    ValidationFailed,
)
from loader.web.bodies import limit_reading, read_piece
from loader.web.service_schemas import Problem

log = logging.getLogger(__name__)

STATUS_BY_CODE = {
    "VALIDATION_FAILED": 422,
    "BODY_TRUNCATED": 400,
    "NOT_JSON": 400,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "NOT_LOGGED_IN": 401,
    "LOGIN_REJECTED": 401,
    "LOGIN_THROTTLED": 429,
    "CROSS_ORIGIN": 403,
    "FORBIDDEN": 403,
    "UNTRUSTED_HOST": 400,
    "RESOURCE_NOT_FOUND": 404,
    "UPLOAD_MISMATCH": 409,
    "ARCHIVE_NOT_FOUND": 404,
    "PAYLOAD_TOO_LARGE": 413,
    "LENGTH_REQUIRED": 411,
    "RANGE_NOT_SATISFIABLE": 416,
    "API_ERROR": 502,
    "API_PROTOCOL": 502,
    "RESOURCE_CORRUPT": 502,
    "API_UNREACHABLE": 503,
    "BUSY": 503,
    "ENGINE_UNAVAILABLE": 503,
    "DISK_SPACE": 507,
    "STORAGE_ERROR": 500,
    "KEY_MISMATCH": 500,
    "ARCHIVE_CORRUPT": 500,
    "VERSION_MISMATCH": 500,
    "UNTRUSTED_PUBLISHER": 500,
    "ROLLBACK": 500,
    "ARCHIVE_INCOMPLETE": 500,
    "ENGINE_REJECTED": 500,
    "ENGINE_STALLED": 500,
    "IMAGE_MISMATCH": 500,
    "NO_WAY_BACK": 409,
    "INTERRUPTED": 500,
    "INTERNAL": 500,
}

# The names of RFC 9110. HTTPStatus has older ones before Python 3.13, and no response depends on the version of Python.
TITLES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

# A proxy replaces a response by its own 502 while the request body is unread, so the body is read within these limits.
DRAIN_SECONDS = 10.0
DRAIN_IDLE_SECONDS = 2.0
DRAIN_READ_SIZE = 1 << 18


def title_of(status: int) -> str:
    """Return the name of an HTTP status, the same under each version of Python. Raises ValueError."""
    return TITLES.get(status) or HTTPStatus(status).phrase


def name_of(status: int) -> str:
    """Return the title of an HTTP status in the form of a code, such as NOT_FOUND."""
    return title_of(status).upper().replace(" ", "_")


def problem(code: str, status: int, detail: str, *, hint: str, retryable: bool = False, **fields: Any) -> Response:
    """Return a response with problem details; `fields` are further members of the document.

    The code is also `g.code`, by which the metrics count the request.
    """
    g.code = code
    document = {
        "title": title_of(status),
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": retryable,
        "hint": hint,
        **fields,
    }
    return Response(
        current_app.json.dumps(Problem().dump(document)),
        status,
        mimetype="application/problem+json",
        headers={"Cache-Control": "no-store"},
    )


def register_error_handlers(app: Flask) -> None:
    """Make `app` respond with problem details to every failure."""
    # Flask would respond to `//` in a path with a redirect in HTML, and many clients drop their body on a redirect.
    app.url_map.merge_slashes = False
    app.register_error_handler(LoaderError, _loader_problem)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(Exception, _unforeseen_problem)


def _loader_problem(error: LoaderError) -> Response:
    # Read nothing more from a page of another origin or for another host name: it gets no time of the loader.
    _drain(0.0 if isinstance(error, UntrustedHost | CrossOrigin) else DRAIN_SECONDS)
    fields = {"errors": error.errors} if isinstance(error, ValidationFailed) else {}
    status = STATUS_BY_CODE[error.code]
    reply = problem(error.code, status, str(error), hint=error.hint, retryable=error.retryable, **fields)
    if isinstance(error, TooEarly):
        reply.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, RangeNotSatisfiable):
        reply.headers["Content-Range"] = f"bytes */{error.size}"
    return reply


def _http_problem(error: HTTPException) -> Response:
    """Respond to what Flask itself refuses: unknown paths and methods. The code is the name of the status."""
    _drain()
    status = error.code or 500
    detail = f"{request.method} {request.path} is not served here."
    reply = problem(name_of(status), status, detail, hint=CallerError.hint)
    for name, value in error.get_headers():
        if name == "Allow":
            reply.headers[name] = value
    return reply


def _unforeseen_problem(error: Exception) -> Response:
    log.error("a request failed with an unexpected exception", exc_info=error)
    _drain()
    return problem("INTERNAL", 500, UNEXPECTED, hint=LoaderError.hint)


def _drain(seconds: float = DRAIN_SECONDS) -> None:
    """Read the rest of the request body and discard it; see DRAIN_SECONDS."""
    client = request.environ.get("gunicorn.socket")
    if client is not None:
        client.settimeout(DRAIN_IDLE_SECONDS)
    limit_reading(seconds)
    try:
        while seconds and read_piece(DRAIN_READ_SIZE):
            pass
    except BodyTruncated:
        # The client has gone, was too slow or announced a wrong length, so there is nothing left to read.
        return
