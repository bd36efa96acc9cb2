"""The proof that an image can be run, which the containerd store needs (API below 1.48)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from loader.docker_engine import DockerEngine
from tests.docker_engine.connecting import EXPECTED
from tests.support.fake_engine import FakeCall, FakeEngine

QUERY_SECONDS = 0.2


def inspected(image_id: str = EXPECTED.manifest) -> dict[str, Any]:
    """Return what an engine with the containerd store and API 1.45 tells about `EXPECTED`."""
    return {"Id": image_id, "RootFS": {"Layers": list(EXPECTED.layers)}}


def test_a_proof_may_take_longer_than_a_query(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a fake is slow on demand, as an engine is that copies large volumes."""
    monkeypatch.setattr("loader.docker_engine.connection.QUERY_TIMEOUT", QUERY_SECONDS)
    asked = []

    def create_slowly(call: FakeCall) -> None:
        asked.append(call.path)
        threading.Event().wait(4 * QUERY_SECONDS)
        call.respond(201, {"Id": "a" * 64})

    fake.image = (200, inspected())
    fake.load = create_slowly
    DockerEngine(60).prove([EXPECTED])
    assert asked == ["/v1.41/containers/create"]
