"""A recording proxy that is slow, stops or breaks on demand. The engine behind it is a real one."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.http_framing import RecordedRequest
from tests.support.processes import poll
from tests.support.recording_proxy import RecordingProxy

HELD_SECONDS = 30.0


class FaultyWire(RecordingProxy):
    """Applies its faults to the requests whose path without the query matches `path_pattern` (re.search).

    Set the faults before the request comes. Leaving the context breaks what is still held, so that it never arrives.
    """

    def __init__(self, listen: Path, upstream: Path, path_pattern: str) -> None:
        super().__init__(listen, upstream)
        self._pattern = path_pattern
        self._released = threading.Event()
        self._lines: list[_Line] = []
        self._hold_upload: int | None = None
        self._hold_response: int | None = None
        self._pause = 0.0
        self._noting = threading.local()  # the line whose bytes this thread handles

    def hold_upload(self, after: int) -> None:
        """Hold a request once its body has `after` bytes. The piece that reaches this number is held too."""
        self._hold_upload = after

    def hold_response(self, after: int = 0) -> None:
        """Hold a response once it has more than `after` bytes, its head included."""
        self._hold_response = after

    def slow_upload(self, pause_seconds: float) -> None:
        """Wait before each piece of a body; a piece has at most 64 KiB."""
        self._pause = pause_seconds

    def wait_until_held(self) -> None:
        """Wait until something is held."""
        poll(lambda: any(line.held for line in self._lines), HELD_SECONDS, "a request is held on the wire")

    def release(self) -> None:
        """Let everything pass from now on."""
        self._released.set()

    def cut(self) -> None:
        """Break the connections on which something is held."""
        for line in self._lines:
            if line.held:
                line.cut()
        self.release()

    def heal(self) -> None:
        """Break what is held, and forget all faults and recorded requests."""
        self.cut()
        poll(lambda: not any(line.held for line in self._lines), HELD_SECONDS, "nothing is held any more")
        self._hold_upload = self._hold_response = None
        self._pause = 0.0
        self._released.clear()
        self.forget()

    def __exit__(self, *exc: object) -> None:
        self.cut()
        super().__exit__(*exc)

    def _start(self, source: socket.socket, sink: socket.socket, look_at: Callable[[bytes], None]) -> None:
        line = next((line for line in self._lines if line.client is sink), None)
        if line is None:  # the first of the two directions comes from the client
            line = _Line(source, sink)
            self._lines.append(line)
            watch = self._watched_upload(line, look_at)
        else:
            watch = self._watched_response(line)
        super()._start(source, sink, watch)

    def _watched_upload(self, line: _Line, look_at: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def watch(data: bytes) -> None:
            self._noting.line = line
            look_at(data)
            if self._concerns(line):
                if self._pause:
                    self._released.wait(self._pause)
                if self._hold_upload is not None and line.body_bytes >= self._hold_upload:
                    line.hold(self._released)

        return watch

    def _watched_response(self, line: _Line) -> Callable[[bytes], None]:
        def watch(data: bytes) -> None:
            if self._concerns(line):
                line.response_bytes += len(data)
                if self._hold_response is not None and line.response_bytes > self._hold_response:
                    line.hold(self._released)

        return watch

    def _concerns(self, line: _Line) -> bool:
        request = line.request
        return request is not None and re.search(self._pattern, request.path.partition("?")[0]) is not None

    def _note(self, request: RecordedRequest) -> None:
        line: _Line = self._noting.line
        line.request, line.response_bytes = request, 0
        super()._note(request)


class _Line:
    """One connection: both ends, the request on it, and whether something on it is held."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.request: RecordedRequest | None = None
        self.response_bytes = 0
        self.held = False

    @property
    def body_bytes(self) -> int:
        return self.request.body_bytes if self.request else 0

    def hold(self, released: threading.Event) -> None:
        self.held = True
        released.wait()
        self.held = False

    def cut(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):  # the peer has closed it already
                end.shutdown(socket.SHUT_RDWR)
