"""JSON of releases, and of the fetch of one. Sizes are bytes, `rate` is bytes per second, times are RFC 3339."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import fields as fields_of

from marshmallow import Schema, fields, validate

from loader.fetch.state import STEPS, FetchRecord, FetchState
from loader.unlock_state import ProgressReport, UnlockRecord
from loader.web.request_schemas import HEAD_PATTERN

_TIME = {"format": "date-time"}
# The fields of a progress report before the first run.
_NO_PROGRESS = {field.name: None for field in fields_of(ProgressReport)}


class Release(Schema):
    """A release. What a head says that it is, is not proven before the unlock."""

    version = fields.String(required=True)
    serial = fields.Integer(required=True)
    created = fields.String(required=True, metadata=_TIME)


class KnownRelease(Release):
    """A release. `head` names exactly its head."""

    head = fields.String(required=True, metadata={"pattern": HEAD_PATTERN})


class ReleasesResponse(Schema):
    """The release that was unlocked last on this device and proven, and the one before; null if there is none."""

    present = fields.Nested(KnownRelease, required=True, allow_none=True)
    previous = fields.Nested(KnownRelease, required=True, allow_none=True)


class PublishedResponse(Schema):
    """The versions of the releases at the resource API, in the order of their names; `latest` is a further name."""

    versions = fields.List(fields.String(), required=True)


class Report(Schema):
    """How far a background job is, or how it failed. A value is null if it is not known or does not apply."""

    error = fields.String(required=True, allow_none=True)
    code = fields.String(required=True, allow_none=True)
    retryable = fields.Boolean(required=True, allow_none=True)
    hint = fields.String(required=True, allow_none=True)
    bytes_done = fields.Integer(required=True, allow_none=True)
    bytes_total = fields.Integer(required=True, allow_none=True)
    percent = fields.Integer(required=True, allow_none=True, validate=validate.Range(0, 100))
    rate = fields.Integer(required=True, allow_none=True)
    eta_seconds = fields.Float(required=True, allow_none=True)
    activity = fields.String(required=True, allow_none=True)
    silent_seconds = fields.Float(required=True, allow_none=True)
    started_at = fields.String(required=True, allow_none=True, metadata=_TIME)
    updated_at = fields.String(required=True, allow_none=True, metadata=_TIME)
    duration_seconds = fields.Dict(keys=fields.String(), values=fields.Float(), required=True, allow_none=True)


def report_of(record: FetchRecord | UnlockRecord, progress: ProgressReport | None) -> dict[str, object]:
    """Return the fields of `Report`, and `step`, of a background job. `progress` is None before its first run."""
    failure = record.failure
    return {
        "error": record.error,
        "code": failure.code if failure is not None else None,
        "retryable": failure.retryable if failure is not None else None,
        "hint": failure.hint if failure is not None else None,
        **(asdict(progress) if progress is not None else _NO_PROGRESS),
    }


class FetchResponse(Schema):
    """The state of the fetch after the request. `version` is what was asked for, null before the first fetch."""

    state = fields.Enum(FetchState, by_value=fields.String, required=True)
    version = fields.String(required=True, allow_none=True)


class FetchStep(Schema):
    """Step `number` of `of`."""

    number = fields.Integer(required=True)
    of = fields.Integer(required=True)
    name = fields.String(required=True, validate=validate.OneOf(STEPS))


class FetchStatusResponse(FetchResponse, Report):
    """The state of the fetch; the bytes are those that come from the API.

    `release` is what the head says that it is; nothing of it is proven before the unlock. A value is null if it is not
    known or does not apply.
    """

    release = fields.Nested(Release, required=True, allow_none=True)
    step = fields.Nested(FetchStep, required=True, allow_none=True)
