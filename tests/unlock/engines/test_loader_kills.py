"""SIGKILL of the loader in the middle of an update: everything is restored once it runs again."""

from __future__ import annotations

from tests.unlock.engines.kills import check_kill_after_an_unlock, check_kill_in_a_load, check_next_unlock, moments
from tests.unlock.engines.scene import Scene

pytest_plugins = ("tests.support.unlock_fixtures",)


def kill(scene: Scene) -> None:
    scene.operator.loader.process.kill_tree()
    scene.wire.heal()
    scene.operator = scene.start_loader()


@moments
def test_a_kill_in_a_load_changes_nothing(scene: Scene, after: int) -> None:
    check_kill_in_a_load(scene, after, kill)


def test_the_next_unlock_after_a_kill_succeeds_at_once(scene: Scene) -> None:
    check_next_unlock(scene, kill)


def test_a_kill_after_an_unlock_loses_nothing(scene: Scene) -> None:
    check_kill_after_an_unlock(scene, kill)
