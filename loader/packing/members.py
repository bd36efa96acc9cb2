"""The files of a source, which come one after the other from a tar or a directory: their names, links and limits."""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loader.crypto.archive_head import DESCRIPTION_MAX_SIZE
from loader.crypto.pieces import PIECE_SIZE
from loader.errors import SourceCorrupt
from loader.files import storage

# 4,096 blobs and as many links and small files for each make some 10,000.
MAX_MEMBERS = 65_536
# `docker save` of version 20.10 and skopeo write links to files, never to links.
MAX_LINKS = 4
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY


@dataclass(frozen=True)
class Member:
    """One file: `size` bytes in `pieces`, to be read before the next member is asked for; or a link to `target`.

    `name` and `target` are relative to the source, without `.` and `..`.
    """

    name: str
    size: int
    pieces: Iterator[bytes | memoryview]
    target: str | None = None


def member_name(told: str) -> str:
    """Return the name of a member in its one form, empty for the source itself. Raises SourceCorrupt."""
    parts = [part for part in told.split("/") if part not in ("", ".")]
    if told.startswith("/") or ".." in parts or "\0" in told:
        raise SourceCorrupt(f"The source has a file with the unsafe name {told!r}.")
    return "/".join(parts)


def link_target(name: str, told: str, *, hard: bool) -> str:
    """Return the name to which the link `name` leads. A hard link tells it from the root. Raises SourceCorrupt."""
    target = posixpath.normpath(posixpath.join("" if hard else posixpath.dirname(name), told))
    if target.startswith(("/", "../")) or target in (".", "..") or "\0" in told:
        raise SourceCorrupt(f"The link {name!r} of the source leads out of it, to {told!r}.")
    return target


def follow(name: str, links: Mapping[str, str]) -> str:
    """Return the name of the file that `name` stands for. Raises SourceCorrupt for a chain of many links, or a loop."""
    for _ in range(MAX_LINKS + 1):
        if name not in links:
            return name
        name = links[name]
    raise SourceCorrupt(f"A link of the source leads over more than {MAX_LINKS} others to {name!r}.")


def require_small(name: str, size: int) -> None:
    """Raise SourceCorrupt if a file is too large for a description of images, which is held in memory."""
    if size > DESCRIPTION_MAX_SIZE:
        raise SourceCorrupt(
            f"{name!r} of the source has {size} bytes; a description has at most {DESCRIPTION_MAX_SIZE}."
        )


class Directory:
    """The files below `path`, by names that are relative to it. No link is followed out of it."""

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
