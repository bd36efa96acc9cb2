"""The engines and the scenes of the matrix: each kind of engine, in each mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.engine_kinds import KINDS
from tests.support.engines import Engine, engine_of
from tests.support.faulty_wire import FaultyWire
from tests.support.unlocking import LOAD, UnlockDevice
from tests.unlock.engines.scene import Scene, clean
from tests.unlock.watched_device import MODES

# A scene that is ready for the unlock under test, on an engine.
MakeScene = Callable[[Engine, str], Scene]


@pytest.fixture(scope="module", params=KINDS)
def own_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of each kind, which a test may kill and start again."""
    with engine_of(request.param) as engine:
        yield engine


@pytest.fixture
def make_scene(unlock_device: UnlockDevice, tmp_path: Path) -> Iterator[MakeScene]:
    """Yield a function that makes the scene of a test on an engine in a mode."""
    with ExitStack() as running:

        def make(engine: Engine, mode: str) -> Scene:
            wire = running.enter_context(FaultyWire(tmp_path / "wire.sock", engine.socket, LOAD))
            scratch = tmp_path / "scratch"
            scratch.mkdir()
            return Scene(engine, unlock_device, wire, mode, scratch)

        yield make


@pytest.fixture(params=MODES)
def scene(request: pytest.FixtureRequest, own_engine: Engine, make_scene: MakeScene) -> Iterator[Scene]:
    """The scene of each mode on each engine."""
    clean(own_engine)
    made = make_scene(own_engine, request.param)
    yield made
    made.operator.loader.stop()
    clean(own_engine)
