"""A recording proxy that is slow, stops or breaks on demand. The engine behind it is a real one."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from tests.support.http_framing import RecordedRequest
from tests.support.processes import poll
from tests.support.recording_proxy import Line, RecordingProxy

HELD_SECONDS = 30.0


class FaultyWire(RecordingProxy):
    """Applies its faults to the requests whose path without the query matches `path_pattern` (re.search).

    Set the faults before the request comes. Leaving the context breaks what is still held, so that it never arrives.
    """

    def __init__(self, listen: Path, upstream: Path, path_pattern: str) -> None:
        super().__init__(listen, upstream)
        self._pattern = path_pattern
        self._released = threading.Event()
        self._held: list[Line] = []
        self._response_bytes: dict[Line, int] = {}
        self._hold_upload: int | None = None
        self._hold_response: int | None = None
        self._pause = 0.0

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
        poll(lambda: self._held, HELD_SECONDS, "a request is held on the wire")

    def release(self) -> None:
        """Let everything pass from now on."""
        self._released.set()

    def cut(self) -> None:
        """Break the connections on which something is held."""
        for line in list(self._held):
            line.cut()
        self.release()

    def heal(self) -> None:
        """Break what is held, and forget all faults and recorded requests."""
        self.cut()
        poll(lambda: not self._held, HELD_SECONDS, "nothing is held any more")
        self._hold_upload = self._hold_response = None
        self._pause = 0.0
        self._released.clear()
        self.forget()

    def __exit__(self, *_: object) -> None:
        self.cut()
        super().__exit__()

    def note(self, line: Line, request: RecordedRequest) -> None:
        """Add a request, and count the bytes of its response from zero."""
        self._response_bytes[line] = 0
        super().note(line, request)

    def before_upload(self, line: Line) -> None:
        """Wait while the test wants the request to be slow or held."""
        if (request := self._concerned(line)) is not None:
            if self._pause:
                self._released.wait(self._pause)
            if self._hold_upload is not None and request.body_bytes >= self._hold_upload:
                self._hold(line)

    def before_response(self, line: Line, size: int) -> None:
        """Wait while the test wants the response to be held."""
        if self._concerned(line) is not None:
            self._response_bytes[line] += size
            if self._hold_response is not None and self._response_bytes[line] > self._hold_response:
                self._hold(line)

    def _concerned(self, line: Line) -> RecordedRequest | None:
        """Return the request on `line` if the faults apply to it."""
        request = line.request
        return request if request and re.search(self._pattern, request.path.partition("?")[0]) else None

    def _hold(self, line: Line) -> None:
        self._held.append(line)
        self._released.wait()
        self._held.remove(line)
