"""An upload form for a `ResourceStore` in this process, and the end of a load."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from loader.errors import BodyTruncated
from loader.resources import Plaintext


class Form:
    """A parsed upload. With `broken`, the connection ends before the folder arrives."""

    def __init__(self, folder: str, pieces: list[bytes], *, file_first: bool = False, broken: bool = False) -> None:
        self.length = sum(map(len, pieces))
        self.seeming_size: int | None = self.length
        self.at_end: Callable[[], None] = lambda: None
        self._folder, self._pieces, self._file_first, self._broken = folder, pieces, file_first, broken

    def folder_if_first(self) -> str | None:
        """Return the folder, or None if it comes last."""
        return None if self._file_first else self._folder

    def file_size(self) -> int | None:
        """Return the size that the form seems to have."""
        return self.seeming_size

    def file_pieces(self) -> Iterator[bytes]:
        """Yield the content of the file."""
        yield from self._pieces

    def folder_at_end(self) -> str:
        """Return the folder. Raises BodyTruncated if the upload is `broken`."""
        self.at_end()
        if self._broken:
            raise BodyTruncated("The connection ended before the body did.")
        return self._folder


def read_whole(plaintext: Plaintext) -> bytes:
    """Read the whole plaintext, close it, and return its bytes."""
    try:
        return b"".join(plaintext)
    finally:
        plaintext.close()
