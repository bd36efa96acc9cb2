"""JSON of the loader itself: status, health, logins, and every problem. Sizes are bytes, times are RFC 3339."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

_TIME = {"format": "date-time"}


class Problem(Schema):
    """A failure, as RFC 9457 defines problem details.

    `detail` says what is wrong and `hint` what to do, both for a person. `retryable` says whether the same request may
    succeed later although nobody has changed anything.

    `errors` holds the complaints of VALIDATION_FAILED by field, `reasons` all codes of a device that is not ready.
    """

    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    retryable = fields.Boolean(required=True)
    hint = fields.String(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))
    reasons = fields.List(fields.String())


class OkResponse(Schema):
    """The request has succeeded."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


class LockResponse(Schema):
    """Nobody is logged in any more."""

    status = fields.String(required=True, validate=validate.Equal("locked"))


class ReadyResponse(Schema):
    """Loads can be served."""

    ready = fields.Boolean(required=True, validate=validate.Equal(True))


class HealthResponse(Schema):
    """The process is alive."""

    status = fields.String(required=True, validate=validate.Equal("healthy"))


class DownloadStatus(Schema):
    """The download of one big part: sizes in bytes, `rate` in bytes per second."""

    filename = fields.String(required=True)
    bytes_done = fields.Integer(required=True)
    bytes_total = fields.Integer(required=True)
    rate = fields.Integer(required=True)


class CacheStatus(Schema):
    """The number of whole big parts on the disk, their size in bytes, and the running downloads."""

    entries = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    downloads = fields.List(fields.Nested(DownloadStatus), required=True)


class LastEvent(Schema):
    """How a login, an unlock or a fetch ended; the fields are those of its audit line, null if they say nothing.

    `hint` says what to do about `code`.
    """

    at = fields.String(required=True, metadata=_TIME)
    outcome = fields.String(required=True)
    code = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)
    user = fields.String(required=True, allow_none=True)
    client = fields.String(required=True, allow_none=True)
    version = fields.String(required=True, allow_none=True)
    seconds = fields.Float(required=True, allow_none=True)
    request_id = fields.String(required=True, allow_none=True)
    hint = fields.String(required=True, allow_none=True)


class LastEvents(Schema):
    """The last login, unlock and fetch of this device, also before a restart; null if nothing is known of one."""

    login = fields.Nested(LastEvent, required=True, allow_none=True)
    unlock = fields.Nested(LastEvent, required=True, allow_none=True)
    fetch = fields.Nested(LastEvent, required=True, allow_none=True)


class RefusedLogin(Schema):
    """Why the API has ended a login that the loader kept."""

    code = fields.String(required=True)
    detail = fields.String(required=True)
    hint = fields.String(required=True)


class StatusResponse(Schema):
    """The version, the name of the device, host and port of the API, whether somebody has logged in.

    `refused` is null unless the API has refused to renew the last login. Then what happened last, the directory of the
    cache, and what the cache holds and downloads.
    """

    status = fields.String(required=True, validate=validate.Equal("healthy"))
    version = fields.String(required=True)
    device = fields.String(required=True)
    api = fields.String(required=True)
    authenticated = fields.Boolean(required=True)
    refused = fields.Nested(RefusedLogin, required=True, allow_none=True)
    last = fields.Nested(LastEvents, required=True)
    modelCacheDir = fields.String(required=True)  # noqa: N815  # the name on the wire
    cache = fields.Nested(CacheStatus, required=True)
