"""The log handler: it writes all lines to stderr, and a slow reader of stderr delays no thread.

The handler of the standard library waits while a pipe is full, and every thread that writes a line waits with it.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakSet

STDERR = 2
NO_DESCRIPTOR = -1
# A reader that stops for some seconds loses nothing; more lines than these are dropped.
MAX_WAITING_LINES = 1000
# At its end the process waits so long for a slow reader.
LAST_SECONDS = 1.0

# Writes what can be written at once, and returns how many bytes that was. Raises OSError if nothing can ever be.
WriteNow = Callable[[bytes], int]


@dataclass
class _Rest:
    """What is left to write of some lines. `begun` says whether a part of the first one is written already."""

    data: bytes
    lines: int
    begun: bool


class LogHandler(logging.Handler):
    """Writes each line at once if stderr takes it, and otherwise leaves it to a thread that may wait.

    At most MAX_WAITING_LINES wait. What cannot be written, because too many wait, nobody reads any more or the disk is
    full, is dropped and counted. The next line that is written is preceded by one that says how many were dropped.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """Write to `descriptor` instead of stderr."""
        super().__init__()
        if descriptor is None:
            # Without stderr the next file that the process opens gets its number, and no line of the log.
            descriptor = STDERR if sys.stderr is not None else NO_DESCRIPTOR
        self._descriptor = descriptor
        self._write_now, self._close_own = _opened(descriptor)
        # Callers of `emit` and `flush` hold the lock of the handler.
        self._changed = threading.Condition(self.lock)
        self.restart()
        _handlers.add(self)

    def restart(self) -> None:
        """Forget what waits. Called in a new process too: the thread and the lines are those of its parent."""
        self._waiting: deque[_Rest] = deque()
        self._dropped = 0
        self._is_cut = False
        self._thread_runs = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write or queue one line; called with the handler's lock held."""
        try:
            self._take(f"{self.format(record)}\n".encode(errors="backslashreplace"))
        except Exception:  # noqa: BLE001  # logging asks for this: a line that cannot be written must not end a request
            self.handleError(record)

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802  # the name that logging gives it
        """Count the line as dropped. The one of `logging` would write to stderr, and wait."""
        self._dropped += 1

    def flush(self) -> None:
        """Wait until all lines are written, but not for longer than LAST_SECONDS. Say what was dropped."""
        with self._changed:
            if self._changed.wait_for(lambda: not self._waiting, LAST_SECONDS) and self._dropped:
                with suppress(OSError):
                    self._take(b"")

    def close(self) -> None:
        """Give up the handler's own way to stderr; called after the last line."""
        with self._changed:
            self._write_now = _nothing
            self._close_own()
            self._close_own = _do_nothing
        super().close()

    def _take(self, line: bytes) -> None:
        """Write or queue a line. Raises OSError, and changes nothing, if nothing can be written."""
        if len(self._waiting) >= MAX_WAITING_LINES:
            self._dropped += 1
            return
        data = (self._notice() if self._dropped else b"") + line
        written = 0
        if not self._waiting:
            data = (b"\n" if self._is_cut else b"") + data
            written = self._write_now(data)
            self._is_cut = False
        rest = _Rest(data[written:], self._dropped + 1, written > 0)
        self._dropped = 0
        if rest.data:
            self._waiting.append(rest)
            self._start_thread()

    def _notice(self) -> bytes:
        text = "%d log lines were dropped"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (self._dropped,), None)
        return f"{self.format(record)}\n".encode()

    def _start_thread(self) -> None:
        if self._thread_runs:
            return
        self._thread_runs = True
        try:
            threading.Thread(target=self._write_waiting, name="log", daemon=True).start()
        except RuntimeError:  # too many threads; the next line tries again
            self._thread_runs = False

    def _write_waiting(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread_runs = False
                    self._changed.notify_all()
                    return
                rest = self._waiting[0]
                follows_a_cut = self._is_cut and not rest.begun
            if follows_a_cut:
                rest.data = b"\n" + rest.data
            is_whole = _write(self._descriptor, rest)
            with self._changed:
                self._waiting.popleft()
                self._is_cut = not is_whole and (rest.begun or follows_a_cut)
                if not is_whole:
                    self._dropped += rest.lines


_handlers: WeakSet[LogHandler] = WeakSet()


def _restart_all() -> None:
    for handler in _handlers:
        handler.restart()


os.register_at_fork(after_in_child=_restart_all)


def _write(descriptor: int, rest: _Rest) -> bool:
    """Write `rest`, however long that takes. Return whether all of it is written."""
    while rest.data:
        try:
            written = os.write(descriptor, rest.data)
        except BlockingIOError:
            # Another process that has the same stderr open has made it non-blocking.
            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            poller.poll()
        except OSError:
            return False
        else:
            rest.data, rest.begun = rest.data[written:], True
    return True


def _opened(descriptor: int) -> tuple[WriteNow, Callable[[], None]]:
    """Return a function that writes to `descriptor` without waiting, and one that closes what it uses for that.

    Other processes may share the open file, and O_NONBLOCK would apply to them too, so the function opens it again.
    """
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return (lambda line: os.write(descriptor, line)), _do_nothing
        if stat.S_ISSOCK(mode):
            connection = socket.socket(fileno=os.dup(descriptor))
            return _without_waiting(lambda line: connection.send(line, socket.MSG_DONTWAIT)), connection.close
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.EBADF:
            return len, _do_nothing  # It is closed, so every line is lost.
        # It belongs to another user: a thread writes every line.
        return _nothing, _do_nothing
    return _without_waiting(lambda line: os.write(own, line)), lambda: os.close(own)


def _nothing(_line: bytes) -> int:
    return 0


def _do_nothing() -> None:
    pass


def _without_waiting(write: WriteNow) -> WriteNow:
    def written(line: bytes) -> int:
        try:
            return write(line)
        except BlockingIOError:
            return 0

    return written
