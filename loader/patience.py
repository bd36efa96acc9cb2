"""How long work that the API interrupts is tried again, and how long it waits in between."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from loader.errors import ApiError, ApiUnreachable, Checkpoint, LoaderError

log = logging.getLogger(__name__)

T = TypeVar("T")

_RANDOM = random.SystemRandom()
# The longest waits in seconds: after a first failure, after a second one, and after all later ones. One cut concerns
# one device, which continues soon. What fails again has probably stopped all devices, which then return over ten
# seconds, because an API that has just started could not serve all of them at once.
FIRST_WAIT = 0.25
OUTAGE_WAIT = 10.0
LONGEST_WAIT = 15.0
# How often a wait calls its checkpoint.
CHECK_SECONDS = 0.5
# Attempts at what the API refuses, such as with 403; a token of a CDN that expired passes with the second one.
MAX_REFUSALS = 6


class Patience:
    """Counts the time since the last progress of one piece of work. One thread uses it."""

    def __init__(self, seconds: float) -> None:
        """Give up once there was no progress for `seconds`."""
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Restart the time and the waits, because there was progress."""
        self._end = time.monotonic() + self._seconds
        self._wait = FIRST_WAIT
        self._refusals = 0

    def wait_after(self, failure: LoaderError) -> float | None:
        """Return the seconds to wait before the next attempt; None if it makes no sense, or would come too late.

        Each wait is random, and added to what the API asks for, because it asks many devices for the same.
        """
        # A certificate that lacks something lacks it the next time, too.
        if isinstance(failure, ApiUnreachable) and not failure.retryable:
            return None
        least = 0.0
        if isinstance(failure, ApiError):
            self._refusals += failure.lasting
            if failure.retry_after is not None:
                least, self._wait = failure.retry_after, max(self._wait, OUTAGE_WAIT)
        wait = least + _RANDOM.uniform(FIRST_WAIT / 2, self._wait)
        self._wait = min(max(2 * self._wait, OUTAGE_WAIT), LONGEST_WAIT)
        if self._refusals == MAX_REFUSALS or time.monotonic() + wait > self._end:
            return None
        return wait


def persist(send: Callable[[], T], seconds: float, subject: str, checkpoint: Checkpoint) -> T:
    """Call `send` until it succeeds, for `seconds` from the first failure on, and return its result.

    `subject` stands in the log. Raises its ApiUnreachable or ApiError once it makes no sense to try again, whatever
    else it raises at once, and what `checkpoint` raises.
    """
    patience = None
    while True:
        checkpoint()
        try:
            return send()
        except (ApiUnreachable, ApiError) as exc:
            # Count from the first failure, because the attempt before it may have sent for an hour.
            patience = patience or Patience(seconds)
            wait = None if isinstance(exc, ApiError) and exc.lasting else patience.wait_after(exc)
            if wait is None:
                raise
            log.info("%s failed, retry in %.2f s: %s", subject, wait, exc)
            pause(wait, checkpoint)


def pause(seconds: float, checkpoint: Checkpoint) -> None:
    """Wait. Raises what `checkpoint` raises, which is called every half second."""
    end = time.monotonic() + seconds
    while (rest := end - time.monotonic()) > 0:
        checkpoint()
        time.sleep(min(rest, CHECK_SECONDS))
