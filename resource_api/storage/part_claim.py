"""Claims on the parts of an upload: the owner of one writes the part at its place, in a file that other writers share.

A claim is an empty file. Removing it takes the claim away from its writer, in any process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self


class PartClaim:
    """The claim of one request. It is given back at the end of its block."""

    def __init__(self, path: Path) -> None:
        """Make the file. Raises FileExistsError if there is one, also if a process was killed and has left it."""
        self._path = path
        self._file = path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file, self.held() as is_held:
            if is_held:
                self._path.unlink(missing_ok=True)  # the upload may be removed just now

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Keep the claim as it is during the block. Yield whether it still is there."""
        with _locked(self._file):
            yield os.fstat(self._file.fileno()).st_nlink > 0


def revoke(path: Path) -> None:
    """Take a claim away, if there is one: its writer writes nothing from now on."""
    with suppress(FileNotFoundError), path.open("rb") as file, _locked(file):
        path.unlink()


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
