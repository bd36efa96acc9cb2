"""Which troubles there were at which time, and what they excuse."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from time import monotonic


@dataclass
class _Period:
    """A trouble from `begin` to `end`, in seconds of `monotonic`. It excuses requests that begin until `excused`."""

    allowed: Collection[str]
    begin: float
    end: float = inf
    excused: float = inf


class History:
    """The troubles of a soak. Threads may share it."""

    def __init__(self) -> None:
        self._periods: list[_Period] = []
        self._lock = threading.Lock()

    @contextmanager
    def period(self, allowed: Collection[str], linger_seconds: float = 0) -> Iterator[None]:
        """Note a trouble that lasts as long as the block.

        It excuses the outcomes `allowed`, such as `load BUSY`, of each request that overlaps with it or begins at most
        `linger_seconds` later.
        """
        period = _Period(allowed, monotonic())
        with self._lock:
            self._periods.append(period)
        try:
            yield
        finally:
            period.end = monotonic()
            period.excused = period.end + linger_seconds

    def allows(self, outcome: str, since: float) -> bool:
        """Return whether a trouble excuses `outcome` of a request that began at `since`."""
        with self._lock:
            return any(outcome in period.allowed for period in self._periods if period.excused >= since)

    def seconds(self, since: float) -> float:
        """Return for how many seconds there was trouble from `since` to now."""
        now = monotonic()
        with self._lock:
            return sum(max(0.0, min(period.end, now) - max(period.begin, since)) for period in self._periods)
