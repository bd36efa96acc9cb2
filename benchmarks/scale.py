"""A growing number of clients on one resource or on different ones: their rate, and the cost for the loader."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.health import until_left
from benchmarks.measure import p50_and_p99
from benchmarks.peers import REPOSITORY, RUN_SECONDS, curl, python, run
from benchmarks.plot import Panel, line_plot
from benchmarks.servers import loader, resource_api
from benchmarks.workload import MIB, Workload
from tests.support.loader_server import LoaderServer
from tests.support.procfs import peak_rss_bytes, reset_peak_rss, rss_bytes
from tests.support.resource_api_server import ResourceApiServer

CLIENTS = (1, 2, 4, 8, 16, 32)
ONE, DIFFERENT = "one resource", "different resources"
STEP_SECONDS = 3.0
# Each client has a slot, and as many threads stay free for the probe.
SLOTS, THREADS = "32", "64"
FOLDER = "scale"
# Together the resources have four times the size of the workload's data.
PARTS = 8
HEADING = f"{'MiB/s':>9}{'memory MiB':>12}{'p99 ms':>9}"


@dataclass(frozen=True)
class Sample:
    """One step of one round. `memory_mib` is the peak of the worker less its memory before the first step."""

    mib_per_second: float
    memory_mib: float
    probe_seconds: tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """A number of clients on one resource or on different ones, with a sample of each round."""

    clients: int
    resources: str
    samples: tuple[Sample, ...]

    @property
    def speed(self) -> float:
        """The MiB/s of all clients together, median of the rounds."""
        return statistics.median(sample.mib_per_second for sample in self.samples)

    @property
    def memory(self) -> float:
        """The highest memory of all rounds, in MiB."""
        return max(sample.memory_mib for sample in self.samples)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the probes of all rounds, in milliseconds."""
        _, p99 = p50_and_p99([second for sample in self.samples for second in sample.probe_seconds])
        return 1000 * p99


PANELS: dict[str, Callable[[Step], float]] = {
    "throughput, MiB/s": lambda step: step.speed,
    "memory of the worker, MiB": lambda step: step.memory,
    "p99 of GET /health, ms": lambda step: step.p99_ms,
}


@dataclass(frozen=True)
class Scale:
    """The table of the benchmark `scale`."""

    title: str
    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """Return the headings and a line for each number of clients."""
        headings = [f"{'':>7}{ONE:>30}{DIFFERENT:>30}", f"{'clients':>7}{HEADING}{HEADING}"]
        pairs = zip(self._steps(ONE), self._steps(DIFFERENT), strict=True)
        return [*headings, *(f"{one.clients:>7}{_cells(one)}{_cells(other)}" for one, other in pairs)]

    def document(self) -> dict[str, Any]:
        """Return every sample, ready for JSON."""
        return asdict(self)

    def svg(self) -> str:
        """Return the table as a plot."""
        one, different = self._steps(ONE), self._steps(DIFFERENT)
        panels = [
            Panel(heading, {ONE: [figure(step) for step in one], DIFFERENT: [figure(step) for step in different]})
            for heading, figure in PANELS.items()
        ]
        return line_plot(self.title, "clients", [step.clients for step in one], panels)

    def _steps(self, resources: str) -> list[Step]:
        return [step for step in self.steps if step.resources == resources]


def scale(work: Workload) -> Scale:
    """Measure 1 to 32 clients on a warm cache, all on the same resource and each on its own."""
    size = max(1, work.mib // PARTS)
    with ExitStack() as running:
        place = running.enter_context(work.place("scale"))
        api = running.enter_context(resource_api(place / "api"))
        names = _stored(work, size, api, place)
        rounds = [_round(number, work, api, names, place) for number in range(1, 1 + work.rounds)]
    steps = tuple(Step(*step, tuple(taken[step] for taken in rounds)) for step in rounds[0])
    return Scale(f"warm loads of {size} MiB by more and more clients", steps)


def _stored(work: Workload, size: int, api: ResourceApiServer, place: Path) -> list[str]:
    """Upload a resource of `size` MiB for each client and load it once, so that it is in the cache."""
    content = place / "content"
    with work.data.open("rb") as data, content.open("wb") as file:
        for _ in range(size):
            file.write(data.read(MIB))
    names = [f"{FOLDER}/{number}.bin" for number in range(max(CLIENTS))]
    with _loader(place / "first", api, place) as server:
        for name in names:
            target = f"{server.url}/upload/{name.rpartition('/')[2]}"
            run(curl("--form", f"folder={FOLDER}", "--form", f"file=@{content}", target))
        _loaded(server, 0, names)
    return names


def _loader(directory: Path, api: ResourceApiServer, place: Path) -> AbstractContextManager[LoaderServer]:
    """Start loaders that share one cache."""
    return loader(directory, api, MODEL_CACHE_DIR=str(place / "models"), MAX_TRANSFERS=SLOTS, LOADER_THREADS=THREADS)


def _round(
    number: int, work: Workload, api: ResourceApiServer, names: list[str], place: Path
) -> dict[tuple[int, str], Sample]:
    """Measure all steps with a new loader that has loaded once, because a first load leaves memory behind."""
    taken = {}
    with _loader(place / f"round-{number}", api, place) as server:
        _loaded(server, 0, names[:1])
        before = rss_bytes(server.worker_pid)
        for clients in CLIENTS:
            for resources, wanted in ((ONE, names[:1] * clients), (DIFFERENT, names[:clients])):
                sample = _sample(server, before, wanted)
                said = f"{sample.mib_per_second:6.0f} MiB/s {sample.memory_mib:6.1f} MiB  {clients} on {resources}"
                print(f"scale, round {number} of {work.rounds}: {said}", file=sys.stderr)
                taken[clients, resources] = sample
    return taken


def _sample(server: LoaderServer, before: int, names: list[str]) -> Sample:
    reset_peak_rss(server.worker_pid)
    with until_left(python("benchmarks.health_probe", server.url)) as probe:
        arrived = _loaded(server, STEP_SECONDS, names)
    memory = peak_rss_bytes(server.worker_pid) - before
    return Sample(arrived / MIB / STEP_SECONDS, memory / MIB, tuple(json.loads(probe[0])))


def _loaded(server: LoaderServer, seconds: float, names: list[str]) -> int:
    """Load with a client for each of `names` for `seconds`, at least once. Return the bytes that arrived."""
    command = python("benchmarks.scale_clients", server.url, str(seconds), *names)
    done = subprocess.run(
        command, cwd=REPOSITORY, check=True, timeout=RUN_SECONDS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    return int(json.loads(done.stdout))


def _cells(step: Step) -> str:
    return f"{step.speed:>9.0f}{step.memory:>12.1f}{step.p99_ms:>9.1f}"
