"""What the routes do not say: the bodies of each operation, and the codes that its problems may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from loader.web.model_schemas import (
    CacheClearResponse,
    CacheListResponse,
    CacheVerifyResponse,
    ModelsResponse,
    UploadOffsetResponse,
)
from loader.web.release_schemas import FetchResponse, FetchStatusResponse, PublishedResponse, ReleasesResponse
from loader.web.request_schemas import (
    FOLDER_PATTERN,
    MAX_FOLDER_LENGTH,
    FetchRequest,
    LoadRequest,
    LoginRequest,
    UnlockRequest,
)
from loader.web.service_schemas import HealthResponse, LockResponse, OkResponse, Problem, ReadyResponse, StatusResponse
from loader.web.unlock_schemas import (
    UnlockBackResponse,
    UnlockOutcome,
    UnlockPlanResponse,
    UnlockResponse,
    UnlockStatusResponse,
)
from loader.web.upload_form import DEFAULT_FOLDER, FILE_NAMES
from loader.web.uploads import OFFSET_HEADER, PREFIX_HEADER

from . import examples

# By media type.
Content = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """One operation. `reply` is the content of a 200; `other_replies` are further responses without a code, by status.

    `codes` are the codes of its problems; `document` adds those that follow from method, path and body. `headers` are
    the headers of successful responses; every response has X-Request-ID as well. `parameters` are added to the path's.
    """

    reply: Content
    codes: tuple[str, ...] = ()
    body: Content | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[dict[str, Any], ...] = ()
    other_replies: dict[int, Content] = field(default_factory=dict)


def json_of(schema: type[Schema] | Schema, example: object) -> Content:
    """A JSON body of this schema."""
    return {"application/json": {"schema": schema, "example": example}}


BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}
UPLOAD_FORM: Content = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {
                "folder": {
                    "type": "string",
                    "pattern": FOLDER_PATTERN,
                    "maxLength": MAX_FOLDER_LENGTH,
                    "default": DEFAULT_FOLDER,
                },
                **dict.fromkeys(FILE_NAMES, BINARY),
            },
            "oneOf": [{"required": [name]} for name in FILE_NAMES],
        },
        "example": {"folder": "day", "file": "the bytes of the model"},
    }
}
PLAINTEXT: Content = {"application/octet-stream": {"schema": BINARY}}

ETAG = {
    "description": "Changes with each upload of the model, and at no other time.",
    "required": True,
    "schema": {"type": "string"},
}

UPSTREAM = ("API_UNREACHABLE", "API_ERROR", "API_PROTOCOL", "FORBIDDEN")
DISK = ("DISK_SPACE", "STORAGE_ERROR")
TRANSFER = ("BUSY", "NOT_LOGGED_IN", "LOGIN_REJECTED", *UPSTREAM, *DISK, "INTERRUPTED")
LOAD = (*TRANSFER, "RESOURCE_NOT_FOUND", "RESOURCE_CORRUPT", "UNTRUSTED_PUBLISHER", "ROLLBACK")
ENGINE = ("ENGINE_UNAVAILABLE", "ENGINE_REJECTED")

# The codes with which an unlock can end; GET /unlock/status reports them in its body.
UNLOCK_CODES = (
    *("LOGIN_REJECTED", "LOGIN_THROTTLED", *UPSTREAM),
    *("ARCHIVE_NOT_FOUND", "ARCHIVE_CORRUPT", "ARCHIVE_INCOMPLETE", "UNTRUSTED_PUBLISHER"),
    *("KEY_MISMATCH", "VERSION_MISMATCH", "ROLLBACK"),
    *(*DISK, *ENGINE, "ENGINE_STALLED", "IMAGE_MISMATCH", "INTERRUPTED", "INTERNAL"),
)

# By endpoint, as Flask names it.
OPERATIONS = {
    "page.openapi": Operation(
        reply={"application/json": {"schema": {"type": "object"}}},
        headers={"ETag": {"description": "Changes when the description does.", "schema": {"type": "string"}}},
        parameters=({"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},),
        other_replies={304: {}},
    ),
    "metrics.metrics": Operation(reply={"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}}),
    "health.health": Operation(reply=json_of(HealthResponse, {"status": "healthy"})),
    "health.status": Operation(reply=json_of(StatusResponse, examples.STATUS), codes=("STORAGE_ERROR",)),
    "auth.login": Operation(
        body=json_of(LoginRequest, examples.CREDENTIALS),
        reply=json_of(OkResponse, {"status": "ok"}),
        codes=("LOGIN_REJECTED", "LOGIN_THROTTLED", "NOT_LOGGED_IN", *UPSTREAM, "INTERRUPTED"),
    ),
    "auth.lock": Operation(reply=json_of(LockResponse, {"status": "locked"})),
    "health.ready": Operation(
        reply=json_of(ReadyResponse, {"ready": True}),
        other_replies={503: {"application/problem+json": {"schema": Problem, "example": examples.NOT_READY}}},
    ),
    "models.listing": Operation(
        reply=json_of(ModelsResponse, examples.MODELS),
        codes=("BUSY", "NOT_LOGGED_IN", "LOGIN_REJECTED", *UPSTREAM, "INTERRUPTED"),
    ),
    "models.model": Operation(
        reply=PLAINTEXT,
        headers={"ETag": ETAG},
        parameters=tuple(
            {"name": name, "in": "header", "schema": {"type": "string"}}
            for name in ("If-None-Match", "If-Range", "Range")
        ),
        other_replies={206: PLAINTEXT, 304: {}},
        codes=(*LOAD, "RANGE_NOT_SATISFIABLE"),
    ),
    "resources.load": Operation(
        body=json_of(LoadRequest(examples.FILENAME), {"filename": examples.FILENAME, "folder": "day"}),
        reply=PLAINTEXT,
        headers={
            "Content-Length": {
                "description": "A connection that ends before so many bytes means a failure.",
                "required": True,
                "schema": {"type": "integer", "minimum": 0},
            },
            "ETag": ETAG,
        },
        codes=LOAD,
    ),
    "uploads.upload": Operation(
        body=UPLOAD_FORM,
        parameters=(
            {
                "name": OFFSET_HEADER,
                "in": "header",
                "description": "Keep the upload for a client that comes back: the file goes on after so many bytes.",
                "schema": {"type": "integer", "minimum": 0},
            },
            {
                "name": PREFIX_HEADER,
                "in": "header",
                "description": "The SHA-256 of the bytes before the offset; wanted unless that is 0.",
                "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            },
        ),
        reply=json_of(OkResponse, {"status": "ok"}),
        codes=(*TRANSFER, "UPLOAD_MISMATCH"),
    ),
    "uploads.offset": Operation(
        body=json_of(LoadRequest(examples.FILENAME), {"filename": examples.FILENAME, "folder": "day"}),
        reply=json_of(UploadOffsetResponse, {"offset": 314572800, "complete": False}),
        codes=("NOT_LOGGED_IN",),
    ),
    "cache.listing": Operation(reply=json_of(CacheListResponse, examples.CACHE), codes=("STORAGE_ERROR",)),
    "cache.verify": Operation(
        reply=json_of(CacheVerifyResponse, {"checked": 1, "bytes": 524222464, "damaged": []}),
        codes=("BUSY", "STORAGE_ERROR"),
    ),
    "cache.clear": Operation(
        reply=json_of(CacheClearResponse, {"removed": 1, "bytes": 524222464, "kept": 0}),
        codes=("STORAGE_ERROR",),
    ),
    "unlock.unlock": Operation(
        body=json_of(UnlockRequest, examples.CREDENTIALS),
        reply=json_of(UnlockResponse, examples.UNLOCK),
        codes=("ARCHIVE_NOT_FOUND", "LOGIN_THROTTLED", *DISK, *ENGINE),
    ),
    "unlock.cancel": Operation(reply=json_of(UnlockOutcome, examples.UNLOCK_CANCEL)),
    "unlock.status": Operation(reply=json_of(UnlockStatusResponse, examples.UNLOCK_STATUS)),
    "images.releases": Operation(reply=json_of(ReleasesResponse, examples.RELEASES)),
    "images.published": Operation(
        reply=json_of(PublishedResponse, {"versions": ["1.3", "1.4", "latest"]}),
        codes=("BUSY", "NOT_LOGGED_IN", "LOGIN_REJECTED", *UPSTREAM, "INTERRUPTED"),
    ),
    "images.fetch": Operation(
        body=json_of(FetchRequest, {"version": "1.4", "from": "/media/stick/images.blobs"}),
        reply=json_of(FetchResponse, examples.FETCH),
        codes=("NOT_LOGGED_IN", "BUSY"),
    ),
    "images.fetch_report": Operation(reply=json_of(FetchStatusResponse, examples.FETCH_STATUS)),
    "images.cancel": Operation(reply=json_of(FetchResponse, examples.FETCH)),
    "unlock.plan": Operation(
        reply=json_of(UnlockPlanResponse, examples.UNLOCK_PLAN),
        codes=("ARCHIVE_NOT_FOUND", "ARCHIVE_CORRUPT", "UNTRUSTED_PUBLISHER", "BUSY", *DISK, *ENGINE),
    ),
    "unlock.back": Operation(
        reply=json_of(UnlockBackResponse, examples.UNLOCK_BACK),
        codes=("NO_WAY_BACK", "BUSY", *DISK, *ENGINE, "ENGINE_STALLED"),
    ),
}
