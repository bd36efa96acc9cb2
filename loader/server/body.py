"""Bodies of requests, without the copies that gunicorn makes of them. Uses internals of gunicorn, as `worker` does.

gunicorn collects each read from reads of the socket, in two buffers: it copies a body three times, and holds the GIL.
"""

from __future__ import annotations

from typing import Any

from gunicorn.http.body import Body, LengthReader

# Limits the memory of one read, whatever the application asks for.
READ_SIZE = 1 << 20


class DirectBody(Body):  # type: ignore[misc]  # gunicorn ships no types
    """The body of a request that says its length. Its `reader` is a LengthReader."""

    def read(self, size: int | None = None) -> bytes:
        """Return up to `size` bytes: as many as are here, or as one read of the socket gives; b"" at the end.

        Without a size, return all that is left.
        """
        # A line may have been read before, which leaves bytes behind it in `buf`.
        if size is None or size < 0 or self.buf.tell():
            rest: bytes = super().read(size)
            return rest
        try:
            return _piece(self.reader, size)
        except Exception:
            self.failed = True
            raise


def read_directly(request: Any) -> None:
    """Let the body of a request of gunicorn be read without copies, if the request says its length."""
    if isinstance(request.body.reader, LengthReader):
        request.body = DirectBody(request.body.reader)


def _piece(reader: Any, size: int) -> bytes:
    # The first bytes may have come with the head of the request.
    if here := len(reader.unreader.buf.getvalue()):
        piece: bytes = reader.read(min(size, here))
        return piece
    if wanted := min(size, reader.length, READ_SIZE):
        piece = reader.unreader.sock.recv(wanted)
        reader.length -= len(piece)
        return piece
    return b""
