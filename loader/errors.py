"""The errors of the loader, by whose fault they are.

    LoaderError
    ├── CallerError                 the request is at fault; repeating it unchanged will not help
    │   ├── ValidationFailed        a field, a name or a part is missing or malformed
    │   ├── BodyTruncated           fewer bytes arrived than were announced
    │   ├── NotJson                 the body cannot be parsed
    │   ├── UnsupportedMediaType    the body is of another content type
    │   ├── LengthRequired          an upload without Content-Length
    │   ├── PayloadTooLarge         a body beyond its limit
    │   ├── CrossOrigin             a browser page of another origin
    │   ├── UntrustedHost           a Host header that is not ours
    │   ├── NotLoggedIn             nobody has logged in since the start, or since the loader was locked
    │   ├── LoginThrottled          too many logins were refused; the next has to wait
    │   ├── ResourceNotFound        the resource API has no such resource
    │   ├── ArchiveNotFound         there is nothing to unlock
    │   └── ImageNotFound           the Docker engine has no image of that name
    ├── ApiFault                    the resource API, or the way to it
    │   ├── LoginRejected           it refused the credentials
    │   ├── ApiUnreachable          no connection, or it fell silent
    │   ├── ApiError                it answered with an error status
    │   ├── ApiProtocol             it answered something that is not its contract
    │   └── ResourceCorrupt         what it stores does not authenticate
    ├── ArchiveFault                images.enc
    │   ├── ArchiveCorrupt          damaged, cut or not an archive
    │   ├── KeyMismatch             intact as far as known, but made for another key fragment
    │   └── VersionMismatch         it holds no image of the expected version
    ├── DeviceFault                 this device
    │   ├── Busy                    all transfer slots are taken
    │   ├── EngineUnavailable       no Docker engine answers
    │   ├── EngineRejected          the engine refused the images
    │   ├── EngineStalled           the engine fell silent in the middle of a load
    │   ├── ImageMismatch           the engine's images are not those of the manifest
    │   ├── DiskSpace               a disk is full
    │   ├── StorageError            a directory is missing, read-only or failing
    │   └── Interrupted             the loader was told to stop, or was locked
    └── CommandFault                the command line cannot use the loader
        ├── LoaderUnreachable       no loader answers at the address
        ├── LoaderProblem           the loader answered with an error
        └── AnswerCut               the loader ended in the middle of an answer

`code` is stable and part of the HTTP interface. The HTTP status of each code is in `loader.web.replies`, nowhere else.
`CorruptCiphertext` stands beside the tree: it is raised where bytes are opened, and the layer that knows what the bytes
were meant to be turns it into `ArchiveCorrupt` or `ResourceCorrupt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

# A function that returns while the work may go on, and raises a LoaderError when it must stop.
Checkpoint = Callable[[], None]


class LoaderError(Exception):
    """Any failure that the loader explains to its caller. `str()` is one sentence for a person, without secrets.

    `hint` says what to do about it; `retryable` whether the same request may succeed later without anything being done.
    """

    code = "INTERNAL"
    retryable = False
    hint = "Look into the log of the loader, and report what it says."


class CallerError(LoaderError):
    """The request is at fault."""

    hint = "Correct the request, and try again."


class ValidationFailed(CallerError):
    """`errors` maps a field's name to its list of complaints."""

    code = "VALIDATION_FAILED"

    def __init__(self, detail: str, errors: dict[str, list[str]] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or {}


class BodyTruncated(CallerError):
    code = "BODY_TRUNCATED"
    retryable = True


class NotJson(CallerError):
    code = "NOT_JSON"


class UnsupportedMediaType(CallerError):
    code = "UNSUPPORTED_MEDIA_TYPE"


class LengthRequired(CallerError):
    code = "LENGTH_REQUIRED"


class PayloadTooLarge(CallerError):
    code = "PAYLOAD_TOO_LARGE"


class CrossOrigin(CallerError):
    code = "CROSS_ORIGIN"


class UntrustedHost(CallerError):
    code = "UNTRUSTED_HOST"


class NotLoggedIn(CallerError):
    code = "NOT_LOGGED_IN"
    hint = "Log in, and try again."


class LoginThrottled(CallerError):
    """`retry_after` is in seconds."""

    code = "LOGIN_THROTTLED"
    retryable = True
    hint = "Wait as long as it says; make sure of the e-mail and the password, since each further attempt waits longer."

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ResourceNotFound(CallerError):
    code = "RESOURCE_NOT_FOUND"
    hint = "Check the folder and the name, and try again."


class ArchiveNotFound(CallerError):
    code = "ARCHIVE_NOT_FOUND"
    hint = "Copy images.enc to IMAGES_PATH, and try again."


class ImageNotFound(CallerError):
    code = "IMAGE_NOT_FOUND"
    hint = "Check the name and the tag, and try again."


class ApiFault(LoaderError):
    """The resource API, or the way to it, is at fault."""


class LoginRejected(ApiFault):
    code = "LOGIN_REJECTED"
    hint = "Check the e-mail and the password, and try again."


class ApiUnreachable(ApiFault):
    code = "API_UNREACHABLE"
    retryable = True
    hint = "Check the network and RESOURCE_API_URL, and try again."


class ApiError(ApiFault):
    code = "API_ERROR"
    retryable = True
    hint = "Try again later; if it stays, tell those who run the resource API."


class ApiProtocol(ApiFault):
    code = "API_PROTOCOL"
    hint = "Check that RESOURCE_API_URL is the address of a resource API."


class ResourceCorrupt(ApiFault):
    code = "RESOURCE_CORRUPT"
    hint = "Upload the resource again."


class ArchiveFault(LoaderError):
    """The archive of images is at fault."""


class ArchiveCorrupt(ArchiveFault):
    code = "ARCHIVE_CORRUPT"
    hint = "Copy images.enc to the device again."


class KeyMismatch(ArchiveFault):
    code = "KEY_MISMATCH"
    hint = "Bring the archive that belongs to the API's present key fragment, or give the API the fragment of this one."


class VersionMismatch(ArchiveFault):
    code = "VERSION_MISMATCH"
    hint = "Set API_VERSION to a version that the archive holds, or bring the right archive."


class DeviceFault(LoaderError):
    """This device is at fault. `hint` replaces the hint of the class."""

    def __init__(self, detail: str, *, hint: str | None = None) -> None:
        super().__init__(detail)
        if hint is not None:
            self.hint = hint


class Busy(DeviceFault):
    """`retry_after` is in seconds."""

    code = "BUSY"
    retryable = True
    hint = "Try again when one of the loads and uploads has ended, or raise MAX_TRANSFERS."

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class EngineUnavailable(DeviceFault):
    code = "ENGINE_UNAVAILABLE"
    retryable = True
    hint = "Start the Docker engine, check DOCKER_HOST and the rights on its socket, and try again."


class EngineRejected(DeviceFault):
    code = "ENGINE_REJECTED"
    hint = "Look into the log of the Docker engine; if it is well, pack the archive anew."


class EngineStalled(DeviceFault):
    code = "ENGINE_STALLED"
    retryable = True
    hint = "Look whether the Docker engine still works, restart it if not, and try again."


class ImageMismatch(DeviceFault):
    code = "IMAGE_MISMATCH"
    hint = "Pack the archive anew: its images are not those that its manifest names."


class DiskSpace(DeviceFault):
    code = "DISK_SPACE"
    retryable = True
    hint = "Make room on that disk, and try again."


class StorageError(DeviceFault):
    code = "STORAGE_ERROR"
    retryable = True
    hint = "Make that directory exist and writable for the loader, and try again."


class Interrupted(DeviceFault):
    code = "INTERRUPTED"
    retryable = True
    hint = "Start the unlock again."


class CommandFault(LoaderError):
    """The command line cannot use the loader."""


class LoaderUnreachable(CommandFault):
    code = "LOADER_UNREACHABLE"
    retryable = True
    hint = "Start the loader, or say with --url or LOADER_URL where it is."


class LoaderProblem(CommandFault):
    """The loader answered with an error: `code`, `hint` and `retryable` are those of the answer."""

    def __init__(self, code: str, detail: str, hint: str | None = None, *, retryable: bool = False) -> None:
        """Without a `hint` the one that belongs to `code` is taken."""
        super().__init__(detail)
        self.code = code
        self.hint = hint if hint is not None else hint_of(code)
        self.retryable = retryable


class AnswerCut(CommandFault):
    code = "ANSWER_CUT"
    retryable = True
    hint = "Try again; the log of the loader says why it ended the load."


class CorruptCiphertext(Exception):
    """Bytes that are not what was sealed: a wrong key, wrong associated data, a changed, cut, moved or added byte.

    `segment` is the number of the one that does not authenticate, None if the damage is not to one segment's bytes.
    """

    def __init__(self, detail: str, segment: int | None = None) -> None:
        super().__init__(detail)
        self.segment = segment


def hint_of(code: str) -> str:
    """What to do about the error with this code; empty for a code that is none of ours."""
    kind = kind_of(code)
    return kind.hint if kind is not None else ""


def kind_of(code: str) -> type[LoaderError] | None:
    """The error with this code; None for a code that is none of ours."""

    def family(kind: type[LoaderError]) -> Iterator[type[LoaderError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from family(child)

    return next((kind for kind in family(LoaderError) if kind.code == code), None)
