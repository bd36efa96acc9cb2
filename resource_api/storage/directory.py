"""The stored objects: plain files below resources/, replaced atomically."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from resource_api.atomic import remove, remove_leftovers, replacing
from resource_api.data_directory import DataDirectory
from resource_api.names import InvalidNameError, components_of
from resource_api.storage.directory_faults import as_storage_faults
from resource_api.storage.directory_uploads import DirectoryUploads
from resource_api.storage.etags import etag_of
from resource_api.storage.interface import DiskFullError, Listed, OpenResource, ResourceMissingError


class DirectoryStorage:
    """The objects of one data directory, as `interface.Storage` describes."""

    def __init__(self, data: DataDirectory) -> None:
        """Open the storage and remove the files that killed uploads left behind."""
        self._root = data.resources
        self._temporary = data.temporary
        self.uploads = DirectoryUploads(data)
        remove_leftovers(self._temporary)

    def address(self, name: str) -> None:
        """Return None after a check of the name: this server sends every object."""
        self._path(name)

    def open(self, name: str) -> OpenResource:
        """Open an object, as `interface.Storage` says."""
        try:
            file = self._path(name).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ResourceMissingError from error
        # Take size and ETag from the open file, because the name may already belong to a newer file.
        try:
            return OpenResource(file, os.fstat(file.fileno()).st_size, etag_of(name, file))
        except OSError:
            file.close()
            raise

    def put(self, name: str, size: int, pieces: Iterable[bytes]) -> bool:
        """Store an object, as `interface.Storage` says."""
        path = self._path(name)
        if size > shutil.disk_usage(self._temporary).free:
            raise DiskFullError
        with as_storage_faults():
            return self._write(path, pieces)

    def delete(self, name: str) -> None:
        """Remove an object, as `interface.Storage` says."""
        try:
            remove(self._path(name))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ResourceMissingError from error

    def find(self, prefix: str) -> list[Listed]:
        """List objects, as `interface.Storage` says."""
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
