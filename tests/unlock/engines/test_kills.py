"""SIGKILL in the middle of an update, as after a power cut: everything is restored once engine and loader run again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.inventory import Inventory
from tests.unlock.conftest import assert_failed
from tests.unlock.engines.releases import IN_FIRST, IN_SECOND, NAMES
from tests.unlock.engines.scene import RESTORE_SECONDS, Scene

pytest_plugins = ("tests.support.unlock_fixtures",)


def kill_engine(scene: Scene) -> None:
    scene.engine.kill()
    scene.wire.heal()
    assert_failed(scene.operator.rest(), "ENGINE_UNAVAILABLE")
    scene.engine.restart()


def kill_loader(scene: Scene) -> None:
    scene.operator.loader.process.kill_tree()
    scene.wire.heal()
    scene.operator = scene.start_loader()


KILLS = {"engine": kill_engine, "loader": kill_loader, "power": Scene.cut_power}
kills = pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())
moments = pytest.mark.parametrize("after", [IN_FIRST, IN_SECOND], ids=["first load", "second load"])


@kills
@moments
def test_a_kill_in_a_load_changes_nothing(scene: Scene, after: int, kill: Callable[[Scene], None]) -> None:
    held_at(scene, after)
    kill(scene)
    scene.assert_as_before(within=RESTORE_SECONDS)
    scene.finish()


@kills
def test_the_next_unlock_after_a_kill_succeeds_at_once(scene: Scene, kill: Callable[[Scene], None]) -> None:
    held_at(scene, IN_SECOND)
    kill(scene)
    scene.finish()


@kills
def test_a_kill_after_an_unlock_loses_nothing(scene: Scene, kill: Callable[[Scene], None]) -> None:
    scene.finish()
    if kill is kill_engine:
        scene.engine.kill()
        scene.engine.restart()
    else:
        kill(scene)
    scene.assert_updated()
    scene.finish()


def held_at(scene: Scene, after: int) -> None:
    """Start an unlock and hold it; in the second load, the first image has its name already."""
    scene.operator.let_engine_change("a process is killed, and the engine is restored once all run again")
    scene.hold(after)
    names = Inventory.of(scene.engine).names
    assert [names[name] != scene.before.names[name] for name in NAMES] == [after == IN_SECOND, False]
