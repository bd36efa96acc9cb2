"""Resumable uploads to the data directory.

DIR/uploads/{id}/content      its parts, with notes of them beside it: see `directory_parts`; renamed at the end
DIR/uploads/{id}/upload.json  name, size, sizes of parts, user and expiry; written last and removed first

A process that changes one of these directories, or relies on its parts, holds a lock on it. One that adds a directory
holds a lock on DIR/uploads.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from resource_api.atomic import move, replacing, sync_directory
from resource_api.data_directory import DataDirectory
from resource_api.names import components_of
from resource_api.storage.directory_faults import as_storage_faults
from resource_api.storage.directory_parts import DirectoryParts
from resource_api.storage.interface import (
    DiskFullError,
    NameCollisionError,
    PartAddress,
    StoredPart,
    TooManyUploadsError,
    Upload,
    UploadMissingError,
    UploadRefusedError,
)
from resource_api.storage.upload_rules import UPLOAD_SECONDS, USER_UPLOADS, part_sizes_of, require_same_parts

_ID = re.compile(r"[0-9a-f]{32}")
_RECORD = "upload.json"
# The least bytes of a part, because a link that is cut again and again loses half a part each time.
MIN_PART_BYTES = 256 << 10


class DirectoryUploads:
    """The uploads of one data directory, as `interface.Uploads` describes."""

    def __init__(self, data: DataDirectory) -> None:
        """Remove the uploads that have expired."""
        self._root = data.uploads
        self._resources = data.resources
        self._temporary = data.temporary
        self._root.mkdir(mode=0o700, exist_ok=True)  # a data directory of an earlier version lacks it
        self._sweep()

    def create(self, name: str, size: int, user: str) -> Upload:
        """Begin an upload, as `interface.Uploads` says."""
        self._require_possible(self._resources.joinpath(*components_of(name)))
        smallest, largest = part_sizes_of(size, MIN_PART_BYTES)
        if size > shutil.disk_usage(self._temporary).free:
            raise DiskFullError
        expires = int(time.time()) + UPLOAD_SECONDS
        upload = Upload(secrets.token_hex(16), name, size, largest, smallest, user, expires)
        # Count under a lock, because requests that count at the same time would all find room.
        with as_storage_faults(), _lock(self._root):
            if sum(each.user == user and self._parts(each).content.exists() for each in self._sweep()) >= USER_UPLOADS:
                raise TooManyUploadsError
            (self._root / upload.id).mkdir(mode=0o700)
            self._parts(upload).content.touch(mode=0o600)
            with replacing(self._root / upload.id / _RECORD, self._temporary) as file:
                file.write(json.dumps(upload._asdict()).encode())
            sync_directory(self._root)
        return upload

    def find(self, upload: str, user: str) -> Upload:
        """Return an upload, as `interface.Uploads` says."""
        found = self._read(upload) if _ID.fullmatch(upload) else None
        if found is None or found.user != user or found.expires <= time.time():
            raise UploadMissingError
        return found

    def parts(self, upload: Upload) -> list[StoredPart]:
        """Return the parts that are there, as `interface.Uploads` says."""
        with self._locked(upload):
            return self._parts(upload).listed()

    def addresses(self, upload: Upload, numbers: list[int]) -> list[PartAddress]:
        """Return where to put parts, as `interface.Uploads` says: at this API."""
        for number in numbers:
            upload.begin_of(number)
        # No Content-MD5, because it takes either side 1.5 s a GiB, and devices compare the digest of the object anyway.
        headers = ["Authorization", "Content-Length"]
        return [PartAddress(number, f"/uploads/{upload.id}/parts/{number}", headers) for number in numbers]

    def put_part(self, upload: Upload, number: int, size: int, md5: bytes | None, pieces: Iterable[bytes]) -> str:
        """Store a part, as `interface.Uploads` says."""
        upload.require_part(number, size)
        part = StoredPart(number, size, secrets.token_hex(16) if md5 is None else md5.hex())
        checked = _checked(pieces, size, md5)
        with as_storage_faults():
            if not self._put_in_place(upload, part, checked):
                self._put_aside(upload, part, checked)
        return part.etag

    def complete(self, upload: Upload, etags: dict[int, str]) -> None:
        """Make the object of the parts, as `interface.Uploads` says."""
        path = self._resources.joinpath(*components_of(upload.name))
        with self._locked(upload):
            require_same_parts(upload, self._parts(upload).listed(), etags)
            # The content is missing only after the rename, so a process that was killed there has completed the upload.
            content = self._parts(upload).content
            if not content.exists():
                return
            with as_storage_faults(), content.open("rb") as file:
                move(content, file.fileno(), path)

    def abort(self, upload: Upload) -> None:
        """Forget the upload, as `interface.Uploads` says."""
        with self._locked(upload):
            self._remove(upload.id)

    def _put_in_place(self, upload: Upload, part: StoredPart, pieces: Iterable[bytes]) -> bool:
        """Write a part to its place. Return False, and read no piece, if some of its bytes are there or are claimed.

        A request that loses its claim to a later one counts as stored, because the later one replaces its part.
        """
        parts = self._parts(upload)
        with ExitStack() as held:
            with self._locked(upload):
                claim = parts.claim(part)
                if claim is None:
                    return False
                held.enter_context(claim)
                content = held.enter_context(parts.content.open("r+b", buffering=0))
            offset = upload.begin_of(part.number)
            for piece in pieces:
                with claim.held() as is_held:
                    if is_held:
                        _write_at(content.fileno(), piece, offset)
                offset += len(piece)
            os.fdatasync(content.fileno())  # a mark must not outlive a power cut that its bytes do not
            with self._locked(upload), claim.held() as is_held:
                if is_held:
                    parts.mark(part)
                elif not parts.overlapping(part):
                    raise OSError(errno.EIO, "A later request for the same part has failed.")
        return True

    def _put_aside(self, upload: Upload, part: StoredPart, pieces: Iterable[bytes]) -> None:
        """Write a part to a file of its own, then copy it to its place.

        One that is cut does not damage what is there, and two requests for one part may run at a time.
        """
        with tempfile.TemporaryFile(dir=self._temporary) as file:
            for piece in pieces:
                file.write(piece)
            with self._locked(upload):
                self._parts(upload).copy(part, file)
                self._parts(upload).mark(part)

    def _parts(self, upload: Upload) -> DirectoryParts:
        return DirectoryParts(self._root / upload.id, upload)

    @contextmanager
    def _locked(self, upload: Upload) -> Iterator[None]:
        """Lock the directory of an upload. Raises UploadMissingError if the upload has been removed."""
        with ExitStack() as held:
            try:
                held.enter_context(_lock(self._root / upload.id))
            except FileNotFoundError as error:
                raise UploadMissingError from error
            if not (self._root / upload.id / _RECORD).exists():
                raise UploadMissingError
            yield

    def _read(self, upload: str) -> Upload | None:
        try:
            return Upload(**json.loads((self._root / upload / _RECORD).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # one that is damaged, or that another version has written, must not stop the server

    def _require_possible(self, path: Path) -> None:
        """Raise NameCollisionError if no object can be made at `path`, before anything is sent for it."""
        parents = [parent for parent in path.parents if parent.is_relative_to(self._resources)]
        if path.is_dir() or any(parent.exists() and not parent.is_dir() for parent in parents):
            raise NameCollisionError

    def _sweep(self) -> list[Upload]:
        """Remove the uploads that have expired, and what killed processes left; return the others."""
        now, kept = time.time(), []
        for folder in self._root.iterdir():
            with suppress(FileNotFoundError):  # another process removes it, too
                upload = self._read(folder.name)
                # A directory without a record may belong to an upload that another process makes or removes just now.
                expires = upload.expires if upload is not None else folder.stat().st_mtime + UPLOAD_SECONDS
                if expires <= now:
                    self._remove(folder.name)
                elif upload is not None:
                    kept.append(upload)
        return kept

    def _remove(self, upload: str) -> None:
        """Remove an upload, its record first: without it nobody finds the upload. Raises FileNotFoundError."""
        folder = self._root / upload
        (folder / _RECORD).unlink(missing_ok=True)
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()


def _checked(pieces: Iterable[bytes], size: int, md5: bytes | None) -> Iterator[bytes]:
    """Yield `pieces`, at most `size` bytes. Raises UploadRefusedError if they have another size or another MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    left = size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            break  # what follows belongs to the next part
        if md5 is not None:
            digest.update(piece)
        yield piece
    if left:
        raise UploadRefusedError(f"The part does not have {size} bytes, as was said.")
    if md5 is not None and digest.digest() != md5:
        raise UploadRefusedError("The part has another MD5 than its Content-MD5 says.")


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock a directory against other threads and processes. Raises FileNotFoundError if it is not there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
