"""Causes failures around the loader, one at a time: restarts the API or the engine, or kills the worker."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus

from tests.support.http_probe import http_status
from tests.support.processes import ManagedProcess, poll
from tools.soak.tally import REVIVAL_SECONDS, Tally
from tools.soak.world import World

READY_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 15.0
LONGEST_ABSENCE_SECONDS = 4.0


class Troubles(threading.Thread):
    """Causes failures until `over` is set; afterwards everything runs again."""

    def __init__(self, world: World, tally: Tally, over: threading.Event, seconds: float) -> None:
        """`seconds` is the duration of the soak, because short soaks need shorter pauses."""
        super().__init__(name="troubles")
        self._world, self._tally, self._over = world, tally, over
        self._longest_pause = min(LONGEST_PAUSE_SECONDS, seconds / 5)
        self._chance = random.Random("soak troubles")  # noqa: S311  # the same order at every run
        self._kinds = [self._restart_api, self._restart_engine, self._kill_worker]

    def run(self) -> None:
        """Cause each kind of failure in turn, in random order."""
        order: Iterator[Callable[[], None]] = iter(())
        while not self._over.wait(self._chance.uniform(0.5, 1) * self._longest_pause):
            kind = next(order, None)
            if kind is None:
                order = iter(self._chance.sample(self._kinds, len(self._kinds)))
                kind = next(order)
            try:
                kind()
            except AssertionError as exc:
                self._tally.violation(str(exc).splitlines()[0])

    def _restart_api(self) -> None:
        self._tally.trouble("API restarted")
        self._restart(self._world.api.process, self._world.api.url, "/")

    def _restart_engine(self) -> None:
        self._tally.trouble("engine restarted")
        self._restart(self._world.engine_process, self._world.engine.host, "/_ping")

    def _restart(self, process: ManagedProcess, address: str, path: str) -> None:
        process.stop()
        self._over.wait(self._chance.uniform(0, LONGEST_ABSENCE_SECONDS))
        process.restart()
        process.wait_until(lambda: http_status(address, path) is not None, READY_SECONDS, f"{process.name} answers")

    def _kill_worker(self) -> None:
        loader = self._world.loader
        killed = loader.worker_pid
        self._tally.trouble("worker killed")
        self._tally.killed()
        os.kill(killed, signal.SIGKILL)

        def is_back() -> bool:
            return http_status(loader.url, "/health") == HTTPStatus.OK and loader.worker_pid != killed

        poll(is_back, REVIVAL_SECONDS, "a new worker answers")
        self._tally.revived()
