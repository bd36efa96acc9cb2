"""Who may use the line: while models are downloaded, a fetch gets no more bytes than they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# How often a fetch that waits looks again.
POLL_SECONDS = 0.05
# How far one side may be ahead of the other. A fetch that has given way for long must not take it all back at once.
SLACK_SIZE = 1 << 20
# A load that has got no byte for this long does not use the line.
SILENT_SECONDS = 5.0


class RightOfWay:
    """Counts the bytes of a fetch, and holds it back. Threads may share it. `received` are the bytes of the fetch."""

    def __init__(self, loaded: Callable[[], int | None]) -> None:
        """`loaded` returns how many bytes the running downloads of models have got so far; None if none runs."""
        self._loaded = loaded
        self._lock = threading.Lock()
        self._seen: int | None = None
        self._moved_at = 0.0
        self._credit = 0
        self.received = 0

    def wait(self, is_wanted: Callable[[], bool]) -> None:
        """Wait until the fetch may read a piece, or is no longer wanted."""
        while is_wanted() and not self._may_read():
            time.sleep(POLL_SECONDS)

    def count(self, size: int) -> None:
        """Count bytes that the fetch has read."""
        with self._lock:
            self.received += size
            self._credit = max(-SLACK_SIZE, self._credit - size)

    def _may_read(self) -> bool:
        with self._lock:
            before, self._seen = self._seen, self._loaded()
            if self._seen is None:
                return True
            now = time.monotonic()
            if before is None:
                self._credit, self._moved_at = 0, now
            elif self._seen > before:
                self._credit, self._moved_at = min(SLACK_SIZE, self._credit + self._seen - before), now
            return self._credit >= 0 or now - self._moved_at > SILENT_SECONDS
