"""The parts of one upload, in its folder.

content             the parts that are there, and those that are being written, each at its place
{n}.{size}.{etag}   an empty file: part n is in `content`, and has so many bytes and this ETag: its MD5 if that was sent
{n}.{size}.claim    an empty file: a request writes part n to `content`; see `part_claim`

No two parts or claims overlap.
"""

import os
import re
from pathlib import Path

from resource_api.atomic import sync_directory
from resource_api.storage.interface import StoredPart, Upload, UploadRefusedError
from resource_api.storage.part_claim import PartClaim, revoke

_NOTE = re.compile(r"([0-9]{1,5})\.([0-9]+)\.([0-9a-f]{32}|claim)")
_CLAIM = "claim"


class DirectoryParts:
    """The parts of an upload. The caller has locked the upload, whatever it calls here. Methods raise OSError."""

    def __init__(self, folder: Path, upload: Upload) -> None:
        """Take the folder of the upload."""
        self.content = folder / "content"
        self._folder = folder
        self._upload = upload

    def listed(self) -> list[StoredPart]:
        """Return the parts that are there, in the order of their numbers."""
        return [note for note in self._notes() if note.etag != _CLAIM]

    def overlapping(self, part: StoredPart) -> list[StoredPart]:
        """Return the parts that are there and have bytes of `part`."""
        return [note for note in self._overlapping(part) if note.etag != _CLAIM]

    def claim(self, part: StoredPart) -> PartClaim | None:
        """Return a claim on the place of a part.

        None if some of its bytes are there, or another request has a claim on them, or a process that was killed has
        left one. Raises UploadRefusedError if the upload is completed.
        """
        self._require_open()
        return PartClaim(self._claim_path(part)) if not self._overlapping(part) else None

    def copy(self, part: StoredPart, source: int) -> None:
        """Copy a part from the descriptor `source` to its place.

        The marks of all that it overlaps are absent meanwhile, and after a kill. Raises UploadRefusedError if the
        upload is completed.
        """
        self._require_open()
        for other in self._overlapping(part):
            if other.etag == _CLAIM:
                revoke(self._claim_path(other))
                continue
            self._path(other).unlink()
            sync_directory(self._folder)  # after a power cut, no mark may stand for bytes that have changed since
        with self.content.open("r+b") as content:
            start, copied = self._upload.begin_of(part.number), 0
            while copied < part.size:
                copied += os.copy_file_range(source, content.fileno(), part.size - copied, copied, start + copied)
            os.fdatasync(content.fileno())  # a mark must not outlive a power cut that its bytes do not

    def mark(self, part: StoredPart) -> None:
        """Note that a part is at its place and on the disk."""
        self._path(part).touch(mode=0o600)

    def _notes(self) -> list[StoredPart]:
        """Return the marks and the claims, in the order of their numbers."""
        notes = [_NOTE.fullmatch(path.name) for path in self._folder.iterdir()]
        return sorted(StoredPart(int(note[1]), int(note[2]), note[3]) for note in notes if note is not None)

    def _overlapping(self, part: StoredPart) -> list[StoredPart]:
        begin = self._upload.begin_of(part.number)
        return [
            note
            for note in self._notes()
            if (there := self._upload.begin_of(note.number)) < begin + part.size and begin < there + note.size
        ]

    def _claim_path(self, part: StoredPart) -> Path:
        return self._path(part._replace(etag=_CLAIM))

    def _path(self, note: StoredPart) -> Path:
        return self._folder / f"{note.number}.{note.size}.{note.etag}"

    def _require_open(self) -> None:
        if not self.content.exists():
            raise UploadRefusedError("The upload is completed.")
