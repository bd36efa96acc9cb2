"""The parts of one upload, in its folder.

content           the parts that are there, and those that are being written, each at its place
marks             which parts are there: a record for each number, see `_MARK`; zeros or nothing for one without a part
{n}.{size}.claim  an empty file: a request writes part n, of so many bytes, to `content`; see `part_claim`

No two parts or claims overlap. What a part costs does not depend on how many others are there.
"""

import os
import re
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from resource_api.storage.interface import StoredPart, Upload, UploadRefusedError
from resource_api.storage.part_claim import PartClaim, revoke

# The size of a part and its ETag, which is its MD5 if that was sent. A record of 32 bytes lies in one sector of the
# disk, so that a power cut leaves the old one or the new one.
_MARK = struct.Struct("<Q16s8x")
_NO_PART = bytes(_MARK.size)
_CLAIM = re.compile(r"([0-9]{1,5})\.([0-9]+)\.claim")
_COPY_BYTES = 1 << 20


class DirectoryParts:
    """The parts of an upload. The caller has locked the upload, whatever it calls here. Methods raise OSError."""

    def __init__(self, folder: Path, upload: Upload) -> None:
        """Take the folder of the upload."""
        self.content = folder / "content"
        self._folder = folder
        self._upload = upload

    def listed(self) -> list[StoredPart]:
        """Return the parts that are there, in the order of their numbers."""
        return self._marked(1, self._upload.part_count)

    def overlapping(self, part: StoredPart) -> list[StoredPart]:
        """Return the parts that are there and have bytes of `part`."""
        # A part may have the largest size, so those that begin shortly before reach into this one.
        first = part.number - self._upload.part_size // self._upload.min_part_size + 1
        last = part.number - 1 + -(-part.size // self._upload.min_part_size)
        return [mark for mark in self._marked(max(1, first), last) if self._share_bytes(mark, part)]

    def claim(self, part: StoredPart) -> PartClaim | None:
        """Return a claim on the place of a part.

        None if some of its bytes are there, or another request has a claim on them, or a process that was killed has
        left one. Raises UploadRefusedError if the upload is completed.
        """
        self._require_open()
        if self.overlapping(part) or self._overlapping_claims(part):
            return None
        return PartClaim(self._folder / f"{part.number}.{part.size}.claim")

    def copy(self, part: StoredPart, source: BinaryIO) -> None:
        """Copy a part from the file `source`, which has nothing else, to its place.

        The marks of all that it overlaps are absent meanwhile, and after a kill. Raises UploadRefusedError if the
        upload is completed.
        """
        self._require_open()
        for claim in self._overlapping_claims(part):
            revoke(claim)
        self._remove_marks(self.overlapping(part))
        with self.content.open("r+b") as content:
            source.seek(0)
            content.seek(self._upload.begin_of(part.number))
            shutil.copyfileobj(source, content, _COPY_BYTES)
            content.flush()
            os.fdatasync(content.fileno())  # a mark must not outlive a power cut that its bytes do not

    def mark(self, part: StoredPart) -> None:
        """Note that a part is at its place and on the disk."""
        with self._open_marks() as marks:
            os.pwrite(marks, _MARK.pack(part.size, bytes.fromhex(part.etag)), _place_of(part.number))

    def _remove_marks(self, parts: list[StoredPart]) -> None:
        if not parts:
            return
        with self._open_marks() as marks:
            for part in parts:
                os.pwrite(marks, _NO_PART, _place_of(part.number))
            os.fdatasync(marks)  # after a power cut, no mark may stand for bytes that have changed since

    def _marked(self, first: int, last: int) -> list[StoredPart]:
        """Return the parts that are there with a number from `first` to `last`, in their order."""
        with self._open_marks() as marks:
            found = os.pread(marks, _place_of(last + 1) - _place_of(first), _place_of(first))
        records = _MARK.iter_unpack(found[: len(found) // _MARK.size * _MARK.size])
        return [StoredPart(number, size, etag.hex()) for number, (size, etag) in enumerate(records, first) if size]

    @contextmanager
    def _open_marks(self) -> Iterator[int]:
        descriptor = os.open(self._folder / "marks", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _overlapping_claims(self, part: StoredPart) -> list[Path]:
        # Only few names are here, because parts have none.
        found = [(path, _CLAIM.fullmatch(path.name)) for path in self._folder.iterdir()]
        claims = [(path, StoredPart(int(claim[1]), int(claim[2]), "")) for path, claim in found if claim is not None]
        return [path for path, claim in claims if self._share_bytes(claim, part)]

    def _share_bytes(self, one: StoredPart, other: StoredPart) -> bool:
        begin, there = self._upload.begin_of(one.number), self._upload.begin_of(other.number)
        return begin < there + other.size and there < begin + one.size

    def _require_open(self) -> None:
        if not self.content.exists():
            raise UploadRefusedError("The upload is completed.")


def _place_of(number: int) -> int:
    return (number - 1) * _MARK.size
