"""The errors of the loader, in families by whose fault they are: CallerError, ApiFault, ArchiveFault, DeviceFault.

The first paragraph of an error's docstring is its meaning, `code` its stable name in the HTTP interface, `hint` what a
person should do. `python -m tools.openapi` makes the tables in docs/http-api.md and docs/operations.md from these.
The HTTP status of each code stands in `loader.web.replies` and nowhere else.

No HTTP response has an error of the family CommandFault or ImageNotFound, because only commands raise them.
`CorruptCiphertext` is no LoaderError: the cipher raises it, and the layer that knows what the bytes should be turns it
into ArchiveCorrupt or ResourceCorrupt.
"""

from __future__ import annotations

from collections.abc import Callable

# A function that returns while the work may go on, and raises a LoaderError when it must stop.
Checkpoint = Callable[[], None]

# The text of the error that a caller gets for an unexpected exception.
UNEXPECTED = "The loader itself failed; its log says why."


class LoaderError(Exception):
    """The loader itself failed; its log says why.

    This is also the base of every failure that the loader explains to its caller. `str()` is one sentence for a person,
    without secrets. `hint` says what to do. `retryable` says whether the same request may succeed later although nobody
    has changed anything.
    """

    code = "INTERNAL"
    retryable = False
    hint = "Read the log of the loader, and report what it says."

    def __init__(self, detail: str, *, hint: str | None = None) -> None:
        """Use the hint of the class if `hint` is None."""
        super().__init__(detail)
        if hint is not None:
            self.hint = hint


class TooEarly(LoaderError):
    """The base of the errors whose response has `Retry-After`. `retry_after` is in seconds."""

    retryable = True

    def __init__(self, detail: str, retry_after: int, *, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.retry_after = retry_after


class CallerError(LoaderError):
    """The request is at fault."""

    hint = "Correct the request, and try again."


class ValidationFailed(CallerError):
    """A field, a name or a part of the request is missing or malformed.

    `errors` maps a field's name to its list of complaints.
    """

    code = "VALIDATION_FAILED"

    def __init__(self, detail: str, errors: dict[str, list[str]] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or {}


class BodyTruncated(CallerError):
    """The body ended early."""

    code = "BODY_TRUNCATED"
    retryable = True


class NotJson(CallerError):
    """The body cannot be parsed as JSON."""

    code = "NOT_JSON"


class UnsupportedMediaType(CallerError):
    """The body has another content type than the path accepts."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class LengthRequired(CallerError):
    """An upload has no `Content-Length`."""

    code = "LENGTH_REQUIRED"


class PayloadTooLarge(CallerError):
    """A JSON body has more than 64 KiB."""

    code = "PAYLOAD_TOO_LARGE"


class CrossOrigin(CallerError):
    """A browser sent the request from a page of another origin."""

    code = "CROSS_ORIGIN"


class UntrustedHost(CallerError):
    """The Host header is not in TRUSTED_HOSTS."""

    code = "UNTRUSTED_HOST"


class NotLoggedIn(CallerError):
    """Nobody has logged in since the start or the last lock."""

    code = "NOT_LOGGED_IN"
    hint = "Log in, and try again."


class LoginThrottled(TooEarly, CallerError):
    """Too many logins were refused; no login and no unlock starts before the seconds in `Retry-After` are over."""

    code = "LOGIN_THROTTLED"
    hint = "Wait as long as the error says; check the e-mail and the password: each further refusal doubles the wait."


class ResourceNotFound(CallerError):
    """The API has no such resource."""

    code = "RESOURCE_NOT_FOUND"
    hint = "Check the folder and the name, and try again."


class UploadMismatch(CallerError):
    """An upload cannot go on: the loader has other bytes of it, or none."""

    code = "UPLOAD_MISMATCH"
    hint = "Upload the whole file again."


class RangeNotSatisfiable(CallerError):
    """The range begins after the end of the model. `size` is that of the model in bytes."""

    code = "RANGE_NOT_SATISFIABLE"
    hint = "Ask for the whole model: what is here already may belong to another edition."

    def __init__(self, detail: str, size: int) -> None:
        super().__init__(detail)
        self.size = size


class ArchiveNotFound(CallerError):
    """There is no archive, and its images are not in the engine."""

    code = "ARCHIVE_NOT_FOUND"
    hint = "Copy images.enc to IMAGES_PATH, and try again."


class ImageNotFound(CallerError):
    """The Docker engine, or the file or directory to pack from, has no such image."""

    code = "IMAGE_NOT_FOUND"
    hint = "Check the name and the tag, and try again."


class ApiFault(LoaderError):
    """The resource API, or the way to it, is at fault."""


class LoginRejected(ApiFault):
    """The API refused the e-mail or the password."""

    code = "LOGIN_REJECTED"
    hint = "Check the e-mail and the password, and try again."


class Forbidden(ApiFault):
    """The API does not permit this to the account that is logged in, such as an upload to a reader."""

    code = "FORBIDDEN"
    hint = (
        "Log in with an account that may do this (a publisher's for an upload), or ask the operators of the resource "
        "API for that role."
    )


class ApiUnreachable(ApiFault):
    """The API cannot be reached, its certificate is not trusted, or it stopped responding."""

    code = "API_UNREACHABLE"
    retryable = True
    hint = "Check the network and RESOURCE_API_URL, and try again."


class ApiError(ApiFault):
    """The API responded with an error, such as having no key fragment."""

    code = "API_ERROR"
    retryable = True
    hint = "Try again later; if the error stays, tell the operators of the resource API."

    def __init__(
        self, detail: str, *, lasting: bool = False, retry_after: float | None = None, hint: str | None = None
    ) -> None:
        """`lasting` says that the API refused this very request. `retry_after` are the seconds that it asked for."""
        super().__init__(detail, hint=hint)
        self.lasting = lasting
        self.retry_after = retry_after


class ApiProtocol(ApiFault):
    """The response is not one of a resource API: it breaks the contract, is too long or redirects out of TLS."""

    code = "API_PROTOCOL"
    hint = "Check that RESOURCE_API_URL is the address of a resource API."


class ResourceCorrupt(ApiFault):
    """A resource does not authenticate, even after a second download."""

    code = "RESOURCE_CORRUPT"
    hint = "Upload the resource again."


class ArchiveFault(LoaderError):
    """The archive of images is at fault."""


class ArchiveCorrupt(ArchiveFault):
    """The archive is damaged, cut short, or changed while it was read."""

    code = "ARCHIVE_CORRUPT"
    hint = "Copy images.enc to the device again."


class KeyMismatch(ArchiveFault):
    """The archive was made for another key fragment."""

    code = "KEY_MISMATCH"
    hint = (
        "Copy an archive whose key fragment the API has to the device, or add the fragment of this archive to the API."
    )


class VersionMismatch(ArchiveFault):
    """The archive is a release of another version than API_VERSION."""

    code = "VERSION_MISMATCH"
    hint = "Set API_VERSION to the version of the archive, or copy the right archive."


class UntrustedPublisher(ArchiveFault):
    """PUBLISHER_KEYS is set, and the archive or the model has no valid signature by one of its keys."""

    code = "UNTRUSTED_PUBLISHER"
    hint = "Copy an archive that a publisher has signed; if the publisher is new, add the key to PUBLISHER_KEYS."


class Rollback(ArchiveFault):
    """The archive or the model is older than one that was accepted here, or than the resource API permits.

    The detail names both, with serial and date.
    """

    code = "ROLLBACK"
    hint = (
        "Copy the newest release to the device. To go back on purpose, unlock with --allow-older, "
        "or with the field allow_older of POST /unlock."
    )


class ArchiveIncomplete(ArchiveFault):
    """The archive is thin: it lacks blobs that are needed, and the device or the base does not have them either."""

    code = "ARCHIVE_INCOMPLETE"
    hint = (
        "Copy the full archive of this release to the device. "
        "Bring thin archives with azaion-loader images install, which keeps the blobs of the installed one."
    )


class DeviceFault(LoaderError):
    """This device is at fault."""


class Busy(TooEarly, DeviceFault):
    """All transfer slots are taken, or too many requests wait for one thing; `Retry-After` says when to retry."""

    code = "BUSY"
    hint = "Try again in a moment; if loads and uploads take all slots, raise MAX_TRANSFERS."


class EngineUnavailable(DeviceFault):
    """No Docker engine responds, or it went away."""

    code = "ENGINE_UNAVAILABLE"
    retryable = True
    hint = "Start the Docker engine, check DOCKER_HOST and the rights on its socket, and try again."


class EngineRejected(DeviceFault):
    """The Docker engine refused a request or the images; the detail names its reason."""

    code = "ENGINE_REJECTED"
    hint = "Read the log of the Docker engine; if it shows no fault, pack the archive again."


class EngineStalled(DeviceFault):
    """The Docker engine gave no sign for ENGINE_TIMEOUT seconds, and one more for each 5 MiB that it had to unpack."""

    code = "ENGINE_STALLED"
    retryable = True
    hint = "Check whether the Docker engine still works, restart it if not, and try again."


class ImageMismatch(DeviceFault):
    """After a load the Docker engine lacks an image of the archive, or has another one under its name."""

    code = "IMAGE_MISMATCH"
    hint = "Make sure that nothing else changes the images of this engine, and try again."


class NoWayBack(DeviceFault):
    """The previous release cannot take the place of the present one; the detail says why, and nothing has changed."""

    code = "NO_WAY_BACK"
    hint = "Unlock the release that this device shall run."


class DiskSpace(DeviceFault):
    """A disk is too small or full; the detail names path, needed and free bytes."""

    code = "DISK_SPACE"
    retryable = True
    hint = "Make room on that disk, and try again."


class StorageError(DeviceFault):
    """A directory is missing, read-only or failing."""

    code = "STORAGE_ERROR"
    retryable = True
    hint = "Make that directory exist and writable for the loader, and try again."


class Interrupted(DeviceFault):
    """The loader was told to stop or was locked, or the unlock or the fetch was cancelled."""

    code = "INTERRUPTED"
    retryable = True
    hint = "Start the unlock again."


class CommandFault(LoaderError):
    """The command line cannot use the loader."""


class SourceCorrupt(CommandFault):
    """The images to pack are damaged, incomplete, or not what their source says that they are."""

    code = "SOURCE_CORRUPT"
    hint = "Save or build the images again, and try again."


class LoaderUnreachable(CommandFault):
    """No loader responds at the address."""

    code = "LOADER_UNREACHABLE"
    retryable = True
    hint = "Start the loader, or say with --url or LOADER_URL where it is."


class LoaderProblem(CommandFault):
    """The loader responded with an error, whose `code`, `hint` and `retryable` this error carries."""

    def __init__(
        self,
        code: str,
        detail: str,
        hint: str | None = None,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """Use the hint that belongs to `code` if `hint` is None. `retry_after` are the seconds of Retry-After."""
        super().__init__(detail, hint=hint if hint is not None else hint_of(code))
        self.code = code
        self.retryable = retryable
        self.retry_after = retry_after


class AnswerCut(CommandFault):
    """The loader ended its response early."""

    code = "ANSWER_CUT"
    retryable = True
    hint = "Try again; the log of the loader says why it ended the load."


class CorruptCiphertext(Exception):
    """Bytes are not what was sealed: wrong key, wrong associated data, or a changed, cut, moved or added byte.

    `detail` is a clause that completes "The archive is damaged: ...": "it ends within its header".
    `segment` is the number of the segment that does not authenticate; None if no single segment is damaged.
    """

    def __init__(self, detail: str, segment: int | None = None) -> None:
        super().__init__(detail)
        self.segment = segment


def kind_of(code: str) -> type[LoaderError] | None:
    """Return the error with this code; None for a code that is not in BY_CODE."""
    return BY_CODE.get(code)


def hint_of(code: str) -> str:
    """Return what to do about the error with this code; empty for a code that is not in BY_CODE."""
    kind = BY_CODE.get(code)
    return kind.hint if kind is not None else ""


# Every error of this module that has a code of its own, in the order of the module. Classes of other modules are left
# out, because the result must not depend on what was imported.
BY_CODE: dict[str, type[LoaderError]] = {
    kind.code: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, LoaderError) and "code" in vars(kind)
}
