"""The shapes of requests and replies."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

MAX_EMAIL_LENGTH = 254
MAX_PASSWORD_LENGTH = 1024
# The resource API takes names of 1,024 characters, and the longest object is `/`, 128 characters and `.<sha256>.big`.
MAX_FOLDER_LENGTH = 826

_COMPONENT = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
# As JSON Schema writes patterns, so that they can be described as they are.
NAME_PATTERN = rf"^(?!.*\.\.){_COMPONENT}$"
FOLDER_PATTERN = rf"^(?!.*\.\.)({_COMPONENT}(/{_COMPONENT})*)?$"


def check_name(value: str) -> None:
    """Raises ValidationError unless `value` is a filename or one component of a folder."""
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValidationError(
            "Must be 1 to 128 letters, digits, '.', '_' or '-', begin with a letter or digit, no '..'."
        )


def check_folder(value: str) -> None:
    """Raises ValidationError unless `value` is empty or names separated by '/', of 826 characters at most."""
    if len(value) > MAX_FOLDER_LENGTH or not re.fullmatch(FOLDER_PATTERN, value):
        raise ValidationError(
            "Must be empty or names separated by '/', each of 1 to 128 letters, digits, '.', '_' or '-' and beginning "
            f"with a letter or digit, no '..', together at most {MAX_FOLDER_LENGTH} characters."
        )


def check_encodable(value: str) -> None:
    """Raises ValidationError for lone surrogates, which JSON can hold and UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("Must be Unicode text.") from None


class LoginRequest(Schema):
    """Whether the e-mail is an address is the API's to judge."""

    email = fields.String(required=True, validate=[validate.Length(1, MAX_EMAIL_LENGTH), check_encodable])
    password = fields.String(required=True, validate=[validate.Length(1, MAX_PASSWORD_LENGTH), check_encodable])


class LoadRequest(Schema):
    """`filename` is that of the path once more."""

    filename = fields.String(required=True, validate=check_name, metadata={"pattern": NAME_PATTERN})
    folder = fields.String(
        required=True, validate=check_folder, metadata={"pattern": FOLDER_PATTERN, "maxLength": MAX_FOLDER_LENGTH}
    )

    def __init__(self, path_filename: str) -> None:
        super().__init__()
        self._path_filename = path_filename

    @validates_schema
    def _agrees_with_path(self, data: dict[str, Any], **_: Any) -> None:
        if data["filename"] != self._path_filename:
            raise ValidationError("Must be the filename of the path.", "filename")


class Problem(Schema):
    """A failure, after RFC 9457.

    `errors` holds the complaints by field of a VALIDATION_FAILED, `reasons` all codes of a device that is not ready.
    """

    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))
    reasons = fields.List(fields.String())


class OkResponse(Schema):
    """It is done."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


class LockResponse(Schema):
    """Nobody is logged in any more."""

    status = fields.String(required=True, validate=validate.Equal("locked"))


class ReadyResponse(Schema):
    """Loads can be served."""

    ready = fields.Boolean(required=True, validate=validate.Equal(True))


class HealthResponse(Schema):
    """Liveness."""

    status = fields.String(required=True, validate=validate.Equal("healthy"))


class DownloadStatus(Schema):
    """One big part on its way here: bytes, and bytes a second."""

    filename = fields.String(required=True)
    bytes_done = fields.Integer(required=True)
    bytes_total = fields.Integer(required=True)
    rate = fields.Integer(required=True)


class CacheStatus(Schema):
    """Whole big parts on the disk, their bytes together, and those on their way."""

    entries = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    downloads = fields.List(fields.Nested(DownloadStatus), required=True)


class StatusResponse(Schema):
    """The version, whether somebody has logged in, where parts of models lie, and what the cache holds and fetches."""

    status = fields.String(required=True, validate=validate.Equal("healthy"))
    version = fields.String(required=True)
    authenticated = fields.Boolean(required=True)
    modelCacheDir = fields.String(required=True)  # noqa: N815  # the name on the wire
    cache = fields.Nested(CacheStatus, required=True)


class CacheEntry(Schema):
    """One encrypted part on the disk; `last_used` is RFC 3339."""

    sha256 = fields.String(required=True)
    bytes = fields.Integer(required=True)
    whole = fields.Boolean(required=True)
    in_use = fields.Boolean(required=True)
    last_used = fields.String(required=True)


class CacheListResponse(Schema):
    """All parts, their bytes together, and the limit, 0 for none."""

    entries = fields.List(fields.Nested(CacheEntry), required=True)
    bytes = fields.Integer(required=True)
    max_bytes = fields.Integer(required=True)


class CacheVerifyResponse(Schema):
    """Whole parts that were read, their bytes together, and those that were damaged and removed."""

    checked = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    damaged = fields.List(fields.String(), required=True)


class CacheClearResponse(Schema):
    """Parts that were removed, their bytes together, and parts that stayed because they are in use."""

    removed = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    kept = fields.Integer(required=True)
