"""As much of HTTP/1.1 framing (RFC 9112) as is needed to find the start and the end of each request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024
LINE_END = b"\r\n"
HEAD_END = b"\r\n\r\n"


@dataclass
class RecordedRequest:
    """Method and path of a request, and the number of its body bytes (without chunk framing) read so far."""

    method: str
    path: str
    body_bytes: int = 0


class RequestReader:
    """Reads the bytes that a client sends on one connection, in pieces of any size.

    It understands keep-alive, Content-Length and chunked bodies. It ignores all bytes after a request to upgrade the
    protocol, because they are not HTTP. `feed` raises ValueError for bytes that are not HTTP/1.1 requests.
    """

    def __init__(self, note: Callable[[RecordedRequest], None]) -> None:
        """Call `note` with each request as soon as its head is complete."""
        self._note = note
        self._request = RecordedRequest("", "")
        self._held = b""  # the first bytes of a head or a line that is not complete yet
        self._body_left = 0
        self._state: Callable[[bytes], bytes] = self._head

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the connection. Each state consumes some of them and returns the rest."""
        while data:
            data = self._state(data)

    def _head(self, data: bytes) -> bytes:
        head, rest = self._until(HEAD_END, data)
        if head is None:
            return rest
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self._request = RecordedRequest(method, path)
        self._note(self._request)
        self._body_left = int(headers.get("content-length", "0"))
        if "upgrade" in headers:
            self._state = self._other_protocol
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            self._state = self._chunk_size
        elif self._body_left:
            self._state = self._fixed_body
        return rest

    def _fixed_body(self, data: bytes) -> bytes:
        return self._body(data, self._head)

    def _chunk_size(self, data: bytes) -> bytes:
        line, rest = self._until(LINE_END, data)
        if line is not None:
            self._body_left = int(line.partition(b";")[0], 16)
            self._state = self._chunk_data if self._body_left else self._trailers
        return rest

    def _chunk_data(self, data: bytes) -> bytes:
        return self._body(data, self._chunk_end)

    def _chunk_end(self, data: bytes) -> bytes:
        line, rest = self._until(LINE_END, data)
        if line:
            raise ValueError("a chunk is longer than its size says")
        if line is not None:
            self._state = self._chunk_size
        return rest

    def _trailers(self, data: bytes) -> bytes:
        line, rest = self._until(LINE_END, data)
        if line == b"":
            self._state = self._head
        return rest

    def _other_protocol(self, _: bytes) -> bytes:
        return b""

    def _body(self, data: bytes, after: Callable[[bytes], bytes]) -> bytes:
        taken = min(self._body_left, len(data))
        self._request.body_bytes += taken
        self._body_left -= taken
        if not self._body_left:
            self._state = after
        return data[taken:]

    def _until(self, end: bytes, data: bytes) -> tuple[bytes | None, bytes]:
        """Return the bytes before `end` and after it, or (None, b"") while `end` has not arrived."""
        found, separator, rest = (self._held + data).partition(end)
        if separator:
            self._held = b""
            return found, rest
        if len(found) > MAX_HEAD_BYTES:
            raise ValueError("a head or a line without an end")
        self._held = found
        return None, b""
