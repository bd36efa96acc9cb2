"""Counts the outcomes of all threads, and decides which of them are violations."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from time import monotonic

from tools.soak.history import History

# Seconds that a request may take longer than the troubles that it has met: the loader notices that the API is silent
# after 10, waits up to 15 before it tries again, and the machine may be busy.
LONGEST_SECONDS = 45.0
LOST, CUT = "LOST", "CUT"
# What may come without any trouble: clients lock and log in with a wrong password, and all at the same time.
ALWAYS = {
    "load": {"NOT_LOGGED_IN", "BUSY"},
    "load of a new name": {"RESOURCE_NOT_FOUND"},
    "upload": {"NOT_LOGGED_IN", "BUSY"},
    "login": {"LOGIN_THROTTLED"},
    "wrong login": {"LOGIN_REJECTED", "LOGIN_THROTTLED"},
    "unlock": {"LOGIN_THROTTLED"},
    "ready": {"NOT_LOGGED_IN"},
}


class Tally:
    """Counters that threads may share. `violations` counts the events that must never happen."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()
        self.history = History()
        self._outcomes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def outcome(self, action: str, status: int | None, code: str, since: float) -> None:
        """Count a response to a request that began at `since`; `status` is None if the connection was lost.

        It is a violation unless it is a success, or its code is allowed always or by a trouble that it has met.
        """
        succeeded = status == 200 and not code
        if not (succeeded or code in ALWAYS.get(action, ()) or self.history.allows(code, since)):
            self.violation(f"{action}: {status or ''} {code}")
        with self._lock:
            self._outcomes[" ".join(filter(None, (action, str(status or ""), code)))] += 1

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
            self.outcome(f"{action} ({type(exc).__name__})", None, LOST, since)
        lasted = monotonic() - since - self.history.seconds(since)
        if lasted > LONGEST_SECONDS:
            self.violation(f"{action}: took {LONGEST_SECONDS:.0f} s longer than the troubles that it met")

    def line(self) -> str:
        """Return all outcomes with their counts, sorted by name."""
        with self._lock:
            return ", ".join(f"{name}: {count}" for name, count in sorted(self._outcomes.items()))
