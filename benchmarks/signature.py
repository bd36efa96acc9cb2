"""The check of one signature, which an unlock with PUBLISHER_KEYS makes before anything else of the archive counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

from benchmarks.tables import Figure, Figures
from benchmarks.workload import Workload
from loader.crypto.archive_head import StoredHead
from loader.crypto.json_header import JSON_MAX_SIZE, Signature
from loader.crypto.model_parts import ResourceName
from loader.crypto.signatures import SigningKey, is_valid
from loader.model_trust import ModelTrust
from tests.support.handmade_image import HandmadeImage, HandmadeLayer, seal
from tests.support.publishers import TRUSTED
from tests.support.signed_models import signed_model
from tests.support.thin_archives import index_of

CHECKS = 100
MODEL_SIZE = 60_000
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
    model, name = signed_model(bytes(MODEL_SIZE), 1), ResourceName("m", "x")
    trust = ModelTrust(TRUSTED, place)
    checks = {
        f"{SERVICES} services, a head of {len(stored.raw) >> 10} KiB": partial(_require, key.sign(stored), stored),
        "1 MiB": partial(_require, key.sign(largest), largest),
        "a model of 64 KiB that was loaded before": partial(trust.require, name, model.small),
    }
    rows = [
        Figure(subject, "us", tuple(_microseconds(check) for _ in range(work.rounds)))
        for subject, check in checks.items()
    ]
    return Figures(f"check one signature, median of {CHECKS}", tuple(rows), ())


def _require(one: Signature, stored: StoredHead) -> None:
    assert is_valid(one, stored)


def _microseconds(check: Callable[[], None]) -> float:
    """Return the median time of a check."""
    check()
    taken = []
    for _ in range(CHECKS):
        started = time.perf_counter()
        check()
        taken.append(time.perf_counter() - started)
    return 1_000_000 * statistics.median(taken)
