"""JSON of the unlock, its plan, and the way back to the previous release. Sizes are bytes, times are RFC 3339."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from loader.unlock_state import RUN_STEPS, UnlockState
from loader.web.release_schemas import KnownRelease, Release, Report


class UnlockOutcome(Schema):
    """The state of the unlock.

    `authenticated` says whether somebody has logged in since the start or the last lock. `proven` is true in `ready`
    only: the key fragment has authenticated the list of the images on this device. Otherwise the archive only says that
    the images in the engine are its own.
    """

    state = fields.Enum(UnlockState, by_value=fields.String, required=True)
    authenticated = fields.Boolean(required=True)
    proven = fields.Boolean(required=True)


class UnlockResponse(UnlockOutcome):
    """The state of the unlock after the request.

    `started` is false if the request has started no run: one is active already, or nothing is left to do. Its e-mail
    and password were not used then.
    """

    started = fields.Boolean(required=True)


class UnlockStep(Schema):
    """Step `number` of `of`."""

    number = fields.Integer(required=True)
    of = fields.Integer(required=True)
    name = fields.String(required=True, validate=validate.OneOf(RUN_STEPS))


class UnlockStatusResponse(UnlockOutcome, Report):
    """The state of the unlock. A value is null if it is not known or does not apply."""

    step = fields.Nested(UnlockStep, required=True, allow_none=True)


class UnlockPlanImage(Schema):
    """An image of the archive. `present` is null if no engine responded. `size` is that of its unpacked layers.

    `to_send` says how many bytes the engine gets under this name, few if it has most layers of the image, and `update`
    whether it has another image of the same repository. `config` is the digest of its configuration, which is its ID in
    most engines.
    """

    reference = fields.String(required=True)
    config = fields.String(required=True)
    platform = fields.String(required=True)
    created = fields.String(required=True)
    present = fields.Boolean(required=True, allow_none=True)
    size = fields.Integer(required=True)
    to_send = fields.Integer(required=True)
    update = fields.Boolean(required=True)


class UnlockPlanWork(Schema):
    """Bytes of the archive that are read, bytes that the engine gets, and bytes that it unpacks."""

    to_read = fields.Integer(required=True)
    to_send = fields.Integer(required=True)
    to_unpack = fields.Integer(required=True)


class UnlockPlanPlace(Schema):
    """A disk that an unlock would write to, and the directories on it. `takes_files` is false without a free inode."""

    paths = fields.List(fields.String(), required=True)
    needed = fields.Integer(required=True)
    free = fields.Integer(required=True)
    writable = fields.Boolean(required=True)
    takes_files = fields.Boolean(required=True)
    fits = fields.Boolean(required=True)


class UnlockPlanFailure(Schema):
    """Why an unlock would fail: the code, the sentence and the hint of its error."""

    code = fields.String(required=True)
    detail = fields.String(required=True)
    hint = fields.String(required=True)
    retryable = fields.Boolean(required=True)


class UnlockPlanResponse(Schema):
    """What an unlock would do now. `seconds` is null if this device has not unlocked enough to know.

    `failure` is null, or why an unlock would fail before its login. `release` is null without an archive: then all
    images that this device expects are there.

    `older_than` is null, or the newest release that became ready here: the archive is older, and an unlock ends with
    ROLLBACK unless `allow_older` is the `head` of `release`.
    """

    archive = fields.String(required=True)
    release = fields.Nested(KnownRelease, required=True, allow_none=True)
    older_than = fields.Nested(KnownRelease, required=True, allow_none=True)
    work = fields.Nested(UnlockPlanWork, required=True)
    seconds = fields.Float(required=True, allow_none=True)
    mode = fields.String(required=True, validate=validate.OneOf(("tar", "stream")))
    images = fields.List(fields.Nested(UnlockPlanImage), required=True)
    places = fields.List(fields.Nested(UnlockPlanPlace), required=True)
    warnings = fields.List(fields.String(), required=True)
    engine_answers = fields.Boolean(required=True)
    done = fields.Boolean(required=True)
    fits = fields.Boolean(required=True)
    failure = fields.Nested(UnlockPlanFailure, required=True, allow_none=True)


class UnlockBackRelease(Release):
    """A release that was unlocked on this device, and the references of its images."""

    images = fields.List(fields.String(), required=True)


class UnlockBackResponse(Schema):
    """The release that the names stand for now, the one that they stood for before, and the names that have moved."""

    present = fields.Nested(UnlockBackRelease, required=True)
    previous = fields.Nested(UnlockBackRelease, required=True)
    names = fields.List(fields.String(), required=True)
