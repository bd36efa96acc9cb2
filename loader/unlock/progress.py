"""How far an unlock is: counted in bytes, measured in time, and never going backwards."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

# Each byte of the tar counts when it has been decrypted, when the engine has taken it and when it has unpacked it.
PASSES = 3
RATE_WINDOW_SECONDS = 5.0


@dataclass(frozen=True)
class Step:
    """Step `number` of `of`."""

    number: int
    of: int
    name: str


@dataclass(frozen=True)
class ProgressReport:
    """One moment of a run. Times are RFC 3339 or seconds, amounts bytes, `rate` bytes a second over the last seconds.

    `percent` is 100 only when the run has ended well. `eta_seconds` is None while nothing moves.
    """

    step: Step
    bytes_done: int
    bytes_total: int
    percent: int
    rate: int
    eta_seconds: float | None
    started_at: str
    updated_at: str
    duration_seconds: dict[str, float]


class UnlockProgress:
    """The progress of one run. Written by its thread, read by any."""

    def __init__(self, steps: Sequence[str]) -> None:
        """`steps` are the names of all, in their order; the first one begins now."""
        self._lock = threading.Lock()
        self._steps = steps
        self._started_at = datetime.now(UTC)
        self._entered = [(steps[0], time.monotonic())]
        self._done = 0
        self._total = 0
        self._ended: tuple[bool, float, datetime] | None = None
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def expect(self, tar_size: int) -> None:
        """Say how much there is to do, before the first byte counts."""
        with self._lock:
            self._total = PASSES * tar_size

    def enter(self, step: str) -> None:
        """Begin the next step; harmless if it has begun."""
        with self._lock:
            if step != self._entered[-1][0]:
                self._entered.append((step, time.monotonic()))

    def reach(self, done: int) -> None:
        """Count `done` bytes as done, of all that `expect` named; less than before is no step back."""
        with self._lock:
            self._done = max(self._done, min(done, self._total))
            self._samples.append((time.monotonic(), self._done))
            self._forget_old_samples()

    def end(self, *, well: bool) -> None:
        """The run is over."""
        with self._lock:
            if well:
                self._done = self._total
            self._ended = (well, time.monotonic(), datetime.now(UTC))

    def report(self) -> ProgressReport:
        """The present moment; of a run that is over, its last one."""
        with self._lock:
            well, now, at = self._ended or (False, time.monotonic(), datetime.now(UTC))
            rate = 0 if self._ended else self._rate(now)
            step = self._entered[-1][0]
            return ProgressReport(
                step=Step(self._steps.index(step) + 1, len(self._steps), step),
                bytes_done=self._done,
                bytes_total=self._total,
                percent=100 if well else self._percent(),
                rate=round(rate),
                eta_seconds=round((self._total - self._done) / rate, 1) if rate else None,
                started_at=self._started_at.isoformat(timespec="milliseconds"),
                # While the run lives this is known to be so now.
                updated_at=at.isoformat(timespec="milliseconds"),
                duration_seconds=self._durations(now),
            )

    def _percent(self) -> int:
        return min(99, 100 * self._done // self._total) if self._total else 0

    def _forget_old_samples(self) -> None:
        """One sample older than the window stays, from which the window is measured."""
        begin = time.monotonic() - RATE_WINDOW_SECONDS
        while len(self._samples) > 1 and self._samples[1][0] < begin:
            self._samples.popleft()

    def _rate(self, now: float) -> float:
        self._forget_old_samples()
        then, done = self._samples[0]
        # What it says still held when the window began.
        then = max(then, now - RATE_WINDOW_SECONDS)
        return (self._done - done) / (now - then) if now > then else 0.0

    def _durations(self, now: float) -> dict[str, float]:
        ends = [entered for _, entered in self._entered[1:]] + [now]
        return {step: round(end - entered, 3) for (step, entered), end in zip(self._entered, ends, strict=True)}
