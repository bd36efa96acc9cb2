"""JSON of models, their uploads, and the cache. Sizes are bytes, times are RFC 3339."""

from __future__ import annotations

from marshmallow import Schema, fields, validate


class UploadOffsetResponse(Schema):
    """Where the client of an upload goes on: after `offset` bytes. `complete`: the resource is stored."""

    offset = fields.Integer(required=True, validate=validate.Range(min=0))
    complete = fields.Boolean(required=True)


class ModelEntry(Schema):
    """A model at the resource API: `size` of the plaintext in bytes, `created` RFC 3339, `etag` as GET sends it.

    `cached` says whether its big part, if it has one, is on this device. `code` is that of the error with which a load
    is refused, null if none is known, and `hint` what to do about it. The others are null if the small part is damaged.
    """

    folder = fields.String(required=True)
    filename = fields.String(required=True)
    size = fields.Integer(required=True, allow_none=True)
    serial = fields.Integer(required=True, allow_none=True)
    created = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    etag = fields.String(required=True, allow_none=True)
    cached = fields.Boolean(required=True)
    code = fields.String(required=True, allow_none=True)
    hint = fields.String(required=True, allow_none=True)


class ModelsResponse(Schema):
    """The models at the resource API, in the order of their names."""

    models = fields.List(fields.Nested(ModelEntry), required=True)


class CacheEntry(Schema):
    """One encrypted part on the disk; `last_used` is RFC 3339.

    `name` is `folder/filename` if a load or GET /models has told it since the start of the loader, else null.
    """

    digest = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)
    bytes = fields.Integer(required=True)
    whole = fields.Boolean(required=True)
    in_use = fields.Boolean(required=True)
    last_used = fields.String(required=True)


class CacheListResponse(Schema):
    """All parts, their size in bytes, and the limit of that size; 0 means no limit."""

    entries = fields.List(fields.Nested(CacheEntry), required=True)
    bytes = fields.Integer(required=True)
    max_bytes = fields.Integer(required=True)


class CacheVerifyResponse(Schema):
    """The number of whole parts that were read, their size in bytes, and the damaged ones, which were removed."""

    checked = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    damaged = fields.List(fields.String(), required=True)


class CacheClearResponse(Schema):
    """The number of removed parts, their size in bytes, and the number of parts that stayed because they are in use."""

    removed = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    kept = fields.Integer(required=True)
