"""The check of one signature, which an unlock with PUBLISHER_KEYS makes before anything else of the archive counts."""

from __future__ import annotations

import statistics
import time

from benchmarks.tables import Figure, Figures
from benchmarks.workload import Workload
from loader.crypto.archive_head import StoredHead
from loader.crypto.archive_seals import Signature
from loader.crypto.json_header import JSON_MAX_SIZE
from loader.crypto.signatures import SigningKey, is_valid
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.thin_archives import index_of

CHECKS = 100
SERVICES = 7


def signature(work: Workload) -> Figures:
    """Measure the check for the head of a release of seven services, and for the largest head that there can be."""
    with work.place("signature") as place:
        services = [
            HandmadeImage(f"registry.example/service-{number}:1", (HandmadeLayer(bytes([number])),))
            for number in range(SERVICES)
        ]
        stored = index_of(seal(place / "images.enc", services)).stored
    # What is signed are the raw bytes of a head, whatever they say.
    largest = StoredHead(stored.head, stored.raw.ljust(JSON_MAX_SIZE + 4))
    key = SigningKey.new()
    rows = [
        Figure(name, "ms", tuple(_milliseconds(key.sign(head), head) for _ in range(work.rounds)))
        for name, head in ((f"{SERVICES} services, a head of {len(stored.raw) >> 10} KiB", stored), ("1 MiB", largest))
    ]
    return Figures(f"check one signature, median of {CHECKS}", tuple(rows), ())


def _milliseconds(one: Signature, stored: StoredHead) -> float:
    """Return the median time of a check."""
    taken = []
    for _ in range(CHECKS):
        started = time.perf_counter()
        assert is_valid(one, stored)
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken)
