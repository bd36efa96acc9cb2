"""Counts the outcomes of all threads, and decides which of them are violations."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException
from time import monotonic

from tools.soak.history import History

# Seconds that a request may take longer than the troubles that it has met: the loader notices that the API is silent
# after 10, waits up to 15 before it tries again, and the machine may be busy.
LONGEST_SECONDS = 45.0
LOST, CUT = "LOST", "CUT"
ACTIONS = ("load", "upload", "login", "wrong login", "lock", "unlock", "clear", "health", "ready")
# The outcomes that may come without any trouble: clients lock, log in with a wrong password, and all act at once.
ALWAYS = {
    *("load NOT_LOGGED_IN", "upload NOT_LOGGED_IN", "ready NOT_LOGGED_IN"),
    *("load BUSY", "upload BUSY"),
    "load of a new name RESOURCE_NOT_FOUND",
    *("wrong login LOGIN_REJECTED", "wrong login LOGIN_THROTTLED", "login LOGIN_THROTTLED", "unlock LOGIN_THROTTLED"),
}


class Tally:
    """Counters that threads may share. `violations` counts the events that must never happen."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()
        self.history = History()
        self._outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def outcome(self, action: str, status: int | str, code: str, since: float) -> None:
        """Count a response to a request that began at `since`; `status` is an exception's name if none came.

        It is a violation unless it is a success, or one that may come always or in a trouble that it has met.
        """
        what = f"{action} {code}"
        if (status != HTTPStatus.OK or code) and what not in ALWAYS and not self.history.allows(what, since):
            self.violation(f"{action}: {status} {code}")
        with self._lock:
            self._outcomes[f"{action} {status} {code}".rstrip()] += 1

    def trouble(self, what: str) -> None:
        """Count a trouble that the soak caused on purpose."""
        with self._lock:
            self._outcomes[what] += 1

    def violation(self, what: str) -> None:
        """Count an event that must never happen, and print it when it happens for the first time."""
        with self._lock:
            self.violations[what] += 1
            if self.violations[what] == 1:
                print(f"BROKEN: {what}", flush=True)

    @contextmanager
    def guarded(self, action: str) -> Iterator[float]:
        """Yield the present time; count a connection that the block loses, and a violation if it takes too long."""
        since = monotonic()
        try:
            yield since
        except (OSError, HTTPException) as exc:
            self.outcome(action, type(exc).__name__, LOST, since)
        lasted = monotonic() - since - self.history.seconds(since)
        if lasted > LONGEST_SECONDS:
            self.violation(f"{action}: took {LONGEST_SECONDS:.0f} s longer than the troubles that it met")

    def line(self) -> str:
        """Return all outcomes with their counts, sorted by name."""
        with self._lock:
            return ", ".join(f"{name}: {count}" for name, count in sorted(self._outcomes.items()))
