"""The progress of an unlock, counted in bytes and timed. It never goes backwards."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

from loader.unlock_state import ProgressReport, Step

RATE_WINDOW_SECONDS = 5.0


class UnlockProgress:
    """The progress of one run. The run's thread writes it, and any thread may read it."""

    def __init__(self, steps: Sequence[str]) -> None:
        """Start the first of `steps`, which are the names of all steps in their order."""
        self._lock = threading.Lock()
        self._steps = steps
        self._started_at = datetime.now(UTC)
        self._entered = [(steps[0], time.monotonic())]
        self._done = 0
        self._total = 0
        self._percent = 0
        self._activity: str | None = None
        self._moved_at = time.monotonic()
        self._ended: tuple[bool, float, datetime] | None = None
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def expect(self, total: int) -> None:
        """Set how many bytes there are to do, in all passes over them. Call this before `reach`.

        Call it again once there is more to do: the percent stays then until the bytes have come up with it.
        """
        with self._lock:
            self._total = total

    def enter(self, step: str) -> None:
        """Start the next step. Does nothing if `step` is the current one."""
        with self._lock:
            if step != self._entered[-1][0]:
                self._entered.append((step, time.monotonic()))
                self._moved_at = time.monotonic()

    def reach(self, done: int, activity: str | None = None) -> None:
        """Set the bytes done so far, of all passes; a smaller number than before changes nothing. Say what goes on."""
        with self._lock:
            self._activity = activity
            before, self._done = self._done, max(self._done, min(done, self._total))
            if self._done > before:
                self._moved_at = time.monotonic()
            if self._total:
                self._percent = max(self._percent, min(99, 100 * self._done // self._total))
            self._samples.append((time.monotonic(), self._done))
            self._forget_old_samples()

    def end(self, *, well: bool) -> None:
        """Note that the run has ended; `well` says whether it succeeded."""
        with self._lock:
            if well:
                self._done = self._total
            self._activity = None
            self._ended = (well, time.monotonic(), datetime.now(UTC))

    def report(self) -> ProgressReport:
        """Return the progress at this moment, or at the end of a run that has ended."""
        with self._lock:
            well, now, at = self._ended or (False, time.monotonic(), datetime.now(UTC))
            rate = 0 if self._ended else self._rate(now)
            step = self._entered[-1][0]
            return ProgressReport(
                step=Step(self._steps.index(step) + 1, len(self._steps), step),
                bytes_done=self._done,
                bytes_total=self._total,
                percent=100 if well else self._percent,
                rate=round(rate),
                eta_seconds=round((self._total - self._done) / rate, 1) if rate else None,
                activity=self._activity,
                silent_seconds=round(now - self._moved_at, 1) if self._ended is None else 0.0,
                started_at=self._started_at.isoformat(timespec="milliseconds"),
                # While the run is active this is the current time, because the report is true now.
                updated_at=at.isoformat(timespec="milliseconds"),
                duration_seconds=self._durations(now),
            )

    def _forget_old_samples(self) -> None:
        """Drop the samples that are older than the window, except the newest of them: the rate is measured from it."""
        window_start = time.monotonic() - RATE_WINDOW_SECONDS
        while len(self._samples) > 1 and self._samples[1][0] < window_start:
            self._samples.popleft()

    def _rate(self, now: float) -> float:
        self._forget_old_samples()
        then, done = self._samples[0]
        # An older sample counts from the start of the window, because its number of bytes was still true there.
        then = max(then, now - RATE_WINDOW_SECONDS)
        return (self._done - done) / (now - then) if now > then else 0.0

    def _durations(self, now: float) -> dict[str, float]:
        ends = [entered for _, entered in self._entered[1:]] + [now]
        return {step: round(end - entered, 3) for (step, entered), end in zip(self._entered, ends, strict=True)}
