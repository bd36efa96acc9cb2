"""When an unattended fetch looks for a newer release: FETCH_AT, spread over devices. No clock is read here."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# The looks of a fleet are spread over this time, so that its devices do not ask the API at the same moment.
SPREAD_SECONDS = HOUR
# A look at a time of day may come this much later, because the device was off or busy, or the API was away.
WINDOW_SECONDS = 2 * HOUR
# After this time a look is made again that found no API.
RETRY_SECONDS = 10 * MINUTE


@dataclass(frozen=True)
class FetchAt:
    """`second` of the local day, or every `interval` seconds; the other one is None."""

    second: int | None = None
    interval: int | None = None

    @classmethod
    def parse(cls, text: str) -> FetchAt | None:
        """Return what `HH:MM`, or a number with `m` or `h`, says; None for empty. Raises ValueError."""
        if not text:
            return None
        if found := re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", text):
            return cls(second=int(found[1]) * HOUR + int(found[2]) * MINUTE)
        if found := re.fullmatch(r"([1-9][0-9]{0,3})([mh])", text):
            return cls(interval=int(found[1]) * (MINUTE if found[2] == "m" else HOUR))
        raise ValueError("must be a time of day such as 02:30, or an interval such as 90m or 6h")

    def __str__(self) -> str:
        """Return a text that `parse` takes."""
        if self.second is not None:
            return f"{self.second // HOUR:02}:{self.second % HOUR // MINUTE:02}"
        return f"{(self.interval or 0) // MINUTE}m"


def share_of(device: str) -> float:
    """Return where in the spread a device is, from 0 to less than 1, derived from its name."""
    return int.from_bytes(hashlib.sha256(device.encode()).digest()[:4]) / (1 << 32)


class Timetable:
    """Says when a look is due.

    Waits are counted on the monotonic clock. The clock of the device only tells whether it is the time of day, so that
    a step of years neither starts a look nor stops them.
    """

    def __init__(self, at: FetchAt, device: str, now: float) -> None:
        """`now`, here and in the methods, is in seconds of the monotonic clock."""
        self._at = at
        self._next = now
        self._begin = 0
        if at.interval is not None:
            self._next += min(at.interval, SPREAD_SECONDS) * share_of(device)
        if at.second is not None:
            self._begin = at.second + int(SPREAD_SECONDS * share_of(device))

    def is_due(self, now: float, second: int) -> bool:
        """Return whether a look is due at this `second` of the local day."""
        is_time = self._at.second is None or (second - self._begin) % DAY < WINDOW_SECONDS
        return is_time and now >= self._next

    def done(self, now: float) -> None:
        """Note that a look was made: the next one comes after the interval, or on another day."""
        # An hour more than the window lasts, because the local time may go back by one.
        self._next = now + (self._at.interval or WINDOW_SECONDS + HOUR)

    def postpone(self, now: float) -> None:
        """Note that a look found no API: it is made again soon."""
        self._next = now + min(self._at.interval or RETRY_SECONDS, RETRY_SECONDS)
