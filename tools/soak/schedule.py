"""Causes one trouble after the other, and checks that everything works again after each."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from time import monotonic

from tests.support.processes import poll
from tools.soak.tally import Tally
from tools.soak.troubles import TROUBLES, Trouble
from tools.soak.user import User
from tools.soak.world import World

LONGEST_PAUSE_SECONDS = 15.0
# The share of a short soak that a trouble takes, and the pause before it.
SHARE = 20
CHECK_SECONDS = 0.2
# The time after a trouble within which login, upload, load and /ready must succeed again.
RECOVERY_SECONDS = 30.0
# The name of a model that only this thread uploads.
CONTROL = "model-control"


class Schedule(threading.Thread):
    """Causes each trouble once, then each again in another order, until `over` is set; then everything runs again.

    `each_once` is set when every trouble was there.
    """

    def __init__(self, world: World, tally: Tally, over: threading.Event, seconds: float) -> None:
        """`seconds` is the duration of the soak, because a short soak needs shorter troubles and pauses."""
        super().__init__(name="troubles")
        self.each_once = threading.Event()
        self._tally, self._over = tally, over
        self._user = User(world, tally)
        self._seconds = seconds
        self._chance = random.Random("soak troubles")  # noqa: S311  # the same order at every run

    def run(self) -> None:
        """Cause the troubles."""
        for trouble in self._order():
            if self._over.wait(self._chance.uniform(0.5, 1) * min(LONGEST_PAUSE_SECONDS, self._seconds / SHARE)):
                return
            self._tally.trouble(trouble.name)
            try:
                self._cause(trouble)
            except AssertionError as exc:
                self._tally.violation(f"{trouble.name}: {str(exc).splitlines()[0]}")

    def _order(self) -> Iterator[Trouble]:
        yield from self._chance.sample(TROUBLES, len(TROUBLES))
        self.each_once.set()
        while True:
            yield from self._chance.sample(TROUBLES, len(TROUBLES))

    def _cause(self, trouble: Trouble) -> None:
        with self._tally.history.period(trouble.allowed, trouble.linger_seconds):
            with trouble.causing(self._user):
                self._wait(trouble)
            poll(self._works, RECOVERY_SECONDS, "everything works again")

    def _wait(self, trouble: Trouble) -> None:
        end = monotonic() + min(trouble.seconds, max(trouble.least_seconds, self._seconds / SHARE))
        while not self._over.wait(CHECK_SECONDS) and monotonic() < end:
            for fault in trouble.faults(self._user):
                self._tally.violation(f"{trouble.name}: {fault}")

    def _works(self) -> bool:
        """Return whether everything succeeds now. A client may lock in between, so a failure is no violation yet."""
        failed = self._user.login() or self._user.upload(CONTROL, self._chance) or self._user.load(CONTROL)
        return not failed and not self._user.ready()
