"""Transfer slots: how many loads, uploads and cache verifications run at a time. The other threads stay free."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

from loader.errors import Busy

# Not one and the same for all: those who were turned away together would come again together.
RETRY_AFTER_SECONDS = range(1, 4)


class TransferSlots:
    """`count` slots. Taking one never waits: a thread that waited would be missing elsewhere."""

    def __init__(self, count: int) -> None:
        self._slots = threading.BoundedSemaphore(count)

    def take(self) -> Callable[[], None]:
        """Take a slot; returns the function that gives it back, which may be called twice. Raises Busy."""
        if not self._slots.acquire(blocking=False):
            raise Busy("All transfer slots are taken.", secrets.choice(RETRY_AFTER_SECONDS))
        held = threading.Lock()

        def give_back() -> None:
            if held.acquire(blocking=False):
                self._slots.release()

        return give_back
