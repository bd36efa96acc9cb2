"""The rules of resumable uploads, which all storages share. This module does no input or output."""

from resource_api.storage.interface import StoredPart, Upload, UploadRefusedError

# An upload that is not completed by then is removed with its parts.
UPLOAD_SECONDS = 7 * 24 * 3600
# The parts of abandoned uploads occupy the disk until they expire.
USER_UPLOADS = 100
# The largest parts, unless there would be more than 10,000 of the smallest ones, which is the limit of S3.
PART_BYTES = 8 << 20
PARTS = 10_000
# The largest object of S3.
OBJECT_BYTES = 5 << 40


def part_sizes_of(size: int, smallest: int) -> tuple[int, int]:
    """Return the least and the most bytes of a part of an upload of `size` bytes. Raises UploadRefusedError.

    `smallest` is the least that the storage permits; the result is that or a multiple, and the other a multiple of it.
    """
    if not 1 <= size <= OBJECT_BYTES:
        raise UploadRefusedError(f"An upload has 1 to {OBJECT_BYTES} bytes.")
    while smallest * PARTS < size:
        smallest *= 2
    return smallest, max(PART_BYTES, smallest)


def require_same_parts(upload: Upload, parts: list[StoredPart], etags: dict[int, str]) -> None:
    """Raise UploadRefusedError unless `parts`, in their order, are the whole upload, and have the ETags of `etags`."""
    end = 0
    for part in parts:
        end = end + part.size if upload.begin_of(part.number) == end else -1
    if end != upload.size or {part.number: part.etag for part in parts} != etags:
        raise UploadRefusedError(
            f"The parts to complete have to be {upload.size} bytes without gaps, each with the ETag of its last PUT."
        )
