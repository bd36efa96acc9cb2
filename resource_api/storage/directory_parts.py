"""The parts of one upload, in its folder.

content      the parts that are there, and those that are being written, each at its place
{n}.{etag}   an empty file: part n is in `content`, and has this ETag: its MD5 if that was sent
{n}.claim    an empty file: a request writes part n, which is not there yet, to `content`; see `part_claim`
"""

import os
import re
from pathlib import Path

from resource_api.atomic import sync_directory
from resource_api.storage.interface import StoredPart, Upload, UploadRefusedError
from resource_api.storage.part_claim import PartClaim, revoke

_MARK = re.compile(r"([0-9]{1,5})\.([0-9a-f]{32})")


class DirectoryParts:
    """The parts of an upload. The caller has locked the upload, whatever it calls here. Methods raise OSError."""

    def __init__(self, folder: Path, upload: Upload) -> None:
        """Take the folder of the upload."""
        self.content = folder / "content"
        self._folder = folder
        self._upload = upload

    def listed(self) -> list[StoredPart]:
        """Return the parts that are there, in the order of their numbers."""
        marks = [_MARK.fullmatch(path.name) for path in self._folder.iterdir()]
        found = [(int(mark[1]), mark[2]) for mark in marks if mark is not None]
        return [StoredPart(number, self._upload.size_of(number), etag) for number, etag in sorted(found)]

    def has(self, number: int) -> bool:
        """Return whether a part is there."""
        return bool(self._marks(number))

    def claim(self, number: int) -> PartClaim | None:
        """Return a claim on a part.

        None if the part is there, or another request has a claim, or a process that was killed has left one. Raises
        UploadRefusedError if the upload is completed.
        """
        self._require_open()
        if self.has(number):
            return None
        try:
            return PartClaim(self._claim_path(number))
        except FileExistsError:
            return None

    def copy(self, number: int, source: int) -> None:
        """Copy a part from the descriptor `source` to its place. Its mark is absent meanwhile, and after a kill.

        Raises UploadRefusedError if the upload is completed.
        """
        self._require_open()
        revoke(self._claim_path(number))
        for mark in self._marks(number):
            mark.unlink()
            sync_directory(self._folder)  # after a power cut, no mark may stand for bytes that have changed since
        with self.content.open("r+b") as content:
            start, size = self.offset(number), self._upload.size_of(number)
            copied = 0
            while copied < size:
                copied += os.copy_file_range(source, content.fileno(), size - copied, copied, start + copied)
            os.fdatasync(content.fileno())  # a mark must not outlive a power cut that its bytes do not

    def mark(self, number: int, etag: str) -> None:
        """Note that a part is at its place and on the disk."""
        (self._folder / f"{number}.{etag}").touch(mode=0o600)

    def offset(self, number: int) -> int:
        """Return where a part begins in `content`."""
        return (number - 1) * self._upload.part_size

    def _marks(self, number: int) -> list[Path]:
        return [path for path in self._folder.glob(f"{number}.*") if _MARK.fullmatch(path.name)]

    def _claim_path(self, number: int) -> Path:
        return self._folder / f"{number}.claim"

    def _require_open(self) -> None:
        if not self.content.exists():
            raise UploadRefusedError("The upload is completed.")
