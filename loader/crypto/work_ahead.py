"""Work done ahead of its consumer, on all cores.

Ciphers, hashes and compression release the GIL, so that a helper thread for each further core keeps all cores busy. The
consumer works too instead of waiting, because a hand-over between threads costs time. Of many queues only one consumer
works beside the helpers, because more threads than cores would spend their time on taking the GIL from each other.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

# One piece of work for the consumer, one for a helper, and one that waits for the first of them to finish.
READ_AHEAD = 3
MAX_CORES = 8
CORES = min(MAX_CORES, os.cpu_count() or 1)

# Held by the one consumer that works beside the helpers.
_beside_helpers = threading.Lock()


class WorkAhead(Generic[T]):
    """A queue of work for one consumer, which gets the results in the order of the work."""

    def __init__(self) -> None:
        self._pending: deque[_Work[T]] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, do: Callable[[], T], *, alone: bool = False) -> None:
        """Queue `do`. No helper is asked if the work is `alone`, because the consumer would only wait."""
        self._pending.append(_Work(do, None if alone else _submitted(do)))

    def get(self) -> T:
        """Return the oldest result, or raise what its work raised."""
        oldest = self._pending.popleft()
        if oldest.helped is None:
            return oldest.do()
        if _beside_helpers.acquire(blocking=False):
            try:
                for work in (oldest, *self._pending):
                    if oldest.helped.done():
                        break
                    work.do_unless_started()
            finally:
                _beside_helpers.release()
        return oldest.helped.result()


class _Work(Generic[T]):
    """Work that a helper does, or the consumer if no helper has started it."""

    def __init__(self, do: Callable[[], T], helped: Future[T] | None) -> None:
        self.do = do
        self.helped = helped

    def do_unless_started(self) -> None:
        if self.helped is not None and self.helped.cancel():
            self.helped = Future()
            try:
                self.helped.set_result(self.do())
            except Exception as exc:  # noqa: BLE001  # the consumer gets it in its turn
                self.helped.set_exception(exc)


def _submitted(do: Callable[[], T]) -> Future[T] | None:
    helpers = _helpers()
    if helpers is not None:
        # At the end of the process the helpers take no more work.
        with suppress(RuntimeError):
            return helpers.submit(do)
    return None


@functools.cache
def _helpers() -> ThreadPoolExecutor | None:
    """Return the helpers that all queues share, so that many transfers do not mean many threads."""
    return ThreadPoolExecutor(CORES - 1, thread_name_prefix="work") if CORES > 1 else None
