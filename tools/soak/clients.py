"""The users of the loader: clients that load, upload, log in and lock, an operator, a prober, and a stranger."""

from __future__ import annotations

import os
import random
import threading
from contextlib import ExitStack, suppress
from time import monotonic, sleep

import docker.errors
import requests.exceptions

from tests.support.archives import APP, DATABASE
from tests.support.hostile_clients import KINDS
from tests.support.http_calls import call, open_socket
from tests.support.images import remove_image
from tools.soak.tally import Tally
from tools.soak.user import User
from tools.soak.world import World

BETWEEN_UNLOCKS_SECONDS = 2.0
POLL_SECONDS = 0.1
STUCK_SECONDS = 60.0
# Stay below five wrong logins a minute, because five make all logins wait.
WRONG_LOGIN_SECONDS = 30.0
# A stranger holds this many connections, each for this long.
HOSTILE_CONNECTIONS = 24
HOSTILE_SECONDS = 3.0
AT_REST = ("idle", "ready", "error")
ACTIONS, WEIGHTS = ("load", "upload", "login", "lock"), (80, 15, 4, 1)


class Client(threading.Thread):
    """Loads and uploads models, logs in if nobody is logged in, and sometimes locks."""

    def __init__(self, world: World, tally: Tally, over: threading.Event, number: int) -> None:
        super().__init__(name=f"client-{number}")
        self._world, self._over, self._number = world, over, number
        self._user = User(world, tally)
        self._chance = random.Random(f"soak client {number}")  # noqa: S311  # the same choices at every run
        self._next_wrong_login = monotonic()
        self._actions = {"load": self._load, "upload": self._upload, "login": self._login, "lock": self._user.lock}

    def run(self) -> None:
        """Act until `over` is set."""
        self._act("upload")
        while not self._over.wait(self._chance.uniform(0, 0.1)):
            if not self._world.silence.is_set():
                self._act(*self._chance.choices(ACTIONS, WEIGHTS))

    def _act(self, action: str) -> None:
        if self._actions[action]() == "NOT_LOGGED_IN":
            self._login()

    def _load(self) -> str:
        return self._user.load(self._chance.choice(self._world.models.names()))

    def _upload(self) -> str:
        return self._user.upload(f"model-{self._number}-{self._chance.randint(0, 3)}", self._chance)

    def _login(self) -> str:
        if self._number == 0 and monotonic() > self._next_wrong_login:
            self._next_wrong_login = monotonic() + WRONG_LOGIN_SECONDS
            return self._user.login_wrongly()
        return self._user.login()


class Operator(threading.Thread):
    """Takes the images from the engine and unlocks, again and again; an unlock that stands still is a violation."""

    def __init__(self, world: World, tally: Tally, over: threading.Event) -> None:
        super().__init__(name="operator")
        self._world, self._tally, self._over = world, tally, over
        self._user = User(world, tally)

    def run(self) -> None:
        """Unlock until `over` is set; wait for the end of the last unlock."""
        while not self._over.wait(BETWEEN_UNLOCKS_SECONDS):
            # The engine may be stopped at this moment; the unlock reports that too.
            with suppress(docker.errors.DockerException, requests.exceptions.RequestException):
                for reference in (APP, DATABASE):
                    remove_image(self._world.engine, reference)
            os.utime(self._world.archive)  # because an unlock skips an archive that it knows
            with self._tally.guarded("unlock") as since:
                self._unlock(since)

    def _unlock(self, started: float) -> None:
        if self._user.unlock():
            return
        seen, since = self._status(), monotonic()
        while seen["state"] not in AT_REST:
            sleep(POLL_SECONDS)
            now = self._status()
            if now != seen:
                seen, since = now, monotonic()
            elif monotonic() - since > STUCK_SECONDS:
                self._tally.violation(f"an unlock stands still: {now}")
                return
        # A worker that was killed meanwhile knows of no unlock.
        code = str(seen["code"] or ("" if seen["state"] == "ready" else seen["state"]))
        self._tally.outcome("unlocked", 200, code, started)

    def _status(self) -> dict[str, object]:
        """Return the fields that change only if the unlock makes progress; times and rates change always."""
        document = call(self._world.loader.url, "GET", "/unlock/status").json()
        return {name: document[name] for name in ("state", "code", "step", "bytes_done")}


class Prober(threading.Thread):
    """Requests /health and /ready again and again."""

    def __init__(self, world: World, tally: Tally, over: threading.Event) -> None:
        super().__init__(name="prober")
        self._user, self._over = User(world, tally), over

    def run(self) -> None:
        """Act until `over` is set."""
        while not self._over.wait(POLL_SECONDS):
            self._user.health()
            self._user.ready()


class Stranger(threading.Thread):
    """Opens connections that hold up the loader if they can."""

    def __init__(self, world: World, over: threading.Event) -> None:
        super().__init__(name="stranger")
        self._url, self._over = world.loader.url, over

    def run(self) -> None:
        """Open connections of all kinds, hold them and drop them, until `over` is set."""
        while not self._over.is_set():
            with ExitStack() as opened:
                # The loader may refuse a connection or end it, and is away for a moment after a kill.
                for kind in KINDS * (HOSTILE_CONNECTIONS // len(KINDS)):
                    with suppress(OSError):
                        kind(opened.enter_context(open_socket(self._url)))
                self._over.wait(HOSTILE_SECONDS)
