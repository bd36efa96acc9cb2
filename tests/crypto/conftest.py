"""Fixtures: the machine has one, two or eight cores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loader.crypto import work_ahead
from loader.crypto.pieces import PieceDigests


@pytest.fixture(params=[1, 2, 8], ids=["one-core", "two-cores", "eight-cores"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Each number of cores in turn, with helper threads for so many."""
    monkeypatch.setattr(work_ahead, "CORES", request.param)
    monkeypatch.setattr(PieceDigests, "lag", request.param)
    work_ahead._helpers.cache_clear()
    yield request.param
    if (helpers := work_ahead._helpers()) is not None:
        helpers.shutdown()
    work_ahead._helpers.cache_clear()
