"""The shapes of replies about the unlock. Amounts are bytes, `rate` bytes a second, times RFC 3339."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from loader.unlock_state import STEPS, UnlockState

_TIME = {"format": "date-time"}


class UnlockResponse(Schema):
    """The state after the request."""

    state = fields.Enum(UnlockState, by_value=fields.String, required=True)


class UnlockStep(Schema):
    """Step `number` of `of`."""

    number = fields.Integer(required=True)
    of = fields.Integer(required=True)
    name = fields.String(required=True, validate=validate.OneOf(STEPS))


class UnlockStatusResponse(UnlockResponse):
    """Where the unlock stands: null is what is not known, or not the case."""

    error = fields.String(required=True, allow_none=True)
    code = fields.String(required=True, allow_none=True)
    retryable = fields.Boolean(required=True, allow_none=True)
    hint = fields.String(required=True, allow_none=True)
    step = fields.Nested(UnlockStep, required=True, allow_none=True)
    bytes_done = fields.Integer(required=True, allow_none=True)
    bytes_total = fields.Integer(required=True, allow_none=True)
    percent = fields.Integer(required=True, allow_none=True, validate=validate.Range(0, 100))
    rate = fields.Integer(required=True, allow_none=True)
    eta_seconds = fields.Float(required=True, allow_none=True)
    started_at = fields.String(required=True, allow_none=True, metadata=_TIME)
    updated_at = fields.String(required=True, allow_none=True, metadata=_TIME)
    duration_seconds = fields.Dict(keys=fields.String(), values=fields.Float(), required=True, allow_none=True)


class UnlockPlanImage(Schema):
    """An image of the archive. `present` is null when no engine could be asked; `size` is known of a present one."""

    reference = fields.String(required=True)
    id = fields.String(required=True)
    created = fields.String(required=True)
    present = fields.Boolean(required=True, allow_none=True)
    size = fields.Integer(required=True, allow_none=True)


class UnlockPlanPlace(Schema):
    """A disk that would be written to, and the directories there."""

    paths = fields.List(fields.String(), required=True)
    needed = fields.Integer(required=True)
    free = fields.Integer(required=True)
    writable = fields.Boolean(required=True)
    fits = fields.Boolean(required=True)


class UnlockPlanResponse(Schema):
    """What an unlock would do now."""

    archive = fields.String(required=True)
    created = fields.String(required=True, metadata=_TIME)
    tar_size = fields.Integer(required=True)
    mode = fields.String(required=True, validate=validate.OneOf(("tar", "stream")))
    images = fields.List(fields.Nested(UnlockPlanImage), required=True)
    places = fields.List(fields.Nested(UnlockPlanPlace), required=True)
    engine_answers = fields.Boolean(required=True)
    done = fields.Boolean(required=True)
    fits = fields.Boolean(required=True)
