"""The memory of the idle loader, and the growth of its worker with data that is larger than the memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE

from benchmarks.devices import Device
from benchmarks.fetch import fetch_once
from benchmarks.images import new_key
from benchmarks.load import load_command
from benchmarks.measure import Missing
from benchmarks.peers import RunFailed, python, run
from benchmarks.servers import EMAIL, SECRET, loader, private_dockerd, resource_api
from benchmarks.start import Start, answering, start_bare, start_loader
from benchmarks.tables import Figure, Figures
from benchmarks.unlock import unlock_once
from benchmarks.upload import upload_command
from benchmarks.workload import MIB, Workload
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, docker_archive
from tests.support.loader_server import LoaderServer
from tests.support.processes import poll
from tests.support.procfs import descendants, peak_rss_bytes, pss_bytes, reset_peak_rss, rss_bytes

NAME = "azaion-bench/large:1"
TIMES = 4
STILL_SECONDS = 1.0
LOOK_SECONDS = 0.005
SETTLED_SECONDS = 30.0
# The kernel counts pages per thread and in batches.
STILL_BYTES = 128 * 1024


def memory(work: Workload) -> Figures:
    """Measure the idle loader and a bare application; then one upload, load, fetch and unlock by a new loader each."""
    with work.place("memory") as place:
        rows = [
            _idle("loader, idle after its first answer: master and worker", start_loader, place, work.rounds),
            _idle("a Flask application of one function, under gunicorn, likewise", start_bare, place, work.rounds),
        ]
    missing = []
    for measure in (_transfers, _fetch, _archives):
        try:
            rows.extend(measure(work, TIMES * work.mib))
        except Missing as exc:
            missing.append(str(exc))
    return Figures("memory", tuple(rows), tuple(missing))


def _idle(name: str, starts: Start, place: Path, rounds: int) -> Figure:
    return Figure(name, "MiB", tuple(_idle_once(name, starts, place) for _ in range(rounds)))


def _idle_once(name: str, starts: Start, place: Path) -> float:
    with answering(starts, place) as server:
        pids = [server.pid, *descendants(server.pid)]
        mib = _at_rest(lambda: sum(map(pss_bytes, pids))) / MIB
    print(f"memory: {mib:8.1f} MiB  {name}", file=sys.stderr)
    return mib


def _transfers(work: Workload, mib: int) -> Iterator[Figure]:
    with ExitStack() as running:
        place = running.enter_context(work.place("memory"))
        data = place / "data.bin"
        data.touch()
        os.truncate(data, mib * MIB)  # a sparse file takes no space; its ciphertext does not compress
        api = running.enter_context(resource_api(place / "api"))
        cache = {"MODEL_CACHE_DIR": str(place / "models")}
        with loader(place / "uploading", api, **cache) as server:
            yield _growth("upload", mib, server, lambda: run(upload_command(server.url, data)))
        with loader(place / "loading", api, **cache) as server:
            yield _growth("load from the cache", mib, server, lambda: run(load_command(server.url)))


def _fetch(work: Workload, mib: int) -> Iterator[Figure]:
    """Fetch an image of four layers of noise, all of which come at once."""
    with ExitStack() as running:
        place = running.enter_context(work.place("memory"))
        api = running.enter_context(resource_api(place / "api"))
        key, archive, device = new_key(place), place / "large.enc", place / "device" / "images.enc"
        device.parent.mkdir()
        layers = tuple(HandmadeLayer(os.urandom(MIB), mib // 4, f"{number}.bin") for number in range(4))
        pack = python("loader", "images", "pack", "--from", "-", "--key", key, "-o", archive, "--compress", "none")
        _peak_mib(pack, docker_archive(HandmadeImage(NAME, layers)))
        publish = python("loader", "images", "publish", archive, "--api", api.url, "--email", EMAIL)
        _peak_mib(publish, [f"{SECRET}\n".encode()])
        archive.unlink()
        settings = {"IMAGES_PATH": str(device), "API_VERSION": NAME.rpartition(":")[2]}
        with loader(place / "fetching", api, **settings) as server:
            yield _growth("fetch", mib, server, partial(fetch_once, server.url))


def _archives(work: Workload, mib: int) -> Iterator[Figure]:
    """Pack, verify and unlock in both modes: an image of `mib` MiB of noise as it is, and one that compresses well."""
    for codec, block in (("none", os.urandom(MIB)), ("gzip", bytes(MIB))):
        with ExitStack() as running:
            engine = running.enter_context(private_dockerd())
            place = running.enter_context(work.place("memory"))
            api = running.enter_context(resource_api(place / "api"))
            key, archive = new_key(place), place / "device" / "images.enc"
            api.set_fragment(key.read_bytes())
            archive.parent.mkdir()
            # Pack without the engine, because it would keep three copies meanwhile.
            pack = python("loader", "images", "pack", "--from", "-", "--key", key, "-o", archive, "--compress", codec)
            verify = python("loader", "images", "verify", archive, "--key", key)
            peaks = {}
            for size in (1, mib):
                peaks["images pack", size] = _peak_mib(pack, _image(block, size))
                peaks["images verify", size] = _peak_mib(verify, ())
            for what in ("images pack", "images verify"):
                grown = peaks[what, mib] - peaks[what, 1]
                yield _figure(f"loader, growth of the command: {what}, {codec}, of {mib} MiB", grown)
            device = Device(engine, api, archive, NAME)
            for mode in ("stream", "tar"):
                with device.loader(place / mode, mode) as server:
                    yield _growth(f"unlock, mode {mode}, {codec},", mib, server, partial(unlock_once, server.url))
                device.lock()


def _image(block: bytes, mib: int) -> Iterator[bytes]:
    return docker_archive(HandmadeImage(NAME, (HandmadeLayer(block, mib),)))


def _peak_mib(command: list[str], standard_input: Iterable[bytes]) -> float:
    """Run `command` with this input, and return its largest resident set. Raises RunFailed."""
    peak = 0
    with subprocess.Popen(command, stdin=PIPE, stderr=DEVNULL, stdout=DEVNULL) as process:
        assert process.stdin is not None
        with process.stdin as pipe:
            for piece in standard_input:
                pipe.write(piece)
        # Ask while it runs, because the figure that the system keeps of an ended child includes that of its parent.
        while process.poll() is None:
            with suppress(OSError, KeyError):  # it has just ended
                peak = max(peak, peak_rss_bytes(process.pid))
            time.sleep(LOOK_SECONDS)
    if process.returncode:
        raise RunFailed(f"{command} exited with {process.returncode}")
    return peak / MIB


def _growth(what: str, mib: int, server: LoaderServer, work: Callable[[], None]) -> Figure:
    pid = server.worker_pid
    _at_rest(partial(rss_bytes, pid))
    reset_peak_rss(pid)
    before = rss_bytes(pid)
    work()
    grown = (peak_rss_bytes(pid) - before) / MIB
    return _figure(f"loader, growth of its worker: {what} of {mib} MiB", grown)


def _figure(name: str, mib: float) -> Figure:
    print(f"memory: {mib:8.1f} MiB  {name}", file=sys.stderr)
    return Figure(name, "MiB", (mib,))


def _at_rest(measure: Callable[[], int]) -> int:
    """Return what `measure` returns once it no longer changes."""
    seen, since = measure(), time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        if abs((now := measure()) - seen) > STILL_BYTES:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > STILL_SECONDS

    poll(still, SETTLED_SECONDS, "the memory stands still")
    return seen
