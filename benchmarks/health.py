"""The response time of `/health` while everything else is busy: the 99th percentile of each round."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from subprocess import PIPE

from benchmarks.devices import Device, packed_device
from benchmarks.images import noise_image
from benchmarks.measure import Contender, compare, p50_and_p99
from benchmarks.peers import REPOSITORY, python
from benchmarks.servers import private_dockerd, resource_api
from benchmarks.small_loads import PATH, load_clients, small_model
from benchmarks.tables import Result
from benchmarks.unlock import unlock_once
from benchmarks.workload import Workload

CLIENTS = 64
# Clients that ignore Retry-After retry at once.
AT_ONCE = 0.0
IDLE_SECONDS = 3.0


def health(work: Workload) -> Result:
    """Measure GET /health during an unlock and 64 clients that honour Retry-After or ignore it, and without clients."""
    with ExitStack() as running:
        place = running.enter_context(work.place("health"))
        engine, api = running.enter_context(private_dockerd()), running.enter_context(resource_api(place / "api"))
        locked = packed_device(engine, api, noise_image(engine, work, place).name, place)
        server = running.enter_context(locked.loader(place / "loader", "stream"))
        small_model(server.url, work)
        what = f"p99 of GET /health; an unlock runs, {CLIENTS} clients load"
        patient = Contender(f"{what}, and wait as Retry-After says", 0, partial(_busy, server.url, locked, None))
        hasty = Contender(f"{what}, and come again at once", 0, partial(_busy, server.url, locked, AT_ONCE))
        idle = Contender("p99 of GET /health; nothing else runs", 0, partial(_idle, server.url))
        return compare("liveness under load", work.rounds, patient, [lambda: hasty, lambda: idle])


def _busy(url: str, locked: Device, busy_seconds: float | None) -> float:
    locked.lock()
    clients = load_clients(url, "POST", PATH, clients=CLIENTS, count=0, busy_seconds=busy_seconds)
    with until_left(clients), until_left(python("benchmarks.health_probe", url)) as probe:
        unlock_once(url)
    return _p99(probe)


def _idle(url: str) -> float:
    with until_left(python("benchmarks.health_probe", url)) as probe:
        time.sleep(IDLE_SECONDS)
    return _p99(probe)


@contextmanager
def until_left(command: list[str]) -> Iterator[list[str]]:
    """Run `command` during the block, whose end closes its standard input. The list then contains its output."""
    printed: list[str] = []
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=PIPE, stdout=PIPE, text=True) as running:
        yield printed
        printed.append(running.communicate()[0])
    assert running.returncode == 0


def _p99(printed: list[str]) -> float:
    taken: list[float] = json.loads(printed[0])
    p50, p99 = p50_and_p99(taken)
    worst = f"p50 {1000 * p50:.1f} ms, p99 {1000 * p99:.1f} ms, worst {1000 * max(taken):.1f} ms"
    print(f"  {len(taken)} probes, all answered: {worst}", file=sys.stderr)
    return p99
