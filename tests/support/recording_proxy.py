"""A proxy in front of an engine's unix socket that records the requests."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.support.fault_server import READ_SIZE, InThread
from tests.support.http_framing import RecordedRequest, RequestReader

# The hosts in front of which proxies listen, by the hosts of those proxies.
UPSTREAMS: dict[str, str] = {}


class Line:
    """The connection of a client through the proxy, and the request on it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.request: RecordedRequest | None = None

    def cut(self) -> None:
        """Break the connection to both sides."""
        for end in (self.client, self.server):
            with suppress(OSError):  # its peer has cut it already
                end.shutdown(socket.SHUT_RDWR)


class RecordingProxy(InThread, socketserver.ThreadingUnixStreamServer):
    """Passes every byte between clients of `listen` and the server on `upstream` unchanged. Both are unix sockets.

    A request is recorded before its first byte goes upstream, so that a request that is not in `requests` was never
    sent. `requests` are in the order of their heads. Leaving the context cuts the connections that are still open.
    """

    request_queue_size = 128

    def __init__(self, listen: Path, upstream: Path) -> None:
        super().__init__(str(listen), _Handler)
        self.host = f"unix://{listen}"
        self.upstream = upstream
        UPSTREAMS[self.host] = f"unix://{upstream}"
        self.lines: list[Line] = []
        self.requests: list[RecordedRequest] = []

    def sent(self, method: str, path_pattern: str) -> list[RecordedRequest]:
        """Return the requests with `method` whose path without the query matches `path_pattern` (re.search)."""
        return [
            request
            for request in self.requests
            if request.method == method and re.search(path_pattern, request.path.partition("?")[0])
        ]

    def forget(self) -> None:
        """Forget all requests."""
        self.requests.clear()

    def note(self, line: Line, request: RecordedRequest) -> None:
        """Add a request, whose head has arrived on `line`, to `requests`."""
        line.request = request
        self.requests.append(request)

    def before_upload(self, line: Line) -> None:
        """Do nothing. A subclass may wait here before the bytes that have arrived from the client go upstream."""

    def before_response(self, line: Line, size: int) -> None:
        """Do nothing. A subclass may wait here before `size` bytes of a response go to the client."""

    def server_close(self) -> None:
        """Cut all connections, and close the socket."""
        del UPSTREAMS[self.host]
        for line in self.lines:
            line.cut()
        super().server_close()


class _Handler(socketserver.BaseRequestHandler):
    server: RecordingProxy

    def handle(self) -> None:
        """Pass bytes in both directions until both sides have ended theirs."""
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(str(self.server.upstream))  # if it is down, the client must see it down too
            line = Line(self.request, upstream)
            self.server.lines.append(line)
            reader = RequestReader(partial(self.server.note, line))

            def upload(data: bytes) -> None:
                reader.feed(data)
                self.server.before_upload(line)

            def respond(data: bytes) -> None:
                self.server.before_response(line, len(data))

            responding = threading.Thread(target=_forward, args=(line, line.server, line.client, respond))
            responding.start()
            try:
                _forward(line, line.client, line.server, upload)
            finally:
                responding.join()


def _forward(line: Line, source: socket.socket, sink: socket.socket, look_at: Callable[[bytes], None]) -> None:
    """Pass bytes from `source` to `sink`; `look_at` sees them first.

    A half-closed `source` half-closes `sink`. A closed `sink`, or bytes that are not HTTP, cut the line.
    """
    try:
        while data := source.recv(READ_SIZE):
            look_at(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # a killed client or engine ends its connection like this
        line.cut()
    except ValueError:
        line.cut()
        raise
