"""A small file that is parsed again only when it has changed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class CachedFile(Generic[T]):
    """The parsed content of a file. Threads may share it; all of them get the same object, so nobody may change it."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        """Read nothing yet. `parse` gets the whole content."""
        self._path = path
        self._parse = parse
        self._kept: tuple[tuple[int, ...], T] | None = None

    def read(self) -> T:
        """Return the content as `parse` returned it. Raises OSError, and what `parse` raises."""
        kept = self._kept
        if kept is not None and kept[0] == _identity(self._path.stat()):
            return kept[1]
        with self._path.open("rb") as file:
            # Take the identity before the content, because a write in between must make a later one differ.
            identity = _identity(os.fstat(file.fileno()))
            content = self._parse(file.read())
        self._kept = identity, content
        return content


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs after a change: a file that replaces another has an inode of its own."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
