"""The socket of a client: an absolute deadline for reading, which a byte now and then does not extend."""

from __future__ import annotations

import socket
import time

# Made once, because Python takes a microsecond to combine flags.
PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT


class ClientSocket(socket.socket):
    """A client's socket with a deadline for reading, after which it reads as if the client had gone.

    Applications get it as `gunicorn.socket` of the WSGI environment.
    """

    _deadline: float | None = None
    _is_late = False

    def limit_reading(self, seconds: float) -> None:
        """Let the client send for `seconds` in total from now on. A client that was too late stays so."""
        self._deadline = time.monotonic() + seconds

    def end_limit(self) -> None:
        """Let the client send for as long as it takes."""
        self._deadline = None

    def peek(self, size: int) -> bytes:
        """Return up to `size` bytes of what has come, without taking them; b"" if there are none."""
        try:
            return super().recv(size, PEEK)
        except OSError:
            return b""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self._is_late:
            return b""
        if self._deadline is None:
            return super().recv(size, flags)
        silence = self.gettimeout()
        if silence == 0.0:
            return super().recv(size, flags)
        left = max(self._deadline - time.monotonic(), 1e-3)
        self.settimeout(left if silence is None else min(left, silence))
        try:
            return super().recv(size, flags)
        except TimeoutError:
            if time.monotonic() < self._deadline:
                raise
            self._is_late = True
            return b""
        finally:
            self.settimeout(silence)
