"""Whether a source or the API is to be asked for blobs: a source that is slower than the API must not hold a fetch."""

from __future__ import annotations

import threading
import time
from enum import Enum, auto

# How long one side is measured, in seconds of reading on all streams together.
TURN_SECONDS = 2.0
# A source that gives so many bytes a second on each stream is fast enough, and the API is not asked at all.
FAST_RATE = 4e6
# How long an API that failed in its turn is not compared again.
REST_SECONDS = 60.0


class _Turn(Enum):
    SOURCE = auto()
    TRIAL_OF_API = auto()
    API = auto()


class Pace:
    """Compares the bytes a second that one stream of the source and one of the API give. Threads may share it.

    Once the source is slow, the API has a turn. The faster one goes on: the API to the end of the fetch, the source for
    as long as it is no slower than the API was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = _Turn.SOURCE
        self._floor = FAST_RATE
        self._rests_until = 0.0
        self._source_rate = 0.0
        self._size = 0
        self._seconds = 0.0

    @property
    def asks_source(self) -> bool:
        """Whether the source is to be asked now, and not the API."""
        return self._turn is _Turn.SOURCE

    @property
    def is_trial(self) -> bool:
        """Whether the API is only being measured."""
        return self._turn is _Turn.TRIAL_OF_API

    def count(self, size: int, seconds: float, *, is_source: bool) -> None:
        """Count a read of `size` bytes, which took `seconds`, from the source or the API."""
        with self._lock:
            if is_source != self.asks_source or self._turn is _Turn.API:
                return
            self._size += size
            self._seconds += seconds
            if self._seconds >= TURN_SECONDS:
                rate = self._size / self._seconds
                self._size, self._seconds = 0, 0.0
                self._decide(rate)

    def end_trial(self) -> None:
        """Let the source go on, because the API has failed in its turn."""
        with self._lock:
            if self._turn is _Turn.TRIAL_OF_API:
                self._turn = _Turn.SOURCE
                self._size, self._seconds = 0, 0.0
                self._rests_until = time.monotonic() + REST_SECONDS

    def _decide(self, rate: float) -> None:
        if self._turn is _Turn.TRIAL_OF_API:
            self._turn = _Turn.API if rate > self._source_rate else _Turn.SOURCE
            self._floor = rate
        elif rate < self._floor and time.monotonic() >= self._rests_until:
            self._turn = _Turn.API if self._floor < FAST_RATE else _Turn.TRIAL_OF_API
            self._source_rate = rate
