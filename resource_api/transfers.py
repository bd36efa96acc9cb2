"""Counts the bytes of requests and responses while the server moves them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

# Called once at the end of a response, with the bytes of its body that the kernel has taken.
Ended = Callable[[int], None]


class CountedInput:
    """The body of a request. `count` is what was read of it; `ended` whether it ended or broke."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.count = 0
        self.ended = False

    def read(self, size: int = -1) -> bytes:
        """Read like the source, and let its OSError pass."""
        try:
            piece: bytes = self._source.read(size)
        except OSError:
            self.ended = True
            raise
        self.count += len(piece)
        self.ended = self.ended or not piece
        return piece

    def readline(self, size: int = -1) -> bytes:
        """Read a line like the source; WSGI asks for this method."""
        line: bytes = self._source.readline(size)
        self.count += len(line)
        return line

    def readlines(self, _hint: int = -1) -> list[bytes]:
        """Read all lines; WSGI asks for this method."""
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


class CountedPieces:
    """The body of a response, piece by piece. A piece counts once the server asks for the next one or the end."""

    def __init__(self, pieces: Iterable[bytes], ended: Ended) -> None:
        self._pieces = pieces
        self._ended = ended
        self._sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            yield piece
            self._sent += len(piece)

    def close(self) -> None:
        """Close the pieces, and say how many bytes were sent."""
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            self._ended(self._sent)


class CountedFile:
    """A file that the server sends, with `sendfile` or piece by piece.

    `socket.sendfile` ends with a `seek` to the first byte that was not sent, also when the client has gone.
    """

    def __init__(self, file: BinaryIO, ended: Ended) -> None:
        self._file = file
        self._ended = ended
        self._start = file.tell()
        self._sent = 0

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """Read the next piece; the server has sent those before."""
        self._sent = self._file.tell() - self._start
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position, which is where the sending ended."""
        position = self._file.seek(offset, whence)
        self._sent = position - self._start
        return position

    def close(self) -> None:
        """Close the file, and say how many bytes were sent."""
        try:
            self._file.close()
        finally:
            self._ended(self._sent)
