"""The users of the loader: clients that load, upload, log in and lock, an operator that unlocks, and a prober."""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
from contextlib import suppress
from time import monotonic

import docker.errors
import requests.exceptions

from tests.support.archives import APP, DATABASE
from tests.support.http_calls import CREDENTIALS, Reply, call, load, login, post_json, upload
from tests.support.images import remove_image
from tools.soak.tally import Tally
from tools.soak.world import FOLDER, World

BETWEEN_UNLOCKS_SECONDS = 2.0
POLL_SECONDS = 0.1
STUCK_SECONDS = 60.0
# Stay below five wrong logins a minute, because five make all logins wait.
WRONG_LOGIN_SECONDS = 30.0
AT_REST = ("idle", "ready", "error")
ACTIONS, WEIGHTS = ("load", "upload", "login", "lock"), (80, 15, 4, 1)


class Client(threading.Thread):
    """Loads and uploads models, logs in if nobody is logged in, and sometimes locks."""

    def __init__(self, world: World, tally: Tally, over: threading.Event, number: int) -> None:
        super().__init__(name=f"client-{number}")
        self._url, self._models, self._tally, self._over = world.loader.url, world.models, tally, over
        self._number = number
        self._chance = random.Random(f"soak client {number}")  # noqa: S311  # the same choices at every run
        self._next_wrong_login = monotonic()
        self._actions = {"load": self._load, "upload": self._upload, "login": self._login, "lock": self._lock}

    def run(self) -> None:
        """Act until `over` is set."""
        self._act("upload")
        while not self._over.wait(self._chance.uniform(0, 0.1)):
            self._act(*self._chance.choices(ACTIONS, WEIGHTS))

    def _act(self, action: str) -> None:
        code = ""

        def do() -> None:
            nonlocal code
            code = self._actions[action]()

        self._tally.guarded(action, do)
        if code == "NOT_LOGGED_IN":
            self._act("login")

    def _load(self) -> str:
        name = self._chance.choice(self._models.names())
        try:
            reply = load(self._url, FOLDER, name)
        except http.client.IncompleteRead as exc:
            self._check(name, exc.partial, whole=False)
            self._tally.outcome("load", 200, "CUT")
            return ""
        if reply.status == 200:
            self._check(name, reply.body, whole=True)
        return _noted(self._tally, "load", reply)

    def _check(self, name: str, received: bytes, *, whole: bool) -> None:
        if not self._models.known(name, received, whole):
            self._tally.violation(f"wrong bytes of {name}")

    def _upload(self) -> str:
        name = f"model-{self._number}-{self._chance.randint(0, 3)}"
        content = self._models.next_version(name, self._chance)
        file_first = self._chance.random() < 0.3
        return _noted(self._tally, "upload", upload(self._url, FOLDER, name, content, file_first=file_first))

    def _login(self) -> str:
        credentials = CREDENTIALS
        if self._number == 0 and monotonic() > self._next_wrong_login:
            credentials = {**CREDENTIALS, "password": "a wrong one"}
            self._next_wrong_login = monotonic() + WRONG_LOGIN_SECONDS
        return _noted(self._tally, "login", login(self._url, credentials))

    def _lock(self) -> str:
        return _noted(self._tally, "lock", call(self._url, "POST", "/lock"))


class Operator(threading.Thread):
    """Takes the images from the engine and unlocks, again and again; an unlock that stands still is a violation."""

    def __init__(self, world: World, tally: Tally, over: threading.Event) -> None:
        super().__init__(name="operator")
        self._world, self._tally, self._over = world, tally, over

    def run(self) -> None:
        """Unlock until `over` is set; wait for the end of the last unlock."""
        while not self._over.wait(BETWEEN_UNLOCKS_SECONDS):
            # The engine may be stopped at this moment; the unlock reports that too.
            with suppress(docker.errors.DockerException, requests.exceptions.RequestException):
                for reference in (APP, DATABASE):
                    remove_image(self._world.engine, reference)
            os.utime(self._world.archive)  # because an unlock skips an archive that it knows
            self._tally.guarded("unlock", self._unlock)

    def _unlock(self) -> None:
        if _noted(self._tally, "unlock", post_json(self._world.loader.url, "/unlock", CREDENTIALS)):
            return
        seen, since = self._status(), monotonic()
        while seen["state"] not in AT_REST:
            self._over.wait(POLL_SECONDS)
            now = self._status()
            if now != seen:
                seen, since = now, monotonic()
            elif monotonic() - since > STUCK_SECONDS:
                self._tally.violation(f"an unlock stands still: {now}")
                return
        self._tally.outcome("unlocked", 200, str(seen["code"] or seen["state"]))

    def _status(self) -> dict[str, object]:
        """Return the fields that change only if the unlock makes progress; times and rates change always."""
        document = call(self._world.loader.url, "GET", "/unlock/status").json()
        return {name: document[name] for name in ("state", "code", "step", "bytes_done")}


class Prober(threading.Thread):
    """Requests /health again and again."""

    def __init__(self, world: World, tally: Tally, over: threading.Event) -> None:
        super().__init__(name="prober")
        self._world, self._tally, self._over = world, tally, over

    def run(self) -> None:
        """Act until `over` is set."""
        while not self._over.wait(POLL_SECONDS):
            self._tally.guarded("health", self._probe)

    def _probe(self) -> None:
        reply = call(self._world.loader.url, "GET", "/health")
        if reply.status != 200:
            self._tally.violation(f"/health: {reply.status}")
        self._tally.outcome("health", reply.status)


def _noted(tally: Tally, action: str, reply: Reply) -> str:
    """Count a response and return the code of a problem, or an empty string for any other response."""
    problem = reply.headers["Content-Type"] == "application/problem+json"
    code = str(json.loads(reply.body)["code"]) if problem else ""
    tally.outcome(action, reply.status, code)
    return code
