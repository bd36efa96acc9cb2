"""A recording proxy that, on demand, is slow, stops or breaks. The engine behind it stays a real one."""

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
    """Its faults concern the requests whose path without the query holds `path_pattern`; all others pass.

    Set the faults before the request comes. Leaving the context breaks what is still held, so that it never arrives.
    """

    def __init__(self, listen: Path, upstream: Path, path_pattern: str) -> None:
        super().__init__(listen, upstream)
        self._pattern = path_pattern
        self._released = threading.Event()
        self._lines: list[_Line] = []
        self._hold_upload: int | None = None
        self._hold_answer: int | None = None
        self._pause = 0.0
        self._noting = threading.local()  # the line whose bytes this thread is looking at

    def hold_upload(self, after: int) -> None:
        """Lets no byte pass once a body has had `after` bytes; the piece that reaches them stays here."""
        self._hold_upload = after

    def hold_answer(self, after: int = 0) -> None:
        """Lets no byte pass once an answer, its head included, has had `after` bytes."""
        self._hold_answer = after

    def slow_upload(self, pause_seconds: float) -> None:
        """Waits before each piece of at most 64 KiB of a body."""
        self._pause = pause_seconds

    def wait_until_held(self) -> None:
        """Waits until a byte is being held."""
        poll(lambda: any(line.held for line in self._lines), HELD_SECONDS, "a request is held on the wire")

    def release(self) -> None:
        """Lets everything pass from now on."""
        self._released.set()

    def cut(self) -> None:
        """Breaks the connections on which something is held."""
        for line in self._lines:
            if line.held:
                line.cut()
        self.release()

    def heal(self) -> None:
        """Breaks what is held, and forgets all faults and notes: as new."""
        self.cut()
        poll(lambda: not any(line.held for line in self._lines), HELD_SECONDS, "nothing is held any more")
        self._hold_upload = self._hold_answer = None
        self._pause = 0.0
        self._released.clear()
        self.forget()

    def __exit__(self, *exc: object) -> None:
        self.cut()
        super().__exit__(*exc)

    def _start(self, source: socket.socket, sink: socket.socket, look_at: Callable[[bytes], None]) -> None:
        line = next((line for line in self._lines if line.client is sink), None)
        if line is None:  # the first of the two directions: from the client
            line = _Line(source, sink)
            self._lines.append(line)
            watch = self._watched_upload(line, look_at)
        else:
            watch = self._watched_answer(line)
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

    def _watched_answer(self, line: _Line) -> Callable[[bytes], None]:
        def watch(data: bytes) -> None:
            if self._concerns(line):
                line.answer_bytes += len(data)
                if self._hold_answer is not None and line.answer_bytes > self._hold_answer:
                    line.hold(self._released)

        return watch

    def _concerns(self, line: _Line) -> bool:
        request = line.request
        return request is not None and re.search(self._pattern, request.path.partition("?")[0]) is not None

    def _note(self, request: RecordedRequest) -> None:
        line: _Line = self._noting.line
        line.request, line.answer_bytes = request, 0
        super()._note(request)


class _Line:
    """One connection: both ends, the request that it carries, and whether a byte of it is being held."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.request: RecordedRequest | None = None
        self.answer_bytes = 0
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
            with contextlib.suppress(OSError):  # its peer has gone
                end.shutdown(socket.SHUT_RDWR)
