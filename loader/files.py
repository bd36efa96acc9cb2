"""Files: sent in pieces, written whole or not at all, and their failures as errors of ours."""

from __future__ import annotations

import ctypes
import errno
import functools
import glob
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from loader.errors import Checkpoint, DeviceFault, DiskSpace, StorageError

SEND_SIZE = 1 << 20
WRITE_SIZE = 1 << 17
# <linux/falloc.h>
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
# What `tempfile` adds to a prefix, and people hardly do.
TEMPORARY_SUFFIX = "[a-z0-9_]" * 8


@dataclass(frozen=True)
class FileIdentity:
    """Identifies a file and its content, so that a file that was replaced or rewritten is noticed."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """Return the identity of the file with this `status`."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class FilePieces:
    """An open file as the body of a request: of known length, and from its begin at each iteration.

    `checkpoint` is called before each piece and may raise to end the sending. A failing disk raises StorageError, so
    that nobody takes it for a failing connection.
    """

    def __init__(self, file: BinaryIO, path: Path, checkpoint: Checkpoint = lambda: None) -> None:
        self._file = file
        self._path = path
        self._checkpoint = checkpoint

    def __len__(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def __iter__(self) -> Iterator[memoryview]:
        """Each piece is a view that is valid until the next is asked for."""
        buffer = memoryview(bytearray(SEND_SIZE))
        offset = 0
        with storage(self._path, 0):
            while count := os.preadv(self._file.fileno(), [buffer], offset):
                self._checkpoint()
                yield buffer[:count]
                offset += count


def write_large(file: BinaryIO, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` to `file`, 128 KiB at a time.

    The page cache keeps a write of a megabyte in a block of memory as large. Where memory has been in use such blocks
    are rare, and a virtual machine has to get each from its host, which can take ten times as long as the write.
    """
    rest = memoryview(data)
    while rest:
        file.write(rest[:WRITE_SIZE])
        rest = rest[WRITE_SIZE:]


def sync_beside(file: BinaryIO) -> Future[None]:
    """Put what has been written to `file` on the disk, beside what the caller does; the result comes when it is there.

    `file` may be closed or removed meanwhile. The result may be an OSError: see fsync(2).
    """
    descriptor = os.dup(file.fileno())

    def sync() -> None:
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
    try:
        return syncer.submit(sync)
    finally:
        syncer.shutdown(wait=False)


def punch_hole(file: BinaryIO, offset: int, size: int) -> None:
    """Give back the disk room of `size` bytes, which then read as zeros; nothing happens where it cannot be done.

    Whole blocks of the file system only are given back: see FALLOC_FL_PUNCH_HOLE in fallocate(2).
    """
    if (fallocate := _fallocate()) is not None:
        mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        fallocate(file.fileno(), mode, ctypes.c_int64(offset), ctypes.c_int64(size))


@functools.cache
def _fallocate() -> Any:
    """The C library's function, of 64-bit offsets everywhere; None if it has none."""
    return getattr(ctypes.CDLL(None), "fallocate64", None)


@contextmanager
def storage(path: Path, needed: int) -> Iterator[None]:
    """Translate an `OSError` of a block that puts `needed` bytes at `path`: DiskSpace when full, else StorageError.

    Only work on files belongs into the block: connection errors are `OSError` too.
    """
    try:
        yield
    except OSError as exc:
        raise _storage_fault(exc, path, needed) from exc


def _storage_fault(exc: OSError, path: Path, needed: int) -> DeviceFault:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        free = free_bytes(path if path.is_dir() else path.parent)
        return DiskSpace(f"The disk is full: {path} needs {needed} bytes, {free} bytes are free.")
    return StorageError(f"{path} cannot be used: {exc.strerror or type(exc).__name__}.")


def free_bytes(directory: Path) -> int:
    """Bytes that may still be written to the disk that holds `directory`."""
    usage = os.statvfs(directory)
    return usage.f_bavail * usage.f_frsize


def make_private_directory(path: Path) -> None:
    """Make `path` and its parents, 0700, if they are missing; raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path`, 0600: a reader, and a power cut, see the old file or the new one. Raises OSError."""
    with replacement(path) as file:
        file.write(data)


@contextmanager
def replacement(path: Path) -> Iterator[BinaryIO]:
    """A new file, 0600, that takes the place of `path` if the block ends well, and else is removed.

    Open for writing and reading; until the end it lies beside `path`. Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_unfinished_prefix(path))
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def remove_unfinished(path: Path) -> None:
    """Remove what `replacement` left beside `path` when its process was killed. Never raises."""
    for unfinished in path.parent.glob(glob.escape(_unfinished_prefix(path)) + TEMPORARY_SUFFIX):
        with suppress(OSError):
            unfinished.unlink()


def _unfinished_prefix(path: Path) -> str:
    return f".{path.name}."
