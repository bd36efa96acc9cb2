"""Ends calls that wait for a network or an engine, when the loader is locked or told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from contextvars import copy_context
from typing import TypeVar

from loader.background import start_daemon
from loader.errors import Interrupted

T = TypeVar("T")

# How often a waiting call checks whether it was interrupted.
POLL_SECONDS = 0.1


class Interrupter:
    """Ends the calls that run through `call`. `stop` may be called from a signal handler."""

    def __init__(self, work: str = "unlock", hint: str | None = None) -> None:
        """`work` and `hint` are for the errors, whose class has the hint for an unlock."""
        self._work = work
        self._hint = hint
        self._reason: str | None = None
        self._leaving = threading.Lock()
        self._is_left = False
        self._is_committed = False

    def stop(self, reason: str) -> None:
        """End every current and later call. `reason` completes the sentence "... was interrupted because"."""
        self._reason = reason

    def checkpoint(self) -> None:
        """Raise Interrupted if `stop` was called."""
        if self._reason is not None:
            raise Interrupted(f"The {self._work} was interrupted because {self._reason}.", hint=self._hint)

    def commit(self) -> None:
        """Make `call` wait for the end of its work from now on. Raises Interrupted if `call` has left the work behind.

        Called by the work itself before its last step, because a caller that was told of an interrupt must find nothing
        changed.
        """
        with self._leaving:
            if self._is_left:
                self.checkpoint()
            self._is_committed = True

    def call(self, work: Callable[[], T], patience: Callable[[], float] = lambda: 0.0) -> T:
        """Return the result of `work`, or raise what it raises.

        After `stop`, `work` has `patience()` seconds left, which is asked again at each check. Then this raises
        Interrupted and leaves `work` running in a daemon thread, because a call that waits for the network cannot be
        ended from outside.
        """
        self.checkpoint()
        context = copy_context()
        result = start_daemon(lambda: context.run(work), "call")
        stopped_at: float | None = None
        while not wait([result], timeout=POLL_SECONDS).done:
            if self._reason is not None:
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() >= stopped_at + patience():
                    self._leave()
        if result.exception() is not None:
            # Interrupted replaces any error after `stop`, because the interrupt may have caused that error.
            self.checkpoint()
        return result.result()

    def _leave(self) -> None:
        with self._leaving:
            if not self._is_committed:
                self._is_left = True
                self.checkpoint()
