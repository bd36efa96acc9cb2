"""A user of the loader: sends requests, compares the bytes that come back, and counts each outcome."""

from __future__ import annotations

import http.client
import json
import random

from tests.support.http_calls import BOUNDARY, CREDENTIALS, Reply, call, form, part
from tools.soak.models import FOLDER, SIZES
from tools.soak.tally import CUT, LOST, Tally
from tools.soak.world import PATIENCE_SECONDS, World

# Longer than any response may be silent, so that the tally and not the socket decides what takes too long.
SILENCE_SECONDS = PATIENCE_SECONDS + 30.0
JSON = {"Content-Type": "application/json"}
# What a lock may end, beside what needs a login anyway.
LOCKED = {"login NOT_LOGGED_IN", "wrong login NOT_LOGGED_IN", "unlocked INTERRUPTED", f"load {CUT}"}
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


class User:
    """Uses the loader of `world`; threads may share it.

    Each method but `ready` returns the code of the outcome, which is empty for a success.
    """

    def __init__(self, world: World, tally: Tally) -> None:
        self.world = world
        self._url, self._models, self._tally = world.loader.url, world.models, tally

    def load(self, name: str) -> str:
        """Load a model. Wrong bytes are a violation, and so is a model that is older or gone after its upload."""
        with self._tally.guarded("load") as since:
            least = self._models.confirmed(name)
            try:
                reply = self._post(f"/load/{name}", {"filename": name, "folder": FOLDER})
            except http.client.IncompleteRead as exc:
                self._check(name, exc.partial, least, whole=False)
                self._tally.outcome("load", 200, CUT, since)
                return CUT
            if reply.status == 200:
                self._check(name, reply.body, least, whole=True)
            code = code_of(reply)
            is_new = least < 0 and code == "RESOURCE_NOT_FOUND"
            self._tally.outcome("load of a new name" if is_new else "load", reply.status, code, since)
            return code
        return LOST

    def upload(self, name: str, chance: random.Random) -> str:
        """Upload a new version of a model."""
        version, content = self._models.next_version(name, chance.choice(SIZES))
        parts = [part("folder", FOLDER.encode()), part("file", content, filename="x")]
        if chance.random() < 0.3:
            parts.reverse()
        with self._tally.guarded("upload") as since:
            reply = call(self._url, "POST", f"/upload/{name}", form(*parts), FORM, SILENCE_SECONDS)
            if reply.status == 200:
                self._models.confirm(name, version)
            return self._noted("upload", reply, since)
        return LOST

    def login(self) -> str:
        """Log in."""
        return self._asked("login", "/login", CREDENTIALS)

    def login_wrongly(self) -> str:
        """Log in with a wrong password."""
        return self._asked("wrong login", "/login", {**CREDENTIALS, "password": "a wrong one"})

    def lock(self) -> str:
        """Lock, which ends what needs the login."""
        with self._tally.history.period(LOCKED):
            return self._asked("lock", "/lock", {})

    def unlock(self) -> str:
        """Start an unlock."""
        return self._asked("unlock", "/unlock", CREDENTIALS)

    def clear_cache(self) -> str:
        """Remove all parts that are not in use from the cache of the loader."""
        return self._asked("clear", "/cache/clear", {})

    def health(self) -> str:
        """Ask whether the loader is alive."""
        with self._tally.guarded("health") as since:
            return self._noted("health", call(self._url, "GET", "/health"), since)
        return LOST

    def ready(self) -> list[str]:
        """Return the codes of all reasons why the loader is not ready."""
        with self._tally.guarded("ready") as since:
            reply = call(self._url, "GET", "/ready")
            if reply.status != 503:
                return list(filter(None, [self._noted("ready", reply, since)]))
            reasons: list[str] = json.loads(reply.body)["reasons"]
            for reason in reasons:
                self._tally.outcome("ready", reply.status, reason, since)
            return reasons
        return [LOST]

    def _asked(self, action: str, path: str, document: object) -> str:
        with self._tally.guarded(action) as since:
            return self._noted(action, self._post(path, document), since)
        return LOST

    def _post(self, path: str, document: object) -> Reply:
        return call(self._url, "POST", path, json.dumps(document).encode(), JSON, SILENCE_SECONDS)

    def _noted(self, action: str, reply: Reply, since: float) -> str:
        code = code_of(reply)
        self._tally.outcome(action, reply.status, code, since)
        return code

    def _check(self, name: str, received: bytes, least: int, *, whole: bool) -> None:
        if not self._models.known(name, received, least, whole=whole):
            self._tally.violation(f"{len(received)} wrong bytes of {name}")


def code_of(reply: Reply) -> str:
    """Return the code of a response that reports a problem, or an empty string for any other response."""
    problem = reply.headers["Content-Type"] == "application/problem+json"
    return str(json.loads(reply.body)["code"]) if problem else ""
