"""GET / with the page for people at the device, GET /static/{name} with its files, and GET /openapi.json."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Blueprint, Response, abort, request

STATIC = Path(__file__).parent / "static"
PAGE = "page.html"
# `python -m tools.openapi` writes this file.
OPENAPI_PATH = Path(__file__).with_name("openapi.json")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Make browsers ask each time, because a new loader comes with new files; the usual response is a short 304.
CACHE_HEADERS = {"Cache-Control": "no-cache"}
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`, because it may blank the Origin header, which the guard needs from browsers that send no
    # Sec-Fetch-Site.
    "Referrer-Policy": "same-origin",
    **CACHE_HEADERS,
}


def blueprint() -> Blueprint:
    """Return the routes. Reads all files now, so that a request touches no disk and can name no path.

    Flask's own static folder is not used, because its ETag is made of time and size: in an image whose files all have
    one fixed time, a browser would keep the old file beside the new page.
    """
    routes = Blueprint("page", __name__)
    files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in TYPES}
    page = files.pop(PAGE)
    openapi_document = OPENAPI_PATH.read_bytes()

    @routes.get("/")
    def index() -> Response:
        """The page."""
        return _file(page, TYPES[".html"])

    @routes.get("/static/<name>")
    def static_file(name: str) -> Response:
        """One of the page's files."""
        if name not in files:
            abort(404)
        return _file(files[name], TYPES[Path(name).suffix])

    @routes.get("/openapi.json")
    def openapi() -> Response:
        """This description, as OpenAPI 3.1."""
        response = _tagged(openapi_document, "application/json", CACHE_HEADERS)
        # Ignore If-Match, because the description promises no 412.
        if "If-Match" not in request.headers:
            response.make_conditional(request)
        return response

    return routes


def _file(content: bytes, content_type: str) -> Response:
    """Return a file of the page, or 304 if the browser already has it."""
    response = _tagged(content, content_type, PAGE_HEADERS)
    response.make_conditional(request)
    return response


def _tagged(content: bytes, content_type: str, headers: dict[str, str]) -> Response:
    response = Response(content, content_type=content_type, headers=headers)
    response.set_etag(hashlib.sha256(content).hexdigest())
    return response
