"""The lane for logins with a password: few are hashed at a time, few wait, and further ones are refused at once."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A hash takes a core and 32 MiB for about a tenth of a second, so more at once would be no faster and only take memory.
HASHES_AT_ONCE = 2
# Each of these holds a thread of the server, which has 32. The last one waits for about half a second.
MAX_WAITING = 14
# The delay is random, because clients that were refused together would otherwise come back together.
RETRY_AFTER_SECONDS = range(1, 6)


class LaneFullError(Exception):
    """Too many logins wait. `retry_after` is in seconds."""

    def __init__(self) -> None:
        super().__init__("Too many logins are waiting.")
        self.retry_after = secrets.choice(RETRY_AFTER_SECONDS)


class LoginLane:
    """The lane of one process. Threads share it."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(HASHES_AT_ONCE + MAX_WAITING)
        self._turns = threading.BoundedSemaphore(HASHES_AT_ONCE)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, which lasts as long as the block. Raises LaneFullError at once if too many wait already."""
        if not self._places.acquire(blocking=False):
            raise LaneFullError
        try:
            with self._turns:
                yield
        finally:
            self._places.release()
