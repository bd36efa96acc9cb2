"""Calls that may be left behind when the process is told to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import TypeVar

from loader.errors import Interrupted

T = TypeVar("T")

LOOK_SECONDS = 0.1


class Interrupter:
    """`stop` ends every call that runs through `call`, now or later. Safe to call from a signal handler."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def stop(self, reason: str) -> None:
        """From now on nothing is waited for. `reason` ends the sentence that says so, as in "it was told to stop"."""
        self._reason = reason

    def checkpoint(self) -> None:
        """Raises Interrupted after `stop`."""
        if self._reason is not None:
            raise Interrupted(f"The unlock was interrupted because {self._reason}.")

    def call(self, work: Callable[[], T], patience: Callable[[], float] = lambda: 0.0) -> T:
        """The result of `work`, or what it raises.

        After `stop` it has `patience()` seconds left, asked again and again; then Interrupted is raised and `work` is
        left to itself, in a thread that does not keep the process alive: a call that waits for the network cannot be
        ended from outside.
        """
        self.checkpoint()
        context = copy_context()
        result = begin(lambda: context.run(work), "call")
        stopped_at: float | None = None
        while not wait([result], timeout=LOOK_SECONDS).done:
            if self._reason is not None:
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() >= stopped_at + patience():
                    self.checkpoint()
        if result.exception() is not None:
            # Whatever it says: what it lived by may have been taken from it.
            self.checkpoint()
        return result.result()


def begin(work: Callable[[], T], name: str) -> Future[T]:
    """The result to come of `work`, done in a thread of this name that does not keep the process alive."""
    result: Future[T] = Future()
    threading.Thread(target=_fulfil, args=(result, work), name=name, daemon=True).start()
    return result


def _fulfil(result: Future[T], work: Callable[[], T]) -> None:
    try:
        result.set_result(work())
    except BaseException as exc:  # noqa: BLE001  # whatever it is, somebody waits for it
        result.set_exception(exc)
