"""Ranges of 64 KiB anywhere in a cached model of 4 GiB: what a program waits for that maps a model lazily."""

from __future__ import annotations

import http.client
import random
import time
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

from benchmarks.measure import p50_and_p99
from benchmarks.servers import CALL_SECONDS, loader, resource_api
from benchmarks.tables import Figure, Figures
from benchmarks.workload import Workload
from loader.crypto.model_parts import ResourceName
from loader.crypto.segments import HEADER_SIZE, PLAINTEXT_SIZE
from tests.support.sparse_model import SparseModel, cache_sparse_model

SIZE = 4 << 30
RANGE = 64 << 10
REQUESTS = 200
NAME = ResourceName("bench", "huge.bin")


def ranges(work: Workload) -> Figures:
    """Measure REQUESTS ranges at random places, one after the other on one connection, each from request to last byte.

    The file of the part has holes where no range lies. Each range is in the page cache from the second round on.
    """
    chosen = random.Random("ranges")  # noqa: S311  # places to measure at, no secret
    # Half of a segment is left free behind each place, so that the segment is sealed which has the range.
    segments = sorted(chosen.sample(range(1, SIZE // PLAINTEXT_SIZE - 1), REQUESTS))
    places = [number * PLAINTEXT_SIZE - HEADER_SIZE + chosen.randrange(PLAINTEXT_SIZE // 2) for number in segments]
    chosen.shuffle(places)
    with ExitStack() as running:
        directory = running.enter_context(work.place("ranges"))
        api = running.enter_context(resource_api(directory / "api"))
        server = running.enter_context(loader(directory / "loader", api))
        models = directory / "loader" / "models"
        models.mkdir(exist_ok=True)
        model = cache_sparse_model(models, NAME, SIZE, segments)
        small = api.data_dir / "resources" / NAME.small
        small.parent.mkdir(parents=True)
        small.write_bytes(model.small)
        taken = [_taken(server.url, model, places) for _ in range(1 + work.rounds)][1:]
    p50, p99 = zip(*map(p50_and_p99, taken), strict=True)
    rows = (
        Figure("p50 of one", "ms", tuple(1000 * value for value in p50)),
        Figure("p99 of one", "ms", tuple(1000 * value for value in p99)),
    )
    return Figures(f"{REQUESTS} ranges of 64 KiB anywhere in a cached model of 4 GiB", rows, ())


def _taken(url: str, model: SparseModel, places: list[int]) -> list[float]:
    """Return how many seconds each range took."""
    taken = []
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=CALL_SECONDS)) as connection:
        for begin in places:
            started = time.perf_counter()
            connection.request("GET", f"/models/{NAME.path}", headers={"Range": f"bytes={begin}-{begin + RANGE - 1}"})
            content = connection.getresponse().read()
            taken.append(time.perf_counter() - started)
            assert content == model.plaintext(begin, RANGE)
    return taken
