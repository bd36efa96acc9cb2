"""The body of a request that sends an open file, or a range of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from loader.errors import Checkpoint
from loader.files import read_pieces, storage


class FilePieces:
    """An open file, or a range of one, as the body of a request, which can be sent again from its first byte.

    `checkpoint` is called before each piece. A failing disk raises StorageError, so that it is not taken for a failing
    connection.
    """

    def __init__(
        self, file: BinaryIO, path: Path, checkpoint: Checkpoint = lambda: None, begin: int = 0, end: int | None = None
    ) -> None:
        """Take the bytes from offset `begin` to `end`; None means the end of the file."""
        self._file = file
        self._path = path
        self._checkpoint = checkpoint
        self._begin = begin
        self._end = end

    def __len__(self) -> int:
        return (os.fstat(self._file.fileno()).st_size if self._end is None else self._end) - self._begin

    def __iter__(self) -> Iterator[memoryview]:
        """Yield pieces of at most 1 MiB, each a view that is valid until the next one is asked for."""
        with storage(self._path, 0):
            for piece in read_pieces(self._file, self._begin, len(self)):
                self._checkpoint()
                yield piece
