"""The shapes of requests and responses. Sizes are bytes, `rate` is bytes per second, times are RFC 3339."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from loader.fetch.state import STEPS as FETCH_STEPS
from loader.fetch.state import FetchState
from loader.unlock_state import RUN_STEPS, UnlockState

MAX_EMAIL_LENGTH = 254
MAX_PASSWORD_LENGTH = 1024
# The resource API accepts names of 1,024 characters. After the folder follow `/`, 128 characters and `.<object>.big`.
MAX_FOLDER_LENGTH = 858

_TIME = {"format": "date-time"}
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


class UploadOffsetResponse(Schema):
    """Where the client of an upload goes on: after `offset` bytes. `complete`: the resource is stored."""

    offset = fields.Integer(required=True, validate=validate.Range(min=0))
    complete = fields.Boolean(required=True)


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


class ModelEntry(Schema):
    """A model at the resource API: `size` of the plaintext in bytes, `created` RFC 3339, `etag` as GET sends it.

    `cached` says whether its big part, if it has one, is on this device. `code` is that of the error with which a load
    is refused, null if none is known, and `hint` what to do about it. The others are null if the small part is damaged.
    """

    folder = fields.String(required=True)
    filename = fields.String(required=True)
    size = fields.Integer(required=True, allow_none=True)
    serial = fields.Integer(required=True, allow_none=True)
    created = fields.String(required=True, allow_none=True, metadata=_TIME)
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


class _Report(Schema):
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


class UnlockStatusResponse(UnlockOutcome, _Report):
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


class UnlockBackRelease(Release):
    """A release that was unlocked on this device, and the references of its images."""

    images = fields.List(fields.String(), required=True)


class UnlockBackResponse(Schema):
    """The release that the names stand for now, the one that they stood for before, and the names that have moved."""

    present = fields.Nested(UnlockBackRelease, required=True)
    previous = fields.Nested(UnlockBackRelease, required=True)
    names = fields.List(fields.String(), required=True)


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


class FetchRequest(Schema):
    """The release to fetch. `version` is API_VERSION if it is missing.

    `from` is a directory on the device or the URL of a plain HTTP server, which is asked for blobs before the API.
    """

    version = fields.String(validate=check_version, metadata={"pattern": VERSION_PATTERN})
    source = fields.String(data_key="from", validate=check_source, metadata={"pattern": SOURCE_PATTERN})


class FetchResponse(Schema):
    """The state of the fetch after the request. `version` is what was asked for, null before the first fetch."""

    state = fields.Enum(FetchState, by_value=fields.String, required=True)
    version = fields.String(required=True, allow_none=True)


class FetchStep(Schema):
    """Step `number` of `of`."""

    number = fields.Integer(required=True)
    of = fields.Integer(required=True)
    name = fields.String(required=True, validate=validate.OneOf(FETCH_STEPS))


class FetchStatusResponse(FetchResponse, _Report):
    """The state of the fetch; the bytes are those that come from the API.

    `release` is what the head says that it is; nothing of it is proven before the unlock. A value is null if it is not
    known or does not apply.
    """

    release = fields.Nested(Release, required=True, allow_none=True)
    step = fields.Nested(FetchStep, required=True, allow_none=True)
