"""JSON bodies of requests, and which names and versions are accepted, in a path as well."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

MAX_EMAIL_LENGTH = 254
MAX_PASSWORD_LENGTH = 1024
# The resource API accepts names of 1,024 characters. After the folder follow `/`, 128 characters and `.<object>.big`.
MAX_FOLDER_LENGTH = 858

_COMPONENT = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
# These patterns are written as JSON Schema needs them, because openapi.json shows them unchanged.
NAME_PATTERN = rf"^(?!.*\.\.){_COMPONENT}$"
VERSION_PATTERN = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
SOURCE_PATTERN = r"^(/[^\u0000]{0,1000}|https?://[^/?#@\s][^?#@\s]{0,1000})$"
FOLDER_PATTERN = rf"^(?!.*\.\.)({_COMPONENT}(/{_COMPONENT})*)?$"
MODEL_PATTERN = rf"^(?!.*\.\.){_COMPONENT}(/{_COMPONENT})*$"
HEAD_PATTERN = "^[0-9a-f]{64}$"


def check_head(value: str) -> None:
    """Raise ValidationError unless `value` is the digest of a head."""
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValidationError("Must be 64 hexadecimal digits in lower case, as GET /unlock/plan shows them.")


def check_name(value: str) -> None:
    """Raise ValidationError unless `value` is a filename or one component of a folder."""
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValidationError(
            "Must be 1 to 128 letters, digits, '.', '_' or '-', begin with a letter or digit, no '..'."
        )


def check_folder(value: str) -> None:
    """Raise ValidationError unless `value` is empty or names separated by '/', of at most MAX_FOLDER_LENGTH."""
    if len(value) > MAX_FOLDER_LENGTH or not re.fullmatch(FOLDER_PATTERN, value):
        raise ValidationError(
            "Must be empty or names separated by '/', each of 1 to 128 letters, digits, '.', '_' or '-' and beginning "
            f"with a letter or digit, no '..', together at most {MAX_FOLDER_LENGTH} characters."
        )


def check_version(value: str) -> None:
    """Raise ValidationError unless `value` can be the version of a release."""
    if not re.fullmatch(VERSION_PATTERN.removesuffix("$"), value):
        raise ValidationError("Must be an image tag.")


def check_source(value: str) -> None:
    """Raise ValidationError unless `value` is an absolute path or the URL of a server, without credentials."""
    if not re.fullmatch(SOURCE_PATTERN.removesuffix("$"), value):
        raise ValidationError("Must be an absolute path, or an HTTP address without credentials and query.")


class LoginRequest(Schema):
    """The credentials. The resource API decides whether the e-mail is an address."""

    email = fields.String(required=True, validate=validate.Length(1, MAX_EMAIL_LENGTH))
    password = fields.String(required=True, validate=validate.Length(1, MAX_PASSWORD_LENGTH))


class UnlockRequest(LoginRequest):
    """The credentials. `allow_older` permits the release whose `head` GET /unlock/plan shows, though it is older."""

    allow_older = fields.String(validate=check_head, metadata={"pattern": HEAD_PATTERN})


class LoadRequest(Schema):
    """The resource to load. `filename` repeats the filename of the path."""

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


class FetchRequest(Schema):
    """The release to fetch. `version` is API_VERSION if it is missing.

    `from` is a directory on the device or the URL of a plain HTTP server, which is asked for blobs before the API.
    """

    version = fields.String(validate=check_version, metadata={"pattern": VERSION_PATTERN})
    source = fields.String(data_key="from", validate=check_source, metadata={"pattern": SOURCE_PATTERN})
