"""Request bodies: reading them within limits, checking their announced length, parsing them by a schema."""

from __future__ import annotations

import json
from typing import Any

from flask import request
from marshmallow import Schema, ValidationError
from marshmallow.exceptions import SCHEMA

from loader.errors import BodyTruncated, NotJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed
from loader.web.request_schemas import check_name

JSON_MAX_SIZE = 64 * 1024
# Limits the whole body, because only loads and uploads, whose number the slots limit, may take longer.
JSON_SECONDS = 10.0


def json_body(schema: Schema) -> dict[str, Any]:
    """Return the JSON body of the current request, validated by `schema`.

    Flask's `max_content_length` is not used, because its stream then refuses to read on, and an error handler must
    still drain the body. Raises UnsupportedMediaType, PayloadTooLarge, BodyTruncated, NotJson or
    ValidationFailed.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be of type application/json.")
    length = request.content_length
    limit_reading(JSON_SECONDS)
    body = read_body(JSON_MAX_SIZE + 1) if (length or 0) <= JSON_MAX_SIZE else b""
    if (length or len(body)) > JSON_MAX_SIZE:
        raise PayloadTooLarge(f"The body may have at most {JSON_MAX_SIZE} bytes.")
    if length is not None and len(body) < length:
        raise BodyTruncated(f"Only {len(body)} of {length} bytes of the body arrived.")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise NotJson("The body cannot be parsed as JSON.") from None
    errors = _not_unicode(document)
    try:
        fields: dict[str, Any] = schema.load(document)
    except ValidationError as exc:
        # Only the messages may leave this function, because `exc.data` holds the password.
        errors = {**errors, **_merged(_by_field(exc.messages), errors)}
    if errors:
        raise invalid(errors)
    return fields


def limit_reading(seconds: float) -> None:
    """Let the client send for `seconds` in total from now on, where the server is the worker class of the loader.

    After that the body reads as if the client had gone.
    """
    limit = getattr(request.environ.get("gunicorn.socket"), "limit_reading", None)
    if limit is not None:
        limit(seconds)


def _not_unicode(document: object) -> dict[str, list[str]]:
    """Return a complaint for each text field with lone surrogates, which JSON can hold and UTF-8 cannot."""
    if not isinstance(document, dict):
        return {}
    return {field: ["Must be Unicode text."] for field, value in document.items() if not _encodable(value)}


def _encodable(value: object) -> bool:
    try:
        return not isinstance(value, str) or value.encode() is not None
    except UnicodeEncodeError:
        return False


def _by_field(messages: list[str] | list[Any] | dict[str, Any]) -> dict[str, list[str]]:
    """Return the complaints by field; complaints about a document that is no object belong to `body`."""
    by_field = messages if isinstance(messages, dict) else {SCHEMA: messages}
    return {"body" if field == SCHEMA else field: complaints for field, complaints in by_field.items()}


def _merged(complaints: dict[str, list[str]], further: dict[str, list[str]]) -> dict[str, list[str]]:
    return {field: [*found, *further.get(field, ())] for field, found in complaints.items()}


def read_body(size: int) -> bytes:
    """Return up to `size` bytes of the current request's body, fewer only at its end. Raises BodyTruncated."""
    pieces = bytearray()
    while len(pieces) < size and (piece := read_piece(size - len(pieces))):
        pieces += piece
    return bytes(pieces)


def read_piece(size: int) -> bytes:
    """Return at most `size` bytes of the current request's body, b"" at its end. Raises BodyTruncated."""
    try:
        return request.stream.read(size)
    except Exception as exc:
        # Catch every exception, because each server raises its own when the client left or sent broken chunks.
        raise BodyTruncated("The body ended early, or its chunks are broken.") from exc


def check_path(filename: str) -> None:
    """Raise ValidationFailed unless the filename in the path is valid."""
    try:
        check_name(filename)
    except ValidationError as exc:
        raise invalid({"filename": list(exc.messages)}) from None


def invalid(errors: dict[str, list[str]]) -> ValidationFailed:
    """Return the error for these complaints by field."""
    return ValidationFailed(f"Not valid: {', '.join(sorted(errors))}.", errors)
