"""Fetches of releases over a line as devices have it, compared with one `curl` of each blob after the other."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import requests

from benchmarks.measure import Contender, compare
from benchmarks.peers import RunFailed, curl, run
from benchmarks.servers import CALL_SECONDS, api_token, loader, resource_api
from benchmarks.tables import Figure, Figures, Result, Table
from benchmarks.workload import MIB, Workload
from loader.binary_split import open_archive
from tests.fetch.published import VERSION, layer, objects, write_objects
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.narrow_line import NarrowLine
from tests.support.range_upstream import Held, RangeUpstream

ROUND_TRIP_SECONDS = 0.2
# 20 Mbit/s for each stream.
STREAM_RATE = 2_500_000
# The sizes of the layers in units. The largest is less than a quarter of the whole.
SHARES = (4, 3, 3, 2, 2, 2, 1, 1)
# With BENCH_MIB 1024 the unit is 4 MiB, so that a fetch takes about eight seconds.
UNITS = 256
CHANGED_MIB = 20
POLL_SECONDS = 0.02
FETCH_SECONDS = 900.0


def fetch(work: Workload) -> list[Table]:
    """Measure a fetch over a slow line, the same beside neighbours of all kinds, and the bytes of an update."""
    return [_alone(work), _with_neighbours(work), _update(work)]


class Fetching:
    """A loader behind a line of 200 ms and 20 Mbit/s a stream, whose API has a release."""

    def __init__(self, work: Workload, running: ExitStack, place: Path) -> None:
        self.api = running.enter_context(resource_api(place / "api"))
        self.line = running.enter_context(NarrowLine(self.api.url))
        self.place = place / "device" / "images.enc"
        self.place.parent.mkdir()
        settings = {"RESOURCE_API_URL": self.line.url, "IMAGES_PATH": str(self.place), "API_VERSION": VERSION}
        self.url = running.enter_context(loader(place / "loader", self.api, **settings)).url
        self.line.round_trip, self.line.rate = ROUND_TRIP_SECONDS, STREAM_RATE
        self.mib = 0
        self.unit = max(1, work.mib // UNITS)

    def publish(self, published: dict[str, bytes]) -> None:
        """Let the API have the objects of a release, and nothing else."""
        resources = self.api.data_dir / "resources"
        shutil.rmtree(resources / "images", ignore_errors=True)
        write_objects(resources, published)
        self.mib = round(sum(map(len, published.values())) / MIB)

    def forget(self) -> None:
        """Remove what was fetched."""
        self.place.unlink(missing_ok=True)
        shutil.rmtree(self.place.with_suffix(".blobs"), ignore_errors=True)

    def contender(self, name: str, source: str | None = None, prepare: Callable[[], None] = lambda: None) -> Contender:
        """Return the fetch of all blobs as a contender."""

        def ready() -> None:
            self.forget()
            prepare()

        return Contender(name, self.mib, partial(fetch_once, self.url, source), ready)


def fetch_once(url: str, source: str | None = None) -> None:
    """Send POST /images/fetch and wait for `fetched`. Raises RunFailed."""
    deadline = time.monotonic() + FETCH_SECONDS
    asked = {} if source is None else {"from": source}
    with requests.Session() as session:
        session.post(f"{url}/images/fetch", json=asked, timeout=CALL_SECONDS).raise_for_status()
        while (status := session.get(f"{url}/images/fetch", timeout=CALL_SECONDS).json())["state"] != "fetched":
            if status["state"] == "error" or time.monotonic() > deadline:
                raise RunFailed(f"the fetch ended as {status}")
            time.sleep(POLL_SECONDS)


def _released(place: Path, layers: list[HandmadeLayer], serial: int = 1) -> dict[str, bytes]:
    image = HandmadeImage(f"registry.local:5000/app:{VERSION}", tuple(layers))
    archive = seal(place / f"{serial}.enc", [image], version=VERSION, serial=serial)
    published = objects(archive)
    archive.unlink()
    return published


def _layers(unit: int) -> list[HandmadeLayer]:
    return [layer(f"layer {number}", share * unit * MIB) for number, share in enumerate(SHARES)]


@contextmanager
def _fetching(work: Workload) -> Iterator[tuple[Fetching, dict[str, bytes]]]:
    with ExitStack() as running:
        place = running.enter_context(work.place("fetch"))
        fetching = Fetching(work, running, place)
        published = _released(place, _layers(fetching.unit))
        fetching.publish(published)
        yield fetching, published


def _alone(work: Workload) -> Result:
    with _fetching(work) as (fetching, published):
        return compare(
            "fetch a release, 200 ms and 20 Mbit/s a stream",
            work.rounds,
            fetching.contender("loader, POST /images/fetch until fetched"),
            [partial(_curls, fetching, sorted(published))],
        )


def _curls(fetching: Fetching, paths: list[str]) -> Contender:
    bearer = f"Authorization: Bearer {api_token(fetching.api)}"
    commands = [curl("--header", bearer, f"{fetching.line.url}/resources/{path}") for path in paths]

    def one_after_the_other() -> None:
        for command in commands:
            run(command)

    return Contender(f"curl of each of the {len(paths)} objects after the other", fetching.mib, one_after_the_other)


def _lies(held: Held) -> None:
    held.damage = {held.file.stat().st_size // 2}


def _lies_in_large_blobs(held: Held) -> None:
    if held.file.stat().st_size > MIB:
        _lies(held)


def _truncates(held: Held) -> None:
    held.cuts = [held.file.stat().st_size // 2]


def _stalls(held: Held) -> None:
    held.stalls = [held.file.stat().st_size // 2]


def _is_slow(held: Held) -> None:
    held.rate = STREAM_RATE // 10


def _is_sound(_held: Held) -> None:
    pass


NEIGHBOURS: dict[str, Callable[[Held], None]] = {
    "that sends wrong bytes": _lies,
    "that sends wrong bytes in large blobs only": _lies_in_large_blobs,
    "that ends each response in the middle": _truncates,
    "that stalls in the middle": _stalls,
    "that is honest, at 2 Mbit/s a stream": _is_slow,
    "that is sound": _is_sound,
}


def _with_neighbours(work: Workload) -> Result:
    with _fetching(work) as (fetching, published), ExitStack() as running:
        blobs = {Path(path).stem: data for path, data in published.items() if path.endswith(".blob")}
        directory = fetching.place.parent.parent / "neighbour"
        write_objects(directory, blobs)
        neighbour = running.enter_context(RangeUpstream(directory, guarded=False))
        line = running.enter_context(NarrowLine(neighbour.url))

        def behave(fault: Callable[[Held], None]) -> None:
            neighbour.reset()
            line.is_up, line.ends_at = True, None
            for name in blobs:
                fault(neighbour.hold(name, directory / name))

        def vanish() -> None:
            behave(_is_sound)
            line.ends_at = line.sent + fetching.mib * MIB // 2

        source = f"{line.url}/resources"
        peers = [
            fetching.contender(f"beside a neighbour {what}", source, partial(behave, fault))
            for what, fault in NEIGHBOURS.items()
        ]
        peers.append(fetching.contender("beside a neighbour that vanishes in the middle", source, vanish))
        ours = fetching.contender("loader, without a neighbour")
        return compare("fetch a release with --from", work.rounds, ours, [partial(_same, peer) for peer in peers])


def _same(contender: Contender) -> Contender:
    return contender


def _update(work: Workload) -> Figures:
    """Count what comes over the line, heads of responses included, if one layer of 20 MiB is another one."""
    with _fetching(work) as (fetching, _):
        place = fetching.place.parent.parent
        fetching.line.rate, fetching.line.round_trip = None, 0.0
        archives = [
            _released(place, [*_layers(fetching.unit), layer(f"changed {serial}", CHANGED_MIB * MIB)], serial)
            for serial in (1, 2)
        ]
        fetching.publish(archives[0])
        fetch_once(fetching.url)
        before = fetching.line.sent
        fetching.publish(archives[1])
        fetch_once(fetching.url)
        came = fetching.line.sent - before
        with open_archive(fetching.place) as opened:
            changed = max(blob.stored_size for blob in opened.head.blobs if blob.size >= CHANGED_MIB * MIB)
    name = f"what a fetch brings beside the blob of {changed / MIB:.1f} MiB, if one layer has changed"
    return Figures("the bytes of an update", (Figure(name, "KiB", ((came - changed) / 1024,)),), ())
