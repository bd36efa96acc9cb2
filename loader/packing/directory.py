"""A directory that holds images, for example an OCI layout. No link is followed out of it."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from loader.crypto.pieces import PIECE_SIZE
from loader.errors import SourceCorrupt
from loader.files import storage
from loader.packing.members import MAX_MEMBERS, Member, link_target

_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY


class Directory:
    """The files below `path`, by names that are relative to it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def members(self, names: Iterable[str]) -> Iterator[Member]:
        """Yield the files with these names, each once, and what they are links to. A missing file is left out.

        Raises SourceCorrupt for anything but files and links that stay in the directory, and StorageError.
        """
        waiting, done = deque(names), set[str]()
        while waiting:
            name = waiting.popleft()
            if name in done:
                continue
            done.add(name)
            if len(done) > MAX_MEMBERS:
                raise SourceCorrupt(f"The source has more than {MAX_MEMBERS} files.")
            found = self._open(name)
            if isinstance(found, str):
                waiting.append(found)
                yield Member(name, 0, iter(()), found)
            elif found is not None:
                with found:
                    size = os.fstat(found.fileno()).st_size
                    yield Member(name, size, self._pieces(name, found, size))

    def _open(self, name: str) -> io.FileIO | str | None:
        """Return the open file, the target of a link, or None if there is nothing."""
        *folders, last = name.split("/")
        with storage(self._path / name, 0), ExitStack() as opened:
            folder = _open(self._path, os.O_RDONLY | os.O_DIRECTORY, None, opened)
            try:
                for part in folders:
                    folder = _open(part, _FOLDER, folder, opened)
                descriptor = os.open(last, _FILE, dir_fd=folder)
            except FileNotFoundError:
                return None
            except OSError as exc:
                if exc.errno == errno.ELOOP:
                    return link_target(name, os.readlink(last, dir_fd=folder), hard=False)
                if exc.errno == errno.ENAMETOOLONG:
                    raise SourceCorrupt(f"The source names a file by {len(name)} characters.") from exc
                if exc.errno == errno.ENOTDIR:
                    raise SourceCorrupt(f"{name!r} of the source lies behind a link or a file.") from exc
                raise
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise SourceCorrupt(f"{name!r} of the source is not a file.")
            return io.FileIO(descriptor)

    def _pieces(self, name: str, file: io.FileIO, size: int) -> Iterator[bytes]:
        while size:
            with storage(self._path / name, 0):
                piece = file.read(min(PIECE_SIZE, size))
            if not piece:
                raise SourceCorrupt(f"{name!r} of the source was cut short while it was read.")
            size -= len(piece)
            yield piece


def _open(path: Path | str, flags: int, folder: int | None, opened: ExitStack) -> int:
    descriptor = os.open(path, flags, dir_fd=folder)
    opened.callback(os.close, descriptor)
    return descriptor
