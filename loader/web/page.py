"""GET / and GET /static/{name}: the page for whoever stands at the device, and what it is made of."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Blueprint, Response, abort, request

STATIC = Path(__file__).parent / "static"
PAGE = "page.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: where a browser sends no Sec-Fetch-Site, the guard needs the Origin, which that may blank.
    "Referrer-Policy": "same-origin",
    # A new loader comes with a new page; to ask costs one short answer.
    "Cache-Control": "no-cache",
}


def blueprint() -> Blueprint:
    """The routes. The files are read now, so that a request touches no disk and names no path."""
    routes = Blueprint("page", __name__)
    files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in TYPES}
    page = files.pop(PAGE)

    @routes.get("/")
    def index() -> Response:
        """The page."""
        return _file(PAGE, page)

    @routes.get("/static/<name>")
    def static_file(name: str) -> Response:
        """One of the page's files."""
        if name not in files:
            abort(404)
        return _file(name, files[name])

    return routes


def _file(name: str, content: bytes) -> Response:
    """The file, or 304 if the browser has it already."""
    response = Response(content, content_type=TYPES[Path(name).suffix], headers=HEADERS)
    response.set_etag(hashlib.sha256(content).hexdigest())
    response.make_conditional(request)
    return response
