"""Work in threads that do not keep the process alive, because nothing can end what they wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def start_daemon(work: Callable[[], T], name: str) -> Future[T]:
    """Start `work` in a daemon thread called `name`, and return its future result."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as exc:  # noqa: BLE001  # the caller gets every error from the future
            result.set_exception(exc)

    threading.Thread(target=run, name=name, daemon=True).start()
    return result
