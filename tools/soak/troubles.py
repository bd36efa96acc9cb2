"""The troubles around the loader, as a table: how each is caused, how long it lasts, and what it excuses."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from tests.support.http_probe import http_status
from tests.support.processes import ManagedProcess, poll
from tools.soak.portal import Manner
from tools.soak.tally import ACTIONS, CUT, LOST
from tools.soak.user import User
from tools.soak.world import NAT_SECONDS

# The time within which a new worker must respond after a kill, also on a busy machine.
REVIVAL_SECONDS = 30.0
START_SECONDS = 60.0
# The time within which /ready must tell what is wrong with the disk.
TELL_SECONDS = 10.0
# After a trouble of the link, a request that was swallowed fails when API_READ_TIMEOUT is over.
LINGER_SECONDS = 12.0
SAMPLE = 3
DAY = 86_400
# A device whose clock has no battery starts in 1970.
SINCE_1970 = 56 * 365 * DAY


def _each(code: str, *actions: str) -> frozenset[str]:
    return frozenset(f"{action} {code}" for action in actions)


# An upload that the API interrupts only takes longer, because the patience of the loader outlasts each trouble. The
# same is true of a load that has begun; one that begins needs its small part from the API.
AWAY = _each("API_UNREACHABLE", "load", "login", "wrong login", "unlocked", "ready")
FULL = _each("DISK_SPACE", "load", "upload", "unlocked", "ready") | {f"load {CUT}"}
READ_ONLY = FULL | _each("STORAGE_ERROR", "load", "upload", "unlocked", "ready")
ENGINE = _each("ENGINE_UNAVAILABLE", "unlocked", "ready")
KILLED = _each(LOST, *ACTIONS) | {f"load {CUT}", "unlocked idle"}


@dataclass(frozen=True)
class Trouble:
    """A trouble that lasts as long as the block of `causing`: `seconds`, in a short soak less, but `least_seconds`.

    allowed: the actions and codes of the outcomes that may come meanwhile, beside those that may always come.
    linger_seconds: for how long after it they may still come.
    faults: called again and again meanwhile; yields a sentence for each thing that is not as it must be.
    """

    name: str
    causing: Callable[[User], AbstractContextManager[None]]
    seconds: float
    allowed: Collection[str] = ()
    linger_seconds: float = 0
    least_seconds: float = 0
    faults: Callable[[User], Iterator[str]] = lambda _: iter(())


@contextmanager
def _replica_restarted(user: User) -> Iterator[None]:
    replica = random.choice(user.world.replicas)  # noqa: S311  # either will do
    with _stopped(replica.process, replica.url, "/"):
        yield


@contextmanager
def _engine_restarted(user: User) -> Iterator[None]:
    with _stopped(user.world.engine_process, user.world.engine.host, "/_ping"):
        yield


@contextmanager
def _store_restarted(user: User) -> Iterator[None]:
    with _stopped(user.world.store.process, user.world.store.url, "/healthcheck"):
        yield


@contextmanager
def _stopped(process: ManagedProcess, address: str, path: str) -> Iterator[None]:
    process.stop()
    try:
        yield
    finally:
        process.restart()
        process.wait_until(lambda: http_status(address, path) is not None, START_SECONDS, f"{process.name} responds")


@contextmanager
def _worker_killed(user: User) -> Iterator[None]:
    killed = user.world.loader.worker_pid
    os.kill(killed, signal.SIGKILL)

    def is_back() -> bool:
        return http_status(user.world.loader.url, "/health") == HTTPStatus.OK and user.world.loader.worker_pid != killed

    poll(is_back, REVIVAL_SECONDS, "a new worker responds")
    yield


@contextmanager
def _silence(user: User) -> Iterator[None]:
    user.world.silence.set()
    try:
        yield
    finally:
        user.world.silence.clear()


@contextmanager
def _portal(user: User, manner: Manner) -> Iterator[None]:
    user.world.portal.manner = manner
    with user.world.link.leading_to(user.world.portal.url):
        yield


@contextmanager
def _disk_full(user: User) -> Iterator[None]:
    """Fill the disk; at last also what removing all parts from the cache frees, so that no model fits any more."""

    def is_told() -> bool:
        user.clear_cache()
        user.world.disk.fill()
        return "DISK_SPACE" in user.ready()

    user.world.disk.fill()
    try:
        yield
        poll(is_told, TELL_SECONDS, "/ready tells that the disk of the cache is full")
    finally:
        user.world.disk.empty()


@contextmanager
def _disk_read_only(user: User) -> Iterator[None]:
    user.world.disk.fill()
    try:
        with user.world.disk.read_only():
            poll(lambda: "STORAGE_ERROR" in user.ready(), TELL_SECONDS, "/ready tells that the disk is read-only")
            yield
    finally:
        user.world.disk.empty()


def _filled_again(user: User) -> Iterator[str]:
    user.world.disk.fill()
    return _unserved(user)


def _unserved(user: User) -> Iterator[str]:
    """Load some models, and yield a sentence for each one that is whole on the disk and was not served."""
    names = user.world.models.names()
    for name in random.sample(names, min(SAMPLE, len(names))):
        part = user.world.disk.whole_part(name)
        code = user.load(name)
        if code == "NOT_LOGGED_IN":
            user.login()
        elif code not in ("", "BUSY") and part is not None and part == user.world.disk.whole_part(name):
            yield f"a model that is whole on the disk was not served: {code}"


TROUBLES = (
    Trouble("replica restarted", _replica_restarted, 4, AWAY),
    Trouble("store restarted", _store_restarted, 10, AWAY),
    Trouble("API refused connections", lambda user: user.world.link.refusing(), 60, AWAY, LINGER_SECONDS),
    Trouble("API swallowed bytes", lambda user: user.world.link.swallowing(), 60, AWAY, LINGER_SECONDS),
    Trouble("portal with a page", partial(_portal, manner=Manner.PAGE), 20, AWAY, LINGER_SECONDS),
    Trouble("portal that redirects", partial(_portal, manner=Manner.REDIRECT), 20, AWAY, LINGER_SECONDS),
    Trouble("portal without a type", partial(_portal, manner=Manner.UNTYPED), 20, AWAY, LINGER_SECONDS),
    Trouble("clients silent", _silence, NAT_SECONDS + 1, least_seconds=NAT_SECONDS + 1),
    Trouble("disk full", _disk_full, 20, FULL, faults=_filled_again),
    Trouble("disk read-only", _disk_read_only, 20, READ_ONLY, faults=_unserved),
    Trouble("engine restarted", _engine_restarted, 4, ENGINE),
    Trouble("clock a day ahead", lambda user: user.world.clock.stepped(DAY), 10),
    Trouble("clock in 1970", lambda user: user.world.clock.stepped(-SINCE_1970), 10),
    Trouble("worker killed", _worker_killed, 0, KILLED),
)
