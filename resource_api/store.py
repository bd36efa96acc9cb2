"""The stored objects: plain files below resources/, replaced atomically."""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from resource_api.atomic import remove, remove_leftovers, replacing
from resource_api.data_directory import DataDirectory
from resource_api.names import InvalidNameError, components_of

_BIG_PART = re.compile(r"\.([0-9a-f]{64})\.big$")


class ResourceMissingError(Exception):
    """There is no object with this name."""


class NameCollisionError(Exception):
    """The name needs a folder where an object exists, or an object where a folder exists."""


class DiskFullError(Exception):
    """The object does not fit on the disk."""


class OpenResource(NamedTuple):
    """An object opened for reading. Its content stays the same even if the object is replaced meanwhile."""

    file: BinaryIO
    size: int
    etag: str


class Listed(NamedTuple):
    """An object in a listing: its name with folders, and its size in bytes."""

    name: str
    size: int


class ResourceStore:
    """The objects of one data directory. Any number of threads and processes may use it at the same time."""

    def __init__(self, data: DataDirectory) -> None:
        """Open the store and remove the files that killed uploads left behind."""
        self._root = data.resources
        self._temporary = data.temporary
        remove_leftovers(self._temporary)

    def open(self, name: str) -> OpenResource:
        """Open an object; the caller closes its file.

        Raises InvalidNameError, ResourceMissingError, and OSError if the disk fails.
        """
        try:
            file = self._path(name).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ResourceMissingError from error
        # Take size and ETag from the open file, because the name may already belong to a newer file.
        try:
            return OpenResource(file, os.fstat(file.fileno()).st_size, _etag(name, file))
        except OSError:
            file.close()
            raise

    def put(self, name: str, size: int, pieces: Iterable[bytes]) -> bool:
        """Store `pieces`, which are `size` bytes, under `name`; return whether the name is new.

        If iterating `pieces` raises, nothing changes and the exception propagates.
        Raises InvalidNameError, NameCollisionError, DiskFullError, and OSError if the disk fails.
        """
        path = self._path(name)
        if size > shutil.disk_usage(self._temporary).free:
            raise DiskFullError
        try:
            return self._write(path, pieces)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise NameCollisionError from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError from error
            raise

    def delete(self, name: str) -> None:
        """Remove an object; its folders stay. Downloads that have begun go on.

        Raises InvalidNameError, ResourceMissingError, and OSError if the disk fails.
        """
        try:
            remove(self._path(name))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ResourceMissingError from error

    def find(self, prefix: str) -> list[Listed]:
        """Return the objects whose names begin with `prefix`, in the order of their names.

        Raises OSError if the disk fails.
        """
        names = (path.relative_to(self._root).as_posix() for path in _files_below(self._root))
        found = ((name, self._size(name)) for name in sorted(names) if name.startswith(prefix))
        return [Listed(name, size) for name, size in found if size is not None]

    def _size(self, name: str) -> int | None:
        """Return the size of an object; None if it was removed meanwhile, or if no request can name it."""
        try:
            return self._path(name).stat().st_size
        except (InvalidNameError, FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, path: Path, pieces: Iterable[bytes]) -> bool:
        with replacing(path, self._temporary) as file:
            for piece in pieces:
                file.write(piece)
            return not path.exists()  # the new file replaces the old one only when the block ends

    def _path(self, name: str) -> Path:
        return self._root.joinpath(*components_of(name))


def _files_below(root: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(root):
        yield from (Path(folder, file) for file in files)


def _etag(name: str, file: BinaryIO) -> str:
    """Return a strong ETag that depends on the content alone, so that all replicas send the same one.

    The name of a big part ends with the digest of its content, because a hash would have to read several GB. Every
    other object is small and is hashed.
    """
    named = _BIG_PART.search(name)
    if named is not None:
        return named[1]
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()
