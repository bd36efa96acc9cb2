"""Fixtures: real engines, one that describes itself as a test wants, and the `DockerEngine` connected to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from loader.docker_engine import DockerEngine
from tests.docker_engine.connecting import connected, let_pings_wait
from tests.support.engines import Engine
from tests.support.fake_engine import FakeEngine


@pytest.fixture(params=["docker", "podman"])
def real(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    return cast("Engine", request.getfixturevalue(request.param))


@pytest.fixture
def engine(real: Engine, monkeypatch: pytest.MonkeyPatch) -> DockerEngine:
    """The DockerEngine under test, connected to the real engine."""
    let_pings_wait(monkeypatch)
    return connected(real.host, monkeypatch)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine that describes itself as the test wants; no real one has each of these stores here."""
    with FakeEngine(tmp_path / "fake.sock", lambda call: call.respond(200, {})) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        yield engine
