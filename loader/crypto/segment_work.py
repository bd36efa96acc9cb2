"""Segments in work ahead of the thread that wants them: done by helpers, or by that thread itself where none has begun.

The cipher releases the interpreter lock, so that a helper for each further core keeps all of them busy. A thread that
only waited for helpers would cost a core its time at every hand-over. But of many streams at once only one works beside
the helpers: more threads than cores would spend their time on taking that lock from each other.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

MAX_CORES = 4
# Held by the one thread that works beside the helpers.
_beside = threading.Lock()


class SegmentWork:
    """A queue of work on segments, for one consumer: results come out in the order in which work was put in."""

    def __init__(self) -> None:
        self._pending: deque[_Work] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, do: Callable[[], memoryview], *, alone: bool = False) -> None:
        """Let `do` be done. If it is `alone`, there is nothing to do beside it, and no helper is asked."""
        work = _Work(do)
        self._pending.append(work)
        if not alone and (helpers := _helpers()) is not None:
            # At the end of the process they take nothing any more; the consumer still can.
            with suppress(RuntimeError):
                helpers.submit(work.run)
                work.helped = True

    def get(self) -> memoryview:
        """The oldest result, or what its work raised."""
        oldest = self._pending.popleft()
        if not oldest.helped:
            oldest.run()
        elif _beside.acquire(blocking=False):
            try:
                self._work_until_done(oldest)
            finally:
                _beside.release()
        return oldest.result()

    def _work_until_done(self, oldest: _Work) -> None:
        for work in (oldest, *self._pending):
            if oldest.is_done:
                break
            work.run()


class _Work:
    """Done once, by whoever comes first."""

    def __init__(self, do: Callable[[], memoryview]) -> None:
        self._do = do
        self.helped = False
        self._result: memoryview | Exception
        self._begun = threading.Lock()
        self._running = threading.Lock()
        self._running.acquire()

    @property
    def is_done(self) -> bool:
        return not self._running.locked()

    def run(self) -> bool:
        """Do it, unless somebody has begun to; whether it was done here."""
        if not self._begun.acquire(blocking=False):
            return False
        try:
            self._result = self._do()
        except Exception as exc:  # noqa: BLE001  # it belongs to the consumer
            self._result = exc
        finally:
            self._running.release()
        return True

    def result(self) -> memoryview:
        with self._running:
            if isinstance(self._result, Exception):
                raise self._result
            return self._result


@functools.cache
def _helpers() -> ThreadPoolExecutor | None:
    """Shared by all streams, so that many transfers do not mean many threads; made at the first long stream."""
    cores = min(MAX_CORES, os.cpu_count() or 1)
    return ThreadPoolExecutor(cores - 1, thread_name_prefix="segments") if cores > 1 else None
