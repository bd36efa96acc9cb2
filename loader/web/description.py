"""GET /openapi.json: the description of this interface, which `python -m tools.openapi` writes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Blueprint, Response, request

DOCUMENT_PATH = Path(__file__).with_name("openapi.json")


def blueprint() -> Blueprint:
    """The route."""
    routes = Blueprint("description", __name__)
    document = DOCUMENT_PATH.read_bytes()
    tag = hashlib.sha256(document).hexdigest()
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}

    @routes.get("/openapi.json")
    def openapi() -> Response:
        """This description, as OpenAPI 3.1."""
        if request.if_none_match.contains_weak(tag):
            return Response(status=304, headers=headers)
        return Response(document, headers=headers, mimetype="application/json")

    return routes
