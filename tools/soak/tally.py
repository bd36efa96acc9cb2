"""What has happened so far, counted by all threads, and whether it may go on like that."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from time import monotonic

# Until a worker that was killed has a successor that answers, whatever else the machine does.
REVIVAL_SECONDS = 30.0
# The loader itself, the disk, the archive, the key and what the API stores are sound all the time.
BLAMELESS = {
    *("INTERNAL", "STORAGE_ERROR", "DISK_SPACE", "ARCHIVE_CORRUPT", "ARCHIVE_NOT_FOUND", "KEY_MISMATCH"),
    *("VERSION_MISMATCH", "IMAGE_MISMATCH", "RESOURCE_CORRUPT"),
}


class Tally:
    """Safe to share. `violations` are what must never happen, each with the number of times that it did."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._killed_at = float("-inf")
        self._revived_at = float("-inf")
        self._lock = threading.Lock()

    def outcome(self, action: str, status: int | None, code: str = "") -> None:
        """An answer, or None for a connection that was lost; a violation if it blames what nobody has touched."""
        with self._lock:
            self._outcomes[f"{action} {status or 'lost'} {code}".rstrip()] += 1
            if code in BLAMELESS or status == HTTPStatus.INTERNAL_SERVER_ERROR:
                self.violations[f"{action}: {status} {code}"] += 1

    def trouble(self, what: str) -> None:
        """Something that was done on purpose."""
        with self._lock:
            self._outcomes[what] += 1

    def violation(self, what: str) -> None:
        """Something that must never happen."""
        with self._lock:
            self.violations[what] += 1

    def killed(self) -> None:
        """The worker is about to be killed."""
        self._killed_at = monotonic()

    def revived(self) -> None:
        """Its successor answers."""
        self._revived_at = monotonic()

    def excused(self, since: float) -> bool:
        """Whether the worker was killed, or not there, at some time after `since`, as `monotonic` tells it."""
        down = self._revived_at < self._killed_at and monotonic() - self._killed_at < REVIVAL_SECONDS
        return down or self._revived_at >= since

    def guarded(self, action: str, what: Callable[[], None]) -> None:
        """Run `what`; a connection that is lost is counted, and a violation unless the worker was killed."""
        started = monotonic()
        try:
            what()
        except (OSError, HTTPException) as exc:
            self.outcome(action, None)
            if not self.excused(started):
                self.violation(f"{action}: connection lost ({type(exc).__name__})")

    def line(self) -> str:
        """All outcomes, in the order of their names."""
        with self._lock:
            return ", ".join(f"{name}: {count}" for name, count in sorted(self._outcomes.items()))
