"""Responses whose body is read as a file."""

from __future__ import annotations

import io
from typing import Any

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from loader.api_client import deadlines, reasons
from loader.api_client.deadlines import Late
from loader.api_client.reasons import Peer
from loader.errors import ApiProtocol

# Enough to tell whether a body is a text.
PEEK_SIZE = 512


class Response(io.RawIOBase):
    """A response whose body is read as a file. It holds a connection until the caller closes it.

    `was_redirected` says that the request came here without the token, by a redirect or by an address of the API.
    """

    def __init__(self, raw: BaseHTTPResponse, peer: Peer) -> None:
        """`raw` is the response of urllib3, whose body has not been read. `peer` has sent it."""
        self.peer = peer
        self.was_redirected = False
        self.status = raw.status
        self.headers = raw.headers
        self._raw = raw
        self._peeked = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill the start of `buffer` and return how many bytes came; 0 at the end.

        Raises ApiUnreachable if the body is cut or stalls.
        """
        piece = self._next_piece(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def peek(self) -> bytes:
        """Return the first bytes of the body, which the next read returns too. Raises ApiUnreachable."""
        self._peeked = self._peeked or self._read_piece(PEEK_SIZE)
        return self._peeked

    def read_all(self, limit: int) -> bytes:
        """Return the whole body and close. Raises ApiProtocol if it has more than `limit` bytes."""
        with self:
            body = bytearray()
            while piece := self._next_piece(min(limit + 1 - len(body), 1 << 20)):
                body += piece
                deadlines.extend(len(piece))
                if len(body) > limit:
                    raise ApiProtocol(f"The resource API sent more than {limit} bytes where that is the limit.")
        return bytes(body)

    def close(self) -> None:
        if not self.closed:
            if self._raw.length_remaining == 0:
                # Give the connection back to the pool, because a new one would cost each part of an upload a handshake.
                self._raw.drain_conn()
            # This closes the connection too, unless the last byte has been read and the pool has it back.
            self._raw.close()
        super().close()

    def _next_piece(self, size: int) -> bytes:
        piece = self._peeked[:size] or self._read_piece(size)
        self._peeked = self._peeked[len(piece) :]
        return piece

    def _read_piece(self, size: int) -> bytes:
        try:
            # Take what has come, not what fits, because a link that stalls must not keep what it has delivered.
            return self._raw.read1(size)
        except (HTTPError, Late) as exc:
            raise reasons.cut(exc, self.peer) from exc
