"""Resumable uploads to the data directory.

DIR/uploads/{id}/content      the parts that are there, each at its place; renamed when the upload is completed
DIR/uploads/{id}/{n}.{size}.{etag}   an empty file: part n is in `content`, and has so many bytes and this ETag: its MD5
                              if that was sent. Parts never overlap
DIR/uploads/{id}/upload.json  name, size, sizes of parts, user and expiry; written last and removed first

Whoever changes one of these directories, or relies on its parts, holds a lock on it, and who adds one, on DIR/uploads.
"""

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
_MARK = re.compile(r"([0-9]{1,5})\.([0-9]+)\.([0-9a-f]{32})")
_RECORD = "upload.json"
_CONTENT = "content"
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
            if sum(each.user == user and self._content(each).exists() for each in self._sweep()) >= USER_UPLOADS:
                raise TooManyUploadsError
            (self._root / upload.id).mkdir(mode=0o700)
            self._content(upload).touch(mode=0o600)
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
            return self._parts(upload)

    def addresses(self, upload: Upload, numbers: list[int]) -> list[PartAddress]:
        """Return where to put parts, as `interface.Uploads` says: at this API."""
        for number in numbers:
            upload.begin_of(number)
        # No Content-MD5, which takes either side 1.5 s a GiB; whoever loads the object compares its own digest.
        headers = ["Authorization", "Content-Length"]
        return [PartAddress(number, f"/uploads/{upload.id}/parts/{number}", headers) for number in numbers]

    def put_part(self, upload: Upload, number: int, md5: bytes | None, pieces: Iterable[bytes]) -> str:
        """Store a part, as `interface.Uploads` says."""
        begin = upload.begin_of(number)
        # The part stands aside until it is complete, because a cut one must not damage what is there, and two requests
        # for one part may run at a time.
        with as_storage_faults(), tempfile.TemporaryFile(dir=self._temporary) as file:
            for piece in pieces if md5 is None else _checked(pieces, md5):
                file.write(piece)
            upload.require_part(number, file.tell())
            file.flush()
            etag = secrets.token_hex(16) if md5 is None else md5.hex()
            with self._locked(upload):
                self._keep(upload, StoredPart(number, file.tell(), etag), begin, file.fileno())
        return etag

    def complete(self, upload: Upload, etags: dict[int, str]) -> None:
        """Make the object of the parts, as `interface.Uploads` says."""
        path = self._resources.joinpath(*components_of(upload.name))
        with self._locked(upload):
            require_same_parts(upload, self._parts(upload), etags)
            # The content is missing only after the rename, so a process that was killed there has completed the upload.
            if not self._content(upload).exists():
                return
            with as_storage_faults(), self._content(upload).open("rb") as file:
                move(self._content(upload), file.fileno(), path)

    def abort(self, upload: Upload) -> None:
        """Forget the upload, as `interface.Uploads` says."""
        with self._locked(upload):
            self._remove(upload.id)

    def _keep(self, upload: Upload, part: StoredPart, begin: int, source: int) -> None:
        """Copy a part to its place. The marks of all that it overlaps are absent meanwhile, and after a kill."""
        if not self._content(upload).exists():
            raise UploadRefusedError("The upload is completed.")
        folder = self._root / upload.id
        for other in self._parts(upload):
            there = upload.begin_of(other.number)
            if there < begin + part.size and begin < there + other.size:
                (folder / _mark(other)).unlink()
                sync_directory(folder)  # after a power cut, no mark may stand for bytes that have changed since
        with self._content(upload).open("r+b") as content:
            copied = 0
            while copied < part.size:
                copied += os.copy_file_range(source, content.fileno(), part.size - copied, copied, begin + copied)
            os.fdatasync(content.fileno())  # a mark must not outlive a power cut that its bytes do not
        (folder / _mark(part)).touch(mode=0o600)

    def _parts(self, upload: Upload) -> list[StoredPart]:
        marks = [_MARK.fullmatch(path.name) for path in (self._root / upload.id).iterdir()]
        return sorted(StoredPart(int(mark[1]), int(mark[2]), mark[3]) for mark in marks if mark is not None)

    def _content(self, upload: Upload) -> Path:
        return self._root / upload.id / _CONTENT

    @contextmanager
    def _locked(self, upload: Upload) -> Iterator[None]:
        """Lock the directory of an upload. Raises UploadMissingError if the upload has been removed."""
        with ExitStack() as held:
            try:
                held.enter_context(_lock(self._root / upload.id))
            except FileNotFoundError as error:
                raise UploadMissingError from error
            if self._read(upload.id) is None:
                raise UploadMissingError
            yield

    def _read(self, upload: str) -> Upload | None:
        try:
            return Upload(**json.loads((self._root / upload / _RECORD).read_bytes()))
        except FileNotFoundError:
            return None

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


def _mark(part: StoredPart) -> str:
    return f"{part.number}.{part.size}.{part.etag}"


def _checked(pieces: Iterable[bytes], md5: bytes) -> Iterator[bytes]:
    """Yield `pieces`, and raise UploadRefusedError after them if they have another MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.digest() != md5:
        raise UploadRefusedError("The part has another MD5 than its Content-MD5 says.")


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock a directory against other threads and processes. Raises FileNotFoundError if it is not there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
