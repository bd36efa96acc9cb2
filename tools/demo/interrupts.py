"""Turns Ctrl-C and similar signals into one exception, which is never raised between a start and its clean-up note.

What a signal does is set for the whole process, hence the state of this module.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Ctrl-C ends the process without a traceback while modules are imported, because there is nothing to clean up yet.
signal.signal(signal.SIGINT, signal.SIG_DFL)


class Interrupted(BaseException):
    """A signal asked the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Receiver:
    """Raises `Interrupted` for the first signal, at once or at the end of the last delay. Ignores later signals."""

    def __init__(self) -> None:
        self.shields = 0
        self.waiting: int | None = None
        self.over = False

    def receive(self, number: int, _frame: FrameType | None) -> None:
        if self.over:
            return
        if self.shields:
            self.waiting = number
            return
        self.over = True
        raise Interrupted(number)


_receiver = _Receiver()


def install() -> None:
    """From now on the first SIGINT, SIGTERM or SIGHUP raises `Interrupted` in the main thread."""
    for number in ENDING:
        # A signal that `nohup` ignores stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receiver.receive)


def interrupt(number: int) -> None:
    """Act as if the signal had arrived."""
    _receiver.receive(number, None)


def ignore() -> None:
    """Ignore all signals from now on, because the clean-up runs."""
    _receiver.over = True


@contextmanager
def shielded() -> Iterator[None]:
    """Delay signals until the end of the block."""
    _receiver.shields += 1
    try:
        yield
    finally:
        _receiver.shields -= 1
        if not _receiver.shields and _receiver.waiting is not None:
            _receiver.receive(_receiver.waiting, None)
