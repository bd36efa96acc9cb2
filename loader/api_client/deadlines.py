"""Total deadlines of what the loader does at the API, because a timeout of silence never ends an answer that trickles.

A deadline belongs to the context of the thread that set it, and the sockets of `connections` obey it: whatever they
wait for ends with Late once the deadline has passed, however many bytes, header lines or redirects still come.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from loader.errors import Checkpoint, Interrupted

T = TypeVar("T")

# What a call may take beyond the time to connect and the time of silence: the handshakes and the few KiB of a call over
# a satellite link that loses packets.
SPARE_SECONDS = 30.0
# Bytes per second. A body that comes faster gets the time that it needs; slower links cannot load a model anyway.
SLOWEST_RATE = 4096.0
# How often a call that waits looks whether it must end.
CHECK_SECONDS = 0.5
# A lock ends only older calls. Otherwise a client that locks the loader in time would keep a rejected login from being
# counted.
PUNCTUAL_SECONDS = 5.0

_told_to_stop = False


class Late(Exception):
    """The deadline has passed. `reasons` makes an error of the loader of it."""


class Deadline:
    """When one call must end. Its thread alone uses it."""

    def __init__(self, seconds: float, checkpoint: Checkpoint, outer: Deadline | None) -> None:
        """End with `outer` at the latest. `checkpoint` ends the call early, see PUNCTUAL_SECONDS."""
        self._started = time.monotonic()
        self._end = self._started + seconds
        self._checkpoint = checkpoint
        self._outer = outer

    def left(self) -> float:
        """Return the seconds that are left, more than 0. Raises Late, and what the checkpoints raise."""
        now = time.monotonic()
        left = self._end - now
        if self._outer is not None:
            left = min(left, self._outer.left())
        if now - self._started >= PUNCTUAL_SECONDS:
            self._checkpoint()
        if left <= 0:
            raise Late
        return left

    def extend(self, size: int) -> None:
        """Give the call the time that `size` bytes of its body may take."""
        self._end += size / SLOWEST_RATE


_present: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def deadline(seconds: float, checkpoint: Checkpoint = lambda: None) -> Iterator[Deadline]:
    """Limit the block to `seconds` in total. A deadline that was set around it stays."""
    limit = Deadline(seconds, checkpoint, _present.get())
    token = _present.set(limit)
    try:
        yield limit
    finally:
        _present.reset(token)


def present() -> Deadline | None:
    """Return the deadline of the present call."""
    return _present.get()


def extend(size: int) -> None:
    """Give the present call, if it has a deadline, the time that `size` bytes of its body may take."""
    limit = present()
    if limit is not None:
        limit.extend(size)


def wait_within(limit: Deadline, result: Future[T]) -> T:
    """Return what `result` will be, or raise what it raises. Raises Late, and what the checkpoints raise."""
    while not result.done():
        wait([result], timeout=min(CHECK_SECONDS, limit.left()))
    try:
        return result.result()
    finally:
        # Break the cycle of an error with its frames, because those of the callers have a password.
        del result


def stop() -> None:
    """Let `require_running` raise from now on, because the process was told to end. A signal handler may call it."""
    global _told_to_stop
    _told_to_stop = True


def require_running() -> None:
    """Raise Interrupted after `stop`. The checkpoint of calls that the end of the process must not wait for."""
    if _told_to_stop:
        raise Interrupted(
            "The call of the resource API was interrupted because the loader was told to stop.",
            hint="Start the loader, and try again.",
        )
