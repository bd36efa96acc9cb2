"""The engines and the scenes of the matrix: each kind of engine, in each mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.engine_kinds import KINDS
from tests.support.engines import Engine, engine_of
from tests.support.faulty_wire import FaultyWire
from tests.support.unlocking import LOAD, UnlockDevice
from tests.unlock.engines.returning import Returning, StepWire
from tests.unlock.engines.scene import Scene, clean
from tests.unlock.watched_device import MODES

# A scene that is ready for the unlock under test, on an engine.
MakeScene = Callable[[Engine, str], Scene]
# A device for the way back, on an engine.
MakeReturning = Callable[[Engine], AbstractContextManager[Returning]]


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


@pytest.fixture
def make_returning(unlock_device: UnlockDevice, tmp_path: Path) -> MakeReturning:
    """Return a function that makes a device without a release on an engine, and cleans the engine afterwards."""

    @contextmanager
    def make(engine: Engine) -> Iterator[Returning]:
        clean(engine)
        (tmp_path / "scratch").mkdir()
        with StepWire(tmp_path / "wire.sock", engine.socket) as wire:
            made = Returning(engine, unlock_device, wire, tmp_path / "scratch")
            yield made
            made.operator.loader.stop()
        clean(engine)

    return make
