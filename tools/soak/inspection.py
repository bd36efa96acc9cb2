"""Inspects the worker during the soak, and the worker and the disk at its end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic, sleep

from tests.support.http_calls import CREDENTIALS, call, post_json
from tests.support.procfs import footprint
from tools.soak.world import World

MIB = 1 << 20
# The threads of the server, one for each transfer and each call to the engine, and the pool that decrypts segments.
MAX_THREADS = 64
MAX_DESCRIPTORS = 160
MAX_RSS = 320 * MIB
REST_SECONDS = 60.0
REST_POLL_SECONDS = 0.2
IN_THE_CACHE = re.compile(r"[0-9a-f]{64}\.(big|partial)|unlocked-manifest\.json|release-mark\.json|last-events\.json")


def worker_line(world: World) -> str:
    """Return the memory, threads and descriptors of the worker in one line."""
    try:
        held = footprint(world.loader.worker_pid)
    except (ValueError, OSError, KeyError):
        return "no worker at this moment"
    return f"rss {held.rss // MIB} MiB, threads {held.threads}, descriptors {held.descriptors}"


def faults_at_rest(world: World) -> Iterator[str]:
    """Wait until nothing runs, then yield a sentence for each fault of the worker, the disk and the log."""
    _wait_for_rest(world)
    yield from _last_unlock(world)
    worker = footprint(world.loader.worker_pid)
    limits = {
        "threads": (worker.threads, MAX_THREADS),
        "descriptors": (worker.descriptors, MAX_DESCRIPTORS),
        "bytes of memory": (worker.rss, MAX_RSS),
    }
    yield from (f"the worker has {held} {what}" for what, (held, limit) in limits.items() if held > limit)
    for path in sorted(world.device.rglob("*")):
        if path.is_file() and path != world.archive and not IN_THE_CACHE.fullmatch(path.name):
            yield f"{path.name} is left on the disk"
    try:
        world.loader.log_lines()
    except ValueError:
        yield "a line of the log is not JSON"


def _last_unlock(world: World) -> Iterator[str]:
    """Unlock once more, which must end what earlier unlocks left to do while the engine was away."""
    os.utime(world.archive)
    post_json(world.loader.url, "/unlock", CREDENTIALS)
    status = {"state": "starting"}
    deadline = monotonic() + REST_SECONDS
    while status["state"] not in ("ready", "error") and monotonic() < deadline:
        sleep(REST_POLL_SECONDS)
        status = call(world.loader.url, "GET", "/unlock/status").json()
    if status["state"] != "ready":
        yield f"the last unlock did not become ready: {status}"


def _wait_for_rest(world: World) -> None:
    deadline = monotonic() + REST_SECONDS
    while monotonic() < deadline:
        with suppress(OSError):
            if not call(world.loader.url, "GET", "/status").json()["cache"]["downloads"]:
                return
        sleep(REST_POLL_SECONDS)
