"""Counts the outcomes of all threads, and decides which of them are violations."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException
from time import monotonic

# The time within which a new worker must respond after a kill, also on a busy machine.
REVIVAL_SECONDS = 30.0
# Codes that must never occur, because the loader, disk, archive, key and stored resources are never damaged.
BLAMELESS = {
    *("INTERNAL", "STORAGE_ERROR", "DISK_SPACE", "ARCHIVE_CORRUPT", "ARCHIVE_NOT_FOUND", "KEY_MISMATCH"),
    *("VERSION_MISMATCH", "IMAGE_MISMATCH", "RESOURCE_CORRUPT"),
}


class Tally:
    """Counters that threads may share. `violations` counts the events that must never happen."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._killed_at = float("-inf")
        self._revived_at = float("-inf")
        self._lock = threading.Lock()

    def outcome(self, action: str, status: int | None, code: str = "") -> None:
        """Count a response (`status` None: the connection was lost); it is a violation if its code must never occur."""
        with self._lock:
            self._outcomes[f"{action} {status or 'lost'} {code}".rstrip()] += 1
            if code in BLAMELESS or status == HTTPStatus.INTERNAL_SERVER_ERROR:
                self.violations[f"{action}: {status} {code}"] += 1

    def trouble(self, what: str) -> None:
        """Count a failure that the soak caused on purpose."""
        with self._lock:
            self._outcomes[what] += 1

    def violation(self, what: str) -> None:
        """Count an event that must never happen."""
        with self._lock:
            self.violations[what] += 1

    def killed(self) -> None:
        """Note that the worker is about to be killed."""
        self._killed_at = monotonic()

    def revived(self) -> None:
        """Note that the new worker responds."""
        self._revived_at = monotonic()

    def excused(self, since: float) -> bool:
        """Return whether the worker was killed or restarting at some time after `since`, in seconds of `monotonic`."""
        down = self._revived_at < self._killed_at and monotonic() - self._killed_at < REVIVAL_SECONDS
        return down or self._revived_at >= since

    def guarded(self, action: str, what: Callable[[], None]) -> None:
        """Run `what`; count a lost connection, which is a violation unless the worker was killed."""
        started = monotonic()
        try:
            what()
        except (OSError, HTTPException) as exc:
            self.outcome(action, None)
            if not self.excused(started):
                self.violation(f"{action}: connection lost ({type(exc).__name__})")

    def line(self) -> str:
        """Return all outcomes with their counts, sorted by name."""
        with self._lock:
            return ", ".join(f"{name}: {count}" for name, count in sorted(self._outcomes.items()))
