"""What must hold after a SIGKILL in the middle of an update, as after a power cut, whatever was killed.

There is a file of tests for each kind of kill, because the tests of a file run one after another.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.inventory import Inventory
from tests.unlock.engines.releases import IN_FIRST, IN_SECOND, NAMES
from tests.unlock.engines.scene import RESTORE_SECONDS, Scene

# Kills, and starts again what was killed.
Kill = Callable[[Scene], None]

moments = pytest.mark.parametrize("after", [IN_FIRST, IN_SECOND], ids=["first load", "second load"])


def check_kill_in_a_load(scene: Scene, after: int, kill: Kill) -> None:
    """Require that a kill when the engine has got `after` bytes of an image changes nothing."""
    _hold(scene, after)
    kill(scene)
    scene.assert_as_before(within=RESTORE_SECONDS)
    scene.finish()


def check_next_unlock(scene: Scene, kill: Kill) -> None:
    """Require that an unlock right after a kill succeeds, while the engine is still being restored."""
    _hold(scene, IN_SECOND)
    kill(scene)
    scene.finish()


def check_kill_after_an_unlock(scene: Scene, kill: Kill) -> None:
    """Require that a kill after an unlock loses nothing."""
    scene.finish()
    kill(scene)
    scene.assert_updated()
    scene.finish()


def _hold(scene: Scene, after: int) -> None:
    """Start an unlock and hold it; in the second load, the first image has its name already."""
    scene.operator.let_engine_change("a process is killed, and the engine is restored once all run again")
    scene.hold(after)
    names = Inventory.of(scene.engine).names
    assert [names[name] != scene.before.names[name] for name in NAMES] == [after == IN_SECOND, False]
