"""Where blobs come from: the resource API, and a directory or a plain HTTP server that may have some of them.

Only digests are believed: whatever a source sends, a wrong blob never gets its name.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Protocol

from loader.api_client import get_api_client, get_neighbour
from loader.crypto.archive_head import Blob
from loader.errors import ApiUnreachable, ResourceNotFound
from loader.files import NotRegular, open_regular, storage
from loader.model_cache.part_file import Stream
from loader.published import blob_path

# Beside the API a source is only a help, so that nobody waits for it as long as for the API.
NEIGHBOUR_TIMEOUTS = (1.0, 1.0)


class Source(Protocol):
    """Has blobs. `open` raises ResourceNotFound for one that it does not have."""

    def open(self, blob: Blob, begin: int, end: int | None) -> Stream:
        """Return the stored bytes from offset `begin` to `end`, or from an earlier offset on; None is the end."""


class Api:
    """The resource API."""

    def open(self, blob: Blob, begin: int, end: int | None) -> Stream:
        """See `Source`. Raises ApiFault and NotLoggedIn, too."""
        return get_api_client().open_object(blob_path(blob), begin, end)


class Directory:
    """A directory with blobs, such as that of another device on a stick."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, blob: Blob, begin: int, _end: int | None) -> Stream:
        """See `Source`. Raises StorageError, too."""
        for name in _names(blob):
            path = self._path / name
            with storage(path, 0):
                try:
                    file = io.FileIO(open_regular(path))
                except (FileNotFoundError, NotADirectoryError, NotRegular):
                    continue
                return _FileStream(file, path, begin)
        raise ResourceNotFound(f"{self._path} does not have the blob {blob.digest}.")


class Server:
    """A plain HTTP server."""

    def __init__(self, url: str) -> None:
        self._neighbour = get_neighbour(url, NEIGHBOUR_TIMEOUTS)

    def open(self, blob: Blob, begin: int, _end: int | None) -> Stream:
        """See `Source`. Raises ApiFault, too."""
        first, second = _names(blob)
        try:
            return self._neighbour.open_file(first, begin)
        except ResourceNotFound:
            return self._neighbour.open_file(second, begin)


class _FileStream:
    def __init__(self, file: io.FileIO, path: Path, begin: int) -> None:
        self.total: int | None = os.fstat(file.fileno()).st_size
        self.begin = min(begin, self.total)
        self.close = file.close
        self._file = file
        self._path = path
        file.seek(self.begin)

    def readinto(self, buffer: memoryview, /) -> int:
        with storage(self._path, 0):
            return self._file.readinto(buffer)

    def ended_early(self) -> ApiUnreachable:
        return ApiUnreachable(f"{self._path} was cut short while it was read.")


def source_of(text: str) -> Source:
    """Return the directory, or the server, that `text` names."""
    return Server(text) if text.startswith(("http://", "https://")) else Directory(Path(text))


def _names(blob: Blob) -> tuple[str, str]:
    """Return the names that a blob may have: in the directory of an archive, and below that of an API."""
    return blob.stored, blob_path(blob)
