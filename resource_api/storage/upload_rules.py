"""The rules of resumable uploads, which all storages share. This module does no input or output."""

from resource_api.storage.interface import StoredPart, Upload, UploadRefusedError

# An upload that is not completed by then is removed with its parts.
UPLOAD_SECONDS = 7 * 24 * 3600
# The parts of abandoned uploads occupy the disk until they expire.
USER_UPLOADS = 100
# S3 accepts parts from 5 MiB up, and at most 10,000 of them.
PART_BYTES = 8 << 20
PARTS = 10_000
# The largest object of S3.
OBJECT_BYTES = 5 << 40
_MIB = 1 << 20


def part_size_of(size: int) -> int:
    """Return the size of the parts of an upload of `size` bytes, in whole MiB. Raises UploadRefusedError."""
    if not 1 <= size <= OBJECT_BYTES:
        raise UploadRefusedError(f"An upload has 1 to {OBJECT_BYTES} bytes.")
    return max(PART_BYTES, -(-size // (PARTS * _MIB)) * _MIB)


def require_same_parts(upload: Upload, parts: list[StoredPart], etags: dict[int, str]) -> None:
    """Raise UploadRefusedError unless `parts` are all of the upload, and `etags` has their ETags by number."""
    if len(parts) != upload.part_count or {part.number: part.etag for part in parts} != etags:
        raise UploadRefusedError(
            f"The parts to complete have to be 1 to {upload.part_count}, each with the ETag of its last PUT."
        )
