"""As much of HTTP/1.1 framing (RFC 9112) as is needed to find the start and the end of each request."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

MAX_HEAD_BYTES = 64 * 1024
LINE_END = b"\r\n"
HEAD_END = b"\r\n\r\n"


@dataclass
class RecordedRequest:
    """Method and path of a request, and the number of its body bytes (without chunk framing) read so far.

    `length` is what Content-Length announces. `body` collects the bytes if it was set when the request was noted.
    """

    method: str
    path: str
    body_bytes: int = 0
    length: int = field(default=0, compare=False)
    body: bytearray | None = field(default=None, compare=False)


class RequestReader:
    """Reads the bytes that a client sends on one connection, in pieces of any size.

    It understands keep-alive, Content-Length and chunked bodies. It ignores all bytes after a request to upgrade the
    protocol, because they are not HTTP. `feed` raises ValueError for bytes that are not HTTP/1.1 requests.
    """

    def __init__(self, note: Callable[[RecordedRequest], None]) -> None:
        """Call `note` with each request as soon as its head is complete."""
        self._note = note
        self._unread = b""
        self._steps = self._requests()
        next(self._steps)

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the connection, as far as they are complete."""
        self._unread += data
        next(self._steps)

    def _requests(self) -> Generator[None]:
        """Read one request after the other. This and the following generators yield where they need more bytes."""
        while True:
            lines = (yield from self._until(HEAD_END)).decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            request = RecordedRequest(method, path, length=int(headers.get("content-length", "0")))
            self._note(request)
            while "upgrade" in headers:
                self._unread = b""
                yield
            if headers.get("transfer-encoding", "").lower() == "chunked":
                yield from self._chunks(request)
            else:
                yield from self._body(request, request.length)

    def _chunks(self, request: RecordedRequest) -> Generator[None]:
        while size := int((yield from self._until(LINE_END)).partition(b";")[0], 16):
            yield from self._body(request, size)
            if (yield from self._until(LINE_END)):
                raise ValueError("a chunk is longer than its size says")
        while (yield from self._until(LINE_END)):
            pass  # a trailer

    def _body(self, request: RecordedRequest, size: int) -> Generator[None]:
        while size:
            if not self._unread:
                yield
            taken = min(size, len(self._unread))
            request.body_bytes += taken
            if request.body is not None:
                request.body += self._unread[:taken]
            size -= taken
            self._unread = self._unread[taken:]

    def _until(self, end: bytes) -> Generator[None, None, bytes]:
        """Return the bytes before `end`, and leave those after it unread."""
        while end not in self._unread:
            if len(self._unread) > MAX_HEAD_BYTES:
                raise ValueError("a head or a line without an end")
            yield
        found, _, self._unread = self._unread.partition(end)
        return found
