"""More and more clients on one resource, and on as many: what they get, and what it costs the loader."""

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
# Each client gets a slot, and as many threads stay free for the probe.
SLOTS, THREADS = "32", "64"
FOLDER = "scale"
# So that the resources make four times the workload's data.
PARTS = 8
HEADING = f"{'MiB/s':>9}{'memory MiB':>12}{'p99 ms':>9}"


@dataclass(frozen=True)
class Sample:
    """One step of one round. `memory_mib` is the worker's highest, less what it had before the first step."""

    mib_per_second: float
    memory_mib: float
    probe_seconds: tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """A number of clients on ONE or DIFFERENT, with a sample of each round."""

    clients: int
    resources: str
    samples: tuple[Sample, ...]

    @property
    def speed(self) -> float:
        """MiB/s over all clients, the median of the rounds."""
        return statistics.median(sample.mib_per_second for sample in self.samples)

    @property
    def memory(self) -> float:
        """MiB, the highest of the rounds."""
        return max(sample.memory_mib for sample in self.samples)

    @property
    def p99_ms(self) -> float:
        """The 99th centile, in milliseconds, of the probes of all rounds."""
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
        """A line for each number of clients, below the headings."""
        headings = [f"{'':>7}{ONE:>30}{DIFFERENT:>30}", f"{'clients':>7}{HEADING}{HEADING}"]
        pairs = zip(self._steps(ONE), self._steps(DIFFERENT), strict=True)
        return [*headings, *(f"{one.clients:>7}{_cells(one)}{_cells(other)}" for one, other in pairs)]

    def document(self) -> dict[str, Any]:
        """Every sample, ready for JSON."""
        return asdict(self)

    def svg(self) -> str:
        """The same as a plot."""
        one, different = self._steps(ONE), self._steps(DIFFERENT)
        panels = [
            Panel(heading, {ONE: [figure(step) for step in one], DIFFERENT: [figure(step) for step in different]})
            for heading, figure in PANELS.items()
        ]
        return line_plot(self.title, "clients", [step.clients for step in one], panels)

    def _steps(self, resources: str) -> list[Step]:
        return [step for step in self.steps if step.resources == resources]


def scale(work: Workload) -> Scale:
    """1 to 32 clients, each through its own connection, all on the same resource or each on its own; warm."""
    size = max(1, work.mib // PARTS)
    with ExitStack() as running:
        place = running.enter_context(work.place("scale"))
        api = running.enter_context(resource_api(place / "api"))
        names = _stored(work, size, api, place)
        rounds = [_round(number, work, api, names, place) for number in range(1, 1 + work.rounds)]
    steps = tuple(Step(*step, tuple(taken[step] for taken in rounds)) for step in rounds[0])
    return Scale(f"warm loads of {size} MiB by more and more clients", steps)


def _stored(work: Workload, size: int, api: ResourceApiServer, place: Path) -> list[str]:
    """A resource for each client, `size` MiB of the workload's data: in the API, and in the cache and read once."""
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
    """All of them have the cache in common."""
    return loader(directory, api, MODEL_CACHE_DIR=str(place / "models"), MAX_TRANSFERS=SLOTS, LOADER_THREADS=THREADS)


def _round(
    number: int, work: Workload, api: ResourceApiServer, names: list[str], place: Path
) -> dict[tuple[int, str], Sample]:
    """All steps of a new loader, which has loaded once: a worker keeps some of the memory that it once had."""
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
    """A client for each of `names` loads for `seconds`, and at least once; how many bytes came in that time."""
    command = python("benchmarks.scale_clients", server.url, str(seconds), *names)
    done = subprocess.run(
        command, cwd=REPOSITORY, check=True, timeout=RUN_SECONDS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    return int(json.loads(done.stdout))


def _cells(step: Step) -> str:
    return f"{step.speed:>9.0f}{step.memory:>12.1f}{step.p99_ms:>9.1f}"
