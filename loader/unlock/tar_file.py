"""The decrypted tar of mode `tar`: written once, read back from the same open file, and removed."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from loader.errors import StorageError
from loader.files import FileIdentity, read_pieces, remove_if_there, storage, write_large

log = logging.getLogger(__name__)

CHANGED_HINT = "Make sure that no other program writes to that file, and try again."
# A hole starts at a multiple of this, so that a block that two pieces share is freed with the second of them.
BLOCK_SIZE = 4096
# <linux/falloc.h>
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2


class TarFile:
    """The file at `path`, mode 0600, which the first write makes. `end` is how many bytes were written.

    It is opened once and never again by its name, because any program that may write to the directory can put another
    file there. A file that another process cuts or writes to raises StorageError at the next write or read; a write
    within the same tick of the kernel's clock, some milliseconds, is not noticed. Methods raise DiskSpace and
    StorageError.
    """

    def __init__(self, path: Path) -> None:
        self.end = 0
        self._path = path
        self._file: BinaryIO | None = None
        self._identity: FileIdentity | None = None
        self._freed = 0

    def write(self, piece: bytes | memoryview, needed: int) -> None:
        """Append a piece. `needed` is the size of all that is being written, for the error of a full disk."""
        with storage(self._path, needed):
            file = self._opened()
            self._require_unchanged(file)
            write_large(file, piece)
            self._note(file)
        self.end += len(piece)

    def flush(self, needed: int) -> None:
        """Bring everything that was written into the file."""
        with storage(self._path, needed):
            file = self._opened()
            file.flush()
            self._note(file)

    def read(self, begin: int, size: int) -> Iterator[memoryview]:
        """Yield `size` bytes from offset `begin` on, in pieces that are valid until the next is taken."""
        with storage(self._path, 0):
            file = self._opened()
            self._require_unchanged(file)
            for piece in read_pieces(file, begin, size):
                self._require_unchanged(file)
                yield piece

    def free(self, begin: int, end: int) -> None:
        """Free the room of these bytes on the disk, where the file system can do that."""
        with storage(self._path, 0):
            file = self._opened()
            self._require_unchanged(file)
            start = begin // BLOCK_SIZE * BLOCK_SIZE if begin == self._freed else begin
            punch_hole(file, start, end - start)
            self._freed = end
            self._note(file)

    def changed(self) -> StorageError:
        """Return the error for a file that another process has changed."""
        return StorageError(f"{self._path} was changed by another program.", hint=CHANGED_HINT)

    def close(self) -> None:
        """Close and remove the file. Never raises."""
        if self._file is not None:
            with suppress(OSError):  # the last bytes of a file that is removed anyway may find the disk full
                self._file.close()
        remove_tar(self._path)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            # O_EXCL refuses a link or a file that another user put there, because that user could read it.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._path, flags, 0o600), "w+b")
            self._note(self._file)
        return self._file

    def _note(self, file: BinaryIO) -> None:
        """Note how this process leaves the file."""
        self._identity = FileIdentity.of(os.fstat(file.fileno()))

    def _require_unchanged(self, file: BinaryIO) -> None:
        if FileIdentity.of(os.fstat(file.fileno())) != self._identity:
            raise self.changed()


def punch_hole(file: BinaryIO, offset: int, size: int) -> None:
    """Free the disk space of `size` bytes, which then read as zeros. Do nothing where the system cannot do it.

    Only whole blocks of the file system are freed: see FALLOC_FL_PUNCH_HOLE in fallocate(2).
    """
    if (fallocate := _fallocate()) is not None:
        mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        fallocate(file.fileno(), mode, ctypes.c_int64(offset), ctypes.c_int64(size))


@functools.cache
def _fallocate() -> Any:
    """Return the function of the C library with 64-bit offsets, or None if it has none."""
    library = ctypes.CDLL(None)
    # musl has one function, whose offsets have 64 bits. glibc has both, and the first has 32 on processors of 32 bits.
    return getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)


def remove_tar(path: Path) -> None:
    """Remove the decrypted tar if there is one. Never raises, because a failure must not undo an unlock."""
    try:
        remove_if_there(path)
    except OSError as exc:
        log.warning("the decrypted %s could not be removed: %s", path, exc.strerror)
