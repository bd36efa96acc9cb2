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
    │   ├── NotLoggedIn             nobody has logged in since the start
    │   ├── ResourceNotFound        the resource API has no such resource
    │   └── ArchiveNotFound         there is nothing to unlock
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
    └── DeviceFault                 this device
        ├── Busy                    all transfer slots are taken
        ├── EngineUnavailable       no Docker engine answers
        ├── EngineRejected          the engine refused the images
        ├── EngineStalled           the engine fell silent in the middle of a load
        ├── ImageMismatch           the engine's images are not those of the manifest
        ├── DiskSpace               a disk is full
        ├── StorageError            a directory is missing, read-only or failing
        └── Interrupted             the loader was told to stop

`code` is stable and part of the HTTP interface. The HTTP status of each code is in `loader.web.replies`, nowhere else.
`CorruptCiphertext` stands beside the tree: it is raised where bytes are opened, and the layer that knows what the bytes
were meant to be turns it into `ArchiveCorrupt` or `ResourceCorrupt`.
"""

from __future__ import annotations


class LoaderError(Exception):
    """Any failure that the loader explains to its caller. `str()` is one sentence for a person, without secrets."""

    code = "INTERNAL"
    retryable = False


class CallerError(LoaderError):
    """The request is at fault."""


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


class ResourceNotFound(CallerError):
    code = "RESOURCE_NOT_FOUND"


class ArchiveNotFound(CallerError):
    code = "ARCHIVE_NOT_FOUND"


class ApiFault(LoaderError):
    """The resource API, or the way to it, is at fault."""


class LoginRejected(ApiFault):
    code = "LOGIN_REJECTED"


class ApiUnreachable(ApiFault):
    code = "API_UNREACHABLE"
    retryable = True


class ApiError(ApiFault):
    code = "API_ERROR"
    retryable = True


class ApiProtocol(ApiFault):
    code = "API_PROTOCOL"


class ResourceCorrupt(ApiFault):
    code = "RESOURCE_CORRUPT"


class ArchiveFault(LoaderError):
    """The archive of images is at fault."""


class ArchiveCorrupt(ArchiveFault):
    code = "ARCHIVE_CORRUPT"


class KeyMismatch(ArchiveFault):
    code = "KEY_MISMATCH"


class VersionMismatch(ArchiveFault):
    code = "VERSION_MISMATCH"


class DeviceFault(LoaderError):
    """This device is at fault."""


class Busy(DeviceFault):
    """`retry_after` is in seconds."""

    code = "BUSY"
    retryable = True

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class EngineUnavailable(DeviceFault):
    code = "ENGINE_UNAVAILABLE"
    retryable = True


class EngineRejected(DeviceFault):
    code = "ENGINE_REJECTED"


class EngineStalled(DeviceFault):
    code = "ENGINE_STALLED"
    retryable = True


class ImageMismatch(DeviceFault):
    code = "IMAGE_MISMATCH"


class DiskSpace(DeviceFault):
    code = "DISK_SPACE"
    retryable = True


class StorageError(DeviceFault):
    code = "STORAGE_ERROR"
    retryable = True


class Interrupted(DeviceFault):
    code = "INTERRUPTED"
    retryable = True


class CorruptCiphertext(Exception):
    """Bytes that are not what was sealed: a wrong key, wrong associated data, a changed, cut, moved or added byte.

    `segment` is the number of the one that does not authenticate, None if the damage is not to one segment's bytes.
    """

    def __init__(self, detail: str, segment: int | None = None) -> None:
        super().__init__(detail)
        self.segment = segment
