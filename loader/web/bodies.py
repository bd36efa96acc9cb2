"""Request bodies: read within limits, checked against their announced length, parsed by a schema."""

from __future__ import annotations

import json
from typing import Any

from flask import request
from marshmallow import Schema, ValidationError
from marshmallow.exceptions import SCHEMA

from loader.errors import BodyTruncated, NotJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed
from loader.server.worker import reading_limited

JSON_MAX_SIZE = 64 * 1024
# For the whole of it: only loads and uploads, whose number is limited, may take as long as they take.
JSON_SECONDS = 30.0


def json_body(schema: Schema) -> dict[str, Any]:
    """The validated JSON body of the present request.

    Raises UnsupportedMediaType, PayloadTooLarge, BodyTruncated, NotJson or ValidationFailed.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be of type application/json.")
    length = request.content_length
    with reading_limited(request.environ.get("gunicorn.socket"), JSON_SECONDS):
        body = read_body(JSON_MAX_SIZE + 1) if (length or 0) <= JSON_MAX_SIZE else b""
    if (length or len(body)) > JSON_MAX_SIZE:
        raise PayloadTooLarge(f"The body may have at most {JSON_MAX_SIZE} bytes.")
    if length is not None and len(body) < length:
        raise BodyTruncated(f"Only {len(body)} of {length} bytes of the body arrived.")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise NotJson("The body cannot be parsed as JSON.") from None
    try:
        # What the schema returns is a dict, whatever the document was.
        return dict(schema.load(document))
    except ValidationError as exc:
        # Its `data` holds the password: nothing but the messages may travel on.
        raise invalid(_by_field(exc.messages)) from None


def _by_field(messages: list[str] | list[Any] | dict[str, Any]) -> dict[str, list[str]]:
    """A document that is no object at all has complaints without a field."""
    by_field = messages if isinstance(messages, dict) else {SCHEMA: messages}
    return {"body" if field == SCHEMA else field: complaints for field, complaints in by_field.items()}


def read_body(size: int) -> bytes:
    """Up to `size` bytes of the present request's body, fewer only at its end; raises BodyTruncated."""
    pieces = bytearray()
    while len(pieces) < size and (piece := read_piece(size - len(pieces))):
        pieces += piece
    return bytes(pieces)


def read_piece(size: int) -> bytes:
    """At most `size` bytes of the present request's body, nothing at its end; raises BodyTruncated."""
    try:
        return request.stream.read(size)
    except Exception as exc:
        # Each server has its own way to say that the client went away or sent broken chunks.
        raise BodyTruncated("The body ended early, or its chunks are broken.") from exc


def invalid(errors: dict[str, list[str]]) -> ValidationFailed:
    """The error for these complaints by field."""
    return ValidationFailed(f"Not valid: {', '.join(sorted(errors))}.", errors)
