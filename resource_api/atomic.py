"""Replaces files atomically: a reader sees the old file or the complete new one."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(target: Path, temporary_directory: Path) -> Iterator[BinaryIO]:
    """Yield a new file (mode 0600) that replaces `target` when the block ends.

    If the block raises, the new file is removed and `target` stays unchanged. Missing parents of `target` are created
    at the end, so that a failed block leaves no directories either. `temporary_directory` must be on the same file
    system as `target`. Raises OSError.
    """
    descriptor, temporary = _locked_file(temporary_directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            move(temporary, file.fileno(), target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _locked_file(temporary_directory: Path) -> tuple[int, Path]:
    """Create a file that `remove_leftovers` keeps while it is open."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=temporary_directory)
        # Without a lock nothing is removed, because `remove_leftovers` needs one as well.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        # Another process took it for a leftover before it was locked.
        os.close(descriptor)


def move(source: Path, descriptor: int, target: Path) -> None:
    """Replace `target` by the file `source`, which is open as `descriptor`, and create missing parents of `target`.

    Both must be on one file system. Raises OSError.
    """
    os.fsync(descriptor)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    sync_directory(target.parent)


def remove(path: Path) -> None:
    """Remove a file, so that it stays removed after a power cut. Raises OSError."""
    path.unlink()
    sync_directory(path.parent)


def remove_leftovers(temporary_directory: Path) -> None:
    """Remove the files that killed processes left in `temporary_directory`; keep files that are being written.

    A file that cannot be removed stays. Raises OSError if the directory cannot be read.
    """
    for path in temporary_directory.iterdir():
        # Another process may have finished, removed or locked the file since the listing.
        # Open for writing, because NFS gives no exclusive lock otherwise.
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def sync_directory(directory: Path) -> None:
    """Sync `directory`, so that a rename in it survives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
